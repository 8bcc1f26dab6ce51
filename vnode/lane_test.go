package vnode

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// boundCloud is a memoryCloud that counts its calls against an account, as the
// providers do.
type boundCloud struct {
	*memoryCloud

	account *quota.Account
	took    time.Duration // of a create
	order   []string      // of creates
}

const (
	createOp = "CreateContainerGroup"
	deleteOp = "DeleteContainerGroup"
	readOp   = "DescribeContainerGroups"
)

func newBoundCloud(t testing.TB, quotas ...quota.Quota) *boundCloud {
	t.Helper()
	account, err := quota.New(quota.Plan{Key: "account", Quotas: quotas, Create: createOp, Delete: deleteOp}, quota.Settings{}, clock.RealClock{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &boundCloud{memoryCloud: newMemoryCloud(), account: account}
}

func (c *boundCloud) Quota() *quota.Account { return c.account }

func (c *boundCloud) call(ctx context.Context, operation string, p quota.Priority, f func() error) error {
	permit, err := c.account.Take(ctx, operation, p)
	if err != nil {
		return err
	}
	err = f()
	permit.Done(err)
	return err
}

func (c *boundCloud) Create(ctx context.Context, spec *providers.GroupSpec) (id string, err error) {
	err = c.call(ctx, createOp, quota.Confirming, func() error {
		<-time.After(c.took)
		c.mu.Lock()
		c.order = append(c.order, spec.Owner.PodName)
		c.mu.Unlock()
		id, err = c.memoryCloud.Create(ctx, spec)
		return err
	})
	return id, err
}

func (c *boundCloud) Delete(ctx context.Context, id string) error {
	return c.call(ctx, deleteOp, quota.Confirming, func() error { return c.memoryCloud.Delete(ctx, id) })
}

func (c *boundCloud) Get(ctx context.Context, id string) (g *providers.Group, err error) {
	err = c.call(ctx, readOp, quota.PriorityOf(ctx), func() error {
		g, err = c.memoryCloud.Get(ctx, id)
		return err
	})
	return g, err
}

func (c *boundCloud) created() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.order...)
}

// perSecond is a quota of n at once and r a second.
func perSecond(operation string, n int, r float64) quota.Quota {
	return quota.Quota{Operation: operation, Rules: quota.Rules{Bucket: quota.Bucket{Burst: n, PerSecond: r}}}
}

func prioritized(priority int32, created time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Priority = ptr.To(priority)
		p.CreationTimestamp = metav1.NewTime(created)
	}
}

func TestCreatesInOrderOfPriorityThenAge(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		c := newBoundCloud(t, perSecond(createOp, 1, 1))
		b := newBed(t)
		b.provider = c
		b.cloud = c.memoryCloud
		epoch := time.Now().Add(-time.Hour)
		b.start()
		b.settle(time.Second)
		b.create(testPod("first")) // uses the permit that is there
		b.groups("g-uid-first")
		for _, p := range []struct {
			name     string
			priority int32
			age      int
		}{{"young", 0, 1}, {"old", 0, 5}, {"low", -10, 9}, {"older", 0, 7}} {
			b.create(testPod(p.name, prioritized(p.priority, epoch.Add(-time.Duration(p.age)*time.Minute))))
		}
		b.settle(1500 * time.Millisecond) // the oldest has begun
		b.create(testPod("late-but-important", prioritized(1000, epoch)))
		b.eventually("all are created", func() error {
			if n := len(c.created()); n != 6 {
				return fmt.Errorf("%d of 6", n)
			}
			return nil
		})
		want := "[first older late-but-important old young low]"
		if got := fmt.Sprint(c.created()); got != want {
			t.Errorf("created in the order %s, want %s", got, want)
		}
	})
}

func TestDeletedWhileItWaits(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		c := newBoundCloud(t, perSecond(createOp, 1, 0.01), perSecond(deleteOp, 100, 100))
		b := newBed(t)
		b.provider, b.cloud = c, c.memoryCloud
		b.start()
		b.settle(200 * time.Second)
		b.create(testPod("first"))
		b.groups("g-uid-first")
		b.create(testPod("second"))
		b.create(testPod("third"))
		b.settle(time.Second)
		begun := time.Now()
		b.remove("second")
		b.absent("second")
		if d := time.Since(begun); d > 10*time.Second {
			t.Errorf("the pod that waited went %s after its deletion", d)
		}
		if n := b.agent.present.Load().reconciler.createLane.depth(); n != 1 {
			t.Errorf("%d pods stand in the lane, want the one that is not deleted", n)
		}
		b.groups("g-uid-first", "g-uid-third")
		b.settle(5 * time.Minute)
		if got := fmt.Sprint(c.created()); got != "[first third]" {
			t.Errorf("created %s", got)
		}
	})
}

