package faults

import (
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
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

// pass waits until that much has passed on the bed's clock.
func (b *bed) pass(d time.Duration) {
	b.Helper()
	timer := b.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
	case <-b.Context().Done():
		b.Fatal("the test ended before the time had passed")
	}
}

// skewedClock is the real time and a difference.
type skewedClock struct {
	clock.RealClock
	by time.Duration
}

// Now is what the clock shows.
func (c skewedClock) Now() time.Time { return c.RealClock.Now().Add(c.by) }

// Since is how long ago the clock showed a time.
func (c skewedClock) Since(at time.Time) time.Duration { return c.Now().Sub(at) }
