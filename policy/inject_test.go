package policy

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func requirement(key string, op corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: op, Values: values}
}

func term(rs ...corev1.NodeSelectorRequirement) corev1.NodeSelectorTerm {
	return corev1.NodeSelectorTerm{MatchExpressions: rs}
}

func TestRequireNodes(t *testing.T) {
	ssd := requirement("disk", corev1.NodeSelectorOpIn, "ssd")
	zone := requirement("zone", corev1.NodeSelectorOpExists)
	eci := requirement(v1alpha1.ProviderLabel, corev1.NodeSelectorOpIn, "eci")
	field := corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{requirement("metadata.name", corev1.NodeSelectorOpIn, "a")}}
	fieldLocal := *field.DeepCopy()
	fieldLocal.MatchExpressions = []corev1.NodeSelectorRequirement{onLocal}
	fieldECI := *field.DeepCopy()
	fieldECI.MatchExpressions = []corev1.NodeSelectorRequirement{eci, onVirtual}
	overflow := [][]corev1.NodeSelectorRequirement{{onLocal}, {eci, onVirtual}}

	for name, c := range map[string]struct {
		own  *corev1.NodeSelector
		alts [][]corev1.NodeSelectorRequirement
		want *corev1.NodeSelector
	}{
		"nothing to write":           {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd)}}, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd)}}},
		"no affinity":                {alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(onLocal), term(eci, onVirtual)}}},
		"one term":                   {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd)}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd, onLocal), term(ssd, eci, onVirtual)}}},
		"two terms":                  {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd), term(zone)}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(ssd, onLocal), term(zone, onLocal), term(ssd, eci, onVirtual), term(zone, eci, onVirtual)}}},
		"fields":                     {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{field}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{fieldLocal, fieldECI}}},
		"empty term matches nothing": {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}},
		"no terms match nothing":     {own: &corev1.NodeSelector{}, alts: overflow, want: &corev1.NodeSelector{}},
		"narrow enough":              {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(onLocal, ssd)}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(onLocal, ssd)}}},
		"half an alternative":        {own: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(onVirtual)}}, alts: overflow, want: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(onVirtual, onLocal), term(onVirtual, eci)}}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := web()
			if c.own != nil {
				pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: c.own}}
			}
			requireNodes(pod, c.alts)
			if diff := cmp.Diff(c.want, pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestInjectWritesNothing(t *testing.T) {
	for _, a := range []Action{Ignore, StayLocal} {
		pod := web()
		if got := Inject(pod, Decision{Action: a, PreferLocal: true, Tolerations: []corev1.Toleration{{Key: "a"}}}); got != pod {
			t.Errorf("%s: the pod was copied", a)
		}
		if diff := cmp.Diff(web(), pod); diff != "" {
			t.Errorf("%s: %s", a, diff)
		}
	}
}

func TestInjectDropsACopiedGrant(t *testing.T) {
	pod := web()
	pod.Annotations = map[string]string{v1alpha1.GrantAnnotation: GrantLate, "mine": "kept"}
	got := Inject(pod, Decision{Action: Wait, Reason: PressureClosed, Mode: v1alpha1.ModeOverflow, Tolerations: []corev1.Toleration{{Key: "a"}}})
	want := map[string]string{
		"mine": "kept", v1alpha1.PolicyAnnotation: "", v1alpha1.DecidedModeAnnotation: "Overflow", v1alpha1.ReasonAnnotation: "PressureClosed",
	}
	if diff := cmp.Diff(want, got.Annotations); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Generators. Keys and values are few, so that things meet.

func genRequirement(t *rapid.T) corev1.NodeSelectorRequirement {
	key := rapid.SampledFrom([]string{"type", "disk", v1alpha1.ProviderLabel}).Draw(t, "key")
	op := rapid.SampledFrom([]corev1.NodeSelectorOperator{
		corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist,
	}).Draw(t, "operator")
	if op == corev1.NodeSelectorOpExists || op == corev1.NodeSelectorOpDoesNotExist {
		return requirement(key, op)
	}
	return requirement(key, op, rapid.SliceOfNDistinct(genLabel, 1, 2, rapid.ID[string]).Draw(t, "values")...)
}

var genLabel = rapid.SampledFrom([]string{"virtual-kubelet", "ssd", "eci", "aci"})

func genNodeSelector(t *rapid.T) *corev1.NodeSelector {
	return &corev1.NodeSelector{NodeSelectorTerms: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) corev1.NodeSelectorTerm {
		nt := corev1.NodeSelectorTerm{MatchExpressions: rapid.SliceOfN(rapid.Custom(genRequirement), 0, 3).Draw(t, "expressions")}
		if rapid.Bool().Draw(t, "fields") {
			nt.MatchFields = []corev1.NodeSelectorRequirement{requirement("metadata.name", corev1.NodeSelectorOpIn, "eci")}
		}
		return nt
	}), 0, 3).Draw(t, "terms")}
}

