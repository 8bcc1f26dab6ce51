package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	// takeover is what the project promises after the death of a leader, the first
	// sweep included.
	takeover = 20 * time.Second
	// leaseGap is when the control plane begins to doubt a node: the duration of its
	// lease.
	leaseGap = 40 * time.Second
)

// onBothCloudsAtOnce is onBothClouds for tests that mostly wait.
func onBothCloudsAtOnce(t *testing.T, test func(t *testing.T, node, ns string)) {
	t.Helper()
	t.Run("clouds", func(t *testing.T) {
		for _, node := range []string{eciNode, aciNode} {
			t.Run(node, func(t *testing.T) {
				t.Parallel()
				test(t, node, namespace(t, "on-"+node, nil))
			})
		}
	})
}

// standBy starts a second agent of a virtual node and waits until it could lead.
// After the test the node has one agent again.
func standBy(t *testing.T, node string) *playground.Agent {
	t.Helper()
	a, err := system.StartAgent(t.Context(), node)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { oneAgent(t, node) })
	waitServing(t, a, false)
	return a
}

// oneAgent ends all agents of a node but one that leads.
func oneAgent(t *testing.T, node string) {
	t.Helper()
	ctx := context.Background()
	if len(system.Agents(node)) == 0 {
		if _, err := system.StartAgent(ctx, node); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Minute, "an agent of "+node+" leads", func(ctx context.Context) (bool, error) {
		leader, err := system.Leader(ctx, node)
		return leader != nil, err
	})
	leader, err := system.Leader(ctx, node)
	if err != nil || leader == nil {
		t.Fatalf("no agent of %s leads: %v", node, err)
	}
	for _, a := range system.Agents(node) {
		if a != leader {
			system.RemoveReplica(a, endProcess(t))
		}
	}
	waitServing(t, leader, true)
}

// figure reads one figure of an agent.
func figure(ctx context.Context, a *playground.Agent, name string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		// All figures of an agent bear its node and cloud as labels.
		if labels, ok := strings.CutPrefix(lines.Text(), name+"{"); ok {
			_, value, _ := strings.Cut(labels, "} ")
			return strconv.ParseFloat(value, 64)
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", a.Process.Name, name)
}

// serving tells whether an agent is ready, as the leader or not; a leader is once
// it has compared its pods with the cloud's groups.
func serving(ctx context.Context, a *playground.Agent, leads bool) (bool, error) {
	value, err := figure(ctx, a, "autoburst_vnode_leader")
	if err != nil || (value == 1) != leads {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+a.Metrics+"/readyz", nil)
	if err != nil {
		return false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

func waitServing(t *testing.T, a *playground.Agent, leads bool) {
	t.Helper()
	mustEventually(t, time.Minute, fmt.Sprintf("%s is ready, leading %t", a.Process.Name, leads), func(ctx context.Context) (bool, error) {
		if err := a.Process.Err(); err != nil {
			return false, err
		}
		return serving(ctx, a, leads)
	})
}

// leaderOf waits for the leader of a node.
func leaderOf(t *testing.T, node string) *playground.Agent {
	t.Helper()
	var leader *playground.Agent
	mustEventually(t, 30*time.Second, "an agent of "+node+" leads", func(ctx context.Context) (_ bool, err error) {
		leader, err = system.Leader(ctx, node)
		return leader != nil, err
	})
	waitServing(t, leader, true)
	return leader
}

// journal notes what happens to the pods of a namespace and to a virtual node.
type journal struct {
	mu      sync.Mutex
	pods    []string // changes of pods that ran
	node    []string // moments in which the node was not Ready
	renewed []time.Time
	err     error
	stop    func()
}

// watchAll begins a journal.
func watchAll(t *testing.T, ns, node string) *journal {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	j := &journal{}
	running, events, err := playground.WatchPods(ctx, client(), ns)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := client().CoreV1().Nodes().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + node})
	if err != nil {
		t.Fatal(err)
	}
	leases, err := client().CoordinationV1().Leases(corev1.NamespaceNodeLease).Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + node})
	if err != nil {
		t.Fatal(err)
	}
	ran := map[types.UID]bool{}
	for _, p := range running {
		ran[p.UID] = p.Status.Phase == corev1.PodRunning
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for e := range events {
			j.mu.Lock()
			switch {
			case e.Err != nil && ctx.Err() == nil:
				j.err = e.Err
			case e.Err != nil: // it ends as the test does
			case ran[e.Pod.UID]:
				j.pods = append(j.pods, fmt.Sprintf("%s %s: %s %s", e.Type, e.Pod.Name, e.Pod.Status.Phase, e.Pod.Status.Message))
			}
			j.mu.Unlock()
		}
	})
	wg.Go(func() {
		for e := range nodes.ResultChan() {
			if ctx.Err() != nil {
				continue
			}
			n, ok := e.Object.(*corev1.Node)
			ready := ok && e.Type != watch.Deleted
			if ready {
				for _, c := range n.Status.Conditions {
					ready = ready && (c.Type != corev1.NodeReady || c.Status == corev1.ConditionTrue)
				}
			}
			if !ready {
				j.mu.Lock()
				j.node = append(j.node, fmt.Sprint(e.Type, " ", e.Object))
				j.mu.Unlock()
			}
		}
	})
	wg.Go(func() {
		for e := range leases.ResultChan() {
			if l, ok := e.Object.(*coordinationv1.Lease); ok && l.Spec.RenewTime != nil {
				j.mu.Lock()
				j.renewed = append(j.renewed, l.Spec.RenewTime.Time)
				j.mu.Unlock()
			}
		}
	})
	j.stop = sync.OnceFunc(func() {
		cancel()
		nodes.Stop()
		leases.Stop()
		wg.Wait()
	})
	t.Cleanup(j.stop)
	return j
}

