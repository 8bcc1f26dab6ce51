package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// A listing that fails, or of which pages are missing, says nothing: no pod
// fails, nothing is made and nothing is removed, also by an agent that has just
// started and knows nothing else.
func TestC05ListFails(t *testing.T) {
	onBothClouds(t, cloudOptions{pageSize: 2}, func(b *bed) {
		b.start()
		pods := b.pods(5, "pod", policy(corev1.RestartPolicyNever))
		b.waitRunning(pods...)
		b.sweeps(1)
		calls, ids := b.calls(anything), b.groupIDs()
		same := func() error {
			if n := b.calls(anything) - calls; n != 0 {
				return fmt.Errorf("%d changing calls", n)
			}
			for _, p := range pods {
				if now := b.get(p.Name); !running(now) {
					return fmt.Errorf("pod %s is %s", p.Name, summary(now))
				}
			}
			return nil
		}
		// The first page of each listing arrives, the second does not.
		partial := func(f fault) (remove func()) {
			f.op = list
			return b.Hook(sim.Hook{Action: b.action(list), After: func(p sim.Passage) { b.inject(f) }})
		}
		for what, f := range map[string]fault{
			"the second page is refused": {status: 500},
			"the second page is cut":     {cut: true},
			"the second page is HTML":    {status: 200, raw: "<html>maintenance</html>"},
		} {
			remove := partial(f)
			b.holds(2500*time.Millisecond, what, same)
			remove()
			b.ClearFaults()
		}
		for what, f := range map[string]fault{
			"listings are refused":   {status: 500},
			"listings are throttled": {throttled: true},
			"listings are empty":     {status: 200, raw: "{}"},
		} {
			f.op, f.calls = list, -1
			b.inject(f)
			b.holds(2500*time.Millisecond, what, same)
			b.ClearFaults()
		}
		b.agent().Process.Kill()
		remove := partial(fault{status: 500})
		b.startWith(b.Context())
		b.holds(4*time.Second, "an agent that never saw a whole listing", same)
		remove()
		b.ClearFaults()
		b.sweeps(2)
		if err := same(); err != nil {
			b.Error(err)
		}
		if now := b.groupIDs(); !slices.Equal(now, ids) {
			b.Errorf("groups %v, want %v", now, ids)
		}
		b.untouched()
	})
}

// The watch breaks, and in the gap a pod is deleted and another one is made anew
// under its name. The groups of both go, within two sweeps.
func TestC08WatchGapLosesDelete(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		lost, again, kept := b.pod("lost"), b.pod("again"), b.pod("kept")
		b.waitRunning(lost, again, kept)
		b.tap.HoldWatches(podWatches, true)
		b.must(10*time.Second, "the watch is cut", func() error {
			if n := b.tap.Watches(podWatches); n > 0 {
				return fmt.Errorf("%d are open", n)
			}
			return nil
		})
		b.forget(lost)
		b.forget(again)
		anew := b.pod("again")
		b.sweeps(2)
		if n := len(b.Fleet().Groups()); n != 3 {
			b.Errorf("%d groups while the agent cannot know better, want 3", n)
		}
		b.tap.Release()
		b.waitRunning(anew)
		b.sweeps(2)
		b.must(2*time.Second, "the groups of the deleted pods are gone", func() error {
			if n := len(b.groupsOf(lost.UID)) + len(b.groupsOf(again.UID)); n > 0 {
				return fmt.Errorf("%d are left", n)
			}
			return nil
		})
		b.group(anew)
		b.group(kept)
		b.untouched()
	})
}

// The cloud does not answer for ten minutes, and for an hour. The node and its
// pods stay as they are, with a condition and a taint that tell; what happened
// meanwhile is made up for by itself.
func TestC19CloudDown(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]struct {
		lasts time.Duration
		speed int64
	}{
		"ten minutes": {10 * time.Minute, 60},
		"an hour":     {time.Hour, 240},
	} {
		t.Run(name, func(t *testing.T) {
			onBothClouds(t, cloudOptions{speed: outage.speed}, func(b *bed) { b.cloudDown(outage.lasts) })
		})
	}
}

