package docs

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cluster"
)

// The RAM policy allows each action of ECI that the provider asks for, and no other.
func TestPolicyOfRAM(t *testing.T) {
	var policy struct {
		Statement []struct{ Action []string }
	}
	account(t, `"Statement"`, &policy)
	var got []string
	for _, s := range policy.Statement {
		got = append(got, s.Action...)
	}
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	texts, err := literals(root, "providers/eci")
	if err != nil {
		t.Fatal(err)
	}
	action := regexp.MustCompile(`^(Create|Delete|Update|Describe|List|Exec)[A-Z][A-Za-z]+$`)
	want := map[string]bool{}
	for _, text := range texts {
		if action.MatchString(text) {
			want["eci:"+text] = true
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), got); diff != "" {
		t.Errorf("the policy is not what the provider needs (-needs +allows):\n%s", diff)
	}
}

// The role of Azure allows each operation on container groups that the provider asks
// for, and no other.
func TestRoleOfAzure(t *testing.T) {
	const groups = "Microsoft.ContainerInstance/containerGroups/"
	// What each call of the SDK needs, by client and method (the vendor's list of
	// operations of Microsoft.ContainerInstance).
	needs := map[string]string{
		"groups.BeginCreateOrUpdate": groups + "write",
		"groups.BeginDelete":         groups + "delete",
		"groups.Get":                 groups + "read",
		"containers.ListLogs":        groups + "containers/logs/read",
		"containers.ExecuteCommand":  groups + "containers/exec/action",
		"containers.Attach":          groups + "containers/attach/action",
	}
	// On the subscription, and so in no role of a resource group.
	elsewhere := []string{"location.NewListUsagePager"}

	want := map[string]bool{"Microsoft.Insights/metrics/read": true}
	for _, call := range sdkCalls(t, "providers/aci", "groups", "containers", "location") {
		if slices.Contains(elsewhere, call) {
			continue
		}
		if needs[call] == "" {
			t.Errorf("nobody knows what right %s needs", call)
		}
		want[needs[call]] = true
	}
	var role struct{ Actions []string }
	account(t, `"AssignableScopes"`, &role)
	slices.Sort(role.Actions)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), role.Actions); diff != "" {
		t.Errorf("the role is not what the provider needs (-needs +allows):\n%s", diff)
	}
}

// account reads the piece of JSON with that word in it from the page about accounts.
func account(t *testing.T, word string, into any) {
	t.Helper()
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, b := range p.blocks {
			if p.path == "docs/cloud-accounts.md" && b.language == "json" && strings.Contains(b.text, word) {
				if err := json.Unmarshal([]byte(b.text), into); err != nil {
					t.Fatalf("%s: %v", b, err)
				}
				return
			}
		}
	}
	t.Fatalf("docs/cloud-accounts.md has no JSON with %s", word)
}

// sdkCalls are the methods that a package calls on fields of those names, as
// field.method.
func sdkCalls(t *testing.T, folder string, fields ...string) []string {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	calls := map[string]bool{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if method, ok := n.(*ast.SelectorExpr); ok {
				if field, ok := method.X.(*ast.SelectorExpr); ok && slices.Contains(fields, field.Sel.Name) && method.Sel.IsExported() {
					calls[field.Sel.Name+"."+method.Sel.Name] = true
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(calls))
}
