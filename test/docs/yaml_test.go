package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/test/cluster"
)

// wrappers are the objects that parts of YAML belong to: what stands around the
// part, which is not indented.
var wrappers = map[string]string{
	"BurstPolicy": "apiVersion: autoburst.io/v1alpha1\nkind: BurstPolicy\nmetadata: {name: part}\n",
	"Job": "apiVersion: batch/v1\nkind: Job\nmetadata: {name: part}\nspec:\n" +
		"  template: {spec: {restartPolicy: Never, containers: [{name: a, image: nginx}]}}\n",
	"Pod":       "apiVersion: v1\nkind: Pod\nmetadata: {name: part}\nspec: {containers: [{name: a, image: nginx}]}\n",
	"Namespace": "apiVersion: v1\nkind: Namespace\nmetadata: {name: part}\n",
}

// Every object in the documentation is taken by the API server, in strict
// validation, and every piece of chart values by the chart.
func TestYAML(t *testing.T) {
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, p := range all {
		t.Run(p.path, func(t *testing.T) {
			for _, b := range p.blocks {
				if b.language != "yaml" {
					continue
				}
				if _, not := b.remarks["not run"]; not {
					continue
				}
				kind, err := check(t.Context(), t.TempDir(), b)
				if err != nil {
					t.Errorf("%s: %v\n%s", b, err, b.text)
				}
				counts[kind]++
			}
		})
	}
	t.Logf("pieces: %v", counts)
}

func TestWrongYAMLIsFound(t *testing.T) {
	for name, b := range map[string]block{
		"no YAML":         {text: "a: b: c"},
		"field":           {text: "apiVersion: autoburst.io/v1alpha1\nkind: BurstPolicy\nmetadata: {name: a}\nspec: {nonsense: 1}\n"},
		"value":           {text: "apiVersion: autoburst.io/v1alpha1\nkind: BurstPolicy\nmetadata: {name: a}\nspec: {mode: Sometimes}\n"},
		"part":            {text: "spec: {keepLocal: -1}", remarks: map[string]string{"in": "BurstPolicy"}},
		"part of nothing": {text: "spec: {keepLocal: 1}", remarks: map[string]string{"in": "Nonsense"}},
		"case":            {text: "want: {nonsense: 1}", remarks: map[string]string{"in": "case"}},
		"chart values":    {text: "vnode: {nonsense: 1}"},
	} {
		if _, err := check(t.Context(), t.TempDir(), b); err == nil {
			t.Errorf("%s passes:\n%s", name, b.text)
		}
	}
}

// check tells whether a piece of YAML is "values", "objects" or "cases", and what is
// wrong with it.
func check(ctx context.Context, dir string, b block) (kind string, err error) {
	text := b.text
	if in, ok := b.remarks["in"]; in == "case" {
		return "cases", checkCase(ctx, dir, text)
	} else if ok {
		if text, err = wrap(in, text); err != nil {
			return "objects", err
		}
	} else if !strings.Contains(text, "apiVersion:") {
		return "values", checkValues(ctx, dir, text)
	}
	// Namespaced objects that name no namespace go where the page's pods are.
	var documents []string
	for _, document := range strings.Split(text, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(document), &u.Object); err != nil {
			return "objects", err
		}
		documents = append(documents, document)
	}
	_, err = system.Kubectl(ctx, strings.Join(documents, "\n---\n"),
		"apply", "--dry-run=server", "--validate=strict", "-f", "-")
	return "objects", err
}

func checkValues(ctx context.Context, dir, text string) error {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict([]byte(text), &values); err != nil {
		return err
	}
	// A page that tells of one setting leaves out what every virtual node needs.
	nodes, _ := values["virtualNodes"].([]any)
	for _, n := range nodes {
		node, ok := n.(map[string]any)
		if !ok {
			return fmt.Errorf("an entry of virtualNodes is %v", n)
		}
		for key, value := range map[string]any{
			"credentials": map[string]any{"existingSecret": "credentials"},
			"eci":         map[string]any{"region": "cn-hangzhou", "vSwitch": "vsw-1", "securityGroup": "sg-1"},
			"aci":         map[string]any{"region": "japaneast", "resourceGroup": "aci-group"},
		} {
			if _, has := node[key]; !has && (key == "credentials" || key == node["provider"]) {
				node[key] = value
			}
		}
	}
	whole, err := yaml.Marshal(values)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(file, whole, 0o644); err != nil {
		return err
	}
	_, err = system.Helm(ctx, "template", "autoburst", filepath.Join(root, "charts", "autoburst"), "--values", file)
	return err
}

// checkCase lets the plugin read what a case of a suite wants. That the case fails is
// no error, as its object is an example.
func checkCase(ctx context.Context, dir, text string) error {
	const object = "\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec:\n" +
		"  selector: {matchLabels: {app: web}}\n" +
		"  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: nginx}]}}\n"
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "case.yaml"), []byte(text+object), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, system.Plugin(), "simulate", "--suite="+dir,
		"--policies="+filepath.Join(root, "cmd", "kubectl-autoburst", "testdata", "policies"))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == 1 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kubectl autoburst simulate: %w: %s", err, out)
	}
	return nil
}

// wrap puts a part into the object that it belongs to.
func wrap(in, part string) (string, error) {
	around, ok := wrappers[in]
	if !ok {
		var known []string
		for name := range wrappers {
			known = append(known, name)
		}
		slices.Sort(known)
		return "", fmt.Errorf("no object is known around a part of %s, only around those of %s", in, strings.Join(known, ", "))
	}
	var whole, piece map[string]any
	if err := yaml.UnmarshalStrict([]byte(around), &whole); err != nil {
		return "", err
	}
	if err := yaml.UnmarshalStrict([]byte(part), &piece); err != nil {
		return "", err
	}
	text, err := yaml.Marshal(merge(whole, piece))
	return string(text), err
}

func merge(whole, piece map[string]any) map[string]any {
	for key, value := range piece {
		inner, ok := whole[key].(map[string]any)
		more, both := value.(map[string]any)
		if ok && both {
			whole[key] = merge(inner, more)
			continue
		}
		whole[key] = value
	}
	return whole
}
