package controller

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// view is a View that a test writes.
type view struct {
	mu       sync.Mutex
	snapshot *policy.Snapshot
	local    []*policy.LocalNode
	pending  map[types.UID]*corev1.Pod
	pods     map[string][]*corev1.Pod
	census   policy.Census
	changes  uint64
	gap      time.Duration
	listener store.Listener
}

func (v *view) Snapshot() *policy.Snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.snapshot
}

func (v *view) LocalNodes() []*policy.LocalNode {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.local
}

func (v *view) Pending(uid types.UID) (*corev1.Pod, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.pending[uid]
	return p, ok
}

func (v *view) Pods(namespace string) []*corev1.Pod {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pods[namespace]
}

func (v *view) LeaseGap() time.Duration { return v.gap }
func (v *view) PendingPods() []*corev1.Pod {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Collect(maps.Values(v.pending))
}

func (v *view) Workload(pod *corev1.Pod) (policy.Workload, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.census.Workload(pod, func(node string) bool {
		return slices.ContainsFunc(v.snapshot.VirtualNodes, func(n *policy.VirtualNode) bool { return n.Name == node })
	})
}

func (v *view) PodChanges() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.changes
}

func (v *view) PodVersion() uint64 { return math.MaxUint64 }

func (v *view) IsLocal(string) bool { return false }

func (v *view) SubscribePods(store.PodListener) func() { return func() {} }

func (v *view) Subscribe(l store.Listener) func() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.listener = l
	return func() {}
}

// eventLog is an EventRecorder that keeps what it is told.
type eventLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *eventLog) Eventf(about, _ runtime.Object, kind, reason, _, note string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := "?"
	if o, ok := about.(metav1.Object); ok {
		name = o.GetName()
	}
	l.lines = append(l.lines, fmt.Sprintf("%s %s %s: %s", name, kind, reason, fmt.Sprintf(note, args...)))
}

// of lists the reasons of the events about an object, in order.
func (l *eventLog) of(name string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, line := range l.lines {
		if f := strings.Fields(line); f[0] == name {
			out = append(out, strings.TrimSuffix(f[2], ":"))
		}
	}
	return out
}

// note is the text of the last event about an object.
func (l *eventLog) note(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(l.lines[i], name+" ") {
			return l.lines[i]
		}
	}
	return ""
}

// fixture is the controller around a fake API server.
type fixture struct {
	*parts
	t        testing.TB
	view     *view
	client   client.WithWatch
	events   *eventLog
	clock    *testclock.FakeClock
	registry *prometheus.Registry
	queued   []store.PodKey
	// patchPod, when set, stands before the API server for patches of pods.
	patchPod func() error
	patches  int
	// evict, when set, stands before the API server for evictions.
	evict func(dryRun bool) error
	// evicted are the pods that were.
	evicted []string
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newFixture(t testing.TB, objects ...client.Object) *fixture {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	f := &fixture{
		t: t,
		view: &view{
			snapshot: &policy.Snapshot{
				Namespaces:   map[string]policy.Namespace{"shop": {Mode: v1alpha1.ModeOverflow}},
				VirtualNodes: []*policy.VirtualNode{virtual("eci", nil)},
			},
			pending: make(map[types.UID]*corev1.Pod),
			pods:    make(map[string][]*corev1.Pod),
		},
		events:   &eventLog{},
		clock:    testclock.NewFakeClock(start),
		registry: prometheus.NewPedanticRegistry(),
	}
	f.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&corev1.Event{}, "reason", func(o client.Object) []string { return []string{o.(*corev1.Event).Reason} }).
		WithIndex(&corev1.Pod{}, "status.phase", func(o client.Object) []string { return []string{string(o.(*corev1.Pod).Status.Phase)} }).
		WithStatusSubresource(&v1alpha1.BurstPolicy{}, &v1alpha1.ClusterBurstPolicy{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
				if _, ok := obj.(*corev1.Pod); ok {
					f.view.mu.Lock() // workers may write at once, and several gates are opened at once
					f.patches++
					f.view.mu.Unlock()
					if f.patchPod != nil {
						if err := f.patchPod(); err != nil {
							return err
						}
					}
				}
				return c.Patch(ctx, obj, patch, opts...)
			},
			SubResourceCreate: func(ctx context.Context, c client.Client, subResource string, obj, body client.Object, opts ...client.SubResourceCreateOption) error {
				var o client.SubResourceCreateOptions
				o.ApplyOptions(opts)
				dryRun := len(o.DryRun) > 0
				if f.evict != nil {
					if err := f.evict(dryRun); err != nil {
						return err
					}
				}
				if dryRun { // which the fake client does not know
					return nil
				}
				f.evicted = append(f.evicted, obj.GetName())
				return c.SubResource(subResource).Create(ctx, obj, body, opts...)
			},
		}).Build()
	p, err := newParts(Options{View: f.view, Client: f.client, Live: f.client, Recorder: f.events, Registerer: f.registry, Clock: f.clock})
	if err != nil {
		t.Fatal(err)
	}
	f.parts = p
	p.granter.waiting.feed(func(k store.PodKey, _ bool) {
		f.view.mu.Lock() // the keeper of the limits wakes pods on its own
		defer f.view.mu.Unlock()
		f.queued = append(f.queued, k)
	})
	return f
}

