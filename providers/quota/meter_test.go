package quota

import (
	"container/heap"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// cloud counts calls as the clouds do: a token bucket that begins full, and
// windows that hold the calls that were accepted.
type cloud struct {
	rules  Rules
	tokens float64
	at     time.Time
	calls  []time.Time
}

func newCloud(r Rules, now time.Time) *cloud {
	return &cloud{rules: r, tokens: float64(r.Bucket.Burst), at: now}
}

func (c *cloud) accept(now time.Time) bool {
	for _, w := range c.rules.Windows {
		inside := 0
		for _, at := range c.calls {
			if now.Sub(at) < w.Length {
				inside++
			}
		}
		if inside >= w.Calls {
			return false
		}
	}
	if b := c.rules.Bucket; b.PerSecond > 0 {
		c.tokens = min(float64(b.Burst), c.tokens+b.PerSecond*now.Sub(c.at).Seconds())
		c.at = now
		if c.tokens < 1 {
			return false
		}
		c.tokens--
	}
	c.calls = append(c.calls, now)
	return true
}

// agenda is what happens next, by time.
type agenda []happening

type happening struct {
	at time.Time
	do func(now time.Time)
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(happening)) } //nolint:forcetypeassert // the test's own
func (a *agenda) Pop() any {
	old := *a
	h := old[len(old)-1]
	*a = old[:len(old)-1]
	return h
}

// world is agents that send calls to one cloud, with latencies of any kind.
type world struct {
	now    time.Time
	cloud  *cloud
	agenda agenda

	sent, refused int
}

func (w *world) plan(after time.Duration, do func(now time.Time)) {
	heap.Push(&w.agenda, happening{w.now.Add(after), do})
}

func (w *world) until(end time.Time) {
	for len(w.agenda) > 0 && !w.agenda[0].at.After(end) {
		h, _ := heap.Pop(&w.agenda).(happening)
		w.now = h.at
		h.do(h.at)
	}
	w.now = end
}

// send sends a call if the meter allows it.
func (w *world) send(m *meter, there, back time.Duration) bool {
	if !m.open(w.now) {
		return false
	}
	m.grant()
	w.sent++
	permitted := w.now
	w.plan(there, func(now time.Time) {
		ok := w.cloud.accept(now)
		w.plan(back, func(now time.Time) {
			if ok {
				m.answered(now)
			} else {
				w.refused++
				m.refused(now, permitted, 0)
			}
		})
	})
	return true
}

func latency() *rapid.Generator[time.Duration] {
	return rapid.Custom(func(t *rapid.T) time.Duration {
		top := rapid.SampledFrom([]time.Duration{time.Millisecond, 200 * time.Millisecond, 5 * time.Second}).Draw(t, "scale")
		return time.Microsecond + time.Duration(rapid.Int64Range(0, int64(top)).Draw(t, "latency"))
	})
}

var someRules = []Rules{
	{Bucket: Bucket{100, 20}},
	{Bucket: Bucket{200, 10}, Windows: []Window{{100, 5 * time.Minute}, {300, time.Hour}}},
	{Bucket: Bucket{250, 25}},
	{Windows: []Window{{500, time.Minute}}},
	{Bucket: Bucket{3, 0.7}, Windows: []Window{{20, 30 * time.Second}}},
}

// Whatever the load and however long calls take on their way, the cloud refuses
// none, and what it would have granted is used.
func TestNoCallIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SampledFrom(someRules).Draw(t, "rules")
		w := &world{now: time.Unix(1e9, 0)}
		w.cloud = newCloud(rules, w.now)
		m := newMeter(Quota{Operation: "op", Rules: rules}, w.now)
		for range rapid.IntRange(1, 60).Draw(t, "waves") {
			pause := time.Duration(rapid.Int64Range(1, int64(20*time.Second)).Draw(t, "pause"))
			w.until(w.now.Add(pause))
			for range rapid.SampledFrom([]int{1, 7, 300}).Draw(t, "wanted") {
				if !w.send(m, latency().Draw(t, "there"), latency().Draw(t, "back")) {
					break
				}
			}
		}
		w.until(w.now.Add(time.Minute))
		if w.refused > 0 {
			t.Fatalf("%d of %d calls were refused", w.refused, w.sent)
		}
		if m.inFlight != 0 {
			t.Fatalf("%d calls are still counted as under way", m.inFlight)
		}
	})
}

// The estimate of the wait is neither too short, so that a timer made of it
// would fire in vain, nor too long.
func TestDelayIsWhenTheMeterOpens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SampledFrom(someRules).Draw(t, "rules")
		w := &world{now: time.Unix(1e9, 0)}
		w.cloud = newCloud(rules, w.now)
		m := newMeter(Quota{Operation: "op", Rules: rules}, w.now)
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			for !w.send(m, time.Microsecond, time.Microsecond) {
				wait := m.delay(w.now, 1)
				if wait <= 0 {
					t.Fatal("closed, but no wait")
				}
				w.until(w.now.Add(wait - 3*time.Microsecond))
				if wait > time.Millisecond && m.open(w.now) {
					t.Fatalf("open before the %s have passed", wait)
				}
				w.until(w.now.Add(3 * time.Microsecond))
				if !m.open(w.now) {
					t.Fatalf("closed after %s", wait)
				}
			}
			w.until(w.now.Add(3 * time.Microsecond))
		}
	})
}

