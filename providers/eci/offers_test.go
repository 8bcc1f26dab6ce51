package eci_test

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

const annotation = "k8s.aliyun.com/eci-"

// asking is a pod with annotations for ECI.
func asking(name string, annotations ...string) *providers.GroupSpec {
	s := pod(name)
	s.Annotations = map[string]string{}
	for i := 0; i+1 < len(annotations); i += 2 {
		s.Annotations[annotation+annotations[i]] = annotations[i+1]
	}
	s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")}
	return s
}

// creates are the codes that creates were answered with.
func (c *cloud) creates() []string {
	var codes []string
	for _, call := range c.Record().Calls {
		if call.Action == "CreateContainerGroup" {
			codes = append(codes, call.Code)
		}
	}
	return codes
}

// only is the one group there is.
func (c *cloud) only(t *testing.T) sim.State {
	t.Helper()
	groups := c.Fleet().Groups()
	if len(groups) != 1 {
		t.Fatalf("there are %d groups, want 1", len(groups))
	}
	return groups[0].Snapshot()
}

func TestOffers(t *testing.T) {
	spot := []string{"spot-strategy", "SpotAsPriceGo"}
	fallback := append(spot, "spot-fallback", "true")
	market := emulator.Fault{Action: "CreateContainerGroup", Status: 403, Code: "Spot.NotMatched", Match: func(m url.Values) bool { return m.Get("SpotStrategy") != "" }}
	tests := map[string]struct {
		annotations []string
		config      map[string]string
		short       []emulator.Shortage
		fault       *emulator.Fault
		codes       []string
		want        providers.ErrorClass
		spot        bool
		cpu, memory float64
	}{
		"spot":                  {annotations: spot, codes: []string{"OK"}, spot: true, cpu: 2, memory: 2},
		"spot that is short":    {annotations: spot, short: []emulator.Shortage{{SpotOnly: true}}, codes: []string{"OperationDenied.NoStock"}, want: providers.NoSuchStock},
		"fallback":              {annotations: fallback, short: []emulator.Shortage{{SpotOnly: true}}, codes: []string{"OperationDenied.NoStock", "OK"}, cpu: 0.5, memory: 1},
		"fallback, by price":    {annotations: fallback, fault: &market, cpu: 0.5, memory: 1, codes: []string{"OK"}},
		"fallback, nothing":     {annotations: fallback, short: []emulator.Shortage{{}}, codes: []string{"OperationDenied.NoStock", "OperationDenied.NoStock"}, want: providers.OutOfStock},
		"by the node":           {config: map[string]string{annotation + "spot-strategy": "SpotAsPriceGo", annotation + "spot-fallback": "true"}, short: []emulator.Shortage{{SpotOnly: true}}, codes: []string{"OperationDenied.NoStock", "OK"}, cpu: 0.5, memory: 1},
		"spot only by the node": {config: map[string]string{annotation + "spot-strategy": "SpotAsPriceGo"}, short: []emulator.Shortage{{SpotOnly: true}}, codes: []string{"OperationDenied.NoStock"}, want: providers.OutOfStock},
		"the second type":       {annotations: []string{"use-specs", "ecs.c6.large,ecs.r6.large"}, short: []emulator.Shortage{{InstanceType: "ecs.c6.large"}}, codes: []string{"OK"}, cpu: 2, memory: 16},
		"a size after a type":   {annotations: []string{"use-specs", "ecs.c6.large,1-4Gi"}, short: []emulator.Shortage{{InstanceType: "ecs.c6.large"}}, codes: []string{"OperationDenied.NoStock", "OK"}, cpu: 1, memory: 4},
		"no type at all":        {annotations: []string{"use-specs", "ecs.c6.large"}, short: []emulator.Shortage{{InstanceType: "ecs.c6.large"}}, codes: []string{"OperationDenied.NoStock"}, want: providers.NoSuchStock},
		"the second zone":       {short: []emulator.Shortage{{ZoneID: "cn-hangzhou-h"}}, codes: []string{"OK"}, cpu: 0.5, memory: 1},
		"its own zone only":     {annotations: []string{"vswitch", "vsw-h"}, short: []emulator.Shortage{{ZoneID: "cn-hangzhou-h"}}, codes: []string{"OperationDenied.NoStock"}, want: providers.NoSuchStock},
		"a VSwitch of nobody's": {annotations: []string{"vswitch", "vsw-none"}, codes: []string{"InvalidParameter"}, want: providers.InvalidPod},
		"a closed VSwitch":      {annotations: []string{"vswitch", "vsw-secret"}, want: providers.InvalidPod},
		"a closed role":         {annotations: []string{"ram-role-name", "Admin"}, want: providers.InvalidPod},
		"an open role":          {annotations: []string{"ram-role-name", "Reader"}, codes: []string{"OK"}, cpu: 0.5, memory: 1},
		"a wrong annotation":    {annotations: []string{"spot-strategy", "cheap"}, want: providers.InvalidPod},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.SetShortages(tt.short...)
			if tt.fault != nil {
				c.Inject(*tt.fault)
			}
			p := c.provider(t, func(cfg *eci.Config) {
				cfg.PodAnnotations = tt.config
				cfg.AllowedVSwitches, cfg.AllowedRAMRoles = []string{"vsw-none"}, []string{"Reader"}
			})
			_, err := p.Create(within(t), asking("web", tt.annotations...))
			if got := providers.ClassOf(err); got != tt.want {
				t.Fatalf("error %v of class %s, want %s", err, got, tt.want)
			}
			if diff := cmp.Diff(tt.codes, c.creates()); diff != "" {
				t.Errorf("creates (-want +got):\n%s", diff)
			}
			if err != nil {
				return
			}
			if s := c.only(t).Spec; s.Spot != tt.spot || s.CPU != tt.cpu || s.MemoryGiB != tt.memory {
				t.Errorf("spot %v, %g vCPU, %g GiB, want %v, %g, %g", s.Spot, s.CPU, s.MemoryGiB, tt.spot, tt.cpu, tt.memory)
			}
		})
	}
}

