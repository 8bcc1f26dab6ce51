package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const testHold = 30 * time.Second

// homing is a fixture with a policy that moves pods back, and a local node with
// room for one pod.
func homing(t testing.TB, change func(*v1alpha1.Repatriation)) *fixture {
	r := &v1alpha1.Repatriation{
		Mode: v1alpha1.RepatriateWhenRoom, MinBurstSeconds: ptr.To[int32](60), HoldSeconds: ptr.To(int32(testHold.Seconds())), MaxConcurrent: ptr.To[int32](1),
	}
	if change != nil {
		change(r)
	}
	f := newFixture(t, &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec:       v1alpha1.BurstPolicySpec{Repatriation: r},
	})
	f.room("1")
	return f
}

// room sets what is free on the local node.
func (f *fixture) room(cpu string) {
	n := local("local-1", cpu)
	n.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	f.view.local = []*policy.LocalNode{n}
}

// deployed makes a pod of a Deployment, on a node or on none, at the time of the
// clock.
func (f *fixture) deployed(deployment, name, node string) *corev1.Pod {
	f.t.Helper()
	p := unschedulable(name)
	p.Labels["pod-template-hash"] = "1"
	p.CreationTimestamp = metav1.NewTime(f.clock.Now().Truncate(time.Second))
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: deployment + "-1", UID: types.UID(deployment), Controller: ptr.To(true)}}
	p.Annotations = map[string]string{v1alpha1.PolicyAnnotation: "BurstPolicy/web"}
	if node != "" {
		f.bind(p, node)
	}
	if err := f.client.Create(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
	f.view.census.SetOwner(deployment, policy.Owner{Replicas: 3, Wanted: 3})
	f.sync()
	return p
}

// bind puts a pod on a node, where it runs.
func (f *fixture) bind(p *corev1.Pod, node string) {
	p.Spec.NodeName = node
	p.Status = corev1.PodStatus{Phase: corev1.PodRunning, StartTime: ptr.To(metav1.NewTime(f.clock.Now()))}
	if node == "eci" {
		p.Annotations[v1alpha1.GrantAnnotation] = policy.GrantLate
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: hardTaint.Key, Value: hardTaint.Value, Effect: hardTaint.Effect})
	}
}

