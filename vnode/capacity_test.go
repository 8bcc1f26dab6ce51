package vnode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

const noCapacityTaint = v1alpha1.NoCapacityTaintKey + "=:NoSchedule"

// groupQuota bounds the groups of the memory cloud, beside what others hold.
type groupQuota struct {
	limit, others atomic.Int64
	silent        atomic.Bool // it cannot be read
}

func (b *bed) withQuota(limit int64) *groupQuota {
	q := &groupQuota{}
	q.limit.Store(limit)
	b.cloud.setFail(func(op, id string, _ int) error {
		ids := b.cloud.ids()
		if op == "Create" && !slices.Contains(ids, id) && int64(len(ids))+q.others.Load() >= q.limit.Load() {
			return fault(providers.QuotaExceeded, "ContainerGroupQuotaReached")
		}
		return nil
	})
	return q
}

// tell lets the cloud tell of its quota.
func (q *groupQuota) tell(b *bed) {
	b.cloud.usage = func() (providers.Usage, error) {
		if q.silent.Load() {
			return providers.Usage{}, fault(providers.Unavailable, "InternalError")
		}
		return providers.Usage{Groups: &providers.Meter{Used: int64(len(b.cloud.ids())) + q.others.Load(), Limit: q.limit.Load()}}, nil
	}
}

// offers checks how many pods the node offers, and whether it bears the taint.
func offers(pods int64, tainted bool) func(*corev1.Node) error {
	return func(n *corev1.Node) error {
		if got := n.Status.Allocatable.Pods().Value(); got != pods {
			return fmt.Errorf("it offers %d pods, want %d", got, pods)
		}
		if got := slices.Contains(taints(n), noCapacityTaint); got != tainted {
			return fmt.Errorf("taint of no capacity %t, want %t: %s", got, tainted, nodeCondition(n, "CapacityAvailable").Message)
		}
		return nil
	}
}

func prior(priority int32, age time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Priority = ptr.To(priority)
		p.CreationTimestamp = metav1.NewTime(time.Now().Add(-age))
	}
}

func asking(cpu, memory string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

// Half an hour without quota costs the cloud about as many calls with 50 waiting
// pods as with one, and every pod says what it waits for.
func TestExhaustedQuotaIsNotStormed(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const pods, room = 60, 10
		b := newBed(t)
		q := b.withQuota(room)
		b.start()
		for i := range pods {
			b.create(testPod(fmt.Sprint("web-", i), prior(0, time.Minute)))
		}
		b.eventually("the quota is used up", func() error {
			if n := len(b.cloud.ids()); n != room {
				return fmt.Errorf("%d groups", n)
			}
			return nil
		})
		b.node("is full", offers(room, true))
		b.create(testPod("vital", prior(1000, 0)))
		b.settle(time.Minute)
		begun := b.cloud.count("Create")
		b.settle(30 * time.Minute)
		if n := b.cloud.count("Create") - begun; n > 60 || n < 15 {
			t.Errorf("%d creates in 30 min, want about one a minute", n)
		}
		waiting := 0
		for i := range pods {
			s := b.pod(fmt.Sprint("web-", i)).Status
			if s.Reason == "" {
				continue
			}
			waiting++
			if s.Phase != corev1.PodPending || s.Reason != "CloudQuotaExceeded" || !strings.Contains(s.Message, "Not before") || !strings.Contains(s.Message, "ContainerGroupQuotaReached") {
				t.Fatalf("phase %q, reason %q, message %q", s.Phase, s.Reason, s.Message)
			}
		}
		if waiting != pods-room {
			t.Errorf("%d pods say that they wait, want %d", waiting, pods-room)
		}

		q.limit.Add(1)
		b.eventually("the most important pod is first", func() error {
			if !slices.Contains(b.cloud.ids(), "g-uid-vital") {
				return errors.New("not yet")
			}
			return nil
		})
		q.limit.Store(1000)
		begun, at := b.cloud.count("Create"), time.Now()
		b.eventually("all have a group", func() error {
			if n := len(b.cloud.ids()); n != pods+1 {
				return fmt.Errorf("%d groups", n)
			}
			return nil
		})
		if took := time.Since(at); took > 90*time.Second {
			t.Errorf("that took %s", took)
		}
		if n := b.cloud.count("Create") - begun; n > pods {
			t.Errorf("%d creates for %d pods", n, pods-room)
		}
		b.node("has room again", offers(5000, false))
	})
}

