package store

import (
	"context"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// leaseSource is a real informer of Leases on a watch that a test writes.
type leaseSource struct {
	*fcache.FakeControllerSource
	informer toolscache.SharedIndexInformer
}

func newLeaseSource(t *testing.T) *leaseSource {
	t.Helper()
	s := &leaseSource{FakeControllerSource: fcache.NewFakeControllerSource()}
	t.Cleanup(s.Shutdown)
	s.informer = toolscache.NewSharedIndexInformer(s.FakeControllerSource, &coordinationv1.Lease{}, 0, toolscache.Indexers{})
	return s
}

func (s *leaseSource) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return s.informer, nil
}

func (s *leaseSource) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); s.informer.RunWithContext(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	eventually(t, "the lease is read", s.informer.HasSynced)
}

// leaseOf is a Lease of 15 s, renewed at a time of its holder's clock, which is
// years behind.
func leaseOf(holder string, renewed int64) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst", Name: "controller"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: new(int32(15)),
			RenewTime: new(metav1.NewMicroTime(time.Unix(renewed, 0))),
		},
	}
}

// TestControllerLive follows the Lease by the clock of the Store alone.
func TestControllerLive(t *testing.T) {
	clock := testclock.NewFakeClock(time.Now())
	src, leases, st := newSources(t), newLeaseSource(t), New(Options{Clock: clock})
	leases.Add(leaseOf("a", 1))
	if err := st.AttachLease(t.Context(), leases, "autoburst", "controller"); err != nil {
		t.Fatal(err)
	}
	leases.run(t)
	src.run(t, st)
	eventually(t, "the store is synced", st.Synced)
	if st.Snapshot().ControllerLive {
		t.Fatal("a Lease that was found says nothing, yet the controller counts as live")
	}
	// What gathers changes waits for the clock as well.
	becomes := func(what string, want bool) {
		t.Helper()
		eventually(t, what, func() bool {
			clock.Step(DefaultCoalesce)
			return st.Snapshot().ControllerLive == want
		})
	}
	stays := func(what string, want bool) {
		t.Helper()
		for range 20 {
			clock.Step(DefaultCoalesce)
			if st.Snapshot().ControllerLive != want {
				t.Fatalf("%s: the controller counts as live: %t", what, !want)
			}
		}
	}

	leases.Modify(leaseOf("a", 3))
	becomes("a renewal shows that it is live", true)
	clock.Step(14 * time.Second)
	stays("within its time", true)
	becomes("the Lease runs out without an event", false)
	leases.Modify(leaseOf("a", 5))
	becomes("it is renewed again", true)
	leases.Modify(leaseOf("", 5))
	becomes("its holder gives it up", false)
	if gap := st.LeaseGap(); gap >= 0 {
		t.Errorf("the gap before a holder that was found is %v, want unknown", gap)
	}
	clock.Step(7 * time.Second)
	leases.Modify(leaseOf("b", 6))
	becomes("another takes it", true)
	if gap := st.LeaseGap(); gap < 7*time.Second || gap > 8*time.Second {
		t.Errorf("the gap before the other is %v, want 7 s", gap)
	}
	other := leaseOf("b", 7)
	other.Name = "another"
	leases.Add(other)
	clock.Step(14900 * time.Millisecond)
	becomes("the Lease of something else does not count", false)
	leases.Modify(leaseOf("b", 8))
	becomes("it is renewed", true)
	leases.Delete(leaseOf("b", 8))
	becomes("it is deleted", false)
}

// TestLiveWithoutElection: without a Lease to watch the controller runs here, until
// the Store ends.
func TestLiveWithoutElection(t *testing.T) {
	src, st := newSources(t), New(Options{})
	if st.Snapshot().ControllerLive {
		t.Error("live before the store has started")
	}
	if err := st.Attach(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- st.Start(ctx) }()
	for _, i := range src.informers {
		go i.RunWithContext(ctx)
	}
	eventually(t, "the controller counts as live", func() bool { return st.Snapshot().ControllerLive })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if st.Snapshot().ControllerLive {
		t.Error("a replica that has stopped still vouches for a controller")
	}
}
