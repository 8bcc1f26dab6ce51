package aci_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/providertest"
	"github.com/autoburst/autoburst/providers/quota"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

// limited is a provider with the documented quotas before a cloud that enforces
// them, both on a fast clock.
func limited(t *testing.T, faster float64) (*emulator.Server, *aci.Provider, *providertest.FastClock) {
	t.Helper()
	clk := providertest.NewFastClock(faster)
	server := newCloud(t, func(o *emulator.Options) {
		o.Sim.Clock = clk
		o.Settings.ARM, o.Settings.Provider = emulator.PublishedARMLimits(), emulator.PublishedProviderLimits()
		o.TokenLifetime = 48 * time.Hour
	})
	p := newProvider(t, server, func(c *aci.Config) {
		var err error
		if c.Quota, err = quota.New(c.Plan(), quota.Settings{}, clk, nil); err != nil {
			t.Fatal(err)
		}
	})
	return server, p, clk
}

// Asked for far more than the account has, the provider sends what the cloud
// takes and no more, through the windows of 5 minutes and of an hour.
func TestDocumentedQuotasAreKept(t *testing.T) {
	server, p, clk := limited(t, 600)
	const groups = 300
	begun := clk.Now()
	var wg sync.WaitGroup
	jobs := make(chan int, groups)
	for i := range groups {
		jobs <- i
	}
	close(jobs)
	work := func() {
		for i := range jobs {
			id, err := p.Create(t.Context(), podSpec(fmt.Sprint("uid-", i)))
			if err != nil {
				t.Errorf("Create: %v", err)
				continue
			}
			if err := p.Delete(t.Context(), id); err != nil {
				t.Errorf("Delete: %v", err)
			}
		}
	}
	for range 40 { // more would only wait for their connections
		wg.Go(work)
	}
	for range 20 {
		wg.Go(func() {
			if _, err := p.List(t.Context()); err != nil {
				t.Errorf("List: %v", err)
			}
		})
	}
	wg.Wait()
	if took, least := clk.Since(begun), 10*time.Minute; took < least {
		t.Errorf("%d creates took %s, less than the %s of the quota", groups, took, least)
	}
	for _, s := range p.Quota().States() {
		if s.Throttled > 0 || s.Believed != s.Documented {
			t.Errorf("%s: %d throttled answers, believed %g of %g a second; want none", s.Operation, s.Throttled, s.Believed, s.Documented)
		}
	}
	for _, call := range server.Fleet().Record().Calls {
		if call.Code == "TooManyRequests" || call.Code == "SubscriptionRequestsThrottled" {
			t.Errorf("throttled: %s", call.Action)
		}
	}
}

// A Retry-After holds back every call of its kind, and no other.
func TestRetryAfterIsHonouredForEveryPod(t *testing.T) {
	server, p, clk := limited(t, 10)
	server.Inject(emulator.Fault{Operation: "ContainerGroups_CreateOrUpdate", Status: 429, Code: "TooManyRequests", RetryAfter: 20 * time.Second})
	begun := clk.Now()
	_, err := p.Create(t.Context(), podSpec("first"))
	wantClass(t, "Create", err, providers.Throttled)
	if err := p.Check(t.Context()); err != nil {
		t.Errorf("a read, while creates are held back: %v", err)
	}
	if _, err := p.Create(t.Context(), podSpec("second")); err != nil {
		t.Fatal(err)
	}
	if d := clk.Since(begun); d < 20*time.Second {
		t.Errorf("another pod's create came %s after the throttled one began, want at least the 20 s that the cloud asked for", d)
	}
}
