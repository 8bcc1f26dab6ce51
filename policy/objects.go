package policy

import (
	"cmp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Objects are objects of the API from which NewSnapshot makes what the rules
// read.
type Objects struct {
	Namespaces      []*corev1.Namespace
	Policies        []*v1alpha1.BurstPolicy
	ClusterPolicies []*v1alpha1.ClusterBurstPolicy
	// Nodes, virtual and local.
	Nodes []*corev1.Node
	// Pods count on the nodes that they are bound to, and by their inter-pod
	// affinity.
	Pods []*corev1.Pod
	// ReplicaSets and StatefulSets tell the replicas of the workloads of pods.
	ReplicaSets  []*appsv1.ReplicaSet
	StatefulSets []*appsv1.StatefulSet
	// Switch is the ConfigMap that stops all bursting; nil where there is none.
	Switch *corev1.ConfigMap
	// AdmissionByPolicy tells that the API server admits pods by itself.
	AdmissionByPolicy bool
	// Excluded are namespaces that are never touched, beside those of Kubernetes.
	Excluded []string
}

// NewSnapshot makes a Snapshot, and the local nodes that a late decision looks
// at, by name.
func NewSnapshot(o Objects) (*Snapshot, []*LocalNode) {
	s := &Snapshot{
		Namespaces: make(map[string]Namespace, len(o.Namespaces)),
		Policies:   make(map[string][]*Policy),
		Excluded:   ExcludedNamespaces(o.Excluded...),
		Stopped:    o.Switch != nil && IsStopped(o.Switch),

		AdmissionByPolicy: o.AdmissionByPolicy,
		// Objects do not tell; whoever asks about decisions means the usual ones.
		ControllerLive: true,
	}
	for _, n := range o.Namespaces {
		s.Namespaces[n.Name] = NewNamespace(n)
	}

	add := func(namespace string, p *Policy, status *v1alpha1.BurstPolicyStatus) {
		p.PressureOpen = IsUnderPressure(status.Conditions)
		p.Suspend(status.Targets)
		s.addUsage(p.Ref, status)
		s.Policies[namespace] = append(s.Policies[namespace], p)
	}
	for _, p := range o.Policies {
		add(p.Namespace, Compile(p), &p.Status)
	}
	for _, p := range o.ClusterPolicies {
		add("", Compile(p), &p.Status)
	}
	for _, ps := range s.Policies {
		Sort(ps)
	}
	s.Index = NewIndex(s.Policies, s.Namespaces)

	used := make(map[string]Usage)
	var terms Terms
	for _, p := range o.Pods {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		terms.Add(p)
		if name := p.Spec.NodeName; name != "" {
			u := used[name]
			u.Add(UsageOf(p), 1)
			used[name] = u
		}
	}
	s.InterPodTerms = terms.List(s.Namespaces)

	var local []*LocalNode
	for _, n := range o.Nodes {
		switch {
		case IsVirtual(n):
			v := NewVirtualNode(n)
			v.Free = used[n.Name].Left(n.Status.Allocatable)
			s.VirtualNodes = append(s.VirtualNodes, v)
		case IsReady(n):
			local = append(local, NewLocalNode(n, used[n.Name]))
			s.LocalSoftTaint = s.LocalSoftTaint || BearsSoftTaint(n)
		}
	}
	slices.SortFunc(s.VirtualNodes, func(a, b *VirtualNode) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(local, func(a, b *LocalNode) int { return cmp.Compare(a.Name, b.Name) })
	return s, local
}

// ExcludedNamespaces are the namespaces that are never touched: those of
// Kubernetes itself, and others.
func ExcludedNamespaces(others ...string) map[string]bool {
	excluded := map[string]bool{metav1.NamespaceSystem: true, corev1.NamespaceNodeLease: true}
	for _, n := range others {
		excluded[n] = true
	}
	return excluded
}

// SwitchKey is the key of the switch, a ConfigMap, that stops all bursting.
const SwitchKey = "stopped"

// IsStopped tells whether a switch is on. Whoever writes another word than one
// for off is taken to want it on: in an emergency nobody looks up the spelling.
func IsStopped(m *corev1.ConfigMap) bool {
	switch strings.ToLower(strings.TrimSpace(m.Data[SwitchKey])) {
	case "", "false", "no", "off", "0":
		return false
	}
	return true
}

// NewNamespace shows a namespace to the rules.
func NewNamespace(n *corev1.Namespace) Namespace {
	return Namespace{Labels: n.Labels, Mode: v1alpha1.Mode(n.Annotations[v1alpha1.ModeAnnotation])}
}

// IsUnderPressure reads from the conditions of a policy whether pressure lets
// pods burst now.
func IsUnderPressure(conditions []metav1.Condition) bool {
	return apimeta.IsStatusConditionTrue(conditions, v1alpha1.ConditionUnderPressure)
}

// Sort puts policies in the order in which they decide.
func Sort(ps []*Policy) {
	slices.SortStableFunc(ps, func(a, b *Policy) int {
		switch {
		case Less(a, b):
			return -1
		case Less(b, a):
			return 1
		}
		return 0
	})
}

// NewLocalNode shows a local node, and what its pods use, to the rules.
func NewLocalNode(n *corev1.Node, used Usage) *LocalNode {
	return &LocalNode{Name: n.Name, Labels: n.Labels, Taints: n.Spec.Taints, Free: used.Left(n.Status.Allocatable), Allocatable: n.Status.Allocatable}
}

// NewVirtualNode shows a virtual node to the rules, without its room.
func NewVirtualNode(n *corev1.Node) *VirtualNode {
	v := &VirtualNode{Name: n.Name, Labels: n.Labels, Ready: IsReady(n), NoCapacity: lacksCapacity(n)}
	for _, t := range n.Spec.Taints {
		switch {
		case t.Effect == corev1.TaintEffectPreferNoSchedule:
			v.SoftTaints = append(v.SoftTaints, t)
		case passing(t):
			v.Ready = false
		case t.Key == v1alpha1.NoCapacityTaintKey:
			// It comes with the condition, but each is written on its own.
			v.NoCapacity = cmp.Or(v.NoCapacity, "nothing can start")
		default:
			v.HardTaints = append(v.HardTaints, t)
		}
	}
	if published, ok := n.Annotations[v1alpha1.CapabilitiesAnnotation]; ok {
		c, err := burstable.ParseCapabilities(published)
		if err != nil {
			// Unknown is not everything: nothing that needs a feature may go there.
			c = burstable.Capabilities{}
		}
		v.Capabilities = &c
	}
	return v
}

// lacksCapacity is the reason for which a node says that its cloud has no room, ""
// where it does not say so.
func lacksCapacity(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == v1alpha1.CapacityAvailableCondition && c.Status == corev1.ConditionFalse {
			return cmp.Or(c.Reason, "no reason given")
		}
	}
	return ""
}

// passing tells whether a taint only tells a condition of the node that passes,
// such as node.kubernetes.io/not-ready.
func passing(t corev1.Taint) bool {
	return t.Key == v1alpha1.CloudUnreachableTaintKey || strings.HasPrefix(t.Key, "node.kubernetes.io/") ||
		strings.HasPrefix(t.Key, "node.cloudprovider.kubernetes.io/")
}

// IsVirtual tells virtual nodes from local ones.
func IsVirtual(n *corev1.Node) bool {
	return n.Labels[v1alpha1.VirtualNodeLabel] == v1alpha1.VirtualNodeValue
}

// IsReady tells whether a node has condition Ready and is not cordoned.
func IsReady(n *corev1.Node) bool {
	if n.Spec.Unschedulable {
		return false
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// BearsSoftTaint tells whether a node has a taint of effect PreferNoSchedule.
func BearsSoftTaint(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectPreferNoSchedule
	})
}
