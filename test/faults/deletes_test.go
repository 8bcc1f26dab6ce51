package faults

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// slowEnd makes every container take its time to end.
func slowEnd(d time.Duration) func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
	return func(sim.Spec, sim.Container, int) (sim.Plan, bool) { return sim.Plan{StopAfter: d}, true }
}

// A StatefulSet makes a pod anew under the same name while the group of the old
// one still ends: they are two, and nothing of the old one shows on the new one.
// ACI cannot run the pods of a StatefulSet, which have host names; there the test
// makes the pod anew.
func TestC09SameNameAgain(t *testing.T) {
	onBothClouds(t, cloudOptions{plan: slowEnd(3 * time.Second)}, func(b *bed) {
		b.start()
		if b.name() == "eci" {
			b.statefulSet("db")
		} else {
			b.pod("db-0")
		}
		b.must(20*time.Second, "the pod exists", func() error {
			_, err := b.client.CoreV1().Pods(b.ns).Get(b.Context(), "db-0", metav1.GetOptions{})
			return err
		})
		old := b.wait("db-0", "runs", running)
		b.forget(old)
		if b.name() == "aci" {
			b.pod("db-0")
		}
		overlap := false
		b.must(30*time.Second, "a new pod of the same name runs", func() error {
			p, err := b.client.CoreV1().Pods(b.ns).Get(b.Context(), "db-0", metav1.GetOptions{})
			switch {
			case err != nil:
				return err
			case p.UID == old.UID:
				return fmt.Errorf("it is the old one")
			case !running(p):
				return fmt.Errorf("it is %s", summary(p))
			}
			overlap = overlap || len(b.groupsOf(old.UID)) == 1
			return nil
		})
		if !overlap {
			b.Error("the old group was gone before the new pod ran: the test proves nothing")
		}
		now := b.get("db-0")
		b.waitGroups(1)
		b.sweeps(2)
		began := b.group(now).Created().Truncate(time.Second)
		for _, p := range b.history.of(now.UID) {
			if p.Status.PodIP != "" && p.Status.PodIP == old.Status.PodIP {
				b.Errorf("the new pod shows the address of the old one, %s", old.Status.PodIP)
			}
			for _, c := range p.Status.ContainerStatuses {
				if r := c.State.Running; r != nil && r.StartedAt.Time.Before(began) || c.State.Terminated != nil || c.RestartCount > 0 {
					b.Errorf("the new pod shows a container of the old one: %+v", c.State)
				}
			}
		}
		if n := b.made(); n != 2 {
			b.Errorf("%d groups were made for 2 pods", n)
		}
	})
}

// statefulSet makes one of one pod.
func (b *bed) statefulSet(name string) {
	b.Helper()
	labels := map[string]string{"app": name}
	if _, err := b.client.AppsV1().StatefulSets(b.ns).Create(b.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: b.podSpec()},
		},
	}, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// A pod is deleted with force, so that it is gone at once. Its group follows.
func TestC10ForceDelete(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		pods := b.pods(3, "pod")
		b.waitRunning(pods[:2]...)
		for _, p := range pods {
			if _, err := system.Kubectl(b.Context(), "", "--namespace="+b.ns, "delete", "pod", p.Name, "--force", "--grace-period=0"); err != nil {
				b.Fatal(err)
			}
			if !b.gone(p) {
				b.Errorf("pod %s is there after it was deleted with force", p.Name)
			}
		}
		b.waitGroups(0)
		b.sweeps(2)
		if n := len(b.Fleet().Groups()); n != 0 {
			b.Errorf("%d groups came back", n)
		}
	})
}

// The cloud refuses deletes for three hours. None is forgotten, none is asked
// for all the time, and the pod says what is the matter.
func TestC11DeleteFailsForHours(t *testing.T) {
	onBothClouds(t, cloudOptions{speed: 600}, func(b *bed) {
		const hours = 3
		agent := b.runInside(nil, nil)
		asked, forgotten := b.pod("asked"), b.pod("forgotten")
		b.waitRunning(asked, forgotten)
		var asks atomic.Int32
		b.Hook(sim.Hook{Action: b.action(remove), Before: func(sim.Passage) { asks.Add(1) }})
		b.inject(fault{op: remove, calls: -1, status: 500})
		b.delete(asked)
		b.forget(forgotten)
		b.pass(hours * time.Hour)
		if b.gone(asked) || len(b.Fleet().Groups()) != 2 {
			b.Errorf("the pod is gone: %t, with %d groups in the cloud", b.gone(asked), len(b.Fleet().Groups()))
		}
		// About once a minute for each, so that it shows when the cloud takes them
		// again. On the fast clock the calls themselves take minutes.
		if n := asks.Load(); n < 2*hours*5 || n > 2*hours*75 {
			b.Errorf("%d deletes were asked for in %d hours, want at most about %d", n, hours, 2*hours*60)
		}
		e := b.waitEvent(asked, "GroupNotDeleted")
		if e.Type != corev1.EventTypeWarning {
			b.Errorf("the event is of type %s", e.Type)
		}
		if n := agent.metric(b.T, "autoburst_provider_requests_total", "Delete"); n < 2*hours*5 {
			b.Errorf("the metric counts %v deletes", n)
		}
		b.ClearFaults()
		b.waitGroups(0)
		if !b.gone(asked) {
			b.must(10*time.Second, "the pod is gone", func() error {
				if !b.gone(asked) {
					return fmt.Errorf("it is there")
				}
				return nil
			})
		}
	})
}

