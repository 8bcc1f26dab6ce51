package policy

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// virtualNode is a ready virtual node with the soft taints.
func virtualNode(name, provider, value string) *VirtualNode {
	n := &VirtualNode{
		Name:         name,
		Labels:       labels.Set{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue, v1alpha1.ProviderLabel: provider},
		HardTaints:   []corev1.Taint{{Key: v1alpha1.ProviderTaintKey, Value: value, Effect: corev1.TaintEffectNoSchedule}},
		Ready:        true,
		Capabilities: &burstable.Capabilities{Provider: provider},
	}
	for i := range v1alpha1.SoftTaints {
		n.SoftTaints = append(n.SoftTaints, corev1.Taint{
			Key: fmt.Sprintf("%s%d", v1alpha1.SoftTaintPrefix, i+1), Effect: corev1.TaintEffectPreferNoSchedule,
		})
	}
	return n
}

// shop is a cluster with the namespace shop and two virtual nodes.
func shop() *Snapshot {
	return &Snapshot{
		Namespaces:   map[string]Namespace{"shop": {Labels: labels.Set{"team": "shop"}}},
		Policies:     map[string][]*Policy{},
		VirtualNodes: []*VirtualNode{virtualNode("eci", "eci", "alibabacloud"), virtualNode("aci", "aci", "azure")},
	}
}

func web() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "nginx"}}},
	}
}

func policyOf(mode v1alpha1.Mode, selector string) *Policy {
	return Compile(&v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: "shop"},
		Spec:       specOf(mode, selector),
	})
}

func clusterPolicyOf(mode v1alpha1.Mode, selector, team string) *Policy {
	p := &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: "cluster"}}
	p.Spec.BurstPolicySpec = specOf(mode, selector)
	p.Spec.NamespaceSelector.MatchLabels = map[string]string{"team": team}
	return Compile(p)
}

func specOf(mode v1alpha1.Mode, selector string) v1alpha1.BurstPolicySpec {
	return v1alpha1.BurstPolicySpec{Mode: mode, PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": selector}}}
}

// TestPrecedence runs through every combination of what can decide for a pod and
// holds it against the rule as the documentation puts it.
func TestPrecedence(t *testing.T) {
	const bad = "overflow"
	annotations := []v1alpha1.Mode{"", bad, v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever}
	type choice struct {
		mode     v1alpha1.Mode
		selector string // of pods: web selects ours
		team     string // of namespaces: shop selects ours
	}
	policies := []choice{
		{},
		{v1alpha1.ModeOverflow, "web", "shop"}, {v1alpha1.ModeAlways, "web", "shop"}, {v1alpha1.ModeAuto, "web", "shop"},
		{v1alpha1.ModeNever, "web", "shop"}, {v1alpha1.ModeNever, "db", "shop"}, {v1alpha1.ModeAuto, "db", "shop"},
		{v1alpha1.ModeAuto, "!", "shop"}, {v1alpha1.ModeNever, "!", "shop"}, // invalid selectors
	}
	clusterPolicies := append([]choice{
		{v1alpha1.ModeOverflow, "web", "bank"}, {v1alpha1.ModeNever, "web", "bank"},
	}, policies...)

	type outcome struct {
		By   string
		Mode v1alpha1.Mode
	}
	invalid := func(m v1alpha1.Mode) bool { return m == bad }
	opts := func(c choice) bool {
		return c.mode != "" && c.mode != v1alpha1.ModeNever && c.selector != "!" && c.team == "shop"
	}
	forbids := func(c choice) bool {
		return c.mode == v1alpha1.ModeNever && c.selector != "db" && c.team == "shop"
	}
	want := func(pod, ns v1alpha1.Mode, own, cluster choice) outcome {
		switch {
		case pod == v1alpha1.ModeNever:
			return outcome{"Pod", v1alpha1.ModeNever}
		case ns == v1alpha1.ModeNever:
			return outcome{"Namespace", v1alpha1.ModeNever}
		case forbids(own):
			return outcome{"BurstPolicy/own", v1alpha1.ModeNever}
		case forbids(cluster):
			return outcome{"ClusterBurstPolicy/cluster", v1alpha1.ModeNever}
		}
		if pod != "" && (ns != "" && !invalid(ns) || opts(own) || opts(cluster)) {
			if invalid(pod) {
				return outcome{"Pod", ""}
			}
			return outcome{"Pod", pod}
		}
		if opts(own) && own.selector == "web" {
			return outcome{"BurstPolicy/own", own.mode}
		}
		if ns != "" {
			if invalid(ns) {
				return outcome{"Namespace", ""}
			}
			return outcome{"Namespace", ns}
		}
		if opts(cluster) && cluster.selector == "web" {
			return outcome{"ClusterBurstPolicy/cluster", cluster.mode}
		}
		return outcome{}
	}

	n := 0
	for _, podMode := range annotations {
		for _, nsMode := range annotations {
			for _, own := range policies {
				for _, cluster := range clusterPolicies {
					n++
					s, pod := shop(), web()
					if podMode != "" {
						pod.Annotations = map[string]string{v1alpha1.ModeAnnotation: string(podMode)}
					}
					s.Namespaces["shop"] = Namespace{Labels: s.Namespaces["shop"].Labels, Mode: nsMode}
					if own.mode != "" {
						s.Policies["shop"] = []*Policy{policyOf(own.mode, own.selector)}
					}
					if cluster.mode != "" {
						s.Policies[""] = []*Policy{clusterPolicyOf(cluster.mode, cluster.selector, cluster.team)}
					}
					d := Evaluate(s, "shop", pod)
					var got outcome
					if d.By != (Ref{}) {
						got = outcome{d.By.String(), d.Mode}
					}
					w := want(podMode, nsMode, own, cluster)
					if diff := cmp.Diff(w, got); diff != "" {
						t.Errorf("pod %q, namespace %q, policy %v, cluster policy %v (-want +got):\n%s", podMode, nsMode, own, cluster, diff)
					}
					if writes := d.Action == Wait || d.Action == Grant; writes != (w.Mode != "" && w.Mode != v1alpha1.ModeNever) {
						t.Errorf("pod %q, namespace %q, policy %v, cluster policy %v: action %s", podMode, nsMode, own, cluster, d.Action)
					}
				}
			}
		}
	}
	if n < 3000 {
		t.Errorf("%d combinations", n)
	}
}

func TestOptedIn(t *testing.T) {
	for name, c := range map[string]struct {
		mode     v1alpha1.Mode
		own      *Policy
		cluster  *Policy
		excluded bool
		want     bool
	}{
		"nothing":                    {},
		"annotation":                 {mode: v1alpha1.ModeAuto, want: true},
		"annotation Never":           {mode: v1alpha1.ModeNever},
		"annotation Never, policy":   {mode: v1alpha1.ModeNever, own: policyOf(v1alpha1.ModeAuto, "web")},
		"annotation not a mode":      {mode: "yes"},
		"policy":                     {own: policyOf(v1alpha1.ModeOverflow, "web"), want: true},
		"policy for no pod yet":      {own: policyOf(v1alpha1.ModeOverflow, "none"), want: true},
		"policy Never":               {own: policyOf(v1alpha1.ModeNever, "web")},
		"policy invalid":             {own: policyOf(v1alpha1.ModeOverflow, "!")},
		"cluster policy":             {cluster: clusterPolicyOf(v1alpha1.ModeOverflow, "web", "shop"), want: true},
		"cluster policy for another": {cluster: clusterPolicyOf(v1alpha1.ModeOverflow, "web", "bank")},
		"excluded":                   {mode: v1alpha1.ModeAuto, excluded: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop()
			s.Namespaces["shop"] = Namespace{Labels: labels.Set{"team": "shop"}, Mode: c.mode}
			s.Excluded = map[string]bool{"shop": c.excluded}
			if c.own != nil {
				s.Policies["shop"] = []*Policy{c.own}
			}
			if c.cluster != nil {
				s.Policies[""] = []*Policy{c.cluster}
			}
			if got := s.OptedIn("shop"); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if s.OptedIn("unknown") || s.OptedIn("") {
				t.Error("a namespace that is not known is opted in")
			}
		})
	}
}

