package aci

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// creates keeps two creates of one group apart, and remembers those whose
// answer was lost: until they have surely taken effect or none, the group's
// absence proves nothing.
type creates struct {
	clock      clock.PassiveClock
	settleTime time.Duration

	mu   sync.Mutex
	busy map[string]chan struct{} // closed when the create has ended
	open map[string]time.Time     // when an answer was lost
}

func newCreates(c clock.PassiveClock, settle time.Duration) *creates {
	return &creates{clock: c, settleTime: settle, busy: map[string]chan struct{}{}, open: map[string]time.Time{}}
}

// enter waits until no other create of the group is under way, or ctx ends. The
// caller calls leave.
func (c *creates) enter(ctx context.Context, id string) (leave func(), err error) {
	for {
		c.mu.Lock()
		other, found := c.busy[id]
		if !found {
			mine := make(chan struct{})
			c.busy[id] = mine
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				delete(c.busy, id)
				c.mu.Unlock()
				close(mine)
			}, nil
		}
		c.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// lost notes that the answer to a create was lost.
func (c *creates) lost(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Now()
	for other, at := range c.open { // so that it does not grow
		if now.Sub(at) >= c.settleTime {
			delete(c.open, other)
		}
	}
	c.open[id] = now
}

// settle notes that the outcome is known.
func (c *creates) settle(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
}

// unsettled is how long the absence of the group still proves nothing.
func (c *creates) unsettled(id string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, found := c.open[id]
	if !found {
		return 0
	}
	return max(0, c.settleTime-c.clock.Since(at))
}
