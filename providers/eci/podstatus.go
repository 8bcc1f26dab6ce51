package eci

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// statusAnswer is a group as DescribeContainerGroupStatus shows it. The metadata
// prints its members in one spelling and the examples in another; they are read
// without regard to case.
type statusAnswer struct {
	ContainerGroupID string `json:"ContainerGroupId"`
	Status           string
	PodStatus        *podStatusAnswer

	raw json.RawMessage
}

type podStatusAnswer struct {
	PodIP             string
	ContainerStatuses []podContainerAnswer
}

type podContainerAnswer struct {
	Name, Image      string
	Ready            boolean
	RestartCount     number
	State, LastState podStateAnswer
}

// podStateAnswer is a container's state in Kubernetes' form.
type podStateAnswer struct {
	Waiting *struct{ Reason, Message string }
	Running *struct {
		StartedAt wireTime
		// Misspelt in the published metadata.
		StartedAtAsPrinted wireTime `json:"StartedAtstartedAt"`
	}
	Terminated *struct {
		Reason, Message       string
		ExitCode, Signal      number
		StartedAt, FinishedAt wireTime
	}
}

// tellsAll is whether the answer tells as much as a description would, of a
// group that was described before: nothing waits, was restarted or is not ready any
// more for a reason that only events explain, nothing has failed, and the init
// containers, which it does not show, have ended.
func (a *statusAnswer) tellsAll(before *providers.GroupStatus) bool {
	if before == nil || a.PodStatus == nil || len(a.PodStatus.ContainerStatuses) != len(before.Containers) {
		return false
	}
	phase, ok := phases[a.Status]
	if !ok || phase == providers.GroupFailed {
		return false
	}
	if a.Status == statusTerminating {
		return true
	}
	if !initialized(before) {
		return false
	}
	for i := range a.PodStatus.ContainerStatuses {
		c := &a.PodStatus.ContainerStatuses[i]
		at := slices.IndexFunc(before.Containers, func(was corev1.ContainerStatus) bool { return was.Name == c.Name })
		if at < 0 || int32(c.RestartCount) > before.Containers[at].RestartCount || before.Containers[at].Ready && !bool(c.Ready) {
			return false // why, the events say: a probe that failed, memory that ran out
		}
		switch s := &c.State; {
		case s.Running != nil:
		case s.Terminated != nil:
			if s.Terminated.ExitCode != 0 {
				return false
			}
		case phase != providers.GroupPending:
			return false
		case s.Waiting != nil && s.Waiting.Reason != "" && s.Waiting.Reason != "ContainerCreating":
			return false
		}
	}
	return true
}

// status is the state that the answer tells, completed by what does not change.
func (a *statusAnswer) status(before *providers.GroupStatus) *providers.GroupStatus {
	g := groupAnswer{ContainerGroupID: a.ContainerGroupID, Status: a.Status, IntranetIP: a.PodStatus.PodIP}
	for i := range a.PodStatus.ContainerStatuses {
		c := &a.PodStatus.ContainerStatuses[i]
		g.Containers = append(g.Containers, containerAnswer{
			Name: c.Name, Image: c.Image, Ready: c.Ready, RestartCount: c.RestartCount,
			CurrentState: c.State.answer(), PreviousState: c.LastState.answer(),
		})
	}
	s := g.status()
	s.CPUMillis, s.MemoryBytes, s.InitContainers = before.CPUMillis, before.MemoryBytes, before.InitContainers
	s.ReclaimNotice = before.ReclaimNotice
	return s
}

// answer is the state in the words of DescribeContainerGroups.
func (s *podStateAnswer) answer() stateAnswer {
	switch {
	case s.Running != nil:
		at := s.Running.StartedAt
		if at.IsZero() {
			at = s.Running.StartedAtAsPrinted
		}
		return stateAnswer{State: "Running", StartTime: at}
	case s.Terminated != nil:
		t := s.Terminated
		return stateAnswer{
			State: "Terminated", Reason: t.Reason, Message: t.Message, ExitCode: t.ExitCode, Signal: t.Signal,
			StartTime: t.StartedAt, FinishTime: t.FinishedAt,
		}
	case s.Waiting != nil:
		return stateAnswer{State: "Waiting", Reason: s.Waiting.Reason, Message: s.Waiting.Message}
	}
	return stateAnswer{}
}

// initialized is whether all init containers have ended well.
func initialized(s *providers.GroupStatus) bool {
	if s == nil {
		return false
	}
	for i := range s.InitContainers {
		if !s.InitContainers[i].Ready {
			return false
		}
	}
	return true
}
