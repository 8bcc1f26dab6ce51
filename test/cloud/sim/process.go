package sim

import (
	"os"
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
	command(args []string) (command, error)
}

// command is a program to be run beside a process. It is started, in either way, and
// then waited for.
type command interface {
	// start returns when the program runs: an ErrNoProgram if there is none. Without in
	// its input is empty.
	start(in, out *os.File) error
	// startInTerminal gives it a terminal, and returns our end of that.
	startInTerminal(TerminalSize) (*os.File, error)
	// wait returns when it has ended, with an error if not well.
	wait() error
	// kill ends it, and what it left behind. It may have ended.
	kill()
}
