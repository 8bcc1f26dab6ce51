package limits

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy"
)

var begin = time.Unix(1000, 0)

// settledLedger is one with a limit of so many pods that has settled.
func settledLedger(t *testing.T, limits map[policy.Account]int64) (*Ledger, time.Time) {
	t.Helper()
	l := NewLedger("x", time.Time{})
	all := map[policy.Account]policy.Limits{}
	for of, pods := range limits {
		all[of] = policy.Limits{Pods: pods, MilliCPU: policy.Unlimited, Memory: policy.Unlimited}
	}
	l.SetLimits(all, begin)
	return l, begin.Add(Settling)
}

func onePod(of ...policy.Account) []policy.Charge {
	var out []policy.Charge
	for _, a := range of {
		out = append(out, policy.Charge{Account: a, Amount: policy.Amount{Pods: 1, MilliCPU: 500}})
	}
	return out
}

// drain plans and lets a replica adopt what is persisted.
func drain(l *Ledger, h *Holder, now time.Time) {
	s := l.State()
	s.Revision = int64(l.version + l.lazy)
	h.Renewed(now)
	h.Adopt(s)
}

func TestOrder(t *testing.T) {
	l, now := settledLedger(t, map[policy.Account]int64{accountA: 2})
	ask := func(uid types.UID, priority int32, age time.Duration) bool {
		_, refused := l.Reserve(uid, Rank{Priority: priority, Created: begin.Add(-age), Name: "shop/" + string(uid)}, onePod(accountA), now)
		return refused == nil
	}
	for _, uid := range []types.UID{"first", "second"} {
		if !ask(uid, 0, 0) {
			t.Fatalf("%s is refused though there is room", uid)
		}
	}
	for _, c := range []struct {
		uid      types.UID
		priority int32
		age      time.Duration
	}{{"young", 0, time.Second}, {"old", 0, time.Minute}, {"urgent", 5, 0}, {"b", 0, time.Second}} {
		if ask(c.uid, c.priority, c.age) {
			t.Fatalf("%s is granted over the limit", c.uid)
		}
	}
	if next := l.Next(now); len(next) > 0 {
		t.Errorf("%v can be granted, want nobody", next)
	}
	l.Gone("first")
	if diff := cmp.Diff([]types.UID{"urgent"}, l.Next(now)); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
	if ask("old", 0, time.Minute) {
		t.Error("old is granted before urgent")
	}
	l.Gone("second")
	if diff := cmp.Diff([]types.UID{"urgent", "old"}, l.Next(now)); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
	// One that may not burst now, for another reason, holds nobody up.
	l.Withdraw("urgent")
	if diff := cmp.Diff([]types.UID{"old", "b"}, l.Next(now)); diff != "" {
		t.Errorf("next (-want +got):\n%s", diff)
	}
	if !ask("old", 0, time.Minute) || ask("young", 0, time.Second) || !ask("b", 0, time.Second) {
		t.Error("want old and then b granted, and young not")
	}
}

// A pod is held against its share once, however often it is seen and whoever
// copies its manifest.
func TestPodIsFoundOnce(t *testing.T) {
	l, now := settledLedger(t, map[policy.Account]int64{accountA: 12})
	l.Heard("r", nil, now)
	l.Plan(false, now)
	h := NewHolder("r")
	drain(l, h, now)
	stamp, ok := h.Take(onePod(accountA), now)
	if !ok {
		t.Fatal("no share was handed out")
	}
	full := l.accounts[accountA].exposure()
	for i, settled := range []bool{false, false, true} {
		l.Observe(Observation{UID: "p", Charges: onePod(accountA), Stamp: stamp, Settled: settled})
		if got := l.accounts[accountA].exposure(); got.Pods != full.Pods {
			t.Errorf("seen %d times, %d pods are exposed, want %d", i+1, got.Pods, full.Pods)
		}
	}
	l.Observe(Observation{UID: "copy", Charges: onePod(accountA), Stamp: stamp})
	if got := l.accounts[accountA].exposure(); got.Pods != full.Pods+1 {
		t.Errorf("with a copy %d pods are exposed, want %d", got.Pods, full.Pods+1)
	}
}

// Shares are topped up before they run dry, and one tenant that waits takes no
// share from accounts that have room.
func TestShares(t *testing.T) {
	l, now := settledLedger(t, map[policy.Account]int64{accountA: 0, accountB: 1000})
	l.Heard("r", nil, now)
	l.Heard("s", nil, now)
	l.Plan(false, now)
	h := NewHolder("r")
	drain(l, h, now)
	if room := h.Room(accountB, now); room.Pods != sharePods {
		t.Fatalf("the share is of %d pods, want %d", room.Pods, sharePods)
	}
	l.Reserve("tenant", Rank{}, onePod(accountA, accountB), now)
	taken := 0
	for i := range 600 {
		stamp, ok := h.Take(onePod(accountB), now)
		if !ok {
			break
		}
		taken++
		l.Observe(Observation{UID: types.UID(fmt.Sprint(i)), Charges: onePod(accountB), Stamp: stamp})
		closed, _ := h.Report()
		l.Heard("r", closed, now)
		l.Plan(false, now)
		drain(l, h, now)
	}
	if taken < 600 {
		t.Errorf("one of two replicas could grant %d of 600 pods under a limit of 1000", taken)
	}
	if n := len(l.shares); n > 4 {
		t.Errorf("%d shares are left, want those in use", n)
	}
}

func TestStateIsKept(t *testing.T) {
	l, now := settledLedger(t, map[policy.Account]int64{accountA: 8, accountB: 8})
	l.Heard("r", nil, now)
	l.Plan(false, now)
	l.Reserve("late", Rank{}, onePod(accountA, accountB), now)
	want := l.State()
	var m corev1.ConfigMap
	if err := want.Write(&m); err != nil {
		t.Fatal(err)
	}
	got, err := ReadState(&m)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Share{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
	before, after := l.accounts[accountA].exposure(), Restore(got, now).accounts[accountA].exposure()
	if before.Pods != after.Pods {
		t.Errorf("%d pods are exposed before and %d after a change of leader", before.Pods, after.Pods)
	}
	for name, data := range map[string]string{"empty": "", "no id": "{}", "an account": `{"id":"x","shares":[{"account":"nonsense"}]}`} {
		if _, err := ReadState(&corev1.ConfigMap{Data: map[string]string{LedgerKey: data}}); err == nil {
			t.Errorf("%s: read without an error", name)
		}
	}
}

func BenchmarkTake(b *testing.B) {
	h := NewHolder("r")
	h.Renewed(begin)
	h.Adopt(State{ID: "x", Shares: []Share{{ID: "x-1", Replica: "r", Account: accountA, Size: policy.Amount{Pods: 1 << 40, MilliCPU: 1 << 50, Memory: 1 << 50}}}})
	charges := onePod(accountA)
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := h.Take(charges, begin); !ok {
			b.Fatal("the share is used up")
		}
	}
}
