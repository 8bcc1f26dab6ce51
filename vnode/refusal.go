package vnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// disruptionReason is the reason of the condition DisruptionTarget of a refused
// pod. A Job may ignore such pods by its podFailurePolicy.
const disruptionReason = "RefusedByCloud"

// replaceable tells whether failing the pod helps it: somebody makes another one,
// which Autoburst sends elsewhere. It does so with what it granted only; the
// replacement of any other pod, as that of a DaemonSet's, would come straight back
// to this node.
func replaceable(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOfNoCopy(pod)
	return owner != nil && owner.Kind != "DaemonSet" && pod.Annotations[v1alpha1.GrantAnnotation] != ""
}

// giveUp ends a pod that the cloud has no room for, once that has lasted. It tells
// whether the pod has ended; else it is tried again in place. times is how often the
// cloud refused this pod or another that is no larger.
//
// The node must be known to the API server as one without room first, or the
// replacement would be sent here too; and there must be no group.
func (r *reconciler) giveUp(ctx context.Context, uid types.UID, v view, refusal error, times int) (ended bool, err error) {
	now := r.clock.Now()
	var lasted time.Duration
	r.change(uid, func(rec *record) {
		if rec.refusals++; rec.refusals == 1 {
			rec.refused = now
		}
		lasted = now.Sub(rec.refused)
	})
	if !replaceable(v.pod) || times < r.cfg.Refusals || lasted < r.cfg.RefusalGrace || !r.health.shownFull() {
		return false, nil
	}
	if fresh := r.look(uid); len(fresh.groups) > 0 || !fresh.proven {
		r.sweepSoon()
		return false, nil
	}
	return true, r.refusePod(ctx, uid, v, string(providers.ClassOf(refusal)), fmt.Sprintf(
		"%s has no room for this pod: %s. It refused it, or pods no larger, %d times in %s. The pod's owner replaces it; the replacement runs on another node, or waits until there is room here (condition %s of node %s).",
		r.provider.Name(), clipped(refusal), times, lasted.Round(time.Second), v1alpha1.CapacityAvailableCondition, r.cfg.Node.Name))
}

// refusedLate ends a pod whose group the cloud accepted and then found no room for.
// ECI makes no second group for the same pod, so it is not tried again in place,
// whosever the pod is.
func (r *reconciler) refusedLate(ctx context.Context, uid types.UID, v view, s *providers.GroupStatus) (time.Duration, error) {
	everybodys := s.Refused != providers.NoSuchStock
	if everybodys {
		r.health.refusedLate(r.applicant(v.pod).size, &providers.Error{Class: s.Refused, Operation: "Create", Code: s.Reason, Message: s.Message})
	}
	if everybodys && replaceable(v.pod) && !r.health.shownFull() {
		return time.Second, nil
	}
	text := s.Reason
	if s.Message != "" {
		text += ": " + strings.TrimSuffix(cut(s.Message, eventMessageLimit/2), ".")
	}
	return 0, r.refusePod(ctx, uid, v, string(s.Refused), fmt.Sprintf(
		"%s accepted this pod and then had no room for it: %s. If the pod has an owner, it is replaced; the replacement runs on another node, or waits until there is room here (condition %s of node %s). If not, create it anew.",
		r.provider.Name(), text, v1alpha1.CapacityAvailableCondition, r.cfg.Node.Name))
}

// refusePod fails a pod that the cloud refused for good, with the condition by which
// a Job may tell that from a failure of the pod's own.
func (r *reconciler) refusePod(ctx context.Context, uid types.UID, v view, reason, message string) error {
	r.metrics.refused.Inc()
	r.events.pod(v.pod, occurrence{warning: true, reason: reason, message: message})
	r.log.Info("pod refused by the cloud", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "reason", reason, "message", message)
	now := r.clock.Now()
	st := failedStatus(v.pod, reason, message, r.place(), v.started, now)
	setCondition(v.pod, &st, corev1.DisruptionTarget, true, disruptionReason, message, now)
	return r.writeFailed(ctx, uid, v, st)
}

// wasRefused tells whether the pod was ended because the cloud refused it.
func wasRefused(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed && v1alpha1.IsRefusal(pod.Status.Reason)
}

// clipped is the text of an error of the cloud, to be continued. The request's ID
// is in the event of each try.
func clipped(err error) string {
	var e *providers.Error
	if errors.As(err, &e) {
		stable := *e
		stable.RequestID = ""
		err = &stable
	}
	return cut(strings.TrimSuffix(err.Error(), "."), eventMessageLimit/2)
}
