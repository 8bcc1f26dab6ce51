package aci

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	sdk "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerinstance/armcontainerinstance/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

// Reasons of a group that Kubernetes has no word of its own for.
const (
	// reasonStopped: somebody stopped the group outside of the cluster.
	reasonStopped = "Stopped"
	// reasonProvisioningFailed: the service gave up deploying the group.
	reasonProvisioningFailed = "ProvisioningFailed"
)

// groupStatus is the state of a group as a GET reports it. Any part of the
// answer may be missing.
func groupStatus(g *sdk.ContainerGroup, now time.Time) *providers.GroupStatus {
	status := &providers.GroupStatus{Phase: providers.GroupPending}
	properties := g.Properties
	if properties == nil {
		return status
	}
	if properties.IPAddress != nil {
		status.PodIP = value(properties.IPAddress.IP)
	}
	initialized := true
	for _, c := range properties.InitContainers {
		if c == nil {
			continue
		}
		s := initContainerStatus(c)
		if t := s.State.Terminated; t == nil || t.ExitCode != 0 {
			initialized = false
		}
		status.InitContainers = append(status.InitContainers, s)
		if c.Properties != nil && c.Properties.InstanceView != nil {
			status.Events = append(status.Events, events(value(c.Name), c.Properties.InstanceView.Events)...)
		}
	}
	for _, c := range properties.Containers {
		if c == nil {
			continue
		}
		status.Containers = append(status.Containers, containerStatus(c, initialized, now))
		if c.Properties == nil {
			continue
		}
		if c.Properties.InstanceView != nil {
			status.Events = append(status.Events, events(value(c.Name), c.Properties.InstanceView.Events)...)
		}
		if r := c.Properties.Resources; r != nil && r.Requests != nil {
			status.CPUMillis += int64(math.Round(value(r.Requests.CPU) * 1000))
			status.MemoryBytes += int64(math.Round(value(r.Requests.MemoryInGB) * 1e9))
		}
	}
	if properties.InstanceView != nil {
		status.Events = append(status.Events, events("", properties.InstanceView.Events)...)
	}
	tellMaintenance(status, groupState(properties))
	slices.SortStableFunc(status.Events, func(a, b providers.Event) int { return a.Last.Compare(b.Last) })
	setPhase(status, properties)
	status.Spot = value(properties.Priority) == sdk.ContainerGroupPrioritySpot
	status.Displaced = status.Spot && displaced(status, groupState(properties))
	return status
}

// groupState is the state of the group as a whole, in lower case.
func groupState(properties *sdk.ContainerGroupPropertiesProperties) string {
	if properties.InstanceView == nil {
		return ""
	}
	return strings.ToLower(value(properties.InstanceView.State))
}

