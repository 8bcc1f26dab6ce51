package chaos

import (
	"context"
	"errors"
	"fmt"
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
	died   []error
}

// restart ends every replica and starts as many anew, after a while.
func (a *agents) restart(ctx context.Context, end func(*cluster.Process), after time.Duration) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.system.Agents(a.node)
	for _, replica := range all {
		a.check(replica)
		a.killed++
		a.system.RemoveReplica(replica, end)
	}
	if err := wait(ctx, after); err != nil {
		return err
	}
	for range all {
		if _, err := a.system.StartAgent(ctx, a.node); err != nil {
			return fmt.Errorf("starting the agent of %s: %w", a.node, err)
		}
	}
	return nil
}

// check notes a replica that ended although nobody ended it. The lock is held.
func (a *agents) check(replica *playground.Agent) {
	if err := replica.Process.Err(); err != nil {
		a.died = append(a.died, err)
	}
}

// signal sends a signal to all replicas at once.
func (a *agents) signal(s syscall.Signal) {
	for _, replica := range a.system.Agents(a.node) {
		// One that has ended meanwhile needs none.
		_ = replica.Process.Signal(s)
	}
}

// dead are the replicas that ended by themselves.
func (a *agents) dead() []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, replica := range a.system.Agents(a.node) {
		a.check(replica)
	}
	return a.died
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
	switch s.Do {
	case Kill:
		a.signal(syscall.SIGKILL)
		b.later(ctx, 0, func(ctx context.Context) error { return a.restart(ctx, (*cluster.Process).Kill, s.For) })
	case Term:
		a.signal(syscall.SIGTERM)
		b.later(ctx, 0, func(ctx context.Context) error { return a.restart(ctx, terminate, s.For) })
	case Pause:
		a.mu.Lock()
		a.paused++
		a.mu.Unlock()
		a.signal(syscall.SIGSTOP)
		b.later(ctx, s.For, func(context.Context) error { a.signal(syscall.SIGCONT); return nil })
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
