package vnode

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// Reasons in the status of pods, beside those of the cloud.
const (
	// ReasonUnsupported: the pod asks for what the cloud cannot carry out.
	ReasonUnsupported = "UnsupportedPod"
	// ReasonRefused: the cloud refused the pod for good.
	ReasonRefused = v1alpha1.PodRefused
	// ReasonOutOfStock and ReasonQuotaExceeded: the cloud had no room for the pod.
	ReasonOutOfStock    = v1alpha1.PodOutOfStock
	ReasonQuotaExceeded = v1alpha1.PodQuotaExceeded
	// ReasonVanished: the pod's group ended in the cloud unasked.
	ReasonVanished = "GroupVanished"
	// ReasonDeadline: spec.activeDeadlineSeconds has passed.
	ReasonDeadline = "DeadlineExceeded"

	reasonCreating      = "ContainerCreating"
	reasonInitializing  = "PodInitializing"
	reasonConfigError   = "CreateContainerConfigError"
	reasonStatusUnknown = "ContainerStatusUnknown"
	reasonPullFailed    = "ErrImagePull"

	// reasonReclaimed is the reason of the condition DisruptionTarget of a pod whose
	// machine the cloud took away.
	reasonReclaimed = "ReclaimedByCloud"

	// Reasons of events only.
	reasonInternal   = "InternalError"
	reasonNotDeleted = "GroupNotDeleted"
	reasonRestarted  = "RestartedByCloud"
	// reasonTokenEnds: a token of the pod may end before the pod does.
	reasonTokenEnds = "TokenEndsEarly"
)

// exitKilled is the exit code that the kubelet reports for a container whose
// end it did not see: 128 + SIGKILL.
const exitKilled = 137

// place is where a pod runs, as its status shows it.
type place struct{ hostIP string }

// runningStatus is the status of a pod whose group the cloud knows.
func runningStatus(pod *corev1.Pod, g *providers.GroupStatus, p place, started, now time.Time) corev1.PodStatus {
	st := base(pod, p, started)
	// The cloud may run sidecars among the containers.
	st.InitContainerStatuses = containerStatuses(pod, pod.Spec.InitContainers, pod.Status.InitContainerStatuses, slices.Concat(g.InitContainers, g.Containers), g, true)
	st.ContainerStatuses = containerStatuses(pod, pod.Spec.Containers, pod.Status.ContainerStatuses, g.Containers, g, false)
	if g.PodIP != "" {
		st.PodIP, st.PodIPs = g.PodIP, []corev1.PodIP{{IP: g.PodIP}}
	} else {
		st.PodIP, st.PodIPs = pod.Status.PodIP, pod.Status.PodIPs
	}
	st.Phase = corev1.PodPhase(g.Phase)
	st.Reason, st.Message = g.Reason, g.Message
	switch {
	case pod.Status.Phase == corev1.PodRunning && g.Phase == providers.GroupPending:
		// A pod that ran does not become Pending again: the cloud is moving or
		// restarting its group.
		st.Phase = corev1.PodRunning
	case g.Phase == "":
		st.Phase = cmp.Or(pod.Status.Phase, corev1.PodPending)
	}
	setConditions(pod, &st, now)
	if g.ReclaimNotice != "" && (st.Phase == corev1.PodRunning || st.Phase == corev1.PodPending) {
		setCondition(pod, &st, corev1.DisruptionTarget, true, reasonReclaimed, cut(g.ReclaimNotice, eventMessageLimit), now)
	}
	if g.Reclaimed && st.Phase == corev1.PodFailed {
		setCondition(pod, &st, corev1.DisruptionTarget, true, reasonReclaimed, cmp.Or(st.Message, "The cloud took the machine of the container group away."), now)
	}
	displaced(pod, &st, g, now)
	return st
}

// waitingStatus is the status of a pod that has no group yet, and why.
func waitingStatus(pod *corev1.Pod, reason, message, containerReason string, p place, started, now time.Time) corev1.PodStatus {
	st := base(pod, p, started)
	st.Phase, st.Reason, st.Message = corev1.PodPending, reason, message
	st.InitContainerStatuses = waitingContainers(pod.Spec.InitContainers, containerReason, message)
	if containerReason == reasonCreating && len(pod.Spec.InitContainers) > 0 {
		containerReason = reasonInitializing
	}
	st.ContainerStatuses = waitingContainers(pod.Spec.Containers, containerReason, message)
	setConditions(pod, &st, now)
	return st
}

// failedStatus is the status of a pod that ended without the cloud saying how.
func failedStatus(pod *corev1.Pod, reason, message string, p place, started, now time.Time) corev1.PodStatus {
	st := base(pod, p, started)
	st.Phase, st.Reason, st.Message = corev1.PodFailed, reason, message
	st.PodIP, st.PodIPs = pod.Status.PodIP, pod.Status.PodIPs
	if hasRun(pod) {
		st.InitContainerStatuses = ended137(pod.Status.InitContainerStatuses, now)
		st.ContainerStatuses = ended137(pod.Status.ContainerStatuses, now)
	}
	setConditions(pod, &st, now)
	return st
}