// setPhase draws the phase from the group's state and, where that says nothing
// final, from the containers. The state names that the service documents are
// Pending, Running, Stopped, Succeeded and Failed; others are seen.
func setPhase(status *providers.GroupStatus, properties *sdk.ContainerGroupPropertiesProperties) {
	state := ""
	if properties.InstanceView != nil {
		state = value(properties.InstanceView.State)
	}
	failed := strings.EqualFold(value(properties.ProvisioningState), "Failed")
	if short := noCapacity(status.Events); short != nil && failed && !hasRun(status.Containers) && !hasRun(status.InitContainers) {
		status.Phase, status.Refused = providers.GroupFailed, providers.OutOfStock
		status.Reason, status.Message = strings.TrimSuffix(short.Reason, "."), short.Message
		return
	}
	switch strings.ToLower(state) {
	case "running":
		status.Phase = providers.GroupRunning
	case "succeeded":
		status.Phase = providers.GroupSucceeded
	case "failed":
		status.Phase = providers.GroupFailed
		status.Reason, status.Message = failure(status.Containers, status.InitContainers)
	case "stopped":
		status.Phase = providers.GroupFailed
		status.Reason, status.Message = reasonStopped, "The container group was stopped outside of the cluster."
	case "terminated":
		status.Phase = endPhase(status.Containers)
	case "":
		status.Phase = phaseOf(status.Containers, value(properties.RestartPolicy))
	default:
		// Pending, or the service is at work on a group that may have run
		// before (Repairing, Unhealthy, Updating): a pod does not return from
		// Running to Pending.
		if hasRun(status.Containers) {
			status.Phase = providers.GroupRunning
		}
		if !strings.EqualFold(state, "Pending") && reasonRule.MatchString(state) {
			status.Reason = state
		}
	}
	if status.Phase != providers.GroupPending {
		return
	}
	// The service goes on trying, and charging, after it has given up; the
	// pod's owner may do better elsewhere.
	if failed {
		status.Phase = providers.GroupFailed
		status.Reason = reasonProvisioningFailed
		status.Message = cmp.Or(lastWarning(status.Events), "The service gave up deploying the container group.")
		return
	}
	for _, list := range [][]corev1.ContainerStatus{status.InitContainers, status.Containers} {
		for _, c := range list {
			if w := c.State.Waiting; w != nil && (w.Reason == reasonErrImagePull || w.Reason == reasonImagePullBackOff) && status.Reason == "" {
				status.Reason, status.Message = w.Reason, fmt.Sprintf("container %s: %s", c.Name, w.Message)
			}
		}
	}
}

// noCapacity is the event of a deployment that was accepted and then found no
// machine, nil if there is none (seen in public recordings of deployments; its name
// ends in a full stop).
func noCapacity(events []providers.Event) *providers.Event {
	for i := range events {
		if e := &events[i]; strings.EqualFold(strings.TrimSuffix(e.Reason, "."), "InsufficientCapacity") {
			return e
		}
	}
	return nil
}

func endPhase(containers []corev1.ContainerStatus) providers.GroupPhase {
	for _, c := range containers {
		if t := c.State.Terminated; t == nil || t.ExitCode != 0 {
			return providers.GroupFailed
		}
	}
	return providers.GroupSucceeded
}

// phaseOf is the phase of a group that reports no state.
func phaseOf(containers []corev1.ContainerStatus, policy sdk.ContainerGroupRestartPolicy) providers.GroupPhase {
	if !hasRun(containers) {
		return providers.GroupPending
	}
	ended := !slices.ContainsFunc(containers, func(c corev1.ContainerStatus) bool { return c.State.Terminated == nil })
	end := endPhase(containers)
	switch {
	case ended && policy == sdk.ContainerGroupRestartPolicyNever:
		return end
	case ended && policy == sdk.ContainerGroupRestartPolicyOnFailure && end == providers.GroupSucceeded:
		return end
	}
	return providers.GroupRunning
}

func hasRun(containers []corev1.ContainerStatus) bool {
	return slices.ContainsFunc(containers, func(c corev1.ContainerStatus) bool {
		return c.State.Waiting == nil || c.RestartCount > 0 || c.LastTerminationState.Terminated != nil
	})
}

// failure explains a failed group by its first container that failed.
func failure(lists ...[]corev1.ContainerStatus) (reason, message string) {
	for _, list := range lists {
		for _, c := range list {
			if t := c.State.Terminated; t != nil && t.ExitCode != 0 {
				message := fmt.Sprintf("container %s ended with exit code %d", c.Name, t.ExitCode)
				if t.Message != "" {
					message += ": " + t.Message
				}
				return t.Reason, message
			}
		}
	}
	return "", ""
}

// lastWarning is the newest warning, or else the newest event: the service
// gives some failures the type Normal.
func lastWarning(events []providers.Event) string {
	for _, e := range slices.Backward(events) {
		if e.Warning {
			return e.Reason + ": " + e.Message
		}
	}
	if len(events) == 0 {
		return ""
	}
	e := events[len(events)-1]
	return e.Reason + ": " + e.Message
}

