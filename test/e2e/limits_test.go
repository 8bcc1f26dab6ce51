package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// census counts, from the API server alone, the pods of some namespaces that are
// on virtual nodes, or may be bound there any moment.
type census struct {
	stop func()
	done chan struct{}

	mu           sync.Mutex
	virtual      map[types.UID]*corev1.Pod
	bound        int
	mostBound    int
	mostGranted  int
	late, direct int
	broken       error
}

func takeCensus(t *testing.T, namespaces []string) *census {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	_, events, err := playground.WatchPods(ctx, client(), "")
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	c := &census{stop: cancel, done: make(chan struct{}), virtual: map[types.UID]*corev1.Pod{}}
	go func() {
		defer close(c.done)
		for e := range events {
			switch {
			case e.Err != nil:
				c.mu.Lock()
				c.broken = e.Err // a judge that saw nothing must not acquit
				c.mu.Unlock()
				return
			case slices.Contains(namespaces, e.Pod.Namespace):
				c.observe(e)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-c.done })
	return c
}

func (c *census) observe(e playground.PodEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := e.Pod
	before := c.virtual[p.UID]
	delete(c.virtual, p.UID)
	if before != nil && before.Spec.NodeName != "" {
		c.bound--
	}
	over := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	onVirtual := p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode
	grant := p.Annotations[grantAnnotation]
	if e.Type == watch.Deleted || over || !onVirtual && (p.Spec.NodeName != "" || grant == "") {
		return
	}
	c.virtual[p.UID] = p
	if onVirtual {
		c.bound++
	}
	if before == nil {
		if grant == "Late" {
			c.late++
		} else {
			c.direct++
		}
	}
	c.mostBound = max(c.mostBound, c.bound)
	c.mostGranted = max(c.mostGranted, len(c.virtual))
}

// Three replicas of the webhook and controller grant 2,000 pods of four
// namespaces under a limit of 100, while they are killed at random and pods end:
// the API server never has 101, and in the end it has 100.
func TestLimitIsNeverExceeded(t *testing.T) {
	const (
		limit  = 100
		count  = 2000
		rage   = 40 * time.Second
		settle = 150 * time.Second
	)
	fill(t)
	var names []string
	for _, prefix := range []string{"race-a", "race-b", "race-c", "race-d"} {
		names = append(names, namespace(t, prefix, nil))
	}
	clusterPolicy(t, "race", names, fmt.Sprintf("limits: {pods: %d}", limit))
	for len(system.Controllers()) < 3 {
		if _, err := system.StartController(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for all := system.Controllers(); len(all) > 2; all = all[1:] {
			system.RemoveController(all[0], endProcess(t))
		}
	})
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := takeCensus(t, names)

	var workers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	work := make(chan int)
	for range 8 {
		workers.Go(func() {
			for i := range work {
				p := racer(i)
				if _, err := client().CoreV1().Pods(names[i%len(names)]).Create(ctx, p, metav1.CreateOptions{}); err != nil {
					t.Errorf("creating %s: %v", p.Name, err)
				}
			}
		})
	}
	workers.Go(func() {
		for i := range count {
			work <- i
		}
		close(work)
	})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	kills := 0
	for begin := time.Now(); time.Since(begin) < rage; {
		select {
		case <-time.After(time.Duration(2+random.IntN(5)) * time.Second):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		endSome(t, c, random)
		all := system.Controllers()
		victim := all[random.IntN(len(all))]
		system.RemoveController(victim, (*cluster.Process).Kill)
		kills++
		if _, err := system.StartController(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	workers.Wait()
	eventually(t, settle, "the limit is used up", func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.bound != limit {
			return false, fmt.Errorf("%d pods are on virtual nodes, %d more are granted", c.bound, len(c.virtual)-c.bound)
		}
		return true, nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Logf("%d replicas were killed; at most %d pods were on virtual nodes and %d granted at once; %d were granted at admission, %d late",
		kills, c.mostBound, c.mostGranted, c.direct, c.late)
	if c.broken != nil {
		t.Errorf("the count is not complete: %v", c.broken)
	}
	if c.mostBound > limit || c.mostGranted > limit {
		t.Errorf("%d pods were on virtual nodes and %d granted at once, want at most %d", c.mostBound, c.mostGranted, limit)
	}
	if t.Failed() {
		t.Log(system.Logs(30))
		out, _ := system.Kubectl(t.Context(), "", "--namespace="+playground.Namespace, "get", "configmap,lease", "-o", "yaml")
		t.Log(out)
	}
	// What waits would take the garbage collection of the namespaces long.
	for _, name := range names {
		kubectl(t, "", "--namespace="+name, "delete", "pods", "--all", "--wait=false")
	}
}

// racer is one of the pods: every other is granted late, as it prefers to be
// apart from others.
func racer(i int) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("racer-%d", i), Labels: map[string]string{"app": "racer"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "nginx:1.29",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			}},
		}}},
	}
	if i%2 == 1 {
		p.Spec.SchedulerName = corev1.DefaultSchedulerName
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: corev1.NodeSelectorTerm{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}},
			}}},
		}}
	}
	return p
}

