package eci

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

// groupAnswer is a group as DescribeContainerGroups shows it, as far as it
// matters here.
type groupAnswer struct {
	ContainerGroupID   string `json:"ContainerGroupId"`
	ContainerGroupName string
	Status             string
	CreationTime       wireTime
	IntranetIP         string `json:"IntranetIp"`
	CPU                number `json:"Cpu"`
	Memory             number
	InstanceType       string
	SpotStrategy       string
	Tags               []tag
	InitContainers     []containerAnswer
	Containers         []containerAnswer
	Events             []eventAnswer
}

type containerAnswer struct {
	Name, Image   string
	Ready         boolean
	RestartCount  number
	CurrentState  stateAnswer
	PreviousState stateAnswer
}

type stateAnswer struct {
	State, DetailStatus   string
	Reason, Message       string
	ExitCode, Signal      number
	StartTime, FinishTime wireTime
}

type eventAnswer struct {
	Type, Reason, Message         string
	Count                         number
	FirstTimestamp, LastTimestamp wireTime
}

// number is a number that may be written as a text, as the vendor's SDKs
// allow. An empty text is 0.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "" || s == "null" {
		return nil
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("not a number")
	}
	*n = number(f)
	return nil
}

// boolean may be written as a text too.
type boolean bool

func (v *boolean) UnmarshalJSON(b []byte) error {
	*v = boolean(strings.EqualFold(strings.Trim(string(b), `"`), "true"))
	return nil
}

// wireTime is a time in RFC 3339; what is none is the zero time, since a group
// with a strange time is still a group.
type wireTime struct{ time.Time }

func (t *wireTime) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) != nil {
		return nil //nolint:nilerr // see above: the zero time
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		t.Time = at
	}
	return nil
}

// Group states (ECI, "Lifecycle of an elastic container instance"). A state
// that is not in the table is not guessed at.
var phases = map[string]providers.GroupPhase{
	"Scheduling":      providers.GroupPending,
	"ScheduleFailed":  providers.GroupFailed,
	"Pending":         providers.GroupPending,
	"Running":         providers.GroupRunning,
	"Restarting":      providers.GroupPending,
	"Updating":        providers.GroupPending,
	statusTerminating: providers.GroupRunning,
	"Succeeded":       providers.GroupSucceeded,
	"Failed":          providers.GroupFailed,
	"Expired":         providers.GroupFailed,
}

// statusTerminating is the state of a group whose deletion is under way.
const statusTerminating = "Terminating"

// serviceReasons are the reasons of events that the service itself writes, and
// that explain why a group does not run (ECI, "Events", 2025-12-11).
var serviceReasons = map[string]bool{
	"NoStock": true, "StockExhaust": true, "StockClose": true, "InsufficientBalance": true,
	"FailedScheduling": true, "UnknownError": true, "DiskCapacityQuotaFull": true, "AttachDiskFailed": true,
	"CpuOptionsNotSupported": true, "CpuOptionsNotValid": true, reasonReclaim: true,
}

// reasonReclaim is that of the event that comes some minutes before the machine of a
// spot instance is taken away.
const reasonReclaim = "SpotToBeReleased"

// stockReasons are those of them that tell of a lack of machines.
var stockReasons = map[string]bool{"NoStock": true, "StockExhaust": true, "StockClose": true}

func (g *groupAnswer) group() providers.Group {
	return providers.Group{
		ID: g.ContainerGroupID, Name: g.ContainerGroupName,
		Owner: ownerOf(g.Tags), CreatedAt: g.CreationTime.Time,
		Deleting: g.Status == statusTerminating,
		Status:   g.status(),
	}
}

// spot is whether the cloud may take the group's machine away.
func (g *groupAnswer) spot() bool { return g.SpotStrategy != "" && g.SpotStrategy != "NoSpot" }

