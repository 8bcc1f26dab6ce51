package store

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// cluster is the truth that the Store is compared with: all objects as they
// stand, counted from nothing.
type cluster struct {
	store *Store
	heard *heard
	nodes map[string]*corev1.Node
	pods  map[types.UID]*corev1.Pod
	next  int
}

// heard is a Listener that keeps the set of pending pods by what it is told.
type heard struct {
	pending map[types.UID]bool
	shrank  map[string]int
	rules   int
}

func (h *heard) PodPending(p *corev1.Pod) { h.pending[p.UID] = true }
func (h *heard) PodSettled(p *corev1.Pod, _ string) {
	if !h.pending[p.UID] {
		panic("a pod settled that was not pending: " + p.Name)
	}
	delete(h.pending, p.UID)
}
func (h *heard) RoomShrank(node string) { h.shrank[node]++ }
func (h *heard) RulesChanged()          { h.rules++ }

func listenTo(s *Store) *heard {
	h := &heard{pending: make(map[types.UID]bool), shrank: make(map[string]int)}
	s.Subscribe(h)
	return h
}

func TestRoomEqualsRecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New(Options{})
		c := &cluster{store: s, heard: listenTo(s), nodes: map[string]*corev1.Node{}, pods: map[types.UID]*corev1.Pod{}}
		t.Repeat(map[string]func(*rapid.T){
			"":           c.check,
			"createPod":  c.createPod,
			"bindPod":    c.bindPod,
			"resizePod":  c.resizePod,
			"finishPod":  c.finishPod,
			"deletePod":  c.deletePod,
			"replacePod": c.replacePod,
			"repeatPod":  c.repeatPod,
			"setNode":    c.setNode,
			"deleteNode": c.deleteNode,
			"list":       func(*rapid.T) { s.LocalNodes() },
		})
	})
}

var nodeNames = []string{"a", "b", "c", "d"}

func (c *cluster) send(before, now *corev1.Pod) {
	now = now.DeepCopy()
	c.pods[now.UID] = now
	trimmed := now.DeepCopy()
	TrimPod(trimmed)
	if before == nil {
		podHandler{c.store}.OnAdd(trimmed, false)
		return
	}
	podHandler{c.store}.OnUpdate(before, trimmed)
}

func (c *cluster) pick(t *rapid.T, f func(*corev1.Pod) bool) *corev1.Pod {
	var uids []types.UID
	for uid, p := range c.pods {
		if f(p) {
			uids = append(uids, uid)
		}
	}
	if len(uids) == 0 {
		t.Skip("no such pod")
	}
	slices.Sort(uids)
	return c.pods[rapid.SampledFrom(uids).Draw(t, "pod")]
}

func (c *cluster) createPod(t *rapid.T) {
	c.next++
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace"),
		Name:      fmt.Sprint("pod-", c.next), UID: types.UID(fmt.Sprint("uid-", c.next)),
	}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Resources: drawRequests(t)}}
	if rapid.Bool().Draw(t, "init") {
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Resources: drawRequests(t)}}
	}
	if rapid.Bool().Draw(t, "bound") { // the watch may show it bound at once
		p.Spec.NodeName = rapid.SampledFrom(nodeNames).Draw(t, "node")
	}
	c.send(nil, p)
}

func drawRequests(t *rapid.T) corev1.ResourceRequirements {
	list := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewMilliQuantity(rapid.Int64Range(0, 4000).Draw(t, "cpu"), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(rapid.Int64Range(0, 1<<33).Draw(t, "memory"), resource.BinarySI),
	}
	if rapid.Bool().Draw(t, "gpu") {
		list["example.com/gpu"] = *resource.NewQuantity(rapid.Int64Range(1, 4).Draw(t, "gpus"), resource.DecimalSI)
	}
	return corev1.ResourceRequirements{Requests: list}
}

func (c *cluster) bindPod(t *rapid.T) {
	p := c.pick(t, func(p *corev1.Pod) bool { return p.Spec.NodeName == "" && !finished(p) })
	bound := p.DeepCopy()
	bound.Spec.NodeName = rapid.SampledFrom(nodeNames).Draw(t, "node")
	c.send(p, bound)
}