// endSome deletes a few pods that run, so that room returns.
func endSome(t *testing.T, c *census, random *rand.Rand) {
	c.mu.Lock()
	var running []*corev1.Pod
	for _, p := range c.virtual {
		if p.Spec.NodeName != "" && p.DeletionTimestamp == nil {
			running = append(running, p)
		}
	}
	c.mu.Unlock()
	for range min(len(running), 1+random.IntN(6)) {
		p := running[random.IntN(len(running))]
		if err := client().CoreV1().Pods(p.Namespace).Delete(t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
			t.Logf("deleting %s: %v", p.Name, err) // chosen twice
		}
	}
}

// When room returns, the pods that wait are granted by priority and then by age;
// their events, and the policy's status, say what they wait for.
func TestLimitOrder(t *testing.T) {
	fill(t)
	for _, class := range []string{"{name: limits-low, value: 10}", "{name: limits-high, value: 1000}"} {
		name, value, _ := strings.Cut(strings.Trim(class, "{}"), ",")
		kubectl(t, fmt.Sprintf("{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {%s}, %s, preemptionPolicy: Never}", name, value), "apply", "-f", "-")
	}
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "priorityclass", "limits-low", "limits-high"); err != nil {
			t.Error(err)
		}
	})
	ns := namespace(t, "ordered", nil)
	policy(t, ns, "ordered", "{limits: {pods: 1}}")
	apply := func(name, class string) {
		kubectl(t, barePod(name, podSpec{extra: "priorityClassName: " + class + preferApart}), "--namespace="+ns, "apply", "-f", "-")
		waitPod(t, ns, name, "is unschedulable or bound", func(p *corev1.Pod) bool { return isUnschedulable(p) || p.Spec.NodeName != "" })
	}
	virtualPod := func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) }
	apply("first", "limits-low")
	waitPod(t, ns, "first", "runs on a virtual node", virtualPod)
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/ordered", "--for=condition=WithinLimits=False", "--timeout=20s")
	// Creation times are in whole seconds.
	order := []struct{ name, class string }{{"low-old", "limits-low"}, {"low-new", "limits-low"}, {"high-old", "limits-high"}, {"high-new", "limits-high"}}
	for _, o := range order {
		apply(o.name, o.class)
		created := pod(t, ns, o.name).CreationTimestamp.Time
		mustEventually(t, 5*time.Second, "the second is over", func(context.Context) (bool, error) { return time.Now().Unix() > created.Unix(), nil })
	}
	for _, o := range order {
		mustEventually(t, 20*time.Second, "an event says what "+o.name+" waits for", func(ctx context.Context) (bool, error) {
			list, err := client().EventsV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "regarding.name=" + o.name})
			if err != nil {
				return false, err
			}
			for _, e := range list.Items {
				if e.Action == "LimitReached" && strings.Contains(e.Note, "pods 1 of BurstPolicy "+ns+"/ordered, of which 1 are taken") {
					return true, nil
				}
			}
			return false, fmt.Errorf("its events are %+v", list.Items)
		})
	}
	if got := kubectl(t, "", "--namespace="+ns, "get", "burstpolicy", "ordered", "-o", "jsonpath={.status.usage.pods} {.status.conditions[?(@.type=='WithinLimits')].message}"); !strings.HasPrefix(got, "1 spec.limits.pods: all of 1 is taken.") {
		t.Errorf("the status says %q", got)
	}

	var got []string
	last := "first"
	for range order {
		kubectl(t, "", "--namespace="+ns, "delete", "pod", last, "--wait=false", "--grace-period=0", "--force")
		mustEventually(t, 30*time.Second, "another pod runs on a virtual node", func(context.Context) (bool, error) {
			for _, p := range pods(t, ns) {
				if virtualPod(&p) && p.DeletionTimestamp == nil && !slices.Contains(got, p.Name) {
					last = p.Name
					got = append(got, last)
					return true, nil
				}
			}
			return false, nil
		})
	}
	if diff := cmp.Diff([]string{"high-old", "high-new", "low-old", "low-new"}, got); diff != "" {
		t.Errorf("granted in another order (-want +got):\n%s", diff)
	}
	kubectl(t, "", "--namespace="+ns, "delete", "pods", "--all", "--wait=false")
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/ordered", "--for=condition=WithinLimits=True", "--timeout=30s")
}

