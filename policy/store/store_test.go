package store

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// sources are real informers on watches that a test writes.
type sources struct {
	namespaces, nodes, policies, clusterPolicies, pods *fcache.FakeControllerSource
	replicaSets, statefulSets                          *fcache.FakeControllerSource
	informers                                          map[string]toolscache.SharedIndexInformer
}

func newSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{
		namespaces: fcache.NewFakeControllerSource(), nodes: fcache.NewFakeControllerSource(),
		policies: fcache.NewFakeControllerSource(), clusterPolicies: fcache.NewFakeControllerSource(),
		pods: fcache.NewFakeControllerSource(), replicaSets: fcache.NewFakeControllerSource(), statefulSets: fcache.NewFakeControllerSource(),
		informers: map[string]toolscache.SharedIndexInformer{},
	}
	for _, x := range []struct {
		source    *fcache.FakeControllerSource
		obj       runtime.Object
		transform toolscache.TransformFunc
	}{
		{s.namespaces, &corev1.Namespace{}, trim(trimNamespace)},
		{s.nodes, &corev1.Node{}, trim(TrimNode)},
		{s.policies, &v1alpha1.BurstPolicy{}, nil},
		{s.clusterPolicies, &v1alpha1.ClusterBurstPolicy{}, nil},
		{s.pods, &corev1.Pod{}, trim(TrimPod)},
		{s.replicaSets, &appsv1.ReplicaSet{}, trimOwner},
		{s.statefulSets, &appsv1.StatefulSet{}, trimOwner},
	} {
		informer := toolscache.NewSharedIndexInformer(x.source, x.obj, 0, toolscache.Indexers{})
		if x.transform != nil {
			if err := informer.SetTransform(x.transform); err != nil {
				t.Fatal(err)
			}
		}
		s.informers[typeName(x.obj)] = informer
		t.Cleanup(x.source.Shutdown)
	}
	return s
}

func typeName(o any) string {
	switch o.(type) {
	case *corev1.Namespace:
		return "namespace"
	case *corev1.Node:
		return "node"
	case *v1alpha1.BurstPolicy:
		return "policy"
	case *v1alpha1.ClusterBurstPolicy:
		return "clusterpolicy"
	case *corev1.Pod:
		return "pod"
	case *appsv1.ReplicaSet:
		return "replicaset"
	case *appsv1.StatefulSet:
		return "statefulset"
	}
	return ""
}

func (s *sources) GetInformer(_ context.Context, obj client.Object, _ ...cache.InformerGetOption) (cache.Informer, error) {
	return s.informers[typeName(obj)], nil
}

