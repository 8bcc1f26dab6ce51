package limits

import (
	"testing"
	"time"

	"github.com/autoburst/autoburst/policy"
)

func shareOf(replica, id string, change func(*Share)) Share {
	s := Share{ID: id, Replica: replica, Account: accountA, Size: policy.Amount{Pods: 2, MilliCPU: ample, Memory: ample}}
	if change != nil {
		change(&s)
	}
	return s
}

func TestHolder(t *testing.T) {
	replaced := func(s *Share) { s.Replaced = true }
	closed := func(s *Share) { s.Closed = true }
	state := func(revision int64, shares ...Share) State { return State{ID: "x", Revision: revision, Shares: shares} }
	for name, c := range map[string]struct {
		do   func(h *Holder)
		at   time.Duration // of the taking, after the heartbeat
		want int           // how many can be taken
	}{
		"a share": {do: func(h *Holder) { h.Adopt(state(1, shareOf("r", "x-1", nil))) }, want: 2},
		"just renewed": {
			do: func(h *Holder) { h.Adopt(state(1, shareOf("r", "x-1", nil))) }, at: Renewal - time.Millisecond, want: 2,
		},
		"not renewed in time": {do: func(h *Holder) { h.Adopt(state(1, shareOf("r", "x-1", nil))) }, at: Renewal},
		"another's":           {do: func(h *Holder) { h.Adopt(state(1, shareOf("s", "x-1", nil))) }},
		"revoked": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Adopt(state(2, shareOf("r", "x-1", replaced)))
		}},
		"revoked before it was seen": {do: func(h *Holder) { h.Adopt(state(2, shareOf("r", "x-1", replaced))) }},
		"closed by the leader": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Adopt(state(2, shareOf("r", "x-1", closed)))
		}},
		"topped up": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Take(onePod(accountA), begin)
			h.Adopt(state(2, shareOf("r", "x-1", replaced), shareOf("r", "x-2", nil)))
		}, want: 2},
		"an older state comes after": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Adopt(state(3))
			h.Adopt(state(2, shareOf("r", "x-1", nil)))
		}},
		"the ledger is deleted": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Lost()
			h.Adopt(state(2, shareOf("r", "x-1", nil)))
		}},
		"another ledger": {do: func(h *Holder) {
			h.Adopt(state(9, shareOf("r", "x-1", nil)))
			h.Adopt(State{ID: "y", Revision: 1, Shares: []Share{shareOf("r", "y-1", nil)}})
			h.Adopt(state(10, shareOf("r", "x-1", nil), shareOf("r", "x-2", nil)))
		}, want: 2},
		"declared dead": {do: func(h *Holder) {
			h.Adopt(state(1, shareOf("r", "x-1", nil)))
			h.Rename("s")
			h.Renewed(begin)
			h.Adopt(state(2, shareOf("r", "x-1", nil), shareOf("r", "x-2", nil)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h := NewHolder("r")
			h.Renewed(begin)
			c.do(h)
			got := 0
			for range 10 {
				if _, ok := h.Take(onePod(accountA), begin.Add(c.at)); ok {
					got++
				}
			}
			if got != c.want {
				t.Errorf("%d were taken, want %d", got, c.want)
			}
		})
	}
}

// What a dead replica holds counts in full until nothing can come of it any more,
// and then is free.
func TestLostReplica(t *testing.T) {
	l, now := settledLedger(t, map[policy.Account]int64{accountA: 100})
	l.Heard("r", nil, now)
	l.Plan(false, now)
	held := l.accounts[accountA].exposure().Pods
	if held == 0 {
		t.Fatal("no share was handed out")
	}
	l.Lost("r", now)
	for _, c := range []struct {
		after time.Duration
		fresh bool
		want  int64
	}{{0, true, held}, {Renewal + InFlight - time.Second, true, held}, {Renewal + InFlight, false, held}, {Renewal + InFlight, true, 0}} {
		l.Plan(c.fresh, now.Add(c.after))
		if got := l.accounts[accountA].exposure().Pods; got != c.want {
			t.Errorf("after %v, fresh %t, %d pods are exposed, want %d", c.after, c.fresh, got, c.want)
		}
	}
}
