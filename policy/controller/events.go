package controller

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Reasons of events on pods.
const (
	EventBurstGranted  = "BurstGranted"  // the pod may run on a virtual node
	EventStaysLocal    = "StaysLocal"    // it may not, as it is
	EventWaitsToBurst  = "WaitsToBurst"  // it may not yet
	EventStopped       = "BurstStopped"  // it may not while an operator has stopped all bursting
	EventGrantRejected = "GrantRejected" // the API server refuses its toleration

	EventRepatriated         = "Repatriated"         // it is evicted from a virtual node, for a local one; on its policy too
	EventRepatriationRefused = "RepatriationRefused" // a disruption budget does not let it be
)

// Reasons of events on policies.
const (
	EventReady           = "Ready"
	EventNotReady        = "NotReady"
	EventPressureOpened  = "PressureOpened"
	EventPressureClosed  = "PressureClosed"
	EventTargetsLost     = "TargetsUnavailable"
	EventTargetsReturned = "TargetsAvailable"
	EventTargetSuspended = "TargetSuspended"
	EventTargetResumed   = "TargetResumed"
	EventLimitReached    = "LimitReached" // a limit leaves no room
	EventLimitCleared    = "LimitCleared" // every limit leaves room again
)

// Actions of events: what was being done. The events of a pod that does not
// burst have the policy.Reason in that place, since recorders fold events that
// differ by their notes only into one, with the note of the first.
const (
	actionGrant      = "Grant"
	actionRepatriate = "Repatriate"
	actionObserve    = "Observe"
)

// noteMax is the longest note that the API server takes, in bytes.
const noteMax = 1024

// Bounds on events about pods that do not burst, as a full cluster may hold many
// of them. What is held back is said at a later look.
const (
	heldBackPerSecond = 20
	heldBackBurst     = 200
)

// teller writes events.
type teller struct {
	recorder events.EventRecorder
	limit    flowcontrol.RateLimiter
}

func newTeller(r events.EventRecorder, c clock.Clock) *teller {
	return &teller{recorder: r, limit: flowcontrol.NewTokenBucketRateLimiterWithClock(heldBackPerSecond, heldBackBurst, limiterClock{c})}
}

// limiterClock is a clock as rate limiters want it.
type limiterClock struct{ clock.Clock }

// Sleep waits; TryAccept, which alone is used, never does.
func (c limiterClock) Sleep(d time.Duration) { <-c.After(d) }

func (t *teller) granted(pod *corev1.Pod, d policy.Decision) {
	t.event(pod, corev1.EventTypeNormal, EventBurstGranted, actionGrant, decidedBy(d.Message, d.By))
}

func (t *teller) waits(w *waiting, pod *corev1.Pod, d policy.Decision) {
	if w.tell(pod.UID, d.Reason, t.limit.TryAccept) {
		reason := EventWaitsToBurst
		if d.Reason == policy.Stopped {
			reason = EventStopped
		}
		t.event(pod, corev1.EventTypeNormal, reason, string(d.Reason), decidedBy(d.Message, d.By))
	}
}

func (t *teller) stays(w *waiting, pod *corev1.Pod, d policy.Decision) {
	if w.tell(pod.UID, d.Reason, t.limit.TryAccept) {
		t.event(pod, corev1.EventTypeNormal, EventStaysLocal, string(d.Reason), decidedBy(d.Message, d.By))
	}
}

func (t *teller) rejected(w *waiting, pod *corev1.Pod, d policy.Decision, err error) {
	if w.tell(pod.UID, EventGrantRejected, t.limit.TryAccept) {
		t.event(pod, corev1.EventTypeWarning, EventGrantRejected, actionGrant, fmt.Sprintf(
			"The pod may burst, but the API server refuses the toleration %s: %v. Check admission plugins such as PodTolerationRestriction; it is tried again in %v.",
			tolerations(d.Tolerations), err, rejectedRetry))
	}
}

// event writes one event; about is a pod or a policy.
func (t *teller) event(about runtime.Object, kind, reason, action, note string) {
	t.recorder.Eventf(about, nil, kind, reason, action, "%s", clip(note, noteMax))
}

// decidedBy ends a message with what decided.
func decidedBy(message string, by policy.Ref) string {
	switch by.Kind {
	case policy.KindPolicy, policy.KindClusterPolicy:
		return fmt.Sprintf("%s Decided by %s.", message, by)
	case policy.KindNamespace:
		return fmt.Sprintf("%s Decided by the annotation %s of the namespace.", message, v1alpha1.ModeAnnotation)
	case policy.KindPod:
		return fmt.Sprintf("%s Decided by the annotation %s of the pod.", message, v1alpha1.ModeAnnotation)
	}
	return message
}

func tolerations(list []corev1.Toleration) string {
	texts := make([]string, len(list))
	for i, t := range list {
		texts[i] = fmt.Sprintf("%s=%s:%s", t.Key, t.Value, t.Effect)
	}
	return strings.Join(texts, ", ")
}

// clip cuts a text to at most so many bytes, at the end of a character.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const more = "…"
	return strings.ToValidUTF8(s[:limit-len(more)], "") + more
}
