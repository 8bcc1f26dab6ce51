package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func ownedBy(apiVersion, kind, name, uid string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: apiVersion, Kind: kind, Name: name, UID: types.UID(uid), Controller: ptr.To(true)}}
	}
}

func labelled(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{key: value} }
}

func podWith(name string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name)}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func TestWorkloadOf(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"bare pod":                       {podWith("web"), "Pod shop/web"},
		"Deployment":                     {podWith("p", ownedBy("apps/v1", "ReplicaSet", "web-7d4b9", "r"), labelled("pod-template-hash", "7d4b9")), "Deployment shop/web"},
		"ReplicaSet":                     {podWith("p", ownedBy("apps/v1", "ReplicaSet", "web-7d4b9", "r")), "ReplicaSet shop/web-7d4b9"},
		"hash of something else":         {podWith("p", ownedBy("apps/v1", "ReplicaSet", "web-abc", "r"), labelled("pod-template-hash", "7d4b9")), "ReplicaSet shop/web-abc"},
		"ReplicaSet of others":           {podWith("p", ownedBy("example.com/v1", "ReplicaSet", "web-7d4b9", "r"), labelled("pod-template-hash", "7d4b9")), "ReplicaSet shop/web-7d4b9"},
		"StatefulSet":                    {podWith("p", ownedBy("apps/v1", "StatefulSet", "db", "s")), "StatefulSet shop/db"},
		"Job":                            {podWith("p", ownedBy("batch/v1", "Job", "sums", "j")), "Job shop/sums"},
		"an owner that is no controller": {podWith("p", ownedBy("v1", "ConfigMap", "c", "c"), func(p *corev1.Pod) { p.OwnerReferences[0].Controller = nil }), "Pod shop/p"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := WorkloadOf("shop", c.pod).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestKeepLocalOfWorkloads(t *testing.T) {
	set := ownedBy("apps/v1", "ReplicaSet", "web-1", "r1")
	job := ownedBy("batch/v1", "Job", "sums", "j")
	stateful := ownedBy("apps/v1", "StatefulSet", "db", "s")
	revision := func(hash string) func(*corev1.Pod) { return labelled(appsv1.StatefulSetRevisionLabel, hash) }
	granted := func(p *corev1.Pod) { p.Annotations = map[string]string{v1alpha1.GrantAnnotation: GrantLate} }
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	byHand := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.ProviderTaintKey, Operator: corev1.TolerationOpExists}}
	}
	finished := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	deleted := func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) }
	replicaSet := func(uid, desired string, replicas int32) *appsv1.ReplicaSet {
		r := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}, Spec: appsv1.ReplicaSetSpec{Replicas: &replicas}}
		if desired != "" {
			r.Annotations = map[string]string{desiredReplicas: desired}
		}
		return r
	}
	for name, c := range map[string]struct {
		keep intstr.IntOrString
		sets []*appsv1.ReplicaSet
		// stateful is the StatefulSet's replicas, 0 for none.
		stateful int32
		others   []*corev1.Pod
		pod      *corev1.Pod
		budget   int
		why      string
	}{
		"nothing burst": {keep: intstr.FromInt32(2), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)}, pod: podWith("p", set), budget: 2},
		"a granted one and one on a virtual node": {keep: intstr.FromInt32(2), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)},
			others: []*corev1.Pod{podWith("a", set, granted), podWith("b", set, granted, on("eci"))},
			pod:    podWith("p", set), budget: 2, why: "ReplicaSet shop/web-1 keeps 2 of its 4 replicas local; 2 have burst."},
		"by hand counts too": {keep: intstr.FromInt32(3), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)},
			others: []*corev1.Pod{podWith("b", set, byHand, on("eci"))},
			pod:    podWith("p", set), budget: 1, why: "ReplicaSet shop/web-1 keeps 3 of its 4 replicas local; 1 have burst."},
		"those that went local, finished or are being deleted do not": {keep: intstr.FromInt32(3), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)},
			others: []*corev1.Pod{podWith("a", set, granted, on("local")), podWith("b", set, granted, on("eci"), finished), podWith("c", set, granted, on("eci"), deleted), podWith("d", set, granted, deleted)},
			pod:    podWith("p", set), budget: 1},
		"another revision does not": {keep: intstr.FromInt32(3), sets: []*appsv1.ReplicaSet{replicaSet("r1", "4", 1), replicaSet("r2", "4", 4)},
			others: []*corev1.Pod{podWith("a", ownedBy("apps/v1", "ReplicaSet", "web-2", "r2"), granted, on("eci"))},
			pod:    podWith("p", set), budget: 1},
		"the Deployment's replicas":       {keep: intstr.FromString("50%"), sets: []*appsv1.ReplicaSet{replicaSet("r1", "8", 2)}, pod: podWith("p", set), budget: 4},
		"an annotation that is no number": {keep: intstr.FromInt32(1), sets: []*appsv1.ReplicaSet{replicaSet("r1", "-8", 2)}, pod: podWith("p", set), budget: 1},
		"percent rounds up":               {keep: intstr.FromString("1%"), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)}, pod: podWith("p", set), budget: 3},
		"all": {keep: intstr.FromString("100%"), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)}, pod: podWith("p", set), budget: 0,
			why: "ReplicaSet shop/web-1 keeps 4 of its 4 replicas local; 0 have burst."},
		"not known yet": {keep: intstr.FromInt32(1), pod: podWith("p", set), budget: 0, why: "ReplicaSet web-1, which owns the pod, is not known yet."},
		"scaled to none": {keep: intstr.FromInt32(1), sets: []*appsv1.ReplicaSet{replicaSet("r1", "4", 0)}, pod: podWith("p", set), budget: 0,
			why: "ReplicaSet web-1, which owns the pod, is not known yet."},
		"StatefulSet, by revision": {keep: intstr.FromInt32(1), stateful: 3,
			others: []*corev1.Pod{podWith("a", stateful, revision("old"), granted, on("eci")), podWith("b", stateful, revision("new"), granted, on("eci"))},
			pod:    podWith("p", stateful, revision("new")), budget: 2},
		"Job, by living pods": {keep: intstr.FromInt32(2),
			others: []*corev1.Pod{podWith("a", job, granted, on("eci")), podWith("b", job, on("local")), podWith("c", job, finished), podWith("p", job)},
			pod:    podWith("p", job), budget: 1, why: "Job shop/sums keeps 2 of its 3 replicas local; 1 have burst."},
		"bare pod": {keep: intstr.FromString("1%"), pod: podWith("p"), budget: 0, why: "Pod shop/p keeps 1 of its 1 replicas local; 0 have burst."},
		"itself":   {keep: intstr.FromInt32(3), sets: []*appsv1.ReplicaSet{replicaSet("r1", "", 4)}, others: []*corev1.Pod{podWith("p", set, granted)}, pod: podWith("p", set, granted), budget: 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := Objects{ReplicaSets: c.sets, Pods: c.others, Nodes: []*corev1.Node{
				{ObjectMeta: metav1.ObjectMeta{Name: "eci", Labels: map[string]string{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue}}},
				{ObjectMeta: metav1.ObjectMeta{Name: "local"}},
			}}
			if c.stateful > 0 {
				o.StatefulSets = []*appsv1.StatefulSet{{ObjectMeta: metav1.ObjectMeta{UID: "s"}, Spec: appsv1.StatefulSetSpec{Replicas: &c.stateful}}}
			}
			p := &Policy{KeepLocal: &c.keep}
			budget, why := p.keepLocal(c.pod, NewWorkloads(o))
			if budget != c.budget || why != c.why {
				t.Errorf("got %d, %q; want %d, %q", budget, why, c.budget, c.why)
			}
		})
	}
	if budget, why := (*Policy)(nil).keepLocal(podWith("p"), nil); budget != Unbounded || why != "" {
		t.Errorf("without a policy: %d, %q", budget, why)
	}
}

