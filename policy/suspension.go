package policy

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Bounds of a suspension: the first lasts suspendMin, and each that follows
// without a success between twice as long as the one before, up to suspendMax.
// After suspendForget without a suspension the next one is a first one again.
const (
	suspendMin    = 30 * time.Second
	suspendMax    = 15 * time.Minute
	suspendForget = time.Hour
)

// Suspension is what is remembered of the refusals of one target. The zero value
// is a target where nobody was refused.
type Suspension struct {
	// Count is how many suspensions there were in a row.
	Count int32
	// Until is when the last of them ends, or ended. In whole seconds.
	Until time.Time
	// Since is when the last change of the above was noted: what happened before is
	// not news.
	Since time.Time
	// Reason is a sentence, "" after a success.
	Reason string
}

// Active is true while the target is not to be used.
func (s Suspension) Active(now time.Time) bool { return now.Before(s.Until) }

// Observe takes in when, at the latest, the target's cloud refused a pod for good,
// with which reason (v1alpha1.IsRefusal), and when it has taken one; zero times
// tell that neither has happened. A refusal begins a suspension unless one is
// active. A success ends it, and the row of them.
func (s Suspension) Observe(refused time.Time, reason string, ran, now time.Time) Suspension {
	if s.Count > 0 && now.Sub(s.Until) >= suspendForget {
		s.Count = 0
	}
	if ran.After(s.Since) && ran.After(refused) {
		return Suspension{Since: ran}
	}
	if s.Active(now) || !refused.After(s.Since) || !refused.After(s.Until) {
		return s
	}
	s.Count++
	// The API keeps whole seconds; rounded up, so that none ends too early.
	s.Until = now.Add(suspensionOf(s.Count) + time.Second - 1).Truncate(time.Second)
	s.Since = now
	s.Reason = fmt.Sprintf("It is suspended, as its cloud refused a pod for good: %s.", reason)
	if s.Count > 1 {
		s.Reason += fmt.Sprintf(" This is time %d in a row.", s.Count)
	}
	return s
}

// suspensionOf is how long the suspension of that number in a row lasts.
func suspensionOf(count int32) time.Duration {
	d := suspendMin
	for ; count > 1 && d < suspendMax; count-- {
		d *= 2
	}
	return min(d, suspendMax)
}

// Resume reads from the status of a target where its suspensions were left. What
// happened before now is not news to the one who asks.
func Resume(t v1alpha1.TargetStatus, now time.Time) Suspension {
	s := Suspension{Count: t.Suspensions, Since: now}
	if t.SuspendedUntil != nil {
		s.Until, s.Reason = t.SuspendedUntil.Time, t.Reason
	} else if s.Count > 0 {
		s.Until = now // when it ended is not kept; it counts for an hour from here
	}
	return s
}

// Show writes the suspension into the status of its target.
func (s Suspension) Show(t *v1alpha1.TargetStatus, now time.Time) {
	t.Suspensions, t.SuspendedUntil = s.Count, nil
	if s.Active(now) {
		t.SuspendedUntil = &metav1.Time{Time: s.Until}
		t.Reason = s.Reason
	}
}

// Suspend shows the suspensions in a policy's status to the rules. The elected
// controller takes them out of the status when they end.
func (p *Policy) Suspend(targets []v1alpha1.TargetStatus) {
	for i := range p.Targets {
		p.Targets[i].Suspended = ""
		for j := range targets {
			if t := &targets[j]; t.Name == p.Targets[i].Name && t.SuspendedUntil != nil {
				p.Targets[i].Suspended = fmt.Sprintf("%s It is tried again at %s.", t.Reason, t.SuspendedUntil.UTC().Format(time.RFC3339))
			}
		}
	}
}
