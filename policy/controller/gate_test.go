package controller

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func ordered(order v1alpha1.NodeAutoscaler) *v1alpha1.BurstPolicy {
	return &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ordered"},
		Spec:       v1alpha1.BurstPolicySpec{Mode: v1alpha1.ModeOverflow, Overflow: &v1alpha1.Overflow{NodeAutoscaler: order}},
	}
}

// gated is a pod of namespace shop at our gate, which asks for one CPU.
func gated(name string, others ...string) *corev1.Pod {
	p := unschedulable(name)
	for _, g := range append(others, v1alpha1.DecisionGate) {
		p.Spec.SchedulingGates = append(p.Spec.SchedulingGates, corev1.PodSchedulingGate{Name: g})
	}
	p.Status.Conditions[0].Reason = corev1.PodReasonSchedulingGated
	return p
}

// state is what became of a pod.
func (f *fixture) state(name string) string {
	f.t.Helper()
	p := f.pod("shop", name)
	switch {
	case policy.Gated(p) && p.Annotations[v1alpha1.GrantAnnotation] != "":
		return "gated and granted"
	case policy.Gated(p):
		return "gated"
	case p.Annotations[v1alpha1.GrantAnnotation] != "":
		return "granted"
	}
	return "released"
}

func (f *fixture) states(names ...string) []string {
	f.t.Helper()
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = f.state(n)
	}
	return out
}

// TestGate covers each outcome for one pod.
func TestGate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(f *fixture)
		pod    *corev1.Pod
		want   string
	}{
		"no local node":   {want: "granted"},
		"a full one":      {change: func(f *fixture) { f.view.local = []*policy.LocalNode{local("n", "500m")} }, want: "granted"},
		"local room":      {change: func(f *fixture) { f.view.local = []*policy.LocalNode{local("n", "1")} }, want: "released"},
		"stopped":         {change: func(f *fixture) { f.rules(func(s *policy.Snapshot) { s.Stopped = true }) }, want: "released"},
		"no virtual node": {change: func(f *fixture) { f.rules(func(s *policy.Snapshot) { s.VirtualNodes = nil }) }, want: "released"},
		"not selected": {change: func(f *fixture) {
			f.rules(func(s *policy.Snapshot) { s.Namespaces["shop"] = policy.Namespace{} })
			f.setPolicies()
		}, want: "released"},
		"NodeFirst now": {change: func(f *fixture) { f.setPolicies(ordered(v1alpha1.NodeFirst)) }, want: "released"},
		"another gate":  {pod: gated("web", "example.com/wait"), want: "gated"},
		"another gate, stopped": {
			pod: gated("web", "example.com/wait"), change: func(f *fixture) { f.rules(func(s *policy.Snapshot) { s.Stopped = true }) }, want: "released",
		},
		"toleration refused": {change: func(f *fixture) {
			f.patchPod = func() error {
				if f.patches > 1 {
					return nil
				}
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "web", errors.New("PodTolerationRestriction"))
			}
		}, want: "released"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.setPolicies(ordered(v1alpha1.BurstFirst))
			if c.change != nil {
				c.change(f)
			}
			p := c.pod
			if p == nil {
				p = gated("web")
			}
			f.submit(p)
			f.work()
			if got := f.state("web"); got != c.want {
				t.Errorf("the pod is %s, want %s", got, c.want)
			}
			// The watch is late, or the rules change: nothing is written twice.
			patches := f.patches
			f.granter.waiting.again()
			f.look(store.KeyOf(p))
			if f.patches != patches {
				t.Error("the pod was patched again")
			}
		})
	}
}