func containerStatus(c *sdk.Container, initialized bool, now time.Time) corev1.ContainerStatus {
	status := corev1.ContainerStatus{Name: value(c.Name)}
	var current, previous *sdk.ContainerState
	var seen []*sdk.Event
	waiting := reasonContainerCreating
	if !initialized {
		waiting = reasonPodInitializing
	}
	if p := c.Properties; p != nil {
		status.Image = value(p.Image)
		if v := p.InstanceView; v != nil {
			current, previous, seen = v.CurrentState, v.PreviousState, v.Events
			status.RestartCount = value(v.RestartCount)
		}
	}
	fillState(&status, current, previous, seen, waiting)
	if status.State.Running != nil {
		started := true
		status.Started = &started
		status.Ready = isReady(c.Properties, current, now)
	}
	return status
}

func initContainerStatus(c *sdk.InitContainerDefinition) corev1.ContainerStatus {
	status := corev1.ContainerStatus{Name: value(c.Name)}
	var current, previous *sdk.ContainerState
	var seen []*sdk.Event
	if p := c.Properties; p != nil {
		status.Image = value(p.Image)
		if v := p.InstanceView; v != nil {
			current, previous, seen = v.CurrentState, v.PreviousState, v.Events
			status.RestartCount = value(v.RestartCount)
		}
	}
	fillState(&status, current, previous, seen, reasonPodInitializing)
	// As with a kubelet, an init container is ready when it has succeeded.
	status.Ready = status.State.Terminated != nil && status.State.Terminated.ExitCode == 0
	started := status.State.Running != nil
	status.Started = &started
	return status
}

// Reasons of a waiting container, as a kubelet writes them.
const (
	reasonContainerCreating = "ContainerCreating"
	reasonPodInitializing   = "PodInitializing"
	reasonCrashLoopBackOff  = "CrashLoopBackOff"
	reasonErrImagePull      = "ErrImagePull"
	reasonImagePullBackOff  = "ImagePullBackOff"
	reasonStartError        = "RunContainerError"
)

// reasonRule tells a reason, perhaps with an explanation ("CrashLoopBackOff:
// Back-off restarting failed"), from a sentence.
var (
	reasonRule = regexp.MustCompile(`^[A-Z][A-Za-z]*$`)
	detailRule = regexp.MustCompile(`^([A-Z][A-Za-z]*)(?::\s*(.*))?$`)
)

// detail takes a container's detailStatus apart.
func detail(s *sdk.ContainerState) (reason, message string) {
	text := redactor(nil).event(value(s.DetailStatus))
	if m := detailRule.FindStringSubmatch(text); m != nil {
		return m[1], m[2]
	}
	return "", text
}

func fillState(status *corev1.ContainerStatus, current, previous *sdk.ContainerState, seen []*sdk.Event, waiting string) {
	if t := terminated(previous); t != nil {
		status.LastTerminationState.Terminated = t
	}
	state := ""
	if current != nil {
		state = strings.ToLower(value(current.State))
	}
	switch state {
	case "running":
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: timeOf(current.StartTime)}
	case "terminated":
		status.State.Terminated = terminated(current)
	default:
		status.State.Waiting = waitingState(current, seen, waiting)
	}
}

func waitingState(current *sdk.ContainerState, seen []*sdk.Event, waiting string) *corev1.ContainerStateWaiting {
	result := &corev1.ContainerStateWaiting{Reason: waiting}
	if reason, message := whyWaiting(seen); reason != "" {
		result.Reason, result.Message = reason, message
	}
	if current == nil {
		return result
	}
	reason, message := detail(current)
	if reason != "" && reason != "Waiting" {
		result.Reason = reason
	}
	result.Message = cmp.Or(message, result.Message)
	return result
}

