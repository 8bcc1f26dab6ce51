package controller

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func burstPolicy(name string, change func(*v1alpha1.BurstPolicySpec)) *v1alpha1.BurstPolicy {
	p := &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-policy", Generation: 3},
		Spec:       v1alpha1.BurstPolicySpec{Mode: v1alpha1.ModeOverflow},
	}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func (f *fixture) policy(name string) *v1alpha1.BurstPolicy {
	f.t.Helper()
	p := new(v1alpha1.BurstPolicy)
	if err := f.client.Get(f.t.Context(), client.ObjectKey{Namespace: "shop", Name: name}, p); err != nil {
		f.t.Fatal(err)
	}
	return p
}

func TestConditions(t *testing.T) {
	type condition struct{ Type, Status, Reason string }
	for name, c := range map[string]struct {
		spec       func(*v1alpha1.BurstPolicySpec)
		nodes      []*policy.VirtualNode
		want       []condition
		message    string // in Ready
		wantEvents []string
	}{
		"in force": {
			nodes: []*policy.VirtualNode{virtual("eci", nil)},
			want:  []condition{{"TargetsAvailable", "True", "NodeReady"}, {"Ready", "True", "InForce"}},
		},
		"invalid pod selector": {
			spec: func(s *v1alpha1.BurstPolicySpec) {
				s.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Like"}}
			},
			nodes:      []*policy.VirtualNode{virtual("eci", nil)},
			want:       []condition{{"TargetsAvailable", "True", "NodeReady"}, {"Ready", "False", "Invalid"}},
			message:    "spec.podSelector",
			wantEvents: []string{EventNotReady},
		},
		"negative number": {
			spec:       func(s *v1alpha1.BurstPolicySpec) { s.Overflow = &v1alpha1.Overflow{AfterPendingSeconds: -1} },
			nodes:      []*policy.VirtualNode{virtual("eci", nil)},
			want:       []condition{{"TargetsAvailable", "True", "NodeReady"}, {"Ready", "False", "Invalid"}},
			message:    "spec.overflow.afterPendingSeconds",
			wantEvents: []string{EventNotReady},
		},
		"unknown target": {
			spec: func(s *v1alpha1.BurstPolicySpec) {
				s.Targets = []v1alpha1.Target{{Name: "aci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "aci"}}}}
			},
			nodes:      []*policy.VirtualNode{virtual("eci", nil)},
			want:       []condition{{"TargetsAvailable", "False", "NoVirtualNode"}, {"Ready", "False", "UnknownTargets"}},
			message:    "spec.targets[0].nodeSelector",
			wantEvents: []string{EventNotReady, EventTargetsLost},
		},
		"one of two targets is unknown": {
			spec: func(s *v1alpha1.BurstPolicySpec) {
				s.Targets = []v1alpha1.Target{
					{Name: "aci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "aci"}}},
					{Name: "eci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "eci"}}},
				}
			},
			nodes: []*policy.VirtualNode{virtual("eci", nil)},
			want:  []condition{{"TargetsAvailable", "True", "NodeReady"}, {"Ready", "True", "InForce"}},
		},
		"no virtual node": {
			want:       []condition{{"TargetsAvailable", "False", "NoVirtualNode"}, {"Ready", "True", "InForce"}},
			wantEvents: []string{EventTargetsLost},
		},
		"mode Never needs no target": {
			spec: func(s *v1alpha1.BurstPolicySpec) { s.Mode = v1alpha1.ModeNever },
			want: []condition{{"Ready", "True", "InForce"}},
		},
		"pressure": {
			spec: func(s *v1alpha1.BurstPolicySpec) {
				s.Overflow = &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: 2}}
			},
			nodes: []*policy.VirtualNode{virtual("eci", nil)},
			want: []condition{
				{"TargetsAvailable", "True", "NodeReady"}, {"Ready", "True", "InForce"}, {"UnderPressure", "False", "TooFewWaiting"},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, burstPolicy("p", c.spec))
			f.rules(func(s *policy.Snapshot) { s.VirtualNodes = c.nodes })
			f.observer.observe(t.Context())
			got := f.policy("p")
			var conditions []condition
			for _, x := range got.Status.Conditions {
				conditions = append(conditions, condition{x.Type, string(x.Status), x.Reason})
				if x.ObservedGeneration != 3 {
					t.Errorf("condition %s observed generation %d, want 3", x.Type, x.ObservedGeneration)
				}
			}
			if diff := cmp.Diff(c.want, conditions); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if ready := apimeta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, c.message) {
				t.Errorf("the message %q does not name %q", ready.Message, c.message)
			}
			if got.Status.ObservedGeneration != 3 {
				t.Errorf("observedGeneration is %d, want 3", got.Status.ObservedGeneration)
			}
			if diff := cmp.Diff(c.wantEvents, f.events.of("p")); diff != "" {
				t.Errorf("events (-want +got):\n%s", diff)
			}

			version := got.ResourceVersion
			f.clock.Step(time.Hour)
			f.observer.observe(t.Context())
			if v := f.policy("p").ResourceVersion; v != version {
				t.Error("the status was written again though nothing changed")
			}
		})
	}
}

