package admission

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Whatever the policies, virtual nodes and pods, the API server and the webhook
// write the same, and a second time nothing.
func TestEqualsTheWebhookOnAnything(t *testing.T) {
	server, schema := newAPIServer(t), newSchema(t)
	written := 0
	rapid.Check(t, func(t *rapid.T) {
		s, _ := policy.NewSnapshot(drawObjects(t))
		s.Stopped, s.AdmissionByPolicy = oneIn(5).Draw(t, "stopped"), true
		params := policy.Params(s)
		valid(t, schema, params)
		pod := drawPod(t)
		want, d := inject(s, "shop", pod)
		got, err := server.admit(t.Context(), params, "shop", pod)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decided %s %s: %s (-webhook +API server):\n%s", d.Action, d.Reason, d.Message, diff)
		}
		if want == pod {
			return
		}
		written++
		again, err := server.admit(t.Context(), params, "shop", got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Fatalf("a second call changes the pod (-once +twice):\n%s", diff)
		}
	})
	if written == 0 && !t.Failed() {
		t.Error("no pod was written to: the test compares nothing")
	}
}

func oneIn(n int) *rapid.Generator[bool] {
	return rapid.Map(rapid.IntRange(1, n), func(i int) bool { return i == 1 })
}

var (
	keys      = rapid.SampledFrom([]string{"app", "tier", "a.b/c"})
	values    = rapid.SampledFrom([]string{"web", "gold", "", "it's"})
	labelSets = rapid.MapOfN(keys, rapid.SampledFrom([]string{"web", "gold", ""}), 0, 3)
	modes     = rapid.SampledFrom([]v1alpha1.Mode{v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever})

	nodeLabels = rapid.Custom(func(t *rapid.T) map[string]string {
		return map[string]string{
			"type":                  "virtual-kubelet",
			"autoburst.io/provider": rapid.SampledFrom([]string{"eci", "aci"}).Draw(t, "provider"),
			"size":                  rapid.SampledFrom([]string{"4", "16", "large"}).Draw(t, "size"),
		}
	})
)

// drawSelector is a label selector over keys, sometimes one that is no selector.
func drawSelector(t *rapid.T, name string) metav1.LabelSelector {
	s := metav1.LabelSelector{}
	if oneIn(2).Draw(t, name+" has labels") {
		s.MatchLabels = rapid.MapOfN(keys, values, 1, 1).Draw(t, name)
	}
	for i := range rapid.IntRange(0, 1).Draw(t, name+" expressions") {
		e := metav1.LabelSelectorRequirement{
			Key: keys.Draw(t, fmt.Sprintf("%s key %d", name, i)),
			Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{
				metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist,
			}).Draw(t, name+" operator"),
		}
		if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
			e.Values = rapid.SliceOfN(values, 1, 2).Draw(t, name+" values")
		}
		s.MatchExpressions = append(s.MatchExpressions, e)
	}
	return s
}

func drawPolicy(t *rapid.T, name string) v1alpha1.BurstPolicySpec {
	spec := v1alpha1.BurstPolicySpec{
		Priority:    int32(rapid.IntRange(0, 2).Draw(t, name+" priority")),
		PodSelector: drawSelector(t, name+" pods"),
		Mode:        modes.Draw(t, name+" mode"),
	}
	if oneIn(3).Draw(t, name+" overflow") {
		spec.Overflow = &v1alpha1.Overflow{AfterPendingSeconds: int32(rapid.IntRange(0, 1).Draw(t, name+" wait"))}
		if oneIn(2).Draw(t, name+" pressure") {
			spec.Overflow.Pressure = &v1alpha1.Pressure{UnschedulablePods: 1}
		}
		if oneIn(2).Draw(t, name+" names an order") {
			spec.Overflow.NodeAutoscaler = rapid.SampledFrom([]v1alpha1.NodeAutoscaler{v1alpha1.BurstFirst, v1alpha1.NodeFirst}).Draw(t, name+" order")
		}
	}
	if oneIn(6).Draw(t, name+" limited") {
		spec.Limits = &v1alpha1.Limits{Pods: ptr.To(int32(3))}
	}
	if oneIn(8).Draw(t, name+" keeps local") {
		spec.KeepLocal = ptr.To(intstr.FromInt32(1))
	}
	for i := range rapid.IntRange(0, 3).Draw(t, name+" targets") {
		target := v1alpha1.Target{Name: fmt.Sprint(i)}
		switch rapid.IntRange(0, 2).Draw(t, fmt.Sprintf("%s target %d", name, i)) {
		case 0:
			target.NodeSelector.MatchLabels = map[string]string{"autoburst.io/provider": "eci"}
		case 1:
			target.NodeSelector.MatchLabels = map[string]string{"autoburst.io/provider": "aci"}
		case 2:
			target.NodeSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "size", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"large"}}}
		}
		spec.Targets = append(spec.Targets, target)
	}
	return spec
}

