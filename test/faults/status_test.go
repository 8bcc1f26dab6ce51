package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/vnode"
)

// ECI takes the machine of a running pod away, as it does with spot instances;
// how ACI shows that is not published. The pod fails with the cloud's reason and as the target of a
// disruption, and no second group is made for it.
func TestC15Reclaimed(t *testing.T) {
	t.Parallel()
	b := newBed(t, "eci", cloudOptions{})
	b.start()
	p := b.pod("pod")
	b.waitRunning(p)
	b.ends["pod"] = corev1.PodFailed
	if err := b.group(p).Expire("SpotToBeReleased", "The spot instance is released."); err != nil {
		b.Fatal(err)
	}
	failed := b.wait("pod", "has failed", phase(corev1.PodFailed))
	if failed.Status.Reason == "" {
		b.Error("the pod failed without a reason")
	}
	if !slices.ContainsFunc(failed.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
	}) {
		b.Errorf("conditions %v, want DisruptionTarget", failed.Status.Conditions)
	}
	b.sweeps(2)
	if n := b.made(); n != 1 {
		b.Errorf("%d groups were made, want 1", n)
	}
}

// The cloud restarts groups by itself. The pods stay Running, their restart
// counts rise, and a pod that is never to be restarted says so in an event.
func TestC17RestartedByCloud(t *testing.T) {
	// At once: that a container of a pod which is never restarted has ended must not
	// be seen in between, as it would be final.
	prompt := quick()
	prompt.Restart = 0
	onBothClouds(t, cloudOptions{timing: &prompt}, func(b *bed) {
		b.start()
		for _, policy := range allPolicies {
			name := strings.ToLower(string(policy))
			p := b.pod(name, func(p *corev1.Pod) { p.Spec.RestartPolicy = policy })
			b.waitRunning(p)
			b.sweeps(1)
			if err := b.group(p).Restart(0); err != nil {
				b.Fatal(err)
			}
			b.wait(name, "was restarted", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == 1 })
			ran := false
			for _, v := range b.history.of(p.UID) {
				ran = ran || v.Status.Phase == corev1.PodRunning
				if ran && v.Status.Phase != corev1.PodRunning {
					b.Errorf("pod %s, which ran, became %s", name, v.Status.Phase)
				}
			}
			if policy == corev1.RestartPolicyNever {
				if e := b.waitEvent(p, "RestartedByCloud"); e.Type != corev1.EventTypeWarning {
					b.Errorf("the event is of type %s", e.Type)
				}
			}
		}
		if n := b.made(); n != 3 {
			b.Errorf("%d groups were made, want 3", n)
		}
	})
}

// Somebody else writes the pod's labels, finalizers and the condition of a
// readiness gate while the agent works with an old copy, and the agent's own
// writes meet a conflict and an error. Nothing of either is lost.
func TestC25StatusWrittenByOthers(t *testing.T) {
	slow := quick()
	slow.CrashBackOff = sim.BackOff{Initial: 6 * time.Second, Max: 6 * time.Second} // the agent sees the pod unready meanwhile
	onBothClouds(t, cloudOptions{timing: &slow}, func(b *bed) {
		b.start()
		const gate = "example.com/balanced"
		p := b.pod("pod", func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} })
		conditionTrue := func(p *corev1.Pod, kind corev1.PodConditionType) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind && c.Status == corev1.ConditionTrue })
		}
		b.wait("pod", "runs with a closed gate", func(p *corev1.Pod) bool {
			return running(p) && conditionTrue(p, corev1.ContainersReady) && !conditionTrue(p, corev1.PodReady)
		})
		end := func() {
			b.Helper()
			if err := b.group(p).Exit("app", 1); err != nil {
				b.Fatal(err)
			}
		}
		restarted := func(n int32) *corev1.Pod {
			b.Helper()
			return b.wait("pod", "was restarted", func(p *corev1.Pod) bool { return running(p) && p.Status.ContainerStatuses[0].RestartCount == n })
		}
		end()
		restarted(1) // at once, and the next time after a while
		b.sweeps(1)

		b.tap.HoldWatches(podWatches, false)
		patch := func(body string, sub ...string) {
			b.Helper()
			if _, err := b.client.CoreV1().Pods(b.ns).Patch(b.Context(), "pod", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, sub...); err != nil {
				b.Fatal(err)
			}
		}
		patch(`{"metadata":{"labels":{"by":"others"},"finalizers":["example.com/keep"]}}`)
		patch(`{"status":{"conditions":[{"type":"`+gate+`","status":"True","reason":"Others"}]}}`, "status")
		b.tap.Disturb(cluster.Disturbance{Match: statusWrites, Status: 409, Reason: metav1.StatusReasonConflict})
		b.tap.Disturb(cluster.Disturbance{Match: statusWrites, Status: 500, Reason: metav1.StatusReasonInternalError})
		end()
		kept := func(p *corev1.Pod) error {
			if p.Labels["by"] != "others" || !slices.Contains(p.Finalizers, "example.com/keep") || !conditionTrue(p, gate) {
				return fmt.Errorf("labels %v, finalizers %v, conditions %v", p.Labels, p.Finalizers, p.Status.Conditions)
			}
			return nil
		}
		now := restarted(2)
		if err := kept(now); err != nil {
			b.Errorf("written from an old copy: %v", err)
		}
		wasUnready := func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.ContainersReady && c.Status == corev1.ConditionFalse && p.Labels["by"] == "others"
			})
		}
		if !slices.ContainsFunc(b.history.all(), wasUnready) {
			b.Error("the agent wrote no condition from an old copy: the test proves nothing")
		}
		b.tap.Release()
		now = b.wait("pod", "is ready", func(p *corev1.Pod) bool { return conditionTrue(p, corev1.PodReady) })
		if err := kept(now); err != nil {
			b.Error(err)
		}
		b.delete(p)
		b.waitGroups(0)
		b.wait("pod", "is kept by the finalizer", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
		patch(`{"metadata":{"$deleteFromPrimitiveList/finalizers":["example.com/keep"]}}`)
	})
}

