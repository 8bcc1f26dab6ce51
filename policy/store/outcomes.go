package store

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// OutcomeListener is a Listener that also hears what became of pods on nodes.
type OutcomeListener interface {
	Listener
	// PodRefused: the cloud of the pod's node refused it for good at that time, and
	// the pod is over; its status has the reason. It may be told again of a pod.
	PodRefused(p *corev1.Pod, at time.Time)
	// PodRan: a pod began to run. It was bound at that time, zero if that was not
	// seen; retried tells that its cloud had refused it before for want of room.
	PodRan(p *corev1.Pod, bound time.Time, retried bool)
}

// noteOutcome tells the listeners of the newest state of a pod, before it replaces
// the state that is known. The lock is held.
func (s *Store) noteOutcome(p *corev1.Pod) {
	e := s.pods[p.UID]
	if e != nil && e.node == "" && p.Spec.NodeName != "" {
		e.bound = s.clock.Now()
	}
	if p.Spec.NodeName == "" {
		return
	}
	at, refused := refusedAt(p)
	ran := e != nil && e.pod.Status.Phase == corev1.PodPending &&
		(p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodSucceeded)
	if !refused && !ran {
		return
	}
	for _, l := range s.listeners {
		o, ok := l.(OutcomeListener)
		switch {
		case !ok:
		case refused:
			o.PodRefused(p, at)
		default:
			o.PodRan(p, e.bound, waitsForRoom(e.pod) != "")
		}
	}
}

// refusedAt is when the cloud of a pod's node refused it for good.
func refusedAt(p *corev1.Pod) (time.Time, bool) {
	if p.Status.Phase != corev1.PodFailed || !v1alpha1.IsRefusal(p.Status.Reason) {
		return time.Time{}, false
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// refusal keeps of a finished pod what refusedAt reads.
func refusal(p *corev1.Pod) (string, []corev1.PodCondition) {
	at, ok := refusedAt(p)
	if !ok {
		return "", nil
	}
	c := corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}
	c.LastTransitionTime.Time = at
	return p.Status.Reason, []corev1.PodCondition{c}
}

// waitsForRoom is the reason for which a pod on a virtual node waits for its cloud
// to have room, "" where it does not.
func waitsForRoom(p *corev1.Pod) string {
	if reason, ok := strings.CutPrefix(p.Status.Reason, v1alpha1.PodWaitingPrefix); ok && v1alpha1.ForWantOfRoom(reason) {
		return p.Status.Reason
	}
	return ""
}
