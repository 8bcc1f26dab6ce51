package aci_test

import (
	"context"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/quota"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

// Somebody else reads with the same principal. The provider learns from the answers how
// little is left, and asks for no more.
func TestWhatOthersLeaveIsKeptTo(t *testing.T) {
	clk := clocktesting.NewFakeClock(time.Now())
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim.Clock = clk
		o.Settings.ARM = emulator.PublishedARMLimits()
		o.TokenLifetime = 48 * time.Hour
	})
	p := newProvider(t, server, func(c *aci.Config) {
		var err error
		if c.Quota, err = quota.New(c.Plan(), quota.Settings{}, clk, nil); err != nil {
			t.Fatal(err)
		}
	})
	read := func(p *aci.Provider, bound time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), bound)
		defer cancel()
		_, err := p.Get(ctx, "autoburst-none")
		if providers.ClassOf(err) == providers.NotFound {
			return nil
		}
		return err
	}
	const left = 3
	other := newProvider(t, server)
	for range emulator.PublishedARMLimits().Reads.Size - left {
		if err := read(other, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	for range left {
		if err := read(p, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	// The next one would be refused; it waits for the refill instead.
	if _, postponed := quota.Postponed(read(p, 20*time.Millisecond)); !postponed {
		t.Error("a read was made although the account had none left")
	}
	clk.Step(time.Second / 25)
	if err := read(p, time.Minute); err != nil {
		t.Error(err)
	}
	for _, s := range p.Quota().States() {
		if s.Throttled > 0 || s.Believed != s.Documented {
			t.Errorf("%s: %d throttled answers, believed %g of %g a second; want none", s.Operation, s.Throttled, s.Believed, s.Documented)
		}
	}
}
