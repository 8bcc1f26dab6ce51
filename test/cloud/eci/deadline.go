package eci

import (
	"fmt"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// setDeadline ends a group at its ActiveDeadlineSeconds, which is published as the
// active period, after which the instance is forced to exit. The emulator counts
// from when a machine was found, which is the StartTime of the pod status, and
// kills without grace.
func (s *Server) setDeadline(g *group) {
	if g.deadline == 0 {
		return
	}
	message := fmt.Sprintf("The container group was active for its %d seconds.", int64(g.deadline/time.Second))
	g.live.Alarm(s.machineFound(g).Add(g.deadline), func(m sim.Moment) {
		m.End(sim.Failed, "DeadlineExceeded", message)
	})
}

// machineFound is when a group's scheduling ends.
func (s *Server) machineFound(g *group) time.Time {
	return g.live.Created().Add(s.opts.Sim.Timing.Schedule)
}
