package aci_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

func TestUsage(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) {
		o.Settings.Quota = map[string]int{"ContainerGroups": 3, "StandardCores": 5}
	})
	p := newProvider(t, server)
	ctx := within(t)
	meter := func(used, limit int64) *providers.Meter { return &providers.Meter{Used: used, Limit: limit} }
	check := func(when string, want providers.Usage) {
		t.Helper()
		got, err := p.Usage(ctx)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: usage (-want +got):\n%s", when, diff)
		}
	}
	check("at first", providers.Usage{Groups: meter(0, 3), MilliCPU: meter(0, 5000)})
	id, err := p.Create(ctx, podSpec("a"))
	if err != nil {
		t.Fatal(err)
	}
	check("with a group", providers.Usage{Groups: meter(1, 3), MilliCPU: meter(1000, 5000)})
	if err := p.Delete(ctx, id); err != nil {
		t.Fatal(err)
	}
	check("without it", providers.Usage{Groups: meter(0, 3), MilliCPU: meter(0, 5000)})

	server.Inject(emulator.Fault{Operation: "Location_ListUsage", Calls: 1, Status: http.StatusForbidden, Code: "AuthorizationFailed"})
	if _, err := p.Usage(ctx); providers.ClassOf(err) != providers.Unauthorized {
		t.Errorf("without the right: %v, want Unauthorized", err)
	}
}

// The deployment is accepted and fails for want of machines. That is news for the pods
// of the node's kind only where the group was of it.
func TestLateShortage(t *testing.T) {
	const spot, zone, public = "autoburst.io/aci-priority", "autoburst.io/aci-zone", "autoburst.io/aci-public-ip"
	for name, test := range map[string]struct {
		node        func(*aci.Config)
		annotations map[string]string
		want        providers.ErrorClass
	}{
		"regular":                 {want: providers.OutOfStock},
		"spot on a regular node":  {annotations: map[string]string{spot: "Spot", public: "false"}, want: providers.NoSuchStock},
		"spot":                    {node: func(c *aci.Config) { c.Spot = true }, want: providers.OutOfStock},
		"regular on a spot node":  {node: func(c *aci.Config) { c.Spot = true }, annotations: map[string]string{spot: "Regular"}, want: providers.NoSuchStock},
		"confidential":            {annotations: map[string]string{"autoburst.io/aci-sku": "Confidential"}, want: providers.NoSuchStock},
		"the node's zone":         {node: func(c *aci.Config) { c.Zone = "2" }, want: providers.OutOfStock},
		"the node's zone by name": {node: func(c *aci.Config) { c.Zone = "2" }, annotations: map[string]string{zone: "2"}, want: providers.OutOfStock},
		"another zone":            {node: func(c *aci.Config) { c.Zone = "2" }, annotations: map[string]string{zone: "1"}, want: providers.NoSuchStock},
	} {
		t.Run(name, func(t *testing.T) {
			server := newCloud(t, func(o *emulator.Options) { o.Settings.Shortages = []emulator.Shortage{{Late: true}} })
			var edits []func(*aci.Config)
			if test.node != nil {
				edits = append(edits, test.node)
			}
			p := newProvider(t, server, edits...)
			spec := podSpec("a")
			spec.Annotations = test.annotations
			id, err := p.Create(within(t), spec)
			if err != nil {
				t.Fatal(err)
			}
			g := eventually(t, p, id, "the group has failed", func(g *providers.Group) bool { return g.Status.Phase == providers.GroupFailed })
			if s := g.Status; s.Refused != test.want || s.Reason != "InsufficientCapacity" || s.Message == "" {
				t.Errorf("refused %q, want %q; reason %q, message %q", s.Refused, test.want, s.Reason, s.Message)
			}
		})
	}
}

// Spot and confidential groups count against quotas of their own.
func TestUsageOfTheNodesKind(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) {
		o.Settings.Quota = map[string]int{"ContainerGroups": 7, "StandardCores": 50, "StandardSpotCores": 5, "ConfidentialContainerGroups": 3, "ConfidentialCores": 9}
	})
	spot := newProvider(t, server, func(c *aci.Config) { c.Spot = true })
	confidential := newProvider(t, server, func(c *aci.Config) { c.Confidential = true })
	regular := newProvider(t, server)
	create(t, spot, podSpec("a"))
	create(t, confidential, podSpec("b"))
	meter := func(used, limit int64) *providers.Meter { return &providers.Meter{Used: used, Limit: limit} }
	for name, test := range map[string]struct {
		p    *aci.Provider
		want providers.Usage
	}{
		"spot":         {spot, providers.Usage{Groups: meter(1, 7), MilliCPU: meter(1000, 5000)}},
		"confidential": {confidential, providers.Usage{Groups: meter(1, 3), MilliCPU: meter(1000, 9000)}},
		"regular":      {regular, providers.Usage{Groups: meter(1, 7), MilliCPU: meter(0, 50_000)}},
	} {
		got, err := test.p.Usage(within(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: usage (-want +got):\n%s", name, diff)
		}
	}

	// A pod that asks for another kind than its node's waits by itself.
	server.Change(func(s *emulator.Settings) { s.Quota["StandardSpotCores"], s.Quota["StandardCores"] = 1, 0 })
	special := podSpec("c")
	special.Annotations = map[string]string{"autoburst.io/aci-priority": "Spot", "autoburst.io/aci-public-ip": "false"}
	_, err := regular.Create(within(t), special)
	wantClass(t, "a Spot pod of a regular node", err, providers.NoSuchStock)
	_, err = regular.Create(within(t), podSpec("d"))
	wantClass(t, "a regular pod of a regular node", err, providers.QuotaExceeded)
}
