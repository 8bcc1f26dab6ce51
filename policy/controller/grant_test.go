package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func tolerates(p *corev1.Pod, taint corev1.Taint) int {
	n := 0
	for _, t := range p.Spec.Tolerations {
		if t.Key == taint.Key && t.Value == taint.Value && t.Effect == taint.Effect {
			n++
		}
	}
	return n
}

func TestGrant(t *testing.T) {
	f := newFixture(t)
	p := f.submit(unschedulable("web"))
	f.work()

	got := f.pod("shop", "web")
	if n := tolerates(got, hardTaint); n != 1 {
		t.Errorf("the pod has %d tolerations of the hard taint, want 1: %v", n, got.Spec.Tolerations)
	}
	if len(got.Spec.Tolerations) != 2 {
		t.Errorf("tolerations are %v, want the pod's own and the granted one", got.Spec.Tolerations)
	}
	if a := got.Annotations[v1alpha1.GrantAnnotation]; a != policy.GrantLate {
		t.Errorf("annotation %s is %q, want %q", v1alpha1.GrantAnnotation, a, policy.GrantLate)
	}
	if diff := cmp.Diff([]string{EventBurstGranted}, f.events.of("web")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if n := testutil.ToFloat64(f.granter.metrics.decisions.WithLabelValues("Grant", "GrantedLate", "Namespace")); n != 1 {
		t.Errorf("counted %v grants, want 1", n)
	}
	_ = p
}

// TestGrantOnce covers every way in which a pod comes up again between its grant
// and its binding.
func TestGrantOnce(t *testing.T) {
	for name, again := range map[string]func(f *fixture, p *corev1.Pod){
		"looked at again before the watch told": func(f *fixture, p *corev1.Pod) { f.look(store.KeyOf(p)) },
		"an old state arrives late":             func(f *fixture, p *corev1.Pod) { f.granter.waiting.PodPending(p); f.work() },
		"the granted state arrives":             func(f *fixture, p *corev1.Pod) { f.arrive(p.Namespace, p.Name); f.work() },
		"the rules change":                      func(f *fixture, _ *corev1.Pod) { f.granter.waiting.again(); f.work() },
		"a new leader sees the granted state": func(f *fixture, p *corev1.Pod) {
			f.granter.waiting = newWaiting(f.clock, f.granter.metrics, newGates(f.clock))
			f.granter.waiting.feed(func(k store.PodKey, _ bool) { f.queued = append(f.queued, k) })
			f.arrive(p.Namespace, p.Name)
			f.work()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			p := f.submit(unschedulable("web"))
			f.work()
			again(f, p)
			if f.patches != 1 {
				t.Errorf("the pod was patched %d times, want once", f.patches)
			}
			if n := tolerates(f.pod("shop", "web"), hardTaint); n != 1 {
				t.Errorf("the pod has %d tolerations of the hard taint, want 1", n)
			}
			if diff := cmp.Diff([]string{EventBurstGranted}, f.events.of("web")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGrantFailures(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	changed := func() error {
		return apierrors.NewGenericServerResponse(422, "patch", pods, "web", "the server rejected our request due to an error in our request", 0, true)
	}
	for name, c := range map[string]struct {
		err        func() error
		times      int // how often it fails
		looks      int
		wantErr    bool
		wantAgain  time.Duration
		wantEvents []string
		wantGrant  bool
	}{
		"the pod changed once":            {err: changed, times: 1, looks: 2, wantGrant: true, wantEvents: []string{EventBurstGranted}},
		"the pod changed":                 {err: changed, times: 1, looks: 1, wantAgain: conflictRetry},
		"the toleration is never taken":   {err: changed, times: 100, looks: rejectedAfter + 2, wantAgain: rejectedRetry, wantEvents: []string{EventGrantRejected}},
		"the toleration is forbidden":     {err: func() error { return apierrors.NewForbidden(pods, "web", errors.New("not allowed")) }, times: 100, looks: 3, wantAgain: rejectedRetry, wantEvents: []string{EventGrantRejected}},
		"the pod is gone":                 {err: func() error { return apierrors.NewNotFound(pods, "web") }, times: 100, looks: 1},
		"the API server cannot be asked":  {err: func() error { return errors.New("connection refused") }, times: 100, looks: 1, wantErr: true},
		"the API server is back at last":  {err: func() error { return apierrors.NewConflict(pods, "web", errors.New("changed")) }, times: 2, looks: 3, wantGrant: true, wantEvents: []string{EventBurstGranted}},
		"nothing fails, for a comparison": {err: changed, times: 0, looks: 1, wantGrant: true, wantEvents: []string{EventBurstGranted}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.patchPod = func() error {
				if f.patches <= c.times {
					return c.err()
				}
				return nil
			}
			key := store.KeyOf(f.submit(unschedulable("web")))
			var err error
			var again time.Duration
			for range c.looks {
				r, e := f.granter.Reconcile(t.Context(), key)
				again, err = r.RequeueAfter, e
			}
			if (err != nil) != c.wantErr {
				t.Errorf("error is %v, want one: %t", err, c.wantErr)
			}
			if err != nil && !strings.Contains(err.Error(), "shop/web") {
				t.Errorf("the error %q does not name the pod", err)
			}
			if again != c.wantAgain {
				t.Errorf("looked at again after %v, want %v", again, c.wantAgain)
			}
			if diff := cmp.Diff(c.wantEvents, f.events.of("web")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if got := tolerates(f.pod("shop", "web"), hardTaint) == 1; got != c.wantGrant {
				t.Errorf("granted is %t, want %t", got, c.wantGrant)
			}
		})
	}
}

// TestStaleGrant checks that a grant decided on another pod of the same name
// does not reach this one.
func TestStaleGrant(t *testing.T) {
	f := newFixture(t)
	old := f.submit(unschedulable("web"))
	if err := f.client.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	other := unschedulable("web")
	other.UID = "uid-other"
	other.ResourceVersion = ""
	if err := f.client.Create(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if _, err := f.granter.Reconcile(t.Context(), store.KeyOf(old)); err == nil {
		t.Error("the patch for the pod that is gone was taken")
	}
	if n := tolerates(f.pod("shop", "web"), hardTaint); n != 0 {
		t.Errorf("the other pod has %d tolerations of the hard taint, want none", n)
	}
}

func TestFitsLocally(t *testing.T) {
	f := newFixture(t)
	f.view.local = []*policy.LocalNode{local("small", "100m"), local("roomy", "4")}
	p := f.submit(unschedulable("web"))

	var delays []time.Duration
	delays = append(delays, f.work())
	for range 5 {
		f.clock.Step(delays[len(delays)-1])
		delays = append(delays, f.look(store.KeyOf(p)))
	}
	want := []time.Duration{1, 2, 4, 8, 10, 10}
	for i := range want {
		want[i] *= time.Second
	}
	if diff := cmp.Diff(want, delays); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	if f.patches != 0 {
		t.Error("a pod that fits a local node was granted")
	}
	if diff := cmp.Diff([]string{EventWaitsToBurst}, f.events.of("web")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if note := f.events.note("web"); !strings.Contains(note, "roomy") {
		t.Errorf("the event %q does not name the node", note)
	}

	// Room goes elsewhere: not looked at. Room goes on that node: granted at once.
	f.granter.waiting.RoomShrank("small")
	if len(f.queued) != 0 {
		t.Error("looked at again for a node that it does not fit anyway")
	}
	f.view.mu.Lock()
	f.view.local = []*policy.LocalNode{local("small", "100m"), local("roomy", "500m")}
	f.view.mu.Unlock()
	f.granter.waiting.RoomShrank("roomy")
	f.work()
	if n := tolerates(f.pod("shop", "web"), hardTaint); n != 1 {
		t.Errorf("the pod has %d tolerations of the hard taint after the room went, want 1", n)
	}
	f.settle(p, "eci")
	if n := len(f.granter.waiting.byNode) + len(f.granter.waiting.pods); n != 0 {
		t.Errorf("%d entries are left of a pod that is settled", n)
	}
}

func TestAfterPending(t *testing.T) {
	f := newFixture(t)
	bp := &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "later"},
		Spec:       v1alpha1.BurstPolicySpec{Mode: v1alpha1.ModeOverflow, Overflow: &v1alpha1.Overflow{AfterPendingSeconds: 30}},
	}
	f.setPolicies(bp)
	f.clock.SetTime(start.Add(10 * time.Second)) // first verdict was at start
	p := f.submit(unschedulable("web"))
	if again := f.work(); again != 20*time.Second {
		t.Errorf("looked at again after %v, want what is left of the 30 s, 20 s", again)
	}
	if f.patches != 0 {
		t.Error("granted before the wait was over")
	}
	if n := f.granter.waiting.want(policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "later"}); n != 1 {
		t.Errorf("%d pods count for the pressure, want 1", n)
	}
	f.clock.Step(20 * time.Second)
	f.look(store.KeyOf(p))
	if f.patches != 1 {
		t.Error("not granted when the wait was over")
	}
}

// TestTold checks that an owner is told each reason once, with the field or node.
func TestTold(t *testing.T) {
	hostPath := func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	}
	schedulable := func(p *corev1.Pod) { p.Status.Conditions = nil }
	for name, c := range map[string]struct {
		change []func(*corev1.Pod)
		rules  func(*policy.Snapshot)
		want   []string
		names  string
	}{
		"hostPath":                             {change: []func(*corev1.Pod){hostPath}, want: []string{EventStaysLocal}, names: "hostPath"},
		"hostPath, before the scheduler looks": {change: []func(*corev1.Pod){hostPath, schedulable}, want: []string{EventStaysLocal}, names: "hostPath"},
		"schedulable":                          {change: []func(*corev1.Pod){schedulable}},
		"no ready node": {
			rules: func(s *policy.Snapshot) {
				n := *s.VirtualNodes[0]
				n.Ready = false
				s.VirtualNodes = []*policy.VirtualNode{&n}
			},
			want: []string{EventWaitsToBurst}, names: "ready",
		},
		"stopped": {
			rules: func(s *policy.Snapshot) { s.Stopped = true },
			want:  []string{EventStopped}, names: "stopped",
		},
		"mode Never": {
			rules: func(s *policy.Snapshot) {
				s.Namespaces = map[string]policy.Namespace{"shop": {Mode: v1alpha1.ModeNever}}
			},
			want: []string{EventStaysLocal}, names: "Never",
		},
		"not opted in": {rules: func(s *policy.Snapshot) { s.Namespaces = map[string]policy.Namespace{"shop": {}} }},
		"excluded":     {rules: func(s *policy.Snapshot) { s.Excluded = map[string]bool{"shop": true} }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if c.rules != nil {
				f.rules(c.rules)
			}
			p := unschedulable("web")
			for _, change := range c.change {
				change(p)
			}
			f.submit(p)
			f.work()
			for range 3 { // looked at again and again
				f.arrive("shop", "web")
				f.granter.waiting.again()
				f.work()
			}
			if diff := cmp.Diff(c.want, f.events.of("web")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}
			if note := f.events.note("web"); !strings.Contains(note, c.names) {
				t.Errorf("the event %q does not name %q", note, c.names)
			}
			if f.patches != 0 {
				t.Error("the pod was patched")
			}
		})
	}
}

// TestEventsAreBounded checks that thousands of pods that stay do not flood the
// API server, and that the rest is told later.
func TestEventsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.rules(func(s *policy.Snapshot) {
		n := *s.VirtualNodes[0]
		n.Ready = false
		s.VirtualNodes = []*policy.VirtualNode{&n}
	})
	for i := range heldBackBurst + 50 {
		f.submit(unschedulable(fmt.Sprint("web-", i)))
	}
	f.work()
	if n := len(f.events.lines); n != heldBackBurst {
		t.Errorf("%d events at once, want %d", n, heldBackBurst)
	}
	f.clock.Step(10 * time.Second)
	f.granter.waiting.again()
	f.work()
	if n := len(f.events.lines); n != heldBackBurst+50 {
		t.Errorf("%d events after a while, want one for each pod, %d", n, heldBackBurst+50)
	}
}

// TestWaitingGauge checks that the gauge follows a pod through every state and
// ends where it began.
func TestWaitingGauge(t *testing.T) {
	f := newFixture(t)
	gauge := func() map[string]float64 {
		t.Helper()
		families, err := f.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, family := range families {
			if family.GetName() != "autoburst_waiting_pods" {
				continue
			}
			for _, m := range family.GetMetric() {
				if v := m.GetGauge().GetValue(); v != 0 {
					out[m.GetLabel()[0].GetValue()] = v
				}
			}
		}
		return out
	}
	step := func(what string, want map[string]float64) {
		t.Helper()
		if diff := cmp.Diff(want, gauge()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}

	f.view.local = []*policy.LocalNode{local("roomy", "4")}
	p := f.submit(unschedulable("web"))
	f.work()
	step("the pod fits a local node", map[string]float64{"FitsLocally": 1})
	f.look(store.KeyOf(p))
	step("and still does", map[string]float64{"FitsLocally": 1})
	f.view.local = nil
	f.look(store.KeyOf(p))
	step("it was granted", map[string]float64{})
	f.arrive("shop", "web")
	f.work()
	step("the grant has arrived", map[string]float64{})
	f.settle(p, "eci")
	step("it was bound", map[string]float64{})

	f.rules(func(s *policy.Snapshot) {
		n := *s.VirtualNodes[0]
		n.Ready = false
		s.VirtualNodes = []*policy.VirtualNode{&n}
	})
	q := f.submit(unschedulable("other"))
	f.work()
	step("no virtual node is ready", map[string]float64{"NoReadyVirtualNode": 1})
	f.settle(q, "")
	step("it was deleted", map[string]float64{})
}