// status is nil for a state that is not published.
func (g *groupAnswer) status() *providers.GroupStatus {
	phase, ok := phases[g.Status]
	if !ok {
		return nil
	}
	s := &providers.GroupStatus{
		Phase: phase, PodIP: g.IntranetIP,
		CPUMillis:   int64(math.Round(float64(g.CPU) * 1000)),
		MemoryBytes: int64(math.Round(float64(g.Memory) * (1 << 30))),
	}
	if g.Status == "ScheduleFailed" || g.Status == "Expired" {
		s.Reason = g.Status
	}
	s.Reclaimed = g.Status == "Expired"
	initDone := true
	for i := range g.InitContainers {
		c := g.InitContainers[i].status(g.ContainerGroupID, "PodInitializing")
		c.Ready = c.State.Terminated != nil && c.State.Terminated.ExitCode == 0
		initDone = initDone && c.Ready
		s.InitContainers = append(s.InitContainers, c)
	}
	waiting := "ContainerCreating"
	if !initDone {
		waiting = "PodInitializing"
	}
	for i := range g.Containers {
		s.Containers = append(s.Containers, g.Containers[i].status(g.ContainerGroupID, waiting))
	}
	if why := valueOf(g.Tags, tagInstead); why != "" {
		s.Events = append(s.Events, providers.Event{
			Reason: "SpotFallback", Message: "The container group runs on demand in place of a spot instance: " + why + ".",
			Count: 1, First: g.CreationTime.Time, Last: g.CreationTime.Time,
		})
	}
	for _, e := range g.Events {
		s.Events = append(s.Events, providers.Event{
			Warning: e.Type == corev1.EventTypeWarning, Reason: e.Reason, Message: e.Message,
			Count: max(1, int32(e.Count)), First: e.FirstTimestamp.Time, Last: e.LastTimestamp.Time,
		})
		if e.Reason == reasonReclaim {
			s.ReclaimNotice = cmp.Or(e.Message, "ECI takes the machine of the container group away soon.")
		}
		if serviceReasons[e.Reason] && phase != providers.GroupRunning && phase != providers.GroupSucceeded {
			s.Reason, s.Message = e.Reason, e.Message // the newest comes last
			if g.Status == "ScheduleFailed" && stockReasons[e.Reason] {
				if s.Refused = providers.OutOfStock; g.spot() || g.InstanceType != "" {
					s.Refused = providers.NoSuchStock
				}
			}
		}
	}
	return s
}

// status is the container in Kubernetes' form. waiting is the reason of a
// container that has not started and for which the cloud gives none.
func (c *containerAnswer) status(group, waiting string) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.Name, Image: c.Image, Ready: bool(c.Ready), RestartCount: int32(c.RestartCount),
		State: c.CurrentState.state(group, c.Name, waiting),
	}
	if last := c.PreviousState.state(group, c.Name, ""); last.Terminated != nil {
		s.LastTerminationState = last
	}
	started := s.State.Running != nil
	s.Started = &started
	if started || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
		s.ContainerID = containerID(group, c.Name)
	}
	return s
}

// containerID has the form that Kubernetes wants; the cloud gives no ID.
func containerID(group, name string) string { return Name + "://" + group + "/" + name }

func (s *stateAnswer) state(group, name, waiting string) corev1.ContainerState {
	reason := s.Reason
	if reason == "" {
		reason = s.DetailStatus
	}
	switch s.State {
	case "Running":
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(s.StartTime.Time)}}
	case "Terminated":
		t := &corev1.ContainerStateTerminated{
			ExitCode: int32(s.ExitCode), Signal: int32(s.Signal), Reason: reason, Message: s.Message,
			StartedAt: metav1.NewTime(s.StartTime.Time), FinishedAt: metav1.NewTime(s.FinishTime.Time),
			ContainerID: containerID(group, name),
		}
		if t.Reason == "" {
			t.Reason = "Error"
			if t.ExitCode == 0 {
				t.Reason = "Completed"
			}
		}
		return corev1.ContainerState{Terminated: t}
	default:
		if reason == "" {
			reason = waiting
		}
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: s.Message}}
	}
}
