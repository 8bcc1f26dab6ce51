package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	testclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// apiPods is what the API server has, of which the view hears later.
type apiPods struct {
	client.Reader
	pods   map[types.UID]*corev1.Pod
	events []func() // that the view has not heard yet
}

func (a *apiPods) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	pods, ok := list.(*corev1.PodList)
	if !ok {
		return fmt.Errorf("listing %T", list)
	}
	for _, p := range a.pods {
		pods.Items = append(pods.Items, *p.DeepCopy())
	}
	return nil
}

// TestBudgetsHoldAgainstTheTruth drives one revision against an API server that
// loses answers, a view that lags, and leaders that change: what may burst is never
// more than the budget, and when all is seen it is as much.
func TestBudgetsHoldAgainstTheTruth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const replicas = 6
		budget := rapid.IntRange(0, replicas-1).Draw(t, "budget")
		api := &apiPods{pods: map[types.UID]*corev1.Pod{}}
		now := testclock.NewFakeClock(start)
		v := &view{snapshot: &policy.Snapshot{VirtualNodes: []*policy.VirtualNode{virtual("eci", nil)}}, pending: map[types.UID]*corev1.Pod{}, pods: map[string][]*corev1.Pod{}}
		v.census.SetOwner("web-1", policy.Owner{Replicas: replicas, Wanted: replicas})
		b := newBudgets(v, api, now)
		seen := map[types.UID]*corev1.Pod{}
		// changed tells the view of a pod some time later; nil is gone.
		changed := func(uid types.UID, p *corev1.Pod) {
			if p != nil {
				p = p.DeepCopy()
			}
			api.events = append(api.events, func() {
				before, after := policy.Seat{}, policy.Seat{}
				if seen[uid] != nil {
					before = policy.SeatOf(seen[uid])
				}
				if p != nil {
					after = policy.SeatOf(p)
				}
				last := seen[uid]
				v.census.Move(before, after)
				if seen[uid] = p; p == nil {
					delete(seen, uid)
				}
				v.pods["shop"] = slices.Collect(maps.Values(seen))
				switch {
				case p != nil && p.Spec.NodeName == "":
					b.PodPending(p)
				case last != nil && last.Spec.NodeName == "":
					b.PodSettled(last, "")
				}
			})
		}
		deliver := func(n int) {
			for ; n > 0 && len(api.events) > 0; n-- {
				api.events[0]()
				api.events = api.events[1:]
			}
		}
		some := func(from map[types.UID]*corev1.Pod, is func(*corev1.Pod) bool) *corev1.Pod {
			var names []types.UID
			for uid, p := range from {
				if is(p) {
					names = append(names, uid)
				}
			}
			if len(names) == 0 {
				return nil
			}
			slices.Sort(names)
			return from[rapid.SampledFrom(names).Draw(t, "pod")]
		}
		granted := func(p *corev1.Pod) bool { return p.Annotations[v1alpha1.GrantAnnotation] != "" }
		waits := func(p *corev1.Pod) bool { return p.Spec.NodeName == "" && !granted(p) }
		burst := func() (n int) {
			for _, p := range api.pods {
				if granted(p) && (p.Spec.NodeName == "" || p.Spec.NodeName == "eci") {
					n++
				}
			}
			return n
		}
		write := func(uid types.UID) {
			p := api.pods[uid]
			p.Annotations = map[string]string{v1alpha1.GrantAnnotation: policy.GrantLate}
			changed(uid, p)
		}
		grant := func(calm bool) bool {
			p := some(seen, waits)
			if p == nil {
				return false
			}
			ok, err := b.take(context.Background(), p, budget)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				return false
			}
			outcome := 0
			if !calm {
				outcome = rapid.IntRange(0, 4).Draw(t, "outcome")
			}
			is, there := api.pods[p.UID]
			switch {
			case !there:
				b.release(p.UID) // not found
			case outcome == 1: // the answer never came, and nothing was written
				b.doubt(p.UID)
			case outcome == 2: // forbidden
				b.refused(p.UID)
			case !waits(is): // the tests of the patch fail
				b.doubt(p.UID)
			case outcome == 3: // written, but the answer was lost
				write(p.UID)
				b.doubt(p.UID)
			default:
				write(p.UID)
				b.written(p.UID)
			}
			return true
		}
		made := 0
		create := func() {
			made++
			p := replica(made)
			p.Annotations = nil
			api.pods[p.UID] = p
			changed(p.UID, p)
		}
		for range rapid.IntRange(10, 80).Draw(t, "events") {
			switch rapid.IntRange(0, 8).Draw(t, "event") {
			case 0, 1:
				if len(api.pods) < replicas {
					create()
				}
			case 2, 3:
				deliver(rapid.IntRange(1, 4).Draw(t, "heard"))
			case 4, 5:
				for range rapid.IntRange(1, 3).Draw(t, "in a row") {
					grant(false)
				}
			case 6: // the scheduler
				if p := some(api.pods, granted); p != nil && p.Spec.NodeName == "" {
					p.Spec.NodeName = rapid.SampledFrom([]string{"eci", "local"}).Draw(t, "node")
					changed(p.UID, p)
				}
			case 7:
				if p := some(api.pods, func(*corev1.Pod) bool { return true }); p != nil {
					delete(api.pods, p.UID)
					changed(p.UID, nil)
				}
			case 8: // a new leader, whose view may lag
				b = newBudgets(v, api, now)
				for range rapid.IntRange(0, 4).Draw(t, "at once") {
					grant(false)
				}
			}
			if n := burst(); n > budget {
				t.Fatalf("%d pods may burst, want %d at most", n, budget)
			}
		}
		for len(api.pods) < replicas {
			create()
		}
		deliver(len(api.events))
		now.Step(unseenMax + time.Second)
		for grant(true) {
			deliver(len(api.events))
		}
		waiting := 0
		for _, p := range api.pods {
			if waits(p) {
				waiting++
			}
		}
		if n := burst(); n > budget || n < budget && waiting > 0 {
			t.Fatalf("when all is seen %d pods burst and %d wait, want %d to burst", n, waiting, budget)
		}
	})
}