// Agents that share an account stay within its quota together, however their
// demand changes and in whatever order they speak.
func TestSharesStayWithinTheQuota(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := rapid.SampledFrom(someRules[:4]).Draw(t, "rules")
		w := &world{now: time.Unix(1e9, 0)}
		w.cloud = newCloud(rules, w.now)
		n := rapid.IntRange(2, 4).Draw(t, "agents")
		type agent struct {
			*meter

			said   Claims
			wanted int
		}
		agents := make([]*agent, n)
		for i := range agents {
			m := newMeter(Quota{Operation: "op", Rules: rules}, w.now)
			m.share, m.tokens = 1/float64(n), 0
			agents[i] = &agent{meter: m, said: Claims{"op": {Share: m.share}}}
		}
		others := func(i int) []Claims {
			var all []Claims
			for j, a := range agents {
				if j != i {
					all = append(all, a.said)
				}
			}
			return all
		}
		divide := func(i int, c Claim) {
			var said []Claim
			for _, o := range others(i) {
				said = append(said, o["op"])
			}
			agents[i].divide(w.now, c.Share, said)
		}
		// The steps of a round, between which other agents act.
		var begin func(i int)
		begin = func(i int) {
			a := agents[i]
			a.refresh(w.now)
			mine := Claim{Wanted: a.wanted, Share: a.share}
			for _, win := range rules.Windows {
				mine.Used = append(mine.Used, a.within(w.now, win.Length)+a.inFlight)
			}
			intended := Intend(Claims{"op": mine}, others(i))["op"]
			if intended.Share < a.share {
				divide(i, intended)
			}
			w.plan(latency().Draw(t, "write"), func(time.Time) {
				a.said = Claims{"op": intended}
				w.plan(latency().Draw(t, "list"), func(time.Time) {
					divide(i, Settle(Claims{"op": intended}, others(i))["op"])
					w.plan(shareRound, func(time.Time) { begin(i) })
				})
			})
		}
		for i := range agents {
			w.plan(latency().Draw(t, "start"), func(time.Time) { begin(i) })
		}
		for range rapid.IntRange(1, 80).Draw(t, "waves") {
			w.until(w.now.Add(time.Duration(rapid.Int64Range(1, int64(15*time.Second)).Draw(t, "pause"))))
			a := agents[rapid.IntRange(0, n-1).Draw(t, "agent")]
			a.wanted = rapid.SampledFrom([]int{0, 5, 300}).Draw(t, "wanted")
			for range a.wanted {
				if !w.send(a.meter, latency().Draw(t, "there"), latency().Draw(t, "back")) {
					break
				}
			}
		}
		if w.refused > 0 {
			t.Fatalf("%d of %d calls were refused", w.refused, w.sent)
		}
	})
}

const shareRound = 10 * time.Second

// A cloud that grants less than documented is found out within a few refusals,
// and one that grants more again is used again.
func TestTheQuotaIsMeasured(t *testing.T) {
	tests := map[string]struct {
		real           Bucket
		minutes        int
		atMost         int     // refusals in that time
		low, high      float64 // calls per second accepted in the last minute
		believed, upTo float64
	}{
		"as documented":  {real: Bucket{100, 20}, minutes: 20, atMost: 0, low: 19.5, high: 20, believed: 20, upTo: 20},
		"a quarter":      {real: Bucket{100, 5}, minutes: 20, atMost: 20 * 15, low: 4, high: 5.1, believed: 4, upTo: 8},
		"a small bucket": {real: Bucket{5, 20}, minutes: 20, atMost: 20 * 15, low: 10, high: 20.1, believed: 10, upTo: 20},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{now: time.Unix(1e9, 0)}
			w.cloud = newCloud(Rules{Bucket: test.real}, w.now)
			m := newMeter(Quota{Operation: "op", Rules: Rules{Bucket: Bucket{100, 20}}}, w.now)
			end := w.now.Add(time.Duration(test.minutes) * time.Minute)
			for w.now.Before(end) {
				for w.send(m, 20*time.Millisecond, 20*time.Millisecond) {
					continue
				}
				w.until(w.now.Add(10 * time.Millisecond))
			}
			inLast := 0
			for _, at := range w.cloud.calls {
				if end.Sub(at) < time.Minute {
					inLast++
				}
			}
			t.Logf("%d refused, %d in the last minute, believed %.2f/s", w.refused, inLast, m.documented.perSecond()*m.belief)
			if w.refused > test.atMost {
				t.Errorf("%d refusals, want at most %d", w.refused, test.atMost)
			}
			if rate := float64(inLast) / 60; rate < test.low || rate > test.high {
				t.Errorf("%.2f calls a second in the last minute, want %g to %g", rate, test.low, test.high)
			}
			if b := m.documented.perSecond() * m.belief; b < test.believed || b > test.upTo {
				t.Errorf("believed %.2f a second, want %g to %g", b, test.believed, test.upTo)
			}
			// The vendor has raised it.
			w.cloud.rules.Bucket = Bucket{100, 20}
			m.refresh(end.Add(30 * time.Minute))
			if m.belief != 1 {
				t.Errorf("half an hour later %.2f of the documented quota is believed, want all", m.belief)
			}
		})
	}
}
