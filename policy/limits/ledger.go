// Package limits keeps limits on virtual nodes from ever being exceeded, though
// many replicas grant at once, crash and are replaced. It is pure: time comes in
// as an argument, and what is to be persisted goes out as a value.
//
// The elected replica holds the Ledger. It counts the pods that the API server
// has, it reserves room for its own late grants before it writes them, and it
// hands parts of the room, shares, to the replicas that answer the webhook, which
// take from them in memory (Holder). What may become a pod any moment is counted
// as one already:
//
//	exposure = pods seen + reservations + what shares may still turn into pods
//
// and nothing is reserved or handed out while that would exceed a limit. The
// Ledger that is persisted always holds at least what is in use: a reservation
// or share is written before it is used, and struck out only when no pod can come
// of it any more.
package limits

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy"
)

// The times of the protocol.
const (
	// Renewal is how long a Holder uses its shares after the start of the last
	// heartbeat that succeeded.
	Renewal = 10 * time.Second
	// InFlight is how long an admitted pod may take until it is persisted or
	// refused for good: the API server's --request-timeout is 60 s by default.
	InFlight = 75 * time.Second
	// Settling is how long a limit that is new to the Ledger lets nothing pass, as
	// pods may be on their way of which no account knew.
	Settling = time.Second
	// Tight is for how long after a late grant was refused no share is handed out,
	// so that what room there is goes to those who wait, in their order.
	Tight = 30 * time.Second
)

// sharePods is the largest part of a limit that one share holds, in pods.
const sharePods = 256

// Rank orders the pods that wait for room: by priority, the higher first, then by
// creation, then by name.
type Rank struct {
	Priority int32
	Created  time.Time
	// Name is NAMESPACE/NAME.
	Name string
}

func (r Rank) compare(o Rank) int {
	return cmp.Or(cmp.Compare(o.Priority, r.Priority), r.Created.Compare(o.Created), cmp.Compare(r.Name, o.Name))
}

// Observation is a pod as the API server has it.
type Observation struct {
	UID types.UID
	// Charges are what it takes of limited accounts: it runs on a virtual node, or
	// may be bound to one any moment. None for a pod that merely waits.
	Charges []policy.Charge
	// Stamp is what Holder.Take gave for it, "" for none.
	Stamp string
	// Settled is true for a pod that is bound or finished, or is gone for good; no
	// late grant of it is under way any more.
	Settled bool
}

// Refusal says why a late grant was not reserved.
type Refusal struct {
	Account policy.Account
	// Used is what counts against the account, Limits its limits.
	Used   policy.Amount
	Limits policy.Limits
	// Queued is true when there is room, but a pod that waits comes first, or the
	// room is in shares that are being revoked.
	Queued bool
}

// Ledger is the state of the elected replica. It is not safe for concurrent use.
type Ledger struct {
	id     string
	serial int64
	// version counts the changes that must be persisted before they are used,
	// lazy those that may be persisted at any time.
	version, lazy uint64
	// opens is before when nothing passes.
	opens time.Time

	accounts map[policy.Account]*account
	pods     map[types.UID]*entry
	shares   map[string]*Share
	replicas map[string]bool
	waiting  map[types.UID]*candidate
}

// account is one limited account.
type account struct {
	limits policy.Limits
	// limited is false once no policy has the limit any more; shares may be left.
	limited bool
	// since is when the limit was first seen, tight until when no share is handed
	// out.
	since, tight time.Time
	// used is what pods and reservations take, shared what shares may still turn
	// into pods.
	used, shared policy.Amount
	// shares are those not struck out yet; the largest charge seen is of one pod.
	shares  map[string]*Share
	largest policy.Amount
}

func (a *account) exposure() policy.Amount { return a.used.Plus(a.shared) }

// entry is one pod that counts.
type entry struct {
	seen, reserved map[policy.Account]policy.Amount
	// counted is the larger of the two, by which the accounts were changed.
	counted map[policy.Account]policy.Amount
	// hold is until when a reservation stays that may still become a grant; before
	// is what it was before the last grant was sent.
	hold, before time.Time
}

