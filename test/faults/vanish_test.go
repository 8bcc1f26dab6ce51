package faults

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// A group is deleted in the cloud's console. Its pod fails, and never counts as
// succeeded, after two listings without it and a look at the group itself.
func TestC16InstanceVanishes(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		p := b.pod("pod", policy(corev1.RestartPolicyNever))
		b.waitRunning(p)
		b.sweeps(1)
		b.ends["pod"] = corev1.PodFailed
		var lists atomic.Int32
		b.Hook(sim.Hook{Action: b.action(list), After: func(p sim.Passage) { lists.Add(1) }})
		b.group(p).Remove()
		failed := b.wait("pod", "has failed", phase(corev1.PodFailed))
		if n := lists.Load(); n < 2 {
			b.Errorf("the pod failed after %d looks", n)
		}
		if failed.Status.Reason != "GroupVanished" || failed.Status.Message == "" {
			b.Errorf("reason %q: %q", failed.Status.Reason, failed.Status.Message)
		}
		if c := failed.Status.ContainerStatuses[0].State.Terminated; c == nil || c.ExitCode == 0 {
			b.Errorf("the container ended as %v, want an exit code that is not 0", failed.Status.ContainerStatuses[0].State)
		}
		b.sweeps(2)
		if n := b.made(); n != 1 {
			b.Errorf("%d groups were made, want 1", n)
		}
	})
}

// An agent starts while whole listings lack what runs. It asks for the group of each
// pod before it believes them. While it is not answered it changes nothing; once it is,
// only the pod fails whose group went while no agent ran, and a pod that is deleted
// stays until its group is gone.
func TestC16ListingsLackInstances(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		stays, deleted, lost := b.pod("stays", policy(corev1.RestartPolicyNever)), b.pod("deleted"), b.pod("lost", policy(corev1.RestartPolicyNever))
		b.waitRunning(stays, deleted, lost)
		b.sweeps(1)
		b.agent().Process.Kill()
		b.group(lost).Remove()
		lies := fault{op: list, calls: -1, status: 200, raw: b.nothing()}
		b.inject(lies)
		b.inject(fault{op: read, calls: -1, status: 503})
		calls := b.calls(anything)
		b.startWith(b.Context())
		b.holds(8*time.Second, "while the agent is told that there is nothing", func() error {
			for _, p := range []*corev1.Pod{stays, deleted, lost} {
				if now := b.get(p.Name); !running(now) {
					return fmt.Errorf("pod %s is %s", p.Name, summary(now))
				}
			}
			if n := b.calls(anything) - calls; n != 0 {
				return fmt.Errorf("%d changing calls", n)
			}
			return nil
		})

		b.ends["lost"] = corev1.PodFailed
		g := b.group(deleted)
		b.ClearFaults()
		b.inject(lies)
		b.delete(deleted)
		failed := b.wait("lost", "has failed", phase(corev1.PodFailed))
		if failed.Status.Reason != "GroupVanished" {
			b.Errorf("reason %q: %q", failed.Status.Reason, failed.Status.Message)
		}
		b.must(30*time.Second, "the deleted pod is gone", func() error {
			there := g.Phase() != sim.Deleted
			if !b.gone(deleted) {
				return errors.New("it is there")
			}
			if there {
				b.Fatal("the pod was gone before its group")
			}
			return nil
		})
		if now := b.get("stays"); !running(now) {
			b.Errorf("pod stays is %s", summary(now))
		}
		b.ClearFaults()
		b.sweeps(2)
		b.group(stays)
		b.untouched()
		if n := b.made(); n != 3 {
			b.Errorf("%d groups were made for 3 pods", n)
		}
	})
}

// A group vanishes before its pod ran, and the agent is killed: the next one knows
// nothing of that. ACI makes another one, when the first is gone. ECI remembers the
// first and makes no second, so the pods fail for their owners to replace them,
// whether or not their members have changed.
func TestC16VanishesBeforeItRan(t *testing.T) {
	timing := quick()
	timing.Pull = 3 * time.Second
	onBothClouds(t, cloudOptions{timing: &timing}, func(b *bed) {
		b.start()
		pods := []*corev1.Pod{b.pod("same"), b.pod("changed", withToken)}
		b.waitGroups(2)
		b.agent().Process.Kill()
		for _, p := range pods {
			if now := b.get(p.Name); now.Status.Phase != corev1.PodPending {
				b.Fatalf("pod %s is %s, too early for this scenario", p.Name, summary(now))
			}
			b.group(p).Remove()
		}
		if b.name() == "aci" {
			b.start()
			b.waitRunning(pods...)
			if n := b.made(); n != 4 {
				b.Errorf("%d groups were made for 2 pods that lost one each, want 4", n)
			}
			b.untouched()
			return
		}
		for _, p := range pods {
			b.ends[p.Name] = corev1.PodFailed
		}
		b.start()
		for _, p := range pods {
			failed := b.wait(p.Name, "has failed", phase(corev1.PodFailed))
			if failed.Status.Reason != "GroupVanished" {
				b.Errorf("pod %s: reason %q: %q", p.Name, failed.Status.Reason, failed.Status.Message)
			}
		}
		if n := b.made(); n != 2 {
			b.Errorf("%d groups were made for 2 pods, want 2", n)
		}
	})
}
