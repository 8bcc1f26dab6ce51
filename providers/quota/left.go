package quota

import "time"

// Left takes in what the answer to the permit's call says: how many more calls of the
// operation the cloud would accept now, from whomever. It comes before Done. Less than
// what was believed to be left means that others use the account too, and fewer calls
// are made at once; more changes nothing.
func (p *Permit) Left(calls int) {
	if p.account == nil {
		return
	}
	a := p.account
	a.mu.Lock()
	defer a.mu.Unlock()
	p.line.told(a.clock.Now(), calls)
}

// told takes in how many calls the cloud says are left in its bucket. It may have
// counted all that are under way; else their own answers will tell.
func (m *meter) told(now time.Time, left int) {
	m.refresh(now)
	if m.documented.Bucket.PerSecond > 0 {
		m.tokens = min(m.tokens, float64(max(0, left)+m.inFlight))
	}
}
