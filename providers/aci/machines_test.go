package aci_test

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

// An evicted Spot group has no machine until the service has another, and its
// containers are started again there.
func TestEvictedGroup(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) { o.Settings.EvictionTime = 200 * time.Millisecond })
	p := newProvider(t, server)
	spec := podSpec("0b1f")
	spec.Annotations = map[string]string{"autoburst.io/aci-priority": "Spot", "autoburst.io/aci-public-ip": "false"}
	id := create(t, p, spec)
	eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
	if err := server.Evict(server.Fleet().Groups()[0].ID()); err != nil {
		t.Fatal(err)
	}
	g := eventually(t, p, id, "its machine is gone", func(g *providers.Group) bool { return g.Status.Displaced })
	if g.Status.Phase != providers.GroupRunning {
		t.Errorf("an evicted group that ran is %s, want Running: the service starts it again", g.Status.Phase)
	}
	eventually(t, p, id, "it runs again", func(g *providers.Group) bool {
		c := g.Status.Containers[0]
		return !g.Status.Displaced && c.State.Running != nil && c.RestartCount == 1
	})
}

// The platform ends containers for maintenance and starts them again, also those
// that are never to be restarted. No look in between says that they have ended.
func TestMaintainedGroup(t *testing.T) {
	server := newCloud(t, func(o *emulator.Options) { o.Sim.Timing.Restart = 50 * time.Millisecond })
	p := newProvider(t, server)
	spec := podSpec("0b1f")
	spec.RestartPolicy = corev1.RestartPolicyNever
	id := create(t, p, spec)
	eventually(t, p, id, "it runs", inPhase(providers.GroupRunning))
	if err := server.Maintain(server.Fleet().Groups()[0].ID(), emulator.PlatformExit); err != nil {
		t.Fatal(err)
	}
	g := eventually(t, p, id, "it runs again", func(g *providers.Group) bool {
		c := g.Status.Containers[0]
		if g.Status.Phase != providers.GroupRunning || c.State.Terminated != nil {
			t.Fatalf("phase %s, container %+v", g.Status.Phase, c.State)
		}
		return c.State.Running != nil && c.RestartCount == 1
	})
	if l := g.Status.Containers[0].LastTerminationState.Terminated; l == nil || l.ExitCode != emulator.PlatformExit {
		t.Errorf("the last run ended with %+v, want exit code %d", l, emulator.PlatformExit)
	}
	told := 0
	for _, e := range g.Status.Events {
		if e.Reason == "PlatformMaintenance" && e.Container == "app" {
			told++
		}
	}
	if told != 1 {
		t.Errorf("%d events of maintenance, want 1", told)
	}
}