func (c *cluster) resizePod(t *rapid.T) {
	p := c.pick(t, func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	resized := p.DeepCopy()
	before := resized.Spec.Containers[0].Resources
	resized.Spec.Containers[0].Resources = drawRequests(t)
	resized.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "main", AllocatedResources: before.Requests, Resources: &before,
	}}
	c.send(p, resized)
}

func (c *cluster) finishPod(t *rapid.T) {
	p := c.pick(t, func(p *corev1.Pod) bool { return !finished(p) })
	done := p.DeepCopy()
	done.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}).Draw(t, "phase")
	c.send(p, done)
}

func (c *cluster) deletePod(t *rapid.T) {
	p := c.pick(t, func(*corev1.Pod) bool { return true })
	delete(c.pods, p.UID)
	podHandler{c.store}.OnDelete(p)
}

// replacePod is what an informer tells when it missed a deletion: an update to
// another pod of the same name.
func (c *cluster) replacePod(t *rapid.T) {
	p := c.pick(t, func(*corev1.Pod) bool { return true })
	delete(c.pods, p.UID)
	c.next++
	other := p.DeepCopy()
	other.UID = types.UID(fmt.Sprint("uid-", c.next))
	other.Spec.NodeName, other.Status = "", corev1.PodStatus{}
	c.send(p, other)
}

func (c *cluster) repeatPod(t *rapid.T) {
	p := c.pick(t, func(*corev1.Pod) bool { return true })
	c.send(p, p)
}

func (c *cluster) setNode(t *rapid.T) {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: rapid.SampledFrom(nodeNames).Draw(t, "node")}}
	if rapid.Bool().Draw(t, "virtual") {
		n.Labels = map[string]string{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue}
	}
	n.Spec.Unschedulable = rapid.Bool().Draw(t, "cordoned")
	if rapid.Bool().Draw(t, "soft") {
		n.Spec.Taints = []corev1.Taint{{Key: "k", Effect: corev1.TaintEffectPreferNoSchedule}}
	}
	status := rapid.SampledFrom([]corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, "ready")
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("16"),
		corev1.ResourceMemory: resource.MustParse("64Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
		"example.com/gpu":     resource.MustParse("8"),
	}
	TrimNode(n)
	c.nodes[n.Name] = n
	c.store.setNode(n)
}

func (c *cluster) deleteNode(t *rapid.T) {
	if len(c.nodes) == 0 {
		t.Skip("no node")
	}
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(c.nodes))).Draw(t, "node")
	n := c.nodes[name]
	delete(c.nodes, name)
	c.store.dropNode(n)
}

// check compares every view of the Store with a recount.
func (c *cluster) check(t *rapid.T) {
	used := make(map[string]policy.Usage)
	pending := make(map[types.UID]bool)
	inNamespace := make(map[string]int)
	for _, p := range c.pods {
		if finished(p) {
			continue
		}
		inNamespace[p.Namespace]++
		if p.Spec.NodeName == "" {
			pending[p.UID] = true
			continue
		}
		sum := used[p.Spec.NodeName]
		sum.Add(policy.UsageOf(p), 1)
		used[p.Spec.NodeName] = sum
	}
	wantLocal, wantVirtual := map[string]corev1.ResourceList{}, map[string]corev1.ResourceList{}
	soft := false
	for name, n := range c.nodes {
		room := used[name].Left(n.Status.Allocatable)
		switch {
		case policy.IsVirtual(n):
			wantVirtual[name] = room
		case policy.IsReady(n):
			wantLocal[name] = room
			soft = soft || policy.BearsSoftTaint(n)
		}
	}
	gotLocal := map[string]corev1.ResourceList{}
	locals := c.store.LocalNodes()
	for _, n := range locals {
		gotLocal[n.Name] = n.Free
	}
	if diff := cmp.Diff(wantLocal, gotLocal); diff != "" {
		t.Fatalf("local nodes (-recount +store):\n%s", diff)
	}
	if len(locals) != len(gotLocal) {
		t.Fatalf("%d local nodes, %d names", len(locals), len(gotLocal))
	}
	c.store.rebuild(0)
	gotVirtual := map[string]corev1.ResourceList{}
	for _, n := range c.store.Snapshot().VirtualNodes {
		gotVirtual[n.Name] = n.Free
	}
	if diff := cmp.Diff(wantVirtual, gotVirtual); diff != "" {
		t.Fatalf("virtual nodes (-recount +store):\n%s", diff)
	}
	if got := c.store.Snapshot().LocalSoftTaint; got != soft {
		t.Fatalf("LocalSoftTaint is %t, want %t", got, soft)
	}
	// The command line makes its Snapshot at once, from lists.
	listed, listedLocals := policy.NewSnapshot(policy.Objects{
		Nodes: slices.Collect(maps.Values(c.nodes)), Pods: slices.Collect(maps.Values(c.pods)),
	})
	if diff := cmp.Diff(listed.VirtualNodes, c.store.Snapshot().VirtualNodes, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("virtual nodes (-listed +store):\n%s", diff)
	}
	if diff := cmp.Diff(listedLocals, locals, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("local nodes (-listed +store):\n%s", diff)
	}
	if listed.LocalSoftTaint != soft {
		t.Fatalf("LocalSoftTaint of the list is %t, want %t", listed.LocalSoftTaint, soft)
	}
	if diff := cmp.Diff(pending, c.heard.pending); diff != "" {
		t.Fatalf("pending pods as told (-recount +told):\n%s", diff)
	}
	for uid := range c.pods {
		if _, ok := c.store.Pending(uid); ok != pending[uid] {
			t.Fatalf("Pending(%s) is %t, want %t", uid, ok, pending[uid])
		}
	}
	for _, ns := range []string{"x", "y"} {
		if got := len(c.store.Pods(ns)); got != inNamespace[ns] {
			t.Fatalf("%d pods in namespace %s, want %d", got, ns, inNamespace[ns])
		}
	}
	c.noLeak(t)
}

