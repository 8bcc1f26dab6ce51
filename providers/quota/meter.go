package quota

import (
	"cmp"
	"math"
	"slices"
	"time"
)

const (
	// lowest is the smallest fraction of the documented quota that is believed.
	lowest = 0.02
	// recoverEvery and recoverBy are how the belief rises while the cloud accepts
	// all: 5 % of the documented quota a minute.
	recoverEvery = time.Minute
	recoverBy    = 0.05
	// firstPause and longestPause are how long an operation is closed when the
	// cloud throttles without saying for how long; doubled while it accepts
	// nothing in between.
	firstPause   = time.Second
	longestPause = 30 * time.Second
	// measured is the longest time over which accepted calls are counted.
	measured = time.Minute
	// startSeconds is how much of its refill a bucket holds at first: the process
	// before this one may have emptied it a moment ago.
	startSeconds = 1
)

// meter keeps the rules of one operation. Its time comes as an argument; the
// account's mutex guards it.
type meter struct {
	name       string
	documented Rules

	belief float64 // fraction of the documented quota that the cloud grants
	share  float64 // fraction of that which this process may use
	// excess is how many calls other processes have made within each window beyond
	// the shares that they have now.
	excess []int

	tokens float64
	at     time.Time
	// inherited is whether the tokens of an earlier process are among them.
	inherited bool
	// ended are the times of the answers, in order, as far back as a rule asks.
	ended    []time.Time
	inFlight int

	closedUntil time.Time
	pause       time.Duration
	accepted    bool      // since the last throttled answer
	lowered     time.Time // when the belief changed last, downwards
	changed     time.Time // when it changed last
	begun       time.Time

	granted, throttled int
}

func newMeter(q Quota, now time.Time) *meter {
	m := &meter{name: q.Operation, documented: q.Rules, belief: 1, share: 1, at: now, begun: now, changed: now,
		excess: make([]int, len(q.Windows))}
	m.tokens = min(m.burst(), q.Bucket.PerSecond*startSeconds)
	return m
}

func (m *meter) bounded() bool { return m.documented.perSecond() > 0 }

func (m *meter) factor() float64 { return m.belief * m.share }

// burst is at least one call, or a small share could never make one.
func (m *meter) burst() float64 { return max(1, float64(m.documented.Bucket.Burst)*m.factor()) }

func (m *meter) perSecond() float64 { return m.documented.Bucket.PerSecond * m.factor() }

func (m *meter) calls(i int) int {
	return max(1, int(float64(m.documented.Windows[i].Calls)*m.factor())) - m.excess[i]
}

// refresh lets time pass.
func (m *meter) refresh(now time.Time) {
	if d := now.Sub(m.at); d > 0 {
		m.tokens = min(m.burst(), m.tokens+m.perSecond()*d.Seconds())
		m.at = now
	}
	keep := max(m.documented.longest(), measured)
	if i := m.since(now, keep); i > 0 {
		m.ended = m.ended[i:]
	}
	if m.belief < 1 {
		if steps := now.Sub(m.changed) / recoverEvery; steps > 0 {
			m.belief = min(1, m.belief+recoverBy*float64(steps))
			m.changed = m.changed.Add(steps * recoverEvery)
		}
	}
}

// since is the index of the first answer within the last d.
func (m *meter) since(now time.Time, d time.Duration) int {
	i, _ := slices.BinarySearchFunc(m.ended, d, func(at time.Time, d time.Duration) int {
		if now.Sub(at) < d {
			return 1
		}
		return -1
	})
	return i
}

func (m *meter) within(now time.Time, d time.Duration) int { return len(m.ended) - m.since(now, d) }

// open tells whether one more call may be made now.
func (m *meter) open(now time.Time) bool {
	m.refresh(now)
	if now.Before(m.closedUntil) {
		return false
	}
	if m.documented.Bucket.PerSecond > 0 && m.tokens < float64(m.inFlight+1) {
		return false
	}
	for i, w := range m.documented.Windows {
		if m.within(now, w.Length)+m.inFlight >= m.calls(i) {
			return false
		}
	}
	return true
}

// delay estimates how long the n-th call from now has to wait, counted from 1.
func (m *meter) delay(now time.Time, n int) time.Duration {
	m.refresh(now)
	wait := max(0, m.closedUntil.Sub(now))
	if rate := m.perSecond(); rate > 0 {
		lacking := float64(m.inFlight+n) - m.tokens
		if lacking > 0 {
			// Tokens begin to flow when the operation is open again.
			wait = max(wait, max(0, m.at.Sub(now))+seconds(lacking/rate))
		}
	}
	for i, w := range m.documented.Windows {
		limit := m.calls(i)
		if limit < 1 {
			wait = max(wait, time.Second) // until others tell that they have used less
			continue
		}
		inside := m.ended[m.since(now, w.Length):]
		excess := len(inside) + m.inFlight + n - limit
		if excess <= 0 {
			continue
		}
		rounds := (excess - 1) / limit
		oldest := now
		if at := (excess - 1) % limit; at < len(inside) {
			oldest = inside[at]
		}
		wait = max(wait, oldest.Add(time.Duration(rounds+1)*w.Length).Sub(now))
	}
	return wait
}