// TestCensusCountsWhatIsThere moves pods between seats in any order and counts
// them anew.
func TestCensusCountsWhatIsThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c Census
		seats, pods := map[string]Seat{}, map[string]*corev1.Pod{}
		virtual := func(node string) bool { return strings.HasPrefix(node, "virtual") }
		c.SetOwner("r0", Owner{Replicas: 5, Wanted: 5})
		c.SetOwner("r1", Owner{Replicas: 5, Wanted: 5})
		owners := []func(*corev1.Pod){ownedBy("apps/v1", "ReplicaSet", "r0", "r0"), ownedBy("apps/v1", "ReplicaSet", "r1", "r1"), ownedBy("batch/v1", "Job", "j", "j"), func(*corev1.Pod) {}}
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "pod")
			to := podWith(name, owners[rapid.IntRange(0, 3).Draw(t, "owner")])
			to.Spec.NodeName = rapid.SampledFrom([]string{"", "local", "virtual-1", "virtual-2"}).Draw(t, "node")
			if rapid.Bool().Draw(t, "granted") {
				to.Annotations = map[string]string{v1alpha1.GrantAnnotation: GrantLate}
			}
			if rapid.Bool().Draw(t, "tolerates") {
				to.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
			}
			if rapid.Bool().Draw(t, "finished") {
				to.Status.Phase = corev1.PodFailed
			}
			seat := SeatOf(to)
			if rapid.Bool().Draw(t, "gone") {
				seat, to = Seat{}, nil
			}
			c.Move(seats[name], seat)
			seats[name], pods[name] = seat, to
		}
		for _, owner := range owners[:3] {
			asked := podWith("asked", owner)
			burst, living := 0, 0
			for _, p := range pods {
				if p == nil || RevisionOf(p) != RevisionOf(asked) || p.Status.Phase == corev1.PodFailed {
					continue
				}
				living++
				granted := p.Annotations[v1alpha1.GrantAnnotation] != ""
				if p.Spec.NodeName == "" && granted || virtual(p.Spec.NodeName) && (granted || len(p.Spec.Tolerations) > 0) {
					burst++
				}
			}
			w, known := c.Workload(asked, virtual)
			if isReplicaSet(&asked.OwnerReferences[0]) {
				living = 5
			} else if living == 0 {
				living = 1 // a pod counts itself
			}
			if !known || w.Burst != burst || w.Replicas != living {
				t.Fatalf("%s: %d burst of %d (known: %v), want %d of %d", w.Ref, w.Burst, w.Replicas, known, burst, living)
			}
		}
		for name, seat := range seats {
			c.Move(seat, Seat{})
			seats[name] = Seat{}
		}
		if len(c.revisions) != 0 {
			t.Fatalf("%d revisions are left of nothing", len(c.revisions))
		}
	})
}

