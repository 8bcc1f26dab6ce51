package policy

import (
	"time"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// defaultCooldown and defaultUnschedulable are the schema's defaults, for
// objects that did not pass it.
const (
	defaultCooldown      = 60 * time.Second
	defaultUnschedulable = 1
)

// Pressure is the state of one policy's overflow.pressure. The zero value is
// closed. It opens when enough pods have been waiting for long enough, and
// closes when fewer have been waiting for the cooldown; in between it stays as
// it is, so that a count at the threshold does not make it flap.
type Pressure struct {
	Open bool
	// Since is when the count crossed the threshold against the present state:
	// reached it while closed, fell below it while open. Zero while the count
	// agrees with the state.
	Since time.Time
}

// Next is the state once waiting pods have been counted at a time. The second
// result is after how long the state changes if the count stays as it is; zero
// means not by itself.
func (p Pressure) Next(set v1alpha1.Pressure, waiting int32, now time.Time) (Pressure, time.Duration) {
	threshold := set.UnschedulablePods
	if threshold <= 0 {
		threshold = defaultUnschedulable
	}
	if (waiting >= threshold) == p.Open {
		return Pressure{Open: p.Open}, 0
	}

	hold := time.Duration(set.ForSeconds) * time.Second
	if p.Open {
		hold = defaultCooldown
		if set.CooldownSeconds != nil {
			hold = time.Duration(*set.CooldownSeconds) * time.Second
		}
	}
	since := p.Since
	if since.IsZero() || since.After(now) { // a clock that was set back starts anew
		since = now
	}
	if left := hold - now.Sub(since); left > 0 {
		return Pressure{Open: p.Open, Since: since}, left
	}
	return Pressure{Open: !p.Open}, 0
}