// candidate is a pod that was refused and waits.
type candidate struct {
	uid     types.UID
	rank    Rank
	charges []policy.Charge
}

// NewLedger makes an empty one. The identifier tells its shares from those of
// any other ledger; it must be unique. Nothing passes before it opens: the zero
// time, or, where an earlier ledger was lost, when nothing can come of that any
// more (Renewal and InFlight from now).
func NewLedger(id string, opens time.Time) *Ledger {
	return &Ledger{
		id:       id,
		opens:    opens,
		accounts: make(map[policy.Account]*account),
		pods:     make(map[types.UID]*entry),
		shares:   make(map[string]*Share),
		replicas: make(map[string]bool),
		waiting:  make(map[types.UID]*candidate),
	}
}

// Version grows with every change of State that must be persisted before it is
// used, and lazy with all others.
func (l *Ledger) Version() (version, lazy uint64) { return l.version, l.lazy }

// SetLimits takes in the limits that are in force.
func (l *Ledger) SetLimits(limits map[policy.Account]policy.Limits, now time.Time) {
	for of, a := range l.accounts {
		if _, ok := limits[of]; !ok {
			a.limited, a.limits = false, policy.NoLimits
			l.sweep(of, a)
		}
	}
	for of, limit := range limits {
		a := l.account(of)
		if !a.limited {
			a.limited, a.since = true, now
		}
		a.limits = limit
	}
}

func (l *Ledger) account(of policy.Account) *account {
	a, ok := l.accounts[of]
	if !ok {
		a = &account{limits: policy.NoLimits, shares: make(map[string]*Share)}
		l.accounts[of] = a
	}
	return a
}

// sweep forgets an account of which nothing is left.
func (l *Ledger) sweep(of policy.Account, a *account) {
	if !a.limited && len(a.shares) == 0 && a.used == (policy.Amount{}) {
		delete(l.accounts, of)
	}
}

// Observe takes in the newest state of a pod.
func (l *Ledger) Observe(o Observation) {
	e := l.pods[o.UID]
	if e == nil {
		if len(o.Charges) == 0 {
			return
		}
		e = &entry{}
		l.pods[o.UID] = e
	}
	seen := make(map[policy.Account]policy.Amount, len(o.Charges))
	for _, c := range o.Charges {
		seen[c.Account] = c.Amount
	}
	e.seen = seen
	for id, mark := range readStamp(o.Stamp) {
		if s := l.shares[id]; s != nil {
			if amount, ok := seen[s.Account]; ok {
				l.find(s, mark, amount)
			}
		}
	}
	if e.reserved != nil && (o.Settled || covers(seen, e.reserved)) {
		e.reserved, e.hold, e.before = nil, time.Time{}, time.Time{}
		l.lazy++
	}
	l.count(o.UID, e)
}

// Gone takes in that a pod exists no more, or is finished.
func (l *Ledger) Gone(uid types.UID) {
	l.Withdraw(uid)
	if e := l.pods[uid]; e != nil {
		if e.reserved != nil {
			l.lazy++
		}
		e.seen, e.reserved = nil, nil
		l.count(uid, e)
	}
}

// covers is true when a grant of all that was reserved has been seen.
func covers(seen, reserved map[policy.Account]policy.Amount) bool {
	for of := range reserved {
		if _, ok := seen[of]; !ok {
			return false
		}
	}
	return true
}

// count brings the accounts up to date with an entry.
func (l *Ledger) count(uid types.UID, e *entry) {
	next := maps.Clone(e.seen)
	for of, amount := range e.reserved {
		if next == nil {
			next = make(map[policy.Account]policy.Amount, len(e.reserved))
		}
		next[of] = next[of].Max(amount)
	}
	for of, amount := range next {
		a := l.account(of)
		a.used = a.used.Plus(amount)
		a.largest = a.largest.Max(amount)
	}
	for of, amount := range e.counted {
		a := l.account(of)
		a.used = a.used.Minus(amount)
		l.sweep(of, a)
	}
	if e.counted = next; len(next) == 0 {
		delete(l.pods, uid)
	}
}

