package sim

import (
	"os/exec"
	"time"
)

// process is the real process of a container: one of this host, or one in a container
// of its own. Its waiter tells the group of its end.
type process interface {
	// terminate asks it to end.
	terminate()
	// kill ends it, and all that runs beside it.
	kill()
	// usage is what it has used of CPUs, and uses of memory in bytes.
	usage() (cpu time.Duration, memory int64)
	// command prepares a program beside it, or returns an ErrNoProgram.
	command(args []string, terminal bool) (*command, error)
}

// command is a program to be run beside a process.
type command struct {
	// client has the input and the output of the program.
	client *exec.Cmd
	// start returns when the program runs: an ErrNoProgram if there is none. wait
	// returns when it has ended, with an error if not well.
	start, wait func() error
	// kill ends the program, once started, and what it left behind. It may have ended.
	kill func()
}
