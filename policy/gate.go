package policy

import (
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Gated tells whether a pod without a node bears our scheduling gate, so that
// neither a scheduler nor an autoscaler looks at it until we have decided.
func Gated(pod *corev1.Pod) bool { return pod.Spec.NodeName == "" && gateOf(pod) >= 0 }

// gateOf is the place of our gate among the gates of the pod, or -1.
func gateOf(pod *corev1.Pod) int {
	return slices.IndexFunc(pod.Spec.SchedulingGates, func(g corev1.PodSchedulingGate) bool { return g.Name == v1alpha1.DecisionGate })
}

// EvaluateGated decides about a live pod that bears our gate: as EvaluateLate
// would if the scheduler had found the pod unschedulable for want of room just
// now. With any other outcome than a grant or OtherGates the gate is to be opened
// and the pod left to the scheduler. A pod with other gates is decided when ours is
// the last, or at once while bursting is stopped.
func EvaluateGated(s *Snapshot, namespace string, pod *corev1.Pod, local iter.Seq[*LocalNode], workloads Workloads, now time.Time) LateDecision {
	if len(pod.Spec.SchedulingGates) > 1 && pod.DeletionTimestamp == nil && !s.Stopped {
		other := pod.Spec.SchedulingGates[0].Name
		if other == v1alpha1.DecisionGate {
			other = pod.Spec.SchedulingGates[1].Name
		}
		return LateDecision{Decision: Decision{}.with(Wait, OtherGates, fmt.Sprintf("It is %s.", other))}
	}
	return EvaluateLate(s, namespace, Ungated(pod, now), local, workloads, now)
}

// Ungated is the pod as it will be if its gates are opened and no node has room.
func Ungated(pod *corev1.Pod, now time.Time) *corev1.Pod {
	p := *pod
	p.Spec.SchedulingGates = nil
	p.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		LastTransitionTime: metav1.NewTime(now),
	}}
	return &p
}

// ReleasePatch is the JSON Patch that opens our gate and changes nothing else. It
// fails when the pod is another one by now or its gates have changed.
func ReleasePatch(pod *corev1.Pod) ([]byte, error) {
	ops := append([]operation{{Op: "test", Path: "/metadata/uid", Value: pod.UID}}, openGate(pod)...)
	b, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("writing the patch that opens the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return b, nil
}

// openGate removes our gate, if the pod has it and its gates are as they were
// seen.
func openGate(pod *corev1.Pod) []operation {
	i := gateOf(pod)
	if i < 0 {
		return nil
	}
	return []operation{
		{Op: "test", Path: "/spec/schedulingGates", Value: pod.Spec.SchedulingGates},
		{Op: "remove", Path: fmt.Sprintf("/spec/schedulingGates/%d", i)},
	}
}
