package sim

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Probe asks a running container how it is, as a probe of the kubelet does.
type Probe struct {
	// Exec is the command that tells. It is run, in the container's directory and
	// environment, if the container is a real process of this host and the
	// command one of the same harmless programs. Otherwise, and without a
	// command, the container is well unless SetHealth says differently.
	Exec []string
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
// end (the kubelet's default).
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
	program := hostProgram(q.probe.Exec)
	if c.host == nil || program == "" {
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
	cmd := exec.Command(program, q.probe.Exec[1:]...)
	cmd.Args[0] = q.probe.Exec[0]
	cmd.Dir, cmd.Env = c.host.cmd.Dir, c.host.cmd.Env
	g.fleet.wg.Add(1)
	go func() {
		defer g.fleet.wg.Done()
		err := g.fleet.runProbe(cmd, orDefault(q.probe.Timeout, time.Second))
		g.lock()
		defer g.unlock()
		if !g.abandoned {
			g.answered(g.fleet.clock.Now(), c, q, err)
		}
	}()
}

// runProbe runs a command to its end, to the timeout, in real time, or until the
// fleet is closed.
func (f *Fleet) runProbe(cmd *exec.Cmd, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a process that left the group could hold the pipe open
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the probe: %w", err)
	}
	ended := make(chan struct{})
	f.wg.Add(1)
	go func() {
		defer f.wg.Done()
		select {
		case <-ended:
			return
		case <-ctx.Done():
		case <-f.stop:
		}
		// The group may be gone already, which is what is wanted.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}()
	err := cmd.Wait()
	close(ended)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("timed out after %s", timeout)
	case err != nil:
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(output.String()))
	}
	return nil
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
		g.terminate(now, c, probeGrace)
		return // the next run has questions of its own
	}
	g.after(now, orDefault(q.probe.Period, 10*time.Second), func(now time.Time) { g.ask(now, c, q) })
}

func (g *Group) setReady(now time.Time, c *container, ready bool) {
	if c.ready != ready {
		c.ready = ready
		g.touch(now)
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
	copied.Exec = append([]string(nil), p.Exec...)
	return &copied
}
