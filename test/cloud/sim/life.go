package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// The steps of a group's life. All run with the group's lock held, at the time
// they are due.

// deploy begins a new deployment of an ended group.
func (g *Group) deploy(now time.Time) {
	g.queue, g.stopped = nil, nil
	g.era++
	g.reason, g.message = "", ""
	g.scheduled, g.started, g.finished = time.Time{}, time.Time{}, time.Time{}
	g.pulled = g.spec.onMachine()
	g.makeContainers()
	g.phase = Scheduling
	g.touch(now)
	g.schedule(now)
}

func (g *Group) schedule(now time.Time) {
	g.after(now, g.fleet.cfg.Timing.Schedule, func(now time.Time) {
		if f := g.spec.ScheduleFailure; f != nil {
			g.reason, g.message = f.Reason, f.Message
			g.event(now, Warning, f.Reason, f.Message, "")
			g.finish(now, ScheduleFailed)
			return
		}
		g.scheduled = now
		g.bill = g.fleet.ledger.open(g.spec, now)
		g.event(now, Normal, "Scheduled", "Successfully assigned container group "+g.spec.Name+" to a machine.", "")
		g.startContainers(now)
	})
}

// startContainers starts the first init container, or the containers.
func (g *Group) startContainers(now time.Time) {
	g.setPhase(now, Pending)
	if len(g.inits) > 0 {
		g.pull(now, g.inits[0])
		return
	}
	g.startApps(now)
}

func (g *Group) startApps(now time.Time) { g.launch(now) }

