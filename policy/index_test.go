package policy

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// scan is what the index must find: each policy asked, one after another.
func scan(ps []*Policy, ns, pod labels.Set) (decides, never *Policy) {
	for _, p := range ps {
		if !p.selectsNamespace(ns) || !p.PodSelector.Matches(pod) {
			continue
		}
		switch {
		case p.Mode == v1alpha1.ModeNever:
			if never == nil {
				never = p
			}
		case p.Invalid == "" && decides == nil:
			decides = p
		}
	}
	return decides, never
}

func TestIndexFindsWhatAScanFinds(t *testing.T) {
	keys, values := []string{"app", "tier", "track"}, []string{"", "a", "b", "c"}
	selector := rapid.Custom(func(t *rapid.T) metav1.LabelSelector {
		var s metav1.LabelSelector
		if rapid.Bool().Draw(t, "matchLabels") {
			s.MatchLabels = rapid.MapOfN(rapid.SampledFrom(keys), rapid.SampledFrom(values), 0, 2).Draw(t, "labels")
		}
		for range rapid.IntRange(0, 2).Draw(t, "expressions") {
			e := metav1.LabelSelectorRequirement{
				Key: rapid.SampledFrom(keys).Draw(t, "key"),
				Operator: rapid.SampledFrom([]metav1.LabelSelectorOperator{
					metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist, "Like",
				}).Draw(t, "operator"),
			}
			if e.Operator == metav1.LabelSelectorOpIn || e.Operator == metav1.LabelSelectorOpNotIn {
				e.Values = rapid.SliceOfN(rapid.SampledFrom(values), 1, 3).Draw(t, "values")
			}
			s.MatchExpressions = append(s.MatchExpressions, e)
		}
		return s
	})
	someLabels := rapid.MapOfN(rapid.SampledFrom(keys), rapid.SampledFrom(values), 0, 3)

	rapid.Check(t, func(t *rapid.T) {
		modes := []v1alpha1.Mode{v1alpha1.ModeOverflow, v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeNever}
		var own, cluster []*Policy
		for i := range rapid.IntRange(0, 12).Draw(t, "policies") {
			p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprint("p", i)}}
			p.Spec.Mode = rapid.SampledFrom(modes).Draw(t, "mode")
			p.Spec.PodSelector = selector.Draw(t, "podSelector")
			own = append(own, Compile(p))
		}
		for i := range rapid.IntRange(0, 12).Draw(t, "cluster policies") {
			p := &v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("c", i)}}
			p.Spec.Mode = rapid.SampledFrom(modes).Draw(t, "mode")
			p.Spec.PodSelector = selector.Draw(t, "podSelector")
			p.Spec.NamespaceSelector = selector.Draw(t, "namespaceSelector")
			cluster = append(cluster, Compile(p))
		}
		ns := Namespace{Labels: someLabels.Draw(t, "labels of the namespace")}
		pod := labels.Set(someLabels.Draw(t, "labels of the pod"))

		index := NewIndex(map[string][]*Policy{"shop": own, "": cluster}, map[string]Namespace{"shop": ns}).namespace("shop")
		for name, set := range map[string]struct {
			policies []*Policy
			index    *ranked
		}{"own": {own, &index.own}, "cluster": {cluster, &index.cluster}} {
			decides, never := scan(set.policies, ns.Labels, pod)
			if got := set.index.others.first(pod); got != decides {
				t.Errorf("%s: %v decides, want %v", name, got, decides)
			}
			if got := set.index.never.first(pod); got != never {
				t.Errorf("%s: %v forbids, want %v", name, got, never)
			}
		}
	})
}
