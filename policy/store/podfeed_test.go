package store

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// feed is a PodListener that keeps the pods by what it is told.
type feed struct{ pods map[types.UID]string }

func (f *feed) PodSeen(p *corev1.Pod) { f.pods[p.UID] = p.Spec.NodeName }
func (f *feed) PodGone(uid types.UID) { delete(f.pods, uid) }

func TestSubscribePods(t *testing.T) {
	s := New(Options{})
	pod := func(name, node, version string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID(name), ResourceVersion: version},
			Spec:       corev1.PodSpec{NodeName: node}, Status: corev1.PodStatus{Phase: phase},
		}
	}
	s.setPod(pod("early", "", "7", corev1.PodPending))
	f := &feed{pods: map[types.UID]string{}}
	cancel := s.SubscribePods(f)
	s.setPod(pod("bound", "", "8", corev1.PodPending))
	s.setPod(pod("bound", "eci", "12", corev1.PodPending))
	s.setPod(pod("over", "eci", "9", corev1.PodRunning))
	s.setPod(pod("over", "eci", "10", corev1.PodSucceeded))
	s.setPod(pod("deleted", "", "11", corev1.PodPending))
	s.dropPod(pod("deleted", "", "11", corev1.PodPending))
	cancel()
	s.setPod(pod("late", "", "12", corev1.PodPending))
	if diff := cmp.Diff(map[types.UID]string{"early": "", "bound": "eci"}, f.pods); diff != "" {
		t.Errorf("told of (-want +got):\n%s", diff)
	}
	if v := s.PodVersion(); v != 12 {
		t.Errorf("pods are known up to version %d, want 12", v)
	}
}

func TestIsLocal(t *testing.T) {
	s := New(Options{})
	s.setNode(eci())
	s.setNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "local"}})
	s.setPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "p"}, Spec: corev1.PodSpec{NodeName: "gone"}})
	for node, want := range map[string]bool{"local": true, "eci": false, "gone": false, "unheard": false} {
		if got := s.IsLocal(node); got != want {
			t.Errorf("node %s: %t, want %t", node, got, want)
		}
	}
}

// A policy's usage reaches the snapshot, and makes nobody look at all pods again.
func TestUsage(t *testing.T) {
	s := New(Options{})
	h := listenTo(s)
	p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u", Generation: 1}}
	set := func(pods int64) {
		p.Status.Usage = &v1alpha1.Usage{Pods: pods}
		s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
		s.rebuild(0)
	}
	of := policy.Account{Policy: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "web"}}
	set(3)
	rules := h.rules
	set(4)
	if got := s.Snapshot().Usage[of].Pods; got != 4 {
		t.Errorf("%d pods are used, want 4", got)
	}
	if h.rules != rules {
		t.Error("another usage counts as a change of the rules")
	}
	s.dropPolicy(p)
	s.rebuild(0)
	if _, ok := s.Snapshot().Usage[of]; ok {
		t.Error("the usage of a policy that is gone is left")
	}
}
