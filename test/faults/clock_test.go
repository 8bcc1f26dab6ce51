package faults

import (
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// fastClock runs a multiple of real time, so that an hour of outage passes in
// seconds. It begins at the real time.
type fastClock struct {
	*clocktesting.FakeClock
	speed atomic.Int64
}

// newFastClock starts a clock that ends with the test.
func newFastClock(t *testing.T, speed int64) *fastClock {
	t.Helper()
	c := &fastClock{FakeClock: clocktesting.NewFakeClock(time.Now())}
	c.speed.Store(speed)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				c.Step(time.Duration(c.speed.Load()) * now.Sub(last))
				last = now
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
	return c
}

// pass waits until that much has passed on the clock.
func (c *fastClock) pass(t *testing.T, d time.Duration) {
	t.Helper()
	timer := c.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-t.Context().Done():
		t.Fatal("the test ended before the time had passed")
	}
}
