package check

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func virtualNodes(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	nodes, err := s.nodes.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if len(nodes)+len(r.Agents) == 0 {
		return warning("there is no virtual node, so nothing can burst; add one to virtualNodes of the chart"), nil
	}
	var problems []string
	for i := range r.Agents {
		name := installation.Node(&r.Agents[i])
		if !slices.ContainsFunc(nodes, func(n corev1.Node) bool { return n.Name == name }) {
			problems = append(problems, fmt.Sprintf("node %s is missing: its agent (Deployment %s) has not registered it; see the agent's log", name, nameOf(&r.Agents[i])))
		}
	}
	for i := range nodes {
		if n := &nodes[i]; ourNode(n) && agentOf(r, n.Name) == nil {
			problems = append(problems, fmt.Sprintf("node %s is left over: this release has no agent for it, and nobody removes its container groups; "+
				"put it back into virtualNodes and drain it, or, if its cloud holds nothing, kubectl delete node %[1]s", n.Name))
		}
	}
	return of(Error, problems, "virtual nodes are missing or left over", ok("%d virtual nodes, each with its agent", len(nodes))), nil
}

// ourNode tells nodes of Autoburst's agents from those of others.
func ourNode(n *corev1.Node) bool { return n.Annotations[v1alpha1.CapabilitiesAnnotation] != "" }

// eachNode collects what is said of virtual nodes.
func (s *session) eachNode(ctx context.Context, say func(n *corev1.Node) string) (problems []string, nodes int, err error) {
	list, err := s.nodes.get(ctx)
	if err != nil {
		return nil, 0, err
	}
	if len(list) == 0 {
		return nil, 0, errDoesNotApply
	}
	for i := range list {
		if text := say(&list[i]); text != "" {
			problems = append(problems, text)
		}
	}
	return problems, len(list), nil
}

func virtualNodesReady(ctx context.Context, s *session) (finding, error) {
	var cordoned []string
	problems, n, err := s.eachNode(ctx, func(n *corev1.Node) string {
		c := installation.Condition(n, corev1.NodeReady)
		switch {
		case c == nil || c.Status == corev1.ConditionUnknown:
			return fmt.Sprintf("virtual node %s is lost: its agent does not report", n.Name)
		case c.Status != corev1.ConditionTrue:
			return fmt.Sprintf("virtual node %s is not ready: %s: %s", n.Name, c.Reason, c.Message)
		case n.Spec.Unschedulable:
			cordoned = append(cordoned, fmt.Sprintf("virtual node %s is cordoned; to take that back: kubectl uncordon %[1]s", n.Name))
		}
		return ""
	})
	if err != nil {
		return finding{}, err
	}
	if len(problems) > 0 {
		return of(Error, append(problems, cordoned...), "virtual nodes take no pods", finding{}), nil
	}
	return of(Warning, cordoned, "virtual nodes are cordoned", ok("%s", all(n, "virtual node is ready", "virtual nodes are ready"))), nil
}

