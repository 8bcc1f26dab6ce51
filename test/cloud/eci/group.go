package eci

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// group is one container group of the account.
type group struct {
	id, eni, region string
	req             *member // as it was created and last updated; not changed
	subnet          *subnet
	ip              netip.Addr
	internetIP      string
	securityGroup   string
	instanceType    string
	size            size
	spot            bool
	grace           time.Duration
	deadline        time.Duration // from the start on; zero is none
	tags            []keyValue
	updating        bool // what the simulation calls a restart is an update
	spec            sim.Spec
	live            *sim.Group
}

// snapshot is the group's present state, with the published phases.
func (g *group) snapshot() sim.State {
	st := g.live.Snapshot()
	st.Phase = g.published(st.Phase)
	return st
}

// phase is the published phase; a cheap part of snapshot.
func (g *group) phase() sim.Phase { return g.published(g.live.Phase()) }

// updating is the published phase of a group whose containers are replaced.
const updating sim.Phase = "Updating"

func (g *group) published(p sim.Phase) sim.Phase {
	if g.updating && p == sim.Restarting {
		return updating
	}
	return p
}

// definition is the request that a state of a group carries out. It may be older
// than the group's own while an update is under way.
func definition(st sim.State) *member { return st.Spec.Definition.(*member) }

// retention of ended groups: all for an hour, then the newest hundred of each
// region; groups that were never scheduled for a day.
const (
	endedKept          = time.Hour
	endedKeptPerRegion = 100
	scheduleFailedKept = 24 * time.Hour
)

// forgetEnded drops deleted groups and ended ones past their retention. An
// ended group has no address any more.
func (s *Server) forgetEnded() {
	now := s.fleet.Now()
	old := map[string][]*group{}
	for id, g := range s.groups {
		phase, _, finished := g.live.Progress()
		if phase.Ended() {
			g.subnet.release(g.ip, g.id)
		}
		switch {
		case phase == sim.Deleted:
			delete(s.groups, id)
		case phase == sim.ScheduleFailed && now.Sub(finished) >= scheduleFailedKept:
			g.live.Remove()
			delete(s.groups, id)
		case phase.Ended() && phase != sim.ScheduleFailed:
			old[g.region] = append(old[g.region], g)
		}
	}
	for _, list := range old {
		if len(list) <= endedKeptPerRegion {
			continue
		}
		ended := func(g *group) time.Time { _, _, at := g.live.Progress(); return at }
		slices.SortFunc(list, func(a, b *group) int { return ended(b).Compare(ended(a)) })
		for _, g := range list[endedKeptPerRegion:] {
			if now.Sub(ended(g)) >= endedKept {
				g.live.Remove()
				delete(s.groups, g.id)
			}
		}
	}
	for key, use := range s.tokens {
		if now.Sub(use.at) > s.opts.TokenRetention {
			delete(s.tokens, key)
		}
	}
}

// simSpec is what the simulation has to run.
func (g *group) simSpec(failure *sim.ScheduleFailure) sim.Spec {
	s := sim.Spec{
		Cloud: cloudName, ID: g.id, Name: g.req.str("ContainerGroupName"), Region: g.region,
		Tags: map[string]string{}, CPU: g.size.cpu, MemoryGiB: g.size.gib, Spot: g.spot, Price: g.price(),
		RestartPolicy:   sim.RestartPolicy(g.restartPolicy()),
		ScheduleFailure: failure, Definition: g.req, Machine: g.machine(), Grace: g.grace,
	}
	for _, t := range g.tags {
		s.Tags[t.Key] = t.Value
	}
	for _, c := range g.req.list("InitContainer") {
		s.InitContainers = append(s.InitContainers, g.simContainer(c))
	}
	for _, c := range g.req.list("Container") {
		s.Containers = append(s.Containers, g.simContainer(c))
	}
	return s
}

func (g *group) simContainer(c *member) sim.Container {
	out := sim.Container{
		Name: c.str("Name"), Image: c.str("Image"), Command: c.strings("Command"), Args: c.strings("Arg"),
		Liveness: probeOf(c, "LivenessProbe"), Readiness: probeOf(c, "ReadinessProbe"),
		PostStart: hookOf(c, "LifecyclePostStartHandler"), PreStop: hookOf(c, "LifecyclePreStopHandler"),
		Setting: g.setting(c), NonRoot: c.boolean("SecurityContextRunAsNonRoot"),
		MessageFromLogs: c.str("TerminationMessagePolicy") == "FallbackToLogsOnError",
	}
	orderOf(c, &out)
	for _, e := range c.list("EnvironmentVar") {
		value := e.str("Value")
		if e.str("FieldRef.FieldPath") == "status.podIP" {
			value = g.ip.String()
		}
		out.Env = append(out.Env, sim.EnvVar{Name: e.str("Key"), Value: value})
	}
	return out
}

func (g *group) restartPolicy() string {
	if p := g.req.str("RestartPolicy"); p != "" {
		return p
	}
	return "Always"
}

func shuffled(list []*subnet) []*subnet {
	list = slices.Clone(list)
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
