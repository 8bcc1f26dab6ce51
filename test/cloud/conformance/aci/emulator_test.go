package aci

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	emulator "github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// openEmulator starts the emulated cloud, with the published rates and quota. Its
// containers are processes of this host. A still one has a clock of its own, on
// which containers take a plausible time to start, and only simulates them.
func openEmulator(t *testing.T, still bool) *service {
	t.Helper()
	const (
		tenant, subscription = "11111111-1111-1111-1111-111111111111", "3a3a3a3a-3b3b-3c3c-3d3d-333333333333"
		client, secret       = "22222222-2222-2222-2222-222222222222", "a secret~of.the_client"
		other, otherSecret   = "44444444-4444-4444-4444-444444444444", "another secret"
	)
	l := &emulatedLab{stranger: [2]string{other, otherSecret}, subscription: subscription}
	var clk clock.Clock = clock.RealClock{}
	timing := sim.DefaultTiming().Scaled(0.01)
	if still {
		l.clock = clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
		clk, timing = l.clock, sim.DefaultTiming()
		timing.Stop = 0 // calls that wait for the end of a stop do not need the clock
	}
	l.server = emulator.NewServer(emulator.Options{
		Sim: sim.Config{Clock: clk, Timing: timing, HostCommands: !still, TempDir: t.TempDir(), Images: l.judge},
		Applications: []emulator.Application{
			{TenantID: tenant, ClientID: client, Secrets: []emulator.Secret{{Value: secret}}},
			{TenantID: tenant, ClientID: other, Secrets: []emulator.Secret{{Value: otherSecret}}},
		},
		Subscriptions: []emulator.Subscription{{ID: subscription, ResourceGroups: []string{"Conformance"}}},
		Locations:     []string{"eastus", "eastus2", "westus", "westeurope", "westcentralus"},
	})
	l.Arrange(Conditions{})
	if err := l.server.Start(); err != nil {
		t.Fatal(err)
	}
	s := &service{
		authority: l.server.URL(), manager: l.server.URL(), audience: "https://management.core.windows.net/",
		tenant: tenant, client: client, secret: secret,
		subscription: subscription, group: "Conformance", location: "eastus",
		image: "busybox:1.36", missingImage: "registry.example/no-such-image:1",
		http: l.server.Client(), pace: 5 * time.Millisecond, patience: time.Minute,
	}
	if still {
		s.lab, s.pace = l, time.Millisecond
	}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := l.server.Close(); err != nil {
			t.Errorf("close the emulated cloud: %v", err)
		}
	})
	s.login(t)
	return s
}

// emulatedLab is the emulated cloud as a Lab.
type emulatedLab struct {
	server       *emulator.Server
	clock        *clocktesting.FakeClock
	subscription string
	stranger     [2]string
	latePulls    atomic.Bool
}

func (l *emulatedLab) Now() time.Time { return l.clock.Now() }

func (l *emulatedLab) Advance(d time.Duration) { l.clock.Step(d) }

func (l *emulatedLab) Stranger() (client, secret string) { return l.stranger[0], l.stranger[1] }

func (l *emulatedLab) Network(t *testing.T) *http.Client {
	t.Helper()
	proxy, err := url.Parse(l.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	transport := l.server.Client().Transport.(*http.Transport)
	transport.Proxy, transport.ForceAttemptHTTP2 = http.ProxyURL(proxy), false // proxies are spoken to in HTTP/1.1
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// judge is what the registries know of an image when it is pulled.
func (l *emulatedLab) judge(string) sim.ImageVerdict {
	if l.latePulls.Load() {
		return sim.ImageDenied
	}
	return sim.ImageOK
}

func (l *emulatedLab) Arrange(c Conditions) {
	l.latePulls.Store(c.LatePulls)
	if c.Unregistered {
		l.server.Unregister(l.subscription)
	}
	l.server.Change(func(s *emulator.Settings) {
		*s = emulator.Settings{
			ARM: emulator.PublishedARMLimits(), Provider: emulator.PublishedProviderLimits(), Quota: emulator.PublishedQuota(),
			PageSize: c.PageSize, RegistryTrouble: c.RegistryTrouble,
			InaccessibleImage: func(image string) bool { return strings.Contains(image, "no-such-image") },
		}
		if c.NoRates {
			s.ARM, s.Provider = emulator.ARMLimits{}, emulator.ProviderLimits{}
		}
		if c.Quota != nil {
			s.Quota = c.Quota
		}
		if c.NoCapacityFrom > 0 {
			s.Shortages = []emulator.Shortage{{CPU: c.NoCapacityFrom, Location: c.Location}}
		}
	})
}

func (l *emulatedLab) Fail(f Failure) {
	l.server.Inject(emulator.Fault{
		Operation: f.Operation, Calls: f.Calls, AfterEffect: f.After, Delay: f.Delay, Cut: f.Cut, Status: f.Status, RetryAfter: f.RetryAfter,
	})
}

func (l *emulatedLab) run(group string) (*sim.Group, error) {
	for _, g := range l.server.Fleet().Groups() {
		if strings.EqualFold(g.ID(), group) {
			return g, nil
		}
	}
	return nil, fmt.Errorf("the emulated cloud has no group %s", group)
}

func (l *emulatedLab) End(group, container string, exitCode int) error {
	g, err := l.run(group)
	if err != nil {
		return err
	}
	return g.Exit(container, exitCode)
}

func (l *emulatedLab) Sicken(group, container string, alive, ready bool) error {
	g, err := l.run(group)
	if err != nil {
		return err
	}
	return g.SetHealth(container, alive, ready)
}

func (l *emulatedLab) Evict(group string) error { return l.server.Evict(group) }

func (l *emulatedLab) Maintain(group string, exitCode int) error {
	return l.server.Maintain(group, exitCode)
}

func (l *emulatedLab) Bills() []Bill {
	entries := l.server.Record().Entries
	bills := make([]Bill, 0, len(entries))
	for _, e := range entries {
		b := Bill{Group: e.GroupID, From: e.From, To: e.To, CPU: e.CPU, MemoryGB: e.MemoryGiB, Spot: e.Spot}
		if e.Price != nil {
			b.CPUSecond, b.GBSecond = e.Price.CPU, e.Price.MemoryGiB
		}
		bills = append(bills, b)
	}
	return bills
}