// TestPressure goes once through all states: closed, enough pods wait, open,
// granted, too few wait, closed.
func TestPressure(t *testing.T) {
	cooldown := int32(60)
	bp := burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) {
		s.Overflow = &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: 2, ForSeconds: 5, CooldownSeconds: &cooldown}}
	})
	f := newFixture(t, bp)
	f.setPolicies(bp)
	ref := policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "p"}
	open := func() bool {
		t.Helper()
		f.observer.observe(t.Context())
		f.setPolicies(f.policy("p"))
		return apimeta.IsStatusConditionTrue(f.policy("p").Status.Conditions, v1alpha1.ConditionUnderPressure)
	}

	// One that would fit a local node, and one that no cloud carries out, do not count.
	f.view.local = []*policy.LocalNode{local("big", "64")}
	fits := unschedulable("fits")
	f.submit(fits)
	f.work()
	if n := f.observer.waiting.want(ref); n != 0 {
		t.Errorf("%d pods count, want none: the pod fits a local node", n)
	}
	f.view.local = nil
	refused := unschedulable("refused")
	refused.Spec.HostPID = true
	f.submit(refused)
	f.work()
	if n := f.observer.waiting.want(ref); n != 0 {
		t.Errorf("%d pods count, want none: no cloud runs the pod", n)
	}

	a, b := f.submit(unschedulable("a")), f.submit(unschedulable("b"))
	f.work()
	if n := f.observer.waiting.want(ref); n != 2 {
		t.Fatalf("%d pods count, want 2", n)
	}
	if open() {
		t.Error("open before forSeconds were over")
	}
	f.clock.Step(5 * time.Second)
	if !open() {
		t.Error("closed though enough pods have waited for long enough")
	}
	if f.patches != 0 {
		t.Error("granted while the policy was closed")
	}
	f.granter.waiting.again()
	f.work()
	for _, p := range []*corev1.Pod{a, b} {
		if tolerates(f.pod("shop", p.Name), hardTaint) != 1 {
			t.Errorf("pod %s was not granted once the policy was open", p.Name)
		}
		f.settle(p, "eci")
	}
	f.settle(fits, "big")
	if n := f.observer.waiting.want(ref); n != 0 {
		t.Errorf("%d pods count after all were granted, want none", n)
	}
	if !open() {
		t.Error("closed before the cooldown was over")
	}
	f.clock.Step(time.Minute)
	if open() {
		t.Error("open after the cooldown")
	}
	want := []string{EventPressureOpened, EventPressureClosed}
	if diff := cmp.Diff(want, f.events.of("p")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// TestPressureSurvivesRestart checks that a new leader goes on where the last one
// left the policy.
func TestPressureSurvivesRestart(t *testing.T) {
	cooldown := int32(60)
	bp := burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) {
		s.Overflow = &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: 2, CooldownSeconds: &cooldown}}
	})
	bp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue, Reason: reasonEnoughWaiting, LastTransitionTime: metav1.NewTime(start)}}
	f := newFixture(t, bp)
	next := f.observer.observe(t.Context())
	if !apimeta.IsStatusConditionTrue(f.policy("p").Status.Conditions, v1alpha1.ConditionUnderPressure) {
		t.Error("a new leader closed the policy at once")
	}
	if next > time.Minute {
		t.Errorf("looks again after %v, want at most the cooldown", next)
	}
	f.clock.Step(time.Minute)
	f.observer.observe(t.Context())
	if apimeta.IsStatusConditionTrue(f.policy("p").Status.Conditions, v1alpha1.ConditionUnderPressure) {
		t.Error("open after the cooldown")
	}
}

