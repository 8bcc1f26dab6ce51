package vnode

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

const (
	// fullFlow is the number of creates at a time from which on a circuit that
	// recovers is closed.
	fullFlow = 64
	// troubles is how many creates in a row must fail, and of how many pods, before
	// it is not the pods' fault. A refused account is nobody's fault but its own.
	troubles, refusedAccounts = 3, 2
	// misreadings is after how many of them a reading of the quota is not believed to
	// tell of what is refused.
	misreadings = 3
	// othersTurn: each fourth try is another's.
	othersTurn = 4
	// nextLook is how soon a pod asks again that waits for another's create.
	nextLook = 5 * time.Second
	// staleAfter is when a pod that has not asked again for so long beyond what it
	// was told is passed over.
	staleAfter = 10 * time.Second
)

// circuit keeps pods from asking a cloud that refuses them all the same: creates
// stop after a refusal for want of room, or when all of them fail, and go on one at
// a time, then two, four and so on. A thousand pods that wait cost the cloud as many
// calls as one.
//
// A refusal concerns pods of the refused size and larger ones only; a smaller one
// tries for itself.
type circuit struct {
	base, most time.Duration // bounds of the pause between two tries
	forget     time.Duration // after which a refusal tells nothing any more
	wake       func(types.UID)

	mu      sync.Mutex
	breaks  []*outage
	down    *outage // the cloud does not answer at all
	waiting map[types.UID]*applicant
	flights map[types.UID]flight
	// failing are the pods whose creates have failed since one succeeded, for
	// reasons that need not be theirs, and row is how often that was.
	failing map[types.UID]bool
	row     int
	// odd are those of them that failed while others succeeded: it is their own
	// trouble, and tells nothing of the cloud.
	odd map[types.UID]bool
	// turn numbers creates and openings, to tell which came first.
	turn int64
}

func newCircuit(cfg Config) *circuit {
	return &circuit{
		base: cfg.RetryBase, most: min(cfg.RetryMax, cfg.CapacityPause/2), forget: cfg.CapacityPause,
		wake:    func(types.UID) {},
		waiting: map[types.UID]*applicant{}, flights: map[types.UID]flight{}, failing: map[types.UID]bool{}, odd: map[types.UID]bool{},
	}
}

// outage is one break of the circuit.
type outage struct {
	// size is the least that is refused; zero stops every create.
	size  burstable.Size
	class providers.ErrorClass
	err   error
	since time.Time // the first refusal
	last  time.Time // the newest
	// refusals counts them.
	refusals int

	pause  time.Duration
	until  time.Time // nothing is tried before
	opened int64     // the turn in which until was set
	window int       // how many creates at a time are tried after
	// late is true when the cloud accepts groups and finds no room for them later:
	// that one was accepted tells little.
	late bool
	// misread counts the tries that a reading of the quota has led to in vain.
	misread int
}

// wantOfRoom tells whether the cloud lacks room, and does not fail otherwise.
func (o *outage) wantOfRoom() bool {
	return o.class == providers.QuotaExceeded || o.class == providers.OutOfStock
}

func (o *outage) covers(size burstable.Size) bool { return atMost(o.size, size) }

func atMost(a, b burstable.Size) bool {
	return a.MilliCPU <= b.MilliCPU && a.MemoryBytes <= b.MemoryBytes
}

// applicant is a pod that wants a group.
type applicant struct {
	uid      types.UID
	priority int32
	created  time.Time
	size     burstable.Size

	tries int       // since it began to wait
	again time.Time // when it was told to ask again
}

// flight is a create that is under way.
type flight struct {
	size burstable.Size
	turn int64
}

// delay says why a pod has to wait, and until when at least.
type delay struct {
	outage
	wait time.Duration
	down bool
}

// ask tells whether the pod's group may be created now; nil means yes. With claim
// set the create is under way from then on, until done is told.
func (c *circuit) ask(a applicant, now time.Time, claim bool) *delay {
	c.mu.Lock()
	h, next := c.askLocked(a, now, claim)
	c.mu.Unlock()
	if next != "" {
		c.wake(next)
	}
	return h
}

func (c *circuit) askLocked(a applicant, now time.Time, claim bool) (h *delay, next types.UID) {
	mine := &a
	if known := c.waiting[a.uid]; known != nil {
		mine.tries = known.tries
		c.waiting[a.uid] = mine
	}
	wait := func(o *outage, d time.Duration) *delay {
		c.waiting[a.uid] = mine
		mine.again = now.Add(d)
		return &delay{outage: *o, wait: d, down: o == c.down}
	}
	if c.down != nil {
		return wait(c.down, c.most), ""
	}
	for _, o := range c.breaks {
		if !o.covers(a.size) {
			continue
		}
		if left := o.until.Sub(now); left > 0 {
			return wait(o, left), ""
		}
		if c.underWay(o) >= o.window {
			return wait(o, nextLook), ""
		}
		c.waiting[a.uid] = mine
		if best := c.best(o, now); best.uid != a.uid {
			return wait(o, nextLook), best.uid
		}
	}
	if claim {
		c.turn++
		c.flights[a.uid] = flight{size: a.size, turn: c.turn}
		mine.tries++
	}
	return nil, ""
}

