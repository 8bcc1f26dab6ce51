package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// workloadEars also hears of workloads.
type workloadEars struct {
	*heard
	changed map[string]int
}

func (h workloadEars) WorkloadChanged(owner string) { h.changed[owner]++ }

func replicaSet(name, uid string, replicas int32, desired string) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(uid),
			Annotations: map[string]string{"deployment.kubernetes.io/desired-replicas": desired, "large": strings.Repeat("x", 1000)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{},
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "nginx"}}}},
		},
	}
}

func ownedPod(name, owner, node string, granted bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, UID: types.UID(name),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: ptr.To(true)}},
	}}
	p.Spec.NodeName = node
	if granted {
		p.Annotations = map[string]string{v1alpha1.GrantAnnotation: policy.GrantLate}
	}
	return p
}

// Workloads follow the informers: owners, pods, and which nodes are virtual.
func TestWorkloadsFollow(t *testing.T) {
	sources := newSources(t)
	s := New(Options{})
	sources.run(t, s)
	asked := ownedPod("asked", "web-1", "", false)
	wait := func(what string, want policy.Workload, known bool) {
		t.Helper()
		eventually(t, what, func() bool {
			got, ok := s.Workload(asked)
			return ok == known && (!known || cmp.Equal(want, got))
		})
	}
	ref := policy.WorkloadRef{Kind: "ReplicaSet", Namespace: "shop", Name: "web-1"}
	wait("nothing is known", policy.Workload{}, false)
	sources.replicaSets.Add(replicaSet("web-1", "web-1", 3, "8"))
	wait("the replicas are known", policy.Workload{Ref: ref, Replicas: 8}, true)
	sources.pods.Add(ownedPod("a", "web-1", "", true))
	sources.pods.Add(ownedPod("b", "web-1", "eci", true))
	sources.pods.Add(ownedPod("c", "web-1", "local", true))
	sources.pods.Add(ownedPod("d", "another", "eci", true))
	wait("the granted one counts", policy.Workload{Ref: ref, Replicas: 8, Burst: 1}, true)
	sources.nodes.Add(eci())
	wait("the virtual node is known later than its pods", policy.Workload{Ref: ref, Replicas: 8, Burst: 2}, true)
	sources.replicaSets.Modify(replicaSet("web-1", "web-1", 8, "8"))
	wait("the rollout is over", policy.Workload{Ref: ref, Replicas: 8, Burst: 2, Steady: true}, true)
	going := ownedPod("b", "web-1", "eci", true)
	going.DeletionTimestamp = ptr.To(metav1.Now())
	sources.pods.Modify(going)
	wait("a pod is being deleted", policy.Workload{Ref: ref, Replicas: 8, Burst: 1, Steady: true}, true)
	sources.replicaSets.Modify(replicaSet("web-1", "reborn", 8, "8"))
	wait("another ReplicaSet has the name", policy.Workload{}, false)

	asked.OwnerReferences[0].Kind, asked.OwnerReferences[0].UID = "StatefulSet", "db"
	sources.statefulSets.Add(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "db"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2)}})
	wait("a StatefulSet", policy.Workload{Ref: policy.WorkloadRef{Kind: "StatefulSet", Namespace: "shop", Name: "web-1"}, Replicas: 2}, true)
}

// Listeners hear when more pods of a workload may burst, and not when fewer may.
func TestWorkloadChanged(t *testing.T) {
	s := New(Options{})
	ears := workloadEars{&heard{pending: map[types.UID]bool{}, shrank: map[string]int{}}, map[string]int{}}
	s.Subscribe(ears)
	said := func(what string, want int) {
		t.Helper()
		if got := ears.changed["web-1"]; got != want {
			t.Errorf("%s: told %d times, want %d", what, got, want)
		}
		clear(ears.changed)
	}
	trimmed := func(r *appsv1.ReplicaSet) *owner {
		o, err := trimOwner(r)
		if err != nil {
			t.Fatal(err)
		}
		kept, ok := o.(*owner)
		if !ok {
			t.Fatalf("a ReplicaSet is kept as %T", o)
		}
		return kept
	}
	h := ownerHandler{s}
	h.OnAdd(trimmed(replicaSet("web-1", "web-1", 3, "8")), false)
	said("an owner", 1)
	h.OnUpdate(trimmed(replicaSet("web-1", "web-1", 3, "8")), trimmed(replicaSet("web-1", "web-1", 3, "8")))
	said("the same again", 0)
	s.setPod(ownedPod("a", "web-1", "", false))
	s.setPod(ownedPod("a", "web-1", "", true))
	said("a pod that is granted", 0)
	s.setPod(ownedPod("a", "web-1", "local", true))
	said("and goes local", 1)
	s.setPod(ownedPod("b", "web-1", "eci", true))
	said("a pod on a virtual node", 0)
	s.dropPod(ownedPod("b", "web-1", "eci", true))
	said("that is gone", 1)
}

// What is kept of owners is small, and of a granted pod when it began.
func TestTrimForWorkloads(t *testing.T) {
	o, err := trimOwner(replicaSet("web-1", "u", 3, "8"))
	if err != nil {
		t.Fatal(err)
	}
	want := &owner{metav1.ObjectMeta{Namespace: "shop", Name: "web-1", UID: "u"}, policy.Owner{Replicas: 3, Wanted: 8}}
	if diff := cmp.Diff(want, o, cmp.AllowUnexported(owner{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if again, err := trimOwner(o); err != nil || again != o {
		t.Errorf("trimmed again it is %v (%v)", again, err)
	}
	for granted, want := range map[bool]bool{true: true, false: false} {
		p := ownedPod("a", "web-1", "eci", granted)
		p.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.ProviderTaintKey, Operator: corev1.TolerationOpExists}}
		p.Status.StartTime = ptr.To(metav1.NewTime(time.Unix(1, 0)))
		TrimPod(p)
		if got := p.Status.StartTime != nil; got != want {
			t.Errorf("granted %v: the start is kept: %v", granted, got)
		}
	}
}

// A move in the status of a policy makes a new Snapshot; its other counts do not.
func TestMovesAreNews(t *testing.T) {
	s := New(Options{})
	p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "p", Generation: 1}}
	set := func() bool {
		before := s.dirty
		s.dirty = 0
		s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
		changed := s.dirty != 0
		s.dirty |= before
		return changed
	}
	ref := policy.WorkloadRef{Kind: "Deployment", Namespace: "shop", Name: "web"}
	held := func() bool {
		s.rebuild(0)
		return !s.Snapshot().Policies["shop"][0].Moves[ref].HeldUntil.IsZero()
	}
	set()
	p.Status.Pods.Burst = 3
	if set() || held() {
		t.Error("a count makes a new Snapshot, or holds a workload")
	}
	p.Status.Moves = []v1alpha1.Move{{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "u", HeldUntil: ptr.To(metav1.Now())}}
	if !set() || !held() {
		t.Error("a move is not seen")
	}
	p.Status.Moves[0].HeldUntil = nil
	if !set() || held() {
		t.Error("the end of a hold is not seen")
	}
}
