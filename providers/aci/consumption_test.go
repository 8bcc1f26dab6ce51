package aci_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/quota"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestConsumption(t *testing.T) {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clk := clocktesting.NewFakeClock(begun)
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim = sim.Config{Clock: clk}
		o.TokenLifetime = 48 * time.Hour
	})
	p := newProvider(t, server, func(c *aci.Config) { c.Clock = clk })
	id, err := p.Create(within(t), podSpec("a"))
	if err != nil {
		t.Fatal(err)
	}
	load := func(cpu float64) {
		server.Fleet().SetLoad(func(sim.Spec, sim.Container) bool { return true }, sim.Load{CPU: cpu, Memory: 32 << 20})
	}
	load(0.5)
	check := func(when string, p *aci.Provider, since, at int, cpu time.Duration, rate uint64) {
		t.Helper()
		got, err := p.Consumption(within(t), []string{id})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		minute := func(n int) time.Time { return begun.Add(time.Duration(n) * time.Minute) }
		memory := ptr.To[uint64](32 << 20)
		want := map[string][]providers.ContainerConsumption{id: {{
			Name: "app", At: minute(at), Since: minute(since), CPUNanoseconds: ptr.To(uint64(cpu)), CPUNanoCores: &rate,
			WorkingSetBytes: memory, UsageBytes: memory,
		}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: consumption (-want +got):\n%s", when, diff)
		}
	}
	if got, err := p.Consumption(within(t), []string{id}); err != nil || len(got[id]) != 0 {
		t.Errorf("before the first minute is there: %v, %v, want nothing", got, err)
	}
	clk.Step(5*time.Minute + 10*time.Second)
	load(1)
	// Two minutes are not there yet.
	check("at first", p, 2, 3, 30*time.Second, 500e6)
	check("asked again", p, 2, 3, 30*time.Second, 500e6)
	clk.Step(3 * time.Minute)
	check("three minutes later", p, 2, 6, 145*time.Second, 916_666_667)
	clk.Step(time.Minute)
	check("under load", p, 2, 7, 205*time.Second, 1000e6)

	// Another process begins with the newest minute: it cannot know what the first
	// one has counted.
	other := newProvider(t, server, func(c *aci.Config) { c.Clock = clk })
	check("in another process", other, 6, 7, time.Minute, 1000e6)
	clk.Step(time.Hour)
	check("after a gap", p, 66, 67, time.Minute, 1000e6)

	server.Inject(emulator.Fault{Operation: "Metrics_List", Calls: 1, Status: http.StatusForbidden, Code: "AuthorizationFailed"})
	if _, err := p.Consumption(within(t), []string{id}); providers.ClassOf(err) != providers.Unauthorized {
		t.Errorf("without the right: %v, want Unauthorized", err)
	}
	if _, err := p.Consumption(within(t), []string{"autoburst-none"}); providers.ClassOf(err) != providers.NotFound {
		t.Errorf("of no group: %v, want NotFound", err)
	}
}

// Where the reads of the account are used up, none is made for figures.
func TestConsumptionWaitsForNoQuota(t *testing.T) {
	server := newCloud(t)
	var asked atomic.Int32
	defer server.Hook(sim.Hook{Action: "Metrics_List", Before: func(sim.Passage) { asked.Add(1) }})()
	p := newProvider(t, server, func(c *aci.Config) {
		few, err := quota.Parse("reads=2/24h")
		if err != nil {
			t.Fatal(err)
		}
		if c.Quota, err = quota.New(c.Plan(), few, clock.RealClock{}, nil); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := p.Create(within(t), podSpec("a")); err != nil { // one read
		t.Fatal(err)
	}
	if _, err := p.Get(within(t), "autoburst-a"); err != nil {
		t.Fatal(err)
	}
	_, err := p.Consumption(within(t), []string{"autoburst-a"})
	if _, postponed := quota.Postponed(err); !postponed || asked.Load() != 0 {
		t.Errorf("without reads left: %v after %d calls, want it postponed", err, asked.Load())
	}
}