func genToleration(t *rapid.T) corev1.Toleration {
	return corev1.Toleration{
		Key:      rapid.SampledFrom([]string{"dedicated", "node.kubernetes.io/not-ready", v1alpha1.SoftTaintPrefix + "1"}).Draw(t, "key"),
		Operator: rapid.SampledFrom([]corev1.TolerationOperator{"", corev1.TolerationOpEqual, corev1.TolerationOpExists}).Draw(t, "operator"),
		Effect:   rapid.SampledFrom([]corev1.TaintEffect{"", corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule}).Draw(t, "effect"),
	}
}

func genPod(t *rapid.T) *corev1.Pod {
	pod := web()
	pod.Labels["app"] = rapid.SampledFrom([]string{"web", "db"}).Draw(t, "app")
	switch m := rapid.SampledFrom([]string{"", "", "", "Overflow", "Always", "Auto", "Never", "never"}).Draw(t, "pod mode"); m {
	case "":
	default:
		pod.Annotations = map[string]string{v1alpha1.ModeAnnotation: m}
	}
	pod.Spec.Tolerations = rapid.SliceOfN(rapid.Custom(genToleration), 0, 3).Draw(t, "tolerations")
	if rapid.Bool().Draw(t, "node selector") {
		pod.Spec.NodeSelector = map[string]string{"type": genLabel.Draw(t, "type")}
	}
	if rapid.Bool().Draw(t, "affinity") {
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		if rapid.Bool().Draw(t, "required") {
			pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = genNodeSelector(t)
		}
		if rapid.Bool().Draw(t, "preferred") {
			pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{
				Weight: 100, Preference: term(genRequirement(t)),
			}}
		}
	}
	if rapid.Bool().Draw(t, "host network") {
		pod.Spec.HostNetwork = true
	}
	for range rapid.IntRange(0, 2).Draw(t, "spreads") {
		pod.Spec.TopologySpreadConstraints = append(pod.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: rapid.SampledFrom([]string{"type", "zone"}).Draw(t, "topology"),
			WhenUnsatisfiable: rapid.SampledFrom([]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}).Draw(t, "when unsatisfiable"),
			NodeTaintsPolicy: rapid.SampledFrom([]*corev1.NodeInclusionPolicy{
				nil, nil, new(corev1.NodeInclusionPolicyHonor), new(corev1.NodeInclusionPolicyIgnore),
			}).Draw(t, "taints"),
		})
	}
	if rapid.Bool().Draw(t, "gated") {
		pod.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	}
	return pod
}