// noLeak checks that nothing is kept of what is gone.
func (c *cluster) noLeak(t *rapid.T) {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	for name, a := range c.store.nodes {
		if a.node == nil && a.used.Pods() == 0 {
			t.Fatalf("an account is open for node %s, which is gone with all its pods", name)
		}
	}
	live := 0
	for _, p := range c.pods {
		if !finished(p) {
			live++
		}
	}
	if len(c.store.pods) != live {
		t.Fatalf("%d pods kept, %d live", len(c.store.pods), live)
	}
}

// TestListIsImmutable checks that a list handed out does not change.
func TestListIsImmutable(t *testing.T) {
	s := New(Options{})
	for _, name := range nodeNames {
		s.setNode(readyLocal(name))
	}
	first := s.LocalNodes()
	before := first[0].Free.Cpu().MilliValue()
	s.setPod(boundPod("p", "a", "500m"))
	second := s.LocalNodes()
	if got := first[0].Free.Cpu().MilliValue(); got != before {
		t.Errorf("the list handed out before changed: %d m free, was %d m", got, before)
	}
	if got, want := second[0].Free.Cpu().MilliValue(), before-500; got != want {
		t.Errorf("the new list shows %d m free, want %d m", got, want)
	}
	if first[1] != second[1] {
		t.Error("a node that did not change was made anew")
	}
}

func readyLocal(name string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110"),
			},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func boundPod(name, node, cpu string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "x", Name: name, UID: types.UID("uid-" + name)},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
			Name: "main", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse("128Mi"),
			}},
		}}},
	}
}

// BenchmarkPodEvent is what one event of a bound pod costs, on a cluster of
// 1000 local nodes and 100000 pods.
func BenchmarkPodEvent(b *testing.B) {
	s := New(Options{})
	for i := range 1000 {
		s.setNode(readyLocal(fmt.Sprint("node-", i)))
	}
	pods := make([]*corev1.Pod, 100_000)
	for i := range pods {
		pods[i] = boundPod(fmt.Sprint("pod-", i), fmt.Sprint("node-", i%1000), "100m")
		TrimPod(pods[i])
		s.setPod(pods[i])
	}
	s.LocalNodes()
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			p := pods[i%len(pods)]
			podHandler{s}.OnUpdate(p, p)
		}
	})
	b.Run("bindAndDelete", func(b *testing.B) {
		b.ReportAllocs()
		extra := boundPod("extra", "node-1", "100m")
		for b.Loop() {
			s.setPod(extra)
			s.dropPod(extra)
		}
	})
	b.Run("bindAndList", func(b *testing.B) {
		b.ReportAllocs()
		extra := boundPod("extra", "node-1", "100m")
		for b.Loop() {
			s.setPod(extra)
			s.LocalNodes()
			s.dropPod(extra)
		}
	})
}
