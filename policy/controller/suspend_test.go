package controller

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

var _ store.OutcomeListener = (*outcomes)(nil)

func twoTargets(s *v1alpha1.BurstPolicySpec) {
	for _, name := range []string{"eci", "aci"} {
		s.Targets = append(s.Targets, v1alpha1.Target{
			Name: name, NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: name}},
		})
	}
}

// newFailover is a fixture with a policy of two targets, elected.
func newFailover(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, burstPolicy("p", twoTargets))
	f.rules(func(s *policy.Snapshot) {
		s.VirtualNodes = []*policy.VirtualNode{virtual("aci", nil), virtual("eci", nil)}
	})
	f.observer.outcomes.begin()
	f.observer.observe(t.Context())
	return f
}

// burst is a pod that the policy p sent to a node.
func burst(node, reason string) *corev1.Pod {
	p := unschedulable("web")
	p.Annotations = map[string]string{v1alpha1.PolicyAnnotation: "BurstPolicy/p", v1alpha1.GrantAnnotation: policy.GrantLate}
	p.Spec.NodeName, p.Status.Reason = node, reason
	return p
}

// target is the status of a target: whether it is suspended, for how long from now,
// and how often it was in a row.
type target struct {
	Suspended bool
	For       time.Duration
	InARow    int32
}

func (f *fixture) target(name string) target {
	f.t.Helper()
	f.observer.observe(f.t.Context())
	for _, t := range f.policy("p").Status.Targets {
		if t.Name != name {
			continue
		}
		out := target{Suspended: t.SuspendedUntil != nil, InARow: t.Suspensions}
		if out.Suspended {
			out.For = t.SuspendedUntil.Sub(f.clock.Now())
			if t.Reason == "" {
				f.t.Error("a suspended target without a reason")
			}
		}
		return out
	}
	f.t.Fatalf("no target %s", name)
	return target{}
}

func (f *fixture) wantTarget(what, name string, want target) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.target(name)); diff != "" {
		f.t.Errorf("%s (-want +got)\n%s", what, diff)
	}
}

func TestTargetIsSuspended(t *testing.T) {
	f := newFailover(t)
	o := f.observer.outcomes
	pass := func(d time.Duration) { f.clock.Step(d) }
	refuse := func() { o.PodRefused(burst("eci", v1alpha1.PodOutOfStock), f.clock.Now()) }

	pass(time.Second)
	refuse()
	f.wantTarget("after a refusal", "eci", target{true, 30 * time.Second, 1})
	f.wantTarget("the other", "aci", target{})
	pass(10 * time.Second)
	refuse()
	f.wantTarget("refused while suspended", "eci", target{true, 20 * time.Second, 1})
	pass(20 * time.Second)
	f.wantTarget("at its end", "eci", target{InARow: 1})
	pass(time.Second)
	refuse()
	f.wantTarget("refused again", "eci", target{true, time.Minute, 2})
	pass(5 * time.Second)
	o.PodRan(burst("eci", ""), f.clock.Now().Add(-time.Minute), false)
	f.wantTarget("a pod ran that was bound before", "eci", target{true, 55 * time.Second, 2})
	o.PodRan(burst("aci", ""), f.clock.Now(), false)
	f.wantTarget("a pod ran elsewhere", "eci", target{true, 55 * time.Second, 2})
	o.PodRan(burst("eci", ""), time.Time{}, true)
	f.wantTarget("a pod ran that was refused before", "eci", target{})
	pass(time.Second)
	refuse()
	f.wantTarget("refused after that", "eci", target{true, 30 * time.Second, 1})
	pass(time.Second)
	o.PodRan(burst("eci", ""), f.clock.Now(), false)
	f.wantTarget("a pod ran that was bound since", "eci", target{})

	wantEvents := []string{EventTargetSuspended, EventTargetResumed, EventTargetSuspended, EventTargetResumed, EventTargetSuspended, EventTargetResumed}
	if diff := cmp.Diff(wantEvents, f.events.of("p")); diff != "" {
		t.Errorf("events (-want +got)\n%s", diff)
	}
	if got := testutil.ToFloat64(f.observer.metrics.suspensions.WithLabelValues(v1alpha1.PodOutOfStock)); got != 3 {
		t.Errorf("%v suspensions counted, want 3", got)
	}
}