// The cloud accepts a delete and takes its time. The pod is there as long as the
// group is, also when the agent is killed meanwhile.
func TestC12DeleteLingers(t *testing.T) {
	onBothClouds(t, cloudOptions{plan: slowEnd(6 * time.Second)}, func(b *bed) {
		b.start()
		p := b.pod("pod")
		b.waitRunning(p)
		g := b.group(p)
		b.delete(p)
		b.must(10*time.Second, "the cloud is ending the group", func() error {
			if phase := g.Phase(); phase != sim.Terminating {
				return fmt.Errorf("it is %s", phase)
			}
			return nil
		})
		b.holds(1500*time.Millisecond, "while the cloud ends the group", func() error {
			if there := g.Phase() != sim.Deleted; there && b.gone(p) {
				return errors.New("the pod was gone before its group")
			}
			return nil
		})
		b.agent().Process.Kill()
		b.startWith(b.Context())
		b.must(30*time.Second, "the pod is gone", func() error {
			there := g.Phase() != sim.Deleted
			if !b.gone(p) {
				return fmt.Errorf("it is there")
			}
			if there {
				b.Fatal("the pod was gone before its group")
			}
			return nil
		})
	})
}

// A hundred pods against the cloud's flow control, and their deletion
// while others still start: creates keep to the cloud's rate, deletes do not wait
// behind them, and statuses follow.
func TestC30BurstThenMassDelete(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		const burst, perSecond = 40, 20
		b.rate(burst, perSecond)
		old := b.pods(40, "old")
		b.waitRunning(old...)
		begun := time.Now()
		fresh := b.pods(60, "new")
		for _, p := range old {
			b.delete(p)
		}
		gone := func(list []*corev1.Pod) int {
			n := 0
			for _, p := range list {
				if len(b.groupsOf(p.UID)) == 0 {
					n++
				}
			}
			return n
		}
		b.must(30*time.Second, "the old groups are gone", func() error {
			if n := gone(old); n < len(old) {
				return fmt.Errorf("%d of %d are", n, len(old))
			}
			return nil
		})
		deleted := time.Since(begun)
		b.waitRunning(fresh...)
		started := time.Since(begun)
		if deleted > started {
			b.Errorf("the deletes took %s, the creates after them %s", deleted, started)
		}
		b.untouched()
		if n := b.made(); n != len(old)+len(fresh) {
			b.Errorf("%d groups were made for %d pods", n, len(old)+len(fresh))
		}
		if limit := 256 << 20; !raceEnabled && b.residentMemory() > limit {
			b.Errorf("the agent holds %d MB", b.residentMemory()>>20)
		}
	})
}

// A virtual node is drained, the command is killed half-way, and run again: it
// goes on, and is done when the cloud holds no group of the node any more.
func TestC24Drain(t *testing.T) {
	onBothClouds(t, cloudOptions{plan: slowEnd(2 * time.Second)}, func(b *bed) {
		b.start()
		pods := b.pods(6, "pod")
		b.waitRunning(pods...)
		drain := func(ctx context.Context) (string, error) {
			cmd := exec.CommandContext(ctx, system.Plugin(), "drain", b.node, "--force", "--timeout=90s", "--kubeconfig="+system.Kubeconfig)
			out, err := cmd.CombinedOutput()
			return string(out), err
		}
		ctx, kill := context.WithCancel(b.Context())
		remove := b.Hook(sim.Hook{Action: b.action(remove), After: func(sim.Passage) { kill() }})
		if out, err := drain(ctx); err == nil {
			b.Errorf("the command was done before it was killed: %s", out)
		}
		kill()
		remove()
		if !b.nodeObject().Spec.Unschedulable {
			b.Error("the node is not cordoned")
		}
		out, err := drain(b.Context())
		if err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		if n := len(b.Fleet().Groups()); n != 0 {
			b.Errorf("drain was done with %d groups in the cloud: %s", n, out)
		}
		for _, p := range pods {
			if !b.gone(p) {
				b.Errorf("pod %s is there", p.Name)
			}
		}
	})
}
