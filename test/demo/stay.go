package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/playground/session"
	"github.com/autoburst/autoburst/test/playground/terminal"
)

// start brings a session up.
func start(ctx context.Context, root string, o options, screen *screen) (*session.Session, error) {
	// Whatever can be wrong from the start is told before anything is built.
	if err := preflight(ctx, root, screen); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(o.port)))
	if err != nil {
		return nil, fmt.Errorf("the web page cannot be served: %w: choose another -port, or 0 for any that is free", err)
	}
	return session.Start(ctx, session.Options{
		Root: root, Listener: listener,
		Playground: playground.Options{
			Progress: screen, Local: session.Local, Cloud: session.Cloud(), Set: session.Values(),
		},
	})
}

// stay shows a session until it is ended.
func stay(ctx context.Context, root string, o options, screen *screen) (err error) {
	begin := time.Now()
	s, err := start(ctx, root, o, screen)
	if err != nil {
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s(logs in %s)", err, s.Logs(10), s.Dir)
			s.Keep()
		}
		screen.print("playground: stopping")
		err = errors.Join(err, s.Close())
		screen.print("playground: ended after %s; nothing is left", time.Since(begin).Round(time.Second))
	}()
	screen.print("\nThe playground is up after %s. In the browser: %s\nIn another terminal, in this folder:\n", time.Since(begin).Round(time.Second), s.URL)
	for _, hint := range s.Hints() {
		screen.print("  %s", hint)
	}
	screen.print("")
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.Process("kube-apiserver").Done():
			cancel(s.Err())
		case <-ctx.Done():
		}
	}()
	if o.lines || !terminal.Is(os.Stdout) || !terminal.Is(os.Stdin) {
		screen.print("Ctrl-C ends it and removes everything.")
		terminal.Tell(ctx, os.Stdout, s.Live)
	} else if err := terminal.Show(ctx, os.Stdin, os.Stdout, s.Live, terminal.Look{
		ASCII: terminal.ASCII(os.Getenv), Notes: []string{s.URL}, Commands: s.Hints(),
	}); err != nil {
		return fmt.Errorf("drawing the live view: %w", err)
	}
	return s.Err()
}
