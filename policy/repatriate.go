package policy

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Move is the last pod of a workload that was moved back to a local node.
type Move struct {
	Pod string
	UID types.UID
	// Time is when it was written down, Next when the workload's next pod may be
	// moved at the earliest.
	Time, Next time.Time
	// HeldUntil is until when no pod of the workload bursts; zero once that is
	// over.
	HeldUntil time.Time
	// Bounced counts how often in a row moved pods burst again.
	Bounced int
}

// MaxPause is the longest pause between two moves of one workload, unless the
// policy's own hold is longer.
const MaxPause = time.Hour

// Pause is for how long after a move no pod of the workload is moved, when moved
// pods have burst again so many times in a row.
func (r *Repatriation) Pause(bounced int) time.Duration {
	pause := r.Hold
	for range bounced {
		if pause >= MaxPause {
			break
		}
		pause = min(2*pause, max(MaxPause, r.Hold))
	}
	return pause
}

// withMoves takes in what the status of the policy remembers.
func (p *Policy) withMoves(moves []v1alpha1.Move) *Policy {
	if len(moves) == 0 {
		return p
	}
	p.Moves = make(map[WorkloadRef]Move, len(moves))
	for _, m := range moves {
		c := Move{Pod: m.Pod, UID: m.UID, Time: m.Time.Time, Next: m.Next.Time, Bounced: int(m.Bounced)}
		if m.HeldUntil != nil {
			c.HeldUntil = m.HeldUntil.Time
		}
		p.Moves[WorkloadRef{m.Kind, m.Namespace, m.Name}] = c
	}
	return p
}

// withholds gives the reason for which a pod is not granted at admission, where
// nobody counts and no clock is at hand: the controller decides.
func (p *Policy) withholds(namespace string, pod *corev1.Pod) (r Reason, detail string) {
	switch {
	case p == nil:
		return "", ""
	case p.KeepLocal != nil:
		return KeptLocal, "The pod may burst once it is unschedulable, if that leaves enough of them."
	case len(p.Moves) > 0 && !p.Moves[WorkloadOf(namespace, pod)].HeldUntil.IsZero():
		return HeldAfterRepatriation, ""
	}
	return "", ""
}

// holds is for how long the pod still may not burst because its workload was
// moved back.
func (p *Policy) holds(namespace string, pod *corev1.Pod, now time.Time) (left time.Duration, why string) {
	if p == nil || len(p.Moves) == 0 {
		return 0, ""
	}
	w := WorkloadOf(namespace, pod)
	m := p.Moves[w]
	if left = m.HeldUntil.Sub(now); m.HeldUntil.IsZero() || left <= 0 {
		return 0, ""
	}
	return left, fmt.Sprintf("It is pod %s of %s; the pod may burst in %s.", m.Pod, w, left.Round(time.Second))
}

// safeToEvict is the annotation by which owners of pods keep the cluster
// autoscaler from evicting them
// (kubernetes/autoscaler, cluster-autoscaler/FAQ.md).
const safeToEvict = "cluster-autoscaler.kubernetes.io/safe-to-evict"

// leavingTaint is the soft taint of a node that the cluster autoscaler is about to
// remove (kubernetes/autoscaler, cluster-autoscaler/utils/taints).
const leavingTaint = "DeletionCandidateOfClusterAutoscaler"

// Repatriates is the policy by which a bound pod may be moved back, nil where none
// says so. The rules that decide now count, not those of when the pod was granted.
func Repatriates(s *Snapshot, pod *corev1.Pod) *Policy {
	unbound := *pod
	unbound.Spec.NodeName = ""
	d, p, ok := decide(s, pod.Namespace, &unbound)
	if !ok || p == nil || p.Repatriation == nil || d.Mode != v1alpha1.ModeOverflow {
		return nil
	}
	return p
}

