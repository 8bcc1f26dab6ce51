package sim

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// contained is a process in a container of its own.
type contained struct{ run *runc.Process }

func (p *contained) terminate() { p.run.Terminate() }
func (p *contained) kill()      { p.run.Kill() }

func (p *contained) usage() (time.Duration, int64) { return p.run.Usage() }

func (p *contained) command(args []string) (command, error) {
	return containedCommand{p.run.Command(args)}, nil
}

// containedCommand is a program in a container.
type containedCommand struct{ run *runc.Command }

func (c containedCommand) start(in, out *os.File) error { return said(c.run.Start(in, out)) }

func (c containedCommand) startInTerminal(size TerminalSize) (*os.File, error) {
	terminal, err := c.run.StartTerminal(size.Rows, size.Columns)
	return terminal, said(err)
}

func (c containedCommand) wait() error {
	code, err := c.run.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d", code)
	}
	return err
}

func (c containedCommand) kill() { c.run.Kill() }

// runtimeError is what the container runtime says of a program that it cannot start.
type runtimeError struct{ text string }

func (e *runtimeError) Error() string        { return e.text }
func (e *runtimeError) Is(target error) bool { return target == ErrNoProgram }

// said leaves of an error the words of the runtime.
func said(err error) error {
	if errors.Is(err, runc.ErrNotStarted) {
		return &runtimeError{strings.TrimPrefix(err.Error(), runc.ErrNotStarted.Error()+": ")}
	}
	return err
}

// onMachine is the sandbox of the group's containers. The group's lock is held.
func (g *Group) onMachine() (*runc.Sandbox, error) {
	if g.machine != nil {
		return g.machine, nil
	}
	machine, err := g.fleet.cfg.Containers.Sandbox(g.spec.Machine)
	if err != nil {
		return nil, err
	}
	g.machine = machine
	return machine, nil
}

// leaveMachine gives the sandbox up, with all that still runs in it. The group's lock
// is held.
func (g *Group) leaveMachine() {
	machine := g.machine
	if machine == nil {
		return
	}
	g.machine = nil
	g.fleet.wg.Add(1)
	go func() {
		defer g.fleet.wg.Done()
		// What it could not remove, the closing of the runtime tells.
		_ = machine.Close()
	}()
}

// startContainer has a container started, and carries on when it runs: what takes real
// time is not done with the group's lock held.
func (g *Group) startContainer(now time.Time, c *container) {
	if g.abandoned {
		return
	}
	if c.spec.NonRoot && c.spec.Setting.User == 0 {
		const why = "container has runAsNonRoot and image will run as root"
		g.event(now, Warning, "Failed", "Error: "+why, c.spec.Name)
		c.turn(Status{Run: Waiting, Reason: "CreateContainerConfigError", Message: why})
		return
	}
	machine, err := g.onMachine()
	if err != nil {
		g.notStarted(now, c, err)
		return
	}
	era, spec := g.era, runcContainer(c.spec)
	g.fleet.wg.Add(1)
	go func() {
		defer g.fleet.wg.Done()
		process, err := machine.Start(spec)
		g.lock()
		defer g.unlock()
		now := g.fleet.clock.Now()
		switch {
		case err != nil && !g.abandoned && g.era == era:
			g.notStarted(now, c, err)
		case err != nil:
		case g.abandoned || g.era != era || c.dismissed:
			process.Kill()
			process.Output().Close()
		default:
			g.began(now, c, process)
		}
	}()
}

// runcContainer is what runc is to run for a container.
func runcContainer(c Container) runc.Container {
	out := runc.Container{Name: c.Name, Image: c.Image, Command: c.Command, Args: c.Args, Setting: c.Setting}
	for _, v := range c.Env {
		out.Env = append(out.Env, v.Name+"="+v.Value)
	}
	return out
}

// notStarted ends a container that could not be started, as containerd does.
func (g *Group) notStarted(now time.Time, c *container, err error) {
	// containerd calls another command of runc, which says the same.
	words := strings.Replace(said(err).Error(), "runc run failed", "runc create failed", 1)
	message := "failed to create containerd task: failed to create shim task: OCI runtime create failed: " + words + ": unknown"
	g.event(now, Warning, "Failed", "Error: "+message, c.spec.Name)
	c.begin(now, g.fleet.cfg.MaxLogBytes)
	g.appStarted(now, c)
	c.trace.begin(now, Load{})
	g.exited(now, c, Termination{ExitCode: 128, Reason: "StartError", Message: message})
}

// began is the start of a container whose process runs.
func (g *Group) began(now time.Time, c *container, process *runc.Process) {
	in := &contained{process}
	c.process = in
	g.run(now, c)
	read, logs := make(chan struct{}), c.logs // the next run has others
	g.fleet.wg.Add(2)
	go func() {
		defer g.fleet.wg.Done()
		defer close(read)
		g.copyOutput(logs, process.Output())
	}()
	go func() {
		defer g.fleet.wg.Done()
		g.waitContained(c, in, read)
	}()
	if hook := c.spec.PostStart; hook != nil && !c.init {
		g.postStart(c, *hook)
	}
}

// waitContained waits for the process and reports its end to the group once its output
// is read.
func (g *Group) waitContained(c *container, in *contained, read <-chan struct{}) {
	<-in.run.Done()
	output := in.run.Output()
	_ = output.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	output.Close()
	g.lock()
	defer g.unlock()
	if g.abandoned || c.process != in {
		return
	}
	c.process = nil
	g.exited(g.fleet.clock.Now(), c, c.termination(in.run.Ending()))
}

// Bounds of a message from the log, as the kubelet has them.
const (
	messageLines = 80
	messageBytes = 2048
)

// termination is how a contained process ended. The container runtime tells no signal,
// but 128 and its number.
func (c *container) termination(e runc.Ending) Termination {
	t := Termination{ExitCode: e.ExitCode, Message: e.Message}
	if e.OutOfMemory && e.ExitCode != 0 {
		t.Reason = "OOMKilled"
	}
	if t.Message == "" && t.ExitCode != 0 && c.spec.MessageFromLogs {
		lines := c.logs.lines
		text := JoinLines(lines[max(0, len(lines)-messageLines):], false)
		t.Message = text[max(0, len(text)-messageBytes):]
	}
	return t
}

// hookTime bounds a postStart hook.
const hookTime = 2 * time.Minute

// postStart carries out the hook of a container that has just started; one that fails
// ends it.
func (g *Group) postStart(c *container, hook Action) {
	do := g.action(c, hook)
	if do == nil {
		return
	}
	run := c.attempts
	g.background(hookTime, do, func(now time.Time, err error) {
		if err == nil || c.attempts != run || c.current.Run != Processing || g.stopped != nil {
			return
		}
		g.event(now, Warning, "FailedPostStartHook", "PostStartHook failed: "+err.Error(), c.spec.Name)
		g.terminate(now, c, orDefault(g.spec.Grace, probeGrace))
	})
}

// preStop carries out the hook of a container that is to end, for the grace period at
// most, and then has it signalled.
func (g *Group) preStop(c *container, grace time.Duration, signal func(now time.Time)) {
	do := g.action(c, *c.spec.PreStop)
	if do == nil {
		signal(g.fleet.clock.Now())
		return
	}
	g.background(grace, do, func(now time.Time, err error) {
		if err != nil {
			g.event(now, Warning, "FailedPreStopHook", "PreStopHook failed: "+err.Error(), c.spec.Name)
		}
		signal(now)
	})
}
