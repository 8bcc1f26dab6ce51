package vnode

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// market is a cloud with so much room, and pods that come to it through a circuit.
// Its time passes as the pods ask.
type market struct {
	*circuit
	now  time.Time
	pods map[types.UID]*customer
	// free is how much of the quota is left, and largest what there are machines for.
	free, largest int64
	broken        providers.ErrorClass
	calls         int
}

type customer struct {
	applicant
	next   time.Time
	served bool
}

func newMarket() *market {
	m := &market{circuit: newCircuit(Config{}.withDefaults()), now: time.Unix(1_800_000_000, 0), pods: map[types.UID]*customer{}, largest: 64000}
	m.wake = func(uid types.UID) {
		if p := m.pods[uid]; p != nil {
			p.next = m.now
		}
	}
	return m
}

func (m *market) arrive(priority int32, cpu int64) {
	uid := types.UID(fmt.Sprintf("pod-%03d", len(m.pods)))
	m.pods[uid] = &customer{applicant: applicant{
		uid: uid, priority: priority, created: m.now.Add(time.Duration(len(m.pods)) * time.Millisecond), size: burstable.Size{MilliCPU: cpu, MemoryBytes: cpu << 20},
	}, next: m.now}
}

func (m *market) answer(p *customer) error {
	m.calls++
	switch {
	case m.broken != "":
		return fault(m.broken, "Broken")
	case p.size.MilliCPU > m.largest:
		return fault(providers.OutOfStock, "NoStock")
	case p.size.MilliCPU > m.free:
		return fault(providers.QuotaExceeded, "QuotaExceeded")
	}
	m.free -= p.size.MilliCPU
	p.served = true
	return nil
}

// pass lets so much time pass.
func (m *market) pass(d time.Duration) {
	for end := m.now.Add(d); ; {
		var next *customer
		for _, p := range m.pods {
			if !p.served && (next == nil || p.next.Before(next.next) || p.next.Equal(next.next) && byRank(&p.applicant, &next.applicant) < 0) {
				next = p
			}
		}
		if next == nil || next.next.After(end) {
			m.now = end
			return
		}
		m.now = maxTime(m.now, next.next)
		if h := m.ask(next.applicant, m.now, true); h != nil {
			next.next = m.now.Add(h.wait)
			continue
		}
		err := m.answer(next)
		next.next = m.now.Add(time.Minute) // its own back-off, if nothing wakes it
		m.done(next.applicant, err, m.now)
		if err == nil {
			m.leave(next.uid)
		} else if h := m.ask(next.applicant, m.now, false); h != nil {
			next.next = m.now.Add(h.wait)
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (m *market) served() []types.UID {
	var out []types.UID
	for uid, p := range m.pods {
		if p.served {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return out
}

// However many pods wait, and of whatever sizes, a cloud that refuses them is asked
// about once a minute for each size; and once it has room, all start soon.
func TestCircuitIsBoundedAndLetsAllPass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket()
		sizes := []int64{1000, 2000, 4000, 8000}[:rapid.IntRange(1, 4).Draw(t, "sizes")]
		n := rapid.IntRange(1, 80).Draw(t, "pods")
		for range n {
			m.arrive(rapid.Int32Range(0, 3).Draw(t, "priority"), rapid.SampledFrom(sizes).Draw(t, "size"))
			if rapid.Bool().Draw(t, "pause") {
				m.pass(rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.IntRange(0, 90).Draw(t, "s")) * time.Second }).Draw(t, "for"))
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "phases") {
			m.free, m.broken, m.largest = 0, "", 64000
			switch rapid.IntRange(0, 2).Draw(t, "trouble") {
			case 0:
				m.largest = 500
				m.free = 1 << 40
			case 1:
				m.broken = rapid.SampledFrom([]providers.ErrorClass{providers.Unavailable, providers.Unauthorized, providers.AccountSuspended}).Draw(t, "class")
			}
			m.pass(3 * time.Minute)
			begun := m.calls
			m.pass(30 * time.Minute)
			// One or two pods alone are no proof that the cloud is broken: each has a
			// back-off of its own.
			if got, most := m.calls-begun, 30*2*len(sizes)+5; got > most {
				t.Fatalf("%d calls in half an hour of a cloud that refuses all, want at most %d", got, most)
			}
		}
		m.free, m.broken, m.largest = 1<<40, "", 64000
		m.pass(3 * time.Minute)
		if got := len(m.served()); got != n {
			t.Fatalf("%d of %d pods have started 3 min after there was room: %+v", got, n, m.state())
		}
		if got := m.state(); len(got) > 0 {
			m.expire(m.now.Add(time.Hour))
			if got := m.state(); len(got) > 0 {
				t.Fatalf("the circuit is still open: %+v", got)
			}
		}
	})
}

// What room there is goes to the most important pods, and of these to the oldest.
func TestCircuitServesByRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMarket()
		n := rapid.IntRange(2, 40).Draw(t, "pods")
		for range n {
			m.arrive(rapid.Int32Range(0, 3).Draw(t, "priority"), 1000)
		}
		m.pass(time.Duration(rapid.IntRange(1, 60).Draw(t, "minutes")) * time.Minute)
		want := make([]*applicant, 0, n)
		for _, p := range m.pods {
			want = append(want, &p.applicant)
		}
		slices.SortFunc(want, byRank)
		room := rapid.IntRange(1, n).Draw(t, "room")
		m.free = int64(room) * 1000
		m.pass(3 * time.Minute)
		got := m.served()
		var top []types.UID
		for _, a := range want[:room] {
			top = append(top, a.uid)
		}
		slices.Sort(top)
		if !slices.Equal(got, top) {
			t.Fatalf("served %v, want %v", got, top)
		}
	})
}

// Room for a small pod is found although a large one is more important.
func TestCircuitIsNotBlockedByWhatCannotFit(t *testing.T) {
	m := newMarket()
	m.arrive(1000, 1000)
	m.arrive(1000, 8000)
	m.pass(time.Minute)
	m.arrive(0, 1000)
	m.pass(30 * time.Minute)
	m.free = 2000
	m.pass(10 * time.Minute)
	if got := m.served(); !slices.Equal(got, []types.UID{"pod-000", "pod-002"}) {
		t.Errorf("served %v, want the two that fit", got)
	}
}

func TestCircuitWhileTheCloudIsDown(t *testing.T) {
	m := newMarket()
	m.free = 1 << 40
	m.setDown(fault(providers.Unavailable, "Down"), m.now)
	for range 20 {
		m.arrive(0, 1000)
	}
	m.pass(time.Hour)
	if m.calls != 0 {
		t.Errorf("%d calls of a cloud that is known not to answer", m.calls)
	}
	m.setDown(nil, m.now)
	m.pass(time.Second)
	if got := len(m.served()); got != 20 {
		t.Errorf("%d of 20 pods have started at once", got)
	}
}

// A pod that leaves, or does not ask any more, is in nobody's way.
func TestCircuitForgetsWhoLeft(t *testing.T) {
	for name, leave := range map[string]func(*market){
		"by its own word":  func(m *market) { m.leave("pod-000"); delete(m.pods, "pod-000") },
		"without any word": func(m *market) { delete(m.pods, "pod-000") },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMarket()
			m.arrive(1000, 1000)
			m.arrive(0, 1000)
			m.pass(10 * time.Minute)
			leave(m)
			m.free = 1000
			m.pass(3 * time.Minute)
			if got := m.served(); len(got) != 1 {
				t.Errorf("served %v, want the pod that is left", got)
			}
		})
	}
}