// underWay counts the creates that try whether an outage is over.
func (c *circuit) underWay(o *outage) int {
	n := 0
	for _, f := range c.flights {
		if o.covers(f.size) && f.turn > o.opened {
			n++
		}
	}
	return n
}

// best is whose turn it is: the most important pod, and of these the oldest. Lest one
// that cannot succeed keeps others from it that could, each fourth turn goes to who
// was tried least of those that ask for less; and where room is not the trouble, each
// turn goes to who was tried least. Nil where nobody waits.
func (c *circuit) best(o *outage, now time.Time) *applicant {
	var waiting []*applicant
	for uid, a := range c.waiting {
		if _, flies := c.flights[uid]; flies || !o.covers(a.size) {
			continue
		}
		if !a.again.IsZero() && a.again.Add(staleAfter).Before(now) {
			continue // it does not ask any more
		}
		waiting = append(waiting, a)
	}
	if len(waiting) == 0 {
		return nil
	}
	best := slices.MinFunc(waiting, byRank)
	if o.wantOfRoom() && o.refusals%othersTurn != othersTurn-1 {
		return best
	}
	return slices.MinFunc(waiting, func(a, b *applicant) int {
		return cmp.Or(cmp.Compare(c.turnOf(o, best, a), c.turnOf(o, best, b)), byRank(a, b))
	})
}

// turnOf is how often a pod was tried that may have another's turn; the other itself
// and those that are no smaller count as what the other was.
func (c *circuit) turnOf(o *outage, best, a *applicant) int {
	if o.wantOfRoom() && atMost(best.size, a.size) {
		return best.tries
	}
	return a.tries
}

func byRank(a, b *applicant) int {
	return cmp.Or(cmp.Compare(b.priority, a.priority), a.created.Compare(b.created), cmp.Compare(a.uid, b.uid))
}

// leave forgets a pod that needs no group any more.
func (c *circuit) leave(uid types.UID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, uid)
	delete(c.flights, uid)
	delete(c.failing, uid)
	delete(c.odd, uid)
}

// done hears how a create that was claimed has ended.
func (c *circuit) done(a applicant, err error, now time.Time) {
	c.mu.Lock()
	f, ok := c.flights[a.uid]
	if !ok {
		f = flight{size: a.size} // it was let pass before any refusal that is known
	}
	delete(c.flights, a.uid)
	var next []types.UID
	switch class := providers.ClassOf(err); {
	case err == nil:
		delete(c.waiting, a.uid)
		maps.Copy(c.odd, c.failing)
		delete(c.odd, a.uid)
		c.row = 0
		clear(c.failing)
		next = c.succeeded(f, now)
	case providers.ForWantOfRoom(err):
		c.row = 0
		clear(c.failing)
		c.breaks = slices.DeleteFunc(c.breaks, func(o *outage) bool { return !o.wantOfRoom() }) // it works
		c.refused(f, class, err, now)
	case trouble(class) && c.odd[a.uid]:
		next = c.nextOnes(now)
	case trouble(class):
		c.row++
		c.failing[a.uid] = true
		if c.brokenBy(f, class) {
			c.refused(flight{turn: f.turn}, class, err, now)
		} else {
			c.postpone(f, err, now)
		}
	case class == providers.Throttled:
		c.postpone(f, err, now)
	default: // this says something of the pod
		next = c.nextOnes(now)
	}
	c.mu.Unlock()
	for _, uid := range next {
		c.wake(uid)
	}
}

// refusedLate hears of a group that was accepted and then refused.
func (c *circuit) refusedLate(size burstable.Size, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	c.refused(flight{size: size, turn: c.turn}, providers.ClassOf(err), err, now).late = true
}

// trouble tells whether an error may hit every create alike.
func trouble(class providers.ErrorClass) bool {
	switch class {
	case providers.Unavailable, providers.Unknown, providers.Unauthorized, providers.AccountSuspended, providers.Misconfigured:
		return true
	}
	return false
}

func refusesAccount(class providers.ErrorClass) bool {
	return class == providers.Unauthorized || class == providers.AccountSuspended
}

// brokenBy tells whether the trouble that a create has met is everybody's.
func (c *circuit) brokenBy(f flight, class providers.ErrorClass) bool {
	if slices.ContainsFunc(c.breaks, func(o *outage) bool { return !o.wantOfRoom() }) {
		return true
	}
	if refusesAccount(class) {
		return c.row >= refusedAccounts
	}
	return c.row >= troubles && len(c.failing) >= troubles
}

