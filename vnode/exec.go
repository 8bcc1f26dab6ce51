package vnode

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	vkapi "github.com/virtual-kubelet/virtual-kubelet/node/api"

	"github.com/autoburst/autoburst/providers"
)

const (
	// sizePatience is the wait for the size of the client's terminal, which clients
	// tell at once.
	sizePatience = time.Second
	// inputPatience is how long after the end of the client's input, which the cloud
	// cannot pass on, a command that goes on is taken for one that waits for it.
	inputPatience = 5 * time.Second
)

// exec serves kubectl exec.
func (a *Agent) exec(ctx context.Context, executor providers.Executor, t *target, command []string, client vkapi.AttachIO) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	request := providers.ExecCommand{Command: command, Stdin: client.Stdin() != nil, TTY: client.TTY()}
	if client.TTY() {
		request.Size = a.terminalSize(ctx, client)
		go ignoreSizes(ctx, client)
	}
	session, err := a.connect(ctx, "Exec", func(ctx context.Context) (providers.Session, error) {
		return executor.Exec(ctx, t.group, t.container, request)
	})
	if err != nil {
		return err
	}
	if err := a.join(ctx, session, client); err != nil {
		return err
	}
	// A client without standard errors has a terminal, and somebody at it.
	if client.Stderr() != nil {
		_, _ = fmt.Fprintf(client.Stderr(), "autoburst: the command has ended; %s does not tell its exit code\n", strings.ToUpper(a.provider.Name()))
	}
	return nil
}

// attach serves kubectl attach. What a cloud without it prints is in its log.
func (a *Agent) attach(ctx context.Context, executor providers.Executor, t *target, client vkapi.AttachIO) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	if client.TTY() {
		go ignoreSizes(ctx, client)
	}
	session, err := a.connect(ctx, "Attach", func(ctx context.Context) (providers.Session, error) {
		return executor.Attach(ctx, t.group, t.container)
	})
	if providers.ClassOf(err) == providers.Unsupported && client.Stdin() == nil {
		return a.watchOutput(ctx, t, client)
	}
	if err != nil {
		return err
	}
	return a.join(ctx, session, client)
}

// connect opens a session.
func (a *Agent) connect(ctx context.Context, operation string, open func(context.Context) (providers.Session, error)) (providers.Session, error) {
	begun := a.clock.Now()
	call, cancel := context.WithTimeout(ctx, a.cfg.CallTimeout)
	defer cancel()
	session, err := open(call)
	a.metrics.call(operation, a.clock.Since(begun), ignoreNotFound(err))
	return session, err
}

// terminalSize is the size that the client tells first, zero if it tells none.
func (a *Agent) terminalSize(ctx context.Context, client vkapi.AttachIO) providers.TerminalSize {
	timer := a.clock.NewTimer(sizePatience)
	defer timer.Stop()
	select {
	case size := <-client.Resize():
		return providers.TerminalSize{Rows: size.Height, Columns: size.Width}
	case <-timer.C():
	case <-ctx.Done():
	}
	return providers.TerminalSize{}
}

// join connects a session and a client until one of them, or ctx, ends, and closes
// the session. The caller ends ctx.
func (a *Agent) join(ctx context.Context, session providers.Session, client vkapi.AttachIO) error {
	defer session.Close()
	defer context.AfterFunc(ctx, func() { _ = session.Close() })()
	if client.Stdin() != nil {
		// It ends when the library closes the connection, after the return from here.
		go a.passInput(ctx, session, client)
	}
	output := client.Stdout()
	if output == nil {
		output = client.Stderr()
	}
	to := io.Discard
	if output != nil {
		to = output
	}
	_, err := io.Copy(to, session)
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	return err
}

// ignoreSizes takes what the client tells of its terminal: no cloud has a use for
// it, and the library waits until it is taken.
func ignoreSizes(ctx context.Context, client vkapi.AttachIO) {
	for {
		select {
		case size := <-client.Resize():
			if size == (vkapi.TermSize{}) {
				return // the client tells no more
			}
		case <-ctx.Done():
			return
		}
	}
}

// passInput copies the client's input to the session.
func (a *Agent) passInput(ctx context.Context, session providers.Session, client vkapi.AttachIO) {
	if _, err := io.Copy(session, client.Stdin()); err != nil || ctx.Err() != nil {
		return // which shows in the output
	}
	if told, err := session.CloseWrite(); told || err != nil || client.Stderr() == nil {
		return
	}
	timer := a.clock.NewTimer(inputPatience)
	defer timer.Stop()
	select {
	case <-timer.C():
		_, _ = fmt.Fprintf(client.Stderr(), "autoburst: the input has ended, which %s cannot pass on; a command that waits for that goes on waiting\n", strings.ToUpper(a.provider.Name()))
	case <-ctx.Done():
	}
}

// watchOutput passes on what a container prints from now on, as its log has it. The
// caller ends ctx.
func (a *Agent) watchOutput(ctx context.Context, t *target, client vkapi.AttachIO) error {
	logs, err := a.follow(ctx, t, providers.LogOptions{Tail: 1, Since: a.clock.Now()}, false, 0)
	if err != nil {
		return err
	}
	defer logs.Close()
	if client.Stdout() == nil {
		return nil
	}
	_, err = io.Copy(client.Stdout(), logs)
	if ctx.Err() != nil {
		return causeOf(ctx)
	}
	return err
}