// place binds a pod that waits, in the API server.
func (f *fixture) place(p *corev1.Pod, node string) {
	f.t.Helper()
	f.bind(p, node)
	status := p.Status
	if err := f.client.Update(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
	p.Status = status
	if err := f.client.Status().Update(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
}

// sync brings pods and policies to the view, as the watches would.
func (f *fixture) sync() {
	f.t.Helper()
	var pods corev1.PodList
	var policies v1alpha1.BurstPolicyList
	for _, list := range []client.ObjectList{&pods, &policies} {
		if err := f.client.List(f.t.Context(), list); err != nil {
			f.t.Fatal(err)
		}
	}
	var all []*v1alpha1.BurstPolicy
	for i := range policies.Items {
		all = append(all, &policies.Items[i])
	}
	f.setPolicies(all...)
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	clear(f.view.pods)
	clear(f.view.pending)
	for i := range pods.Items {
		p := &pods.Items[i]
		f.view.pods[p.Namespace] = append(f.view.pods[p.Namespace], p)
		if p.Spec.NodeName == "" {
			f.view.pending[p.UID] = p
		}
	}
}

// steps looks once for each duration, that much later, and tells which pods were
// evicted.
func (f *fixture) steps(after ...time.Duration) (evicted []string) {
	f.t.Helper()
	before := len(f.evicted)
	for _, d := range after {
		f.clock.Step(d)
		f.sync()
		f.repatriator.look(f.t.Context())
	}
	return slices.Clone(f.evicted[before:])
}

func (f *fixture) moves() []v1alpha1.Move {
	f.t.Helper()
	p := new(v1alpha1.BurstPolicy)
	if err := f.client.Get(f.t.Context(), client.ObjectKey{Namespace: "shop", Name: "web"}, p); err != nil {
		f.t.Fatal(err)
	}
	return p.Status.Moves
}

// A move is written down, then carried out; while its replacement has no node
// nothing else is moved, and of its own workload not before the hold is over.
func TestRepatriateOneByOne(t *testing.T) {
	f := homing(t, nil)
	f.deployed("web", "web-old", "eci")
	f.clock.Step(time.Second)
	f.deployed("web", "web-young", "eci")
	f.deployed("api", "api-1", "eci")
	if got := f.steps(57 * time.Second); len(got) != 0 || len(f.moves()) != 0 {
		t.Fatalf("%v were evicted before their time", got)
	}
	if got := f.steps(2 * time.Second); len(got) != 0 {
		t.Fatalf("%v were evicted before every replica could know", got)
	}
	written := f.clock.Now()
	want := []v1alpha1.Move{{
		Kind: "Deployment", Namespace: "shop", Name: "web", Pod: "web-old", UID: "uid-web-old", Time: metav1.NewTime(written),
		HeldUntil: ptr.To(metav1.NewTime(written.Add(moveWindow + testHold))), Next: metav1.NewTime(written.Add(moveWindow + testHold)),
	}}
	if diff := cmp.Diff(want, f.moves()); diff != "" {
		t.Fatalf("what is written down (-want +got):\n%s", diff)
	}
	if got := f.steps(moveSettle, time.Second, 5*time.Second); !slices.Equal(got, []string{"web-old"}) {
		t.Fatalf("%v were evicted, want web-old", got)
	}
	if got := f.events.of("web-old"); !slices.Equal(got, []string{EventRepatriated}) {
		t.Errorf("events on the pod: %v", got)
	}
	if got := f.events.note("web"); !strings.Contains(got, "Pod web-old of Deployment shop/web is moved back from eci: local node local-1 has room for its replacement.") {
		t.Errorf("the event on the policy is %q", got)
	}

	replacement := f.deployed("web", "web-new", "")
	if got := f.steps(time.Second, time.Second); len(got) != 0 {
		t.Fatalf("%v were evicted while a replacement has no node", got)
	}
	f.place(replacement, "local-1")
	if got := f.steps(time.Second, moveSettle); !slices.Equal(got, []string{"api-1"}) {
		t.Fatalf("%v were evicted, want the pod of the other workload", got)
	}
	f.deployed("api", "api-new", "local-1")
	if got := f.steps(time.Second, 5*time.Second, 15*time.Second); len(got) != 0 {
		t.Fatalf("%v were evicted during the hold", got)
	}
	if got := f.steps(15*time.Second, moveSettle); !slices.Equal(got, []string{"web-young"}) {
		t.Fatalf("%v were evicted after the hold, want web-young", got)
	}
}

func TestRepatriateHoldsBack(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, f *fixture){
		"no room":            func(_ *testing.T, f *fixture) { f.room("500m") },
		"no local node":      func(_ *testing.T, f *fixture) { f.view.local = nil },
		"stopped":            func(_ *testing.T, f *fixture) { f.rules(func(s *policy.Snapshot) { s.Stopped = true }) },
		"a pod waits for it": func(_ *testing.T, f *fixture) { f.deployed("other", "other-1", "") },
		"a rollout":          func(_ *testing.T, f *fixture) { f.view.census.SetOwner("web", policy.Owner{Replicas: 1, Wanted: 3}) },
		"an owner that goes": func(_ *testing.T, f *fixture) {
			f.view.census.SetOwner("web", policy.Owner{Replicas: 3, Wanted: 3, Deleting: true})
		},
		"an unknown owner": func(_ *testing.T, f *fixture) { f.view.census.DropOwner("web") },
		"seen only when read whole": func(t *testing.T, f *fixture) {
			p := f.pod("shop", "web-1")
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
			if err := f.client.Update(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		},
		"another pod by that name": func(t *testing.T, f *fixture) {
			p := f.pod("shop", "web-1")
			if err := f.client.Delete(t.Context(), p.DeepCopy()); err != nil {
				t.Fatal(err)
			}
			p.UID, p.ResourceVersion = "another", ""
			if err := f.client.Create(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		},
		"another policy decides": func(t *testing.T, f *fixture) {
			if err := f.client.Create(t.Context(), &v1alpha1.BurstPolicy{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"},
			}); err != nil {
				t.Fatal(err)
			}
			f.sync()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := homing(t, nil)
			f.deployed("web", "web-1", "eci")
			f.clock.Step(2 * time.Minute)
			before(t, f)
			for range 3 { // without sync: the view is as it was set
				f.clock.Step(time.Second)
				f.repatriator.look(t.Context())
			}
			if len(f.evicted) != 0 || len(f.moves()) != 0 {
				t.Errorf("%v were evicted, %v written down", f.evicted, f.moves())
			}
		})
	}
}

// What changes between the writing down and the eviction stops it, and what was
// written down is taken back.
func TestRepatriateGivesUp(t *testing.T) {
	for name, before := range map[string]func(t *testing.T, f *fixture){
		"the room goes":      func(_ *testing.T, f *fixture) { f.room("500m") },
		"a pod wants it":     func(_ *testing.T, f *fixture) { f.deployed("other", "other-1", "") },
		"the leader is slow": func(_ *testing.T, f *fixture) { f.clock.Step(moveStart) },
		"a budget refuses": func(_ *testing.T, f *fixture) {
			f.evict = func(bool) error { return apierrors.NewTooManyRequests("Cannot evict pod", 0) }
		},
		"the pod goes": func(t *testing.T, f *fixture) {
			if err := f.client.Delete(t.Context(), f.pod("shop", "web-1")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := homing(t, nil)
			f.deployed("web", "web-1", "eci")
			if f.steps(time.Minute); len(f.moves()) != 1 {
				t.Fatalf("written down: %v", f.moves())
			}
			before(t, f)
			if got := f.steps(moveSettle); len(got) != 0 || len(f.moves()) != 0 || f.repatriator.planned != nil {
				t.Errorf("%v were evicted, %v is still written down", got, f.moves())
			}
		})
	}
}

// A disruption budget is asked first, without effect; its refusal is told, and
// the pause doubles.
func TestRepatriateHonoursDisruptionBudgets(t *testing.T) {
	f := homing(t, nil)
	f.deployed("web", "web-1", "eci")
	asked := 0
	f.evict = func(dryRun bool) error {
		if asked++; !dryRun {
			t.Error("evicted after a refusal")
		}
		return apierrors.NewTooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 0)
	}
	f.steps(time.Minute, time.Second, 8*time.Second)
	if asked != 1 || len(f.moves()) != 0 {
		t.Fatalf("asked %d times within 10 s, written down: %v", asked, f.moves())
	}
	if got := f.events.note("web-1"); got != "web-1 Warning RepatriationRefused: The pod would be moved back to a local node, but it must not be evicted now: Cannot evict pod as it would violate the pod's disruption budget. It is tried again in 10s. Decided by BurstPolicy/web." {
		t.Errorf("the event is %q", got)
	}
	f.steps(2*time.Second, 10*time.Second, 5*time.Second)
	if asked != 2 {
		t.Errorf("asked %d times within 27 s, want 2", asked)
	}
	f.evict = nil
	if got := f.steps(6*time.Second, moveSettle); !slices.Equal(got, []string{"web-1"}) {
		t.Errorf("%v were evicted when the budget allowed it", got)
	}
}

// An eviction of which it is not known whether it took place counts as one.
func TestRepatriateInDoubt(t *testing.T) {
	f := homing(t, nil)
	f.deployed("web", "web-1", "eci")
	f.evict = func(dryRun bool) error {
		if dryRun {
			return nil
		}
		return fmt.Errorf("the connection broke")
	}
	f.steps(time.Minute, moveSettle)
	if len(f.moves()) != 1 {
		t.Errorf("written down: %v, want the move", f.moves())
	}
	f.evict = nil
	if got := f.steps(time.Second, 5*time.Second, 20*time.Second); len(got) != 0 {
		t.Errorf("%v were evicted during the hold", got)
	}
}

// A conflict means that another leader, or the observer, was there first.
func TestRepatriateLosesARace(t *testing.T) {
	f := homing(t, nil)
	f.deployed("web", "web-1", "eci")
	f.clock.Step(time.Minute)
	f.sync()
	f.evict = func(bool) error { // between reading and writing
		p := new(v1alpha1.BurstPolicy)
		if err := f.client.Get(t.Context(), client.ObjectKey{Namespace: "shop", Name: "web"}, p); err != nil {
			return err
		}
		p.Status.Moves = []v1alpha1.Move{{Kind: "Deployment", Namespace: "shop", Name: "web", Pod: "web-0", UID: "u", Time: metav1.NewTime(f.clock.Now()), Next: metav1.NewTime(f.clock.Now().Add(time.Hour))}}
		return f.client.Status().Update(t.Context(), p)
	}
	f.repatriator.look(t.Context())
	f.evict = nil
	if got := f.steps(time.Second, time.Second); len(got) != 0 || f.moves()[0].Pod != "web-0" {
		t.Errorf("%v were evicted, and %v is written down", got, f.moves())
	}
}

// Replacements that have a node but do not run yet count against maxConcurrent.
func TestRepatriateAtMostSoManyAtOnce(t *testing.T) {
	for _, most := range []int32{1, 2} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			f := homing(t, func(r *v1alpha1.Repatriation) { r.MaxConcurrent = &most })
			for _, d := range []string{"a", "b", "c"} {
				f.deployed(d, d+"-old", "eci")
			}
			f.steps(time.Minute)
			for range 5 {
				for _, name := range f.steps(moveSettle) {
					d, _, _ := strings.Cut(name, "-")
					p := f.deployed(d, d+"-new", "")
					p.Spec.NodeName = "local-1" // and it is starting
					if err := f.client.Update(t.Context(), p); err != nil {
						t.Fatal(err)
					}
				}
			}
			if len(f.evicted) != int(most) {
				t.Errorf("%v were evicted while no replacement runs, want %d", f.evicted, most)
			}
		})
	}
}