// What the node offers is what its groups hold and the quota leaves, whoever uses
// the rest.
func TestOfferFollowsTheQuota(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		q := b.withQuota(10)
		q.others.Store(3)
		q.tell(b)
		var writes atomic.Int64
		b.client.PrependReactor("*", "nodes", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() == "status" {
				writes.Add(1)
			}
			return false, nil, nil
		})
		b.start()
		b.node("offers what is left", offers(7, false))
		for i := range 5 {
			b.create(testPod(fmt.Sprint("web-", i)))
		}
		b.settle(2 * time.Minute)
		b.node("offers the same, as it holds five", offers(7, false))
		if n := b.node("is there", func(*corev1.Node) error { return nil }).Status.Capacity.Pods().Value(); n != 5000 {
			t.Errorf("capacity of %d pods, want that of the settings", n)
		}

		b.stop()
		b.start()
		for range 40 {
			b.settle(3 * time.Second)
			b.node("offers the same after a restart", offers(7, false))
		}
		q.silent.Store(true)
		b.settle(5 * time.Minute)
		b.node("offers the same while the quota cannot be read", offers(7, false))
		q.silent.Store(false)

		q.others.Store(5)
		b.node("is full when others take the rest", offers(5, true))
		b.node("says why", has("CapacityAvailable", corev1.ConditionFalse, "10 container groups"))
		b.create(testPod("late")) // put here by hand: it waits, and others are not disturbed
		b.settle(5 * time.Minute)
		if s := b.pod("late").Status; s.Phase != corev1.PodPending || s.Reason != "CloudQuotaExceeded" {
			t.Errorf("phase %q, reason %q", s.Phase, s.Reason)
		}
		begun := b.cloud.count("Create")
		q.limit.Store(20)
		at := time.Now()
		b.groups("g-uid-late", "g-uid-web-0", "g-uid-web-1", "g-uid-web-2", "g-uid-web-3", "g-uid-web-4")
		if took, n := time.Since(at), b.cloud.count("Create")-begun; took > 30*time.Second || n != 1 {
			t.Errorf("the pod started after %s with %d creates; the quota that is read tells that there is room", took, n)
		}
		b.node("offers more", offers(15, false))
		b.awaitCapacity(corev1.ConditionTrue)

		// What others use changes all the time; the node is not written each time.
		q.limit.Store(2000)
		b.node("offers much", offers(1995, false))
		written := writes.Load()
		for i := range 60 {
			q.others.Store(int64(5 + i%7))
			b.settle(10 * time.Second)
		}
		if n := writes.Load() - written; n > 15 {
			t.Errorf("%d writes of the node in 10 min, want little more than its heartbeats", n)
		}
	})
}

// A cloud that does not tell its quota is measured: by what it refuses, and what it
// takes later.
func TestOfferIsMeasured(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		q := b.withQuota(3)
		b.cloud.usage = func() (providers.Usage, error) {
			return providers.Usage{}, fault(providers.Unauthorized, "AuthorizationFailed")
		}
		b.start()
		b.node("offers all at first", offers(5000, false))
		for i := range 3 {
			b.create(testPod(fmt.Sprint("web-", i)))
		}
		b.groups("g-uid-web-0", "g-uid-web-1", "g-uid-web-2")
		b.create(testPod("web-4"))
		b.create(testPod("web-3", prior(5, 0)))
		b.node("offers what it holds", offers(3, true))
		b.remove("web-0")
		b.absent("web-0")
		b.groups("g-uid-web-1", "g-uid-web-2", "g-uid-web-3")
		b.remove("web-4")
		b.absent("web-4")
		b.node("tries one more when nothing was refused for long", func(n *corev1.Node) error {
			if got := n.Status.Allocatable.Pods().Value(); got <= 3 || got >= 5000 || slices.Contains(taints(n), noCapacityTaint) {
				return fmt.Errorf("it offers %d pods, taints %v", got, taints(n))
			}
			return nil
		})
		q.limit.Store(100)
		b.eventually("it forgets the bound in the end", func() error {
			b.settle(time.Minute)
			return offers(5000, false)(b.node("is there", func(*corev1.Node) error { return nil }))
		})
		if n := b.cloud.count("Usage"); n > 10 {
			t.Errorf("the right to read the quota is missing, and it was asked for %d times", n)
		}
	})
}

// A shortage of large machines concerns large pods: others start, and no taint keeps
// them away.
func TestShortageOfOneSize(t *testing.T) {
	sizes := &burstable.Sizes{
		CPU:    &burstable.Steps{Step: 10, Minimum: 1000, Default: 1000, Container: 100},
		Memory: &burstable.Steps{Step: 1 << 27, Minimum: 1 << 30, Default: 1 << 30, Container: 1 << 27},
	}
	for name, c := range map[string]struct {
		refused func(id string) bool
		tainted bool
		want    []string
	}{
		"of large ones":  {func(id string) bool { return strings.Contains(id, "large") }, false, []string{"g-uid-small-0", "g-uid-small-1", "g-uid-small-2"}},
		"of all of them": {func(string) bool { return true }, true, nil},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			b.cloud.sizes = sizes
			b.cloud.setFail(func(op, id string, _ int) error {
				if op == "Create" && c.refused(id) {
					return fault(providers.OutOfStock, "NoStock")
				}
				return nil
			})
			b.start()
			for i := range 3 {
				b.create(testPod(fmt.Sprint("large-", i), asking("8", "16Gi")))
			}
			b.awaitCapacity(corev1.ConditionFalse)
			for i := range 3 {
				b.create(testPod(fmt.Sprint("small-", i)))
			}
			b.settle(time.Minute)
			b.groups(c.want...)
			b.node("is tainted for all or for none", func(n *corev1.Node) error {
				if got := slices.Contains(taints(n), noCapacityTaint); got != c.tainted {
					return fmt.Errorf("taint %t, want %t", got, c.tainted)
				}
				return nil
			})
			b.node("says why", has("CapacityAvailable", corev1.ConditionFalse, "NoStock"))
			b.cloud.setFail(nil)
			b.eventually("all start", func() error {
				if n := len(b.cloud.ids()); n != 6 {
					return fmt.Errorf("%d groups", n)
				}
				return nil
			})
			b.node("takes pods", func(n *corev1.Node) error {
				if slices.Contains(taints(n), noCapacityTaint) {
					return errors.New("it is tainted")
				}
				return nil
			})
			b.awaitCapacity(corev1.ConditionTrue)
		})
	}
}

