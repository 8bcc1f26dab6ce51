package aci

import (
	"fmt"
	"strings"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Exit codes of containers that the platform ended, for maintenance
// (documentation of platform maintenance).
const (
	PlatformExit        = 7147
	PlatformFailureExit = 7148
)

// Evict takes the machine of the Spot group with the given resource id, in any
// letter case. Its containers wait until there is capacity again, after
// Settings.EvictionTime, and are then restarted by the service.
func (s *Server) Evict(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.livingLocked(id)
	if err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	if !g.def.spot() {
		return fmt.Errorf("evict: container group %s has no Spot priority", id)
	}
	if err := g.run.Evict(s.settings.evictionTime()); err != nil {
		return fmt.Errorf("evict: %w", err)
	}
	return nil
}

// Maintain has the platform restart a group's containers on another machine,
// whatever its restart policy: they end with exitCode (PlatformExit or
// PlatformFailureExit), and the group's address changes.
func (s *Server) Maintain(id string, exitCode int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.livingLocked(id)
	if err != nil {
		return fmt.Errorf("maintain: %w", err)
	}
	if err := g.run.Interrupt(sim.Termination{ExitCode: exitCode}); err != nil {
		return fmt.Errorf("maintain: %w", err)
	}
	s.addressLocked(g)
	return nil
}

// livingLocked finds a group by its resource id. Server.mu is held.
func (s *Server) livingLocked(id string) (*group, error) {
	g, ok := s.groups[strings.ToLower(id)]
	if !ok || g.run.Phase() == sim.Deleted {
		return nil, fmt.Errorf("there is no container group %s", id)
	}
	return g, nil
}
