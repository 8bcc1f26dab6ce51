package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/autoburst/autoburst/test/playground/session"
	"github.com/autoburst/autoburst/test/playground/terminal"
	"github.com/autoburst/autoburst/test/playground/tour"
)

// guide leads through the playground that runs in the checkout, or through one of its
// own that it takes down afterwards.
func guide(ctx context.Context, root string, o options, screen *screen) (err error) {
	running, err := session.Find(root)
	if errors.Is(err, session.ErrNone) {
		s, startErr := start(ctx, root, o, screen)
		if startErr != nil {
			return startErr
		}
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w\n%s(logs in %s)", err, s.Logs(10), s.Dir)
				s.Keep()
			}
			err = errors.Join(err, s.Close())
		}()
		running, err = s.Published, nil
	}
	if err != nil {
		return err
	}
	g := &tour.Guide{Root: root, Session: running, Out: os.Stdout}
	if !o.yes {
		g.In = os.Stdin
	}
	if terminal.Is(os.Stdout) && os.Getenv("NO_COLOR") == "" {
		g.Emphasis = func(s string) string { return "\x1b[1m" + s + "\x1b[0m" }
	}
	screen.print("The tour is in the playground at %s: open it in a browser to see what each step does.", running.URL)
	results, err := g.Run(ctx, tour.Steps())
	if tour.IsLeft(err) {
		err = nil
	}
	if err != nil {
		return err
	}
	screen.print("\n%d of %d steps were gone through, each as it should be.", len(results), len(tour.Steps()))
	return nil
}
