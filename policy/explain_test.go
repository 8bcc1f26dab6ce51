package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// TestExplainDecides: an explanation is that of the very decision, and what it
// tells agrees with it.
func TestExplainDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		namespace := rapid.SampledFrom([]string{"shop", "bank", "nowhere"}).Draw(t, "namespace")
		if rapid.Bool().Draw(t, "decided before") {
			pod = Inject(pod, Evaluate(s, namespace, pod))
		}
		e := Explain(s, namespace, pod)
		if diff := cmp.Diff(Evaluate(s, namespace, pod), e.Decision); diff != "" {
			t.Fatalf("(-Evaluate +Explain)\n%s", diff)
		}
		checkConsidered(t, s, namespace, e.Considered, &e.Decision)
		checkTargets(t, e.Targets, &e.Decision)
	})
}

// TestExplainLateDecides is the same for live pods.
func TestExplainLateDecides(t *testing.T) {
	since := pending().Status.Conditions[0].LastTransitionTime.Time
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		if rapid.Bool().Draw(t, "unschedulable") {
			pod.Status = pending().Status
		}
		for _, n := range s.VirtualNodes {
			n.Free = free(rapid.SampledFrom([]string{"0", "8"}).Draw(t, n.Name+" cpu"), "8Gi", rapid.SampledFrom([]string{"0", "10"}).Draw(t, n.Name+" pods"))
		}
		var local []*LocalNode
		if rapid.Bool().Draw(t, "room") {
			local = append(local, &LocalNode{Name: "local", Free: free("8", "8Gi", "10")})
		}
		now := since.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "seconds")) * time.Second)
		e := ExplainLate(s, "shop", pod, slices.Values(local), nil, now)
		if diff := cmp.Diff(EvaluateLate(s, "shop", pod, slices.Values(local), nil, now), e.Decision); diff != "" {
			t.Fatalf("(-EvaluateLate +ExplainLate)\n%s", diff)
		}
		checkConsidered(t, s, "shop", e.Considered, &e.Decision.Decision)
		checkTargets(t, e.Targets, &e.Decision.Decision)
	})
}

// checkConsidered holds the list against the decision: each policy is in it
// once, and exactly one decides, and that is the one of the decision.
func checkConsidered(t failer, s *Snapshot, namespace string, list []Considered, d *Decision) {
	t.Helper()
	if d.Reason == NamespaceUnknown {
		if len(list) > 0 {
			t.Fatalf("%s: nobody is asked, but %v", d.Reason, list)
		}
		return
	}
	var deciders []Considered
	policies := 0
	for _, c := range list {
		if c.Verdict == Decides {
			deciders = append(deciders, c)
		}
		if c.By.Kind == KindPolicy || c.By.Kind == KindClusterPolicy {
			policies++
		}
		if c.Why == "" {
			t.Fatalf("%v is %s without a reason", c.By, c.Verdict)
		}
	}
	if want := len(s.Policies[namespace]) + len(s.Policies[""]); policies != want {
		t.Fatalf("%d policies are told of, want %d", policies, want)
	}
	switch {
	case d.Reason == NotSelected:
		if len(deciders) > 0 {
			t.Fatalf("%s, but %v", d.Reason, deciders)
		}
	case len(deciders) != 1:
		t.Fatalf("%s: %d decide: %v", d.Reason, len(deciders), list)
	case d.By != (Ref{}) && deciders[0].By != d.By:
		t.Fatalf("%v decides, the decision says %v", deciders[0].By, d.By)
	case d.Mode != "" && deciders[0].Mode != d.Mode:
		t.Fatalf("mode %s decides, the decision says %s", deciders[0].Mode, d.Mode)
	}
}

