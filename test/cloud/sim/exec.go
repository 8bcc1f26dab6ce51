package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// ErrNoProgram says that the container has no such program: that of a simulated
// container has none, that of a real process those of hostPrograms.
var ErrNoProgram = errors.New("executable file not found in $PATH")

// ExecOptions say how a command runs in a container.
type ExecOptions struct {
	// Command is the program and its arguments.
	Command []string
	// Stdin gives the command an input; without, its input is empty.
	Stdin bool
	// Terminal gives it a terminal of that size, which is its input and output.
	Terminal *TerminalSize
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Rows, Columns uint16 }

// Session is a command that runs in a container. Close it.
type Session struct {
	process *exec.Cmd
	out, in *os.File // the same for a terminal; in is nil without an input
	ended   chan struct{}
}

// Exec runs a command beside the process of a running container, with the same
// environment and folder. The command ends with the container at the latest.
func (g *Group) Exec(name string, o ExecOptions) (*Session, error) {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("exec: %w", err)
	case c.current.Run != Processing:
		return nil, fmt.Errorf("exec in container %s of %s: %w", name, g.id, ErrNotRunning)
	case len(o.Command) == 0:
		return nil, fmt.Errorf("exec in container %s of %s: no command: %w", name, g.id, ErrNoProgram)
	case c.host == nil || g.abandoned || hostProgram(o.Command) == "":
		return nil, fmt.Errorf("exec: %q: %w", o.Command[0], ErrNoProgram)
	}
	cmd := exec.Command(hostProgram(o.Command), o.Command[1:]...)
	cmd.Args[0] = o.Command[0]
	cmd.Dir, cmd.Env = c.host.dir, hostEnv(c.spec.Env)
	s := &Session{process: cmd, ended: make(chan struct{})}
	if o.Terminal != nil {
		err = s.startInTerminal(*o.Terminal)
	} else {
		err = s.startWithPipes(o.Stdin)
	}
	if err != nil {
		return nil, fmt.Errorf("exec in container %s of %s: %w", name, g.id, err)
	}
	host := c.host
	host.join(s)
	g.fleet.wg.Add(1)
	go func() {
		defer g.fleet.wg.Done()
		// How it ended is told to nobody, as in the clouds.
		_ = cmd.Wait()
		host.leave(s)
		s.kill() // what it left behind in its process group
		// A process that left the group could hold the output open for ever.
		_ = s.out.SetReadDeadline(time.Now().Add(time.Second))
		close(s.ended)
	}()
	return s, nil
}

func (s *Session) startWithPipes(stdin bool) (err error) {
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			_ = s.Close()
		}
	}()
	out, output, err := os.Pipe()
	if err != nil {
		return err
	}
	s.out, theirs = out, append(theirs, output)
	s.process.Stdout, s.process.Stderr = output, output
	if stdin {
		input, in, err := os.Pipe()
		if err != nil {
			return err
		}
		s.in, theirs = in, append(theirs, input)
		s.process.Stdin = input
	}
	s.process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return s.process.Start()
}

func (s *Session) startInTerminal(size TerminalSize) error {
	ours, theirs, err := OpenTerminal(size)
	if err != nil {
		return err
	}
	defer theirs.Close()
	s.out, s.in = ours, ours
	s.process.Stdin, s.process.Stdout, s.process.Stderr = theirs, theirs, theirs
	s.process.Env = append(s.process.Env, "TERM=xterm")
	s.process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.process.Start(); err != nil {
		ours.Close()
		return err
	}
	return nil
}

// Read returns what the command prints, standard output and standard error in
// one, and io.EOF once it has ended.
func (s *Session) Read(p []byte) (int, error) {
	n, err := s.out.Read(p)
	if err != nil && n == 0 && (errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, os.ErrClosed)) {
		return 0, io.EOF // how a terminal ends; what a stray process still prints
	}
	return n, err
}

// Write passes input to the command. Where it has none, the input is dropped.
func (s *Session) Write(p []byte) (int, error) {
	if s.in == nil {
		return len(p), nil
	}
	return s.in.Write(p)
}

// Ended is closed when the command has ended.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Close takes the command's input, output and terminal away. A command that
// minds neither runs on until its container ends.
func (s *Session) Close() error {
	if s.in != nil {
		s.in.Close()
	}
	s.out.Close() // again, where it is the terminal
	return nil
}

func (s *Session) kill() {
	// The group may be gone already, which is what is wanted.
	_ = syscall.Kill(-s.process.Process.Pid, syscall.SIGKILL)
}

// guests are the commands that run beside the process of a container.
type guests struct {
	mu   sync.Mutex
	list map[*Session]bool
}

func (g *guests) join(s *Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.list == nil {
		g.list = map[*Session]bool{}
	}
	g.list[s] = true
}

func (g *guests) leave(s *Session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.list, s)
}

func (g *guests) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for s := range g.list {
		s.kill()
	}
}