func all(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// virtualNodeTaints: without the hard taint anything may land there, and without the
// soft ones every grant is late.
func virtualNodeTaints(ctx context.Context, s *session) (finding, error) {
	outcome := Warning
	problems, _, err := s.eachNode(ctx, func(n *corev1.Node) string {
		hard, soft := false, 0
		for _, t := range n.Spec.Taints {
			switch {
			case strings.HasPrefix(t.Key, v1alpha1.SoftTaintPrefix):
				soft++
			case t.Effect == corev1.TaintEffectPreferNoSchedule, passing(t.Key):
			default:
				hard = true
			}
		}
		switch {
		case !hard:
			outcome = Error
			return fmt.Sprintf("virtual node %s has no hard taint, so that any pod may land there", n.Name)
		case ourNode(n) && soft != v1alpha1.SoftTaints:
			return fmt.Sprintf("virtual node %s has %d of %d soft taints (%sN), so that pods are granted late only", n.Name, soft, v1alpha1.SoftTaints, v1alpha1.SoftTaintPrefix)
		}
		return ""
	})
	if err != nil {
		return finding{}, err
	}
	return of(outcome, problems, "virtual nodes are not tainted as they should be", ok("virtual nodes bear their taints")), nil
}

// passing tells taints that come and go with the state of a node.
func passing(key string) bool {
	return strings.HasPrefix(key, "node.kubernetes.io/") || key == v1alpha1.CloudUnreachableTaintKey || key == v1alpha1.NoCapacityTaintKey
}

// The classes of errors by which an agent says that the cloud does not take its
// credentials.
var credentialReasons = []string{"Unauthorized", "AccountSuspended", "Misconfigured"}

// unreachable is the condition of a node whose cloud does not answer as it should, nil
// if it does or if nobody says.
func unreachable(n *corev1.Node) *corev1.NodeCondition {
	if c := installation.Condition(n, v1alpha1.CloudReachableCondition); c != nil && c.Status == corev1.ConditionFalse {
		return c
	}
	return nil
}

func ofCredentials(reason string) bool {
	return slices.ContainsFunc(credentialReasons, func(class string) bool { return strings.HasSuffix(reason, class) })
}

func cloudReachable(ctx context.Context, s *session) (finding, error) {
	outcome := Warning
	problems, _, err := s.eachNode(ctx, func(n *corev1.Node) string {
		c := unreachable(n)
		if c == nil || ofCredentials(c.Reason) {
			return ""
		}
		if !strings.HasPrefix(c.Reason, "CloudPartly") {
			outcome = Error
		}
		return fmt.Sprintf("the cloud of virtual node %s does not answer as it should: %s: %s", n.Name, c.Reason, c.Message)
	})
	if err != nil {
		return finding{}, err
	}
	return of(outcome, problems, "virtual nodes have a cloud that does not answer as it should", ok("the clouds of all virtual nodes answer")), nil
}

func cloudCredentials(ctx context.Context, s *session) (finding, error) {
	problems, _, err := s.eachNode(ctx, func(n *corev1.Node) string {
		if c := unreachable(n); c != nil && ofCredentials(c.Reason) {
			return fmt.Sprintf("the cloud of virtual node %s does not take the agent's credentials or settings: %s: %s", n.Name, c.Reason, c.Message)
		}
		return ""
	})
	if err != nil {
		return finding{}, err
	}
	return of(Error, problems, "virtual nodes have credentials or settings that their clouds do not take", ok("the clouds accept the agents' credentials")), nil
}

func cloudQuota(ctx context.Context, s *session) (finding, error) {
	problems, _, err := s.eachNode(ctx, func(n *corev1.Node) string {
		if c := installation.Condition(n, v1alpha1.CapacityAvailableCondition); c != nil && c.Status == corev1.ConditionFalse {
			return fmt.Sprintf("the cloud of virtual node %s has no room: %s: %s", n.Name, c.Reason, c.Message)
		}
		return ""
	})
	if err != nil {
		return finding{}, err
	}
	return of(Warning, problems, "virtual nodes have a cloud without room", ok("no cloud is short of quota or stock")), nil
}

func agentReplicas(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if len(r.Agents) == 0 {
		return finding{}, errDoesNotApply
	}
	outcome := Warning
	var problems []string
	for i := range r.Agents {
		d := &r.Agents[i]
		node := installation.Node(d)
		if installation.Wanted(d) == 0 {
			leader, err := s.LeaderOf(ctx, d.Namespace, electionOf(d))
			if err != nil {
				return finding{}, err
			}
			if leader.Holder == "" || leader.Expired {
				outcome = Error
				problems = append(problems, fmt.Sprintf("the agents of virtual node %s are scaled to 0 (Deployment %s), and none runs elsewhere", node, nameOf(d)))
			}
			continue
		}
		trouble, err := s.replicas(ctx, d)
		if err != nil {
			return finding{}, err
		}
		if trouble != "" {
			if d.Status.AvailableReplicas == 0 {
				outcome = Error
			}
			problems = append(problems, fmt.Sprintf("virtual node %s: %s", node, trouble))
		}
	}
	return of(outcome, problems, "virtual nodes have fewer agents than they should", ok("the agents of %s run", all(len(r.Agents), "virtual node", "virtual nodes"))), nil
}

// agentLeases: a node whose Lease is not renewed is about to be lost, though it still
// calls itself ready.
func agentLeases(ctx context.Context, s *session) (finding, error) {
	nodes, err := s.nodes.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if len(nodes) == 0 {
		return finding{}, errDoesNotApply
	}
	var problems []string
	for i := range nodes {
		lease, err := s.LeaderOf(ctx, corev1.NamespaceNodeLease, nodes[i].Name)
		switch {
		case err != nil:
			return finding{}, err
		case lease.Holder == "":
			problems = append(problems, fmt.Sprintf("virtual node %s has no Lease %s/%[1]s; no agent keeps it", nodes[i].Name, corev1.NamespaceNodeLease))
		case lease.Expired:
			problems = append(problems, fmt.Sprintf("the Lease of virtual node %s was renewed %.0f s ago; no agent keeps it", nodes[i].Name, lease.Quiet.Seconds()))
		}
	}
	return of(Error, problems, "virtual nodes have a Lease that nobody renews", ok("the Leases of all virtual nodes are renewed")), nil
}

// agentRightsOf are what the agents of a virtual node cannot do without.
func agentRightsOf(namespace, node, election string) []right {
	return []right{
		{resource: "nodes", verbs: "create", purpose: "the node is not registered"},
		{resource: "nodes", verbs: "get list watch patch", name: node, purpose: "the node is not kept"},
		{resource: "nodes", subresource: "status", verbs: "patch", name: node, purpose: "the node's conditions are not written"},
		{resource: "pods", verbs: "get list watch delete", purpose: "pods are not run"},
		{resource: "pods", subresource: "status", verbs: "patch", purpose: "no status of pods is written"},
		{resource: "events", verbs: "create", purpose: "there are no events"},
		{resource: "services", verbs: "list", purpose: "pods lack the variables of services"},
		{resource: "namespaces", verbs: "get", name: "kube-system", purpose: "what the cluster owns in the cloud is not known"},
		{group: "authentication.k8s.io", resource: "tokenreviews", verbs: "create", purpose: "kubectl logs and exec are refused"},
		{group: "authorization.k8s.io", resource: "subjectaccessreviews", verbs: "create", purpose: "kubectl logs and exec are refused"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "create", namespace: corev1.NamespaceNodeLease, purpose: "the node has no Lease"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "get update", namespace: corev1.NamespaceNodeLease, name: node, purpose: "the node's Lease is not renewed"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "create", namespace: namespace, purpose: "no agent is elected"},
		{group: "coordination.k8s.io", resource: "leases", verbs: "get update", namespace: namespace, name: election, purpose: "no agent is elected"},
	}
}

func agentRights(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	if len(r.Agents) == 0 {
		return finding{}, errDoesNotApply
	}
	worst := ok("the agents have their rights")
	for i := range r.Agents {
		d := &r.Agents[i]
		f, err := s.rightsOf(ctx, "the agents of "+installation.Node(d), d, agentRightsOf(d.Namespace, installation.Node(d), electionOf(d)))
		if err != nil {
			return finding{}, err
		}
		if f.outcome != OK {
			worst = f
			break // the agents share a ServiceAccount
		}
	}
	return worst, nil
}
