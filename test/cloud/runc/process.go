package runc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Files of a container's folder.
const (
	messageFile = "termination-log"
	pidFile     = "pid"
	logFile     = "log"
)

// ErrNotStarted says that the runtime could not start a program, such as one that the
// container does not have. Its text is the runtime's.
var ErrNotStarted = errors.New("not started")

// Process is one run of a container. It is safe for concurrent use.
type Process struct {
	sandbox *Sandbox
	id, dir string
	cgroup  string
	started *os.Process // the first process of the container
	done    chan struct{}
	ending  Ending // once done is closed
}

// Ending is how a container ended.
type Ending struct {
	// ExitCode is 128 and the signal for a process that one has ended.
	ExitCode int
	// OutOfMemory is whether a process was killed because the container had used up its
	// memory.
	OutOfMemory bool
	// Message is what the container wrote to its MessagePath.
	Message string
}

// Start runs a container, whose output goes to out, or whose terminal out is. It
// returns when the process runs, or an error that is an ErrNotStarted if it cannot.
func (s *Sandbox) Start(c Container, out *os.File) (_ *Process, err error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("starting container %s: the sandbox is closed: %w", c.Name, ErrNotStarted)
	}
	s.pending.Add(1)
	s.mu.Unlock()
	defer func() {
		if err != nil {
			s.pending.Done()
		}
	}()
	id := fmt.Sprintf("container-%d", s.runtime.containers.Add(1))
	p := &Process{
		sandbox: s, id: id, dir: filepath.Join(s.dir, id), cgroup: s.runtime.group + "/" + id, done: make(chan struct{}),
	}
	if err := s.writeBundle(p.dir, id, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("starting container %s: %w", c.Name, err), os.RemoveAll(p.dir))
	}
	// What has ended stays until its control group has been read.
	cmd := s.runtime.command(p.dir, "run", "--keep", "--no-new-keyring", "--pid-file", filepath.Join(p.dir, pidFile), "--bundle", p.dir, id)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.Terminal {
		cmd.Stdin, cmd.SysProcAttr = out, &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting container %s: %w", c.Name, err), os.RemoveAll(p.dir))
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the state says it
		close(ended)
	}()
	pid := awaitPid(filepath.Join(p.dir, pidFile), ended)
	if pid == 0 {
		err := fmt.Errorf("%w: %s", ErrNotStarted, p.complaint())
		return nil, errors.Join(err, p.remove())
	}
	// The process is held by a descriptor: its number may soon be another's.
	if p.started, err = os.FindProcess(pid); err != nil {
		return nil, errors.Join(err, p.remove())
	}
	s.mu.Lock()
	s.running[p] = true
	closed := s.closed
	s.mu.Unlock()
	if closed {
		p.Kill()
	}
	go func() {
		defer s.pending.Done()
		<-ended
		p.finish(cmd.ProcessState)
	}()
	return p, nil
}

// command is a call of runc, which complains to a log in the folder too.
func (r *Runtime) command(dir string, args ...string) *exec.Cmd {
	return exec.Command(r.program, append([]string{"--root", r.state(), "--log", filepath.Join(dir, logFile), "--log-format", "json"}, args...)...)
}

// awaitPid waits for a file with the number of a process that runs; 0 if the program
// that would write it has ended without.
func awaitPid(file string, ended <-chan struct{}) int {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := false; ; {
		// It appears with its content.
		if text, err := os.ReadFile(file); err == nil {
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			return pid
		}
		if over {
			return 0
		}
		select {
		case <-tick.C:
		case <-ended:
			over = true // it may have been written just before
		}
	}
}

// complaint is the last thing that runc has logged.
func (p *Process) complaint() string { return complaint(filepath.Join(p.dir, logFile)) }

func complaint(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	last := ""
	for line := range strings.Lines(string(text)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return last
}

// finish notes how the container ended and removes it.
func (p *Process) finish(state *os.ProcessState) {
	e := Ending{ExitCode: state.ExitCode(), OutOfMemory: p.sandbox.runtime.cgroups.outOfMemory(p.cgroup) > 0}
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		e.ExitCode = 128 + int(w.Signal())
	}
	if text, err := os.ReadFile(filepath.Join(p.dir, messageFile)); err == nil {
		e.Message = string(text[:min(len(text), maxMessage)])
	}
	p.ending = e
	close(p.done)
	_ = p.remove() // Close of the runtime finds what this could not remove
	p.sandbox.mu.Lock()
	delete(p.sandbox.running, p)
	p.sandbox.mu.Unlock()
}

// maxMessage bounds a termination message, as the kubelet does.
const maxMessage = 4096

// remove makes runc forget the container, ends what is left of it and removes its
// files.
func (p *Process) remove() error {
	// An error is that of a container that was never made.
	_ = p.sandbox.runtime.command(p.dir, "delete", "--force", p.id).Run()
	return errors.Join(p.sandbox.runtime.cgroups.end(p.cgroup), os.RemoveAll(p.dir))
}

// Done is closed when the container has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ending is how the container ended, once Done is closed.
func (p *Process) Ending() Ending { return p.ending }

// Terminate sends SIGTERM to the first process. The kernel drops it if that has not
// asked for it, as it drops all signals but SIGKILL for such a process.
func (p *Process) Terminate() { p.signal(syscall.SIGTERM) }

// Kill ends the container.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

func (p *Process) signal(s syscall.Signal) {
	// It may have gone already, which is what is wanted.
	_ = p.started.Signal(s)
}

// Usage is what the container has used of CPUs, and uses of memory in bytes.
func (p *Process) Usage() (cpu time.Duration, memory int64) {
	return p.sandbox.runtime.cgroups.usage(p.cgroup)
}

// Dial connects to a TCP port of the container and of its neighbours.
func (p *Process) Dial(ctx context.Context, port int) (net.Conn, error) {
	return p.sandbox.Dial(ctx, port)
}
