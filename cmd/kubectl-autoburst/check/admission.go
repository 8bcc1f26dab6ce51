package check

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The hooks of the webhook configuration.
const (
	podsHook       = "pods.autoburst.io"
	namespacesHook = "namespaces.autoburst.io"
	bindingsHook   = "bindings.autoburst.io"
)

// mostSeconds is how long the API server may wait for the webhook before pods are
// created late. Clients such as elections give up after 10 s.
const mostSeconds = 5

func webhookConfiguration(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	w, err := s.webhook.get(ctx)
	switch {
	case apierrors.IsNotFound(err):
		return failure("MutatingWebhookConfiguration %s is missing, so that pods are granted late only; helm upgrade makes it anew", r.ConfigurationName), nil
	case err != nil:
		return finding{}, err
	}
	outcome := Warning
	var problems []string
	say := func(o Outcome, hook, format string, args ...any) {
		outcome = worse(outcome, o)
		problems = append(problems, fmt.Sprintf("webhook %s of MutatingWebhookConfiguration %s ", hook, w.Name)+fmt.Sprintf(format, args...))
	}
	wanted := []string{podsHook, namespacesHook}
	if len(r.Agents) > 0 {
		wanted = append(wanted, bindingsHook)
	}
	for _, name := range wanted {
		i := slices.IndexFunc(w.Webhooks, func(h admissionregistrationv1.MutatingWebhook) bool { return h.Name == name })
		if i < 0 {
			say(Error, name, "is missing")
			continue
		}
		h := &w.Webhooks[i]
		if ptr.Deref(h.FailurePolicy, admissionregistrationv1.Fail) != admissionregistrationv1.Ignore {
			say(Error, name, "has failurePolicy Fail, so that nothing is created while it does not answer; must be Ignore")
		}
		if seconds := ptr.Deref(h.TimeoutSeconds, 10); seconds > mostSeconds {
			say(Warning, name, "has timeoutSeconds %d, for which the API server holds up each request while it does not answer; set it to %d or less", seconds, mostSeconds)
		}
		if ptr.Deref(h.SideEffects, admissionregistrationv1.SideEffectClassUnknown) != admissionregistrationv1.SideEffectClassNone {
			say(Error, name, "has sideEffects %s, so that dry runs fail; must be None", ptr.Deref(h.SideEffects, "unset"))
		}
		if name != namespacesHook && !requires(h.NamespaceSelector, v1alpha1.ServedLabel, metav1.LabelSelectorOpIn, v1alpha1.ServedValue) {
			say(Error, name, "is asked for namespaces that are not served: its namespaceSelector does not require %s", installation.ServedNamespaces)
		}
		for _, excluded := range []string{metav1.NamespaceSystem, corev1.NamespaceNodeLease, r.Namespace} {
			if !requires(h.NamespaceSelector, corev1.LabelMetadataName, metav1.LabelSelectorOpNotIn, excluded) {
				say(Error, name, "is asked for namespace %s: its namespaceSelector does not exclude it", excluded)
			}
		}
	}
	return of(outcome, problems, "things are wrong with MutatingWebhookConfiguration "+w.Name, ok("MutatingWebhookConfiguration %s is as it should be and fails open", w.Name)), nil
}

// requires tells whether a selector has a term with that value.
func requires(selector *metav1.LabelSelector, key string, op metav1.LabelSelectorOperator, value string) bool {
	if selector == nil {
		return false
	}
	if op == metav1.LabelSelectorOpIn && selector.MatchLabels[key] == value {
		return true
	}
	return slices.ContainsFunc(selector.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool {
		return e.Key == key && e.Operator == op && slices.Contains(e.Values, value)
	})
}

func webhookService(ctx context.Context, s *session) (finding, error) {
	w, err := s.webhook.get(ctx)
	if apierrors.IsNotFound(err) {
		return finding{}, errDoesNotApply
	}
	if err != nil {
		return finding{}, err
	}
	var problems []string
	least, where := -1, ""
	for i := range w.Webhooks {
		ref := w.Webhooks[i].ClientConfig.Service
		if ref == nil {
			where = ptr.Deref(w.Webhooks[i].ClientConfig.URL, "")
			continue
		}
		where = "Service " + ref.Namespace + "/" + ref.Name
		list, err := s.Kube.DiscoveryV1().EndpointSlices(ref.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + ref.Name})
		if err != nil {
			return finding{}, fmt.Errorf("listing the endpoints of Service %s/%s: %w", ref.Namespace, ref.Name, err)
		}
		ready := 0
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if ptr.Deref(e.Conditions.Ready, true) {
					ready++
				}
			}
		}
		if ready == 0 {
			problems = append(problems, fmt.Sprintf("Service %s/%s of the webhook has no ready endpoint, so that pods are granted late only", ref.Namespace, ref.Name))
		}
		if least < 0 || ready < least {
			least = ready
		}
	}
	if least < 0 {
		return ok("the webhook is reached outside the cluster, at %s", where), nil
	}
	slices.Sort(problems)
	return of(Error, slices.Compact(problems), "Services of the webhook have no ready endpoint", ok("%s of the webhook has %s", where, all(least, "ready endpoint", "ready endpoints"))), nil
}

