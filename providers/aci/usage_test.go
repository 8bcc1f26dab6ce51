package aci_test

import (
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
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

// The deployment is accepted and fails for want of machines.
func TestLateShortage(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) { o.Settings.Shortages = []emulator.Shortage{{Late: true}} })
	p := newProvider(t, server)
	id, err := p.Create(within(t), podSpec("a"))
	if err != nil {
		t.Fatal(err)
	}
	g := eventually(t, p, id, "the group has failed", func(g *providers.Group) bool { return g.Status.Phase == providers.GroupFailed })
	if s := g.Status; s.Refused != providers.OutOfStock || s.Reason != "InsufficientCapacity" || s.Message == "" {
		t.Errorf("refused %q, reason %q, message %q", s.Refused, s.Reason, s.Message)
	}
}