func genSpec(t *rapid.T) v1alpha1.BurstPolicySpec {
	spec := specOf(rapid.SampledFrom([]v1alpha1.Mode{
		v1alpha1.ModeOverflow, v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever,
	}).Draw(t, "mode"), rapid.SampledFrom([]string{"web", "db", "!"}).Draw(t, "selects"))
	spec.Priority = rapid.Int32Range(-1, 1).Draw(t, "priority")
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"eci", "aci", "none"}), 0, 3, rapid.ID[string]).Draw(t, "targets") {
		spec.Targets = append(spec.Targets, v1alpha1.Target{Name: name})
		spec.Targets[len(spec.Targets)-1].NodeSelector.MatchLabels = map[string]string{v1alpha1.ProviderLabel: name}
	}
	if rapid.Bool().Draw(t, "overflow") {
		spec.Overflow = &v1alpha1.Overflow{
			AfterPendingSeconds: rapid.Int32Range(0, 1).Draw(t, "after"),
			NodeAutoscaler:      rapid.SampledFrom([]v1alpha1.NodeAutoscaler{"", v1alpha1.BurstFirst, v1alpha1.NodeFirst}).Draw(t, "order"),
		}
		if rapid.Bool().Draw(t, "pressure") {
			spec.Overflow.Pressure = &v1alpha1.Pressure{UnschedulablePods: 1}
		}
	}
	return spec
}

func genSnapshot(t *rapid.T) *Snapshot {
	s := shop()
	modes := rapid.SampledFrom([]v1alpha1.Mode{"", "", "", v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever, "bad"})
	s.Namespaces["shop"] = Namespace{Labels: labels.Set{"team": "shop"}, Mode: modes.Draw(t, "shop mode")}
	s.Namespaces["bank"] = Namespace{Labels: labels.Set{"team": "bank"}, Mode: modes.Draw(t, "bank mode")}
	for _, ns := range []string{"shop", "bank"} {
		for range rapid.IntRange(0, 2).Draw(t, "policies of "+ns) {
			p := &v1alpha1.BurstPolicy{Spec: genSpec(t)}
			p.Namespace, p.Name = ns, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
			s.Policies[ns] = append(s.Policies[ns], Compile(p))
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "cluster policies") {
		p := &v1alpha1.ClusterBurstPolicy{}
		p.Name = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name")
		p.Spec.BurstPolicySpec = genSpec(t)
		if team := rapid.SampledFrom([]string{"", "shop", "bank"}).Draw(t, "team"); team != "" {
			p.Spec.NamespaceSelector.MatchLabels = map[string]string{"team": team}
		}
		s.Policies[""] = append(s.Policies[""], Compile(p))
	}
	for _, ps := range s.Policies {
		slices.SortStableFunc(ps, func(a, b *Policy) int {
			switch {
			case Less(a, b):
				return -1
			case Less(b, a):
				return 1
			}
			return 0
		})
	}
	for _, n := range s.VirtualNodes {
		n.Ready = rapid.Bool().Draw(t, n.Name+" ready")
		if rapid.Bool().Draw(t, n.Name+" another maker's") {
			n.Capabilities = nil
		}
	}
	if rapid.Bool().Draw(t, "one taint for both") {
		s.VirtualNodes[1].HardTaints = s.VirtualNodes[0].HardTaints
	}
	s.LocalSoftTaint = rapid.Bool().Draw(t, "local soft taint")
	s.ControllerLive = rapid.Bool().Draw(t, "controller live")
	for _, ps := range s.Policies {
		for _, p := range ps {
			p.PressureOpen = p.HasPressure && rapid.Bool().Draw(t, "pressure open")
		}
	}
	s.Stopped = rapid.SampledFrom([]bool{false, false, false, true}).Draw(t, "stopped")
	return s
}

func TestInjectMergesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		before := pod.DeepCopy()
		d := Evaluate(s, "shop", pod)
		once := Inject(pod, d)
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Fatalf("the pod that was handed in has changed:\n%s", diff)
		}
		checkMerge(t, s, before, once, &d)

		if diff := cmp.Diff(once, Inject(once, d)); diff != "" {
			t.Fatalf("the same decision twice (-once +twice):\n%s", diff)
		}
		again := Evaluate(s, "shop", once)
		if diff := cmp.Diff(once, Inject(once, again)); diff != "" {
			t.Fatalf("decided twice, %s then %s (-once +twice):\n%s", d.Reason, again.Reason, diff)
		}
	})
}

type failer interface {
	Fatalf(string, ...any)
	Helper()
}