// admissionPolicy is what takes the webhook's place where the API server admits pods.
func admissionPolicy(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if !r.ByPolicy {
		return finding{}, errDoesNotApply
	}
	name := r.MutatingPolicyName
	admission := s.Kube.AdmissionregistrationV1()
	p, err := admission.MutatingAdmissionPolicies().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return failure("MutatingAdmissionPolicy %s is missing, so that pods are granted late only; helm upgrade makes it anew", name), nil
	case err != nil:
		return finding{}, err
	}
	if ptr.Deref(p.Spec.FailurePolicy, admissionregistrationv1.Fail) != admissionregistrationv1.Ignore {
		return failure("MutatingAdmissionPolicy %s has failurePolicy Fail, so that no pod is created where it cannot be evaluated; must be Ignore", name), nil
	}
	_, err = admission.MutatingAdmissionPolicyBindings().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return failure("MutatingAdmissionPolicyBinding %s is missing, so that pods are granted late only; helm upgrade makes it anew", name), nil
	case err != nil:
		return finding{}, err
	}
	err = s.Policies.Get().Resource("burstadmissions").Name(name).Do(ctx).Error()
	switch {
	case apierrors.IsNotFound(err):
		return failure("BurstAdmission %s is missing: the controller has not told the API server the policies; see its log", name), nil
	case err != nil:
		return finding{}, fmt.Errorf("reading BurstAdmission %s: %w", name, err)
	}
	return ok("MutatingAdmissionPolicy %s is bound and has its parameters", name), nil
}

// admissionAnswers creates a pod, as a dry run, of which the rules say that something
// is written into it, and looks whether it was.
func admissionAnswers(ctx context.Context, s *session) (finding, error) {
	served, err := s.served.get(ctx)
	if err != nil {
		return finding{}, err
	}
	snapshot, err := s.snapshot(ctx, served)
	if err != nil {
		return finding{}, err
	}
	pod, want := s.probe(snapshot, served)
	switch {
	case len(served) == 0:
		return warning("it cannot be tested whether pods are admitted, as no namespace is served; kubectl autoburst enable NAMESPACE"), nil
	case pod == nil:
		return warning("it cannot be tested whether pods are admitted, as nothing would be written into one of the served namespaces now: no virtual node could take it, or no policy selects one that can be made up"), nil
	}
	created, err := s.Kube.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		// Somebody else's admission, a quota, or no right: it says nothing about ours.
		return warning("it cannot be tested whether pods are admitted: a pod of namespace %s, created as a dry run, is refused: %v", pod.Namespace, err), nil
	case err != nil:
		return failure("a pod of namespace %s, created as a dry run, is refused: %v", pod.Namespace, err), nil
	case created.Annotations[v1alpha1.PolicyAnnotation] == "":
		return failure("a pod of namespace %s, created as a dry run, was admitted as it is, though %s decides for it: the webhook was not asked, or did not answer in time", pod.Namespace, want), nil
	}
	return ok("a pod of namespace %s, created as a dry run, is admitted: %s by %s", pod.Namespace,
		created.Annotations[v1alpha1.ReasonAnnotation], created.Annotations[v1alpha1.PolicyAnnotation]), nil
}

// probe makes a pod for which a policy or an annotation decides, and says which.
func (s *session) probe(snapshot *policy.Snapshot, served []corev1.Namespace) (*corev1.Pod, string) {
	namespaces := slices.Clone(served)
	slices.SortFunc(namespaces, func(a, b corev1.Namespace) int { return cmp.Compare(a.Name, b.Name) })
	for i := range namespaces {
		if namespaces[i].Status.Phase == corev1.NamespaceTerminating {
			continue
		}
		for _, labels := range s.labelSets() {
			pod := restrictedPod(namespaces[i].Name, "autoburst-check-"+strings.ToLower(rand.Text()[:8]), labels)
			if namespaces[i].Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
				// What that standard asks for, not every cloud can carry out.
				pod.Spec.SecurityContext, pod.Spec.Containers[0].SecurityContext = nil, nil
			}
			d := policy.Evaluate(snapshot, pod.Namespace, pod)
			if admitted := policy.Inject(pod, d); admitted.Annotations[v1alpha1.PolicyAnnotation] != "" {
				return pod, admitted.Annotations[v1alpha1.PolicyAnnotation]
			}
		}
	}
	return nil, ""
}

// labelSets are no labels, and those that the selectors of policies ask for.
func (s *session) labelSets() []map[string]string {
	all := []map[string]string{nil}
	add := func(selector metav1.LabelSelector) {
		labels := maps.Clone(selector.MatchLabels)
		if labels == nil {
			labels = map[string]string{}
		}
		for _, e := range selector.MatchExpressions {
			switch {
			case e.Operator == metav1.LabelSelectorOpIn && len(e.Values) > 0:
				labels[e.Key] = e.Values[0]
			case e.Operator == metav1.LabelSelectorOpExists:
				labels[e.Key] = ""
			}
		}
		if len(labels) > 0 {
			all = append(all, labels)
		}
	}
	for i := range s.policies.v {
		add(s.policies.v[i].Spec.PodSelector)
	}
	for i := range s.clusters.v {
		add(s.clusters.v[i].Spec.PodSelector)
	}
	return all
}

// restrictedPod is a small pod that the standard "restricted" of Pod Security admits.
func restrictedPod(namespace, name string, labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       restrictedSpec(),
	}
}

func restrictedSpec() corev1.PodSpec {
	return corev1.PodSpec{
		AutomountServiceAccountToken: ptr.To(false),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{{
			Name: "check", Image: "registry.k8s.io/pause:3.10",
			SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
		}},
	}
}
