package policy

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// tolerates is kube-scheduler's rule (k8s.io/api/core/v1,
// Toleration.ToleratesTaint) without the operators Lt and Gt, which are alpha
// and off in Kubernetes 1.36.
func tolerates(t *corev1.Toleration, taint *corev1.Taint) bool {
	if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
		return false
	}
	switch t.Operator {
	case "", corev1.TolerationOpEqual:
		return t.Value == taint.Value
	case corev1.TolerationOpExists:
		return true
	}
	return false
}

func tolerated(ts []corev1.Toleration, taint *corev1.Taint) bool {
	for i := range ts {
		if tolerates(&ts[i], taint) {
			return true
		}
	}
	return false
}

// toleratesAll is true when each taint is tolerated by one of either list.
func toleratesAll(ts, more []corev1.Toleration, taints []corev1.Taint) bool {
	for i := range taints {
		if !tolerated(ts, &taints[i]) && !tolerated(more, &taints[i]) {
			return false
		}
	}
	return true
}

// tolerationsOf opens exactly the taints of the nodes: key, value and effect.
func tolerationsOf(nodes []*VirtualNode, soft bool) []corev1.Toleration {
	var ts []corev1.Toleration
	add := func(taints []corev1.Taint) {
		for i := range taints {
			t := corev1.Toleration{
				Key: taints[i].Key, Operator: corev1.TolerationOpEqual,
				Value: taints[i].Value, Effect: taints[i].Effect,
			}
			if !slices.ContainsFunc(ts, func(o corev1.Toleration) bool { return sameToleration(&o, &t) }) {
				ts = append(ts, t)
			}
		}
	}
	for _, n := range nodes {
		add(n.HardTaints)
	}
	if soft {
		for _, n := range nodes {
			add(n.SoftTaints)
		}
	}
	return ts
}

// missing are the tolerations that the pod does not have yet.
func missing(pod *corev1.Pod, ts []corev1.Toleration) []corev1.Toleration {
	var out []corev1.Toleration
	for i := range ts {
		if !slices.ContainsFunc(pod.Spec.Tolerations, func(o corev1.Toleration) bool { return sameToleration(&o, &ts[i]) }) {
			out = append(out, ts[i])
		}
	}
	return out
}

// sameToleration compares what Inject writes. An absent operator means Equal.
func sameToleration(a, b *corev1.Toleration) bool {
	op := func(t *corev1.Toleration) corev1.TolerationOperator {
		if t.Operator == "" {
			return corev1.TolerationOpEqual
		}
		return t.Operator
	}
	return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect && op(a) == op(b) &&
		(a.TolerationSeconds == nil) == (b.TolerationSeconds == nil) &&
		(a.TolerationSeconds == nil || *a.TolerationSeconds == *b.TolerationSeconds)
}