// Whatever answer is lost, and whether or not the service remembers refusals, a pod
// with a fallback gets one group, and says once that it is on demand.
func TestFallbackMakesOneGroup(t *testing.T) {
	for name, remembers := range map[string]bool{"refusals are forgotten": false, "refusals are remembered": true} {
		for lost := range 4 {
			t.Run(name, func(t *testing.T) {
				c := newCloud(t, func(o *emulator.Options) { o.RememberRefusals = remembers })
				c.SetShortages(emulator.Shortage{SpotOnly: true})
				nth := 0
				c.Inject(emulator.Fault{Action: "CreateContainerGroup", AfterEffect: true, Cut: true, Match: func(url.Values) bool {
					nth++
					return nth == lost
				}})
				spec := asking("web", "spot-strategy", "SpotAsPriceGo", "spot-fallback", "true")
				var id string
				for try := 0; ; try++ {
					// As a restarted agent: a provider that remembers nothing.
					var err error
					if id, err = c.provider(t, settled).Create(within(t), spec); err == nil {
						break
					}
					if try == 5 {
						t.Fatalf("no group after %d tries: %v", try, err)
					}
				}
				if made := c.made(spec.Owner.PodUID); len(made) != 1 || made[0] != id {
					t.Fatalf("groups %v, want %s alone", made, id)
				}
				c.ClearFaults()
				// The stock comes back, and an agent that lost its memory asks again.
				c.SetShortages()
				if again, err := c.provider(t).Create(within(t), spec); err != nil || again != id {
					t.Errorf("asked again: %s, %v, want %s", again, err, id)
				}
				if made := c.made(spec.Owner.PodUID); len(made) != 1 {
					t.Errorf("groups %v, want one", made)
				}
				s := waitFor(t, c.provider(t), id, "it runs", running)
				told := 0
				for _, e := range s.Events {
					if e.Reason == "SpotFallback" {
						told++
					}
				}
				if told != 1 {
					t.Errorf("%d events say that it is on demand, want 1: %v", told, s.Events)
				}
			})
		}
	}
}

// settled trusts the first look for a group.
func settled(cfg *eci.Config) { cfg.SettleTime = -1 }