// seconds rounds up, so that a timer which ends then finds the token there.
func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s*1e6)+1) * time.Microsecond
}

// grant counts a call that may be sent from now on.
func (m *meter) grant() {
	m.inFlight++
	m.granted++
}

// cancel takes a call back that was not sent.
func (m *meter) cancel() {
	m.inFlight--
	m.granted--
}

// answered counts a call as one that reached the cloud at the latest now.
func (m *meter) answered(now time.Time) {
	m.refresh(now)
	m.inFlight--
	m.accepted = true
	if !m.bounded() {
		return
	}
	if m.tokens > 0 { // else the operation was closed while the call was under way
		m.tokens--
	}
	m.ended = append(m.ended, now)
}

// refused takes in a throttled answer to a call that was permitted at the given
// time. It tells whether the belief has changed.
func (m *meter) refused(now, permitted time.Time, retryAfter time.Duration) (lowered bool) {
	m.refresh(now)
	m.inFlight--
	m.throttled++
	if !m.bounded() {
		m.close(now, max(retryAfter, firstPause))
		return false
	}
	// The answers to calls that were under way together tell one thing.
	if !m.lowered.IsZero() && !permitted.After(m.lowered) {
		m.close(now, max(retryAfter, m.pause))
		return false
	}
	m.pause = min(longestPause, 2*m.pause)
	if m.accepted || m.pause == 0 {
		m.pause = firstPause
	}
	if m.accepted || m.lowered.IsZero() {
		m.belief = max(lowest, min(0.9*m.belief, max(0.5*m.belief, m.met(now))))
		lowered = true
	}
	m.lowered, m.changed, m.accepted = now, now, false
	m.close(now, max(retryAfter, m.pause))
	return lowered
}

// met is the fraction of the documented quota that the cloud has accepted
// lately, by the rule that came nearest to its bound.
func (m *meter) met(now time.Time) float64 {
	last := m.begun
	if m.lowered.After(last) {
		last = m.lowered
	}
	span := min(max(now.Sub(last), firstPause), measured)
	share := max(m.share, lowest)
	var f float64
	if rate := m.documented.Bucket.PerSecond; rate > 0 {
		f = float64(m.within(now, span)) / span.Seconds() / (rate * share)
	}
	for _, w := range m.documented.Windows {
		f = max(f, float64(m.within(now, w.Length))/(float64(w.Calls)*share))
	}
	return f
}

// inherit adds what is in the bucket beside what has flowed into it since this
// process began.
func (m *meter) inherit(now, at time.Time, left float64, alone bool) {
	m.refresh(now)
	if m.documented.Bucket.PerSecond <= 0 || now.Before(m.closedUntil) || m.inherited {
		return
	}
	m.inherited = true
	if alone {
		left += max(0, m.begun.Sub(at).Seconds()) * m.perSecond()
	}
	m.tokens = min(m.burst(), m.tokens+left)
}

// close lets no call through for d. Tokens begin to flow after that: what the
// cloud has left is not known.
func (m *meter) close(now time.Time, d time.Duration) {
	until := now.Add(d)
	if until.After(m.closedUntil) {
		m.closedUntil = until
	}
	m.tokens, m.at = 0, m.closedUntil
}

// divide sets what this process may use, given what the others say.
func (m *meter) divide(now time.Time, share float64, others []Claim) {
	m.refresh(now)
	m.share = share
	for i, w := range m.documented.Windows {
		m.excess[i] = 0
		for _, o := range others {
			if i < len(o.Used) {
				m.excess[i] += max(0, o.Used[i]-int(float64(w.Calls)*o.Share))
			}
		}
	}
	m.tokens = min(m.tokens, m.burst())
}

// remember counts calls of the past, given how many there were within each window
// at a time. Each is taken for as recent as it can have been.
func (m *meter) remember(now, at time.Time, used []int) {
	if at.After(now) {
		at = now
	}
	type age struct {
		length time.Duration
		calls  int
	}
	var ages []age
	for i, w := range m.documented.Windows {
		ages = append(ages, age{w.Length, used[i]})
	}
	slices.SortFunc(ages, func(a, b age) int { return cmp.Compare(a.length, b.length) })
	counted := 0
	for i, a := range ages {
		when := at
		if i > 0 {
			when = at.Add(-ages[i-1].length)
		}
		for ; counted < a.calls; counted++ {
			m.ended = append(m.ended, when)
		}
	}
	slices.SortFunc(m.ended, time.Time.Compare)
	m.refresh(now)
}
