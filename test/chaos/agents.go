package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

var nodes = map[string]string{eciCloud: playground.ECINode, aciCloud: playground.ACINode}

// agents are the replicas of the agent of one node.
type agents struct {
	system *playground.Playground
	node   string

	mu     sync.Mutex // one restart at a time
	killed int
	paused int

	blow blow
}

// blow tells those who wait that something is done to the agents of a node.
type blow struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next one
}

// strike notes that something is done to the agents now.
func (b *blow) strike() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// awaited is closed when something is done to the agents from now on.
func (b *blow) awaited() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// chosen are the replicas that a step is about: the one that leads, one that does
// not, or all.
func (a *agents) chosen(ctx context.Context, mode string) []*playground.Agent {
	all := a.system.Agents(a.node)
	if mode == "" || len(all) < 2 {
		return all
	}
	// Nobody leads at the moment: any will do.
	leader, err := a.system.Leader(ctx, a.node)
	if err != nil || leader == nil {
		return all[:1]
	}
	for _, replica := range all {
		if (replica == leader) == (mode == leads) {
			return []*playground.Agent{replica}
		}
	}
	return nil
}

// restart ends replicas and starts as many anew, after a while.
func (a *agents) restart(ctx context.Context, replicas []*playground.Agent, end func(*cluster.Process), after time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blow.strike()
	// Somebody else may have done so meanwhile.
	running := a.system.Agents(a.node)
	replicas = slices.DeleteFunc(replicas, func(o *playground.Agent) bool { return !slices.Contains(running, o) })
	for _, replica := range replicas {
		a.killed++
		a.system.RemoveReplica(replica, end)
	}
	if err := wait(ctx, after); err != nil {
		return err
	}
	for range replicas {
		if _, err := a.system.StartAgent(ctx, a.node); err != nil {
			return fmt.Errorf("starting the agent of %s: %w", a.node, err)
		}
	}
	return nil
}

// signal sends a signal to replicas.
func signal(replicas []*playground.Agent, s syscall.Signal) {
	for _, replica := range replicas {
		// One that has ended meanwhile needs none.
		_ = replica.Process.Signal(s)
	}
}

// dead are the replicas that ended although nobody ended them.
func (a *agents) dead() (errs []error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, replica := range a.system.Agents(a.node) {
		if err := replica.Process.Err(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// terminate ends a process as the kubelet does; the call comes back when it has.
func terminate(p *cluster.Process) {
	// One that does not end in time is killed, which is what happens then.
	_ = p.Stop(30 * time.Second)
}

// agent carries out a step that is about agents. The signal is sent at once; what
// follows does not hold up the round.
func (b *bed) agent(ctx context.Context, s Step) {
	a := b.agents[s.Cloud]
	replicas := a.chosen(ctx, s.Mode)
	a.blow.strike()
	switch s.Do {
	case Kill:
		signal(replicas, syscall.SIGKILL)
		b.later(ctx, 0, func(ctx context.Context) error { return a.restart(ctx, replicas, (*cluster.Process).Kill, s.For) })
	case Term:
		signal(replicas, syscall.SIGTERM)
		b.later(ctx, 0, func(ctx context.Context) error { return a.restart(ctx, replicas, terminate, s.For) })
	case Pause:
		a.mu.Lock()
		a.paused++
		a.mu.Unlock()
		signal(replicas, syscall.SIGSTOP)
		b.later(ctx, s.For, func(context.Context) error { signal(replicas, syscall.SIGCONT); return nil })
	}
}

// later does something after a while and notes its error.
func (b *bed) later(ctx context.Context, after time.Duration, do func(context.Context) error) {
	b.pending.Go(func() {
		if err := wait(ctx, after); err != nil {
			return
		}
		if err := do(ctx); err != nil && !errors.Is(err, context.Canceled) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.errs = append(b.errs, err)
		}
	})
}

// wait lets time pass on the wall clock, as an outage does.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