// TestGateKeepsPromises: pods are let through to local room once, those that find
// it promised wait until it is taken or for 5 s, and none is granted meanwhile.
func TestGateKeepsPromises(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.BurstFirst))
	f.view.local = []*policy.LocalNode{local("n", "2")}
	var ps []*corev1.Pod
	for i := range 4 {
		ps = append(ps, f.submit(gated(fmt.Sprint(i))))
	}
	if again := f.work(); again != gateLook {
		t.Errorf("pods that wait are looked at again after %v, want %v", again, gateLook)
	}
	if diff := cmp.Diff([]string{"released", "released", "gated", "gated"}, f.states("0", "1", "2", "3")); diff != "" {
		t.Fatalf("two pods have room (-want +got):\n%s", diff)
	}

	// The scheduler places the first: the room is taken, no longer promised.
	f.view.local = []*policy.LocalNode{local("n", "1")}
	f.settle(ps[0], "n")
	f.granter.waiting.RoomShrank("n")
	if len(f.queued) != 2 {
		t.Errorf("%d pods are looked at again once the node has less room, want the two that wait for it", len(f.queued))
	}
	f.work()
	if diff := cmp.Diff([]string{"gated", "gated"}, f.states("2", "3")); diff != "" {
		t.Fatalf("one promise is left (-want +got):\n%s", diff)
	}
	// It finds no room for the second, for a reason of its own: the next has it.
	refused := f.pod("shop", "1")
	refused.Status.Conditions[0].Reason = corev1.PodReasonUnschedulable
	refused.Status.Conditions[0].Message = "0/2 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."
	if err := f.client.Status().Update(t.Context(), refused); err != nil {
		t.Fatal(err)
	}
	f.arrive("shop", "1")
	f.work()
	f.look(store.KeyOf(ps[2]))
	f.look(store.KeyOf(ps[3]))
	if diff := cmp.Diff([]string{"granted", "released", "gated"}, f.states("1", "2", "3")); diff != "" {
		t.Fatalf("the promise is free again (-want +got):\n%s", diff)
	}
	// Nothing happens for 5 s.
	f.clock.Step(gateHold - time.Millisecond)
	if again := f.look(store.KeyOf(ps[3])); again > time.Millisecond {
		t.Errorf("the last look is in %v, want when the 5 s are over", again)
	}
	f.clock.Step(time.Millisecond)
	f.look(store.KeyOf(ps[3]))
	if got := f.state("3"); got != "released" {
		t.Errorf("after 5 s the pod is %s, want released", got)
	}
}

// TestGateFull: once the room is taken, who waited for it bursts.
func TestGateFull(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.BurstFirst))
	f.view.local = []*policy.LocalNode{local("n", "1")}
	first := f.submit(gated("first"))
	second := f.submit(gated("second"))
	f.work()
	f.view.local = []*policy.LocalNode{local("n", "0")}
	f.settle(first, "n")
	f.look(store.KeyOf(second))
	if got := f.state("second"); got != "granted" {
		t.Errorf("the pod is %s, want granted", got)
	}
	if n := len(f.granter.gates.promised) + len(f.granter.gates.place); n != 0 {
		t.Errorf("%d promises are remembered of pods that are placed", n)
	}
}

// TestGateSwapsPromises: the scheduler puts a pod elsewhere than it was promised
// room; the room that it left is another's, not free.
func TestGateSwapsPromises(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.BurstFirst))
	f.view.local = []*policy.LocalNode{local("a", "1"), local("b", "1")}
	first := f.submit(gated("first"))
	f.submit(gated("second"))
	third := f.submit(gated("third"))
	f.work()
	if diff := cmp.Diff([]string{"released", "released", "gated"}, f.states("first", "second", "third")); diff != "" {
		t.Fatalf("two pods have room (-want +got):\n%s", diff)
	}
	f.view.local = []*policy.LocalNode{local("a", "1"), local("b", "0")}
	f.settle(first, "b") // it was promised a
	f.look(store.KeyOf(third))
	if got := f.state("third"); got != "gated" {
		t.Errorf("the third pod is %s, want gated: the room on a is the second's", got)
	}
}

// TestPromisesEnd: a pod of which nothing is heard holds its room for a while only.
func TestPromisesEnd(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.BurstFirst))
	f.view.local = []*policy.LocalNode{local("n", "1")}
	f.submit(gated("first"))
	f.work()
	f.clock.Step(promiseLife + time.Millisecond)
	f.submit(gated("second"))
	f.work()
	if got := f.state("second"); got != "released" {
		t.Errorf("the pod is %s, want released: the promise is too old", got)
	}
}

// TestOtherGateGoes: the pod is decided when ours is the last gate.
func TestOtherGateGoes(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.BurstFirst))
	p := f.submit(gated("web", "example.com/wait"))
	f.work()
	p = f.pod("shop", p.Name)
	p.Spec.SchedulingGates = p.Spec.SchedulingGates[1:]
	if err := f.client.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	f.arrive("shop", "web")
	f.work()
	if got := f.state("web"); got != "granted" {
		t.Errorf("the pod is %s, want granted", got)
	}
}