// rollout is a Deployment in a rolling update, as the Deployment and ReplicaSet
// controllers, the scheduler and the late grants drive it.
type rollout struct {
	*rapid.T
	policy             *Policy
	replicas           int
	surge, unavailable int
	slots              int // local room
	census             Census
	pods               []*rolling
	made               int
}

type rolling struct {
	pod   *corev1.Pod
	seat  Seat
	fresh bool // of the new revision
	ready bool
}

func isVirtualNode(node string) bool { return node == "virtual" }

func (r *rollout) count(is func(*rolling) bool) (n int) {
	for _, p := range r.pods {
		if is(p) {
			n++
		}
	}
	return n
}

func isFresh(p *rolling) bool { return p.fresh }

func isReady(p *rolling) bool { return p.ready }

func (r *rollout) set(p *rolling, change func(*corev1.Pod)) {
	change(p.pod)
	to := SeatOf(p.pod)
	r.census.Move(p.seat, to)
	p.seat = to
}

func (r *rollout) create(fresh bool) {
	r.made++
	uid := "old"
	if fresh {
		uid = "new"
	}
	p := &rolling{pod: podWith(fmt.Sprintf("%s-%d", uid, r.made), ownedBy("apps/v1", "ReplicaSet", uid, uid)), fresh: fresh}
	r.pods = append(r.pods, p)
	r.set(p, func(*corev1.Pod) {})
}

func (r *rollout) remove(p *rolling) {
	r.set(p, func(pod *corev1.Pod) { pod.DeletionTimestamp = ptr.To(metav1.NewTime(time.Unix(0, 0))) })
	for i := range r.pods {
		if r.pods[i] == p {
			r.pods = append(r.pods[:i:i], r.pods[i+1:]...)
			return
		}
	}
}

// Workload implements Workloads.
func (r *rollout) Workload(pod *corev1.Pod) (Workload, bool) {
	return r.census.Workload(pod, isVirtualNode)
}

