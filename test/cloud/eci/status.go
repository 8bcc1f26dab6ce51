package eci

import (
	"strings"
	"time"
	"unicode"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// object is a JSON object whose members are spelled as the metadata prints
// them; spell turns them into the other published spelling.
type object map[string]any

// describeStatus is DescribeContainerGroupStatus.
func (s *Server) describeStatus(c *call) (map[string]any, *apiError) {
	page, total, next, err := s.delta(c.members)
	if err != nil {
		return nil, err
	}
	data := make([]any, 0, len(page))
	gone := shown(page, func(g *group, st sim.State) { data = append(data, s.spell(g.podStatus(st))) })
	return map[string]any{"TotalCount": total - gone, "NextToken": next, "Data": data}, nil
}

// podStatus is the group in a state in the form of a Kubernetes pod status.
func (g *group) podStatus(st sim.State) object {
	status := object{
		"Phase": podPhase(st.Phase), "Conditions": conditions(st), "QosClass": "Guaranteed",
		"ContainerStatuses": containerStatuses(st.Containers),
	}
	if !st.Scheduled.IsZero() {
		status["StartTime"] = wireTime(st.Scheduled)
		status["HostIp"] = g.ip.String()
		status["PodIp"] = g.ip.String()
		status["PodIps"] = []object{{"Ip": g.ip.String()}}
	}
	return object{
		"ContainerGroupId": g.id, "Name": st.Spec.Name, "Namespace": "default", "Status": string(st.Phase),
		"uuid": g.id, "Annotations": "{}", "PodStatus": status,
	}
}

// podPhase is the pod phase that the service publishes for a group's status.
func podPhase(p sim.Phase) string {
	switch p {
	case sim.Running, sim.Terminating:
		return "Running"
	case sim.Succeeded:
		return "Succeeded"
	case sim.Failed, sim.ScheduleFailed, sim.Expired:
		return "Failed"
	default:
		return "Pending"
	}
}

func conditions(st sim.State) []object {
	ready := len(st.Containers) > 0
	for _, c := range st.Containers {
		ready = ready && c.Ready
	}
	initialized := true
	for _, c := range st.InitContainers {
		initialized = initialized && c.Current.Run == sim.Terminated && c.Current.ExitCode == 0
	}
	scheduled := !st.Scheduled.IsZero()
	condition := func(kind string, is bool, reason string, at time.Time) object {
		status := "False"
		if is {
			status, reason = "True", ""
		}
		o := object{"type": kind, "status": status, "lastTransitionTime": wireTime(at)}
		if reason != "" {
			o["Reason"] = reason
		}
		return o
	}
	created := condition("ContainerInstanceCreated", scheduled, "Creating", st.Created)
	if st.Phase == sim.ScheduleFailed {
		created["Reason"], created["Message"] = st.Reason, st.Message
	}
	return []object{
		condition("PodScheduled", scheduled, "Unschedulable", st.Created),
		created,
		condition("Initialized", scheduled && initialized, "ContainersNotInitialized", st.Changed),
		condition("ContainersReady", ready, "ContainersNotReady", st.Changed),
		condition("Ready", ready, "ContainersNotReady", st.Changed),
	}
}

func containerStatuses(list []sim.ContainerState) []object {
	out := []object{}
	for _, c := range list {
		o := object{
			"Name": c.Name, "Image": c.Image, "Ready": c.Ready, "RestartCount": c.RestartCount,
			"Started": c.Current.Run == sim.Processing, "State": kubeState(c.Current),
		}
		if c.Previous != nil {
			o["LastState"] = kubeState(*c.Previous)
		}
		out = append(out, o)
	}
	return out
}

func kubeState(s sim.Status) object {
	switch s.Run {
	case sim.Processing:
		return object{"Running": object{"StartedAtstartedAt": wireTime(s.StartedAt)}}
	case sim.Terminated:
		return object{"Terminated": object{
			"ExitCode": s.ExitCode, "Signal": s.Signal, "Reason": s.Reason, "Message": s.Message,
			"StartedAt": wireTime(s.StartedAt), "FinishedAt": wireTime(s.FinishedAt),
		}}
	default:
		return object{"Waiting": object{"Reason": s.Reason, "Message": s.Message}}
	}
}

// describeEvents is DescribeContainerGroupEvents.
func (s *Server) describeEvents(c *call) (map[string]any, *apiError) {
	page, total, _, err := s.delta(c.members)
	if err != nil {
		return nil, err
	}
	source := c.members.str("EventSource")
	data := make([]any, 0, len(page))
	gone := shown(page, func(g *group, st sim.State) {
		events := []object{}
		for _, e := range newest(st.Events) {
			from, component := "EciService", "eci-controller"
			if e.Container != "" {
				from, component = "K8sAgent", "kubelet"
			}
			if source != "" && source != from {
				continue
			}
			events = append(events, object{
				"Type": e.Type, "Reason": e.Reason, "Message": e.Message, "Count": e.Count,
				"FirstTimestamp": wireTime(e.First), "LastTimestamp": wireTime(e.Last),
				"Source":         object{"Component": component, "Host": "eci"},
				"involvedObject": object{"Kind": "Pod", "Name": st.Spec.Name, "Namespace": "default", "Uid": g.id, "ApiVersion": "v1"},
				"Metadata":       object{"Name": eventName(st, e), "Namespace": "default"},
			})
		}
		data = append(data, s.spell(object{
			"ContainerGroupId": g.id, "Name": st.Spec.Name, "Namespace": "default", "uuid": g.id,
			"Annotations": "{}", "Events": events,
		}))
	})
	return map[string]any{"TotalCount": total - gone, "Data": data}, nil
}

// kubernetesNames are members whose lower camel case is not the metadata's
// spelling with a small first letter.
var kubernetesNames = map[string]string{
	"StartedAtstartedAt": "startedAt", "HostIp": "hostIP", "PodIp": "podIP", "PodIps": "podIPs",
	"QosClass": "qosClass", "uuid": "uuid",
}

// spell gives members the spelling that the server is set to.
func (s *Server) spell(v any) any {
	if s.opts.StatusInMetadataCase {
		return v
	}
	switch v := v.(type) {
	case object:
		out := object{}
		for name, value := range v {
			lower, ok := kubernetesNames[name]
			if !ok {
				lower = string(unicode.ToLower(rune(name[0]))) + strings.TrimPrefix(name, name[:1])
			}
			out[lower] = s.spell(value)
		}
		return out
	case []object:
		out := make([]any, len(v))
		for i, o := range v {
			out[i] = s.spell(o)
		}
		return out
	default:
		return v
	}
}