// pull makes sure that the machine has the container's image.
func (g *Group) pull(now time.Time, c *container) {
	if c.dismissed {
		return
	}
	name, image, t := c.spec.Name, c.spec.Image, g.fleet.cfg.Timing
	if g.pulled[image] {
		g.event(now, Normal, "Pulled", fmt.Sprintf("Container image %q already present on machine", image), name)
		g.create(now, c)
		return
	}
	g.event(now, Normal, "Pulling", fmt.Sprintf("Pulling image %q", image), name)
	verdict := ImageOK
	if g.fleet.cfg.Images != nil {
		verdict = g.fleet.cfg.Images(image)
	}
	switch verdict {
	case ImageNotFound:
		g.after(now, t.Pull, func(now time.Time) { g.pullFailed(now, c, "manifest unknown: the registry has no such image") })
	case ImageDenied:
		g.after(now, t.Pull, func(now time.Time) {
			g.pullFailed(now, c, "pull access denied: the registry refuses the credentials")
		})
	default:
		d := t.Pull
		if verdict == ImageSlow {
			d = t.SlowPull
		}
		g.after(now, d, func(now time.Time) {
			g.pulled[image] = true
			c.pullDelay = 0
			g.event(now, Normal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s", image, d), name)
			g.create(now, c)
		})
	}
}

func (g *Group) pullFailed(now time.Time, c *container, why string) {
	image := c.spec.Image
	message := fmt.Sprintf("Failed to pull image %q: %s", image, why)
	g.event(now, Warning, "Failed", message, c.spec.Name)
	g.event(now, Warning, "Failed", "Error: ErrImagePull", c.spec.Name)
	c.current = Status{Run: Waiting, Reason: "ErrImagePull", Message: message}

	c.pullDelay = g.fleet.cfg.Timing.PullBackOff.next(c.pullDelay)
	g.after(now, min(g.fleet.cfg.Timing.Start, c.pullDelay), func(now time.Time) {
		g.event(now, Normal, "BackOff", fmt.Sprintf("Back-off pulling image %q", image), c.spec.Name)
		c.current = Status{Run: Waiting, Reason: "ImagePullBackOff", Message: fmt.Sprintf("Back-off pulling image %q", image)}
	})
	g.after(now, c.pullDelay, func(now time.Time) { g.pull(now, c) })
}

// create turns a present image into a running process.
func (g *Group) create(now time.Time, c *container) {
	if c.current.Run == Waiting && c.current.Reason != "CrashLoopBackOff" {
		c.current = Status{Run: Waiting, Reason: "ContainerCreating"}
		g.touch(now)
	}
	g.after(now, g.fleet.cfg.Timing.Start, func(now time.Time) {
		if g.fleet.cfg.Containers != nil && runc.Knows(c.spec.Image) {
			g.startContainer(now, c)
			return
		}
		g.run(now, c)
	})
}

// run is the start of a container. A process that has been started for it is its own.
func (g *Group) run(now time.Time, c *container) {
	g.event(now, Normal, "Created", "Created container "+c.spec.Name, c.spec.Name)
	c.begin(now, g.fleet.cfg.MaxLogBytes)
	g.event(now, Normal, "Started", "Started container "+c.spec.Name, c.spec.Name)
	g.appStarted(now, c)
	run := c.attempts
	if c.spec.ReadyAfter > 0 && !c.init && c.spec.Readiness == nil {
		g.after(now, c.spec.ReadyAfter, func(now time.Time) {
			if c.attempts == run && c.current.Run == Processing {
				c.ready = true
				g.touch(now)
				g.launch(now)
			}
		})
	} else if !c.init && c.spec.Readiness == nil {
		c.ready = true
		g.launch(now)
	}
	if !c.init {
		g.startProbes(now, c)
	}

	if c.process != nil {
		c.trace.begin(now, Load{}) // it is measured
		return
	}
	if g.fleet.cfg.HostCommands && hostProgram(c.spec.Command) != "" {
		c.trace.begin(now, Load{}) // it is measured
		if err := g.startHost(c); err != nil {
			c.logs.add(now, err.Error())
			g.exited(now, c, Termination{ExitCode: 128, Reason: "StartError", Message: err.Error()})
		}
		return
	}
	g.simulate(now, c)
}

// appStarted notes that a container which is no init container has been started.
func (g *Group) appStarted(now time.Time, c *container) {
	if c.init {
		return
	}
	if g.started.IsZero() {
		g.started = now
	}
	g.setPhase(now, Running)
}

// simulate plays the plan of a simulated process.
func (g *Group) simulate(now time.Time, c *container) {
	c.trace.begin(now, g.load(c))
	plan, ok := Plan{}, false
	if g.fleet.cfg.Plan != nil {
		plan, ok = g.fleet.cfg.Plan(g.spec.clone(), c.spec, c.attempts-1)
	}
	if !ok && c.init {
		plan = Plan{Exits: true, RunFor: g.fleet.cfg.Timing.Init}
	}
	if plan.Log == nil {
		plan.Log = startLines(c.spec)
	}
	for _, line := range plan.Log {
		c.logs.add(now, line)
	}
	c.stopAfter = plan.StopAfter
	if plan.Exits {
		run := c.attempts
		g.after(now, plan.RunFor, func(now time.Time) {
			if c.attempts == run && c.current.Run == Processing {
				g.exited(now, c, Termination{ExitCode: plan.ExitCode})
			}
		})
	}
}

// exited records the end of a process and decides what follows.
func (g *Group) exited(now time.Time, c *container, t Termination) {
	if c.process != nil {
		c.process.kill()
		c.process = nil
	}
	if c.spec.IgnoreExitCode && t.ExitCode != 0 {
		t = ignored(t)
	}
	c.end(now, t)
	g.touch(now)
	if g.stopped != nil {
		g.checkStopped(now)
		return
	}
	switch {
	case c.dismissed:
		g.checkEnded(now)
	case c.init && t.ExitCode == 0:
		g.nextInit(now, c)
	case c.init && g.spec.RestartPolicy == Never:
		g.finish(now, Failed)
	case c.init, g.spec.RestartPolicy.restarts(t.ExitCode):
		g.restartContainer(now, c)
	default:
		g.launch(now)
		g.checkEnded(now)
	}
}

func (g *Group) nextInit(now time.Time, done *container) {
	for i, c := range g.inits {
		if c != done {
			continue
		}
		if i+1 < len(g.inits) {
			g.pull(now, g.inits[i+1])
		} else {
			g.startApps(now)
		}
	}
}

// restartContainer starts an ended container again: the first time at once,
// then after the back-off.
func (g *Group) restartContainer(now time.Time, c *container) {
	b := g.fleet.cfg.Timing.CrashBackOff
	ran := c.current.FinishedAt.Sub(c.current.StartedAt)
	if b.Reset > 0 && ran >= b.Reset {
		c.crashDelay = 0
		c.backedOff = false
	}
	if !c.backedOff {
		c.backedOff = true
		g.pull(now, c)
		return
	}
	c.crashDelay = b.next(c.crashDelay)
	message := fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", c.crashDelay, c.spec.Name, g.spec.Name)
	c.turn(Status{Run: Waiting, Reason: "CrashLoopBackOff", Message: message})
	g.event(now, Warning, "BackOff", "Back-off restarting failed container "+c.spec.Name, c.spec.Name)
	g.after(now, c.crashDelay, func(now time.Time) { g.pull(now, c) })
}

// checkEnded ends the group when every container has ended for good.
func (g *Group) checkEnded(now time.Time) {
	if g.dismissSidecars(now) {
		return // their ends come here
	}
	phase := Succeeded
	for _, c := range g.apps {
		if c.dismissed && c.current.Run == Terminated && c.current.ExitCode == 0 {
			continue
		}
		if c.current.Run != Terminated || g.spec.RestartPolicy.restarts(c.current.ExitCode) {
			return
		}
		if c.current.ExitCode != 0 {
			phase = Failed
		}
	}
	g.finish(now, phase)
}

// finish ends the group and its bill.
func (g *Group) finish(now time.Time, p Phase) {
	g.queue, g.stopped = nil, nil
	g.era++
	g.leaveMachine()
	g.fleet.ledger.close(g.bill, now)
	g.bill = nil
	g.finished = now
	g.setPhase(now, p)
}

// terminateAs kills all processes and ends the group in a phase of its own.
func (g *Group) terminateAs(now time.Time, p Phase, reason, message string) {
	g.wind(now, Terminating, 0, func(now time.Time) {
		g.reason, g.message = reason, message
		g.event(now, Warning, reason, message, "")
		g.finish(now, p)
	})
}

// rebill goes on with another size from now on, where a machine is billed.
func (g *Group) rebill(now time.Time, to Spec) {
	if g.bill == nil || (g.spec.CPU == to.CPU && g.spec.MemoryGiB == to.MemoryGiB) {
		return
	}
	g.fleet.ledger.close(g.bill, now)
	g.bill = g.fleet.ledger.open(to, now)
}

func (g *Group) remove(now time.Time) {
	for _, c := range g.all() {
		c.logs.detachAll()
		if c.process != nil {
			c.process.kill()
			c.process = nil // nobody waits for its end any more
		}
	}
	g.finish(now, Deleted)
	g.fleet.forget(g)
	close(g.done)
}

// restart stops the processes and starts those of spec, or the same ones if it
// is nil.
func (g *Group) restart(grace time.Duration, spec *Spec) {
	g.restarts++
	g.wind(g.fleet.clock.Now(), Restarting, grace, func(now time.Time) {
		g.after(now, g.fleet.cfg.Timing.Restart, func(now time.Time) {
			if spec != nil {
				g.rebill(now, *spec)
				g.leaveMachine() // its files and volumes are those of the old definition
				g.spec = *spec
				g.carryOver()
			}
			for _, c := range g.all() {
				c.reset()
			}
			g.startContainers(now)
		})
	})
}

// carryOver makes the containers of a replaced definition, keeping the history
// of those whose names stay.
func (g *Group) carryOver() {
	old := map[string]*container{}
	for _, c := range g.apps {
		old[c.spec.Name] = c
	}
	g.makeContainers()
	for i, c := range g.apps {
		if was, ok := old[c.spec.Name]; ok {
			was.spec = c.spec
			g.apps[i] = was
		}
	}
}

// wind stops all processes: preStop, SIGTERM, and SIGKILL when grace is over.
// then is called when none is left.
func (g *Group) wind(now time.Time, p Phase, grace time.Duration, then func(now time.Time)) {
	g.dropPlans()
	g.setPhase(now, p)
	g.touch(now)
	g.stopped, g.grace = then, grace
	for _, c := range g.all() {
		c.stopping = false
	}
	g.checkStopped(now)
}

func (g *Group) terminate(now time.Time, c *container, grace time.Duration) {
	run := c.attempts
	live := func() bool { return c.attempts == run && c.current.Run == Processing }
	kill := func(now time.Time) {
		if !live() {
			return
		}
		if c.process != nil {
			c.process.kill() // its end is reported by its waiter
			return
		}
		g.exited(now, c, Termination{ExitCode: 137, Signal: 9})
	}
	if grace <= 0 {
		g.after(now, 0, kill)
		return
	}
	signal := func(now time.Time) {
		switch {
		case !live():
		case c.process != nil:
			c.process.terminate()
		default:
			g.after(now, c.stopAfter, func(now time.Time) {
				if live() {
					g.exited(now, c, Termination{ExitCode: 143, Signal: 15})
				}
			})
		}
	}
	if _, ok := c.process.(*contained); ok && c.spec.PreStop != nil && !g.abandoned {
		g.preStop(c, grace, signal)
	} else {
		g.after(now, min(preStopTime(c.spec.PreStop), grace), signal)
	}
	g.after(now, grace, kill)
}

func (g *Group) checkStopped(now time.Time) {
	if g.stopNext(now) {
		return
	}
	then := g.stopped
	if then == nil {
		return
	}
	g.stopped = nil
	g.dropPlans()
	then(now)
}

// preStopTime is how long a preStop command takes: that of the first `sleep N`
// in it, in seconds.
func preStopTime(hook *Action) time.Duration {
	if hook == nil {
		return 0
	}
	words := strings.Fields(strings.Join(hook.Exec, " "))
	for i, w := range words {
		if (w == "sleep" || strings.HasSuffix(w, "/sleep")) && i+1 < len(words) {
			if s, err := strconv.ParseFloat(strings.TrimRight(words[i+1], ";&"), 64); err == nil && s > 0 {
				return time.Duration(s * float64(time.Second))
			}
		}
	}
	return 0
}