// run starts the informers, but for those that are held back, and the Store.
func (s *sources) run(t *testing.T, st *Store, heldBack ...string) (release func()) {
	t.Helper()
	if err := st.Attach(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running []<-chan struct{}
	start := func(f func()) {
		done := make(chan struct{})
		running = append(running, done)
		go func() { defer close(done); f() }()
	}
	var held []func()
	for name, informer := range s.informers {
		begin := func() { start(func() { informer.RunWithContext(ctx) }) }
		if slices.Contains(heldBack, name) {
			held = append(held, begin)
			continue
		}
		begin()
	}
	start(func() {
		if err := st.Start(ctx); err != nil {
			t.Errorf("Start returned %v", err)
		}
	})
	t.Cleanup(func() {
		cancel()
		for _, done := range running {
			<-done
		}
	})
	return func() {
		for _, f := range held {
			f()
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func namespace(name, mode string, labels map[string]string) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if mode != "" {
		n.Annotations = map[string]string{v1alpha1.ModeAnnotation: mode}
	}
	return n
}

func eci() *corev1.Node {
	n := readyLocal("eci")
	n.Labels = map[string]string{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue}
	n.Spec.Taints = []corev1.Taint{
		{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule},
		{Key: v1alpha1.SoftTaintPrefix + "1", Effect: corev1.TaintEffectPreferNoSchedule},
	}
	n.Annotations = map[string]string{v1alpha1.CapabilitiesAnnotation: `{"provider":"eci","features":["HostAliases"]}`, "other": "x"}
	return n
}

// TestSynced checks that nothing is shown while any cache is empty still.
func TestSynced(t *testing.T) {
	for _, late := range []string{"namespace", "node", "policy", "clusterpolicy", "pod"} {
		t.Run(late, func(t *testing.T) {
			src, st := newSources(t), New(Options{})
			src.namespaces.Add(namespace("shop", "Overflow", nil))
			release := src.run(t, st, late)
			eventually(t, "the other informers are synced", func() bool {
				for name, i := range src.informers {
					if name != late && !i.HasSynced() {
						return false
					}
				}
				return true
			})
			if st.Synced() || st.Ready() == nil || len(st.Snapshot().Namespaces) != 0 {
				t.Errorf("synced is %t, ready %v, %d namespaces before the cache of %ss is filled",
					st.Synced(), st.Ready(), len(st.Snapshot().Namespaces), late)
			}
			release()
			eventually(t, "the store is synced", st.Synced)
			if st.Ready() != nil || len(st.Snapshot().Namespaces) != 1 {
				t.Errorf("ready %v, %d namespaces once synced", st.Ready(), len(st.Snapshot().Namespaces))
			}
		})
	}
}

// TestSnapshotFollows drives every kind of change through real informers.
func TestSnapshotFollows(t *testing.T) {
	src, st := newSources(t), New(Options{Excluded: []string{"autoburst"}})
	src.run(t, st)
	eventually(t, "the store is synced", st.Synced)
	if diff := cmp.Diff(map[string]bool{"kube-system": true, "kube-node-lease": true, "autoburst": true}, st.Snapshot().Excluded); diff != "" {
		t.Errorf("excluded (-want +got):\n%s", diff)
	}

	src.namespaces.Add(namespace("shop", "", nil))
	eventually(t, "the namespace is there", func() bool { _, ok := st.Snapshot().Namespaces["shop"]; return ok })
	src.namespaces.Modify(namespace("shop", "Auto", map[string]string{"tier": "gold"}))
	eventually(t, "its mode and labels are", func() bool {
		n := st.Snapshot().Namespaces["shop"]
		return n.Mode == v1alpha1.ModeAuto && n.Labels["tier"] == "gold"
	})

	src.nodes.Add(eci())
	eventually(t, "the virtual node is there", func() bool { return len(st.Snapshot().VirtualNodes) == 1 })
	vn := st.Snapshot().VirtualNodes[0]
	if !vn.Ready || len(vn.HardTaints) != 1 || len(vn.SoftTaints) != 1 || vn.Capabilities == nil || vn.Capabilities.Provider != "eci" {
		t.Errorf("the virtual node is shown as %+v", vn)
	}
	for _, key := range []string{"node.kubernetes.io/unreachable", v1alpha1.CloudUnreachableTaintKey} {
		src.nodes.Modify(eci())
		eventually(t, "it is ready", func() bool { return st.Snapshot().VirtualNodes[0].Ready })
		unreachable := eci()
		unreachable.Spec.Taints = append(unreachable.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		src.nodes.Modify(unreachable)
		eventually(t, "it is not ready with the taint "+key, func() bool { return !st.Snapshot().VirtualNodes[0].Ready })
		if n := len(st.Snapshot().VirtualNodes[0].HardTaints); n != 1 {
			t.Errorf("%d hard taints with %s, want 1: a passing condition is none", n, key)
		}
	}

	full := eci()
	full.Spec.Taints = append(full.Spec.Taints, corev1.Taint{Key: v1alpha1.NoCapacityTaintKey, Effect: corev1.TaintEffectNoSchedule})
	src.nodes.Modify(full)
	eventually(t, "it has no capacity", func() bool { return st.Snapshot().VirtualNodes[0].NoCapacity != "" })
	if n := st.Snapshot().VirtualNodes[0]; !n.Ready || len(n.HardTaints) != 1 {
		t.Errorf("ready %t, hard taints %v: want a ready node whose taint of no capacity is never tolerated", n.Ready, n.HardTaints)
	}
	src.nodes.Modify(eci())
	eventually(t, "it has capacity again", func() bool { return st.Snapshot().VirtualNodes[0].NoCapacity == "" })

	tainted := readyLocal("a")
	tainted.Spec.Taints = []corev1.Taint{{Key: "DeletionCandidateOfClusterAutoscaler", Effect: corev1.TaintEffectPreferNoSchedule}}
	src.nodes.Add(tainted)
	eventually(t, "a local soft taint is seen", func() bool { return st.Snapshot().LocalSoftTaint })
	src.nodes.Modify(readyLocal("a"))
	eventually(t, "it is gone", func() bool { return !st.Snapshot().LocalSoftTaint })

	pod := boundPod("p", "eci", "500m")
	src.pods.Add(pod)
	eventually(t, "the room on the virtual node shrinks", func() bool {
		return st.Snapshot().VirtualNodes[0].Free.Cpu().MilliValue() == 3500
	})
	src.pods.Delete(pod)
	eventually(t, "it is back", func() bool { return st.Snapshot().VirtualNodes[0].Free.Cpu().MilliValue() == 4000 })

	low := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "low", UID: "1", Generation: 1}}
	high := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "zz-high", UID: "2", Generation: 1}}
	high.Spec.Priority = 5
	high.Spec.Overflow = &v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{}}
	src.policies.Add(low)
	src.policies.Add(high)
	src.clusterPolicies.Add(&v1alpha1.ClusterBurstPolicy{ObjectMeta: metav1.ObjectMeta{Name: "all", UID: "3", Generation: 1}})
	names := func(list []*policy.Policy) (out []string) {
		for _, p := range list {
			out = append(out, p.Ref.Name)
		}
		return out
	}
	eventually(t, "policies are there, the higher priority first", func() bool {
		s := st.Snapshot()
		return slices.Equal(names(s.Policies["shop"]), []string{"zz-high", "low"}) && slices.Equal(names(s.Policies[""]), []string{"all"})
	})
	if st.Snapshot().Policies["shop"][0].PressureOpen {
		t.Error("a policy starts open")
	}
	opened := high.DeepCopy()
	opened.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue}}
	src.policies.Modify(opened)
	eventually(t, "the pressure is open", func() bool { return st.Snapshot().Policies["shop"][0].PressureOpen })

	src.policies.Delete(low)
	src.nodes.Delete(eci())
	src.namespaces.Delete(namespace("shop", "", nil))
	eventually(t, "what was deleted is gone", func() bool {
		s := st.Snapshot()
		_, there := s.Namespaces["shop"]
		return !there && len(s.VirtualNodes) == 0 && len(s.Policies["shop"]) == 1
	})
}

