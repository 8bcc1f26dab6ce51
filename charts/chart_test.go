// Package charts holds the Helm charts. Its tests need no Helm: they compare the
// files of a chart with each other and with what they were made from.
package charts

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/autoburst/autoburst/policy/burstable"
)

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

type schema struct {
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties any                `json:"additionalProperties"`
}

// TestValuesAreDocumented wants a comment right above every key of values.yaml,
// and the same keys in the schema, which must refuse all others.
func TestValuesAreDocumented(t *testing.T) {
	var document yaml.Node
	if err := yaml.Unmarshal(read(t, "autoburst/values.yaml"), &document); err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(read(t, "autoburst/values.schema.json"), &root); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, node *yaml.Node, s *schema)
	walk = func(path string, node *yaml.Node, s *schema) {
		if node.Kind != yaml.MappingNode || s == nil || s.Properties == nil {
			return
		}
		if path != ".global" && s.AdditionalProperties != false { // Helm shares global with other charts
			t.Errorf("%s: the schema allows unknown keys", path)
		}
		var keys []string
		for i := 0; i < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			keys = append(keys, key.Value)
			below := s.Properties[key.Value]
			section := value.Kind == yaml.MappingNode && below != nil && below.Properties != nil
			if key.HeadComment == "" && !section {
				t.Errorf("values.yaml:%d: %s.%s is not documented", key.Line, path, key.Value)
			}
			walk(path+"."+key.Value, value, below)
		}
		var declared []string
		for key := range s.Properties {
			declared = append(declared, key)
		}
		slices.Sort(keys)
		slices.Sort(declared)
		if diff := cmp.Diff(keys, declared); diff != "" {
			t.Errorf("keys of %s (-values.yaml +schema):\n%s", path, diff)
		}
	}
	walk("", document.Content[0], &root)
}

// TestWaivableFields wants the fields in the schema that the agent knows.
func TestWaivableFields(t *testing.T) {
	var root struct {
		Properties struct {
			VirtualNodes struct {
				Items struct {
					Properties struct {
						Waive struct {
							Items struct{ Enum []string }
						}
					}
				}
			}
		}
	}
	if err := json.Unmarshal(read(t, "autoburst/values.schema.json"), &root); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(burstable.Waivable(), root.Properties.VirtualNodes.Items.Properties.Waive.Items.Enum); diff != "" {
		t.Errorf("fields that can be waived (-agent +schema):\n%s", diff)
	}
}

// TestCustomResourceDefinitionsAreCurrent compares the chart's copies with what
// is generated from the types.
func TestCustomResourceDefinitionsAreCurrent(t *testing.T) {
	contents := func(dir string) map[string]string {
		files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		all := map[string]string{}
		for _, f := range files {
			all[filepath.Base(f)] = string(read(t, f))
		}
		return all
	}
	chart := contents("autoburst/files/crds")
	if diff := cmp.Diff(contents("../policy/v1alpha1/crds"), chart); diff != "" {
		t.Errorf("run make generate (-generated +chart):\n%s", diff)
	}
	// The template adds its label and annotation at these two lines.
	for name, text := range chart {
		for _, line := range []string{"metadata:", "  annotations:"} {
			if n := strings.Count("\n"+text, fmt.Sprintf("\n%s\n", line)); n != 1 {
				t.Errorf("%s has the line %q %d times, and the template needs it once", name, line, n)
			}
		}
	}
}

// TestExpressionsAreCurrent compares the chart's copy of the expressions by which
// the API server admits pods with those that are tested.
func TestExpressionsAreCurrent(t *testing.T) {
	if diff := cmp.Diff(string(read(t, "../policy/admission/mutation.yaml")), string(read(t, "autoburst/files/admission/mutation.yaml"))); diff != "" {
		t.Errorf("run make generate (-tested +chart):\n%s", diff)
	}
}
