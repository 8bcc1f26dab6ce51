package helm

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"sigs.k8s.io/yaml"
)

const folder = "../../charts/autoburst"

// loaded is the chart, with a file of each kind that others write.
func loaded(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.LoadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	c.Files = append(c.Files,
		&chart.File{Name: "files/rules/test.yaml", Data: []byte("groups:\n- name: test\n  rules:\n  - alert: Test\n    annotations: {summary: 'it is {{ $labels.node }}'}\n")},
		&chart.File{Name: "files/dashboards/test.json", Data: []byte(`{"title": "{{instance}}"}`)})
	return c
}

// render returns all that Helm makes of the chart, or why it refuses.
func render(c *chart.Chart, values map[string]any) (string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "autoburst", Namespace: "autoburst-system", IsInstall: true}, capabilities)
	if err != nil {
		return "", err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(path, "NOTES.txt") {
			fmt.Fprintf(&b, "# %s\n%s\n", path, files[path])
		}
	}
	return b.String(), nil
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, text []byte) map[string]any {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values
}

// bases are the sets of values that others are changed in: those of the folder ci and
// values-ha.yaml.
func bases(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := filepath.Glob(folder + "/ci/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in ci: %v", err)
	}
	all := map[string]map[string]any{"none": {}}
	for _, f := range append(files, folder+"/values-ha.yaml") {
		all[filepath.Base(f)] = parse(t, read(t, f))
	}
	return all
}

// with returns the values with one of them changed.
func with(values map[string]any, path []string, value any) map[string]any {
	changed := maps.Clone(values)
	if changed == nil {
		changed = map[string]any{}
	}
	if len(path) == 1 {
		changed[path[0]] = value
		return changed
	}
	below, _ := changed[path[0]].(map[string]any)
	changed[path[0]] = with(below, path[1:], value)
	return changed
}

// leaves calls f for every value that is not a section, with its path. A section is a
// mapping whose keys the schema knows.
func leaves(schema, values map[string]any, path []string, f func(path []string, value any)) {
	properties, _ := schema["properties"].(map[string]any)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		at := append(slices.Clone(path), key)
		below, _ := properties[key].(map[string]any)
		section, ok := values[key].(map[string]any)
		if known, _ := below["properties"].(map[string]any); ok && len(known) > 0 {
			leaves(below, section, at, f)
			continue
		}
		f(at, values[key])
	}
}

// every is a value of a kind that its key asks for, other than the default.
var every = map[string]any{
	"admission": "MutatingAdmissionPolicy", "logLevel": "debug", "logFormat": "text", "pullPolicy": "Never",
	"reinvocationPolicy": "Never", "url": "https://example.com:1", "digest": "sha256:" + strings.Repeat("0", 64), "memoryTarget": "7GiB",
	"duration": "7h", "renewBefore": "7h", "caBundle": "-----BEGIN CERTIFICATE-----\nchanged", "kind": "ClusterIssuer",
	"samplingRatio": 0.7, "endpoint": "http://changed:4317",
	"onUninstall": "Abandon", "onUpgrade": "Abandon", "interval": "7s", "scrapeTimeout": "7s", "metricsPort": 7001, "healthPort": 7002,
	"drainArgs": []any{"--force"}, "egressPorts": []any{7003}, "metricsFrom": []any{map[string]any{"podSelector": map[string]any{}}},
	"extraEgress": []any{map[string]any{"ports": []any{map[string]any{"port": 7004}}}},
	"extraArgs":   []any{"--changed"}, "extraObjects": []any{"kind: Changed"}, "dnsNames": []any{"changed"}, "bindingNodes": []any{"changed"},
	"excludedNamespaces": []any{"changed"}, "workloadNamespaces": []any{"changed"},
	"virtualNodes": []any{map[string]any{"name": "changed", "provider": "eci",
		"eci": map[string]any{"region": "r", "vSwitch": "v", "securityGroup": "s", "instanceRole": "r"}}},
}

// changed is another value than that.
func changed(key string, value any) any {
	if other, ok := every[key]; ok {
		return other
	}
	switch value := value.(type) {
	case bool:
		return !value
	case float64:
		return value + 1
	case []any:
		return []any{map[string]any{"name": "changed"}}
	case map[string]any:
		return map[string]any{"changed": "changed"}
	default:
		return "changed"
	}
}

// TestEveryValueIsUsed changes each value of values.yaml and wants to see it in what
// is rendered, in one of the sets of values at least.
func TestEveryValueIsUsed(t *testing.T) {
	c := loaded(t)
	all := bases(t)
	before := map[string]string{}
	for name, base := range all {
		text, err := render(c, base)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before[name] = text
	}
	// Most is to be seen where everything is there.
	order := slices.Sorted(maps.Keys(all))
	i := slices.Index(order, "everything-values.yaml")
	order[0], order[i] = order[i], order[0]
	schema := parse(t, c.Schema)
	count := 0
	leaves(schema, parse(t, read(t, folder+"/values.yaml")), nil, func(path []string, value any) {
		count++
		var problem error
		for _, name := range order {
			base := all[name]
			after, err := render(c, with(base, path, changed(path[len(path)-1], value)))
			if err == nil && after != before[name] {
				return
			}
			if err != nil {
				problem = err
			}
		}
		t.Errorf("%s changes nothing that is rendered (%v)", strings.Join(path, "."), problem)
	})
	if count < 100 {
		t.Errorf("only %d values were changed", count)
	}
}

