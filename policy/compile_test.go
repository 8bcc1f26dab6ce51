package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestCompileInvalid(t *testing.T) {
	bad := metav1.LabelSelector{MatchLabels: map[string]string{"app": "!"}}
	badOperator := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Near"}}}
	minus := int32(-1)
	for name, c := range map[string]struct {
		spec       v1alpha1.BurstPolicySpec
		namespaces metav1.LabelSelector
		want       string // how Invalid begins; "" for valid
		selects    bool
	}{
		"empty":                 {selects: true},
		"mode":                  {spec: v1alpha1.BurstPolicySpec{Mode: "Sometimes"}, want: `spec.mode: "Sometimes"`, selects: true},
		"pod selector":          {spec: v1alpha1.BurstPolicySpec{PodSelector: bad}, want: "spec.podSelector: "},
		"pod selector operator": {spec: v1alpha1.BurstPolicySpec{PodSelector: badOperator}, want: "spec.podSelector: "},
		"pod selector of Never": {spec: v1alpha1.BurstPolicySpec{Mode: v1alpha1.ModeNever, PodSelector: bad}, want: "spec.podSelector: ", selects: true},
		"namespace selector":    {namespaces: bad, want: "spec.namespaceSelector: "},
		"after pending":         {spec: v1alpha1.BurstPolicySpec{Overflow: &v1alpha1.Overflow{AfterPendingSeconds: -1}}, want: "spec.overflow.afterPendingSeconds: ", selects: true},
		"unschedulable pods":    {spec: v1alpha1.BurstPolicySpec{Overflow: &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: -1}}}, want: "spec.overflow.pressure.unschedulablePods: ", selects: true},
		"for":                   {spec: v1alpha1.BurstPolicySpec{Overflow: &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{ForSeconds: -1}}}, want: "spec.overflow.pressure.forSeconds: ", selects: true},
		"cooldown":              {spec: v1alpha1.BurstPolicySpec{Overflow: &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{CooldownSeconds: &minus}}}, want: "spec.overflow.pressure.cooldownSeconds: ", selects: true},
		"target selector":       {spec: v1alpha1.BurstPolicySpec{Targets: []v1alpha1.Target{{Name: "a"}, {Name: "b", NodeSelector: bad}}}, want: "spec.targets[1].nodeSelector: ", selects: true},
		"target name":           {spec: v1alpha1.BurstPolicySpec{Targets: []v1alpha1.Target{{Name: "a"}, {Name: "a"}}}, want: "spec.targets[1].name: ", selects: true},
		"the first is told":     {spec: v1alpha1.BurstPolicySpec{Mode: "Sometimes", PodSelector: bad}, want: "spec.mode: "},
	} {
		t.Run(name, func(t *testing.T) {
			b := Compile(&v1alpha1.ClusterBurstPolicy{Spec: v1alpha1.ClusterBurstPolicySpec{BurstPolicySpec: c.spec, NamespaceSelector: c.namespaces}})
			if c.want == "" && b.Invalid != "" || !strings.HasPrefix(b.Invalid, c.want) {
				t.Errorf("got %q, want %q", b.Invalid, c.want)
			}
			web := labels.Set{"app": "web"}
			if got := b.PodSelector.Matches(web) && b.selectsNamespace(web); got != c.selects {
				t.Errorf("selects: got %v, want %v", got, c.selects)
			}
		})
	}
}

func TestCompile(t *testing.T) {
	got := Compile(&v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
		Spec: v1alpha1.BurstPolicySpec{
			Priority: 7,
			Overflow: &v1alpha1.Overflow{AfterPendingSeconds: 30, Pressure: &v1alpha1.Pressure{UnschedulablePods: 3}},
			Targets: []v1alpha1.Target{{Name: "eci", NodeSelector: metav1.LabelSelector{
				MatchLabels:      map[string]string{"zone": "b", v1alpha1.ProviderLabel: "eci"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "gpu", Operator: metav1.LabelSelectorOpDoesNotExist}},
			}}},
		},
	})
	type plain struct {
		Ref          Ref
		Mode         v1alpha1.Mode
		Priority     int32
		After        int32
		Pressure     bool
		Open         bool
		Requirements []corev1.NodeSelectorRequirement
	}
	want := plain{
		Ref{KindPolicy, "shop", "web"}, v1alpha1.ModeOverflow, 7, 30, true, false,
		[]corev1.NodeSelectorRequirement{
			requirement(v1alpha1.ProviderLabel, corev1.NodeSelectorOpIn, "eci"),
			requirement("zone", corev1.NodeSelectorOpIn, "b"),
			requirement("gpu", corev1.NodeSelectorOpDoesNotExist),
		},
	}
	if diff := cmp.Diff(want, plain{got.Ref, got.Mode, got.Priority, got.AfterPendingSeconds, got.HasPressure, got.PressureOpen, got.Targets[0].Requirements}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if !got.Targets[0].Selector.Matches(labels.Set{"zone": "b", v1alpha1.ProviderLabel: "eci"}) {
		t.Error("the target does not select its node")
	}
}

func TestLess(t *testing.T) {
	ps := []*Policy{
		{Ref: Ref{Name: "b"}}, {Ref: Ref{Name: "low"}, Priority: -5}, {Ref: Ref{Name: "a"}}, {Ref: Ref{Name: "high"}, Priority: 5},
	}
	slices.SortFunc(ps, func(a, b *Policy) int {
		if Less(a, b) {
			return -1
		}
		return 1
	})
	var got []string
	for _, p := range ps {
		got = append(got, p.Ref.Name)
	}
	if diff := cmp.Diff([]string{"high", "a", "b", "low"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