// check ends the journal. No pod that ran may have changed, and the node must have
// been Ready and alive throughout.
func (j *journal) check(t *testing.T) {
	t.Helper()
	j.stop()
	if j.err != nil {
		t.Error(j.err)
	}
	if len(j.pods) > 0 {
		t.Errorf("running pods were written %d times:\n%s", len(j.pods), strings.Join(j.pods, "\n"))
	}
	if len(j.node) > 0 {
		t.Errorf("the node was not Ready:\n%s", strings.Join(j.node, "\n"))
	}
	longest := time.Duration(0)
	for i := 1; i < len(j.renewed); i++ {
		longest = max(longest, j.renewed[i].Sub(j.renewed[i-1]))
	}
	t.Logf("longest time without a renewal of the node's lease: %s", longest.Round(100*time.Millisecond))
	if len(j.renewed) < 2 || longest > leaseGap {
		t.Errorf("renewals of the node's lease at %v, want no gap above %s", j.renewed, leaseGap)
	}
}

// runSteady runs pods on a node and waits until they do and nothing is written any
// more.
func runSteady(t *testing.T, node, ns string, n int) {
	t.Helper()
	kubectl(t, deployment("steady", n, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
	kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/steady", "--timeout=90s")
}

// sweeps waits until an agent has listed the cloud that often again.
func sweeps(t *testing.T, a *playground.Agent, n float64) {
	t.Helper()
	const name = "autoburst_vnode_sweep_duration_seconds_count"
	before, err := figure(t.Context(), a, name)
	if err != nil {
		t.Fatal(err)
	}
	mustEventually(t, time.Minute, fmt.Sprintf("%s has swept %g times", a.Process.Name, n), func(ctx context.Context) (bool, error) {
		now, err := figure(ctx, a, name)
		return now >= before+n, err
	})
}

// The leader is killed. The other agent leads in time, at the node's address; no
// pod notices, and the cloud is not asked to change anything.
func TestTakeoverAfterCrash(t *testing.T) {
	onBothCloudsAtOnce(t, func(t *testing.T, node, ns string) {
		runSteady(t, node, ns, 20)
		first := leaderOf(t, node)
		second := standBy(t, node)
		if body, code := kubeletAPI(t, second, "/pods"); code != http.StatusServiceUnavailable || !strings.Contains(body, first.Pod) {
			t.Errorf("an agent that stands by answers %d %q, want 503 and the leader's name, %s", code, body, first.Pod)
		}
		calls := len(system.Bill(node).Calls)
		hosts := hostsOf(t, ns)
		j := watchAll(t, ns, node)
		mustEventually(t, 15*time.Second, "the node's lease is renewed", func(context.Context) (bool, error) {
			j.mu.Lock()
			defer j.mu.Unlock()
			return len(j.renewed) > 0, nil
		})

		begun := time.Now()
		system.RemoveReplica(first, (*cluster.Process).Kill)
		waitServing(t, second, true)
		took := time.Since(begun)
		t.Logf("the other agent led and had swept %s after the leader was killed", took.Round(10*time.Millisecond))
		if took > takeover {
			t.Errorf("takeover took %s, want at most %s", took, takeover)
		}
		mustEventually(t, 5*time.Second, "the node has the new leader's address", func(ctx context.Context) (bool, error) {
			n, err := client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			return strings.HasSuffix(second.Kubelet, fmt.Sprintf(":%d", n.Status.DaemonEndpoints.KubeletEndpoint.Port)), nil
		})
		kubectl(t, "", "--namespace="+ns, "logs", "deployment/steady", "--tail=1")
		sweeps(t, second, 2)
		j.check(t)
		if made := system.Bill(node).Calls[calls:]; len(made) > 0 {
			t.Errorf("the cloud was asked to change something: %v", made)
		}
		if diff := cmp.Diff(hosts, hostsOf(t, ns)); diff != "" {
			t.Errorf("hosts and restarts of the pods (-before +after):\n%s", diff)
		}
	})
}

// hostsOf is what a takeover must not touch, by pod.
func hostsOf(t *testing.T, ns string) map[types.UID]string {
	t.Helper()
	all := map[types.UID]string{}
	for _, p := range pods(t, ns) {
		restarts := int32(0)
		for _, c := range p.Status.ContainerStatuses {
			restarts += c.RestartCount
		}
		all[p.UID] = fmt.Sprintf("%s on %s, %d restarts, version %s", p.Status.Phase, p.Status.HostIP, restarts, p.ResourceVersion)
	}
	return all
}

// kubeletAPI asks an agent as the API server does.
func kubeletAPI(t *testing.T, a *playground.Agent, path string) (string, int) {
	t.Helper()
	body, code, err := system.KubeletAPI(t.Context(), a, path)
	if err != nil {
		t.Fatal(err)
	}
	return body, code
}

// changes are the changing calls that the cloud has carried out since a point of its
// record, by what they changed.
func changes(node string, since int) (creates, deletes map[string]int, refused []sim.Call) {
	creates, deletes = map[string]int{}, map[string]int{}
	for _, c := range system.Bill(node).Calls[since:] {
		switch {
		case c.Code != "OK":
			refused = append(refused, c)
		case strings.Contains(c.Action, "Delete"):
			deletes[c.Target]++
		default:
			creates[c.Target]++
		}
	}
	return creates, deletes, refused
}

// The leader's process stands still for longer than its Lease lasts, with pods that
// it has just begun to create, and then goes on: the pods have one group each, and
// the agent stands by.
func TestPausedLeader(t *testing.T) {
	onBothCloudsAtOnce(t, func(t *testing.T, node, ns string) {
		first := leaderOf(t, node)
		second := standBy(t, node)
		since := len(system.Bill(node).Calls)

		kubectl(t, deployment("sudden", 20, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		mustEventually(t, 30*time.Second, "the leader creates groups", func(context.Context) (bool, error) {
			return len(system.Bill(node).Calls) > since, nil
		})
		begun := time.Now()
		if err := first.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		made := len(system.Bill(node).Calls) - since
		waitServing(t, second, true)
		t.Logf("%d of 20 groups were made when the leader was stopped; the other agent led %s later", made, time.Since(begun).Round(10*time.Millisecond))
		if took := time.Since(begun); took > takeover {
			t.Errorf("takeover took %s, want at most %s", took, takeover)
		}
		// Not all pods run yet: some of the groups are in the making.
		if err := first.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/sudden", "--timeout=90s")
		waitServing(t, first, false)
		sweeps(t, second, 2)
		if leader := leaderOf(t, node); leader != second {
			t.Errorf("%s leads, want %s: the agent that was stopped took the Lease away", leader.Pod, second.Pod)
		}
		creates, deletes, _ := changes(node, since)
		for target, n := range creates {
			if n != 1 && node == aciNode { // a second PUT restarts the containers
				t.Errorf("group %s was created %d times", target, n)
			}
		}
		if len(creates) != 20 || len(deletes) != 0 || len(system.Groups(node)) != 20 {
			t.Errorf("%d groups created, %d deleted, %d exist, want 20, 0, 20", len(creates), len(deletes), len(system.Groups(node)))
		}
	})
}

// The API server stands still for longer than the Lease lasts. The leader stops to
// lead in time, and leads again, in the same process, when it can; the pods do not
// notice.
func TestAPIServerPaused(t *testing.T) {
	nodes := []string{eciNode, aciNode}
	ns := map[string]string{}
	before := map[string]map[types.UID]string{}
	calls := map[string]int{}
	for _, node := range nodes {
		ns[node] = namespace(t, "on-"+node, nil)
		runSteady(t, node, ns[node], 5)
		standBy(t, node)
	}
	for _, node := range nodes {
		before[node], calls[node] = hostsOf(t, ns[node]), len(system.Bill(node).Calls)
	}
	server := system.Process("kube-apiserver")
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceValue(func() error { return server.Signal(syscall.SIGCONT) })
	defer func() { _ = resume() }()
	eventually(t, 30*time.Second, "no agent leads", func(ctx context.Context) (bool, error) {
		for _, node := range nodes {
			for _, a := range system.Agents(node) {
				if value, err := figure(ctx, a, "autoburst_vnode_leader"); value != 0 || err != nil {
					return false, errors.Join(err, fmt.Errorf("%s leads", a.Process.Name))
				}
			}
		}
		return true, nil
	})
	if err := resume(); err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		sweeps(t, leaderOf(t, node), 2)
		for _, a := range system.Agents(node) {
			if err := a.Process.Err(); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff(before[node], hostsOf(t, ns[node])); diff != "" {
			t.Errorf("pods on %s (-before +after):\n%s", node, diff)
		}
		if made := system.Bill(node).Calls[calls[node]:]; len(made) > 0 {
			t.Errorf("the cloud of %s was asked to change something: %v", node, made)
		}
	}
}

// Both agents are replaced, one after the other, while pods come and go: the cloud
// is asked for what the pods need and nothing else.
func TestRollingUpdateOfAgents(t *testing.T) {
	onBothCloudsAtOnce(t, func(t *testing.T, node, ns string) {
		runSteady(t, node, ns, 5)
		standBy(t, node)
		leaderOf(t, node)
		steady := hostsOf(t, ns)
		since := len(system.Bill(node).Calls)
		j := watchAll(t, ns, node)

		// Pods come and go all the while.
		type pair struct{ made, removed []string }
		stop, churned := make(chan struct{}), make(chan pair, 1)
		ctx := t.Context()
		run := func(stdin string, args ...string) {
			if _, err := system.Kubectl(ctx, stdin, append([]string{"--namespace=" + ns}, args...)...); err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		go func() {
			var p pair
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("churn-%d", i)
				run(barePod(name, podSpec{extra: pinned[node]}), "create", "-f", "-")
				p.made = append(p.made, name)
				if i >= 3 {
					gone := fmt.Sprintf("churn-%d", i-3)
					run("", "delete", "pod", gone, "--wait=false")
					p.removed = append(p.removed, gone)
				}
				select {
				case <-stop:
					churned <- p
					return
				case <-ctx.Done():
				case <-time.After(200 * time.Millisecond):
				}
			}
		}()

		for _, old := range system.Agents(node) {
			leads, err := system.Leader(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := system.StartAgent(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			mustEventually(t, time.Minute, fresh.Process.Name+" is ready", func(ctx context.Context) (bool, error) { return serving(ctx, fresh, false) })
			begun := time.Now()
			system.RemoveReplica(old, endProcess(t))
			ended := time.Since(begun)
			leaderOf(t, node)
			if leads == old {
				t.Logf("the leader ended %s after SIGTERM, and another led and had swept %s after it",
					ended.Round(10*time.Millisecond), time.Since(begun).Round(10*time.Millisecond))
			}
		}
		close(stop)
		p := <-churned
		kept := len(p.made) - len(p.removed)
		mustEventually(t, time.Minute, "the pods that are left run, and the others are gone", func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			run := 0
			for _, p := range list.Items {
				if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
					run++
				}
			}
			if len(list.Items) != 5+kept || run != 5+kept {
				return false, fmt.Errorf("%d pods are there and %d run, want %d", len(list.Items), run, 5+kept)
			}
			return true, nil
		})
		sweeps(t, leaderOf(t, node), 2)
		j.stop()

		creates, deletes, refused := changes(node, since)
		// ACI takes no delete of a group that it is still making: that one is asked again.
		refused = slices.DeleteFunc(refused, func(c sim.Call) bool {
			return strings.Contains(c.Action, "Delete") && c.Code == "ContainerGroupTransitioning"
		})
		for _, calls := range []map[string]int{creates, deletes} {
			for target, n := range calls {
				if n != 1 {
					t.Errorf("%d calls for group %s: %v", n, target, system.Bill(node).Calls[since:])
				}
			}
		}
		// A pod that was deleted before an agent had seen it needs no group.
		unseen := len(p.made) - len(creates)
		if unseen < 0 || unseen > len(p.removed) || len(deletes) != len(p.removed)-unseen || len(refused) != 0 {
			t.Errorf("%d creates, %d deletes and %v for %d new and %d deleted pods", len(creates), len(deletes), refused, len(p.made), len(p.removed))
		}
		after := hostsOf(t, ns)
		for uid, before := range steady {
			if after[uid] != before {
				t.Errorf("a pod that ran all the while was %s and is %s", before, after[uid])
			}
		}
		for uid, now := range after {
			if !strings.Contains(now, " 0 restarts") {
				t.Errorf("pod %s: %s", uid, now)
			}
		}
		if len(j.node) > 0 {
			t.Errorf("the node was not Ready:\n%s", strings.Join(j.node, "\n"))
		}
	})
}
