package quota

import (
	"maps"
	"time"
)

// floor is the part of a quota that every process may use at any time, however
// little it wants, so that it can begin at once.
const floor = 0.05

// newcomer is the part that a process uses before it knows whether there are
// others.
const newcomer = 0.02

// Claim is what one process says about one operation to the others that use the
// same account.
type Claim struct {
	// Wanted is how many calls it made since its last word, and has waiting.
	Wanted int `json:"wanted"`
	// Share is the part of the quota that it uses, or is about to.
	Share float64 `json:"share"`
	// Used is how many calls it has made within each window of the operation.
	Used []int `json:"used,omitempty"`
	// Left is how many calls it could still make at once, by the bucket.
	Left float64 `json:"left,omitempty"`
}

// Claims are those of one process, by operation.
type Claims map[string]Claim

// Farewell is what a process says at its end: it leaves its shares to the others,
// and to the next process what it has used.
func (c Claims) Farewell() Claims {
	left := maps.Clone(c)
	for op, claim := range left {
		claim.Wanted, claim.Share = 0, 0
		left[op] = claim
	}
	return left
}

// Gone tells whether the process uses nothing of any operation.
func (c Claims) Gone() bool {
	for _, claim := range c {
		if claim.Share > 0 {
			return false
		}
	}
	return true
}

// Demand is what this process says to the others. It begins a new period.
func (a *Account) Demand() Claims {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	claims := Claims{}
	for name, l := range a.meters {
		if !l.bounded() {
			continue
		}
		l.refresh(now)
		c := Claim{Wanted: l.granted - l.taken + len(l.waiting) + l.backlog, Share: l.share}
		if l.documented.Bucket.PerSecond > 0 {
			c.Left = max(0, l.tokens-float64(l.inFlight))
		}
		for _, w := range l.documented.Windows {
			c.Used = append(c.Used, l.within(now, w.Length)+l.inFlight)
		}
		l.taken = l.granted
		claims[name] = c
	}
	return claims
}

// Intend returns mine with the shares that the process should have, given those
// of the others: each gets the floor and, of the rest, a part by what it wants.
// Alone, it gets all.
func Intend(mine Claims, others []Claims) Claims {
	intended := maps.Clone(mine)
	n := float64(len(others) + 1)
	least := min(floor, 0.5/n)
	for op, c := range intended {
		total := float64(c.Wanted)
		for _, o := range others {
			total += float64(o[op].Wanted)
		}
		part := 1 / n
		if total > 0 {
			part = float64(c.Wanted) / total
		}
		c.Share = least + (1-n*least)*part
		intended[op] = c
	}
	return intended
}

// Settle returns the share that a process may use of what it has claimed: not
// more than the others' claims leave. A process writes its claim before it reads
// theirs, so that of two which grow at once at least one sees the other.
func Settle(claimed Claims, others []Claims) Claims {
	settled := maps.Clone(claimed)
	for op, c := range settled {
		room := 1.0
		for _, o := range others {
			room -= o[op].Share
		}
		c.Share = max(0, min(c.Share, room))
		settled[op] = c
	}
	return settled
}

// Divide sets the shares that this process uses from now on, given what the
// others say. An operation without a claim stays as it is.
func (a *Account) Divide(mine Claims, others []Claims) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for op, c := range mine {
		l := a.meters[op]
		if l == nil {
			continue
		}
		said := make([]Claim, 0, len(others))
		for _, o := range others {
			said = append(said, o[op])
		}
		l.divide(now, max(c.Share, newcomer), said)
		a.pump(l, now)
	}
}

// Newcomer makes the account begin with a small share of everything, until
// Divide says otherwise.
func (a *Account) Newcomer() { a.divideAll(newcomer) }

// Whole has this process use everything, as if there were no others.
func (a *Account) Whole() { a.divideAll(1) }

func (a *Account) divideAll(share float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for _, l := range a.meters {
		l.divide(now, share, nil)
		a.pump(l, now)
	}
}

// Remember counts the calls that the process before this one has made, by its
// last claims, which it wrote at the given time.
func (a *Account) Remember(before Claims, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for op, c := range before {
		l := a.meters[op]
		if l == nil || len(c.Used) != len(l.documented.Windows) {
			continue
		}
		l.remember(now, at, c.Used)
	}
}

// Inherit takes over what the process before this one has left in the buckets, by
// its farewell, which it wrote at the given time. Alone, this process also has what
// has flowed into them since; others have used that. Of a process that said no
// farewell nothing is inherited: it may have used all of it.
func (a *Account) Inherit(before Claims, at time.Time, alone bool) {
	if !before.Gone() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for op, c := range before {
		if l := a.meters[op]; l != nil {
			l.inherit(now, at, c.Left, alone)
			a.pump(l, now)
		}
	}
}

// Fresh makes the account begin with full buckets: nobody has used it before.
func (a *Account) Fresh() {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	for _, l := range a.meters {
		l.inherit(now, now, float64(l.documented.Bucket.Burst), true)
		a.pump(l, now)
	}
}
