package policy

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// bar notes a node that the pod might burst to were it not for what its cloud has
// refused lately: the node itself says so, or the target is suspended. It tells
// whether that is so.
func (c *candidates) bar(n *VirtualNode, verdict NodeVerdict, t *Target) bool {
	var because string
	switch {
	case t != nil && t.Suspended != "" &&
		(verdict == NodeFits || verdict == NodeFull || verdict == NodeNotReady || verdict == NodeNoCapacity):
		because = fmt.Sprintf("Target %s: %s", t.Name, t.Suspended)
	case verdict == NodeNoCapacity:
		because = noCapacity(n)
	default:
		return false
	}
	c.barred = append(c.barred, n)
	if !slices.Contains(c.barredBecause, because) {
		c.barredBecause = append(c.barredBecause, because)
	}
	return true
}

func noCapacity(n *VirtualNode) string {
	return fmt.Sprintf("The cloud of virtual node %s has refused a pod for want of room lately (%s).", n.Name, n.NoCapacity)
}

// avoidBarred is the decision's node selector without the barred nodes that the
// tolerations open because they bear the same taints as a chosen one. The affinity
// can be written at admission only; a pod that is granted late may meet such a
// node once, and its replacement will not.
func (c *candidates) avoidBarred(pod *corev1.Pod, d *Decision) [][]corev1.NodeSelectorRequirement {
	var names []string
	for _, n := range c.barred {
		if slices.Contains(c.ready, n) || slices.Contains(c.returning, n) || slices.Contains(names, n.Name) {
			continue // by another target
		}
		if inTargets(c.targets, n) && opens(pod, d, n, c.required) {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return d.NodeSelector
	}
	slices.Sort(names)
	but := corev1.NodeSelectorRequirement{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpNotIn, Values: names}
	alts := d.NodeSelector
	if len(alts) == 0 { // any node
		alts = [][]corev1.NodeSelectorRequirement{{onLocal}, {onVirtual}}
	}
	out := make([][]corev1.NodeSelectorRequirement, len(alts))
	for i, alt := range alts {
		out[i] = alt
		if slices.ContainsFunc(alt, isOnVirtual) {
			out[i] = append(slices.Clip(slices.Clone(alt)), but)
		}
	}
	return out
}

func isOnVirtual(r corev1.NodeSelectorRequirement) bool {
	return r.Key == v1alpha1.VirtualNodeLabel && r.Operator == corev1.NodeSelectorOpIn &&
		slices.Equal(r.Values, onVirtual.Values)
}