// TestSnapshotStays checks that what no rule looks at makes no new Snapshot.
func TestSnapshotStays(t *testing.T) {
	s := New(Options{})
	set := func(n *corev1.Node) { TrimNode(n); s.setNode(n) }
	set(eci())
	set(readyLocal("a"))
	s.setNamespace(namespace("shop", "Auto", nil))
	p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "1", Generation: 1}}
	setPolicy := func(p *v1alpha1.BurstPolicy) {
		s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
	}
	setPolicy(p)
	s.rebuild(0)
	before := s.Snapshot()

	heartbeat := eci()
	heartbeat.ResourceVersion = "2"
	heartbeat.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
	heartbeat.Status.Images = []corev1.ContainerImage{{Names: []string{"nginx"}}}
	heartbeat.Annotations["other"] = "y"
	set(heartbeat)
	s.setNamespace(namespace("shop", "Auto", nil))
	counted := p.DeepCopy()
	counted.Status.Pods.Selected = 7
	setPolicy(counted)
	s.setPod(boundPod("local", "a", "100m")) // a pod on a local node
	s.rebuild(0)
	if s.Snapshot() != before {
		t.Error("a new Snapshot was made of a heartbeat, a status or a local pod")
	}

	h := listenTo(s)
	s.setPod(boundPod("burst", "eci", "100m"))
	s.rebuild(0)
	if s.Snapshot() == before {
		t.Error("no new Snapshot though the room on a virtual node changed")
	}
	if h.rules != 0 {
		t.Error("listeners were told of other rules though only room changed")
	}
	edited := p.DeepCopy()
	edited.Generation = 2
	setPolicy(edited)
	s.rebuild(0)
	if h.rules != 1 {
		t.Errorf("listeners were told of other rules %d times, want once", h.rules)
	}
}

