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
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
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
	spec    specs.Process
	started *os.Process // the first process of the container
	output  *os.File
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

// Start runs a container. It returns when the process runs, or an error that is an
// ErrNotStarted if it cannot.
func (s *Sandbox) Start(c Container) (_ *Process, err error) {
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
	if p.spec, err = s.writeBundle(p.dir, id, &c); err != nil {
		return nil, errors.Join(fmt.Errorf("starting container %s: %w", c.Name, err), os.RemoveAll(p.dir))
	}
	l := launch{runtime: s.runtime, dir: p.dir, terminal: c.Terminal, words: []string{"run", "--no-new-keyring", "--bundle", p.dir}, id: id}
	if !c.Terminal {
		var in *os.File
		if p.output, in, err = os.Pipe(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(p.dir))
		}
		l.out = in
		defer in.Close()
	}
	process, terminal, err := l.run()
	if terminal != nil {
		p.output = terminal
	}
	if err != nil {
		if p.output != nil {
			p.output.Close()
		}
		return nil, errors.Join(err, p.remove())
	}
	p.started = process
	s.mu.Lock()
	s.running[p] = true
	closed := s.closed
	s.mu.Unlock()
	if closed {
		p.Kill()
	}
	go func() {
		defer s.pending.Done()
		p.finish()
	}()
	return p, nil
}

// launch is a call of runc that starts a program and leaves it to us: runc ends, and the
// program is our child, as Runtime has asked for orphans.
type launch struct {
	runtime  *Runtime
	dir      string // of the files of this call
	words    []string
	id       string
	terminal bool
	in, out  *os.File
}

// run returns the program's first process and, if it has one, our end of its terminal.
func (l *launch) run() (process *os.Process, terminal *os.File, err error) {
	pid := filepath.Join(l.dir, pidFile)
	words := append(l.words, "--detach", "--pid-file", pid)
	var socket *console
	if l.terminal {
		if socket, err = newConsole(l.dir); err != nil {
			return nil, nil, err
		}
		defer socket.close()
		words = append(words, "--console-socket", socket.path())
	}
	cmd := l.runtime.command(l.dir, append(words, l.id)...)
	if l.in != nil {
		cmd.Stdin = l.in
	}
	if l.out != nil {
		cmd.Stdout, cmd.Stderr = l.out, l.out
	}
	// A signal from the keyboard is not for containers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("%w: %s", ErrNotStarted, complaint(filepath.Join(l.dir, logFile), err))
	}
	// From here on the number is that of our child, which nobody else waits for.
	if process, err = os.FindProcess(int(number(content(pid)))); err != nil {
		return nil, nil, err
	}
	if socket != nil {
		if terminal, err = socket.receive(); err != nil {
			_ = process.Kill()
			_, _ = process.Wait()
			return nil, nil, err
		}
	}
	return process, terminal, nil
}

// adopt makes this process the parent of the orphans among its descendants, which
// containers and the commands in them are.
func adopt() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// command is a call of runc, which complains to a log in the folder too.
func (r *Runtime) command(dir string, args ...string) *exec.Cmd {
	return exec.Command(r.program, append([]string{"--root", r.state(), "--log", filepath.Join(dir, logFile), "--log-format", "json"}, args...)...)
}

// complaint is the last error that runc has logged, or otherwise how it ended.
func complaint(file string, otherwise error) string {
	last := otherwise.Error()
	for line := range strings.Lines(content(file)) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			last = entry.Msg
		}
	}
	return last
}

// finish waits for the end of the container, notes how it ended and removes it.
func (p *Process) finish() {
	state, err := p.started.Wait()
	e := Ending{ExitCode: -1, OutOfMemory: p.sandbox.runtime.cgroups.outOfMemory(p.cgroup) > 0}
	if err == nil {
		e.ExitCode = exitCode(state)
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

// exitCode is 128 and the signal for a process that one has ended.
func exitCode(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return state.ExitCode()
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

// Output is what the container prints, or our end of its terminal. Whoever started it
// reads and closes it.
func (p *Process) Output() *os.File { return p.output }

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
