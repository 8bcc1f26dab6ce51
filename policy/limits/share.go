package limits

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/autoburst/autoburst/policy"
)

// Share is a part of the room of one account, handed to one replica. It is never
// changed but replaced by another.
type Share struct {
	ID      string         `json:"id"`
	Replica string         `json:"replica"`
	Account policy.Account `json:"account"`
	Size    policy.Amount  `json:"size"`
	// Replaced is true when the replica shall close it: there is a newer one, or
	// the room is wanted elsewhere.
	Replaced bool `json:"replaced,omitempty"`
	// Closed is true once the replica takes nothing from it any more; Consumed is
	// what it took altogether.
	Closed   bool          `json:"closed,omitempty"`
	Consumed policy.Amount `json:"consumed,omitzero"`

	// found are the marks of the pods that came of it, taken what they took.
	found map[string]bool
	taken policy.Amount
	// open is what may still become pods, as it stands in the account.
	open policy.Amount
	// end is when nothing can come of it any more.
	end time.Time
}

// persisted is the share without what is not persisted.
func (s *Share) persisted() Share {
	return Share{ID: s.ID, Replica: s.Replica, Account: s.Account, Size: s.Size, Replaced: s.Replaced, Closed: s.Closed, Consumed: s.Consumed}
}

// hold adds a share to the account.
func (l *Ledger) hold(s *Share) {
	l.shares[s.ID] = s
	l.account(s.Account).shares[s.ID] = s
	l.reckon(s)
}

// reckon brings the account up to date with what may still come of a share.
func (l *Ledger) reckon(s *Share) {
	bound := s.Size
	if s.Closed {
		bound = s.Consumed
	}
	open := bound.Minus(s.taken).Max(policy.Amount{})
	a := l.account(s.Account)
	a.shared = a.shared.Plus(open).Minus(s.open)
	s.open = open
}

// find notes that the pod of a mark came of a share, once.
func (l *Ledger) find(s *Share, mark string, amount policy.Amount) {
	if s.found[mark] {
		return
	}
	s.found[mark] = true
	s.taken = s.taken.Plus(amount)
	l.reckon(s)
}

// strike removes a share.
func (l *Ledger) strike(s *Share) {
	a := l.account(s.Account)
	a.shared = a.shared.Minus(s.open)
	delete(a.shares, s.ID)
	delete(l.shares, s.ID)
	l.sweep(s.Account, a)
	l.lazy++
}

// Heard takes in a heartbeat of a replica: it lives, and it has closed those
// shares having consumed so much of each.
func (l *Ledger) Heard(replica string, closed map[string]policy.Amount, now time.Time) {
	l.replicas[replica] = true
	l.Closed(replica, closed, now)
}

// Closed takes in what a heartbeat said that may be an old one.
func (l *Ledger) Closed(replica string, closed map[string]policy.Amount, now time.Time) {
	for id, consumed := range closed {
		if s := l.shares[id]; s != nil && s.Replica == replica && !s.Closed {
			l.close(s, consumed.Min(s.Size), now.Add(InFlight))
		}
	}
}

// Lost takes in that a replica is dead for certain: it uses no share any more.
// What it has consumed is unknown, and so counts in full.
func (l *Ledger) Lost(replica string, now time.Time) {
	delete(l.replicas, replica)
	for _, s := range l.shares {
		if s.Replica == replica && !s.Closed {
			// The Holder itself is bound by Renewal, if only its heartbeat is gone.
			l.close(s, s.Size, now.Add(Renewal+InFlight))
		}
	}
}

func (l *Ledger) close(s *Share, consumed policy.Amount, end time.Time) {
	s.Closed, s.Consumed, s.end = true, consumed, end
	l.reckon(s)
	l.lazy++
}

// Holders are the replicas that hold shares which are not closed.
func (l *Ledger) Holders() map[string]bool {
	out := make(map[string]bool)
	for _, s := range l.shares {
		if !s.Closed {
			out[s.Replica] = true
		}
	}
	return out
}

