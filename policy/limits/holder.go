package limits

import (
	"iter"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/autoburst/autoburst/policy"
)

// Holder holds the shares of one replica and takes from them in memory. All
// methods are safe for concurrent use.
type Holder struct {
	mu       sync.Mutex
	replica  string
	shares   map[string]*held
	current  map[policy.Account]*held
	renewed  time.Time // start of the last heartbeat that succeeded
	ledger   string    // that the shares are of
	revision int64
	past     map[string]bool // ledgers before
}

// held is a share and what was taken from it.
type held struct {
	Share
	consumed policy.Amount
	taken    int64 // how often
	closed   bool
}

// NewHolder makes the Holder of a replica. The name must be that of this very
// process: it holds nothing of what one before it was handed.
func NewHolder(replica string) *Holder {
	return &Holder{
		replica: replica, shares: make(map[string]*held), current: make(map[policy.Account]*held), past: make(map[string]bool),
	}
}

// Replica is the name that shares are handed to.
func (h *Holder) Replica() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.replica
}

// Take takes all charges from shares, or nothing. The stamp is to be written on
// the pod, so that it is known by which shares it is counted.
func (h *Holder) Take(charges []policy.Charge, now time.Time) (stamp string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.usable(now) {
		return "", false
	}
	for _, c := range charges {
		s := h.current[c.Account]
		if s == nil || !s.consumed.Plus(c.Amount).Within(s.Size) {
			return "", false
		}
	}
	marks := make([]string, len(charges))
	for i, c := range charges {
		s := h.current[c.Account]
		s.consumed = s.consumed.Plus(c.Amount)
		s.taken++
		marks[i] = s.ID + "." + strconv.FormatInt(s.taken, 36)
	}
	return strings.Join(marks, ","), true
}

// usable is true while the leader cannot have declared the replica dead. The lock
// is held.
func (h *Holder) usable(now time.Time) bool {
	return !h.renewed.IsZero() && now.Sub(h.renewed) < Renewal
}

// readStamp gives, of each share in a stamp, its identifier and the mark.
func readStamp(stamp string) iter.Seq2[string, string] {
	return func(yield func(id, mark string) bool) {
		for part := range strings.SplitSeq(stamp, ",") {
			if id, mark, ok := strings.Cut(part, "."); ok && !yield(id, mark) {
				return
			}
		}
	}
}

// Adopt takes in the ledger as it was persisted: new shares are used, those that
// are replaced or gone are closed. An older state than the last is ignored.
func (h *Holder) Adopt(s State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.past[s.ID] || s.ID == h.ledger && s.Revision < h.revision:
		return
	case s.ID != h.ledger:
		h.past[h.ledger] = true
		h.drop()
	}
	h.ledger, h.revision = s.ID, s.Revision
	listed := make(map[string]bool, len(s.Shares))
	for i := range s.Shares {
		share := &s.Shares[i]
		if share.Replica != h.replica {
			continue
		}
		listed[share.ID] = true
		known := h.shares[share.ID]
		switch {
		case known == nil && !share.Replaced && !share.Closed:
			h.shares[share.ID] = &held{Share: *share}
		case known == nil && !share.Closed: // replaced before it was ever seen
			h.shares[share.ID] = &held{Share: *share, closed: true}
		case known != nil && (share.Replaced || share.Closed):
			known.closed = true
		}
	}
	clear(h.current)
	for id, share := range h.shares {
		switch {
		case !listed[id]:
			delete(h.shares, id)
		case !share.closed:
			h.current[share.Account] = share
		}
	}
}

// Lost takes in that there is no ledger any more. What was consumed is kept, in
// case that the same ledger comes back.
func (h *Holder) Lost() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.shares {
		s.closed = true
	}
	clear(h.current)
}

// drop forgets all shares, for good. The lock is held.
func (h *Holder) drop() {
	clear(h.shares)
	clear(h.current)
}

// Renewed takes in that a heartbeat succeeded which was started at that time.
func (h *Holder) Renewed(started time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if started.After(h.renewed) {
		h.renewed = started
	}
}

// Rename is for a replica that was declared dead: it begins anew, by another
// name and with nothing.
func (h *Holder) Rename(replica string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop()
	h.replica, h.renewed = replica, time.Time{}
}

// Report is what a heartbeat tells: what was consumed of each share that is
// closed, and how many others are held.
func (h *Holder) Report() (closed map[string]policy.Amount, open int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	closed = make(map[string]policy.Amount)
	for id, s := range h.shares {
		if s.closed {
			closed[id] = s.consumed
		} else {
			open++
		}
	}
	return closed, open
}

// Room is what is left of the share of an account.
func (h *Holder) Room(of policy.Account, now time.Time) policy.Amount {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.current[of]
	if s == nil || !h.usable(now) {
		return policy.Amount{}
	}
	return s.Size.Minus(s.consumed)
}