func drawObjects(t *rapid.T) policy.Objects {
	o := policy.Objects{Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: labelSets.Draw(t, "namespace labels")}}}}
	if oneIn(2).Draw(t, "annotated") {
		o.Namespaces[0].Annotations = map[string]string{
			v1alpha1.ModeAnnotation: rapid.SampledFrom([]string{"Overflow", "Always", "Auto", "Never", "Sometimes"}).Draw(t, "namespace mode"),
		}
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "own policies") {
		name := fmt.Sprintf("own-%d", i)
		p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: drawPolicy(t, name)}
		for _, target := range p.Spec.Targets {
			if oneIn(4).Draw(t, name+" suspends target "+target.Name) {
				p.Status.Targets = append(p.Status.Targets, v1alpha1.TargetStatus{Name: target.Name, SuspendedUntil: new(metav1.Time), Reason: "Its cloud is out of stock."})
			}
		}
		o.Policies = append(o.Policies, p)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "cluster policies") {
		name := fmt.Sprintf("cluster-%d", i)
		o.ClusterPolicies = append(o.ClusterPolicies, &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterBurstPolicySpec{
			BurstPolicySpec: drawPolicy(t, name), NamespaceSelector: drawSelector(t, name+" namespaces"),
		}})
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "virtual nodes") {
		name := fmt.Sprintf("virtual-%d", i)
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: nodeLabels.Draw(t, name)}}
		n.Spec.Taints = rapid.SliceOfNDistinct(rapid.SampledFrom(taints), 0, 3, func(t corev1.Taint) string { return t.ToString() }).Draw(t, name+" taints")
		if !oneIn(4).Draw(t, name+" down") {
			n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		}
		if oneIn(4).Draw(t, name+" has no capacity") {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
				Type: v1alpha1.CapacityAvailableCondition, Status: corev1.ConditionFalse, Reason: "OutOfStock",
			})
		}
		if c := rapid.SampledFrom([]*burstable.Capabilities{nil, {Provider: "none"}, {Provider: "all", Features: burstable.Features}}).Draw(t, name+" capabilities"); c != nil {
			n.Annotations = map[string]string{v1alpha1.CapabilitiesAnnotation: c.String()}
		}
		o.Nodes = append(o.Nodes, n)
	}
	return o
}

var taints = []corev1.Taint{
	{Key: v1alpha1.ProviderTaintKey, Value: "azure", Effect: corev1.TaintEffectNoSchedule},
	{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule},
	{Key: "alibabacloud.com/eci", Effect: corev1.TaintEffectNoSchedule},
	{Key: "dedicated", Value: "shop", Effect: corev1.TaintEffectNoExecute},
	{Key: "autoburst.io/last-resort-1", Effect: corev1.TaintEffectPreferNoSchedule},
	{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoSchedule},
}

