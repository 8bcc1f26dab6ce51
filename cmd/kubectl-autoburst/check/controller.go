package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func controllerInstalled(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if apierrors.IsForbidden(err) { // then nothing is known at all
		return failure("whether Autoburst is installed is not known: %v", err), nil
	}
	if err != nil {
		return finding{}, err
	}
	return ok("release %s %s is in namespace %s", r.Name, installation.Version(r.Controller), r.Namespace), nil
}

func controllerReplicas(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if installation.Wanted(r.Controller) == 0 {
		// So it is where its programs run elsewhere, at webhook.url.
		leader, err := s.LeaderOf(ctx, r.Namespace, installation.LeaseName)
		if err == nil && leader.Holder != "" && !leader.Expired {
			return ok("the controller runs outside the cluster: Deployment %s has 0 replicas", nameOf(r.Controller)), nil
		}
		return failure("Deployment %s is scaled to 0, and no controller runs elsewhere", nameOf(r.Controller)), nil
	}
	trouble, err := s.replicas(ctx, r.Controller)
	switch {
	case err != nil:
		return finding{}, err
	case trouble != "" && r.Controller.Status.AvailableReplicas == 0:
		return failure("no replica of the controller is available: %s", trouble), nil
	case trouble != "":
		return warning("%s", trouble), nil
	case installation.Wanted(r.Controller) == 1:
		return warning("the controller has one replica; while it restarts pods are admitted as they are"), nil
	}
	return ok("%d replicas of the controller are available", r.Controller.Status.AvailableReplicas), nil
}

// replicas says what keeps replicas of a Deployment from being available, empty where
// all are.
func (s *session) replicas(ctx context.Context, d *appsv1.Deployment) (string, error) {
	wanted := installation.Wanted(d)
	if d.Status.ObservedGeneration >= d.Generation && d.Status.AvailableReplicas >= wanted {
		return "", nil
	}
	text := fmt.Sprintf("Deployment %s has %d of %d replicas available", nameOf(d), d.Status.AvailableReplicas, wanted)
	pods, err := s.pods.get(ctx)
	if err != nil {
		return text, nil //nolint:nilerr // another check says that pods cannot be read
	}
	for i := range pods {
		if why := stuck(&pods[i]); why != "" && ownedBy(d, &pods[i]) {
			return text + "; pod " + pods[i].Name + ": " + why, nil
		}
	}
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue {
			return text + "; " + c.Message, nil
		}
	}
	return text, nil
}

func ownedBy(d *appsv1.Deployment, pod *corev1.Pod) bool {
	for key, value := range d.Spec.Selector.MatchLabels {
		if pod.Labels[key] != value {
			return false
		}
	}
	return true
}

// stuck is why a pod is not ready, as far as its status tells.
func stuck(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason + ": " + c.Message
		}
	}
	for _, c := range pod.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil && c.State.Waiting.Reason != "ContainerCreating":
			return c.State.Waiting.Reason + ": " + c.State.Waiting.Message
		case c.State.Terminated != nil:
			return c.State.Terminated.Reason + ": " + c.State.Terminated.Message
		case c.State.Running != nil && !c.Ready:
			return "it runs and is not ready; see its log"
		}
	}
	return ""
}

func nameOf(d *appsv1.Deployment) string { return d.Namespace + "/" + d.Name }

func controllerLeader(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if r.Argument("leader-elect") == "false" {
		return ok("there is no election: --leader-elect=false"), nil
	}
	leader, err := s.LeaderOf(ctx, r.Namespace, installation.LeaseName)
	lease := r.Namespace + "/" + installation.LeaseName
	switch {
	case err != nil:
		return finding{}, err
	case leader.Holder == "":
		return failure("no controller is elected (Lease %s), so nothing is granted late and no status is written", lease), nil
	case leader.Expired:
		return failure("the elected controller %s is dead: Lease %s was renewed %.0f s ago", leader.Holder, lease, leader.Quiet.Seconds()), nil
	}
	return ok("%s leads, and renewed its Lease %.0f s ago", leader.Holder, leader.Quiet.Seconds()), nil
}

// controllerPlacement: what makes bursting work must not burst.
func controllerPlacement(ctx context.Context, s *session) (finding, error) {
	pods, err := s.pods.get(ctx)
	if err != nil {
		return finding{}, err
	}
	nodes, err := s.nodes.get(ctx)
	if err != nil {
		return finding{}, err
	}
	virtual := map[string]bool{}
	for i := range nodes {
		virtual[nodes[i].Name] = true
	}
	var problems []string
	for i := range pods {
		if virtual[pods[i].Spec.NodeName] {
			problems = append(problems, fmt.Sprintf("pod %s of Autoburst runs on virtual node %s, and would go down with it", pods[i].Name, pods[i].Spec.NodeName))
		}
	}
	return of(Error, problems, "pods of Autoburst run on virtual nodes, and would go down with them", ok("no pod of Autoburst runs on a virtual node")), nil
}