func TestReasons(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] {
			t.Errorf("%s is there twice", r)
		}
		seen[r] = true
		if s := r.Sentence(); len(s) < 20 || s[len(s)-1] != '.' {
			t.Errorf("%s has the sentence %q", r, s)
		}
		if a := r.Anchor(); len(a) <= len("docs/reasons.md#") {
			t.Errorf("%s has the anchor %q", r, a)
		}
	}
	if s := Reason("Unheard").Sentence(); s != "" {
		t.Errorf("a reason that is not in the list has the sentence %q", s)
	}
}

// thousandPolicies selects the pod by the last of 1,000 cluster policies.
func thousandPolicies() *Snapshot {
	s := shop()
	for i := range 1000 {
		p := &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p-%04d", i)}}
		p.Spec.PodSelector.MatchLabels = map[string]string{"app": fmt.Sprintf("app-%04d", i)}
		p.Spec.Targets = []v1alpha1.Target{{Name: "eci", NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: "eci"}}}}
		s.Policies[""] = append(s.Policies[""], Compile(p))
	}
	s.Index = NewIndex(s.Policies, s.Namespaces)
	return s
}

// thousandNamespaces has 1,000 cluster policies for other namespaces, each of
// which selects all pods there.
func thousandNamespaces() *Snapshot {
	s := shop()
	for i := range 1000 {
		p := &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("p-%04d", i)}}
		p.Spec.NamespaceSelector.MatchLabels = map[string]string{"team": fmt.Sprintf("team-%04d", i)}
		s.Policies[""] = append(s.Policies[""], Compile(p))
	}
	s.Index = NewIndex(s.Policies, s.Namespaces)
	return s
}

func BenchmarkEvaluate(b *testing.B) {
	run := func(name string, s *Snapshot, app string, want Action) {
		b.Run(name, func(b *testing.B) {
			pod := web()
			pod.Labels["app"] = app
			b.ReportAllocs()
			for b.Loop() {
				if d := Evaluate(s, "shop", pod); d.Action != want {
					b.Fatalf("%s: %s", d.Action, d.Message)
				}
			}
		})
	}
	annotated := shop()
	annotated.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
	run("unselected", shop(), "web", Ignore)
	run("unselected by 1000", thousandPolicies(), "web", Ignore)
	run("unselected by 1000 of other namespaces", thousandNamespaces(), "web", Ignore)
	run("annotated", annotated, "web", Grant)
	run("selected by last of 1000", thousandPolicies(), "app-0999", Grant)
}

func TestUnselectedPodCostsNoAllocation(t *testing.T) {
	s, pod := thousandPolicies(), web()
	if n := testing.AllocsPerRun(100, func() { Evaluate(s, "shop", pod) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
