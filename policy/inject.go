package policy

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The values of the annotation autoburst.io/grant.
const (
	GrantAdmission = "Admission"
	GrantLate      = "Late"
)

// Inject returns the pod with the decision written into it. The argument is not
// changed; where there is nothing to write it is returned as it is.
//
// It only adds: every term, toleration and annotation of the user stays, except
// that the annotations autoburst.io/policy, decided-mode and reason are ours.
// Injecting the same decision twice equals injecting it once.
func Inject(pod *corev1.Pod, d Decision) *corev1.Pod {
	if d.Action != Wait && d.Action != Grant {
		if !d.HonorTaints {
			return pod
		}
		pod = pod.DeepCopy()
		honorTaints(pod)
		return pod
	}
	pod = pod.DeepCopy()
	requireNodes(pod, d.NodeSelector)
	if d.PreferLocal {
		preferLocal(pod)
	}
	if d.HonorTaints {
		honorTaints(pod)
	}
	if d.Gate && gateOf(pod) < 0 {
		pod.Spec.SchedulingGates = append(pod.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: v1alpha1.DecisionGate})
	}
	if pod.Annotations == nil {
		pod.Annotations = make(map[string]string, 4)
	}
	pod.Annotations[v1alpha1.PolicyAnnotation] = d.By.String()
	pod.Annotations[v1alpha1.DecidedModeAnnotation] = string(d.Mode)
	pod.Annotations[v1alpha1.ReasonAnnotation] = string(d.Reason)
	if _, ok := pod.Annotations[ScaleUpDelayAnnotation]; !ok && d.ScaleUpDelay > 0 {
		pod.Annotations[ScaleUpDelayAnnotation] = scaleUpDelay(d.ScaleUpDelay)
	}
	if d.Action == Grant {
		pod.Spec.Tolerations = append(pod.Spec.Tolerations, missing(pod, d.Tolerations)...)
		pod.Annotations[v1alpha1.GrantAnnotation] = GrantAdmission
		if d.Shares != "" {
			pod.Annotations[v1alpha1.ShareAnnotation] = d.Shares
		} else {
			delete(pod.Annotations, v1alpha1.ShareAnnotation) // of another pod
		}
	} else if len(missing(pod, d.Tolerations)) > 0 {
		// Copied along from the manifest of another pod.
		delete(pod.Annotations, v1alpha1.GrantAnnotation)
		delete(pod.Annotations, v1alpha1.ShareAnnotation)
	}
	return pod
}

func nodeAffinity(pod *corev1.Pod) *corev1.NodeAffinity {
	if pod.Spec.Affinity == nil {
		pod.Spec.Affinity = &corev1.Affinity{}
	}
	if pod.Spec.Affinity.NodeAffinity == nil {
		pod.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
	}
	return pod.Spec.Affinity.NodeAffinity
}

// requireNodes ANDs (alternative OR alternative …) into the required node
// affinity. Its terms are ORed too, so each becomes one term per alternative:
// the first in its place, the others at the end of the list, so that a patch of
// the pod consists of additions. The pod's nodeSelector is ANDed by the
// scheduler and needs no change.
func requireNodes(pod *corev1.Pod, alternatives [][]corev1.NodeSelectorRequirement) {
	if len(alternatives) == 0 {
		return
	}
	na := nodeAffinity(pod)
	if na.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		terms := make([]corev1.NodeSelectorTerm, len(alternatives))
		for i, alt := range alternatives {
			terms[i].MatchExpressions = cloneRequirements(alt)
		}
		na.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
		return
	}
	terms := na.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for i := range len(terms) {
		t := &terms[i]
		if len(t.MatchExpressions) == 0 && len(t.MatchFields) == 0 {
			continue // matches no node, which an added requirement would turn around
		}
		if slices.ContainsFunc(alternatives, func(alt []corev1.NodeSelectorRequirement) bool { return covers(t, alt) }) {
			continue // demands an alternative already, be it from an earlier call
		}
		for _, alt := range alternatives[1:] {
			more := t.DeepCopy()
			demand(more, alt)
			terms = append(terms, *more)
		}
		demand(&terms[i], alternatives[0]) // not t: terms may have moved
	}
	na.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms = terms
}

// demand adds the requirements that the term lacks.
func demand(t *corev1.NodeSelectorTerm, alt []corev1.NodeSelectorRequirement) {
	for i := range alt {
		if !hasRequirement(t, &alt[i]) {
			t.MatchExpressions = append(t.MatchExpressions, *alt[i].DeepCopy())
		}
	}
}

func cloneRequirements(rs []corev1.NodeSelectorRequirement) []corev1.NodeSelectorRequirement {
	out := make([]corev1.NodeSelectorRequirement, len(rs))
	for i := range rs {
		rs[i].DeepCopyInto(&out[i])
	}
	return out
}

// covers is true when the term holds every requirement of the alternative.
func covers(t *corev1.NodeSelectorTerm, alt []corev1.NodeSelectorRequirement) bool {
	for i := range alt {
		if !hasRequirement(t, &alt[i]) {
			return false
		}
	}
	return true
}

func hasRequirement(t *corev1.NodeSelectorTerm, r *corev1.NodeSelectorRequirement) bool {
	return slices.ContainsFunc(t.MatchExpressions, func(o corev1.NodeSelectorRequirement) bool {
		return o.Key == r.Key && o.Operator == r.Operator && slices.Equal(o.Values, r.Values)
	})
}

// preferLocalTerm makes local nodes the better ones in the scheduler's scores.
// It is a hint; what keeps local first is in scores.go.
var preferLocalTerm = corev1.PreferredSchedulingTerm{
	Weight:     100,
	Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{onLocal}},
}

func isPreferLocal(t *corev1.PreferredSchedulingTerm) bool {
	return t.Weight == preferLocalTerm.Weight && equality.Semantic.DeepEqual(t.Preference, preferLocalTerm.Preference)
}

func preferLocal(pod *corev1.Pod) {
	na := nodeAffinity(pod)
	terms := na.PreferredDuringSchedulingIgnoredDuringExecution
	if !slices.ContainsFunc(terms, func(t corev1.PreferredSchedulingTerm) bool { return isPreferLocal(&t) }) {
		na.PreferredDuringSchedulingIgnoredDuringExecution = append(terms, *preferLocalTerm.DeepCopy())
	}
}
