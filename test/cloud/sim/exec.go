package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// ErrNoProgram says that the container has no such program: a simulated one has none,
// a process of this host those of hostPrograms.
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
	command command
	out, in *os.File // the same for a terminal; in is nil without an input
	ended   chan struct{}
}

// Exec runs a command beside the process of a running container, with the same
// environment and folder. The command ends with the container at the latest.
func (g *Group) Exec(name string, o ExecOptions) (*Session, error) {
	s, err := g.prepareExec(name, o)
	if err != nil {
		return nil, err
	}
	if o.Terminal != nil {
		err = s.startInTerminal(*o.Terminal)
	} else {
		err = s.startWithPipes(o.Stdin)
	}
	if err != nil {
		g.fleet.wg.Done()
		return nil, fmt.Errorf("exec in container %s of %s: %w", name, g.id, err)
	}
	go func() {
		defer g.fleet.wg.Done()
		// How it ended is told to nobody, as in the clouds.
		_ = s.command.wait()
		s.command.kill() // what it left behind
		// A process that left the group could hold the output open for ever.
		_ = s.out.SetReadDeadline(time.Now().Add(time.Second))
		close(s.ended)
	}()
	return s, nil
}

// prepareExec finds the process beside which a command is to run, and counts the
// command among what the fleet waits for.
func (g *Group) prepareExec(name string, o ExecOptions) (*Session, error) {
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
	case c.process == nil || g.abandoned:
		return nil, fmt.Errorf("exec: %q: %w", o.Command[0], ErrNoProgram)
	}
	command, err := c.process.command(o.Command)
	if err != nil {
		return nil, fmt.Errorf("exec: %w", err)
	}
	g.fleet.wg.Add(1)
	return &Session{command: command, ended: make(chan struct{})}, nil
}

// NotStarted is what the clouds print about a command that Exec could not start: the
// words of the container runtime.
func NotStarted(command []string, err error) string {
	var said *runtimeError
	switch {
	case errors.As(err, &said):
		return "OCI runtime exec failed: " + said.text + ": unknown\r\n"
	case errors.Is(err, ErrNoProgram) && len(command) > 0:
		return fmt.Sprintf("OCI runtime exec failed: exec failed: unable to start container process: exec: %q: %v: unknown\r\n", command[0], ErrNoProgram)
	}
	return "OCI runtime exec failed: " + err.Error() + "\r\n"
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
	var input *os.File
	if stdin {
		if input, s.in, err = os.Pipe(); err != nil {
			return err
		}
		theirs = append(theirs, input)
	}
	return s.command.start(input, output)
}

func (s *Session) startInTerminal(size TerminalSize) error {
	terminal, err := s.command.startInTerminal(size)
	if err != nil {
		return err
	}
	s.out, s.in = terminal, terminal
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
