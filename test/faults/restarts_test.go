package faults

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
)

// kill ends the newest agent's process at once, when it is called first.
func (b *bed) kill() func() {
	p := b.agent().Process
	return sync.OnceFunc(func() { p.Kill() })
}

// waitKilled waits until the newest agent's process has ended.
func (b *bed) waitKilled(point string) {
	b.Helper()
	select {
	case <-b.agent().Process.Done():
	case <-b.Context().Done():
		b.Fatalf("the agent was not killed when %s", point)
	}
}

// The agent's process is killed at each point of a group's life at which
// something is known to the cloud and not yet to anybody else. The next one
// goes on: no second group, no container restarted, nothing left.
func TestC03AgentKilledAtEachPoint(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		made := 0
		starting := map[string]func(kill func()){
			"the create has arrived and had no effect": func(kill func()) {
				b.Hook(sim.Hook{Action: b.action(create), Before: func(sim.Passage) { kill() }})
				b.inject(fault{op: create, cut: true})
			},
			"the create had its effect and is not answered": func(kill func()) {
				b.Hook(sim.Hook{Action: b.action(create), After: func(sim.Passage) { kill() }})
			},
			"the create is answered and no event written": func(kill func()) {
				b.tap.Disturb(cluster.Disturbance{Match: func(r cluster.Request) bool { return r.Is("create", "events") }, Before: func(cluster.Request) { kill() }, Cut: true})
			},
			"the create is answered and no status written": func(kill func()) {
				b.tap.Disturb(cluster.Disturbance{Match: statusWrites, Before: func(cluster.Request) { kill() }, Cut: true})
			},
			"the status is written and the agent does not know": func(kill func()) {
				b.tap.Disturb(cluster.Disturbance{Match: statusWrites, After: func(cluster.Request) { kill() }})
			},
		}
		ending := map[string]func(kill func()){
			"the delete has arrived and had no effect": func(kill func()) {
				b.Hook(sim.Hook{Action: b.action(remove), Before: func(sim.Passage) { kill() }})
				b.inject(fault{op: remove, cut: true})
			},
			"the delete is accepted and not answered": func(kill func()) {
				b.Hook(sim.Hook{Action: b.action(remove), After: func(sim.Passage) { kill() }})
			},
			"the group is gone and the pod is still there": func(kill func()) {
				b.tap.Disturb(cluster.Disturbance{Match: func(r cluster.Request) bool { return r.Is("delete", "pods") }, Before: func(cluster.Request) { kill() }, Cut: true})
			},
		}
		var pods []*corev1.Pod
		for point, arrange := range starting {
			b.Logf("killed when %s", point)
			arrange(b.kill())
			p := b.pod(fmt.Sprintf("pod-%d", made), policy(allPolicies[made%3]), withToken)
			pods = append(pods, p)
			made++
			b.waitKilled(point)
			b.tap.Restore()
			b.start()
			b.waitRunning(p)
			b.group(p)
		}
		b.Logf("killed during the first sweep")
		b.stop()
		b.startWith(b.Context())
		kill := b.kill()
		b.Hook(sim.Hook{Action: b.action(list), Before: func(sim.Passage) { kill() }})
		b.waitKilled("it sweeps first")
		b.start()
		b.sweeps(2)
		b.untouched()
		if n := b.made(); n != made {
			b.Errorf("%d groups were made for %d pods", n, made)
		}
		for point, arrange := range ending {
			b.Logf("killed when %s", point)
			arrange(b.kill())
			p := pods[0]
			pods = pods[1:]
			b.delete(p)
			b.waitKilled(point)
			b.tap.Restore()
			b.start()
			b.must(30*time.Second, "the pod is gone", func() error {
				if !b.gone(p) {
					return fmt.Errorf("it is there")
				}
				return nil
			})
			if n := len(b.groupsOf(p.UID)); n != 0 {
				b.Errorf("%d groups outlive the pod", n)
			}
		}
		for _, p := range pods {
			b.group(p)
		}
	})
}