func base(pod *corev1.Pod, p place, started time.Time) corev1.PodStatus {
	st := corev1.PodStatus{
		ObservedGeneration: pod.Generation,
		Conditions:         slices.Clone(pod.Status.Conditions),
		QOSClass:           pod.Status.QOSClass,
		StartTime:          pod.Status.StartTime,
		NominatedNodeName:  pod.Status.NominatedNodeName,
		HostIP:             pod.Status.HostIP,
		HostIPs:            pod.Status.HostIPs,
	}
	// A pod's host stays the one that it started on, whichever agent leads.
	if st.HostIP == "" && p.hostIP != "" {
		st.HostIP, st.HostIPs = p.hostIP, []corev1.HostIP{{IP: p.hostIP}}
	}
	if st.StartTime == nil {
		// The API keeps seconds only.
		st.StartTime = ptr.To(metav1.NewTime(started).Rfc3339Copy())
	}
	return st
}

func waitingContainers(containers []corev1.Container, reason, message string) []corev1.ContainerStatus {
	var list []corev1.ContainerStatus
	if reason == reasonCreating || reason == reasonInitializing {
		message = ""
	}
	for _, c := range containers {
		list = append(list, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Started: ptr.To(false),
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		})
	}
	return list
}

// containerStatuses completes what the cloud reports: one status for each
// container, in the order of the pod, in a form that the API server accepts
// after what it holds now.
func containerStatuses(pod *corev1.Pod, containers []corev1.Container, before, reported []corev1.ContainerStatus,
	g *providers.GroupStatus, init bool,
) []corev1.ContainerStatus {
	var list []corev1.ContainerStatus
	for i := range containers {
		c := &containers[i]
		init := init && !burstable.IsSidecar(c)
		st := corev1.ContainerStatus{}
		if i := slices.IndexFunc(reported, func(s corev1.ContainerStatus) bool { return s.Name == c.Name }); i >= 0 {
			st = *reported[i].DeepCopy()
		}
		old := corev1.ContainerStatus{}
		if i := slices.IndexFunc(before, func(s corev1.ContainerStatus) bool { return s.Name == c.Name }); i >= 0 {
			old = before[i]
		}
		st.Name = c.Name
		st.Image = cmp.Or(st.Image, c.Image)
		wholeSeconds(&st.State)
		wholeSeconds(&st.LastTerminationState)
		if st.State == (corev1.ContainerState{}) {
			st.State.Waiting = &corev1.ContainerStateWaiting{}
		}
		if w := st.State.Waiting; w != nil {
			if w.Reason == "" {
				w.Reason = reasonCreating
				if !init && len(pod.Spec.InitContainers) > 0 {
					w.Reason = reasonInitializing
				}
			}
			if pull := pullProblem(c.Name, g.Events); pull != nil && (w.Reason == reasonCreating || w.Reason == "Waiting") {
				w.Reason, w.Message = reasonPullFailed, cut(pull.Message, eventMessageLimit)
			}
			st.Ready = false
		}
		if t := st.State.Terminated; t != nil {
			st.Ready = init && t.ExitCode == 0
			if t.Reason == "" {
				t.Reason = "Error"
				if t.ExitCode == 0 {
					t.Reason = "Completed"
				}
			}
		}
		if old.State.Terminated != nil && st.State.Terminated == nil && !burstable.IsSidecar(c) && final(pod.Spec.RestartPolicy, old.State.Terminated, init) {
			// What has ended for good by the pod's restart policy stays ended; the
			// API server refuses anything else.
			st = old
		}
		st.RestartCount = max(st.RestartCount, old.RestartCount)
		if st.Started == nil {
			st.Started = ptr.To(st.State.Running != nil)
		}
		list = append(list, st)
	}
	return list
}

// wholeSeconds drops the parts of seconds that the API does not keep: with them a
// status would differ from the one that was written, and be written at each look.
func wholeSeconds(s *corev1.ContainerState) {
	if r := s.Running; r != nil {
		r.StartedAt = r.StartedAt.Rfc3339Copy()
	}
	if t := s.Terminated; t != nil {
		t.StartedAt, t.FinishedAt = t.StartedAt.Rfc3339Copy(), t.FinishedAt.Rfc3339Copy()
	}
}

// final tells whether a container that ended so is never started again.
func final(policy corev1.RestartPolicy, t *corev1.ContainerStateTerminated, init bool) bool {
	return policy == corev1.RestartPolicyNever || t.ExitCode == 0 && (init || policy == corev1.RestartPolicyOnFailure)
}

// pullProblem is the newest warning about a container's image.
func pullProblem(container string, events []providers.Event) *providers.Event {
	var newest *providers.Event
	for i := range events {
		e := &events[i]
		if !e.Warning || e.Container != "" && e.Container != container {
			continue
		}
		reason, message := strings.ToLower(e.Reason), strings.ToLower(e.Message)
		if !strings.Contains(reason, "pull") && !strings.Contains(message, "pull image") && !strings.Contains(message, "pulling image") {
			continue
		}
		if newest == nil || e.Last.After(newest.Last) {
			newest = e
		}
	}
	return newest
}

