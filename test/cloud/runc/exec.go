package runc

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Command is a program beside the first process of a container, with the same
// environment, folder, user and rights. Start it, in either way, and Wait.
type Command struct {
	process *Process
	args    []string
	dir     string // of its files
	started *os.Process
}

// commands counts those that were ever made, to tell their files apart.
var commands atomic.Int64

// Command prepares a program.
func (p *Process) Command(args []string) *Command {
	return &Command{process: p, args: args, dir: filepath.Join(p.dir, "exec-"+strconv.FormatInt(commands.Add(1), 10))}
}

// Start returns when the command runs, or an error that is an ErrNotStarted if it
// cannot. Without in its input is empty, without out nobody sees its output.
func (c *Command) Start(in, out *os.File) error {
	_, err := c.start(nil, in, out)
	return err
}

// StartTerminal starts the command in a terminal of that size and returns our end of
// it, which is to be closed.
func (c *Command) StartTerminal(rows, columns uint16) (*os.File, error) {
	return c.start(&specs.Box{Height: uint(rows), Width: uint(columns)}, nil, nil)
}

func (c *Command) start(size *specs.Box, in, out *os.File) (terminal *os.File, err error) {
	p := c.process
	// Not below the container's folder when that has gone with it.
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return nil, errors.Join(ErrNotStarted, errors.New("container "+p.id+" has ended"))
	}
	spec := p.spec
	spec.Args, spec.Terminal, spec.ConsoleSize = c.args, size != nil, size
	if spec.Terminal {
		spec.Env = environment(append(slices.Clone(spec.Env), "TERM=xterm"))
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(c.dir, "process.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	l := launch{
		runtime: p.sandbox.runtime, dir: c.dir, terminal: spec.Terminal, in: in, out: out,
		words: []string{"exec", "--process", file}, id: p.id,
	}
	c.started, terminal, err = l.run()
	_ = os.RemoveAll(c.dir) // with the container's folder at the latest
	return terminal, err
}

// Wait returns when the command has ended: its exit code, which is 128 and the signal
// for one that a signal has ended.
func (c *Command) Wait() (int, error) {
	state, err := c.started.Wait()
	if err != nil {
		return 0, err
	}
	return exitCode(state), nil
}

// Kill ends the command, which has been started. It may have ended.
func (c *Command) Kill() { _ = c.started.Kill() }
