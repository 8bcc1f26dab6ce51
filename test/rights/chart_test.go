package rights

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func open(t *testing.T) *Chart {
	t.Helper()
	chart, err := Open(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return chart
}

func TestNoRuleIsWide(t *testing.T) {
	chart := open(t)
	for _, way := range settings {
		name := strings.Join(way.set, ",")
		all, err := chart.Grants(t.Context(), way.set...)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) < 20 {
			t.Fatalf("%s: only %d rules were found", name, len(all))
		}
		for _, g := range all {
			if g.Why == "" {
				t.Errorf("%s: %s: the rule for %v has no comment that says why", name, g.Role, g.Rule.Resources)
			}
			for _, list := range [][]string{g.Rule.APIGroups, g.Rule.Resources, g.Rule.Verbs, g.Rule.ResourceNames} {
				if slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, "*") }) {
					t.Errorf("%s: %s has a wildcard: %s", name, g.Role, g.Rule.String())
				}
			}
			for _, verb := range []string{"escalate", "bind", "impersonate", "approve", "sign", "deletecollection"} {
				if slices.Contains(g.Rule.Verbs, verb) {
					t.Errorf("%s: %s may %s: %s", name, g.Role, verb, g.Rule.String())
				}
			}
			if slices.Contains(g.Rule.APIGroups, "rbac.authorization.k8s.io") {
				t.Errorf("%s: %s has rights over rights: %s", name, g.Role, g.Rule.String())
			}
		}
	}
}

func TestSecretsAreReadWhereTheyAreNeeded(t *testing.T) {
	chart := open(t)
	for name, test := range map[string]struct {
		set  []string
		want []string // of the agents
	}{
		"no namespaces":  {nil, []string{"get everywhere"}},
		"two namespaces": {[]string{"vnode.workloadNamespaces={shop,bank}"}, []string{"get in bank", "get in shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := chart.Grants(t.Context(), test.set...)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, g := range all {
				if !slices.Contains(g.Rule.Resources, "secrets") {
					continue
				}
				switch {
				case g.Account == release+"-vnode" && g.Bound == "":
					got = append(got, strings.Join(g.Rule.Verbs, ",")+" everywhere")
				case g.Account == release+"-vnode":
					got = append(got, strings.Join(g.Rule.Verbs, ",")+" in "+g.Bound)
				case g.Bound != namespace:
					t.Errorf("%s may %v Secrets outside the namespace of the release", g.Account, g.Rule.Verbs)
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Secrets that agents may read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPageIsCurrent(t *testing.T) {
	want, err := open(t).Page(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(root + "/docs/permissions.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("run make generate (-generated +page):\n%s", diff)
	}
}
