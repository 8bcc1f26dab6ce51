package sim

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hostPrograms are the programs that may run on this host.
var hostPrograms = []string{
	"sh", "bash", "sleep", "echo", "true", "false", "env", "cat", "printf", "date", "seq", "head", "stty", "tty", "pwd",
}

// hostPath is the PATH of host processes whose container sets none.
const hostPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// hostProgram returns the file to run for a command, or "" if the command must
// be simulated: no explicit command, not a listed program, not on this host.
func hostProgram(command []string) string {
	if len(command) == 0 || !slices.Contains(hostPrograms, path.Base(command[0])) {
		return ""
	}
	if strings.Contains(command[0], "/") {
		if _, err := os.Stat(command[0]); err == nil && filepath.IsAbs(command[0]) {
			return command[0]
		}
	}
	for _, dir := range filepath.SplitList(hostPath) {
		file := filepath.Join(dir, path.Base(command[0]))
		if info, err := os.Stat(file); err == nil && info.Mode()&0o111 != 0 {
			return file
		}
	}
	return ""
}

// hostProcess is one process of this host and its process group.
type hostProcess struct {
	cmd  *exec.Cmd
	dir  string
	host *host
	guests
}

func (p *hostProcess) signal(s syscall.Signal) {
	// The group may be gone already, which is what is wanted.
	_ = syscall.Kill(-p.cmd.Process.Pid, s)
}

func (p *hostProcess) terminate() { p.signal(syscall.SIGTERM) }

func (p *hostProcess) kill() {
	p.signal(syscall.SIGKILL)
	p.killAll()
}

func (p *hostProcess) usage() (cpu time.Duration, memory int64) {
	return p.host.usage(p.cmd.Process.Pid)
}

// command is another of the harmless programs, with the same environment and folder.
func (p *hostProcess) command(args []string) (command, error) {
	program := hostProgram(args)
	if program == "" {
		return nil, fmt.Errorf("%q: %w", args[0], ErrNoProgram)
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Dir, cmd.Env = p.cmd.Dir, slices.Clone(p.cmd.Env)
	return &hostCommand{cmd, &p.guests}, nil
}

// hostCommand is a program beside a process of this host.
type hostCommand struct {
	cmd    *exec.Cmd
	guests *guests
}

func (c *hostCommand) start(in, out *os.File) error {
	if in != nil {
		c.cmd.Stdin = in
	}
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return c.guests.start(c.cmd)
}

func (c *hostCommand) startInTerminal(size TerminalSize) (*os.File, error) {
	ours, theirs, err := OpenTerminal(size)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs, theirs, theirs
	c.cmd.Env = append(c.cmd.Env, "TERM=xterm")
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.guests.start(c.cmd); err != nil {
		ours.Close()
		return nil, err
	}
	return ours, nil
}

func (c *hostCommand) wait() error {
	err := c.cmd.Wait()
	c.guests.leave(c.cmd)
	return err
}

func (c *hostCommand) kill() { killGroup(c.cmd) }

// killGroup ends a process and its process group, which may be gone already.
func killGroup(leader *exec.Cmd) { _ = syscall.Kill(-leader.Process.Pid, syscall.SIGKILL) }

// guests are the programs that run beside the process of a container.
type guests struct {
	mu   sync.Mutex
	over bool // none starts any more
	list map[*exec.Cmd]bool
}

func (g *guests) start(cmd *exec.Cmd) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		return ErrNotRunning
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if g.list == nil {
		g.list = map[*exec.Cmd]bool{}
	}
	g.list[cmd] = true
	return nil
}

func (g *guests) leave(cmd *exec.Cmd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.list, cmd)
}

func (g *guests) killAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.over = true
	for cmd := range g.list {
		killGroup(cmd)
	}
}

// startHost runs the container's command on this host. The group's lock is held.
func (g *Group) startHost(c *container) error {
	if g.abandoned {
		return errors.New("the fleet is closed")
	}
	dir, err := os.MkdirTemp(g.fleet.cfg.TempDir, "container-")
	if err != nil {
		return fmt.Errorf("start container %s: %w", c.spec.Name, err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start container %s: %w", c.spec.Name, err), os.RemoveAll(dir))
	}
	args := slices.Concat(c.spec.Command[1:], c.spec.Args)
	cmd := exec.Command(hostProgram(c.spec.Command), args...)
	cmd.Args[0] = c.spec.Command[0]
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, in, in
	cmd.Env = hostEnv(c.spec.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = cmd.Start()
	in.Close() // the child has its own
	if err != nil {
		out.Close()
		return errors.Join(fmt.Errorf("start container %s: %w", c.spec.Name, err), os.RemoveAll(dir))
	}
	p := &hostProcess{cmd: cmd, dir: dir, host: &g.fleet.host}
	c.process = p

	read, logs := make(chan struct{}), c.logs // the next run has others
	g.fleet.wg.Add(2)
	go func() {
		defer g.fleet.wg.Done()
		defer close(read)
		g.copyOutput(logs, out)
	}()
	go func() {
		defer g.fleet.wg.Done()
		g.waitHost(c, p, out, read, dir)
	}()
	return nil
}

// copyOutput adds what the process prints to its log, line by line.
func (g *Group) copyOutput(to *logBuffer, out io.Reader) {
	r := bufio.NewReaderSize(out, 64<<10)
	for {
		line, err := r.ReadString('\n')
		if line != "" {
			g.mu.Lock()
			to.add(g.fleet.clock.Now(), strings.TrimSuffix(line, "\n"))
			g.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// waitHost waits for the process, ends what it left behind, and reports its
// end to the group once its output is read.
func (g *Group) waitHost(c *container, p *hostProcess, out *os.File, read <-chan struct{}, dir string) {
	// The error repeats the process state, which is read below.
	_ = p.cmd.Wait()
	p.kill() // the container ends with its first process
	// A process that left the group could hold the pipe open for ever.
	_ = out.SetReadDeadline(time.Now().Add(time.Second))
	<-read
	out.Close()
	// A leaving process may still write; the directory is temporary anyway.
	_ = os.RemoveAll(dir)

	g.lock()
	defer g.unlock()
	if g.abandoned || c.process != p {
		return
	}
	c.process = nil
	g.exited(g.fleet.clock.Now(), c, termination(p.cmd.ProcessState))
}

// termination is how a process ended, with 128 and the signal for a killed one.
func termination(s *os.ProcessState) Termination {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return Termination{ExitCode: 128 + int(w.Signal()), Signal: int(w.Signal())}
	}
	return Termination{ExitCode: s.ExitCode()}
}

// hostEnv is the environment of a host process: the container's and PATH.
func hostEnv(vars []EnvVar) []string {
	env := []string{"PATH=" + hostPath}
	for _, v := range vars {
		env = append(env, v.Name+"="+v.Value)
	}
	return env
}