// checkTargets holds the targets against the decision: the chosen one is the
// decision's, and the nodes that fit in it are those of the decision.
func checkTargets(t failer, targets []ExplainedTarget, d *Decision) {
	t.Helper()
	var fits []string
	for _, target := range targets {
		if !target.Chosen {
			continue
		}
		if target.Name != d.Target {
			t.Fatalf("target %q is chosen, the decision says %q", target.Name, d.Target)
		}
		for _, n := range target.Nodes {
			if n.Verdict == NodeFits {
				fits = append(fits, n.Name)
			}
		}
	}
	var want []string
	for _, n := range d.Nodes {
		want = append(want, n.Name)
	}
	if diff := cmp.Diff(want, fits); diff != "" {
		t.Fatalf("%s: nodes of the decision and those that fit (-want +got):\n%s", d.Reason, diff)
	}
}

func TestExplainVerdicts(t *testing.T) {
	named := func(p *Policy, name string) *Policy { p.Ref.Name = name; return p }
	s := shop()
	s.Policies["shop"] = []*Policy{
		named(policyOf(v1alpha1.ModeOverflow, "db"), "databases"),
		named(policyOf(v1alpha1.ModeOverflow, "!"), "mistaken"),
		named(policyOf(v1alpha1.ModeOverflow, "web"), "webs"),
		named(policyOf(v1alpha1.ModeAlways, "web"), "webs-too"),
	}
	s.Policies[""] = []*Policy{
		named(clusterPolicyOf(v1alpha1.ModeAuto, "web", "bank"), "bankers"),
		named(clusterPolicyOf(v1alpha1.ModeAuto, "web", "shop"), "shoppers"),
	}
	s.Namespaces["shop"] = Namespace{Labels: s.Namespaces["shop"].Labels, Mode: v1alpha1.ModeAuto}

	verdicts := func(e Explanation) map[string]Verdict {
		out := map[string]Verdict{}
		for _, c := range e.Considered {
			out[c.By.String()] = c.Verdict
		}
		return out
	}
	want := map[string]Verdict{
		"BurstPolicy/databases": OtherPods, "BurstPolicy/mistaken": Invalid,
		"BurstPolicy/webs": Decides, "BurstPolicy/webs-too": Outranked,
		"Namespace":                   Outranked,
		"ClusterBurstPolicy/bankers":  OtherNamespaces,
		"ClusterBurstPolicy/shoppers": Outranked,
	}
	if diff := cmp.Diff(want, verdicts(Explain(s, "shop", web()))); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	s.Policies[""] = append(s.Policies[""], named(clusterPolicyOf(v1alpha1.ModeNever, "web", "shop"), "never"))
	want["BurstPolicy/webs"], want["ClusterBurstPolicy/never"] = Outranked, Decides
	if diff := cmp.Diff(want, verdicts(Explain(s, "shop", web()))); diff != "" {
		t.Errorf("with a policy of mode Never (-want +got)\n%s", diff)
	}

	annotated := web()
	annotated.Annotations = map[string]string{v1alpha1.ModeAnnotation: "Always"}
	if diff := cmp.Diff(map[string]Verdict{"Pod": NotOptedIn}, verdicts(Explain(shop(), "shop", annotated))); diff != "" {
		t.Errorf("in a namespace that is not opted in (-want +got)\n%s", diff)
	}
}

func TestExplainTellsWhatIsPassedOver(t *testing.T) {
	s := shop()
	p := stampPolicy(v1alpha1.ScaleInBurstFirst)
	p.Targets[0].Suspended = "It is suspended for a test."
	s.Policies["shop"] = []*Policy{p}
	s.VirtualNodes[1].NoCapacity = v1alpha1.PodOutOfStock
	e := Explain(s, "shop", web())
	if e.Decision.Reason != NoCapacity || len(e.Targets) != 2 {
		t.Fatalf("%+v", e)
	}
	if got := e.Targets[0]; got.Chosen || got.Why != "It is suspended for a test." || got.Nodes[0].Verdict != NodeFits {
		t.Errorf("the suspended target: %+v", got)
	}
	if got := e.Targets[1]; got.Chosen || got.Nodes[0].Verdict != NodeNoCapacity || !strings.Contains(got.Nodes[0].Why, "OutOfStock") {
		t.Errorf("the target without capacity: %+v", got)
	}
}