func (b *bed) cloudDown(lasts time.Duration) {
	b.Helper()
	b.runInside(nil, nil)
	stays, ends, deleted := b.pod("stays"), b.pod("ends", policy(corev1.RestartPolicyNever)), b.pod("deleted")
	b.waitRunning(stays, ends, deleted)
	b.sweeps(2)
	before, ready := b.get("stays"), conditionOf(b.nodeObject(), corev1.NodeReady).LastTransitionTime
	b.ends["ends"] = corev1.PodFailed

	b.inject(fault{cut: true, calls: -1})
	down := b.clock.Now()
	b.waitCondition(v1alpha1.CloudReachableCondition, corev1.ConditionFalse)
	b.must(20*time.Second, "the node has the taint", func() error {
		if !hasTaint(b.nodeObject(), v1alpha1.CloudUnreachableTaintKey) {
			return fmt.Errorf("it has not")
		}
		return nil
	})
	if err := b.group(ends).Exit("app", 3); err != nil {
		b.Fatal(err)
	}
	b.forget(deleted)
	late := b.pod("late")
	b.pass(lasts - b.clock.Since(down))

	if now := b.get("stays"); now.ResourceVersion != before.ResourceVersion {
		b.Errorf("pod stays was changed during the outage: %s, before %s", summary(now), summary(before))
	}
	for _, p := range b.history.of(ends.UID) {
		if p.Status.Phase == corev1.PodFailed {
			b.Error("a pod failed while the cloud did not answer")
		}
	}
	if c := conditionOf(b.nodeObject(), corev1.NodeReady); c.Status != corev1.ConditionTrue || !c.LastTransitionTime.Equal(&ready) {
		b.Errorf("Ready is %s since %s, want it since %s", c.Status, c.LastTransitionTime, ready)
	}
	lease, err := b.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(b.Context(), b.node, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if age := time.Since(lease.Spec.RenewTime.Time); age > 15*time.Second {
		b.Errorf("the lease was renewed %s ago", age)
	}

	b.ClearFaults()
	b.waitCondition(v1alpha1.CloudReachableCondition, corev1.ConditionTrue)
	b.waitRunning(late)
	failed := b.wait("ends", "has failed", phase(corev1.PodFailed))
	if c := failed.Status.ContainerStatuses[0].State.Terminated; c == nil || c.ExitCode != 3 {
		b.Errorf("the container ended as %v, want exit code 3", failed.Status.ContainerStatuses[0].State)
	}
	b.must(20*time.Second, "the deleted pod's group is gone and the taint too", func() error {
		if n := len(b.groupsOf(deleted.UID)); n > 0 {
			return fmt.Errorf("%d groups are left", n)
		}
		if hasTaint(b.nodeObject(), v1alpha1.CloudUnreachableTaintKey) {
			return fmt.Errorf("the node has the taint")
		}
		return nil
	})
	b.untouched()
	if n := b.made(); n != 4 {
		b.Errorf("%d groups were made for 4 pods", n)
	}
}

// The API server is killed. The agent deletes and makes nothing while it cannot
// ask, keeps what it knows, and goes on when the API server is back. The test
// is not parallel: no other scenario runs meanwhile.
func TestC20APIServerDown(t *testing.T) {
	var beds []*bed
	for _, cloud := range []string{"eci", "aci"} {
		b := newBed(t, cloud, cloudOptions{})
		b.coldRoles = true
		b.start()
		beds = append(beds, b)
	}
	type work struct{ stays, ends, deleted, forgotten *corev1.Pod }
	works := make([]work, len(beds))
	for i, b := range beds {
		works[i] = work{b.pod("stays"), b.pod("ends", policy(corev1.RestartPolicyNever)), b.pod("deleted"), b.pod("forgotten")}
		b.waitRunning(works[i].stays, works[i].ends, works[i].deleted, works[i].forgotten)
		b.sweeps(1)
		b.ends["ends"] = corev1.PodFailed
		// Deleted and forgotten just before, so that the agent may not know yet.
		b.tap.HoldWatches(podWatches, false)
		b.forget(works[i].forgotten)
		b.delete(works[i].deleted)
	}
	calls := []int{beds[0].calls(anything), beds[1].calls(anything)}
	if err := system.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	start := sync.OnceFunc(func() {
		if err := system.StartAPIServer(context.Background()); err != nil {
			t.Error(err)
		}
	})
	defer start() // the other scenarios need it, too
	for i, b := range beds {
		b.tap.Release()
		if err := b.group(works[i].ends).Exit("app", 3); err != nil {
			t.Error(err)
		}
	}
	// Longer than the agents lead without renewing their Lease.
	beds[0].holds(10*time.Second, "while the API server is away", func() error {
		for i, b := range beds {
			if n := b.calls(anything) - calls[i]; n != 0 {
				return fmt.Errorf("%s: %d changing calls: %v", b.name(), n, b.Record().Calls[calls[i]:])
			}
		}
		return nil
	})
	start()
	for i, b := range beds {
		b.wait("ends", "has failed", phase(corev1.PodFailed))
		b.must(time.Minute, "only the groups of the pods that stay are there", func() error {
			if n := len(b.Fleet().Groups()); n != 2 || !b.gone(works[i].deleted) {
				return fmt.Errorf("%d groups are there, the deleted pod is gone: %t", n, b.gone(works[i].deleted))
			}
			return nil
		})
		b.group(works[i].stays)
		after := b.pod("after")
		b.waitRunning(after)
		b.untouched()
		b.waitReady()
	}
}
