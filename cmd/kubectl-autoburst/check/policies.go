package check

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// one is a policy of either kind.
type one struct {
	name       string
	generation int64
	status     *v1alpha1.BurstPolicyStatus
}

func (s *session) allPolicies(ctx context.Context) ([]one, error) {
	policies, err := s.policies.get(ctx)
	if err != nil {
		return nil, err
	}
	clusters, err := s.clusters.get(ctx)
	if err != nil {
		return nil, err
	}
	var out []one
	for i := range policies {
		p := &policies[i]
		out = append(out, one{"BurstPolicy " + p.Namespace + "/" + p.Name, p.Generation, &p.Status})
	}
	for i := range clusters {
		p := &clusters[i]
		out = append(out, one{"ClusterBurstPolicy " + p.Name, p.Generation, &p.Status})
	}
	return out, nil
}

// conditions says of the policies of which a condition is false why it is.
func (s *session) conditions(ctx context.Context, kind string) (problems []string, policies int, err error) {
	list, err := s.allPolicies(ctx)
	if err != nil {
		return nil, 0, err
	}
	for _, p := range list {
		if c := apimeta.FindStatusCondition(p.status.Conditions, kind); c != nil && c.Status == metav1.ConditionFalse && p.status.ObservedGeneration == p.generation {
			problems = append(problems, fmt.Sprintf("%s: %s: %s", p.name, c.Reason, c.Message))
		}
	}
	return problems, len(list), nil
}

func policiesReady(ctx context.Context, s *session) (finding, error) {
	problems, n, err := s.conditions(ctx, v1alpha1.ConditionReady)
	if err != nil {
		return finding{}, err
	}
	list, err := s.allPolicies(ctx)
	if err != nil {
		return finding{}, err
	}
	for _, p := range list {
		if p.status.ObservedGeneration != p.generation {
			problems = append(problems, p.name+": no controller has looked at what it says now")
		}
	}
	if n == 0 {
		return ok("there is no policy"), nil
	}
	return of(Error, problems, "policies are not in force", ok("%s", all(n, "policy is in force", "policies are in force"))), nil
}

func policyTargets(ctx context.Context, s *session) (finding, error) {
	problems, n, err := s.conditions(ctx, v1alpha1.ConditionTargetsAvailable)
	if err != nil {
		return finding{}, err
	}
	if n == 0 {
		return finding{}, errDoesNotApply
	}
	list, err := s.allPolicies(ctx)
	if err != nil {
		return finding{}, err
	}
	for _, p := range list {
		for _, t := range p.status.Targets {
			if t.SuspendedUntil != nil && t.SuspendedUntil.After(s.Now()) {
				problems = append(problems, fmt.Sprintf("%s: target %s is passed over until %s: %s", p.name, t.Name, t.SuspendedUntil.UTC().Format("15:04:05Z"), t.Reason))
			}
		}
	}
	return of(Warning, problems, "targets of policies take no pods", ok("policies have targets that take pods")), nil
}

func policyLimits(ctx context.Context, s *session) (finding, error) {
	problems, n, err := s.conditions(ctx, v1alpha1.ConditionWithinLimits)
	if err != nil {
		return finding{}, err
	}
	if n == 0 {
		return finding{}, errDoesNotApply
	}
	return of(Warning, problems, "policies have reached a limit", ok("no policy has reached a limit")), nil
}

// namespacesServed compares the labels with what opts namespaces in, which may be any.
func namespacesServed(ctx context.Context, s *session) (finding, error) {
	list, err := s.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return finding{}, fmt.Errorf("listing namespaces: %w", err)
	}
	snapshot, err := s.snapshot(ctx, list.Items)
	if err != nil {
		return finding{}, err
	}
	outcome, served := Warning, 0
	var problems []string
	for i := range list.Items {
		n := &list.Items[i]
		value, labelled := n.Labels[v1alpha1.ServedLabel]
		want := snapshot.OptedIn(n.Name)
		switch {
		case n.Status.Phase == corev1.NamespaceTerminating:
		case want && value != v1alpha1.ServedValue:
			outcome = Error
			problems = append(problems, fmt.Sprintf("namespace %s is opted in and has no label %s=%s, so that its pods are not admitted by Autoburst", n.Name, v1alpha1.ServedLabel, v1alpha1.ServedValue))
		case !want && labelled:
			problems = append(problems, fmt.Sprintf("namespace %s has the label %s, and neither its annotation nor a policy opts it in", n.Name, v1alpha1.ServedLabel))
		case want:
			served++
		}
	}
	return of(outcome, problems, "namespaces have the label "+v1alpha1.ServedLabel+" without cause, or lack it",
		ok("%s served, and only those that an annotation or a policy opts in", all(served, "namespace is", "namespaces are"))), nil
}

// snapshot is what decisions are made from, for some namespaces.
func (s *session) snapshot(ctx context.Context, namespaces []corev1.Namespace) (*policy.Snapshot, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return nil, err
	}
	policies, err := s.policies.get(ctx)
	if err != nil {
		return nil, err
	}
	clusters, err := s.clusters.get(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := s.nodes.get(ctx)
	if err != nil {
		return nil, err
	}
	o := policy.Objects{AdmissionByPolicy: r.ByPolicy, Excluded: r.Excluded()}
	o.Namespaces, o.Nodes = pointers(namespaces), pointers(nodes)
	o.Policies, o.ClusterPolicies = pointers(policies), pointers(clusters)
	snapshot, _ := policy.NewSnapshot(o)
	return snapshot, nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