// The agent is restarted, politely and by a crash, with many pods: it changes
// nothing in the cloud, writes no status that was right, and the one that changed
// meanwhile is right after one sweep. The node stays Ready.
func TestC04RestartWithRunningPods(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		pods := b.pods(40, "pod")
		ended := b.pods(2, "ended", policy(corev1.RestartPolicyNever))
		b.waitRunning(append(pods, ended...)...)
		b.sweeps(2)
		calls, ids := b.calls(anything), b.groupIDs()
		ready := conditionOf(b.nodeObject(), corev1.NodeReady).LastTransitionTime
		for i, end := range []func(){b.stop, func() { b.agent().Process.Kill() }} {
			end()
			name := ended[i].Name
			b.ends[name] = corev1.PodFailed
			if err := b.group(ended[i]).Exit("app", 3); err != nil {
				b.Fatal(err)
			}
			before := time.Now()
			b.start()
			b.sweeps(1)
			p := b.wait(name, "has failed", phase(corev1.PodFailed))
			if c := p.Status.ContainerStatuses[0].State.Terminated; c == nil || c.ExitCode != 3 {
				b.Errorf("pod %s ended as %v, want exit code 3", name, p.Status.ContainerStatuses[0].State)
			}
			if n := b.tap.Count(func(r cluster.Request) bool { return statusWrites(r) && r.At.After(before) && r.Name != name }); n != 0 {
				b.Errorf("%d statuses were written that were right", n)
			}
			lease, err := b.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(b.Context(), b.node, metav1.GetOptions{})
			if err != nil {
				b.Fatal(err)
			}
			if age := time.Since(lease.Spec.RenewTime.Time); age > 20*time.Second {
				b.Errorf("the lease was renewed %s ago", age)
			}
		}
		b.untouched()
		if n := b.calls(anything) - calls; n != 0 {
			b.Errorf("%d changing calls: %v", n, b.Record().Calls[calls:])
		}
		if now := b.groupIDs(); !slices.Equal(now, ids) {
			b.Errorf("groups %v, want %v", now, ids)
		}
		if now := conditionOf(b.nodeObject(), corev1.NodeReady); now.Status != corev1.ConditionTrue || !now.LastTransitionTime.Equal(&ready) {
			b.Errorf("Ready is %s since %s, want it since %s", now.Status, now.LastTransitionTime, ready)
		}
	})
}

// Pods are deleted while no agent runs. The next one removes their groups, but
// not before the API server itself has said that the pod is gone.
func TestC07DeletedWhileAgentIsDown(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		pods := b.pods(3, "pod")
		b.waitRunning(pods...)
		kept := b.group(pods[2]).ID()
		b.stop()
		b.forget(pods[0])
		b.delete(pods[1])

		asks := func(r cluster.Request) bool { return r.Is("get", "pods") && r.Name == pods[0].Name }
		var once sync.Once
		answered := make(chan struct{})
		b.tap.Disturb(cluster.Disturbance{Match: asks, Calls: 2, Status: 500, Reason: metav1.StatusReasonInternalError})
		b.tap.Disturb(cluster.Disturbance{Match: asks, Calls: -1, Before: func(cluster.Request) {
			if len(b.groupsOf(pods[0].UID)) != 1 {
				b.Error("the group was removed before the API server had said that its pod is gone")
			}
			once.Do(func() { close(answered) })
		}})
		b.start()
		b.waitGroups(1)
		select {
		case <-answered:
		default:
			b.Error("a group was removed and the API server was never asked for its pod")
		}
		b.must(10*time.Second, "the deleted pod is gone", func() error {
			if !b.gone(pods[1]) {
				return fmt.Errorf("it is there")
			}
			return nil
		})
		if id := b.group(pods[2]).ID(); id != kept {
			b.Errorf("the pod that stayed has the group %s, want %s", id, kept)
		}
		b.untouched()
	})
}

