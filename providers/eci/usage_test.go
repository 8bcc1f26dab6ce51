package eci_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
)

func TestUsage(t *testing.T) {
	c := newCloud(t, func(o *emulator.Options) { o.MaxCPU = 5 })
	p := c.provider(t)
	check := func(when string, want providers.Usage) {
		t.Helper()
		got, err := p.Usage(within(t))
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: usage (-want +got):\n%s", when, diff)
		}
	}
	cpu := func(used, limit int64) providers.Usage {
		return providers.Usage{MilliCPU: &providers.Meter{Used: used, Limit: limit}}
	}
	check("at first", cpu(0, 5000))
	if _, err := p.Create(within(t), pod("web")); err != nil {
		t.Fatal(err)
	}
	check("with a group of the default size", cpu(2000, 5000))
	c.SetMaxCPU(1)
	check("after the quota was lowered", cpu(2000, 1000))
	c.SetMaxCPU(0)
	check("without a quota", providers.Usage{})

	c.Inject(emulator.Fault{Action: "ListUsage", Status: 403, Code: "Forbidden.RAM"})
	if _, err := p.Usage(within(t)); providers.ClassOf(err) != providers.Unauthorized {
		t.Errorf("without the right: %v, want Unauthorized", err)
	}
}