// step lets one of them act and tells whether anything happened.
func (r *rollout) step(kind, pick int) bool {
	some := func(is func(*rolling) bool) *rolling {
		var of []*rolling
		for _, p := range r.pods {
			if is(p) {
				of = append(of, p)
			}
		}
		if len(of) == 0 {
			return nil
		}
		return of[pick%len(of)]
	}
	switch kind {
	case 0: // the new ReplicaSet grows
		if r.count(isFresh) < r.replicas && len(r.pods) < r.replicas+r.surge {
			r.create(true)
			return true
		}
	case 1: // the old one shrinks, by pods that are not ready first
		if p := some(func(p *rolling) bool { return !p.fresh && !p.ready }); p != nil {
			r.remove(p)
			return true
		}
		if p := some(func(p *rolling) bool { return !p.fresh }); p != nil && r.count(isReady) > r.replicas-r.unavailable {
			r.remove(p)
			return true
		}
	case 2: // a pod without a node is placed, or granted
		p := some(func(p *rolling) bool { return p.pod.Spec.NodeName == "" })
		switch {
		case p == nil:
			return false
		case r.count(func(p *rolling) bool { return p.pod.Spec.NodeName == "local" }) < r.slots:
			r.set(p, func(pod *corev1.Pod) { pod.Spec.NodeName = "local" })
			return true
		case p.pod.Annotations != nil:
			r.set(p, func(pod *corev1.Pod) { pod.Spec.NodeName = "virtual" })
			return true
		}
		if _, why := r.policy.keepLocal(p.pod, r); why == "" {
			r.set(p, func(pod *corev1.Pod) { pod.Annotations = map[string]string{v1alpha1.GrantAnnotation: GrantLate} })
			return true
		}
	case 3:
		if p := some(func(p *rolling) bool { return p.pod.Spec.NodeName != "" && !p.ready }); p != nil {
			p.ready = true
			return true
		}
	}
	return false
}

// TestRollingUpdateKeepsLocal: whatever the order of events, a rolling update
// never has more pods of a revision on virtual nodes than keepLocal leaves, and it
// comes to its end where there is local room for the replicas that are kept and,
// if no replica may be unavailable, for one more.
func TestRollingUpdateKeepsLocal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &rollout{T: t, replicas: rapid.IntRange(1, 12).Draw(t, "replicas")}
		keep := intstr.FromInt32(int32(rapid.IntRange(1, 13).Draw(t, "keep")))
		if rapid.Bool().Draw(t, "percent") {
			keep = intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, "of 100")))
		}
		r.policy = &Policy{KeepLocal: &keep}
		kept := r.policy.kept(r.replicas)
		r.unavailable = rapid.IntRange(0, r.replicas).Draw(t, "maxUnavailable")
		r.surge = rapid.IntRange(0, r.replicas).Draw(t, "maxSurge")
		r.slots = kept + rapid.IntRange(0, 3).Draw(t, "more room")
		if r.unavailable == 0 {
			r.surge = max(1, r.surge) // or the API server refuses it
			r.slots = max(r.slots, kept+1)
		}
		for _, uid := range []string{"old", "new"} {
			r.census.SetOwner(uid, Owner{Replicas: int32(r.replicas), Wanted: int32(r.replicas)})
		}
		budget := r.replicas - kept
		within := func() {
			for _, fresh := range []bool{false, true} {
				burst := r.count(func(p *rolling) bool {
					return p.fresh == fresh && (p.pod.Spec.NodeName == "virtual" || p.pod.Spec.NodeName == "" && p.pod.Annotations != nil)
				})
				if burst > budget {
					t.Fatalf("%d pods of one revision burst, want %d at most", burst, budget)
				}
			}
		}
		for range r.replicas {
			r.create(false)
		}
		for r.count(isReady) < r.replicas { // before the update
			if !r.step(2, rapid.IntRange(0, 20).Draw(t, "place")) && !r.step(3, 0) && !anyStep(r, 2) {
				t.Fatalf("%d of %d replicas run before the update, with %d local slots", r.count(isReady), r.replicas, r.slots)
			}
			within()
		}
		for range rapid.IntRange(0, 60).Draw(t, "events") {
			r.step(rapid.IntRange(0, 3).Draw(t, "who"), rapid.IntRange(0, 20).Draw(t, "which"))
			within()
		}
		for anyStep(r, 0, 1, 2, 3) {
			within()
		}
		if fresh, ready := r.count(isFresh), r.count(isReady); fresh != r.replicas || ready != r.replicas || len(r.pods) != r.replicas {
			t.Fatalf("the update hangs with %d new of %d pods, %d ready; %d replicas, %d kept, %d local slots, maxSurge %d, maxUnavailable %d",
				fresh, len(r.pods), ready, r.replicas, kept, r.slots, r.surge, r.unavailable)
		}
		if local := r.count(func(p *rolling) bool { return p.pod.Spec.NodeName == "local" }); local < kept {
			t.Fatalf("%d replicas are local at the end, want %d", local, kept)
		}
	})
}

// anyStep tries the steps, with every pod, until one does something.
func anyStep(r *rollout, kinds ...int) bool {
	for _, kind := range kinds {
		for pick := range len(r.pods) + 1 {
			if r.step(kind, pick) {
				return true
			}
		}
	}
	return false
}