// The agent is told to stop while 50 creates are under way: it finishes them in
// a short time, and the next agent finds every pod with its one group. The same
// when it is killed.
func TestC23StoppedDuringCreates(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		for round, end := range []func(){
			func() {
				begun := time.Now()
				b.stop()
				if took := time.Since(begun); took > 10*time.Second {
					b.Errorf("the agent took %s to stop", took)
				}
			},
			func() { b.agent().Process.Kill() },
		} {
			b.start()
			var once sync.Once
			arrived, open := make(chan struct{}), make(chan struct{})
			n := 0
			var mu sync.Mutex
			remove := b.Hook(sim.Hook{Action: b.action(create), Before: func(sim.Passage) {
				mu.Lock()
				n++
				if n == 20 {
					once.Do(func() { close(arrived) })
				}
				mu.Unlock()
				<-open
			}})
			pods := b.pods(50, fmt.Sprintf("pod-%d", round), policy(corev1.RestartPolicyNever))
			<-arrived
			timer := time.AfterFunc(500*time.Millisecond, func() { close(open) })
			end()
			timer.Stop()
			remove()
			select {
			case <-open:
			default:
				close(open)
			}
			b.start()
			b.waitRunning(pods...)
			for _, p := range pods {
				b.group(p)
			}
			b.untouched()
			if made := b.made(); made != 50*(round+1) {
				b.Errorf("%d groups were made for %d pods", made, 50*(round+1))
			}
			b.stop()
		}
	})
}

// Two agents run for one node, and another cluster has a node of the same name in
// the same account. One of the two writes, and when it is killed the other goes
// on within 20 s. Each pod has one group, and the other cluster's group is let
// alone, also though none of the agents knows its pod.
func TestC22TwoAgents(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		foreign := b.foreignGroup()
		leader := b.start()
		first := b.tap
		second, err := system.NewTap()
		if err != nil {
			b.Fatal(err)
		}
		b.tap = second // finish closes it
		defer first.Close()
		b.startEnv(b.Context(), []string{"POD_NAME=second"})
		pods := b.pods(12, "pod", policy(corev1.RestartPolicyNever))
		b.waitRunning(pods...)
		b.sweeps(2)
		if n := second.Count(writes); n != 0 {
			b.Errorf("the agent that does not lead made %d writes", n)
		}
		leader.Process.Kill()
		killed := time.Now()
		more := b.pods(3, "more")
		b.waitRunning(more...)
		if took := time.Since(killed); took > 35*time.Second {
			b.Errorf("the pods of the new leader ran %s after the old one was killed", took)
		}
		b.delete(pods[0])
		b.forget(pods[1])
		b.waitGroups(len(pods) + len(more) - 2 + 1)
		for _, p := range append(pods[2:], more...) {
			b.group(p)
		}
		b.sweeps(2)
		b.untouched()
		if n := b.made(); n != len(pods)+len(more)+1 {
			b.Errorf("%d groups were made for %d pods and the other cluster's", n, len(pods)+len(more))
		}
		if g, ok := b.Fleet().Group(foreign); !ok || g.Phase() != sim.Running {
			b.Error("the group of another cluster was touched")
		} else {
			g.Remove()
		}
	})
}

// writes are the requests by which an agent that leads changes the cluster. Reviews
// are questions, and Leases are what an election is held by.
func writes(r cluster.Request) bool {
	switch r.Verb {
	case "create", "update", "patch", "delete":
		return r.Resource != "leases" && !strings.HasSuffix(r.Resource, "reviews")
	}
	return false
}

// A node object that somebody deletes comes back with its labels and taints, and
// its pods never notice.
func TestC21NodeDeleted(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		pods := b.pods(3, "pod")
		b.waitRunning(pods...)
		before, calls := b.nodeObject(), b.calls(anything)
		if err := b.client.CoreV1().Nodes().Delete(b.Context(), b.node, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}); err != nil {
			b.Fatal(err)
		}
		b.must(20*time.Second, "the node is registered again", func() error {
			n, err := b.client.CoreV1().Nodes().Get(b.Context(), b.node, metav1.GetOptions{})
			switch {
			case err != nil:
				return err
			case n.UID == before.UID:
				return fmt.Errorf("it is the old one")
			}
			for _, taint := range before.Spec.Taints {
				if !hasTaint(n, taint.Key) {
					return fmt.Errorf("the taint %s is missing", taint.Key)
				}
			}
			for key, value := range before.Labels {
				if n.Labels[key] != value {
					return fmt.Errorf("the label %s is %q, want %q", key, n.Labels[key], value)
				}
			}
			return nil
		})
		b.waitReady()
		b.sweeps(2)
		for _, p := range pods {
			if now := b.get(p.Name); now.UID != p.UID || !running(now) {
				b.Errorf("pod %s is %s", p.Name, summary(now))
			}
		}
		b.untouched()
		if n := b.calls(anything) - calls; n != 0 {
			b.Errorf("%d changing calls", n)
		}
	})
}
