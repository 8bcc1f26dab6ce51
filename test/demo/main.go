// Command demo shows the whole path on one machine: a real control plane is
// filled with unchanged manifests, and what does not fit overflows to emulated
// ECI and ACI. With -playground the same system stays until Ctrl-C.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

func main() {
	stay := flag.Bool("playground", false, "leave the system running until Ctrl-C")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *stay); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: failed: %v\n", err)
		os.Exit(1)
	}
}

// The cluster's local room: 24 pods of half a CPU.
var local = playground.LocalNodes{Count: 3, CPU: "4", Memory: "16Gi", Pods: 30}

const slots = 24

func run(ctx context.Context, stay bool) (err error) {
	begin := time.Now()
	screen := newScreen(os.Stdout)
	p, err := playground.Start(ctx, playground.Options{
		Progress: screen,
		Local:    local,
		// A tenth of a real cloud's time, so that it can be watched.
		Cloud: sim.Config{Timing: sim.DefaultTiming().Scaled(0.1), HostCommands: true},
	})
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
	if stay {
		return wait(ctx, p, screen)
	}
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

func wait(ctx context.Context, p *playground.Playground, screen *screen) error {
	if err := p.CreateNamespace(ctx, "shop", map[string]string{"autoburst.io/mode": "Overflow"}); err != nil {
		return err
	}
	screen.print(`
The playground is up. In another terminal:

  export KUBECONFIG=%[1]s
  alias kubectl='%[2]s kubectl'

  kubectl get nodes                                                     # three local nodes, two virtual ones
  kubectl -n shop create deployment web --image=nginx --replicas=10     # namespace shop is annotated autoburst.io/mode=Overflow
  kubectl -n shop set resources deployment web --requests=cpu=500m      # now %[3]d replicas fill the cluster
  kubectl -n shop scale deployment web --replicas=60                    # the rest overflows
  kubectl -n shop get pods -o wide                                      # where each pod runs

Ctrl-C ends it and removes everything.
`, p.Kubeconfig, p.Binary, slots)
	select {
	case <-ctx.Done():
		screen.print("\nplayground: stopping")
		return nil
	case <-p.Process("kube-apiserver").Done():
		return p.Err()
	}
}
