package check

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// preRelease: two controllers would grant the same pods.
func preRelease(ctx context.Context, s *session) (finding, error) {
	deployments, err := s.Kube.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=autoburst,app.kubernetes.io/component=controller",
	})
	if err != nil {
		return finding{}, fmt.Errorf("listing Deployments: %w", err)
	}
	var problems []string
	for i := range deployments.Items {
		d := &deployments.Items[i]
		problems = append(problems, fmt.Sprintf("Autoburst is installed already, as release %s in namespace %s: helm upgrade it, or uninstall it first", d.Labels["app.kubernetes.io/instance"], d.Namespace))
	}
	if len(problems) == 0 {
		hooks, err := s.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/part-of=autoburst"})
		if err != nil {
			return finding{}, fmt.Errorf("listing MutatingWebhookConfigurations: %w", err)
		}
		for i := range hooks.Items {
			problems = append(problems, fmt.Sprintf("MutatingWebhookConfiguration %s is left over from another release, and nobody answers it: kubectl delete mutatingwebhookconfiguration %[1]s", hooks.Items[i].Name))
		}
	}
	return of(Error, problems, "things of Autoburst are there already", ok("Autoburst is not installed yet")), nil
}

// preCustomResources: Helm refuses to take over what another release owns.
func preCustomResources(ctx context.Context, s *session) (finding, error) {
	var problems []string
	there := 0
	for _, want := range known {
		crd, err := s.crd(ctx, want.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return finding{}, err
		}
		there++
		owner := crd.Annotations["meta.helm.sh/release-namespace"]
		if owner != s.namespace() {
			by := "not by Helm"
			if owner != "" {
				by = fmt.Sprintf("by release %s in namespace %s", crd.Annotations["meta.helm.sh/release-name"], owner)
			}
			problems = append(problems, fmt.Sprintf("CustomResourceDefinition %s is there, installed %s: install with --set crds.enabled=false, or with --take-ownership", crd.Name, by))
		} else if text := differ(want, crd); text != "" {
			problems = append(problems, fmt.Sprintf("CustomResourceDefinition %s of an earlier release is of another version than this program: %s", crd.Name, text))
		}
	}
	return of(Warning, problems, "CustomResourceDefinitions are there already", ok("no CustomResourceDefinition is in the way (%d are there from an earlier release)", there)), nil
}

// preRights are what installing the chart takes.
func preRights(ctx context.Context, s *session) (finding, error) {
	ns := s.namespace()
	const purpose = "the chart cannot be installed"
	rights := []right{
		{group: "apiextensions.k8s.io", resource: "customresourcedefinitions", verbs: "create get"},
		{group: "rbac.authorization.k8s.io", resource: "clusterroles", verbs: "create get"},
		{group: "rbac.authorization.k8s.io", resource: "clusterrolebindings", verbs: "create get"},
		{group: "rbac.authorization.k8s.io", resource: "roles", verbs: "create get", namespace: ns},
		{group: "rbac.authorization.k8s.io", resource: "rolebindings", verbs: "create get", namespace: ns},
		{group: "rbac.authorization.k8s.io", resource: "roles", verbs: "create get", namespace: corev1.NamespaceNodeLease},
		{group: "rbac.authorization.k8s.io", resource: "rolebindings", verbs: "create get", namespace: corev1.NamespaceNodeLease},
		{group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", verbs: "create get"},
		{group: "apps", resource: "deployments", verbs: "create get", namespace: ns},
		{group: "policy", resource: "poddisruptionbudgets", verbs: "create get", namespace: ns},
		{resource: "services", verbs: "create get", namespace: ns},
		{resource: "serviceaccounts", verbs: "create get", namespace: ns},
		{resource: "secrets", verbs: "create get list", namespace: ns}, // Helm keeps releases there
	}
	_, err := s.Kube.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		rights = append(rights, right{resource: "namespaces", verbs: "create"})
	case err != nil && !apierrors.IsForbidden(err):
		return finding{}, err
	}
	for i := range rights {
		rights[i].purpose = purpose
	}
	refused, err := missing(ctx, rights, s.mine)
	if err != nil {
		return finding{}, err
	}
	for i := range refused {
		refused[i] = "you may not " + refused[i]
	}
	return of(Error, refused, "rights to install the chart are missing", ok("you have the rights to install the chart")), nil
}

// prePods creates what the chart would, as a dry run: Pod Security, quotas, policies
// and webhooks of others may refuse it.
func prePods(ctx context.Context, s *session) (finding, error) {
	namespace := s.namespace()
	_, err := s.Kube.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
	where := "namespace " + namespace
	switch {
	case apierrors.IsNotFound(err):
		namespace, where = metav1.NamespaceDefault, fmt.Sprintf("namespace default, as %s is not there yet", namespace)
	case err != nil:
		return finding{}, err
	}
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	labels := map[string]string{"app.kubernetes.io/name": "autoburst-check"}
	pod := restrictedPod(namespace, "autoburst-check", labels)
	pod.Spec.PriorityClassName = "system-cluster-critical"
	if _, err := s.Kube.CoreV1().Pods(namespace).Create(ctx, pod, dryRun); err != nil {
		return failure("a pod as the chart makes them, created as a dry run in %s, is refused: %v", where, err), nil
	}
	_, err = s.Kube.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "autoburst-check", Namespace: namespace, Labels: labels},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod.Spec},
		},
	}, dryRun)
	if err != nil {
		return failure("a Deployment as the chart makes them, created as a dry run in %s, is refused: %v", where, err), nil
	}
	return ok("pods and Deployments as the chart makes them are admitted in %s", where), nil
}
