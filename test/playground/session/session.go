// Package session is a playground that a person uses: it is watched, its figures are
// served on loopback, and other programs of the checkout find it.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/playground/live"
	"github.com/autoburst/autoburst/test/playground/web"
)

// Local is the cluster's local room: Slots pods of half a CPU.
var Local = playground.LocalNodes{Count: 3, CPU: "4", Memory: "16Gi", Pods: 30}

// Slots is how many pods of half a CPU the local nodes hold.
const Slots = 24

// Cloud has a tenth of a real cloud's time, so that it can be watched.
func Cloud() sim.Config {
	return sim.Config{Timing: sim.DefaultTiming().Scaled(0.1), HostCommands: true}
}

// Values are chart values with which a refusal by a cloud leads to something within
// seconds, and pods on virtual nodes use the cluster's resolver.
func Values() []string {
	var out []string
	for i := range 2 {
		for _, v := range []string{"env.REFUSAL_GRACE=3s", "env.CAPACITY_PAUSE=20s", "clusterDNS={10.96.0.10}"} {
			out = append(out, fmt.Sprintf("virtualNodes[%d].%s", i, v))
		}
	}
	return out
}

// Published is how a running session is found.
type Published struct {
	PID        int       `json:"pid"`
	Since      time.Time `json:"since"`
	Kubeconfig string    `json:"kubeconfig"`
	// Bin has kubectl, kubectl-autoburst and helm.
	Bin string `json:"bin"`
	// URL is where the figures are served.
	URL string `json:"url"`
}

// Exports are the lines that make a shell use the session.
func (p Published) Exports() []string {
	return []string{
		"export KUBECONFIG=" + quoted(p.Kubeconfig),
		"export PATH=" + quoted(p.Bin) + `:"$PATH"`,
	}
}

