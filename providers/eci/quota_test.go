package eci_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/providertest"
	"github.com/autoburst/autoburst/providers/quota"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
)

// limited is a provider with the documented quotas before a cloud that enforces
// them, both on a fast clock.
func limited(t *testing.T, faster float64) (*cloud, *eci.Provider, *providertest.FastClock) {
	t.Helper()
	clk := providertest.NewFastClock(faster)
	c := newCloud(t, func(o *emulator.Options) {
		o.Rates = emulator.LimitRates()
		o.Sim.Clock, o.Sim.HostCommands = clk, false
		o.TimestampWindow = 24 * time.Hour // requests are signed with the time of the wall
	})
	p := c.provider(t, func(cfg *eci.Config) {
		cfg.Timeout = time.Minute // a slow machine is no part of this
		var err error
		if cfg.Quota, err = quota.New(cfg.Plan(), quota.Settings{}, clk, nil); err != nil {
			t.Fatal(err)
		}
	})
	return c, p, clk
}

func podSpec(uid string) *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         providers.Owner{ClusterUID: "cluster-a", NodeName: "burst-eci", Namespace: "shop", PodName: "web-" + uid, PodUID: uid},
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{{Name: "app", Image: "nginx"}},
	}
}

// Asked for far more than the account has, the provider sends what the cloud
// takes and no more: creates, deletions and reads, from many goroutines.
func TestDocumentedQuotasAreKept(t *testing.T) {
	c, p, clk := limited(t, 3)
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
	if took, least := clk.Since(begun), 10*time.Second; took < least {
		t.Errorf("%d creates took %s, less than the %s of the quota", groups, took, least)
	}
	for _, s := range p.Quota().States() {
		if s.Throttled > 0 || s.Believed != s.Documented {
			t.Errorf("%s: %d throttled answers, believed %g of %g a second; want none", s.Operation, s.Throttled, s.Believed, s.Documented)
		}
	}
	for _, call := range c.Fleet().Record().Calls {
		if call.Code == "Throttling.User" {
			t.Errorf("throttled: %s", call.Action)
		}
	}
}

// A throttled answer holds back every call of its action, and no other, although
// ECI does not say for how long.
func TestThrottlingClosesTheAction(t *testing.T) {
	c, p, clk := limited(t, 10)
	c.Inject(emulator.Fault{Action: "CreateContainerGroup", Status: http.StatusBadRequest, Code: "Throttling.User"})
	begun := clk.Now()
	if _, err := p.Create(t.Context(), podSpec("first")); providers.ClassOf(err) != providers.Throttled {
		t.Fatalf("Create: %v", err)
	}
	for _, s := range p.Quota().States() {
		if closed := s.Operation == "CreateContainerGroup"; closed != (s.Throttled > 0) || !closed && s.Closed > 0 {
			t.Errorf("%+v after a create was throttled", s)
		}
	}
	if _, err := p.Create(t.Context(), podSpec("second")); err != nil {
		t.Fatal(err)
	}
	if d := clk.Since(begun); d < time.Second {
		t.Errorf("another pod's create came %s after the throttled one began, want at least 1 s", d)
	}
}

// If ECI does say for how long, the action stays closed for that.
func TestRetryAfterOfThrottling(t *testing.T) {
	c, p, clk := limited(t, 10)
	c.SetRates(emulator.Rates{PerMinute: map[string]int{"CreateContainerGroup": 0}, RetryAfter: 20 * time.Second})
	begun := clk.Now()
	_, err := p.Create(t.Context(), podSpec("first"))
	var e *providers.Error
	if !errors.As(err, &e) || e.Class != providers.Throttled || e.RetryAfter != 20*time.Second {
		t.Fatalf("Create: %v, want it throttled for 20 s", err)
	}
	c.SetRates(emulator.Rates{})
	if _, err := p.Create(t.Context(), podSpec("second")); err != nil {
		t.Fatal(err)
	}
	if d := clk.Since(begun); d < 20*time.Second {
		t.Errorf("another pod's create came %s after the throttled one began, want at least 20 s", d)
	}
}