// TestPressureIsStaleAfterGap: after a time in which nobody measured, or that nobody
// watched, a new leader begins with every policy closed, whatever its status says,
// and grants nothing until it has looked at every pod.
func TestPressureIsStaleAfterGap(t *testing.T) {
	for _, gap := range []time.Duration{-1, handover + time.Second} {
		bp := burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) {
			s.Overflow = &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: 2}}
		})
		bp.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue, Reason: reasonEnoughWaiting, LastTransitionTime: metav1.NewTime(start)}}
		f := newFixture(t, bp)
		f.setPolicies(bp)
		f.view.gap = gap
		f.granter.term.Store(beginTerm(f.view, f.clock))
		f.submit(unschedulable("first"))
		if again := f.work(); again <= 0 || again > measuring {
			t.Errorf("gap %v: looked at again after %v, want while the pressure is measured", gap, again)
		}
		if f.patches != 0 {
			t.Errorf("gap %v: granted by a status that is stale", gap)
		}
		f.observer.observe(t.Context())
		if apimeta.IsStatusConditionTrue(f.policy("p").Status.Conditions, v1alpha1.ConditionUnderPressure) {
			t.Errorf("gap %v: the policy is still under pressure, with one pod of two", gap)
		}
		f.setPolicies(f.policy("p"))
		f.submit(unschedulable("second"))
		f.work()
		f.observer.observe(t.Context())
		f.setPolicies(f.policy("p"))
		f.clock.Step(measuring)
		f.granter.waiting.again()
		f.work()
		if f.patches != 2 {
			t.Errorf("gap %v: %d pods were granted once two were waiting, want both", gap, f.patches)
		}
	}
}