// Pods that have ended stay in the API server for days. The cloud is not asked
// for them, their exit codes stay, also when the cloud forgets them or the agent
// removes the groups that nobody reads logs of any more.
func TestC33EndedPodsKept(t *testing.T) {
	const fast = 7200
	onBothClouds(t, cloudOptions{speed: fast}, func(b *bed) {
		b.clock.speed.Store(1) // a fast call would count as one of minutes, after which the agent rests
		b.runInside(func(c *vnode.Config) { c.SweepInterval, c.CheckInterval = 10*time.Minute, 10*time.Minute }, nil)
		codes := map[string]int32{"done": 0, "failed": 3, "forgotten": 0}
		b.ends["done"], b.ends["failed"], b.ends["forgotten"] = corev1.PodSucceeded, corev1.PodFailed, corev1.PodSucceeded
		for name, code := range codes {
			b.pod(name, policy(corev1.RestartPolicyNever), image(fmt.Sprintf("exit:%d", code)))
		}
		for name := range codes {
			b.wait(name, "has ended", phase(b.ends[name]))
		}
		b.group(b.get("forgotten")).Remove()
		b.clock.speed.Store(fast)
		b.sweeps(3)
		var reads atomic.Int32
		b.Hook(sim.Hook{Action: b.action(read), Before: func(p sim.Passage) {
			// The health check of ACI reads a group that does not exist.
			if p.Target != "" && !strings.HasSuffix(p.Target, "-check") {
				reads.Add(1)
			}
		}})
		b.pass(12 * time.Hour)
		if n := reads.Load(); n != 0 {
			b.Errorf("%d reads of groups whose pods have ended", n)
		}
		if n := len(b.Fleet().Groups()); n != 2 {
			b.Errorf("%d groups after 12 hours, want the 2 that have logs", n)
		}
		b.pass(36 * time.Hour)
		if groups := b.groupIDs(); len(groups) != 0 {
			b.Errorf("after two days these groups are left: %v", groups)
		}
		for name, code := range codes {
			p := b.get(name)
			c := p.Status.ContainerStatuses[0].State.Terminated
			if p.Status.Phase != b.ends[name] || c == nil || c.ExitCode != code {
				b.Errorf("pod %s is %s after two days, want %s with exit code %d", name, summary(p), b.ends[name], code)
			}
		}
	})
}

// A container crashes all the time, and the cloud tells the same again and
// again. The pod has one event of each kind, also after a restart of the agent.
func TestC36EventFlood(t *testing.T) {
	plan := func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
		return sim.Plan{Exits: true, RunFor: 20 * time.Millisecond, ExitCode: 1}, true
	}
	onBothClouds(t, cloudOptions{plan: plan}, func(b *bed) {
		b.start()
		p := b.pod("flaky")
		b.wait("flaky", "was restarted", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 3
		})
		flood := func() {
			for range 500 {
				b.group(p).AddEvent(sim.Warning, "Flood", "The same thing happened again.")
			}
		}
		flood()
		b.waitEvent(p, "GroupCreated")
		if b.name() == "aci" { // ECI's listing has no events
			b.waitEvent(p, "Flood")
		}
		b.sweeps(2)
		writes := func() int {
			return b.tap.Count(func(r cluster.Request) bool { return r.Is("create", "events") })
		}
		objects, posts := len(b.events(p)), writes()
		flood()
		b.sweeps(4)
		if n := writes() - posts; n > 0 {
			b.Errorf("%d more events were written for the same things", n)
		}
		b.agent().Process.Kill()
		b.start()
		b.sweeps(3)
		if n := len(b.events(p)); n != objects {
			b.Errorf("%d events after a restart of the agent, want %d", n, objects)
		}
		seen := map[string]bool{}
		for _, e := range b.events(p) {
			key := e.Reason + e.Message + e.InvolvedObject.FieldPath
			if seen[key] {
				b.Errorf("two events say %s: %s", e.Reason, e.Message)
			}
			seen[key] = true
		}
	})
}