// checkMerge holds what was written against the decision: all of the user's is
// there, and each node is allowed exactly where the user and the policy allow it.
func checkMerge(t failer, s *Snapshot, before, after *corev1.Pod, d *Decision) {
	t.Helper()
	if n := len(before.Spec.Tolerations); !equality.Semantic.DeepEqual(before.Spec.Tolerations, after.Spec.Tolerations[:n]) {
		t.Fatalf("tolerations %v became %v", before.Spec.Tolerations, after.Spec.Tolerations)
	}
	for k, v := range before.Annotations {
		if after.Annotations[k] != v {
			t.Fatalf("annotation %s: %q became %q", k, v, after.Annotations[k])
		}
	}
	if d.Action == Wait && len(before.Spec.Tolerations) != len(after.Spec.Tolerations) {
		t.Fatalf("a pod that waits was granted %v", after.Spec.Tolerations)
	}
	if pre, post := preferred(before), preferred(after); !equality.Semantic.DeepEqual(pre, post[:len(pre)]) || len(post) > len(pre)+1 {
		t.Fatalf("preferred terms %v became %v", pre, post)
	}

	// Our gate comes last and only while someone is there to open it; the spread says
	// nothing new but that taints count.
	rest := after.DeepCopy()
	if n := len(before.Spec.SchedulingGates); len(after.Spec.SchedulingGates) > n {
		if gateOf(after) != n || d.Action != Wait || !s.ControllerLive {
			t.Fatalf("gates %v became %v (%s, controller live %t)", before.Spec.SchedulingGates, after.Spec.SchedulingGates, d.Action, s.ControllerLive)
		}
		rest.Spec.SchedulingGates = before.Spec.SchedulingGates
	}
	for i := range before.Spec.TopologySpreadConstraints {
		was, is := &before.Spec.TopologySpreadConstraints[i], &rest.Spec.TopologySpreadConstraints[i]
		if was.NodeTaintsPolicy == nil && is.NodeTaintsPolicy != nil {
			if !isHard(was) || d.Action == Grant {
				t.Fatalf("constraint %v became %v (%s)", was, is, d.Action)
			}
			is.NodeTaintsPolicy = nil
		}
	}
	if d.Mode == v1alpha1.ModeOverflow && d.Action != Grant && seesTainted(after) {
		t.Fatalf("the virtual nodes are empty domains of %v", after.Spec.TopologySpreadConstraints)
	}

	// The rest is as it was.
	rest.Annotations, rest.Spec.Tolerations, rest.Spec.Affinity = before.Annotations, before.Spec.Tolerations, before.Spec.Affinity
	if diff := cmp.Diff(before, rest); diff != "" {
		t.Fatalf("more than affinity, tolerations, annotations, gates and spread changed:\n%s", diff)
	}

	nodes := []struct {
		name   string
		labels labels.Set
	}{{name: "local"}, {"ssd", labels.Set{"disk": "ssd"}}, {"odd", labels.Set{"type": "ssd", v1alpha1.ProviderLabel: "eci"}}}
	for _, n := range s.VirtualNodes {
		nodes = append(nodes, struct {
			name   string
			labels labels.Set
		}{n.Name, n.Labels})
	}
	writes := d.Action == Wait || d.Action == Grant
	for _, n := range nodes {
		allowed := !writes || len(d.NodeSelector) == 0
		for _, alt := range d.NodeSelector {
			one := &corev1.Pod{}
			one.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{term(alt...)}}}}
			allowed = allowed || requiredOf(one).matches(n.name, n.labels)
		}
		want := requiredOf(before).matches(n.name, n.labels) && allowed
		if got := requiredOf(after).matches(n.name, n.labels); got != want {
			t.Fatalf("node %s: allowed %v, want %v (by the user %v, by the policy %v)", n.name, got, want, requiredOf(before).matches(n.name, n.labels), allowed)
		}
	}

	// A toleration never lets the pod onto a node that is not meant.
	if d.Action != Grant {
		return
	}
	for _, n := range s.VirtualNodes {
		open := toleratesAll(after.Spec.Tolerations, nil, n.HardTaints) && requiredOf(after).matches(n.Name, n.Labels)
		meant := slices.Contains(d.Nodes, n) || !n.Ready || len(d.Nodes) == 0
		if open && (!meant || len(refusalsOf(before, n)) > 0) {
			t.Fatalf("%s (%s) opens node %s, which is not meant", d.Reason, d.Mode, n.Name)
		}
	}
	for _, n := range d.Nodes {
		if !toleratesAll(after.Spec.Tolerations, nil, n.HardTaints) || !requiredOf(after).matches(n.Name, n.Labels) {
			t.Fatalf("node %s of the decision is not open", n.Name)
		}
	}
}