// TestFlappingEvictsNoMoreOftenThanThePolicySays: whatever the room does, wherever
// replacements go, and however often the leader changes, no workload loses pods
// more often than once per hold, and half as often each time that its pods burst
// again; and while a replacement has no node, nothing is evicted.
func TestFlappingEvictsNoMoreOftenThanThePolicySays(t *testing.T) {
	const hold = 20 * time.Second
	moved, again := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		f := homing(t, func(r *v1alpha1.Repatriation) {
			r.MinBurstSeconds, r.HoldSeconds = ptr.To[int32](0), ptr.To(int32(hold.Seconds()))
			r.MaxConcurrent = ptr.To(int32(rapid.IntRange(1, 2).Draw(rt, "maxConcurrent")))
		})
		f.room("4")
		made := 0
		for _, d := range []string{"web", "api"} {
			for range 2 {
				made++
				f.deployed(d, fmt.Sprintf("%s-%d", d, made), "eci")
			}
		}
		last, pause, burst := map[string]time.Time{}, map[string]time.Duration{}, map[string]bool{}
		var missing []string           // Deployments that lack a pod
		waiting := map[string]string{} // replacements without a node, to their Deployments
		room := true
		for range rapid.IntRange(12, 24).Draw(rt, "rounds") {
			if rapid.IntRange(0, 7).Draw(rt, "leader") == 0 { // a new one knows what is written down and nothing else
				f.repatriator = newRepatriator(Options{View: f.view, Client: f.client, Live: f.client, Clock: f.clock}, f.repatriator.tell, f.repatriator.metrics)
			}
			for _, after := range []time.Duration{time.Duration(rapid.IntRange(500, 12000).Draw(rt, "ms")) * time.Millisecond, moveSettle} {
				for _, name := range f.steps(after) {
					d, _, _ := strings.Cut(name, "-")
					now := f.clock.Now()
					switch _, ok := last[d]; {
					case !ok:
						pause[d] = 0
					case burst[d]:
						again++
						pause[d] *= 2
					default:
						pause[d] = hold
					}
					if since := now.Sub(last[d]); since < pause[d] {
						rt.Fatalf("%s was evicted %v after the last of its workload, want %v at least", name, since, pause[d])
					}
					if len(waiting)+len(missing) > 0 {
						rt.Fatalf("%s was evicted while the replacements %v have no node and %v lack one", name, waiting, missing)
					}
					moved++
					last[d], pause[d], burst[d] = now, max(pause[d], hold), false
					missing = append(missing, d)
					if room = rapid.Bool().Draw(rt, "room stays"); !room {
						f.room("0")
					}
				}
			}
			slow := func(d string) bool { return f.clock.Since(last[d]) < hold/4 } // but the next round is within the hold
			if slices.ContainsFunc(missing, slow) && rapid.Bool().Draw(rt, "the ReplicaSet is slow") {
				continue
			}
			for _, d := range missing {
				made++
				name := fmt.Sprintf("%s-%d", d, made)
				f.deployed(d, name, "")
				waiting[name] = d
			}
			missing = nil
			f.sync()
			s := f.view.Snapshot()
			for name, d := range waiting {
				p := f.pod("shop", name)
				node := "local-1"
				if !room { // it bursts, once it is not held any more
					late := policy.EvaluateLate(s, "shop", p, slices.Values([]*policy.LocalNode(nil)), f.view, f.clock.Now())
					if node = "eci"; late.Reason == policy.HeldAfterRepatriation {
						continue
					}
					if late.Action != policy.Grant {
						rt.Fatalf("%s is not granted: %s", name, late.Message)
					}
				}
				burst[d] = burst[d] || node == "eci"
				f.place(p, node)
				delete(waiting, name)
			}
			if len(waiting) == 0 && !room && rapid.Bool().Draw(rt, "room returns") {
				room = true
				f.room("4")
			}
		}
	})
	if moved < 100 || again < 5 {
		t.Errorf("%d pods were moved, %d of workloads that had burst again: too few to prove anything", moved, again)
	}
}

// The observer, which writes the rest of the status, leaves the moves alone.
func TestStatusKeepsMoves(t *testing.T) {
	before := v1alpha1.BurstPolicyStatus{Moves: []v1alpha1.Move{{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u"}}}
	after := statusOf(before, 2, observed{policy: &policy.Policy{Mode: v1alpha1.ModeOverflow}}, nil, metav1.NewTime(start))
	if diff := cmp.Diff(before.Moves, after.Moves); diff != "" {
		t.Errorf("(-before +after)\n%s", diff)
	}
}
