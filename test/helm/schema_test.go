package helm

import (
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTyposAreRefused adds a key that does not exist to every section.
func TestTyposAreRefused(t *testing.T) {
	c := loaded(t)
	schema := parse(t, c.Schema)
	count := 0
	var walk func(schema map[string]any, path []string, set func(path []string, value any) map[string]any)
	walk = func(schema map[string]any, path []string, set func([]string, any) map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		if len(properties) == 0 {
			return
		}
		if !slices.Equal(path, []string{"global"}) { // which Helm shares with other charts
			count++
			if _, err := render(c, set(append(slices.Clone(path), "tpyo"), "x")); err == nil || !strings.Contains(err.Error(), "tpyo") {
				t.Errorf("%s.tpyo is not refused by name: %v", strings.Join(path, "."), err)
			}
		}
		for key, below := range properties {
			if below, ok := below.(map[string]any); ok {
				walk(below, append(slices.Clone(path), key), set)
			}
		}
	}
	walk(schema, nil, func(path []string, value any) map[string]any { return with(nil, path, value) })
	items := schema["properties"].(map[string]any)["virtualNodes"].(map[string]any)["items"].(map[string]any)
	walk(items, nil, func(path []string, value any) map[string]any {
		provider := "eci"
		if len(path) > 0 && path[0] == "aci" {
			provider = "aci"
		}
		return map[string]any{"virtualNodes": []any{with(nodes[provider][0], path, value)}}
	})
	if count < 20 {
		t.Errorf("only %d sections were tried", count)
	}
}

// TestWrongTypesAreRefused gives every value one of another type.
func TestWrongTypesAreRefused(t *testing.T) {
	log.SetOutput(io.Discard) // Helm tells there what it then refuses
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	c := loaded(t)
	leaves(parse(t, c.Schema), parse(t, read(t, folder+"/values.yaml")), nil, func(path []string, value any) {
		var wrong any = []any{map[string]any{"a": "b"}}
		switch value.(type) {
		case []any, map[string]any:
			wrong = "a text"
		}
		if _, err := render(c, with(nil, path, wrong)); err == nil || !strings.Contains(err.Error(), "values don't meet the specifications of the schema") {
			t.Errorf("%s: %v is not refused by the schema: %v", strings.Join(path, "."), wrong, err)
		}
	})
}

// TestWrongValuesAreRefused has what is of the right type and can't be meant, with
// what the message must say.
func TestWrongValuesAreRefused(t *testing.T) {
	c := loaded(t)
	node := func(change string) string {
		return "virtualNodes: [{name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s}, credentials: {existingSecret: s}" + change + "}]"
	}
	for name, tt := range map[string]struct{ values, want string }{
		"a mode that is none":             {"admission: webhook", "admission"},
		"a level that is none":            {"settings: {logLevel: verbose}", "logLevel"},
		"too many replicas":               {"controller: {replicas: 1000}", "replicas"},
		"a port that is none":             {"controller: {metricsPort: 70000}", "metricsPort"},
		"a digest that is none":           {"controller: {image: {digest: latest}}", "digest"},
		"a pull policy that is none":      {"vnode: {image: {pullPolicy: Sometimes}}", "pullPolicy"},
		"a policy that is none":           {"webhook: {reinvocationPolicy: Always}", "reinvocationPolicy"},
		"a timeout above the API's":       {"webhook: {timeoutSeconds: 31}", "timeoutSeconds"},
		"a removal that is none":          {"removal: {onUninstall: Delete}", "onUninstall"},
		"an upgrade that is none":         {"removal: {onUpgrade: Drain}", "onUpgrade"},
		"no time to drain":                {"removal: {timeoutSeconds: 1}", "timeoutSeconds"},
		"arguments that are none":         {"removal: {drainArgs: [virtual-eci]}", "drainArgs"},
		"a port of egress that is none":   {"networkPolicy: {egressPorts: [0]}", "egressPorts"},
		"an interval that is none":        {"serviceMonitor: {interval: often}", "interval"},
		"a namespace that is none":        {"grafanaDashboard: {namespace: My Dashboards}", "namespace"},
		"a label that is no text":         {"commonLabels: {a: {b: c}}", "commonLabels"},
		"a cloud that is none":            {"virtualNodes: [{name: node, provider: aws}]", "provider"},
		"a node without a name":           {"virtualNodes: [{provider: eci}]", "name"},
		"a name that is none":             {"virtualNodes: [{name: Virtual_ECI, provider: eci}]", "name"},
		"an effect that is none":          {node(", taint: {effect: Never}"), "effect"},
		"a capacity that is none":         {node(", capacity: {cpu: many}"), "cpu"},
		"a field that cannot be waived":   {node(", waive: [hostNetwork]"), "waive"},
		"a quota that is none":            {node(", quota: {CreateContainerGroup: fast}"), "quota"},
		"a node twice":                    {"virtualNodes: [{name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s, instanceRole: r}}, {name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s, instanceRole: r}}]", "two entries with the name node"},
		"no credentials":                  {"virtualNodes: [{name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s}}]", "node has no credentials; set credentials.existingSecret or credentials.values"},
		"half a role":                     {"virtualNodes: [{name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s, oidc: {roleArn: r}}}]", "set both"},
		"two kinds of credentials":        {"virtualNodes: [{name: node, provider: eci, eci: {region: r, vSwitch: v, securityGroup: s}, credentials: {existingSecret: s, values: {ECI_ACCESS_KEY: a}}}]", "set one of them"},
		"another cloud's section":         {"virtualNodes: [{name: node, provider: aci, eci: {region: r, vSwitch: v, securityGroup: s}, credentials: {existingSecret: s}}]", "no section aci"},
		"spot in a subnet":                {"virtualNodes: [{name: node, provider: aci, aci: {region: r, resourceGroup: g, priority: Spot, subnetId: s}, credentials: {existingSecret: s}}]", "Spot groups"},
		"draining longer than living":     {"controller: {drainSeconds: 30}", "controller.drainSeconds is 30: it must be less than controller.terminationGracePeriodSeconds, which is 30"},
		"a monitor of nothing":            {"{serviceMonitor: {enabled: true}, metricsService: {enabled: false}}", "metricsService.enabled"},
		"a ServiceAccount without a name": {"controller: {serviceAccount: {create: false}}", "controller.serviceAccount.name is required"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := render(c, parse(t, []byte(tt.values))); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: the error is %v, and should say %q", tt.values, err, tt.want)
			}
		})
	}
}
