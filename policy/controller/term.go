package controller

import (
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
)

const (
	// handover is the longest time without a controller after which the next one goes
	// on with the pressure that the last one left: what an election takes after a
	// crash (15 s until the Lease runs out, 2 s until somebody tries), and some more.
	handover = 30 * time.Second
	// measuring is how long a controller that does not go on takes to look at every
	// pod once. It takes no policy to be under pressure until then.
	measuring = 2 * time.Second
)

// term is the time of one elected replica.
type term struct {
	since time.Time
	// inherits is true when the pressure that policies were left with is recent enough
	// to go on from; else it is stale, and stale data means no pressure.
	inherits bool
}

func beginTerm(v View, c clock.PassiveClock) *term {
	gap := v.LeaseGap()
	return &term{since: c.Now(), inherits: gap >= 0 && gap <= handover}
}

// distrusts tells whether pressure lets this policy burst by its status alone, which
// nobody has measured for long.
func (g *granter) distrusts(s *policy.Snapshot, by policy.Ref) bool {
	t := g.term.Load()
	if t == nil || t.inherits || g.clock.Since(t.since) >= measuring {
		return false
	}
	for _, p := range s.Policies[by.Namespace] { // "" for the cluster's
		if p.Ref == by && p.HasPressure {
			return true
		}
	}
	return false
}
