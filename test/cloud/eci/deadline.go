package eci

import (
	"fmt"
	"time"
)

// ActiveDeadlineSeconds is published as the active period, after which the
// instance is forced to exit. The emulator counts from when a machine was found,
// which is the StartTime of the pod status, and kills without grace.

// due is when the deadline of a group is over. A group without one, or without
// a live part yet, must not be asked.
func (s *Server) due(g *group) time.Time {
	return g.live.Created().Add(s.opts.Sim.Timing.Schedule).Add(g.deadline)
}

// endOverdue ends the groups whose deadline is over. Every look at the account
// comes through here first; watch is for the time between looks. s.mu is held.
func (s *Server) endOverdue() {
	now := s.fleet.Now()
	for _, g := range s.groups {
		if g.deadline == 0 || g.overdue || now.Before(s.due(g)) {
			continue
		}
		// Of a group that has ended or is being deleted, nothing is left to do.
		if g.live.Expire("DeadlineExceeded", fmt.Sprintf("The container group was active for its %d seconds.", int64(g.deadline/time.Second))) == nil {
			g.overdue = true
		}
	}
}

// watch ends a group at its deadline though nobody looks. s.mu is held.
func (s *Server) watch(g *group) {
	if g.deadline == 0 || s.closed {
		return
	}
	timer := s.fleet.Clock().NewTimer(s.due(g).Sub(s.fleet.Now()))
	s.serving.Go(func() {
		defer timer.Stop()
		select {
		case <-timer.C():
			s.mu.Lock()
			defer s.mu.Unlock()
			s.endOverdue()
		case <-g.live.Done():
		case <-s.closing:
		}
	})
}
