package eci_test

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

func pod(name string) *providers.GroupSpec {
	return &providers.GroupSpec{
		Owner:         providers.Owner{ClusterUID: "cluster-a", NodeName: "burst-eci", Namespace: "default", PodName: name, PodUID: "uid-" + name},
		RestartPolicy: corev1.RestartPolicyAlways,
		Containers:    []providers.Container{{Name: "nginx", Image: "nginx:latest"}},
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// waitFor reads a group until the condition holds.
func waitFor(t *testing.T, p *eci.Provider, id, what string, ok func(*providers.GroupStatus) bool) *providers.GroupStatus {
	t.Helper()
	ctx := within(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		g, err := p.Get(ctx, id)
		if err != nil {
			t.Fatalf("waiting until %s: %v", what, err)
		}
		if ok(g.Status) {
			return g.Status
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waiting until %s: last seen %+v", what, *g.Status)
		}
	}
}

func running(s *providers.GroupStatus) bool { return s.Phase == providers.GroupRunning }

func TestRefusalsOfTheCloud(t *testing.T) {
	tests := map[string]struct {
		account func(*emulator.Options)
		cloud   func(*cloud)
		config  func(*eci.Config)
		want    providers.ErrorClass
	}{
		"no stock": {cloud: func(c *cloud) { c.SetShortages(emulator.Shortage{}) }, want: providers.OutOfStock},
		"arrears":  {cloud: func(c *cloud) { c.SetArrears(true) }, want: providers.AccountSuspended},
		"quota":    {account: func(o *emulator.Options) { o.MaxCPU = 1 }, want: providers.QuotaExceeded},
		"rate": {account: func(o *emulator.Options) {
			o.Rates = emulator.Rates{PerMinute: map[string]int{"CreateContainerGroup": 0}}
		}, want: providers.Throttled},
		"unknown VSwitch": {config: func(c *eci.Config) { c.VSwitchIDs = []string{"vsw-none"} }, want: providers.Misconfigured},
		"unknown group":   {config: func(c *eci.Config) { c.SecurityGroupID = "sg-none" }, want: providers.Misconfigured},
		"unknown key":     {cloud: func(c *cloud) { c.SetAccessKeys() }, want: providers.Unauthorized},
		"inactive key":    {cloud: func(c *cloud) { c.SetAccessKeys(emulator.AccessKey{ID: keyID, Secret: keySecret, Inactive: true}) }, want: providers.Unauthorized},
		"token of no key": {config: func(c *eci.Config) {
			c.Credentials = eci.StaticCredentials(eci.Credentials{AccessKeyID: keyID, AccessKeySecret: keySecret, SecurityToken: "t"})
		}, want: providers.Unauthorized},
		"foreign owner":     {config: func(c *eci.Config) { c.NodeName = "another" }, want: providers.Misconfigured},
		"clock out of step": {account: func(o *emulator.Options) { o.TimestampWindow = time.Nanosecond }, want: providers.Unauthorized},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, func(o *emulator.Options) {
				if tt.account != nil {
					tt.account(o)
				}
			})
			if tt.cloud != nil {
				tt.cloud(c)
			}
			p := c.provider(t, func(cfg *eci.Config) {
				if tt.config != nil {
					tt.config(cfg)
				}
			})
			_, err := p.Create(within(t), pod("web"))
			if got := providers.ClassOf(err); got != tt.want {
				t.Errorf("error %v of class %s, want %s", err, got, tt.want)
			}
		})
	}
}

func TestLateShortage(t *testing.T) {
	c := newCloud(t)
	c.SetShortages(emulator.Shortage{Late: true})
	p := c.provider(t)
	id, err := p.Create(within(t), pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	s := waitFor(t, p, id, "the group fails", func(s *providers.GroupStatus) bool { return s.Phase == providers.GroupFailed })
	if s.Reason != "NoStock" && s.Reason != "ScheduleFailed" {
		t.Errorf("reason %q, want that of the shortage", s.Reason)
	}
}

// TestActiveDeadline: the cloud ends the group by itself, also when no agent is
// there to do so.
func TestActiveDeadline(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	spec := pod("web")
	seconds := int64(1)
	spec.ActiveDeadlineSeconds = &seconds
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "the group fails at its deadline", func(s *providers.GroupStatus) bool { return s.Phase == providers.GroupFailed })
}

func TestMissingImage(t *testing.T) {
	c := newCloud(t, func(o *emulator.Options) {
		o.Sim.Images = func(string) sim.ImageVerdict { return sim.ImageNotFound }
	})
	p := c.provider(t)
	id, err := p.Create(within(t), pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	s := waitFor(t, p, id, "the image is missed", func(s *providers.GroupStatus) bool {
		w := s.Containers[0].State.Waiting
		return w != nil && (w.Reason == "ErrImagePull" || w.Reason == "ImagePullBackOff")
	})
	if s.Phase != providers.GroupPending {
		t.Errorf("phase %s, want Pending", s.Phase)
	}
	warned := false
	for _, e := range s.Events {
		warned = warned || e.Warning && e.Reason == "Failed"
	}
	if !warned {
		t.Errorf("events %+v, want a warning of the failed pull", s.Events)
	}
}

// TestBilledSize: what the cloud bills is what the size table says.
func TestBilledSize(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	spec := pod("web")
	spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("300m"), corev1.ResourceMemory: resource.MustParse("600Mi")}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := waitFor(t, p, id, "the group runs", running)
	if s.CPUMillis != 500 || s.MemoryBytes != 1<<30 {
		t.Errorf("size %dm, %d bytes, want 500m, 1 GiB", s.CPUMillis, s.MemoryBytes)
	}
	for _, e := range c.Record().Entries {
		if e.CPU != 0.5 || e.MemoryGiB != 1 {
			t.Errorf("billed as %v vCPU, %v GiB, want 0.5 and 1", e.CPU, e.MemoryGiB)
		}
	}
}

func TestPodAddressInTheEnvironment(t *testing.T) {
	p := newCloud(t).provider(t)
	spec := pod("web")
	spec.Containers[0].Command = []string{"sh", "-c", `echo "ip=$POD_IP"; sleep 600`}
	spec.Containers[0].Env = []providers.EnvVar{{Name: "POD_IP", FieldPath: "status.podIP"}}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	var got string
	s := waitFor(t, p, id, "the container has printed its address", func(s *providers.GroupStatus) bool {
		if !running(s) {
			return false
		}
		r, err := p.Logs(within(t), id, "nginx", providers.LogOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = string(b)
		return got != ""
	})
	if want := "ip=" + s.PodIP + "\n"; got != want {
		t.Errorf("the container printed %q, want %q", got, want)
	}
}

// TestConnectionsAreReused: a burst of calls does not shake hands each time.
func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int32
	c := newCloud(t)
	web := httptest.NewUnstartedServer(c.Server)
	web.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	web.StartTLS()
	t.Cleanup(web.Close)
	p := c.provider(t, func(cfg *eci.Config) {
		cfg.Endpoint, cfg.RootCAs = web.Listener.Addr().String(), x509.NewCertPool()
		cfg.RootCAs.AddCert(web.Certificate())
	})
	for range 20 {
		if err := p.Check(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections for 20 calls one after another, want 1", n)
	}
}
