package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// keeping is a fixture whose policy keeps replicas of ReplicaSet web-1 local.
func keeping(t *testing.T, keep, replicas int32) *fixture {
	f := newFixture(t)
	f.setPolicies(&v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       v1alpha1.BurstPolicySpec{KeepLocal: ptr.To(intstr.FromInt32(keep))},
	})
	f.view.census.SetOwner("web-1", policy.Owner{Replicas: replicas, Wanted: replicas})
	return f
}

func replica(i int) *corev1.Pod {
	p := unschedulable(fmt.Sprintf("web-%d", i))
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "web-1", Controller: ptr.To(true)}}
	return p
}

// granted counts the pods that the API server has with a grant.
func (f *fixture) granted() (n int) {
	f.t.Helper()
	var list corev1.PodList
	if err := f.client.List(f.t.Context(), &list); err != nil {
		f.t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Annotations[v1alpha1.GrantAnnotation] != "" {
			n++
		}
	}
	return n
}

// Workers that all look at once, on a view that never sees a grant, do not grant
// more pods than there are places.
func TestKeepLocalHoldsAgainstWorkersAndALateView(t *testing.T) {
	f := keeping(t, 3, 10)
	var keys []store.PodKey
	for i := range 10 {
		keys = append(keys, store.KeyOf(f.submit(replica(i))))
	}
	for range 3 { // looks
		var workers sync.WaitGroup
		for _, key := range keys {
			workers.Go(func() {
				if _, err := f.granter.Reconcile(context.Background(), key); err != nil {
					t.Error(err)
				}
			})
		}
		workers.Wait()
	}
	if n := f.granted(); n != 7 {
		t.Errorf("%d pods are granted, want 7", n)
	}
}

// A pod that bursts no more, or a larger workload, lets the next one burst, which
// is told of by the store.
func TestKeepLocalGrantsWhenAPlaceIsFree(t *testing.T) {
	f := keeping(t, 1, 2)
	first, second := f.submit(replica(0)), f.submit(replica(1))
	f.work()
	if n := f.granted(); n != 1 {
		t.Fatalf("%d pods are granted, want 1", n)
	}
	if got := f.events.note("web-1"); got != "web-1 Normal WaitsToBurst: The policy keeps replicas of each workload on local nodes, and counts those that burst. ReplicaSet shop/web-1 keeps 1 of its 2 replicas local; 1 have burst. Decided by BurstPolicy/web." {
		t.Errorf("the event is %q", got)
	}
	f.settle(first, "local-1")
	f.granter.budgets.PodSettled(first, "local-1")
	f.granter.waiting.WorkloadChanged("web-1")
	f.work()
	if got := f.pod("shop", second.Name).Annotations[v1alpha1.GrantAnnotation]; got != policy.GrantLate {
		t.Errorf("the second pod was granted %q, want Late", got)
	}
}

// A new leader counts the grants of the one before, though its view lags.
func TestKeepLocalAfterALeaderChange(t *testing.T) {
	f := keeping(t, 2, 4)
	for i := range 2 {
		p := f.submit(replica(i))
		seen := f.pod("shop", p.Name)
		seen.Annotations = map[string]string{v1alpha1.GrantAnnotation: policy.GrantLate}
		if err := f.client.Update(t.Context(), seen); err != nil { // which the view does not see
			t.Fatal(err)
		}
	}
	f.queued = nil
	third := f.submit(replica(2))
	f.look(store.KeyOf(third))
	if n := f.granted(); n != 2 {
		t.Errorf("%d pods are granted, want 2", n)
	}

	// Once the view has seen them they count once, not twice.
	for i := range 2 {
		p := f.pod("shop", fmt.Sprintf("web-%d", i))
		f.view.census.Move(policy.Seat{}, policy.SeatOf(p))
		f.granter.budgets.PodPending(p)
	}
	if w, _ := f.granter.budgets.Workload(third); w.Burst != 2 {
		t.Errorf("%d pods have burst, want 2", w.Burst)
	}
}

// A grant of which nobody knows whether it was written keeps its place, and one
// that was refused gives it back.
func TestKeepLocalWhenGrantsFail(t *testing.T) {
	f := keeping(t, 1, 2)
	first, second := f.submit(replica(0)), f.submit(replica(1))
	f.queued = nil
	f.patchPod = func() error { return errors.New("the connection broke") }
	if _, err := f.granter.Reconcile(t.Context(), store.KeyOf(first)); err == nil {
		t.Fatal("the failure was not told")
	}
	f.patchPod = nil
	f.look(store.KeyOf(second))
	if n := f.granted(); n != 0 {
		t.Errorf("%d pods are granted while the fate of another is open, want 0", n)
	}
	f.clock.Step(unseenMax + time.Second)
	f.look(store.KeyOf(second))
	if n := f.granted(); n != 1 {
		t.Errorf("%d pods are granted when the other's write cannot come any more, want 1", n)
	}

	f = keeping(t, 1, 2)
	first, second = f.submit(replica(0)), f.submit(replica(1))
	if err := f.client.Delete(t.Context(), first.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	f.queued = nil
	f.look(store.KeyOf(first))
	f.look(store.KeyOf(second))
	if n := f.granted(); n != 1 {
		t.Errorf("%d pods are granted after one that was gone, want 1", n)
	}
	if n := len(f.granter.budgets.places); n != 1 {
		t.Errorf("%d places are taken, want 1", n)
	}
	f.granter.budgets.PodSettled(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID("uid-web-1")}}, "eci")
	if n := len(f.granter.budgets.places) + len(f.granter.budgets.taken); n != 0 {
		t.Errorf("%d places are left when all are seen", n)
	}
}
