package runc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
)

// Command is a program beside the first process of a container, with the same
// environment, folder, user and rights. Give it input and output, call Start and Wait.
type Command struct {
	// Client is runc's process, whose input and output are the command's.
	Client  *exec.Cmd
	process *Process
	pid     string // the file with the number of the command's process
	log     string
	ended   chan struct{}
	err     error
}

// commands counts those that were ever made, to tell their files apart.
var commands atomic.Int64

// Command prepares a program. With a terminal, the client's input and output must
// be one, of which runc makes the command's own.
func (p *Process) Command(args []string, terminal bool) *Command {
	at := filepath.Join(p.dir, "exec-"+strconv.FormatInt(commands.Add(1), 10))
	c := &Command{process: p, pid: at + "." + pidFile, log: at + "." + logFile, ended: make(chan struct{})}
	words := []string{"--root", p.sandbox.runtime.state(), "--log", c.log, "--log-format", "json", "exec", "--pid-file", c.pid}
	if terminal {
		words = append(words, "--tty", "--env", "TERM=xterm")
	}
	words = append(append(words, p.id), args...)
	c.Client = exec.Command(p.sandbox.runtime.program, words...)
	return c
}

// Start returns when the command runs, or has run, or an error that is an
// ErrNotStarted if it cannot.
func (c *Command) Start() error {
	if err := c.Client.Start(); err != nil {
		return err
	}
	go func() {
		c.err = c.Client.Wait()
		close(c.ended)
	}()
	if awaitPid(c.pid, c.ended) == 0 {
		defer c.forget()
		return fmt.Errorf("%w: %s", ErrNotStarted, complaint(c.log))
	}
	return nil
}

// Wait returns when the command has ended: nil if with 0, otherwise an
// *exec.ExitError, whose code is 128 and the signal for one that a signal has ended.
func (c *Command) Wait() error {
	<-c.ended
	c.forget()
	return c.err
}

// Ended is closed when the command has ended.
func (c *Command) Ended() <-chan struct{} { return c.ended }

// Kill ends the command, if it runs.
func (c *Command) Kill() {
	select {
	case <-c.ended:
		return
	default:
	}
	// runc waits for the process, so that its number is not another's meanwhile.
	if pid := number(content(c.pid)); pid > 0 {
		_ = syscall.Kill(int(pid), syscall.SIGKILL)
		return
	}
	_ = c.Client.Process.Kill()
}

func (c *Command) forget() { _ = errors.Join(os.Remove(c.pid), os.Remove(c.log)) }