// TestGateRetries: a gate that could not be opened is tried again soon, however
// often.
func TestGateRetries(t *testing.T) {
	for name, nodes := range map[string][]*policy.LocalNode{"release": {local("n", "8")}, "grant": nil} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.setPolicies(ordered(v1alpha1.BurstFirst))
			f.view.local = nodes
			f.patchPod = func() error { return errors.New("connection refused") }
			p := f.submit(gated("web"))
			for range 8 {
				if again := f.look(store.KeyOf(p)); again != gateRetry {
					t.Errorf("tried again after %v, want %v", again, gateRetry)
				}
			}
			f.patchPod = nil
			f.look(store.KeyOf(p))
			if got := f.state("web"); got == "gated" {
				t.Error("the gate is still there")
			}
		})
	}
}

// TestSweep: a replica that stops opens our gates, and leaves those of others.
func TestSweep(t *testing.T) {
	f := newFixture(t)
	plain := unschedulable("plain")
	plain.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	for _, p := range []*corev1.Pod{gated("web"), gated("both", "example.com/wait"), plain} {
		if err := f.client.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.sweeper.Start(ctx) }()
	cancel()
	eventually(t, "pods that are on their way are waited for", f.clock.HasWaiters)
	f.clock.Step(sweepDelay)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := map[string][]corev1.PodSchedulingGate{}
	for _, name := range []string{"web", "both", "plain"} {
		if gates := f.pod("shop", name).Spec.SchedulingGates; len(gates) > 0 {
			got[name] = gates
		}
	}
	others := []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	if diff := cmp.Diff(map[string][]corev1.PodSchedulingGate{"both": others, "plain": others}, got); diff != "" {
		t.Errorf("gates (-want +got):\n%s", diff)
	}
}

// eventOf is an event about a pod as cluster-autoscaler writes it.
func eventOf(name, component, reason string, p *corev1.Pod, at time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: p.Namespace, Name: name},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
		Reason:         reason, Source: corev1.EventSource{Component: component}, LastTimestamp: metav1.NewTime(at),
	}
}

// TestNodeFirst: the wait is over after 30 s, then for those only for which no
// node is coming.
func TestNodeFirst(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.NodeFirst))
	silent, coming := f.submit(unschedulable("silent")), f.submit(unschedulable("coming"))
	say := func(e *corev1.Event) {
		t.Helper()
		if err := f.client.Create(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	say(eventOf("a", "cluster-autoscaler", "TriggeredScaleUp", coming, start.Add(10*time.Second)))
	if again := f.work(); again <= 0 || again > 30*time.Second {
		t.Errorf("looked at again after %v, want within the 30 s", again)
	}
	if f.patches != 0 {
		t.Fatal("a pod was granted before its wait was over")
	}
	by := policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "ordered"}
	if n := f.granter.waiting.want(by); n != 2 {
		t.Errorf("%d pods count for the pressure while they wait, want 2", n)
	}

	f.clock.Step(30 * time.Second)
	f.look(store.KeyOf(silent))
	again := f.look(store.KeyOf(coming))
	if got := f.states("silent", "coming"); got[0] != "granted" || got[1] != "released" {
		t.Errorf("the pods are %v, want the silent one granted and the other not", got)
	}
	if again <= 0 || again > 15*time.Second {
		t.Errorf("looked at again after %v, want 15 s at most", again)
	}

	// The autoscaler takes its word back; what was read is used for 5 s.
	say(eventOf("b", "cluster-autoscaler", "NotTriggerScaleUp", coming, f.clock.Now()))
	f.look(store.KeyOf(coming))
	if got := f.state("coming"); got != "released" {
		t.Errorf("the pod is %s before the events were read again", got)
	}
	f.clock.Step(saidFor)
	f.look(store.KeyOf(coming))
	if got := f.state("coming"); got != "granted" {
		t.Errorf("the pod is %s, want granted", got)
	}
	if diff := cmp.Diff([]string{EventWaitsToBurst, EventWaitsToBurst, EventBurstGranted}, f.events.of("coming")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// deaf cannot read events.
type deaf struct{ client.Reader }

func (deaf) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("events is forbidden")
}

// TestNodeFirstUnknown: what autoscalers do is not known, so the pod waits.
func TestNodeFirstUnknown(t *testing.T) {
	f := newFixture(t)
	f.setPolicies(ordered(v1alpha1.NodeFirst))
	f.granter.autoscalers.reads = deaf{}
	p := f.submit(unschedulable("web"))
	f.clock.Step(time.Minute)
	if again := f.look(store.KeyOf(p)); again <= 0 || again > time.Minute {
		t.Errorf("looked at again after %v", again)
	}
	if got := f.state("web"); got != "released" {
		t.Errorf("the pod is %s, want not granted", got)
	}
}