// A full node that nobody waits for is tried again, and a restart does not make it
// look empty.
func TestTaintOfNoCapacityEnds(t *testing.T) {
	tainted := func(n *corev1.Node) error {
		if !slices.Contains(taints(n), noCapacityTaint) {
			return errors.New("no taint")
		}
		return nil
	}
	bubble(t, "without pods", func(t *testing.T) {
		b := newBed(t)
		b.cloud.setFail(refuse(providers.OutOfStock, "NoStock"))
		b.start()
		b.create(testPod("web"))
		b.node("is full", tainted)
		b.stop()
		b.start()
		b.settle(20 * time.Second)
		b.node("is full after a restart", tainted)
		b.remove("web")
		b.absent("web")
		at := time.Now()
		b.awaitCapacity(corev1.ConditionTrue)
		if took := time.Since(at); took > 3*time.Minute {
			t.Errorf("that took %s", took)
		}
		b.node("takes pods", offers(5000, false))
	})
}

// Groups that are accepted and then find no room are no sign that there is any.
func TestLateRefusalsStopCreates(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.listStatus = true
		b.start()
		full := providers.GroupStatus{Phase: providers.GroupFailed, Reason: "NoStock", Refused: providers.OutOfStock}
		b.create(testPod("first"))
		b.groups("g-uid-first")
		b.cloud.set("g-uid-first", full)
		b.phase("first", corev1.PodFailed)
		for i := range 30 {
			b.create(testPod(fmt.Sprint("web-", i)))
		}
		begun := b.cloud.count("Create")
		for range 10 {
			b.settle(time.Second)
			for _, id := range b.cloud.ids() {
				b.cloud.set(id, full)
			}
		}
		if n := b.cloud.count("Create") - begun; n > 8 {
			t.Errorf("%d of 30 pods were sent after the one that found no room", n)
		}
	})
}

func TestCreateLoopIsStopped(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		b.cloud.setFail(func(op, id string, _ int) error {
			// Whatever it is that makes the agent believe that there is none.
			b.agent.present.Load().reconciler.change("uid-web", func(rec *record) { rec.lost = 0 })
			if op == "Get" || op == "List" {
				b.cloud.lose("g-uid-web")
			}
			return nil
		})
		b.create(testPod("web"))
		b.settle(30 * time.Minute)
		if n := b.cloud.count("Create"); n != createsPerPod {
			t.Errorf("%d groups were made for one pod, want %d", n, createsPerPod)
		}
		if s := b.pod("web").Status; s.Phase != corev1.PodPending || s.Reason != reasonCreateLoop || b.events("web")[reasonCreateLoop] != 1 {
			t.Errorf("phase %q, reason %q, events %v", s.Phase, s.Reason, b.events("web"))
		}
	})
}

func TestOrphansRaiseAnAlarm(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "Delete" {
				return fault(providers.Conflict, "ContainerGroupTransitioning")
			}
			return nil
		})
		b.cloud.put(testPod("gone"), ours(), running("app"))
		b.create(testPod("web", ran))
		b.cloud.put(testPod("web"), ours(), running("app"))
		b.start()
		b.settle(9 * time.Minute)
		if n := b.events(testNode)[reasonOrphans]; n != 0 {
			t.Errorf("%d alarms after 9 min", n)
		}
		b.settle(3 * time.Minute)
		if n := b.events(testNode)[reasonOrphans]; n != 1 {
			t.Errorf("%d alarms after 12 min, want 1", n)
		}
		list, err := b.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Reason == reasonOrphans && (!strings.Contains(e.Message, "g-uid-gone") || strings.Contains(e.Message, "g-uid-web") || e.InvolvedObject.Kind != "Node") {
				t.Errorf("event about %+v: %s", e.InvolvedObject, e.Message)
			}
		}
		if got := testutil.ToFloat64(b.agent.metrics.orphanedLong); got != 1 {
			t.Errorf("the figure is %g, want 1", got)
		}
		b.cloud.setFail(nil)
		b.groups("g-uid-web")
		b.settle(30 * time.Second)
		if got := testutil.ToFloat64(b.agent.metrics.orphaned); got != 0 {
			t.Errorf("the figure is %g after the removal, want 0", got)
		}
	})
}