func TestInterPodTerms(t *testing.T) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	preferred := func(term corev1.PodAffinityTerm) *corev1.Affinity {
		return &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: term}},
		}}
	}
	type shown struct {
		All        bool
		Namespaces map[string]bool
		Selector   string
	}
	for name, c := range map[string]struct {
		affinity *corev1.Affinity
		want     []shown
	}{
		"none": {},
		"preferred anti-affinity in its own namespace": {
			affinity: preferred(corev1.PodAffinityTerm{LabelSelector: selector}),
			want:     []shown{{Namespaces: map[string]bool{"x": true}, Selector: "app=web"}},
		},
		"in named namespaces": {
			affinity: preferred(corev1.PodAffinityTerm{LabelSelector: selector, Namespaces: []string{"a", "b"}}),
			want:     []shown{{Namespaces: map[string]bool{"a": true, "b": true}, Selector: "app=web"}},
		},
		"in every namespace": {
			affinity: preferred(corev1.PodAffinityTerm{LabelSelector: selector, NamespaceSelector: &metav1.LabelSelector{}}),
			want:     []shown{{All: true, Namespaces: map[string]bool{}, Selector: "app=web"}},
		},
		"in selected namespaces": {
			affinity: preferred(corev1.PodAffinityTerm{LabelSelector: selector, NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}}}),
			want:     []shown{{Namespaces: map[string]bool{"gold-1": true}, Selector: "app=web"}},
		},
		"required affinity": {
			affinity: &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: selector}}}},
			want:     []shown{{Namespaces: map[string]bool{"x": true}, Selector: "app=web"}},
		},
		"required anti-affinity scores nothing": {
			affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{LabelSelector: selector}}}},
		},
		"no label selector matches no pod": {affinity: preferred(corev1.PodAffinityTerm{})},
		"an empty one matches every pod": {
			affinity: preferred(corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{}}),
			want:     []shown{{Namespaces: map[string]bool{"x": true}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{})
			s.setNamespace(namespace("gold-1", "", map[string]string{"tier": "gold"}))
			s.setNamespace(namespace("x", "", nil))
			show := func() (out []shown) {
				s.rebuild(0)
				for _, term := range s.Snapshot().InterPodTerms {
					out = append(out, shown{term.All, term.Namespaces, term.Selector.String()})
				}
				return out
			}
			var pods []*corev1.Pod
			for _, replica := range []string{"1", "2", "3"} {
				p := boundPod(replica, "a", "1")
				p.Spec.Affinity = c.affinity
				TrimPod(p)
				s.setPod(p)
				pods = append(pods, p)
			}
			if diff := cmp.Diff(c.want, show()); diff != "" {
				t.Errorf("with three replicas (-want +got):\n%s", diff)
			}
			for i, p := range pods {
				if i == len(pods)-1 {
					if diff := cmp.Diff(c.want, show()); diff != "" {
						t.Errorf("with one replica left (-want +got):\n%s", diff)
					}
				}
				s.dropPod(p)
			}
			if got := show(); len(got) != 0 {
				t.Errorf("terms %v are left of pods that are gone", got)
			}
		})
	}
}