// A target's limits bind beside the policy's, CPU and memory count as the cloud
// sells them, and a ClusterBurstPolicy caps what tenants allow themselves.
func TestLimitsBindTogether(t *testing.T) {
	fill(t)
	// ECI sells half a core and 64Mi as 0.5 vCPU and 1 GiB.
	const eciTarget = "{name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}"
	for name, test := range map[string]struct {
		policy  string
		cluster string
		want    int
		says    string
	}{
		"a target's pods":           {policy: "{limits: {pods: 9}, targets: [" + eciTarget + ", limits: {pods: 3}}]}", want: 3, says: "pods 3 of target eci of BurstPolicy"},
		"a policy's cpu":            {policy: `{limits: {cpu: "1.6"}, targets: [` + eciTarget + "}]}", want: 3, says: "cpu 1600m of BurstPolicy"},
		"memory as the cloud sells": {policy: "{limits: {memory: 2Gi}, targets: [" + eciTarget + "}]}", want: 2, says: "memory 2Gi of BurstPolicy"},
		"an administrator's cap":    {policy: "{limits: {pods: 50}}", cluster: "priority: -1, limits: {pods: 4}", want: 4, says: "pods 4 of ClusterBurstPolicy"},
	} {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "bound", nil)
			if test.cluster != "" {
				clusterPolicy(t, "cap", []string{ns}, test.cluster)
			}
			policy(t, ns, "own", test.policy)
			c := takeCensus(t, []string{ns})
			kubectl(t, deployment("many", 8, podSpec{cpu: "500m"}), "--namespace="+ns, "apply", "-f", "-")
			mustEventually(t, time.Minute, "the limit is used up and the others are told so", func(ctx context.Context) (bool, error) {
				list, err := client().EventsV1().Events(ns).List(ctx, metav1.ListOptions{})
				if err != nil {
					return false, err
				}
				told := map[string]bool{}
				for _, e := range list.Items {
					if e.Action == "LimitReached" && strings.Contains(e.Note, test.says) {
						told[e.Regarding.Name] = true
					}
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.bound != test.want || len(told) < 8-test.want {
					return false, fmt.Errorf("%d pods are on virtual nodes, want %d; %d are told %q, want %d", c.bound, test.want, len(told), test.says, 8-test.want)
				}
				return true, nil
			})
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.mostGranted > test.want || c.broken != nil {
				t.Errorf("%d pods were granted at once, want %d at most (%v)", c.mostGranted, test.want, c.broken)
			}
		})
	}
}

// clusterPolicy makes a ClusterBurstPolicy for namespaces, until the end of the
// test.
func clusterPolicy(t *testing.T, name string, namespaces []string, spec string) {
	t.Helper()
	values, err := json.Marshal(namespaces)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, fmt.Sprintf(`{apiVersion: autoburst.io/v1alpha1, kind: ClusterBurstPolicy, metadata: {name: %s}, spec: {
		namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: %s}]}, %s}}`, name, values, spec), "apply", "-f", "-")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "clusterburstpolicy", name); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "", "wait", "clusterburstpolicy/"+name, "--for=condition=Ready", "--timeout=20s")
}