// Usage is what pods take of each limited account, those that are being granted
// among them.
func (l *Ledger) Usage() map[policy.Account]policy.Amount {
	out := make(map[policy.Account]policy.Amount, len(l.accounts))
	for of, a := range l.accounts {
		if a.limited {
			out[of] = a.used
		}
	}
	return out
}

// Reserve makes room for a late grant of a pod. The grant may be written once
// the State of the version that it returns, or a later one, is persisted. A pod
// that is refused waits from then on, until Withdraw or Gone: a pod that ranks
// lower is refused while it could be granted.
func (l *Ledger) Reserve(uid types.UID, rank Rank, charges []policy.Charge, now time.Time) (version uint64, refused *Refusal) {
	e := l.pods[uid]
	if e != nil && e.reserved != nil && within(charges, e.reserved) {
		delete(l.waiting, uid)
		return l.version, nil
	}
	c := &candidate{uid: uid, rank: rank, charges: charges}
	if refused := l.refusal(c, nil, now); refused != nil {
		l.waiting[uid] = c
		for _, charge := range charges {
			if a := l.account(charge.Account); a.limited && !a.limits.Allow(a.exposure().Plus(charge.Amount)) {
				a.tight = now.Add(Tight)
			}
		}
		return 0, refused
	}
	if first := l.first(c, now); first != nil {
		l.waiting[uid] = c
		of := shared(c, first)
		a := l.account(of)
		return 0, &Refusal{Account: of, Used: a.used, Limits: a.limits, Queued: true}
	}
	delete(l.waiting, uid)
	if e == nil {
		e = &entry{}
		l.pods[uid] = e
	}
	if e.reserved == nil {
		e.reserved = make(map[policy.Account]policy.Amount, len(charges))
	}
	for _, charge := range charges {
		e.reserved[charge.Account] = e.reserved[charge.Account].Max(charge.Amount)
	}
	l.count(uid, e)
	l.version++
	return l.version, nil
}

// within is true when all charges are reserved.
func within(charges []policy.Charge, reserved map[policy.Account]policy.Amount) bool {
	for _, c := range charges {
		if !c.Amount.Within(reserved[c.Account]) {
			return false
		}
	}
	return true
}

// refusal says why a candidate cannot be granted, beside what others would take
// first.
func (l *Ledger) refusal(c *candidate, others map[policy.Account]policy.Amount, now time.Time) *Refusal {
	for _, charge := range c.charges {
		a := l.accounts[charge.Account]
		if a == nil || !a.limited {
			return &Refusal{Account: charge.Account, Limits: policy.NoLimits, Queued: true} // not known of yet
		}
		more := charge.Amount
		if e := l.pods[c.uid]; e != nil {
			more = more.Minus(e.counted[charge.Account]).Max(policy.Amount{})
		}
		taken := others[charge.Account]
		if !a.limits.Allow(a.exposure().Plus(more).Plus(taken)) || !l.settled(a, now) {
			return &Refusal{
				Account: charge.Account, Used: a.used, Limits: a.limits,
				Queued: a.limits.Allow(a.used.Plus(more)),
			}
		}
	}
	return nil
}

// settled is true once pods that nobody had counted are certainly seen.
func (l *Ledger) settled(a *account, now time.Time) bool {
	return !now.Before(a.since.Add(Settling)) && !now.Before(l.opens)
}

// first gives the waiting pod that comes before the candidate, could be granted,
// and takes of the same account.
func (l *Ledger) first(c *candidate, now time.Time) *candidate {
	var best *candidate
	for _, w := range l.waiting {
		if w.uid != c.uid && w.rank.compare(c.rank) < 0 && (best == nil || w.rank.compare(best.rank) < 0) &&
			shared(c, w) != (policy.Account{}) && l.refusal(w, nil, now) == nil {
			best = w
		}
	}
	return best
}