// submit puts a pod into the API server and tells the controller of it.
func (f *fixture) submit(p *corev1.Pod) *corev1.Pod {
	f.t.Helper()
	if err := f.client.Create(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
	f.arrive(p.Namespace, p.Name)
	return p
}

// arrive brings the newest state of a pod to the view, as the watch would.
func (f *fixture) arrive(namespace, name string) *corev1.Pod {
	f.t.Helper()
	p := f.pod(namespace, name)
	f.view.mu.Lock()
	f.view.pending[p.UID] = p
	f.view.mu.Unlock()
	f.granter.waiting.PodPending(p)
	return p
}

// settle binds a pod, or removes it.
func (f *fixture) settle(p *corev1.Pod, node string) {
	f.view.mu.Lock()
	delete(f.view.pending, p.UID)
	f.view.mu.Unlock()
	f.granter.waiting.PodSettled(p, node)
}

func (f *fixture) pod(namespace, name string) *corev1.Pod {
	f.t.Helper()
	p := new(corev1.Pod)
	if err := f.client.Get(f.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, p); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// work reconciles all that is queued and returns the last delay.
func (f *fixture) work() time.Duration {
	f.t.Helper()
	var again time.Duration
	for {
		f.view.mu.Lock()
		if len(f.queued) == 0 {
			f.view.mu.Unlock()
			return again
		}
		key := f.queued[0]
		f.queued = f.queued[1:]
		f.view.mu.Unlock()
		again = f.look(key)
	}
}

func (f *fixture) look(key store.PodKey) time.Duration {
	f.t.Helper()
	r, err := f.granter.Reconcile(f.t.Context(), key)
	if err != nil {
		f.t.Fatalf("reconciling %s: %v", key, err)
	}
	return r.RequeueAfter
}

// rules replaces the snapshot by a changed copy.
func (f *fixture) rules(change func(*policy.Snapshot)) {
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	next := *f.view.snapshot
	change(&next)
	f.view.snapshot = &next
}

// setPolicies compiles policies into the snapshot.
func (f *fixture) setPolicies(policies ...*v1alpha1.BurstPolicy) {
	f.rules(func(s *policy.Snapshot) {
		s.Policies = map[string][]*policy.Policy{}
		for _, p := range policies {
			c := policy.Compile(p)
			for _, condition := range p.Status.Conditions {
				if condition.Type == v1alpha1.ConditionUnderPressure {
					c.PressureOpen = condition.Status == metav1.ConditionTrue
				}
			}
			s.Policies[p.Namespace] = append(s.Policies[p.Namespace], c)
		}
	})
}

var hardTaint = corev1.Taint{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}

func virtual(name string, set labels.Set) *policy.VirtualNode {
	all := labels.Set{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue, v1alpha1.ProviderLabel: name}
	return &policy.VirtualNode{
		Name: name, Labels: labels.Merge(all, set), Ready: true, HardTaints: []corev1.Taint{hardTaint},
		Capabilities: &burstable.Capabilities{Provider: name},
		Free: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("1Ti"), corev1.ResourcePods: resource.MustParse("1000"),
		},
	}
}

func local(name, cpu string) *policy.LocalNode {
	return &policy.LocalNode{Name: name, Free: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("64Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}}
}

// unschedulable is a pod of namespace shop for which the scheduler found no node.
func unschedulable(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			SchedulerName: corev1.DefaultSchedulerName,
			Containers: []corev1.Container{{
				Name: "main", Image: "nginx",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"),
				}},
			}},
			Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: "0/1 nodes are available: 1 Insufficient cpu.", LastTransitionTime: metav1.NewTime(start),
		}}},
	}
}

// eventually asks until it is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		case <-tick.C:
		}
	}
}
