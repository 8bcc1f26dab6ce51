package providertest

import (
	"time"

	"k8s.io/utils/clock"
)

// FastClock is a clock that runs a number of times faster than the wall's: for
// waits of minutes in a test of seconds.
type FastClock struct {
	clock.RealClock

	factor float64
	begun  time.Time
}

// NewFastClock returns a clock that shows the present time and runs fast from
// now on.
func NewFastClock(factor float64) *FastClock { return &FastClock{factor: factor, begun: time.Now()} }

// Now is the clock's time.
func (c *FastClock) Now() time.Time {
	return c.begun.Add(time.Duration(float64(time.Since(c.begun)) * c.factor))
}

// Since is how long ago t was by this clock.
func (c *FastClock) Since(t time.Time) time.Duration { return c.Now().Sub(t) }

// wall is how long d takes on the wall's clock.
func (c *FastClock) wall(d time.Duration) time.Duration {
	return time.Duration(float64(d) / c.factor)
}

// After sends the wall's time when d has passed.
func (c *FastClock) After(d time.Duration) <-chan time.Time { return c.RealClock.After(c.wall(d)) }

// Sleep waits for d.
func (c *FastClock) Sleep(d time.Duration) { <-c.After(d) }

// NewTimer makes a timer that ends when d has passed.
func (c *FastClock) NewTimer(d time.Duration) clock.Timer {
	return &fastTimer{c.RealClock.NewTimer(c.wall(d)), c}
}

// NewTicker makes a ticker with the period d.
func (c *FastClock) NewTicker(d time.Duration) clock.Ticker { return c.RealClock.NewTicker(c.wall(d)) }

// AfterFunc calls f when d has passed.
func (c *FastClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return &fastTimer{c.RealClock.AfterFunc(c.wall(d), f), c}
}

type fastTimer struct {
	clock.Timer

	clock *FastClock
}

// Reset has the timer end when d has passed from now.
func (t *fastTimer) Reset(d time.Duration) bool { return t.Timer.Reset(t.clock.wall(d)) }