// Where ECI refuses the token of an offer that had no stock, another one is used only
// when the pod has been found without a group for a while.
func TestFallbackWaitsForLateTags(t *testing.T) {
	const settle = 300 * time.Millisecond
	c := newCloud(t, func(o *emulator.Options) { o.RememberRefusals = true })
	c.SetShortages(emulator.Shortage{SpotOnly: true})
	p := c.provider(t, func(cfg *eci.Config) { cfg.SettleTime = settle })
	spec := asking("web", "spot-strategy", "SpotAsPriceGo", "spot-fallback", "true")
	begun := time.Now()
	for {
		id, err := p.Create(within(t), spec)
		took := time.Since(begun)
		if err == nil {
			if took < settle {
				t.Errorf("group %s was made after %s, want %s at least", id, took, settle)
			}
			break
		}
		if e := (*providers.Error)(nil); !errors.As(err, &e) || e.Class != providers.Conflict || e.RetryAfter <= 0 || e.RetryAfter > settle {
			t.Fatalf("error %v, want a Conflict that says for how long", err)
		}
		if took > 20*settle {
			t.Fatalf("no group after %s", took)
		}
		<-time.After(settle / 4)
	}
	if made := c.made(spec.Owner.PodUID); len(made) != 1 {
		t.Errorf("groups %v, want one", made)
	}
}

