package sim

import (
	"fmt"
	"time"
)

// Evict takes a group's machine away for want of capacity, as the end of a spot
// price does where the service restarts the group by itself: after wait another
// machine is looked for. Until it is found the containers wait and nothing is
// billed. It needs a Pending or Running group.
func (g *Group) Evict(wait time.Duration) error {
	return g.lose(Termination{ExitCode: 137, Signal: 9}, func(now time.Time) {
		g.setPhase(now, Evicted)
		g.fleet.ledger.close(g.bill, now)
		g.bill = nil
		g.after(now, wait, g.schedule)
	})
}

// Interrupt moves a group to another machine, as maintenance of the platform
// does: all processes end with t, and the containers are started again
// Timing.Restart later, whatever the restart policy says. It needs a Pending or
// Running group.
func (g *Group) Interrupt(t Termination) error {
	return g.lose(t, func(now time.Time) {
		g.setPhase(now, Pending)
		g.after(now, g.fleet.cfg.Timing.Restart, g.startContainers)
	})
}

// lose ends all processes with t, without grace, and has then decide when the
// containers, which wait, are started again on a machine without their images.
func (g *Group) lose(t Termination, then func(now time.Time)) error {
	g.lock()
	defer g.unlock()
	if g.phase != Pending && g.phase != Running {
		return fmt.Errorf("take the machine from %s, which is %s: %w", g.id, g.phase, ErrPhase)
	}
	now := g.fleet.clock.Now()
	g.queue = nil
	g.era++
	g.repairing = true
	g.pulled = map[string]bool{}
	for _, c := range g.all() {
		if c.process != nil {
			c.process.kill()
			c.process = nil // nobody waits for its end any more
		}
		if c.current.Run == Processing {
			c.end(now, t)
		}
		c.reset()
	}
	g.leaveMachine()
	g.touch(now)
	then(now)
	return nil
}