func preferred(pod *corev1.Pod) []corev1.PreferredSchedulingTerm {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return nil
	}
	return pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
}

func TestNeverWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		never := policyOf(v1alpha1.ModeNever, pod.Labels["app"])
		switch rapid.SampledFrom([]string{"pod", "namespace", "policy", "cluster policy"}).Draw(t, "where") {
		case "pod":
			pod.Annotations = map[string]string{v1alpha1.ModeAnnotation: "Never"}
		case "namespace":
			s.Namespaces["shop"] = Namespace{Labels: labels.Set{"team": "shop"}, Mode: v1alpha1.ModeNever}
		case "policy":
			s.Policies["shop"] = append(s.Policies["shop"], never)
		case "cluster policy":
			s.Policies[""] = append(s.Policies[""], clusterPolicyOf(v1alpha1.ModeNever, pod.Labels["app"], "shop"))
		}
		if d := Evaluate(s, "shop", pod); d.Action != StayLocal && d.Reason != OwnToleration {
			t.Fatalf("%s: %s", d.Action, d.Message)
		}
	})
}

// TestTenancy: what a tenant writes into its namespace changes nothing in
// another.
func TestTenancy(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		with := Evaluate(s, "shop", pod)
		delete(s.Policies, "bank")
		delete(s.Namespaces, "bank")
		if diff := cmp.Diff(with, Evaluate(s, "shop", pod)); diff != "" {
			t.Fatalf("policies of another namespace change the decision (-with +without):\n%s", diff)
		}
	})
}

// FuzzInject feeds pods as JSON, as the API server would, into the whole
// decision.
func FuzzInject(f *testing.F) {
	for _, file := range goldenCases(f) {
		w := readWorld(f, file)
		b, err := json.Marshal(w.pod)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(0))
	}
	modes := []v1alpha1.Mode{v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever}
	f.Fuzz(func(t *testing.T, b []byte, choose uint8) {
		pod := new(corev1.Pod)
		if json.Unmarshal(b, pod) != nil {
			return
		}
		s := shop()
		mode := modes[int(choose)%len(modes)]
		spec := v1alpha1.BurstPolicySpec{Mode: mode}
		for i, name := range []string{"eci", "aci"} {
			if choose>>(2+i)&1 == 1 {
				target := v1alpha1.Target{Name: name}
				target.NodeSelector.MatchLabels = map[string]string{v1alpha1.ProviderLabel: name}
				spec.Targets = append(spec.Targets, target)
			}
		}
		s.Policies["shop"] = []*Policy{Compile(&v1alpha1.BurstPolicy{Spec: spec})}
		for i, n := range s.VirtualNodes {
			n.Ready = choose>>(4+i)&1 == 0
		}
		for _, k := range []string{v1alpha1.PolicyAnnotation, v1alpha1.DecidedModeAnnotation, v1alpha1.ReasonAnnotation, v1alpha1.GrantAnnotation} {
			delete(pod.Annotations, k)
		}
		before := pod.DeepCopy()
		d := Evaluate(s, "shop", pod)
		once := Inject(pod, d)
		if diff := cmp.Diff(before, pod); diff != "" {
			t.Fatalf("the pod that was handed in has changed:\n%s", diff)
		}
		checkMerge(t, s, before, once, &d)
		if diff := cmp.Diff(once, Inject(once, Evaluate(s, "shop", once))); diff != "" {
			t.Fatalf("decided twice (-once +twice):\n%s", diff)
		}
	})
}