// quoted is a word that a shell takes as it is.
func quoted(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ErrNone says that no session runs in a checkout.
var ErrNone = errors.New("no playground runs in this checkout: start one with 'make playground' in another terminal")

// Find finds the session that runs in a checkout.
func Find(root string) (Published, error) {
	var p Published
	unlock, err := lock(root)
	if err == nil {
		unlock()
		return p, ErrNone
	}
	var busy *BusyError
	if !errors.As(err, &busy) {
		return p, err
	}
	text, err := os.ReadFile(published(root))
	if errors.Is(err, os.ErrNotExist) {
		return p, errors.New("the playground of this checkout is still being built or is ending: try again once it says that it is up")
	}
	if err != nil {
		return p, fmt.Errorf("reading where the playground is: %w", err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("reading where the playground is, from %s: %w", published(root), err)
	}
	return p, nil
}

func folder(root string) string    { return filepath.Join(root, ".cache", "playground") }
func runFolder(root string) string { return filepath.Join(folder(root), "run") }
func published(root string) string { return filepath.Join(folder(root), "playground.json") }

// BusyError says that a session runs already.
type BusyError struct {
	// PID is its process, 0 if that is not known.
	PID int
}

func (e *BusyError) Error() string {
	who := "a process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return "a playground runs in this checkout already, as " + who + ": use it with 'make tour', or end it with q or Ctrl-C first"
}

// lock takes the lock that a session of a checkout holds while it runs. The kernel
// lets go of it when the process ends, however it ends.
func lock(root string) (unlock func(), err error) {
	if err := os.MkdirAll(folder(root), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the playground: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(folder(root), "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of the playground: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		busy := &BusyError{}
		_, _ = fmt.Fscan(f, &busy.PID) // it may not have been written yet
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, busy
		}
		return nil, fmt.Errorf("locking the playground: %w", err)
	}
	return func() { f.Close() }, nil
}

// Options of Start.
type Options struct {
	// Root is the checkout.
	Root string
	// Listener is where the figures are served. The session closes it.
	Listener net.Listener
	// Playground are the system's options; the folders are the session's.
	Playground playground.Options
}

// Session is a running playground with its figures.
type Session struct {
	*playground.Playground
	Published
	Live *live.Watcher

	root     string
	keep     bool
	web      *web.Server
	unlock   func()
	cancel   context.CancelFunc
	consoles func()
}

// Start sweeps up what a session that was killed has left, starts the system and
// publishes it. The caller calls Close.
func Start(ctx context.Context, o Options) (_ *Session, err error) {
	s := &Session{root: o.Root}
	defer func() {
		if err != nil {
			_ = s.close(false)
			o.Listener.Close()
		}
	}()
	if s.unlock, err = lock(o.Root); err != nil {
		return nil, err
	}
	if err := writePID(o.Root); err != nil {
		return nil, err
	}
	run := runFolder(o.Root)
	if err := sweep(run, o.Playground.Progress); err != nil {
		return nil, err
	}
	if err := os.Remove(published(o.Root)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	containers := filepath.Join(run, "containers") // see sweep
	if err := os.MkdirAll(containers, 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the playground: %w", err)
	}
	o.Playground.Cluster.Dir, o.Playground.Cloud.TempDir = run, containers
	if s.Playground, err = playground.Start(ctx, o.Playground); err != nil {
		return nil, err
	}
	var inner context.Context
	inner, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.consoles, err = s.ServeConsoles(inner); err != nil {
		return nil, err
	}
	if s.Live, err = live.Watch(inner, s.Config(), live.Options{
		Bill: s.Bill, Health: s.Err, Namespace: playground.Namespace, Switch: playground.Release + "-switch",
	}); err != nil {
		return nil, err
	}
	s.Published = Published{
		PID: os.Getpid(), Since: s.Live.State().Since, Kubeconfig: s.Cluster.Kubeconfig, Bin: filepath.Join(o.Root, "bin"),
		URL: "http://" + o.Listener.Addr().String(),
	}
	s.web = web.Serve(o.Listener, s.Live, web.About{Commands: s.Hints()})
	return s, s.publish()
}

// Hints are what to type first in another terminal.
func (p Published) Hints() []string {
	return append(p.Exports(),
		"kubectl get nodes                                      # three local nodes, two virtual ones",
		"kubectl annotate namespace default autoburst.io/mode=Overflow",
		fmt.Sprintf("kubectl apply -f test/demo/manifests/web.yaml          # %d replicas of it fill the cluster", Slots),
		"kubectl scale deployment web --replicas=60             # the rest overflows",
		"kubectl autoburst explain deployment/web               # why",
		"kubectl -n clouds patch configmap virtual-eci --type=merge --patch='{\"data\":{\"stock\":\"none\"}}'   # ECI has no machines; plenty again with \"plenty\"",
		"make tour                                              # all of it, step by step",
	)
}

func (s *Session) publish() error {
	if err := os.MkdirAll(s.Bin, 0o755); err != nil {
		return fmt.Errorf("making bin: %w", err)
	}
	for name, target := range map[string]string{"kubectl": s.Binary, "kubectl-autoburst": s.Plugin(), "helm": s.HelmProgram()} {
		// The link is replaced at once, as somebody may be using the one before.
		fresh := filepath.Join(s.Bin, "."+name+".new")
		_ = os.Remove(fresh)
		if err := os.Symlink(target, fresh); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
		if err := os.Rename(fresh, filepath.Join(s.Bin, name)); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	text, err := json.MarshalIndent(s.Published, "", "  ")
	if err != nil {
		return err
	}
	fresh := published(s.root) + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("publishing where the playground is: %w", err)
	}
	return os.Rename(fresh, published(s.root))
}

// Keep makes Close leave the folder with the logs until the next session.
func (s *Session) Keep() { s.keep = true }

// Close takes the session down and removes its folder. What ends badly is an error,
// and the folder with the logs stays.
func (s *Session) Close() error { return s.close(true) }

func (s *Session) close(remove bool) error {
	var errs []error
	if s.Playground != nil {
		_ = os.Remove(published(s.root))
	}
	if s.web != nil {
		errs = append(errs, s.web.Close())
	}
	if s.Live != nil {
		s.Live.Close()
	}
	if s.cancel != nil {
		s.cancel()
	}
	if s.consoles != nil {
		s.consoles()
	}
	if s.Playground != nil {
		errs = append(errs, s.Stop())
	}
	if err := errors.Join(errs...); err == nil && remove && !s.keep && s.unlock != nil {
		errs = append(errs, os.RemoveAll(runFolder(s.root)))
	}
	if s.unlock != nil {
		s.unlock()
	}
	return errors.Join(errs...)
}

func writePID(root string) error {
	if err := os.WriteFile(filepath.Join(folder(root), "lock"), fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return fmt.Errorf("writing who runs the playground: %w", err)
	}
	return nil
}
