package sim

import (
	"errors"
	"fmt"
	"time"
)

// Probe asks a running container how it is, as a probe of the kubelet does.
type Probe struct {
	// Action is what tells. It is carried out where the container really runs, a
	// command alone where it is a process of this host and the command one of the same
	// harmless programs. Otherwise, and without an action, the container is well unless
	// SetHealth says differently.
	Action
	// InitialDelay is the time from the start to the first question.
	InitialDelay time.Duration
	// Period is the time between questions, Timeout how long an answer may take;
	// zero is 10 s and 1 s, as for the kubelet.
	Period, Timeout time.Duration
	// FailureThreshold and SuccessThreshold are how many equal answers in
	// succession count; zero is 3 and 1.
	FailureThreshold, SuccessThreshold int
}

// probeGrace is how long a container that failed its liveness probe may take to
// end, unless the group says otherwise (the kubelet's default).
const probeGrace = 30 * time.Second

// liveness and readiness are the two uses of a probe, as events name them.
const (
	liveness  = "Liveness"
	readiness = "Readiness"
)

// SetHealth decides what the probes of a simulated container find from now on.
// A new container is alive and ready.
func (g *Group) SetHealth(name string, alive, ready bool) error {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	if err != nil {
		return fmt.Errorf("set the health: %w", err)
	}
	c.dead, c.unready = !alive, !ready
	return nil
}

// startProbes begins the questions of a run of a container. The group's lock is
// held.
func (g *Group) startProbes(now time.Time, c *container) {
	begin := func(use string, p *Probe) {
		q := &questions{probe: *p, use: use, run: c.attempts}
		g.after(now, p.InitialDelay, func(now time.Time) { g.ask(now, c, q) })
	}
	if c.spec.Liveness != nil {
		begin(liveness, c.spec.Liveness)
	}
	if c.spec.Readiness != nil {
		c.ready = false
		begin(readiness, c.spec.Readiness)
	}
}

// questions are the state of one probe during one run of its container.
type questions struct {
	probe            Probe
	use              string
	run              int
	failures, passes int // in succession
}

// ask puts one question and queues the next.
func (g *Group) ask(now time.Time, c *container, q *questions) {
	if c.attempts != q.run || c.current.Run != Processing {
		return
	}
	do := g.action(c, q.probe.Action)
	if do == nil {
		ill := c.dead
		if q.use == readiness {
			ill = c.unready
		}
		var err error
		if ill {
			err = errors.New("the container is not well")
		}
		g.answered(now, c, q, err)
		return
	}
	if g.abandoned {
		return
	}
	g.background(orDefault(q.probe.Timeout, time.Second), do, func(now time.Time, err error) {
		g.answered(now, c, q, err)
	})
}

// answered counts an answer, acts on the last one that was needed, and queues
// the next question.
func (g *Group) answered(now time.Time, c *container, q *questions, err error) {
	if c.attempts != q.run || c.current.Run != Processing || g.stopped != nil {
		return
	}
	if err != nil {
		q.failures, q.passes = q.failures+1, 0
		g.event(now, Warning, "Unhealthy", fmt.Sprintf("%s probe failed: %v", q.use, err), c.spec.Name)
	} else {
		q.failures, q.passes = 0, q.passes+1
	}
	failed := q.failures >= orDefault(q.probe.FailureThreshold, 3)
	switch {
	case q.use == readiness && failed:
		g.setReady(now, c, false)
	case q.use == readiness && q.passes >= orDefault(q.probe.SuccessThreshold, 1):
		g.setReady(now, c, true)
	case failed:
		g.event(now, Normal, "Killing", fmt.Sprintf("Container %s failed liveness probe, will be restarted", c.spec.Name), c.spec.Name)
		g.terminate(now, c, orDefault(g.spec.Grace, probeGrace))
		return // the next run has questions of its own
	}
	g.after(now, orDefault(q.probe.Period, 10*time.Second), func(now time.Time) { g.ask(now, c, q) })
}

func (g *Group) setReady(now time.Time, c *container, ready bool) {
	if c.ready != ready {
		c.ready = ready
		g.touch(now)
		g.launch(now)
	}
}

// orDefault is n, or otherwise the default if n is not positive.
func orDefault[N ~int | ~int64](n, otherwise N) N {
	if n <= 0 {
		return otherwise
	}
	return n
}

func (p *Probe) clone() *Probe {
	if p == nil {
		return nil
	}
	copied := *p
	copied.Action = *p.Action.clone()
	return &copied
}
