package providers

import (
	"context"
	"io"
)

// Unsupported says that the cloud cannot do what was asked, whoever asks and whenever.
const Unsupported ErrorClass = "Unsupported"

// Executor is what a [Provider] may do beside: connect to the containers that it
// runs. Neither cloud tells how a command has ended.
type Executor interface {
	// Exec starts a command in a running container. An Unsupported error says what
	// about it the cloud cannot do. The context bounds the start, not the session.
	Exec(ctx context.Context, id, container string, command ExecCommand) (Session, error)

	// Attach connects to what a running container prints from now on. It is an
	// Unsupported error where the cloud has no such thing.
	Attach(ctx context.Context, id, container string) (Session, error)
}

// ExecCommand is a command for a container.
type ExecCommand struct {
	// Command is the program and its arguments.
	Command []string
	// Stdin is whether it gets an input, TTY whether a terminal.
	Stdin, TTY bool
	// Size is that of the terminal at the start, zero where it is not known. No
	// cloud can change it later.
	Size TerminalSize
}

// TerminalSize is the size of a terminal in characters.
type TerminalSize struct{ Rows, Columns uint16 }

// Session is a connection to a command or a container. Reads and writes may go on
// at once; Close ends both.
type Session interface {
	// Read returns what is printed, standard output and standard error in one, and
	// io.EOF once the command or the container has ended. Write passes input.
	io.ReadWriteCloser

	// CloseWrite tells that the input has ended. It returns false where the cloud
	// cannot pass that on: a command that waits for it goes on waiting.
	CloseWrite() (told bool, err error)
}
