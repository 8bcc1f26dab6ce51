package policy

import (
	corev1 "k8s.io/api/core/v1"
)

// isHard tells a constraint that filters nodes from one that scores them.
func isHard(c *corev1.TopologySpreadConstraint) bool {
	return c.WhenUnsatisfiable != corev1.ScheduleAnyway
}

// seesTainted is true when a hard constraint of the pod says nothing of taints:
// then Kubernetes counts a virtual node, whose taint the pod does not tolerate, as
// an empty domain, and the pod hangs although local nodes have room (the default
// of nodeTaintsPolicy is Ignore).
func seesTainted(pod *corev1.Pod) bool {
	for i := range pod.Spec.TopologySpreadConstraints {
		if c := &pod.Spec.TopologySpreadConstraints[i]; isHard(c) && c.NodeTaintsPolicy == nil {
			return true
		}
	}
	return false
}

// honorTaints makes nodes whose taints the pod does not tolerate no domains of its
// hard constraints, where the user says nothing of that. Constraints cannot be
// changed later.
func honorTaints(pod *corev1.Pod) {
	for i := range pod.Spec.TopologySpreadConstraints {
		if c := &pod.Spec.TopologySpreadConstraints[i]; isHard(c) && c.NodeTaintsPolicy == nil {
			c.NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
		}
	}
}

// ignoresTaints is true when a hard constraint of the pod counts nodes whose taints
// it does not tolerate.
func ignoresTaints(pod *corev1.Pod) bool {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		if isHard(c) && (c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyIgnore) {
			return true
		}
	}
	return false
}

// lacksDomain names a label that a node must have for the pod and does not: one
// over which the pod must be spread, or by which it must be near other pods. The
// scheduler never places the pod on such a node.
func lacksDomain(pod *corev1.Pod, labels map[string]string) string {
	for i := range pod.Spec.TopologySpreadConstraints {
		c := &pod.Spec.TopologySpreadConstraints[i]
		if _, ok := labels[c.TopologyKey]; !ok && isHard(c) {
			return c.TopologyKey
		}
	}
	terms := requiredNear(pod)
	for i := range terms {
		if _, ok := labels[terms[i].TopologyKey]; !ok {
			return terms[i].TopologyKey
		}
	}
	return ""
}

// requiredNear are the pods that the pod must be near.
func requiredNear(pod *corev1.Pod) []corev1.PodAffinityTerm {
	if a := pod.Spec.Affinity; a != nil && a.PodAffinity != nil {
		return a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	}
	return nil
}