// StaysBurst says why a running pod is not moved back by a policy that
// repatriates, "" when it may be: everything but the room is looked at. A trimmed
// pod may pass that is held back when looked at whole.
func StaysBurst(p *Policy, pod *corev1.Pod, w Workload, now time.Time) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	since := BoundSince(pod)
	switch {
	case pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning:
		return "it is not running"
	case owner == nil || !isReplicaSet(owner):
		return "its owner is not a ReplicaSet"
	case !w.Steady:
		return "its workload is being rolled out, scaled in or deleted"
	case pod.Annotations[v1alpha1.GrantAnnotation] == "":
		return "it was not granted by a policy"
	case pod.Annotations[v1alpha1.RepatriateAnnotation] != "":
		return "its annotation " + v1alpha1.RepatriateAnnotation + " says so"
	case pod.Annotations[safeToEvict] == "false":
		return "its annotation " + safeToEvict + " says so"
	case since.IsZero() || now.Sub(since) < p.Repatriation.MinBurst:
		return "it has not run for long enough"
	}
	return unprovable(pod)
}

// BoundSince is when the pod came to its node; zero where that is not known.
func BoundSince(pod *corev1.Pod) time.Time {
	for i := range pod.Status.Conditions {
		if c := &pod.Status.Conditions[i]; c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	if pod.Status.StartTime != nil {
		return pod.Status.StartTime.Time
	}
	return time.Time{}
}

// unprovable says what keeps Fits from proving that a replacement of the pod fits
// a local node: what it does not look at.
func unprovable(pod *corev1.Pod) string {
	if a := pod.Spec.Affinity; a != nil {
		if a.PodAffinity != nil && len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 ||
			a.PodAntiAffinity != nil && len(a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0 {
			return "it requires an affinity to other pods"
		}
	}
	for i := range pod.Spec.TopologySpreadConstraints {
		if pod.Spec.TopologySpreadConstraints[i].WhenUnsatisfiable == corev1.DoNotSchedule {
			return "it must be spread evenly"
		}
	}
	for _, containers := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if slices.ContainsFunc(containers[i].Ports, func(p corev1.ContainerPort) bool { return p.HostPort != 0 }) {
				return "it uses ports of its node"
			}
		}
	}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.PersistentVolumeClaim != nil || v.Ephemeral != nil || v.CSI != nil {
			return "it uses volumes that may not be where the room is"
		}
	}
	if len(pod.Spec.ResourceClaims) > 0 {
		return "it claims devices"
	}
	return ""
}

// Replacement is the pod that will take the place of a bound one, as far as room
// is concerned: without a node, and without the tolerations of virtual nodes.
func Replacement(s *Snapshot, pod *corev1.Pod) *corev1.Pod {
	r := *pod
	r.Spec.NodeName = ""
	r.Spec.Tolerations = slices.DeleteFunc(slices.Clone(pod.Spec.Tolerations), func(t corev1.Toleration) bool {
		return slices.ContainsFunc(s.VirtualNodes, func(n *VirtualNode) bool {
			return slices.ContainsFunc(n.HardTaints, func(taint corev1.Taint) bool {
				return t.Key == taint.Key && t.Value == taint.Value && t.Effect == taint.Effect
			})
		})
	})
	return &r
}

// RoomFor names a local node that has room for the replacement of a pod and is
// not about to be removed, "" where there is none.
func RoomFor(replacement *corev1.Pod, nodes []*LocalNode) string {
	f := newFitter(replacement)
	for _, n := range nodes {
		if f.local(n) == (obstacle{}) && !leaving(n) {
			return n.Name
		}
	}
	return ""
}

func leaving(n *LocalNode) bool {
	return slices.ContainsFunc(n.Taints, func(t corev1.Taint) bool { return t.Key == leavingTaint })
}

// WantsRoom tells whether a pod without a node waits for room on one of the local
// nodes, or is about to be placed there: it could run there if the node were
// empty.
func WantsRoom(pod *corev1.Pod, nodes []*LocalNode) bool {
	if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || len(pod.Spec.SchedulingGates) > 0 {
		return false
	}
	f := newFitter(pod)
	return slices.ContainsFunc(nodes, func(n *LocalNode) bool {
		empty := *n
		empty.Free = n.Allocatable
		return f.local(&empty) == (obstacle{})
	})
}
