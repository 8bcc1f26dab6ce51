package vnode

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

const (
	// reasonDisplaced is the reason of a pod whose machine the cloud took away and
	// will replace.
	reasonDisplaced  = "WaitingForMachine"
	displacedMessage = "The cloud took the machine of the container group away, as it may with a Spot group, and starts the containers again when it has another."
	// reasonPlaced is the reason of the condition DisruptionTarget once it has.
	reasonPlaced = "StartedAgainByCloud"
)

// displaced notes on the status of a pod that the cloud has taken its machine away,
// or given it another. The condition DisruptionTarget is True from the one to the
// other. Kubernetes takes it back after two minutes from a pod that is not deleted;
// that is left so, and no new eviction.
func displaced(pod *corev1.Pod, st *corev1.PodStatus, g *providers.GroupStatus, now time.Time) {
	if !g.Spot || st.Phase != corev1.PodRunning {
		return
	}
	before := disruption(st.Conditions)
	if !g.Displaced {
		runs := slices.ContainsFunc(st.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.State.Running != nil })
		if runs && before != nil && (before.Reason == reasonReclaimed || before.Reason == "" && before.Status == corev1.ConditionFalse) {
			setCondition(pod, st, corev1.DisruptionTarget, false, reasonPlaced, "The containers run on another machine.", now)
		}
		return
	}
	if !hasRun(pod) {
		return
	}
	st.Reason, st.Message = reasonDisplaced, displacedMessage
	if before == nil || before.Reason == reasonPlaced {
		setCondition(pod, st, corev1.DisruptionTarget, true, reasonReclaimed, displacedMessage, now)
	}
}

// tellDisplaced makes an event of each time that the machine is taken away. The
// condition's last change tells one from another, also for an agent that has
// restarted.
func (r *reconciler) tellDisplaced(pod *corev1.Pod, st *corev1.PodStatus) {
	before, after := disruption(pod.Status.Conditions), disruption(st.Conditions)
	if st.Reason != reasonDisplaced || after == nil || after.Reason != reasonReclaimed || before != nil && before.Reason != reasonPlaced {
		return
	}
	key := ""
	if before != nil {
		key = fmt.Sprint(before.LastTransitionTime.Unix())
	}
	r.events.pod(pod, occurrence{warning: true, reason: reasonReclaimed, message: displacedMessage, key: key})
}

func disruption(conditions []corev1.PodCondition) *corev1.PodCondition {
	i := slices.IndexFunc(conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.DisruptionTarget })
	if i < 0 {
		return nil
	}
	return &conditions[i]
}