func drawRequirement(t *rapid.T, name string) corev1.NodeSelectorRequirement {
	r := corev1.NodeSelectorRequirement{
		Key: rapid.SampledFrom([]string{"type", "autoburst.io/provider", "size", "disk"}).Draw(t, name+" key"),
		Operator: rapid.SampledFrom([]corev1.NodeSelectorOperator{
			corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn, corev1.NodeSelectorOpExists, corev1.NodeSelectorOpDoesNotExist,
			corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt,
		}).Draw(t, name+" operator"),
	}
	switch r.Operator {
	case corev1.NodeSelectorOpIn, corev1.NodeSelectorOpNotIn:
		r.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"virtual-kubelet", "eci", "16"}), 1, 2).Draw(t, name+" values")
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		r.Values = []string{"8"}
	}
	return r
}

func drawPod(t *rapid.T) *corev1.Pod {
	p := admitted()
	p.Labels = labelSets.Draw(t, "pod labels")
	p.Annotations = rapid.MapOfN(
		rapid.SampledFrom([]string{v1alpha1.ModeAnnotation, v1alpha1.PolicyAnnotation, v1alpha1.GrantAnnotation, "team"}),
		rapid.SampledFrom([]string{"Overflow", "Always", "Auto", "Never", "Sometimes"}), 0, 2).Draw(t, "pod annotations")
	if len(p.Annotations) == 0 {
		p.Annotations = nil
	}
	if len(p.Labels) == 0 {
		p.Labels = nil
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "tolerations") {
		taint := rapid.SampledFrom(taints).Draw(t, fmt.Sprintf("tolerated %d", i))
		toleration := corev1.Toleration{Key: taint.Key, Value: taint.Value, Effect: taint.Effect}
		switch rapid.IntRange(0, 3).Draw(t, fmt.Sprintf("toleration %d", i)) {
		case 0:
			toleration = corev1.Toleration{Key: taint.Key, Operator: corev1.TolerationOpExists}
		case 1:
			toleration.Operator = corev1.TolerationOpEqual
		case 2:
			toleration.Effect, toleration.TolerationSeconds = corev1.TaintEffectNoExecute, ptr.To(int64(5))
		}
		p.Spec.Tolerations = append(p.Spec.Tolerations, toleration)
	}
	if oneIn(4).Draw(t, "selects nodes") {
		p.Spec.NodeSelector = map[string]string{"size": "16"}
	}
	if oneIn(3).Draw(t, "has affinity") {
		p.Spec.Affinity = &corev1.Affinity{}
		if oneIn(2).Draw(t, "has node affinity") {
			p.Spec.Affinity.NodeAffinity = &corev1.NodeAffinity{}
			if oneIn(3).Draw(t, "prefers nodes") {
				p.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution = []corev1.PreferredSchedulingTerm{{
					Weight: 7, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{drawRequirement(t, "preference")}},
				}}
			}
			var terms []corev1.NodeSelectorTerm
			for i := range rapid.IntRange(0, 2).Draw(t, "terms") {
				term := corev1.NodeSelectorTerm{}
				for j := range rapid.IntRange(0, 2).Draw(t, fmt.Sprintf("term %d", i)) {
					term.MatchExpressions = append(term.MatchExpressions, drawRequirement(t, fmt.Sprintf("term %d.%d", i, j)))
				}
				if oneIn(3).Draw(t, fmt.Sprintf("term %d has fields", i)) {
					term.MatchFields = []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"virtual-1"}}}
				}
				terms = append(terms, term)
			}
			if len(terms) > 0 {
				p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution = &corev1.NodeSelector{NodeSelectorTerms: terms}
			}
		}
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "spread constraints") {
		name := fmt.Sprintf("spread %d", i)
		c := corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: rapid.SampledFrom([]string{"size", "zone"}).Draw(t, name),
			WhenUnsatisfiable: rapid.SampledFrom([]corev1.UnsatisfiableConstraintAction{corev1.DoNotSchedule, corev1.ScheduleAnyway}).Draw(t, name+" is hard"),
		}
		if oneIn(3).Draw(t, name+" sees taints") {
			c.NodeTaintsPolicy = ptr.To(corev1.NodeInclusionPolicyIgnore)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
	if oneIn(4).Draw(t, "asks for a feature") {
		p.Spec.Containers[0].WorkingDir = "/srv"
	}
	return p
}