// ended137 turns containers that have not ended into ended ones, as the kubelet
// does for those whose end it did not see.
func ended137(before []corev1.ContainerStatus, now time.Time) []corev1.ContainerStatus {
	var list []corev1.ContainerStatus
	for _, s := range before {
		s = *s.DeepCopy()
		if s.State.Terminated == nil {
			t := &corev1.ContainerStateTerminated{
				ExitCode: exitKilled, Reason: reasonStatusUnknown,
				Message:     "The container could not be located when the pod's container group ended.",
				FinishedAt:  metav1.NewTime(now).Rfc3339Copy(),
				ContainerID: s.ContainerID,
			}
			if r := s.State.Running; r != nil {
				t.StartedAt = r.StartedAt
			}
			s.State = corev1.ContainerState{Terminated: t}
		}
		s.Ready = false
		s.Started = ptr.To(false)
		list = append(list, s)
	}
	return list
}

// setConditions computes the conditions that a node owns. All others, such as
// those of readiness gates, stay as they are.
func setConditions(pod *corev1.Pod, st *corev1.PodStatus, now time.Time) {
	done := st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed

	if !slices.ContainsFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodScheduled }) {
		setCondition(pod, st, corev1.PodScheduled, true, "", "", now)
	}

	begun := st.PodIP != "" && !done
	for _, list := range [][]corev1.ContainerStatus{st.InitContainerStatuses, st.ContainerStatuses} {
		for _, s := range list {
			begun = begun || s.State.Running != nil
		}
	}
	setCondition(pod, st, corev1.PodReadyToStartContainers, begun, "", "", now)

	var waiting []string
	for j := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[j]
		i := slices.IndexFunc(st.InitContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 || !passed(c, &st.InitContainerStatuses[i]) {
			waiting = append(waiting, c.Name)
		}
	}
	switch {
	case st.Phase == corev1.PodSucceeded:
		setCondition(pod, st, corev1.PodInitialized, true, "PodCompleted", "", now)
	case len(waiting) > 0:
		setCondition(pod, st, corev1.PodInitialized, false, "ContainersNotInitialized", "containers with incomplete status: ["+strings.Join(waiting, " ")+"]", now)
	default:
		setCondition(pod, st, corev1.PodInitialized, true, "", "", now)
	}

	var unready []string
	for j := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[j]
		i := slices.IndexFunc(st.InitContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if burstable.IsSidecar(c) && (i < 0 || !st.InitContainerStatuses[i].Ready) {
			unready = append(unready, c.Name)
		}
	}
	for _, c := range pod.Spec.Containers {
		i := slices.IndexFunc(st.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 || !st.ContainerStatuses[i].Ready {
			unready = append(unready, c.Name)
		}
	}
	ready, reason, message := true, "", ""
	switch {
	case st.Phase == corev1.PodSucceeded:
		ready, reason = false, "PodCompleted"
	case st.Phase == corev1.PodFailed:
		ready, reason = false, "PodFailed"
	case len(unready) > 0:
		ready, reason, message = false, "ContainersNotReady", "containers with unready status: ["+strings.Join(unready, " ")+"]"
	}
	setCondition(pod, st, corev1.ContainersReady, ready, reason, message, now)

	if ready {
		var closed []string
		for _, gate := range pod.Spec.ReadinessGates {
			i := slices.IndexFunc(st.Conditions, func(c corev1.PodCondition) bool { return c.Type == gate.ConditionType })
			if i < 0 || st.Conditions[i].Status != corev1.ConditionTrue {
				closed = append(closed, string(gate.ConditionType))
			}
		}
		if len(closed) > 0 {
			ready, reason, message = false, "ReadinessGatesNotReady", "conditions that are not true: ["+strings.Join(closed, " ")+"]"
		}
	}
	setCondition(pod, st, corev1.PodReady, ready, reason, message, now)
}

// passed tells whether the pod's start need not wait for an init container any more.
func passed(c *corev1.Container, s *corev1.ContainerStatus) bool {
	if burstable.IsSidecar(c) {
		return s.Started != nil && *s.Started || s.State.Terminated != nil || s.RestartCount > 0
	}
	return s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
}

func setCondition(pod *corev1.Pod, st *corev1.PodStatus, kind corev1.PodConditionType, value bool, reason, message string, now time.Time) {
	c := corev1.PodCondition{
		Type: kind, Status: corev1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(), ObservedGeneration: pod.Generation,
	}
	if value {
		c.Status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(st.Conditions, func(old corev1.PodCondition) bool { return old.Type == kind })
	if i < 0 {
		st.Conditions = append(st.Conditions, c)
		return
	}
	if old := st.Conditions[i]; old.Status == c.Status {
		c.LastTransitionTime = old.LastTransitionTime
		c.LastProbeTime = old.LastProbeTime
	}
	st.Conditions[i] = c
}

// settled tells whether a running pod's status is one that stays.
func settled(st *corev1.PodStatus) bool {
	if st.Phase != corev1.PodRunning {
		return false
	}
	for _, s := range st.ContainerStatuses {
		if s.State.Running == nil || !s.Ready {
			return false
		}
	}
	return true
}