// whyWaiting reads the newest event of a container. An image that cannot be
// pulled shows nowhere else.
func whyWaiting(seen []*sdk.Event) (reason, message string) {
	var newest *sdk.Event
	for _, e := range seen {
		if e != nil && (newest == nil || !value(e.LastTimestamp).Before(value(newest.LastTimestamp))) {
			newest = e
		}
	}
	if newest == nil {
		return "", ""
	}
	message = redactor(nil).event(value(newest.Message))
	text := strings.ToLower(message)
	image := strings.Contains(text, "image") || strings.Contains(text, "pull")
	switch strings.ToLower(value(newest.Name)) {
	case "backoff":
		if image {
			return reasonImagePullBackOff, message
		}
		return reasonCrashLoopBackOff, message
	case "failed":
		switch {
		case strings.Contains(text, strings.ToLower(reasonImagePullBackOff)):
			return reasonImagePullBackOff, message
		case image:
			return reasonErrImagePull, message
		}
		return reasonStartError, message
	}
	return "", ""
}

// exitCodeUnknown stands where the service gives none.
const exitCodeUnknown = 255

func terminated(s *sdk.ContainerState) *corev1.ContainerStateTerminated {
	if s == nil || !strings.EqualFold(value(s.State), "Terminated") {
		return nil
	}
	result := &corev1.ContainerStateTerminated{
		StartedAt: timeOf(s.StartTime), FinishedAt: timeOf(s.FinishTime), Reason: "Error",
	}
	switch {
	case s.ExitCode != nil:
		result.ExitCode = *s.ExitCode
	case strings.EqualFold(value(s.DetailStatus), "Completed"):
	default:
		result.ExitCode = exitCodeUnknown
		result.Message = "The service reported no exit code."
	}
	if result.ExitCode == 0 {
		result.Reason = "Completed"
	}
	reason, message := detail(s)
	result.Reason = cmp.Or(reason, result.Reason)
	result.Message = cmp.Or(message, result.Message)
	if isMaintenance(result) {
		result.Message = strings.TrimSpace(result.Message + " " + maintenanceMessage)
	}
	return result
}

// isReady: the service runs readiness probes but reports their failures only,
// as events. A container is not ready before its probe's first turn, and as
// long as a failure is no older than the probe takes to say so again.
func isReady(p *sdk.ContainerProperties, current *sdk.ContainerState, now time.Time) bool {
	probe := p.ReadinessProbe
	if probe == nil {
		return true
	}
	if start := current.StartTime; start != nil {
		delay := time.Duration(value(probe.InitialDelaySeconds)) * time.Second
		if now.Before(start.Add(delay)) {
			return false
		}
	}
	const defaultPeriod, defaultTimeout = 10, 1
	again := time.Duration(cmp.Or(value(probe.PeriodSeconds), defaultPeriod)+cmp.Or(value(probe.TimeoutSeconds), defaultTimeout)) * time.Second
	for _, e := range p.InstanceView.Events {
		if e == nil || !strings.EqualFold(value(e.Name), "Unhealthy") || !strings.Contains(strings.ToLower(value(e.Message)), "readiness") {
			continue
		}
		last := value(e.LastTimestamp)
		// Of an earlier run of the container, the failure says nothing.
		if current.StartTime != nil && last.Before(*current.StartTime) {
			continue
		}
		if now.Before(last.Add(again)) {
			return false
		}
	}
	return true
}

func events(container string, seen []*sdk.Event) []providers.Event {
	var result []providers.Event
	for _, e := range seen {
		if e == nil || value(e.Name) == "" {
			continue
		}
		last := value(e.LastTimestamp)
		first := value(e.FirstTimestamp)
		if first.IsZero() {
			first = last
		}
		result = append(result, providers.Event{
			Warning:   strings.EqualFold(value(e.Type), "Warning"),
			Reason:    *e.Name,
			Message:   redactor(nil).event(value(e.Message)),
			Container: container,
			Count:     max(1, value(e.Count)),
			First:     first,
			Last:      last,
		})
	}
	return result
}

func timeOf(t *time.Time) metav1.Time {
	if t == nil {
		return metav1.Time{}
	}
	return metav1.NewTime(*t)
}
