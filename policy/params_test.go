package policy

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// What the API server is told, for some of the golden cases of Evaluate. That it
// decides by it as Evaluate does is tested in package policy/admission.
func TestParams(t *testing.T) {
	for _, name := range []string{
		"admission-by-policy-limited",
		"invalid-namespace-mode-policy-before",
		"local-first-targets-of-one-taint",
		"never-policy-below-others",
		"no-ready-node-auto",
		"precedence-priority",
		"pressure-closed",
		"stopped-always",
	} {
		t.Run(name, func(t *testing.T) {
			w := readWorld(t, filepath.Join("testdata", "golden", name+".yaml"))
			params := Params(w.snapshot)
			got, err := yaml.Marshal(params)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "params", name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			w.snapshot.Index = nil
			if diff := cmp.Diff(params, Params(w.snapshot)); diff != "" {
				t.Errorf("equal snapshots give other params:\n%s", diff)
			}
		})
	}
}

// A policy that reaches many namespaces is told once, a namespace that nothing
// opts in not at all.
func TestParamsShareRules(t *testing.T) {
	s := &Snapshot{Namespaces: map[string]Namespace{}, Policies: map[string][]*Policy{"": {Compile(&v1alpha1.ClusterBurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "gold"},
		Spec:       v1alpha1.ClusterBurstPolicySpec{NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}},
	})}}, Excluded: map[string]bool{"system": true}}
	for name, ns := range map[string]Namespace{
		"a": {Labels: map[string]string{"tier": "gold"}}, "b": {Labels: map[string]string{"tier": "gold"}, Mode: v1alpha1.ModeAuto},
		"c": {}, "d": {Mode: v1alpha1.ModeAuto}, "e": {Labels: map[string]string{"tier": "gold"}, Mode: v1alpha1.ModeNever},
		"system": {Mode: v1alpha1.ModeAuto},
	} {
		s.Namespaces[name] = ns
	}
	got := Params(s)
	const pods = 3 // rules of the pod's annotation
	want := map[string][]int32{"a": {pods}, "b": {pods + 1, pods}, "d": {pods + 1}}
	if diff := cmp.Diff(want, got.Namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if len(got.Rules) != pods+2 {
		t.Errorf("there are %d rules, want %d", len(got.Rules), pods+2)
	}
}
