package aci

import (
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// timestamp is a time as ARM prints it, in UTC with milliseconds.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.999Z") }

// viewAcceptedLocked is the answer to an accepted PUT: the state is that of the
// moment of acceptance, whatever has happened since. Server.mu is held.
func (s *Server) viewAcceptedLocked(g *group, provisioningState string) map[string]any {
	view := s.viewLocked(g, g.run.Snapshot(), false)
	properties := object(view, "properties")
	properties["provisioningState"] = provisioningState
	properties["instanceView"] = map[string]any{"events": []any{}, "state": "Pending"}
	delete(object(properties, "ipAddress"), "ip")
	return view
}

// viewLocked is the resource as it is read. Lists and deletions leave every
// instanceView out. Server.mu is held.
func (s *Server) viewLocked(g *group, state sim.State, withInstance bool) map[string]any {
	view := cloneJSON(g.body).(map[string]any)
	view["id"], view["name"], view["type"] = g.id, g.name, groupType
	properties := object(view, "properties")
	properties["provisioningState"] = provisioning(state, g.deployed, s.clock.Now())
	if g.def.Properties.IPAddress == nil && len(g.def.Properties.SubnetIDs) > 0 {
		properties["ipAddress"] = map[string]any{"type": "Private", "ports": []any{}}
	}
	if _, addressed := properties["ipAddress"]; addressed {
		address := object(properties, "ipAddress")
		delete(address, "ip") // the service's to give
		if g.address.IsValid() && !state.Scheduled.IsZero() && state.Phase != sim.Stopped {
			address["ip"] = g.address.String()
		}
		if asked := g.def.Properties.IPAddress; asked != nil && asked.DNSNameLabel != "" {
			address["fqdn"] = asked.DNSNameLabel + "." + normalizeLocation(g.def.Location) + ".azurecontainer.io"
		}
		for _, p := range objects(address, "ports") {
			if _, given := p["protocol"]; !given {
				p["protocol"] = "TCP"
			}
		}
	}
	if !withInstance {
		return view
	}
	properties["instanceView"] = map[string]any{
		"events": eventViews(state.Events, ""),
		"state":  groupState(state),
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range objects(properties, list) {
			name, _ := c["name"].(string)
			if cs, ok := state.Container(name); ok {
				object(c, "properties")["instanceView"] = instanceView(cs, state)
			}
		}
	}
	return view
}

// groupState is instanceView.state of a group.
func groupState(state sim.State) string {
	switch state.Phase {
	case sim.Running, sim.Stopping, sim.Terminating:
		return "Running"
	case sim.Stopped:
		return "Stopped"
	case sim.Succeeded:
		return "Succeeded"
	case sim.Failed, sim.ScheduleFailed:
		return "Failed"
	default:
		return "Pending"
	}
}

func instanceView(cs sim.ContainerState, state sim.State) map[string]any {
	view := map[string]any{
		"restartCount": cs.RestartCount,
		"currentState": statusView(cs.Current),
		"events":       eventViews(state.Events, cs.Name),
	}
	if cs.Previous != nil {
		view["previousState"] = statusView(*cs.Previous)
	}
	if state.Phase == sim.Stopped && cs.Current.Run == sim.Terminated {
		// The state before the stop, and the stop as the reason of the end.
		current := statusView(cs.Current)
		current["detailStatus"] = "Terminated by client request to stop the container group"
		view["currentState"] = current
		view["previousState"] = statusView(sim.Status{Run: sim.Processing, StartedAt: cs.Current.StartedAt})
	}
	return view
}

func statusView(status sim.Status) map[string]any {
	view := map[string]any{"state": string(status.Run), "detailStatus": detailStatus(status)}
	if !status.StartedAt.IsZero() {
		view["startTime"] = timestamp(status.StartedAt)
	}
	if status.Run == sim.Terminated {
		view["exitCode"] = status.ExitCode
		view["finishTime"] = timestamp(status.FinishedAt)
	}
	return view
}

func detailStatus(status sim.Status) string {
	switch status.Reason {
	case "ContainerCreating", "PodInitializing":
		return "" // the kubelet's words for a wait without trouble
	case "CrashLoopBackOff":
		return status.Reason + ": " + status.Message
	default:
		return status.Reason
	}
}

// eventViews lists the events of one container, or of the group itself if the
// name is empty.
func eventViews(events []sim.Event, container string) []any {
	views := []any{}
	for _, e := range events {
		// Where a group is placed is no event of this service.
		if e.Container != container || e.Reason == "Scheduled" {
			continue
		}
		views = append(views, map[string]any{
			"count":          e.Count,
			"firstTimestamp": timestamp(e.First),
			"lastTimestamp":  timestamp(e.Last),
			"name":           e.Reason,
			"message":        e.Message,
			"type":           e.Type,
		})
	}
	return views
}