func TestCounts(t *testing.T) {
	bp := burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) {
		s.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
		s.Targets = []v1alpha1.Target{
			{Name: "aci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "aci"}}},
			{Name: "eci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "eci"}}},
		}
	})
	f := newFixture(t, bp)
	f.setPolicies(bp)
	at := func(name, app, node string) *corev1.Pod {
		p := unschedulable(name)
		p.Labels["app"] = app
		p.Spec.NodeName = node
		store.TrimPod(p)
		return p
	}
	f.view.pods["shop"] = []*corev1.Pod{
		at("1", "web", "local-1"), at("2", "web", "local-2"), at("3", "web", "eci"), at("4", "web", ""),
		at("5", "other", "local-1"), at("6", "other", "eci"),
	}
	f.view.changes++
	f.observer.observe(t.Context())
	want := v1alpha1.BurstPolicyStatus{
		Pods: v1alpha1.PodCounts{Selected: 4, Local: 2, Burst: 1, Waiting: 1},
		Targets: []v1alpha1.TargetStatus{
			{Name: "aci", Reason: "Its nodeSelector matches no virtual node."},
			{Name: "eci", ReadyNodes: 1, Pods: 1},
		},
	}
	got := f.policy("p").Status
	if diff := cmp.Diff(want.Pods, got.Pods); diff != "" {
		t.Errorf("pods (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Targets, got.Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}

	// A change within the second is counted when the second is over.
	f.view.pods["shop"] = f.view.pods["shop"][:1]
	f.view.changes++
	next := f.observer.observe(t.Context())
	if n := f.policy("p").Status.Pods.Selected; n != 4 {
		t.Errorf("selected is %d right after a count, want still 4", n)
	}
	if next <= 0 || next > recountPause {
		t.Errorf("looks again after %v, want within %v", next, recountPause)
	}
	f.clock.Step(next)
	f.observer.observe(t.Context())
	if n := f.policy("p").Status.Pods.Selected; n != 1 {
		t.Errorf("selected is %d, want 1", n)
	}
}

// TestDeciding checks that counting by less than the whole snapshot attributes
// pods as the whole does.
func TestDeciding(t *testing.T) {
	never := burstPolicy("never", func(s *v1alpha1.BurstPolicySpec) {
		s.Mode, s.PodSelector = v1alpha1.ModeNever, metav1.LabelSelector{MatchLabels: map[string]string{"app": "never"}}
	})
	other := virtual("other", nil)
	other.HardTaints = []corev1.Taint{{Key: "example.com/maker", Value: "x", Effect: corev1.TaintEffectNoSchedule}}
	s := &policy.Snapshot{
		Namespaces:   map[string]policy.Namespace{"shop": {}},
		Policies:     map[string][]*policy.Policy{"shop": {policy.Compile(never), policy.Compile(burstPolicy("p", nil))}},
		VirtualNodes: []*policy.VirtualNode{virtual("eci", nil), other},
	}
	decided := map[policy.Ref]int{}
	for name, change := range map[string]func(*corev1.Pod){
		"plain":                func(*corev1.Pod) {},
		"refused by the cloud": func(p *corev1.Pod) { p.Spec.HostPID = true },
		"mode Never":           func(p *corev1.Pod) { p.Labels["app"] = "never" },
		"its own mode":         func(p *corev1.Pod) { p.Annotations = map[string]string{v1alpha1.ModeAnnotation: "Auto"} },
		"another maker's toleration": func(p *corev1.Pod) {
			p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: "example.com/maker", Value: "x", Effect: corev1.TaintEffectNoSchedule})
		},
		"a selector of no virtual node": func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "local"} },
		"of a DaemonSet": func(p *corev1.Pod) {
			yes := true
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "d", Controller: &yes}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := unschedulable("web")
			change(p)
			want, got := policy.Evaluate(s, "shop", p).By, policy.Evaluate(deciding(s), "shop", p).By
			if want != got {
				t.Errorf("decided by %v, with the whole snapshot by %v", got, want)
			}
			decided[got]++
		})
	}
	if len(decided) < 4 {
		t.Errorf("the cases tell only %d deciders apart: %v", len(decided), decided)
	}
}

// BenchmarkRecount is what counting 100000 pods of one policy costs.
func BenchmarkRecount(b *testing.B) {
	p := burstPolicy("p", nil)
	s := &policy.Snapshot{
		Namespaces:   map[string]policy.Namespace{"shop": {}},
		Policies:     map[string][]*policy.Policy{"shop": {policy.Compile(p)}},
		VirtualNodes: []*policy.VirtualNode{virtual("eci", nil), virtual("aci", nil)},
	}
	pods := make([]*corev1.Pod, 100_000)
	for i := range pods {
		pods[i] = unschedulable("web")
		pods[i].Spec.NodeName = "local-1"
		store.TrimPod(pods[i])
	}
	nodes := map[string]bool{"eci": true, "aci": true}
	b.ReportAllocs()
	for b.Loop() {
		counted := make(map[policy.Ref]counts)
		light := deciding(s)
		for _, pod := range pods {
			count(counted, light, "shop", pod, nodes)
		}
		if n := counted[policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "p"}].Local; n != int32(len(pods)) {
			b.Fatalf("counted %d pods", n)
		}
	}
}
