package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// Pods that burst come back one at a time when local nodes have room for them;
// those of Jobs, without an owner, granted by hand or whose owner wants it so
// stay where they are.
func TestRepatriation(t *testing.T) {
	const replicas, hold = 3, 4 * time.Second
	fill(t)
	t.Cleanup(func() { removeNode(t, "spare") })
	ns := namespace(t, "homing", nil)
	policy(t, ns, "home", fmt.Sprintf("{repatriation: {mode: WhenRoom, minBurstSeconds: 1, holdSeconds: %d}}", int(hold.Seconds())))
	kubectl(t, deployment("homing", replicas, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	kubectl(t, job("working", 1, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	kubectl(t, barePod("bare", podSpec{})+barePod("by-hand", podSpec{extra: pinned[aciNode]}), "--namespace="+ns, "apply", "-f", "-")
	staying := strings.Replace(deployment("staying", 1, podSpec{}), "    metadata:\n", "    metadata:\n      annotations: {autoburst.io/repatriate: Never}\n", 1)
	kubectl(t, staying, "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "seven pods run on virtual nodes", func(context.Context) (bool, error) {
		return len(bursting(t, ns)) == replicas+4, nil
	})
	before := bursting(t, ns)
	judge := judgeMoves(t, ns)

	if err := system.AddNode(t.Context(), "spare", "8", "32Gi", 20); err != nil {
		t.Fatal(err)
	}
	mustEventually(t, 90*time.Second, "the Deployment's pods run on the local node", func(context.Context) (bool, error) {
		n := 0
		for _, p := range pods(t, ns) {
			if p.Labels["app"] == "homing" && p.DeletionTimestamp == nil && onNode("spare")(&p) {
				n++
			}
		}
		return n == replicas, nil
	})
	judge.stop(t)
	if len(judge.evictions) != replicas {
		t.Errorf("%d pods were evicted, want %d: %v", len(judge.evictions), replicas, judge.evictions)
	}
	judge.pauses(t, hold)
	if judge.most > 1 {
		t.Errorf("%d pods were on the move at once, want 1", judge.most)
	}
	after := bursting(t, ns)
	maps.DeleteFunc(before, func(name string, _ burstPod) bool { return strings.HasPrefix(name, "homing-") })
	if len(before) != 4 || !maps.Equal(before, after) {
		t.Errorf("pods that are never moved back: %v before, %v after", before, after)
	}
	if ok, err := toldOnPod(t.Context(), ns, "is moved back from"); !ok {
		t.Error(err)
	}
}

// A disruption budget that allows no eviction is honoured, and said to be in the
// way.
func TestRepatriationHonoursDisruptionBudgets(t *testing.T) {
	fill(t)
	t.Cleanup(func() { removeNode(t, "spare") })
	ns := namespace(t, "guarded", nil)
	policy(t, ns, "home", "{repatriation: {mode: WhenRoom, minBurstSeconds: 1, holdSeconds: 2}}")
	kubectl(t, "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: all}, spec: {minAvailable: 2, selector: {matchLabels: {app: guarded}}}}",
		"--namespace="+ns, "apply", "-f", "-")
	kubectl(t, deployment("guarded", 2, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "two pods run on virtual nodes", func(context.Context) (bool, error) {
		return len(bursting(t, ns)) == 2, nil
	})
	before := bursting(t, ns)
	if err := system.AddNode(t.Context(), "spare", "8", "32Gi", 20); err != nil {
		t.Fatal(err)
	}
	mustEventually(t, 30*time.Second, "the refusal is told", func(ctx context.Context) (bool, error) {
		return toldOnPod(ctx, ns, "must not be evicted now")
	})
	if after := bursting(t, ns); !maps.Equal(before, after) {
		t.Errorf("pods that a disruption budget guards: %v before, %v after", before, after)
	}
	// Events of the same refusal are one that counts.
	eventually(t, 90*time.Second, "the next refusal is counted", func(ctx context.Context) (bool, error) {
		list, err := client().EventsV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "reason=RepatriationRefused"})
		return err == nil && slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool { return e.Series != nil && e.Series.Count > 1 }), err
	})
	kubectl(t, "", "--namespace="+ns, "delete", "poddisruptionbudget", "all")
	mustEventually(t, 2*time.Minute, "both pods run on the local node", func(context.Context) (bool, error) {
		n := 0
		for _, p := range pods(t, ns) {
			if p.DeletionTimestamp == nil && onNode("spare")(&p) {
				n++
			}
		}
		return n == 2, nil
	})
}

// Local room that vanishes each time a pod is moved, and comes back later, makes
// no workload lose a pod more often than once per hold, and no replacement goes
// back to a virtual node during one; nor does the end of all replicas in between.
func TestRepatriationOnAFlappingCluster(t *testing.T) {
	const replicas, hold, flapping = 4, 3 * time.Second, 80 * time.Second
	fill(t)
	t.Cleanup(func() { removeNode(t, "spare") })
	ns := namespace(t, "flapping", nil)
	policy(t, ns, "home", fmt.Sprintf("{repatriation: {mode: WhenRoom, minBurstSeconds: 0, holdSeconds: %d, maxConcurrent: 5}}", int(hold.Seconds())))
	for _, name := range []string{"one", "two"} {
		kubectl(t, deployment(name, replicas, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	}
	mustEventually(t, time.Minute, "all pods run on virtual nodes", func(context.Context) (bool, error) {
		return len(bursting(t, ns)) == 2*replicas, nil
	})
	judge := judgeMoves(t, ns)
	if err := system.AddNode(t.Context(), "spare", "8", "32Gi", 20); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), flapping)
	defer cancel()
	seen, killed := 0, false
	flap := time.NewTicker(2 * time.Second)
	defer flap.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-judge.evicted: // the room goes before the replacement gets it
			cordon(t, "spare", true)
			if seen++; seen == 2 && !killed {
				killed = true
				for _, c := range system.Controllers() {
					system.RemoveController(c, (*cluster.Process).Kill)
				}
				for range 2 {
					if _, err := system.StartController(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
		case <-flap.C:
			if waiting := pending(t, ns); waiting == 0 {
				cordon(t, "spare", false)
			}
		}
	}
	judge.stop(t)
	if len(judge.evictions) < 3 {
		t.Errorf("%d pods were moved in %v of flapping, which proves little; want 3 at least", len(judge.evictions), flapping)
	}
	t.Logf("%d pods were moved in %v: %v", len(judge.evictions), flapping, judge.evictions)
	judge.pauses(t, hold)
	judge.bounces(t, hold)
	cordon(t, "spare", false)
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Error(err)
	}
}

func pending(t *testing.T, namespace string) int {
	t.Helper()
	_, waiting, err := placed(t.Context(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	return waiting
}

func cordon(t *testing.T, node string, on bool) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, on)
	if _, err := client().CoreV1().Nodes().Patch(t.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// eviction is one that the API server carried out.
type eviction struct {
	workload, pod string
	at            time.Time
}

func (e eviction) String() string {
	return fmt.Sprintf("%s at %s", e.pod, e.at.Format("15:04:05.0"))
}

// moveJudge watches evictions and bindings by the API server alone.
type moveJudge struct {
	evictions []eviction
	// bursts are bindings to virtual nodes.
	bursts []eviction
	// most is how many pods of the namespace were evicted and not yet replaced at
	// once.
	most int
	// evicted gets a token for each eviction, if anybody waits.
	evicted chan struct{}

	cancel context.CancelFunc
	done   sync.WaitGroup
	err    error
}

func judgeMoves(t *testing.T, namespace string) *moveJudge {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	j := &moveJudge{cancel: cancel, evicted: make(chan struct{}, 100)}
	t.Cleanup(cancel)
	list, events, err := playground.WatchPods(ctx, client(), namespace)
	if err != nil {
		t.Fatal(err)
	}
	pods, bound := map[types.UID]*corev1.Pod{}, map[types.UID]bool{}
	for _, p := range list {
		pods[p.UID], bound[p.UID] = &p, p.Spec.NodeName != ""
	}
	going := map[types.UID]bool{}
	j.done.Go(func() {
		for e := range events {
			if e.Err != nil {
				if ctx.Err() == nil {
					j.err = e.Err
				}
				return
			}
			p, now := e.Pod, time.Now()
			if virtual := p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode; virtual && !bound[p.UID] {
				j.bursts = append(j.bursts, eviction{p.Labels["app"], p.Name, now})
			}
			bound[p.UID] = p.Spec.NodeName != ""
			if isEvicted(p) && !going[p.UID] {
				going[p.UID] = true
				j.evictions = append(j.evictions, eviction{p.Labels["app"], p.Name, now})
				j.evicted <- struct{}{}
			}
			pods[p.UID] = p
			if e.Type == "DELETED" {
				delete(pods, p.UID)
			}
			j.most = max(j.most, onTheMove(pods))
		}
	})
	return j
}

// isEvicted is true of a pod that is deleted by way of an eviction.
func isEvicted(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Reason == "EvictionByEvictionAPI"
	})
}

// onTheMove counts the evicted pods that are still there.
func onTheMove(pods map[types.UID]*corev1.Pod) (n int) {
	for _, p := range pods {
		if isEvicted(p) {
			n++
		}
	}
	return n
}

func (j *moveJudge) stop(t *testing.T) {
	t.Helper()
	j.cancel()
	j.done.Wait()
	if j.err != nil {
		t.Errorf("the judge saw nothing more: %v", j.err)
	}
}

// pauses fails for two evictions of one workload that are closer than the hold.
func (j *moveJudge) pauses(t *testing.T, hold time.Duration) {
	t.Helper()
	last := map[string]eviction{}
	for _, e := range j.evictions {
		if before, ok := last[e.workload]; ok && e.at.Sub(before.at) < hold {
			t.Errorf("%s was evicted %v after %s, want %v at least", e.pod, e.at.Sub(before.at), before.pod, hold)
		}
		last[e.workload] = e
	}
}

// bounces fails for a pod that burst while its workload was held.
func (j *moveJudge) bounces(t *testing.T, hold time.Duration) {
	t.Helper()
	for _, b := range j.bursts {
		for _, e := range j.evictions {
			if after := b.at.Sub(e.at); e.workload == b.workload && after >= 0 && after < hold {
				t.Errorf("%s burst %v after %s was moved back, want %v at least", b.pod, after, e.pod, hold)
			}
		}
	}
}