func killSwitch(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	stopped, err := s.Switch(ctx, r)
	switch {
	case err != nil:
		return finding{}, err
	case stopped:
		return warning("all bursting is stopped by ConfigMap %s/%s; to lift that: kubectl -n %[1]s delete configmap %[2]s", r.Namespace, r.SwitchName), nil
	}
	return ok("bursting is not stopped"), nil
}

// controllerRightsOf are what the controller cannot do without.
func controllerRightsOf(r *installation.Release) []right {
	ns := r.Namespace
	all := []right{
		{resource: "pods", verbs: "get list watch patch", purpose: "no pod is granted late"},
		{resource: "nodes", verbs: "list watch", purpose: "virtual nodes are not known"},
		{resource: "namespaces", verbs: "list watch patch", purpose: "no namespace is served"},
		{group: v1alpha1.GroupName, resource: "burstpolicies", verbs: "list watch", purpose: "policies are not known"},
		{group: v1alpha1.GroupName, resource: "clusterburstpolicies", verbs: "list watch", purpose: "policies are not known"},
		{group: v1alpha1.GroupName, resource: "burstpolicies", subresource: "status", verbs: "patch", purpose: "no status is written"},
		{group: v1alpha1.GroupName, resource: "clusterburstpolicies", subresource: "status", verbs: "patch", purpose: "no status is written"},
		{group: "apps", resource: "replicasets", verbs: "list watch", purpose: "replicas are not kept local"},
		{group: "apps", resource: "statefulsets", verbs: "list watch", purpose: "replicas are not kept local"},
		{resource: "pods", subresource: "eviction", verbs: "create", purpose: "no pod is moved back"},
		{group: "events.k8s.io", resource: "events", verbs: "create patch", purpose: "there are no events"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "create", namespace: ns, purpose: "nobody is elected"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "get update", namespace: ns, name: installation.LeaseName, purpose: "nobody is elected"},
		{resource: "configmaps", verbs: "list watch", namespace: ns, name: r.SwitchName, purpose: "the switch does not stop bursting"},
		{resource: "configmaps", verbs: "create", namespace: ns, purpose: "limits are not kept, so that pods with limits wait"},
	}
	if ledger := r.Argument("ledger-name"); ledger != "" {
		all = append(all, right{resource: "configmaps", verbs: "get update", namespace: ns, name: ledger, purpose: "limits are not kept, so that pods with limits wait"})
	}
	if r.ByPolicy {
		return append(all, right{
			group: v1alpha1.GroupName, resource: "burstadmissions", verbs: "patch", name: r.MutatingPolicyName, purpose: "the API server does not know the policies",
		})
	}
	if r.Argument("write-ca-bundle") != "false" {
		all = append(all, right{
			group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", verbs: "get patch", name: r.ConfigurationName, purpose: "the API server does not trust the webhook",
		})
	}
	return all
}

func controllerRights(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	return s.rightsOf(ctx, "the controller", r.Controller, controllerRightsOf(r))
}

// rightsOf asks for the rights of the ServiceAccount of a Deployment.
func (s *session) rightsOf(ctx context.Context, who string, d *appsv1.Deployment, rights []right) (finding, error) {
	account := d.Spec.Template.Spec.ServiceAccountName
	refused, err := missing(ctx, rights, s.ofAccount(d.Namespace, account))
	if err != nil {
		return finding{}, err
	}
	for i := range refused {
		refused[i] = fmt.Sprintf("ServiceAccount %s/%s may not %s", d.Namespace, account, refused[i])
	}
	return of(Error, refused, "rights of "+who+" are missing", ok("%s has its rights", who)), nil
}

// agentOf finds the Deployment of the agents of a virtual node.
func agentOf(r *installation.Release, node string) *appsv1.Deployment {
	i := slices.IndexFunc(r.Agents, func(d appsv1.Deployment) bool { return installation.Node(&d) == node })
	if i < 0 {
		return nil
	}
	return &r.Agents[i]
}

// electionOf is the Lease by which the agents of a Deployment elect one.
func electionOf(d *appsv1.Deployment) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, a := range c.Args {
			if v, found := strings.CutPrefix(a, "--leader-elect-resource-name="); found {
				return v
			}
		}
	}
	return d.Name
}