// A spot instance that is short is not asked for again by each pod that takes one on
// demand as well.
func TestSpotShortageIsRemembered(t *testing.T) {
	tests := map[string]struct {
		shortage emulator.Shortage
		codes    []string
	}{
		"at once": {emulator.Shortage{SpotOnly: true}, []string{"OperationDenied.NoStock", "OK", "OK"}},
		"late":    {emulator.Shortage{SpotOnly: true, Late: true}, []string{"OK", "OK"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t)
			c.SetShortages(tt.shortage)
			p := c.provider(t)
			for _, n := range []string{"first", "second"} {
				id, err := p.Create(within(t), asking(n, "spot-strategy", "SpotAsPriceGo", "spot-fallback", "true"))
				if err != nil {
					t.Fatal(err)
				}
				s := waitFor(t, p, id, "its fate is known", func(s *providers.GroupStatus) bool { return s.Phase != providers.GroupPending })
				if n == "first" && tt.shortage.Late {
					if s.Refused != providers.NoSuchStock {
						t.Errorf("refused as %q, want %s", s.Refused, providers.NoSuchStock)
					}
					if _, err := p.List(within(t)); err != nil {
						t.Fatal(err)
					}
					_, err := p.Create(within(t), asking("spot-only", "spot-strategy", "SpotAsPriceGo"))
					if providers.ClassOf(err) != providers.NoSuchStock {
						t.Errorf("error %v for spot alone, want %s without a call", err, providers.NoSuchStock)
					}
				} else if s.Phase != providers.GroupRunning {
					t.Errorf("%s is %s, want it to run on demand", n, s.Phase)
				}
			}
			if diff := cmp.Diff(tt.codes, c.creates()); diff != "" {
				t.Errorf("creates (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReclaimNotice(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	id, err := p.Create(within(t), asking("web", "spot-strategy", "SpotAsPriceGo"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "it runs", running)
	see := func(what string, ask func() ([]providers.Group, error)) *providers.GroupStatus {
		t.Helper()
		groups, err := ask()
		if err != nil || len(groups) != 1 {
			t.Fatalf("%s: %v, %v", what, groups, err)
		}
		return groups[0].Status
	}
	list := func() ([]providers.Group, error) { return p.List(within(t)) }
	changes := func() ([]providers.Group, error) { return p.Changes(within(t), time.Minute) }
	if s := see("before", list); s.ReclaimNotice != "" {
		t.Fatalf("notice %q before there is one", s.ReclaimNotice)
	}
	live := c.Fleet().Groups()[0]
	live.AddEvent(sim.Warning, "SpotToBeReleased", "The spot instance will be released in 3 minutes.")
	for _, what := range []string{"at the notice", "after it"} {
		s := see(what, changes)
		if !strings.Contains(s.ReclaimNotice, "released in 3 minutes") || s.Phase != providers.GroupRunning {
			t.Errorf("%s: notice %q, phase %s", what, s.ReclaimNotice, s.Phase)
		}
	}
	if err := live.Expire("SpotToBeReleased", "The spot instance is released."); err != nil {
		t.Fatal(err)
	}
	s := waitFor(t, p, id, "it is gone", func(s *providers.GroupStatus) bool { return s.Phase == providers.GroupFailed })
	if !s.Reclaimed || s.Reason != "SpotToBeReleased" {
		t.Errorf("reclaimed %v, reason %q", s.Reclaimed, s.Reason)
	}
}

// With more groups than one answer of events has, those of this node are named.
func TestReclaimNoticeAmongMany(t *testing.T) {
	c := newCloud(t, func(o *emulator.Options) { o.PageSize = 2 })
	p := c.provider(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		id, err := p.Create(within(t), asking(name, "spot-strategy", "SpotAsPriceGo"))
		if err != nil {
			t.Fatal(err)
		}
		waitFor(t, p, id, "it runs", running)
	}
	if _, err := p.List(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, g := range c.Fleet().Groups() {
		if g.Snapshot().Spec.Name == "default-e" {
			g.AddEvent(sim.Warning, "SpotToBeReleased", "soon")
		}
	}
	groups, err := p.Changes(within(t), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if noticed := g.Status.ReclaimNotice != ""; noticed != (g.Owner.PodName == "e") {
			t.Errorf("pod %s: notice %q", g.Owner.PodName, g.Status.ReclaimNotice)
		}
	}
}

// A sidecar starts before the others, ends after them and keeps no job alive.
func TestSidecarOfAJob(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	spec := pod("job")
	spec.RestartPolicy = corev1.RestartPolicyNever
	spec.InitContainers = []providers.Container{
		{Name: "init", Image: "busybox", Command: []string{"true"}},
		{Name: "proxy", Image: "busybox", Command: []string{"sleep", "1000"}, Sidecar: true},
	}
	spec.Containers = []providers.Container{{Name: "work", Image: "busybox", Command: []string{"sh", "-c", "sleep 0.2"}}}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	s := waitFor(t, p, id, "it ends", func(s *providers.GroupStatus) bool {
		return s.Phase == providers.GroupSucceeded || s.Phase == providers.GroupFailed
	})
	if s.Phase != providers.GroupSucceeded || len(s.InitContainers) != 1 || len(s.Containers) != 2 || s.Containers[0].Name != "proxy" {
		t.Fatalf("phase %s, init containers %v, containers %v", s.Phase, s.InitContainers, s.Containers)
	}
	proxy, work := s.Containers[0].State.Terminated, s.Containers[1].State.Terminated
	if proxy == nil || work == nil || proxy.ExitCode != 0 {
		t.Fatalf("the sidecar ended with %v, the job with %v", proxy, work)
	}
	if proxy.StartedAt.After(work.StartedAt.Time) || proxy.FinishedAt.Before(&work.FinishedAt) {
		t.Errorf("the sidecar ran from %s to %s, the job from %s to %s", proxy.StartedAt, proxy.FinishedAt, work.StartedAt, work.FinishedAt)
	}
}

func TestPublicAddress(t *testing.T) {
	c := newCloud(t, func(o *emulator.Options) {
		o.EIPs = map[string]netip.Addr{"eip-1": netip.MustParseAddr("198.51.100.7")}
	})
	p := c.provider(t)
	tests := map[string]struct {
		annotations []string
		want        providers.ErrorClass
	}{
		"its own":    {[]string{"with-eip", "true"}, ""},
		"an old one": {[]string{"eip-instanceid", "eip-1"}, ""},
		"a missing":  {[]string{"eip-instanceid", "eip-2"}, providers.InvalidPod},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := p.Create(within(t), asking(strings.ReplaceAll(name, " ", "-"), tt.annotations...))
			if providers.ClassOf(err) != tt.want {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

// Why a container was restarted stands in the events, which the short answer lacks.
func TestEventsOfARestart(t *testing.T) {
	c := newCloud(t)
	p := c.provider(t)
	id, err := p.Create(within(t), pod("web"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "it runs", running)
	if _, err := p.List(within(t)); err != nil {
		t.Fatal(err)
	}
	live := c.Fleet().Groups()[0]
	live.AddEvent(sim.Warning, "OOMKilled", "Memory cgroup out of memory.")
	if err := live.End("nginx", sim.Termination{ExitCode: 137, Signal: 9, Reason: "OOMKilled"}); err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "it was restarted", func(s *providers.GroupStatus) bool { return s.Containers[0].RestartCount == 1 && running(s) })
	groups, err := p.Changes(within(t), time.Minute)
	if err != nil || len(groups) != 1 {
		t.Fatalf("%v, %v", groups, err)
	}
	s := groups[0].Status
	if !slices.ContainsFunc(s.Events, func(e providers.Event) bool { return e.Reason == "OOMKilled" && e.Warning }) {
		t.Errorf("events %v, want that the memory ran out", s.Events)
	}
	if last := s.Containers[0].LastTerminationState.Terminated; last == nil || last.Reason != "OOMKilled" || last.ExitCode != 137 {
		t.Errorf("the run before ended with %+v", last)
	}
}