// shared is an account that both take of; zero if there is none.
func shared(a, b *candidate) policy.Account {
	for _, x := range a.charges {
		for _, y := range b.charges {
			if x.Account == y.Account {
				return x.Account
			}
		}
	}
	return policy.Account{}
}

// Withdraw takes a pod out that is no candidate any more. Its reservation is
// struck out, unless a grant may still come of it.
func (l *Ledger) Withdraw(uid types.UID) {
	delete(l.waiting, uid)
	e := l.pods[uid]
	if e == nil || e.reserved == nil || !e.hold.IsZero() {
		return
	}
	e.reserved = nil
	l.count(uid, e)
	l.lazy++
}

// Sent notes that the grant of a pod is about to be written, and so may come
// about until InFlight after now.
func (l *Ledger) Sent(uid types.UID, now time.Time) {
	if e := l.pods[uid]; e != nil && e.reserved != nil {
		e.before, e.hold = e.hold, now.Add(InFlight)
	}
}

// Failed notes that the grant that was last sent has certainly not been written.
// An earlier one of unknown outcome is held on.
func (l *Ledger) Failed(uid types.UID) {
	if e := l.pods[uid]; e != nil {
		e.hold = e.before
	}
}

// Next are the waiting pods that can be granted now, in their order, and those
// only that fit all together.
func (l *Ledger) Next(now time.Time) []types.UID {
	if len(l.waiting) == 0 {
		return nil
	}
	order := slices.SortedFunc(maps.Values(l.waiting), func(a, b *candidate) int { return a.rank.compare(b.rank) })
	taken := make(map[policy.Account]policy.Amount)
	var out []types.UID
	for _, c := range order {
		if l.refusal(c, taken, now) != nil {
			continue
		}
		for _, charge := range c.charges {
			taken[charge.Account] = taken[charge.Account].Plus(charge.Amount)
		}
		out = append(out, c.uid)
	}
	return out
}

// Waiting counts the pods that were refused and wait.
func (l *Ledger) Waiting() int { return len(l.waiting) }

// State is what is persisted of a Ledger.
type State struct {
	// ID tells this ledger from any other that there ever was; Serial is that of
	// the last share.
	ID     string `json:"id"`
	Serial int64  `json:"serial"`
	// Revision grows with every write, by which readers know an older one.
	Revision int64 `json:"revision"`
	// Leader is the replica that writes.
	Leader       string                                         `json:"leader"`
	Shares       []Share                                        `json:"shares,omitempty"`
	Reservations map[types.UID]map[policy.Account]policy.Amount `json:"reservations,omitempty"`
}

// State is the present state, without what belongs to the writing of it.
func (l *Ledger) State() State {
	s := State{ID: l.id, Serial: l.serial}
	for _, id := range slices.SortedFunc(maps.Keys(l.shares), compareIDs) {
		s.Shares = append(s.Shares, l.shares[id].persisted())
	}
	for uid, e := range l.pods {
		if e.reserved != nil {
			if s.Reservations == nil {
				s.Reservations = make(map[types.UID]map[policy.Account]policy.Amount)
			}
			s.Reservations[uid] = maps.Clone(e.reserved)
		}
	}
	return s
}

// compareIDs puts shorter, and so earlier, identifiers first.
func compareIDs(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) }

// Restore makes the Ledger of a new leader from what the one before persisted.
// Every grant of that one that was not seen may still come about.
func Restore(s State, now time.Time) *Ledger {
	l := NewLedger(s.ID, time.Time{})
	l.serial = s.Serial
	for uid, reserved := range s.Reservations {
		e := &entry{reserved: reserved, hold: now.Add(InFlight)}
		l.pods[uid] = e
		l.count(uid, e)
	}
	for i := range s.Shares {
		share := s.Shares[i]
		share.found = make(map[string]bool)
		if share.Closed {
			share.end = now.Add(InFlight)
		}
		l.hold(&share)
	}
	return l
}
