package sim

import (
	"fmt"
	"time"
)

// launch starts the containers whose turn it is: those of the highest launch priority
// that have not been started, once all before them are ready or have ended.
func (g *Group) launch(now time.Time) {
	next, found := 0, false
	for _, c := range g.apps {
		switch {
		case !c.launched:
			if !found || c.spec.LaunchPriority > next {
				next, found = c.spec.LaunchPriority, true
			}
		case !c.ready && c.current.Run != Terminated:
			return
		}
	}
	if !found {
		return
	}
	for _, c := range g.apps {
		if !c.launched && c.spec.LaunchPriority == next {
			c.launched = true
			c.current.Reason = "ContainerCreating"
			g.pull(now, c)
		}
	}
}

// stopNext tells the running containers of the highest exit priority to end, unless
// some are ending already, and reports whether any runs.
func (g *Group) stopNext(now time.Time) (running bool) {
	next := 0
	for _, c := range g.all() {
		if c.current.Run != Processing {
			continue
		}
		if c.stopping {
			return true
		}
		if !running || c.spec.ExitPriority > next {
			next, running = c.spec.ExitPriority, true
		}
	}
	if !running {
		return false
	}
	for _, c := range g.all() {
		if c.current.Run == Processing && c.spec.ExitPriority == next {
			c.ready, c.stopping = false, true
			g.event(now, Normal, "Killing", "Stopping container "+c.spec.Name, c.spec.Name)
			g.terminate(now, c, g.grace)
		}
	}
	return true
}

// dismissSidecars ends the sidecars by force when all other containers have ended for
// good, and reports whether one still has to end.
func (g *Group) dismissSidecars(now time.Time) (ending bool) {
	others := 0
	for _, c := range g.apps {
		if c.spec.Sidecar {
			continue
		}
		others++
		if c.current.Run != Terminated || g.spec.RestartPolicy.restarts(c.current.ExitCode) {
			return false
		}
	}
	if others == 0 {
		return false
	}
	for _, c := range g.apps {
		if !c.spec.Sidecar {
			continue
		}
		first := !c.dismissed
		c.dismissed = true
		switch c.current.Run {
		case Processing:
			ending = true
			if first {
				g.event(now, Normal, "Killing", "Stopping container "+c.spec.Name, c.spec.Name)
				g.terminate(now, c, 0)
			}
		case Waiting: // for its restart, which does not come
			c.turn(Status{Run: Terminated, Reason: "Completed", StartedAt: now, FinishedAt: now})
		}
	}
	return ending
}

// ignored is a failure that counts as a success and tells what it was.
func ignored(t Termination) Termination {
	return Termination{Message: fmt.Sprintf("exit code %d, signal %d, reason %q: %s", t.ExitCode, t.Signal, t.Reason, t.Message)}
}