// refused opens the circuit, or keeps it open for longer.
func (c *circuit) refused(f flight, class providers.ErrorClass, err error, now time.Time) *outage {
	i := slices.IndexFunc(c.breaks, func(o *outage) bool { return o.covers(f.size) })
	if i < 0 {
		o := &outage{size: f.size, since: now}
		// What is known of larger sizes follows from this.
		c.breaks = append(slices.DeleteFunc(c.breaks, func(b *outage) bool {
			if !atMost(f.size, b.size) {
				return false
			}
			if b.class == class {
				o.since, o.refusals = b.since, b.refusals
			}
			return true
		}), o)
		i = len(c.breaks) - 1
	}
	o := c.breaks[i]
	o.class, o.err, o.last = class, err, now
	o.refusals++
	switch {
	case o.pause == 0:
		c.openFor(o, c.base, err, now)
	case f.turn > o.opened: // else it was under way when another opened the circuit
		c.openFor(o, min(2*o.pause, c.most), err, now)
	}
	return o
}

// postpone puts the next try off after one that told nothing of what it was for.
func (c *circuit) postpone(f flight, err error, now time.Time) {
	for _, o := range c.breaks {
		if o.covers(f.size) && f.turn > o.opened {
			c.openFor(o, min(2*o.pause, c.most), err, now)
		}
	}
}

// openFor lets nothing pass for a while, and then one.
func (c *circuit) openFor(o *outage, pause time.Duration, err error, now time.Time) {
	c.turn++
	o.opened, o.window, o.pause = c.turn, 1, pause
	o.until = now.Add(max(pause, retryAfter(err)))
}

// retryAfter is the wait that the cloud asked for, zero if it did not.
func retryAfter(err error) time.Duration {
	if e := (*providers.Error)(nil); errors.As(err, &e) {
		return e.RetryAfter
	}
	return 0
}

// succeeded lets more creates pass, and says whose turn it is.
func (c *circuit) succeeded(f flight, now time.Time) []types.UID {
	c.breaks = slices.DeleteFunc(c.breaks, func(o *outage) bool {
		if !o.covers(f.size) || f.turn <= o.opened {
			return false
		}
		o.until = now
		if o.late {
			o.until = now.Add(o.pause)
		}
		o.window *= 2
		return o.window > fullFlow || c.best(o, now) == nil
	})
	return c.nextOnes(now)
}

// nextOnes are the pods that may try now.
func (c *circuit) nextOnes(now time.Time) []types.UID {
	if c.down != nil {
		return nil
	}
	var ready []*applicant
	for uid, a := range c.waiting {
		if _, flies := c.flights[uid]; flies {
			continue
		}
		if !slices.ContainsFunc(c.breaks, func(o *outage) bool { return o.covers(a.size) && o.until.After(now) }) {
			ready = append(ready, a)
		}
	}
	slices.SortFunc(ready, byRank)
	most := len(ready)
	for _, o := range c.breaks {
		most = min(most, max(0, o.window-c.underWay(o)))
	}
	out := make([]types.UID, 0, most)
	for _, a := range ready[:most] {
		out = append(out, a.uid)
	}
	return out
}

// setDown is told that the cloud does not answer, and with nil that it does again.
func (c *circuit) setDown(err error, now time.Time) {
	c.mu.Lock()
	var next []types.UID
	switch {
	case err != nil && c.down == nil:
		c.down = &outage{class: providers.ClassOf(err), err: err, since: now, refusals: 1}
	case err != nil:
		c.down.class, c.down.err = providers.ClassOf(err), err
	case c.down != nil:
		c.down = nil
		c.relaxLocked(now, func(o *outage) bool { return !o.wantOfRoom() })
		next = c.nextOnes(now)
	}
	c.mu.Unlock()
	for _, uid := range next {
		c.wake(uid)
	}
}

// relax lets the next pod try at once where the reason may be gone.
func (c *circuit) relax(now time.Time, gone func(*outage) bool) {
	c.mu.Lock()
	c.relaxLocked(now, gone)
	next := c.nextOnes(now)
	c.mu.Unlock()
	for _, uid := range next {
		c.wake(uid)
	}
}

func (c *circuit) relaxLocked(now time.Time, gone func(*outage) bool) {
	for _, o := range c.breaks {
		if gone(o) && o.until.After(now) {
			o.until, o.pause = now, c.base
		}
	}
}

// expire drops what was refused so long ago that it tells nothing any more, unless
// pods wait that keep trying.
func (c *circuit) expire(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breaks = slices.DeleteFunc(c.breaks, func(o *outage) bool {
		return now.Sub(o.last) >= c.forget && c.best(o, now) == nil && c.underWay(o) == 0
	})
}

// state returns the outages, the one that stops the smallest pods first.
func (c *circuit) state() []outage {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]outage, 0, len(c.breaks))
	for _, o := range c.breaks {
		all = append(all, *o)
	}
	slices.SortFunc(all, func(a, b outage) int {
		return cmp.Or(cmp.Compare(a.size.MilliCPU, b.size.MilliCPU), cmp.Compare(a.size.MemoryBytes, b.size.MemoryBytes))
	})
	return all
}

// waits is how many pods wait.
func (c *circuit) waits() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}
