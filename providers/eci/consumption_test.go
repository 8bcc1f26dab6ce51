package eci_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestConsumption(t *testing.T) {
	begun := time.Now().Truncate(15 * time.Second)
	clk := clocktesting.NewFakeClock(begun)
	c := newCloud(t, func(o *emulator.Options) { o.Sim = sim.Config{Clock: clk} })
	p := c.provider(t)
	id, err := p.Create(within(t), pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	c.Fleet().SetLoad(func(sim.Spec, sim.Container) bool { return true }, sim.Load{CPU: 0.5, Memory: 64 << 20})
	clk.Step(40 * time.Second)
	check := func(when string, at, cpu time.Duration, rate uint64) {
		t.Helper()
		got, err := p.Consumption(within(t), []string{id, "eci-none"})
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		memory := ptr.To[uint64](64 << 20)
		want := map[string][]providers.ContainerConsumption{id: {{
			Name: "nginx", At: begun.Add(at), CPUNanoseconds: ptr.To(uint64(cpu)), CPUNanoCores: &rate,
			WorkingSetBytes: memory, UsageBytes: memory, RSSBytes: memory, AvailableBytes: ptr.To[uint64](4<<30 - 64<<20),
		}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: consumption (-want +got):\n%s", when, diff)
		}
	}
	check("after 40 s", 30*time.Second, 15*time.Second, 500e6)
	check("asked again", 30*time.Second, 15*time.Second, 500e6)
	clk.Step(15 * time.Second)
	check("15 s later", 45*time.Second, 22500*time.Millisecond, 500e6)
	g, _ := c.Fleet().Group(id)
	if err := g.Exit("nginx", 1); err != nil { // it is started again at once
		t.Fatal(err)
	}
	clk.Step(15 * time.Second)
	// The restart was 55 s after the start: the new run's counter begins there.
	check("after a restart", time.Minute, 2500*time.Millisecond, 166_666_666)

	c.Inject(emulator.Fault{Action: "DescribeMultiContainerGroupMetric", Status: 403, Code: "Forbidden.RAM"})
	if got, err := p.Consumption(within(t), []string{id}); providers.ClassOf(err) != providers.Unauthorized || len(got) != 0 {
		t.Errorf("without the right: %v, %v, want Unauthorized", got, err)
	}
}

// What the terms promise, the cloud takes.
func TestConsumptionTerms(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	terms := p.ConsumptionTerms()
	ids := make([]string, terms.Batch)
	for i := range ids {
		ids[i] = "eci-none"
	}
	if got, err := p.Consumption(within(t), ids); err != nil || len(got) != 0 {
		t.Errorf("%d groups in one call: %v, %v", len(ids), got, err)
	}
	if _, err := p.Consumption(within(t), append(ids, "eci-none")); err == nil {
		t.Errorf("%d groups in one call are no error", len(ids)+1)
	}
}
