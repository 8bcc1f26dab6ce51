// Command demo shows the whole path on one machine: a real control plane is
// filled with unchanged manifests, and what does not fit overflows to emulated
// ECI and ACI. With -playground the same system stays until Ctrl-C, shown live in
// the terminal and in the browser; with -tour it is shown step by step.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/playground/session"
)

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := interruptible(context.Background(), os.Stderr)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: failed: %v\n", err)
		os.Exit(1)
	}
}

// options are what the command line asks for.
type options struct {
	playground, tour, yes, lines bool
	port                         int
}

const usage = `Usage:
  go run ./test/demo                fill a cluster, watch it overflow, tear all down
  go run ./test/demo -playground    leave the system running until q or Ctrl-C
  go run ./test/demo -tour          be shown around, in the playground that runs or in a new one

Flags:
`

func parse(args []string, out io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.playground, "playground", false, "leave the system running until q or Ctrl-C")
	f.BoolVar(&o.tour, "tour", false, "go through the tour")
	f.BoolVar(&o.yes, "yes", false, "with -tour: do not wait for Enter before each step")
	f.BoolVar(&o.lines, "lines", false, "with -playground: print lines, also on a terminal")
	f.IntVar(&o.port, "port", 0, "with -playground or -tour: the port of the web page on 127.0.0.1; 0 takes one that is free")
	help := func() {
		f.SetOutput(out)
		fmt.Fprint(out, usage)
		f.PrintDefaults()
	}
	f.Usage = func() {}
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		help()
		return o, err
	case err != nil:
		return o, fmt.Errorf("%w (see -help)", err)
	case f.NArg() > 0:
		return o, fmt.Errorf("the argument %q is not understood: there are flags only (see -help)", f.Arg(0))
	case o.playground && o.tour:
		return o, errors.New("-playground and -tour are two commands: run the tour in a terminal of its own")
	case o.yes && !o.tour:
		return o, errors.New("-yes is for -tour")
	case o.lines && !o.playground:
		return o, errors.New("-lines is for -playground")
	case o.port < 0 || o.port > 65535:
		return o, fmt.Errorf("-port=%d is no port: write one from 1 to 65535, or 0 for any that is free", o.port)
	case o.port != 0 && !o.playground && !o.tour:
		return o, errors.New("-port is for -playground and -tour")
	}
	return o, nil
}

// interruptible ends the context at the first Ctrl-C, SIGTERM or loss of the terminal,
// or when `go run` dies, and the process at the second; the kernel then ends what it
// started.
func interruptible(ctx context.Context, out io.Writer) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		orphan := orphaned(ctx)
		select {
		case s := <-signals:
			fmt.Fprintln(out, "\ndemo: stopping; Ctrl-C once more ends it at once")
			cancel(fmt.Errorf("ended by %v", s))
		case <-orphan:
			cancel(errors.New("'go run' was killed"))
		case <-ctx.Done():
		}
		if _, ok := <-signals; ok {
			fmt.Fprintln(out, "\ndemo: ended at once; the next playground removes what is left in .cache/playground")
			os.Exit(130)
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// orphaned is closed when the `go run` that started this process has died, and never
// when something else did: that may die as it likes.
func orphaned(ctx context.Context) <-chan struct{} {
	gone := make(chan struct{})
	parent := os.Getppid()
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)); err != nil || strings.TrimSpace(string(name)) != "go" {
		return gone
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if os.Getppid() != parent {
					close(gone)
					return
				}
			}
		}
	}()
	return gone
}

func run(ctx context.Context, o options) error {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	screen := newScreen(os.Stdout)
	switch {
	case o.tour:
		return guide(ctx, root, o, screen)
	case o.playground:
		return stay(ctx, root, o, screen)
	default:
		if err := preflight(ctx, root, screen); err != nil {
			return err
		}
		return once(ctx, screen)
	}
}

// once plays the scenario and tears all down.
func once(ctx context.Context, screen *screen) (err error) {
	begin := time.Now()
	p, err := playground.Start(ctx, playground.Options{Progress: screen, Local: session.Local, Cloud: session.Cloud()})
	if err != nil {
		return err
	}
	stopped := false
	defer func() {
		if err != nil {
			p.KeepLogs()
			err = fmt.Errorf("%w\n%s(logs in %s)", err, p.Logs(10), p.Dir)
		}
		if !stopped {
			_ = p.Stop()
		}
	}()
	started := time.Now()
	d := &demo{Playground: p, screen: screen}
	summary, err := d.play(ctx)
	if err != nil {
		return err
	}
	stopped = true
	if err := p.Stop(); err != nil {
		return fmt.Errorf("tearing down: %w", err)
	}
	screen.print("torn down; the control plane served after %.1f s, the scenario took %.0f s, all in all %.0f s",
		p.ServingIn.Seconds(), time.Since(started).Seconds(), time.Since(begin).Seconds())
	screen.print("%s", summary)
	return nil
}