// Ending tells whether a share is to be struck out though pods that came of it
// may not have been seen: the time in flight is over. Before Plan with fresh set,
// the caller makes certain that all pods of until now were observed.
func (l *Ledger) Ending(now time.Time) bool {
	for _, s := range l.shares {
		if s.Closed && s.open != (policy.Amount{}) && !now.Before(s.end) {
			return true
		}
	}
	for _, e := range l.pods {
		if e.reserved != nil && !e.hold.IsZero() && !now.Before(e.hold) {
			return true
		}
	}
	return false
}

// Plan hands out shares, replaces those that run dry, revokes those that others
// wait for, and strikes out what nothing can come of any more. Fresh says that
// every pod that was persisted before now has been observed.
func (l *Ledger) Plan(fresh bool, now time.Time) {
	for _, s := range l.shares {
		if s.Closed && (s.open == (policy.Amount{}) || fresh && !now.Before(s.end)) {
			l.strike(s)
		}
	}
	for uid, e := range l.pods {
		if fresh && e.reserved != nil && !e.hold.IsZero() && !now.Before(e.hold) {
			e.reserved, e.hold = nil, time.Time{}
			l.count(uid, e)
			l.lazy++
		}
	}
	// Accounts for want of whose room pods wait; others of the same pods are left
	// alone, or one tenant's limit would slow down all.
	wanted := make(map[policy.Account]bool)
	for _, c := range l.waiting {
		for _, charge := range c.charges {
			if a := l.account(charge.Account); !a.limits.Allow(a.exposure().Plus(charge.Amount)) {
				wanted[charge.Account] = true
			}
		}
	}
	for of, a := range l.accounts {
		if !a.limited || wanted[of] || now.Before(a.tight) || !a.limits.Allow(a.exposure()) {
			l.revoke(a)
			continue
		}
		if !l.settled(a, now) {
			continue
		}
		for _, replica := range slices.Sorted(maps.Keys(l.replicas)) {
			l.provide(of, a, replica)
		}
	}
}

// revoke replaces the shares of an account by nothing.
func (l *Ledger) revoke(a *account) {
	for _, s := range a.shares {
		if !s.Closed && !s.Replaced {
			s.Replaced = true
			l.version++
		}
	}
}

// provide sees to it that a replica has a share that is not running dry.
func (l *Ledger) provide(of policy.Account, a *account, replica string) {
	var current *Share
	for _, s := range a.shares {
		if s.Replica == replica && !s.Closed && !s.Replaced {
			current = s
		}
	}
	size := l.portion(a)
	if size.Pods <= 0 || !a.largest.Within(size) {
		return // not worth it; late grants have the rest
	}
	if current != nil {
		if !current.dry(size) {
			return
		}
		current.Replaced = true
	}
	l.serial++
	l.version++
	l.hold(&Share{
		ID: l.id + "-" + strconv.FormatInt(l.serial, 36), Replica: replica, Account: of, Size: size,
		found: make(map[string]bool),
	})
}

// dry is true when more than half of a share is used up, and the next one would
// be larger than what is left.
func (s *Share) dry(next policy.Amount) bool {
	low := func(size, left, next int64) bool { return left <= size/2 && next > left }
	return low(s.Size.Pods, s.open.Pods, next.Pods) || low(s.Size.MilliCPU, s.open.MilliCPU, next.MilliCPU) ||
		low(s.Size.Memory, s.open.Memory, next.Memory)
}

// portion is the size of the next share: as much as leaves the same for every
// replica and for the late grants.
func (l *Ledger) portion(a *account) policy.Amount {
	left := a.limits.Left(a.exposure())
	parts := int64(len(l.replicas) + 1)
	part := func(left, largest int64) int64 {
		switch {
		case left == policy.Unlimited:
			return ample
		case largest == 0:
			return left / parts
		}
		return min(left/parts, sharePods*largest)
	}
	return policy.Amount{
		Pods:     part(left.Pods, 1),
		MilliCPU: part(left.MilliCPU, a.largest.MilliCPU),
		Memory:   part(left.Memory, a.largest.Memory),
	}
}

// ample stands for as much as anybody may want of what has no limit; many of it
// can be added up.
const ample = int64(1) << 50

// String is for messages of tests.
func (s *Share) String() string {
	return fmt.Sprintf("%s of %s for %s: %+v, closed %t", s.ID, s.Account, s.Replica, s.Size, s.Closed)
}
