package shares

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/limits"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const namespace = "autoburst-system"

var account = policy.Account{Policy: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "web"}}

// rules is a View.
type rules struct{ snapshot *policy.Snapshot }

func (r *rules) Snapshot() *policy.Snapshot      { return r.snapshot }
func (r *rules) Subscribe(store.Listener) func() { return func() {} }

func limited(pods int32) *rules {
	p := &v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{Limits: &v1alpha1.Limits{Pods: &pods}}}
	p.Namespace, p.Name = "shop", "web"
	return &rules{&policy.Snapshot{Policies: map[string][]*policy.Policy{"shop": {policy.Compile(p)}}}}
}

// ledger is a persisted ledger with one share for a replica.
func ledger(t *testing.T, replica string, revision int64, change func(*limits.Share)) *corev1.ConfigMap {
	t.Helper()
	s := limits.Share{ID: "x-1", Replica: replica, Account: account, Size: policy.Amount{Pods: 3}}
	if change != nil {
		change(&s)
	}
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "autoburst-ledger"}}
	if err := (limits.State{ID: "x", Revision: revision, Shares: []limits.Share{s}}).Write(m); err != nil {
		t.Fatal(err)
	}
	return m
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		case <-tick.C:
		}
	}
}

// A replica takes from its share while its heartbeat reaches the API server; it
// reports what it has closed; taken for dead, it begins anew with nothing.
func TestReplica(t *testing.T) {
	clients := fake.NewClientset()
	leases := clients.CoordinationV1().Leases(namespace)
	r := New(Options{Name: "pod-1", View: limited(9), Leases: leases})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	first := r.Name()
	heartbeat := func(replica string) (report limits.Report, ok bool) {
		l, err := leases.Get(t.Context(), limits.HeartbeatPrefix+replica, metav1.GetOptions{})
		if err != nil {
			return limits.Report{}, false
		}
		return limits.ReadHeartbeat(l), true
	}
	one := []policy.Charge{{Account: account, Amount: policy.Amount{Pods: 1}}}
	if _, ok := r.Take(one); ok {
		t.Fatal("took from a share that was never handed out")
	}
	r.adopt(ledger(t, first, 1, nil))
	eventually(t, "the share is used", func() bool { _, ok := r.Take(one); return ok })
	r.adopt(ledger(t, first, 2, func(s *limits.Share) { s.Replaced = true }))
	if _, ok := r.Take(one); ok {
		t.Error("took from a share that was revoked")
	}
	eventually(t, "what was consumed is reported", func() bool {
		got, _ := heartbeat(first)
		return got.Closed["x-1"].Pods == 1
	})

	r.adopt(ledger(t, first, 3, func(s *limits.Share) { s.ID = "x-2" }))
	if _, ok := r.Take(one); !ok {
		t.Error("a second share is not used")
	}
	if err := leases.Delete(t.Context(), limits.HeartbeatPrefix+first, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	r.ring()
	eventually(t, "the replica begins anew", func() bool { _, ok := heartbeat(r.Name()); return ok && r.Name() != first })
	r.adopt(ledger(t, first, 4, func(s *limits.Share) { s.ID = "x-3" }))
	if _, ok := r.Take(one); ok {
		t.Error("took from a share of the name that was declared dead")
	}

	// At its end it gives back what it holds.
	r.adopt(ledger(t, r.Name(), 5, func(s *limits.Share) { s.ID = "x-4" }))
	eventually(t, "the share is used", func() bool { _, ok := r.Take(one); return ok })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got, _ := heartbeat(r.Name()); got.Closed["x-4"].Pods != 1 {
		t.Errorf("at its end it has reported %+v", got)
	}
	if _, ok := r.Take(one); ok {
		t.Error("took from a share after its end")
	}
}

// Without limits nothing is said.
func TestNoLimitNoHeartbeat(t *testing.T) {
	clients := fake.NewClientset()
	r := New(Options{Name: "pod-1", View: &rules{&policy.Snapshot{}}, Leases: clients.CoordinationV1().Leases(namespace)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Start(ctx) }()
	r.ring()
	eventually(t, "the replica has looked", func() bool { return len(r.wake) == 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if a := clients.Actions(); len(a) > 0 {
		t.Errorf("the API server was asked for %v", a)
	}
}