// entries are what values.yaml says that virtualNodes may hold, as a comment.
func entries(t *testing.T) []map[string]any {
	t.Helper()
	_, text, ok := strings.Cut(string(read(t, folder+"/values.yaml")), "\nvirtualNodes: []\n")
	if !ok {
		t.Fatal("virtualNodes is not the last key of values.yaml")
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
	}
	var list []map[string]any
	if err := yaml.Unmarshal([]byte(b.String()), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 2 {
		t.Fatalf("there are %d examples, want 2", len(list))
	}
	return list
}

// nodes are the least that an entry must hold, by provider, each in the ways in which
// it may sign in.
var nodes = map[string][]map[string]any{
	"eci": {
		{"name": "n", "provider": "eci", "eci": map[string]any{"region": "r", "vSwitch": "v", "securityGroup": "s"}, "credentials": map[string]any{"existingSecret": "s"}},
		{"name": "n", "provider": "eci", "eci": map[string]any{"region": "r", "vSwitch": "v", "securityGroup": "s", "oidc": map[string]any{"roleArn": "r", "providerArn": "p"}}},
		{"name": "n", "provider": "eci", "eci": map[string]any{"region": "r", "vSwitch": "v", "securityGroup": "s"}},
	},
	"aci": {
		{"name": "n", "provider": "aci", "aci": map[string]any{"region": "r", "resourceGroup": "g"}, "credentials": map[string]any{"existingSecret": "s"}},
		{"name": "n", "provider": "aci", "aci": map[string]any{"region": "r", "resourceGroup": "g", "logAnalytics": map[string]any{"workspaceId": "w"}}, "credentials": map[string]any{"existingSecret": "s"}},
		{"name": "n", "provider": "aci", "aci": map[string]any{"region": "r", "resourceGroup": "g"}},
	},
}

const identity = "/subscriptions/1/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"

// ofNodes are like every, for keys of virtualNodes.
var ofNodes = map[string]any{
	"name": "changed", "effect": "NoExecute", "cpu": "7", "memory": "7Gi", "pods": "7", "gpus": "7", "clusterDNS": []any{"10.0.0.7"},
	"waive": []any{"subdomain"}, "quota": map[string]any{"CreateContainerGroup": "7+7/s"},
	"podAnnotations": map[string]any{"k8s.aliyun.com/changed": "changed"}, "forbiddenAnnotations": []any{"k8s.aliyun.com/changed"},
	"values": map[string]any{"ECI_ACCESS_KEY": "changed", "AZURE_CLIENT_SECRET": "changed"},
	"signIn": "ManagedIdentity", "priority": "Spot", "sku": "Confidential", "zone": "1", "publicIP": false, "allowedSubnetIds": []any{"changed"},
	"allowedRamRoles": []any{"changed"}, "allowedSecurityGroups": []any{"sg-changed"}, "allowedVSwitches": []any{"vsw-changed"}, "bandwidthUnit": "Bytes",
	"podIdentities": []any{identity}, "allowedIdentities": []any{identity}, "registryIdentities": map[string]any{"changed.azurecr.io": identity},
}

// TestEveryValueOfVirtualNodesIsUsed does the same for what an entry of virtualNodes
// may hold.
func TestEveryValueOfVirtualNodesIsUsed(t *testing.T) {
	c := loaded(t)
	schema := parse(t, c.Schema)
	schema = schema["properties"].(map[string]any)["virtualNodes"].(map[string]any)["items"].(map[string]any)
	one := func(node map[string]any) map[string]any { return map[string]any{"virtualNodes": []any{node}} }
	count := 0
	for _, example := range entries(t) {
		provider := example["provider"].(string)
		leaves(schema, example, nil, func(path []string, value any) {
			key := path[len(path)-1]
			if key == "provider" {
				return // the other one has another section
			}
			count++
			other, ok := ofNodes[key]
			if !ok {
				other = changed(key, value)
			}
			var problem error
			for _, node := range nodes[provider] {
				before, _ := render(c, one(node)) // without credentials it is refused
				after, err := render(c, one(with(node, path, other)))
				if err == nil && after != before {
					return
				}
				if err != nil {
					problem = err
				}
			}
			t.Errorf("virtualNodes[].%s of %s changes nothing that is rendered (%v)", strings.Join(path, "."), provider, problem)
		})
	}
	if count < 40 {
		t.Errorf("only %d values were changed", count)
	}
}