// A pod that waits long for the quota says so once, one that waits a little does
// not.
func TestLongWaitIsTold(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		c := newBoundCloud(t, perSecond(createOp, 1, 0.05))
		b := newBed(t)
		b.provider, b.cloud = c, c.memoryCloud
		b.start()
		b.settle(time.Minute)
		writes := map[string]int{}
		b.onPatch(func(name string) { writes[name]++ })
		for i := range 8 {
			b.create(testPod(fmt.Sprintf("web-%d", i), prioritized(0, time.Now().Add(time.Duration(i)*time.Second))))
		}
		b.settle(55 * time.Second)
		s := b.pod("web-7").Status
		if s.Phase != corev1.PodPending || s.Reason != "CloudThrottled" || s.ContainerStatuses[0].State.Waiting.Reason != "CloudThrottled" {
			t.Errorf("status of a pod that waits long: %+v", s)
		}
		b.settle(50 * time.Second)
		if n := writes["web-7"]; n != 1 {
			t.Errorf("%d writes about one wait, want 1", n)
		}
		for _, name := range []string{"web-0", "web-1"} {
			if s := b.pod(name).Status; s.Reason != "" {
				t.Errorf("%s waited little, but says %q", name, s.Message)
			}
		}
		if got := b.events("web-7")["CloudThrottled"]; got != 1 {
			t.Errorf("%d events, want 1", got)
		}
		b.eventually("all are created", func() error {
			if n := len(c.created()); n != 8 {
				return fmt.Errorf("%d of 8", n)
			}
			return nil
		})
		b.settle(time.Second)
		if s := b.pod("web-7").Status; s.Reason != "" {
			t.Errorf("the pod is created and still says %q", s.Reason)
		}
	})
}

// While creates wait for the quota, deletions and statuses go on as ever.
func TestCreatesStarveNobody(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const waiting, ending, alive = 2000, 500, 20
		c := newBoundCloud(t, perSecond(createOp, 100, 20), perSecond(deleteOp, 1000, 1000))
		c.took = 200 * time.Millisecond
		var objects []runtime.Object
		put := func(name string) {
			pod := testPod(name, ran)
			objects = append(objects, pod)
			c.put(pod, ours(), running("app"))
		}
		for i := range ending {
			put(fmt.Sprintf("end-%d", i))
		}
		for i := range alive {
			put(fmt.Sprintf("run-%d", i))
		}
		b := newBed(t)
		b.quiet = true
		b.provider, b.cloud, b.client = c, c.memoryCloud, crowdClient(objects...)
		b.start()
		b.settle(time.Minute)
		begun := time.Now()
		for i := range waiting {
			b.create(testPod(fmt.Sprintf("new-%d", i)))
		}
		b.settle(5 * time.Second)
		if n := c.count("Create"); n < 150 || n > 250 {
			t.Errorf("%d creates after 5 s at a quota of 100 and 20 a second", n)
		}
		for i := range ending {
			b.remove(fmt.Sprintf("end-%d", i))
		}
		b.settle(5 * time.Second)
		if n := c.count("Delete"); n < ending {
			t.Errorf("5 s later %d of %d groups are deleted; they must not wait for creates", n, ending)
		}
		for i := range alive {
			c.set(fmt.Sprintf("g-uid-run-%d", i), exited(0, "app"))
		}
		b.settle(30 * time.Second)
		for i := range alive {
			if p := b.pod(fmt.Sprintf("run-%d", i)).Status.Phase; p != corev1.PodSucceeded {
				t.Errorf("pod run-%d is %s, although its container has ended 30 s ago", i, p)
			}
		}
		b.eventually("all are created", func() error {
			if n := c.count("Create"); n < waiting {
				return fmt.Errorf("%d of %d", n, waiting)
			}
			return nil
		})
		const quota = 95 * time.Second // (2000 - 100) / 20
		if took := time.Since(begun); took > quota*105/100 {
			t.Errorf("2000 creates took %s, want at most 1.05 times the %s of the quota", took, quota)
		}
	})
}

// Without a quota, creates are bounded by the writers only.
func TestCreatesWithoutQuota(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		c := newBoundCloud(t)
		c.took = 200 * time.Millisecond
		b := newBed(t)
		b.quiet = true
		b.provider, b.cloud, b.client = c, c.memoryCloud, crowdClient()
		b.start()
		b.settle(time.Second)
		begun := time.Now()
		const count = 2000
		for i := range count {
			b.create(testPod(fmt.Sprintf("new-%d", i)))
		}
		for c.count("Create") < count {
			b.settle(100 * time.Millisecond)
		}
		if took := time.Since(begun); took > 4500*time.Millisecond {
			t.Errorf("%d creates of 200 ms took %s, want 4 s with 100 at once", count, took)
		}
	})
}

// What an agent does when it is told to stop: what has begun is finished, what
// waits is left to the next one.
func TestStopWhileCreatesWait(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		c := newBoundCloud(t, perSecond(createOp, 2, 0.01))
		c.took = 5 * time.Second
		b := newBed(t)
		b.provider, b.cloud = c, c.memoryCloud
		b.start()
		b.settle(300 * time.Second)
		for i := range 10 {
			b.create(testPod(fmt.Sprintf("web-%d", i)))
		}
		b.settle(time.Second)
		b.stop()
		if n := len(c.ids()); n != 2 {
			t.Errorf("%d groups after the stop, want the 2 that were begun", n)
		}
		synctest.Wait()
	})
}