// What is no refusal of this policy's target changes nothing.
func TestOthersRefusals(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"of another policy":        func(p *corev1.Pod) { p.Annotations[v1alpha1.PolicyAnnotation] = "BurstPolicy/q" },
		"of a cluster policy":      func(p *corev1.Pod) { p.Annotations[v1alpha1.PolicyAnnotation] = "ClusterBurstPolicy/p" },
		"of the namespace":         func(p *corev1.Pod) { p.Annotations[v1alpha1.PolicyAnnotation] = "Namespace" },
		"of another namespace":     func(p *corev1.Pod) { p.Namespace = "other" },
		"of a pod put there":       func(p *corev1.Pod) { p.Annotations = nil },
		"on a node of no target":   func(p *corev1.Pod) { p.Spec.NodeName = "other" },
		"before this leader began": func(p *corev1.Pod) { p.Labels = map[string]string{"early": "true"} },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFailover(t)
			f.clock.Step(time.Second)
			p := burst("eci", v1alpha1.PodOutOfStock)
			change(p)
			at := f.clock.Now()
			if p.Labels["early"] != "" {
				at = start.Add(-time.Minute)
			}
			f.observer.outcomes.PodRefused(p, at)
			f.wantTarget(name, "eci", target{})
		})
	}
}

// A new leader keeps the suspension and the row that the status tells of.
func TestSuspensionOutlivesTheLeader(t *testing.T) {
	f := newFailover(t)
	f.clock.Step(time.Second)
	refuse := func(o *outcomes) { o.PodRefused(burst("eci", v1alpha1.PodQuotaExceeded), f.clock.Now()) }
	refuse(f.observer.outcomes)
	f.wantTarget("suspended", "eci", target{true, 30 * time.Second, 1})

	f.clock.Step(10 * time.Second)
	f.observer.outcomes.begin() // as the replica that is elected next
	f.wantTarget("under the next leader", "eci", target{true, 20 * time.Second, 1})
	f.clock.Step(21 * time.Second)
	f.wantTarget("after its end", "eci", target{InARow: 1})
	f.observer.outcomes.begin()
	f.clock.Step(time.Second)
	refuse(f.observer.outcomes)
	f.wantTarget("refused under a third", "eci", target{true, time.Minute, 2})
	if n := len(f.events.of("p")); n != 3 {
		t.Errorf("events %v, want three: a new leader repeats none", f.events.of("p"))
	}
}

func TestTargetsAvailableTellsOfCapacity(t *testing.T) {
	full := func(name string) *policy.VirtualNode {
		n := virtual(name, nil)
		n.NoCapacity = v1alpha1.PodOutOfStock
		return n
	}
	for name, c := range map[string]struct {
		spec    func(*v1alpha1.BurstPolicySpec)
		nodes   []*policy.VirtualNode
		refused bool
		want    string
	}{
		"one of two has none":          {twoTargets, []*policy.VirtualNode{full("eci"), virtual("aci", nil)}, false, "NodeReady"},
		"none has any":                 {twoTargets, []*policy.VirtualNode{full("eci"), full("aci")}, false, "NoCapacity"},
		"one suspended, the other not": {twoTargets, []*policy.VirtualNode{virtual("eci", nil), virtual("aci", nil)}, true, "NodeReady"},
		"one suspended, the other out": {twoTargets, []*policy.VirtualNode{virtual("eci", nil), full("aci")}, true, "NoCapacity"},
		"without targets":              {nil, []*policy.VirtualNode{full("eci"), full("aci")}, false, "NoCapacity"},
		"without targets, one left":    {nil, []*policy.VirtualNode{full("eci"), virtual("aci", nil)}, false, "NodeReady"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, burstPolicy("p", c.spec))
			f.rules(func(s *policy.Snapshot) { s.VirtualNodes = c.nodes })
			f.observer.outcomes.begin()
			f.clock.Step(time.Second)
			if c.refused {
				f.observer.outcomes.PodRefused(burst("eci", v1alpha1.PodOutOfStock), f.clock.Now())
			}
			f.observer.observe(t.Context())
			got := apimeta.FindStatusCondition(f.policy("p").Status.Conditions, v1alpha1.ConditionTargetsAvailable)
			if got == nil || got.Reason != c.want {
				t.Errorf("TargetsAvailable is %+v, want reason %s", got, c.want)
			}
		})
	}
}

// The observer forgets what concerns policies that are gone.
func TestOutcomesAreForgotten(t *testing.T) {
	f := newFailover(t)
	f.clock.Step(time.Second)
	f.observer.outcomes.PodRefused(burst("eci", v1alpha1.PodOutOfStock), f.clock.Now())
	f.observer.observe(t.Context())
	if err := f.client.Delete(t.Context(), f.policy("p")); err != nil {
		t.Fatal(err)
	}
	f.observer.observe(t.Context())
	if o := f.observer.outcomes; len(o.byPlace)+len(o.targets) != 0 {
		t.Errorf("left: %v %v", o.byPlace, o.targets)
	}
}
