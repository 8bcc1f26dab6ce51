package aci

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// Exit codes of containers that the platform ended for maintenance (service
// documentation). It starts them again, whatever the restart policy says.
const (
	exitMaintenance        = 7147
	exitMaintenanceRestart = 7148
)

const (
	reasonMaintenance  = "PlatformMaintenance"
	maintenanceMessage = "The platform ended the container for maintenance."
)

func isMaintenance(t *corev1.ContainerStateTerminated) bool {
	return t != nil && (t.ExitCode == exitMaintenance || t.ExitCode == exitMaintenanceRestart)
}

// ended are the states of a group that stay.
var ended = []string{"failed", "succeeded", "stopped", "terminated"}

// tellMaintenance makes an event of each end of a container by the platform. As long
// as the group has not ended, such a container waits for its next start: said to
// have ended, a pod that is never restarted would have failed for good.
func tellMaintenance(status *providers.GroupStatus, state string) {
	for _, list := range [][]corev1.ContainerStatus{status.InitContainers, status.Containers} {
		for i := range list {
			c := &list[i]
			t := c.State.Terminated
			switch {
			case isMaintenance(t) && !slices.Contains(ended, state):
				c.LastTerminationState.Terminated = t
				c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonMaintenance, Message: maintenanceMessage}}
			case !isMaintenance(t):
				t = c.LastTerminationState.Terminated
			}
			if !isMaintenance(t) || t.FinishedAt.IsZero() {
				continue
			}
			status.Events = append(status.Events, providers.Event{
				Warning: true, Reason: reasonMaintenance, Container: c.Name, Count: 1,
				Message: fmt.Sprintf("%s Its exit code is %d.", maintenanceMessage, t.ExitCode),
				First:   t.FinishedAt.Time, Last: t.FinishedAt.Time,
			})
		}
	}
}

// troubles are reasons of a container's own to wait.
var troubles = []string{reasonCrashLoopBackOff, reasonErrImagePull, reasonImagePullBackOff, reasonStartError}

// displaced tells whether a group has no machine: an evicted Spot group is started
// again by the service, and until then its containers wait. More is not published
// of how an eviction shows; a container that is started again in place waits too,
// but its group keeps running.
func displaced(status *providers.GroupStatus, state string) bool {
	if state == "running" || status.Phase != providers.GroupPending && status.Phase != providers.GroupRunning {
		return false
	}
	for _, c := range status.InitContainers {
		if c.State.Running != nil {
			return false
		}
	}
	return len(status.Containers) > 0 && !slices.ContainsFunc(status.Containers, func(c corev1.ContainerStatus) bool {
		return c.State.Waiting == nil || slices.Contains(troubles, c.State.Waiting.Reason)
	})
}
