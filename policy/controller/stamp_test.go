package controller

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// bound puts a pod of a ReplicaSet, which nobody has stamped, on a node.
func (f *fixture) bound(name, node string, change func(*corev1.Pod)) {
	f.t.Helper()
	p := burst(node, "")
	p.Name, p.UID = name, types.UID("uid-"+name)
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web", UID: "u", Controller: ptr.To(true)}}
	if change != nil {
		change(p)
	}
	if err := f.client.Create(f.t.Context(), p); err != nil {
		f.t.Fatal(err)
	}
	f.refresh(name)
}

// refresh brings the newest state of bound pods to the view.
func (f *fixture) refresh(names ...string) {
	f.t.Helper()
	for _, name := range names {
		p := f.pod("shop", name)
		store.TrimPod(p)
		f.view.mu.Lock()
		list := []*corev1.Pod{p}
		for _, old := range f.view.pods["shop"] {
			if old.Name != name {
				list = append(list, old)
			}
		}
		f.view.pods["shop"] = list
		f.view.mu.Unlock()
	}
}

func TestStamperRepairs(t *testing.T) {
	f := newFailover(t)
	f.setPolicies(burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) {
		twoTargets(s)
		s.Targets[0].PodMetadata = &v1alpha1.PodMetadata{Annotations: map[string]string{"example.com/a": "1"}}
	}))
	f.bound("plain", "eci", nil)
	f.bound("other-target", "aci", nil)
	f.bound("own", "eci", func(p *corev1.Pod) { p.Annotations[corev1.PodDeletionCost] = "3" })
	f.bound("stamped", "eci", func(p *corev1.Pod) { p.Annotations[v1alpha1.StampedAnnotation] = policy.StampedAtBinding })
	f.bound("local", "node-1", nil)
	f.bound("by-hand", "eci", func(p *corev1.Pod) { p.Annotations = nil })
	f.bound("waiting", "", nil)

	if failed := f.stamper.sweep(t.Context()); failed != 0 {
		t.Fatalf("%d failed", failed)
	}
	const cost = corev1.PodDeletionCost
	for name, want := range map[string]map[string]string{
		"plain":        {"example.com/a": "1", cost: "-100", v1alpha1.StampedAnnotation: "Later"},
		"other-target": {cost: "-100", v1alpha1.StampedAnnotation: "Later"},
		"own":          {"example.com/a": "1", cost: "3", v1alpha1.StampedAnnotation: "Later"},
		"stamped":      {v1alpha1.StampedAnnotation: "Binding"},
		"local":        {},
		"by-hand":      {},
		"waiting":      {},
	} {
		got := map[string]string{}
		for k, v := range f.pod("shop", name).Annotations {
			if k != v1alpha1.PolicyAnnotation && k != v1alpha1.GrantAnnotation {
				got[k] = v
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("pod %s (-want +got)\n%s", name, diff)
		}
	}
	if f.patches != 3 {
		t.Errorf("%d writes, want 3", f.patches)
	}
	// The watch has not delivered the new states yet, and then it has.
	f.stamper.sweep(t.Context())
	f.refresh("plain", "other-target", "own")
	f.stamper.sweep(t.Context())
	if f.patches != 3 {
		t.Errorf("%d writes after two more looks, want 3: one for each pod", f.patches)
	}
	if got := testutil.ToFloat64(f.stamper.metrics.stamped); got != 3 {
		t.Errorf("%v counted, want 3", got)
	}
}

// A pod that its owner changes between the look at it and the write is left alone,
// and then looked at again: the owner may just have set the value.
func TestStamperReplacesNothing(t *testing.T) {
	f := newFailover(t)
	f.setPolicies(burstPolicy("p", twoTargets))
	f.bound("web", "eci", nil)
	f.patchPod = func() error {
		f.patchPod = nil
		p := f.pod("shop", "web")
		p.Annotations[corev1.PodDeletionCost] = "9"
		return f.client.Update(t.Context(), p)
	}
	if failed := f.stamper.sweep(t.Context()); failed != 1 {
		t.Errorf("%d failed, want 1", failed)
	}
	if failed := f.stamper.sweep(t.Context()); failed != 0 {
		t.Errorf("%d failed, want none", failed)
	}
	if got := f.pod("shop", "web").Annotations; got[corev1.PodDeletionCost] != "9" || got[v1alpha1.StampedAnnotation] != "" {
		t.Errorf("annotations %v", got)
	}
}

func TestStamperTriesAgain(t *testing.T) {
	f := newFailover(t)
	f.setPolicies(burstPolicy("p", twoTargets))
	f.bound("web", "eci", nil)
	f.patchPod = func() error { return errors.New("no") }
	if failed := f.stamper.sweep(t.Context()); failed != 1 {
		t.Errorf("%d failed, want 1", failed)
	}
	f.patchPod = nil
	if failed := f.stamper.sweep(t.Context()); failed != 0 {
		t.Errorf("%d failed, want none", failed)
	}
	if got := f.pod("shop", "web").Annotations[v1alpha1.StampedAnnotation]; got != policy.StampedLater {
		t.Errorf("stamped %q", got)
	}
	if got := testutil.ToFloat64(f.stamper.metrics.stampFailures); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}
}

func TestStamperWakesForUnstampedPods(t *testing.T) {
	f := newFailover(t)
	rung := func() bool {
		select {
		case <-f.stamper.bell:
			return true
		default:
			return false
		}
	}
	p := burst("eci", "")
	for name, c := range map[string]struct {
		node   string
		change func(*corev1.Pod)
		want   bool
	}{
		"bound":    {node: "eci", want: true},
		"gone":     {node: ""},
		"stamped":  {node: "eci", change: func(p *corev1.Pod) { p.Annotations[v1alpha1.StampedAnnotation] = "Binding" }},
		"nobody's": {node: "eci", change: func(p *corev1.Pod) { p.Annotations = nil }},
	} {
		q := p.DeepCopy()
		if c.change != nil {
			c.change(q)
		}
		f.stamper.PodSettled(q, c.node)
		if got := rung(); got != c.want {
			t.Errorf("%s: rung %t, want %t", name, got, c.want)
		}
	}
}
