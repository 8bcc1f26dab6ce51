package policy

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// WorkloadRef names a workload: a Deployment, a StatefulSet, another controller
// owner of pods, or a pod without one.
type WorkloadRef struct{ Kind, Namespace, Name string }

func (r WorkloadRef) String() string { return r.Kind + " " + r.Namespace + "/" + r.Name }

// WorkloadOf names the workload of a pod of the namespace, by the pod alone. A
// ReplicaSet of a Deployment is named after it and the pod-template-hash, which
// its pods bear as a label (k8s.io/kubernetes v1.36.3,
// pkg/controller/deployment/sync.go, getNewReplicaSet).
func WorkloadOf(namespace string, pod *corev1.Pod) WorkloadRef {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return WorkloadRef{Kind: KindPod, Namespace: namespace, Name: pod.Name}
	}
	if hash := pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; hash != "" && isReplicaSet(owner) {
		if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok {
			return WorkloadRef{Kind: "Deployment", Namespace: namespace, Name: name}
		}
	}
	return WorkloadRef{Kind: owner.Kind, Namespace: namespace, Name: owner.Name}
}

func isReplicaSet(o *metav1.OwnerReference) bool {
	return o.Kind == "ReplicaSet" && strings.HasPrefix(o.APIVersion, appsv1.GroupName+"/")
}

func isStatefulSet(o *metav1.OwnerReference) bool {
	return o.Kind == "StatefulSet" && strings.HasPrefix(o.APIVersion, appsv1.GroupName+"/")
}

// Revision tells the revisions of workloads apart: the ReplicaSets of a
// Deployment, the controller revisions of a StatefulSet. Other owners have one.
type Revision struct {
	// Owner is the UID of the controller owner, "" for a pod without one.
	Owner string
	// Hash is the controller-revision-hash of a StatefulSet's pod.
	Hash string
}

// RevisionOf is the revision that a pod is of.
func RevisionOf(pod *corev1.Pod) Revision {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return Revision{}
	}
	r := Revision{Owner: ownerKey(pod.Namespace, owner)}
	if isStatefulSet(owner) {
		r.Hash = pod.Labels[appsv1.StatefulSetRevisionLabel]
	}
	return r
}

// ownerKey is the UID, which objects of files may lack.
func ownerKey(namespace string, o *metav1.OwnerReference) string {
	if o.UID != "" {
		return string(o.UID)
	}
	return o.Kind + "/" + namespace + "/" + o.Name
}

// Workload is what the rules need of the workload of one pod.
type Workload struct {
	Ref WorkloadRef
	// Replicas is how many it wants.
	Replicas int
	// Burst counts the other pods of the pod's revision that run on virtual nodes
	// or may be bound there, and are neither finished nor being deleted.
	Burst int
	// Steady is true of a ReplicaSet that is to have all replicas of its workload:
	// none is being rolled out, scaled in, or deleted.
	Steady bool
}

// Workloads tells of the workloads of pods.
type Workloads interface {
	// Workload is that of the pod. It is not known while its owner has not been
	// seen.
	Workload(pod *corev1.Pod) (w Workload, known bool)
}

// Owner is what the rules need of a ReplicaSet or StatefulSet.
type Owner struct {
	// Replicas is how many pods it is to have, Wanted how many its workload is to
	// have, which for a ReplicaSet of a Deployment may be more.
	Replicas, Wanted int32
	// Deleting is true while it is being deleted.
	Deleting bool
}

// desiredReplicas is the annotation in which the Deployment controller tells each
// ReplicaSet the replicas of the Deployment (k8s.io/kubernetes v1.36.3,
// pkg/controller/deployment/util, SetReplicasAnnotations).
const desiredReplicas = "deployment.kubernetes.io/desired-replicas"

// OwnerOfReplicaSet reads a ReplicaSet.
func OwnerOfReplicaSet(r *appsv1.ReplicaSet) Owner {
	o := Owner{Replicas: ptr.Deref(r.Spec.Replicas, 1), Deleting: r.DeletionTimestamp != nil}
	o.Wanted = o.Replicas
	if n, err := strconv.ParseUint(r.Annotations[desiredReplicas], 10, 31); err == nil {
		o.Wanted = int32(n)
	}
	return o
}

// OwnerOfStatefulSet reads a StatefulSet.
func OwnerOfStatefulSet(s *appsv1.StatefulSet) Owner {
	n := ptr.Deref(s.Spec.Replicas, 1)
	return Owner{Replicas: n, Wanted: n, Deleting: s.DeletionTimestamp != nil}
}

// Census counts the pods of each revision. The zero value is empty. It is not
// safe for concurrent use.
type Census struct {
	owners    map[string]Owner
	revisions map[Revision]*tally
}

// tally counts the living pods of one revision.
type tally struct {
	living  int
	granted int            // without a node
	onNode  map[string]int // those that may be on a virtual node
}

// Seat is what one pod counts for in a Census. The zero value counts for
// nothing.
type Seat struct {
	revision Revision
	granted  bool
	node     string
}

// SeatOf is what a pod counts for: nothing when it has no owner, is finished or
// is being deleted. On which nodes it matters is seen by what it tolerates; the
// others need not be remembered.
func SeatOf(pod *corev1.Pod) Seat {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return Seat{}
	}
	s := Seat{revision: RevisionOf(pod)}
	if s.revision == (Revision{}) {
		return Seat{}
	}
	granted := pod.Annotations[v1alpha1.GrantAnnotation] != ""
	switch {
	case pod.Spec.NodeName == "":
		s.granted = granted
	case granted || toleratesMore(pod):
		s.node = pod.Spec.NodeName
	}
	return s
}

// toleratesMore is true when the pod tolerates a taint of another kind than the
// conditions of nodes, which every pod tolerates for a while.
func toleratesMore(pod *corev1.Pod) bool {
	for i := range pod.Spec.Tolerations {
		if !strings.HasPrefix(pod.Spec.Tolerations[i].Key, "node.kubernetes.io/") {
			return true
		}
	}
	return false
}

// Move puts a pod from one seat into another. It tells whether more pods of the
// revision that it was or is of may burst now.
func (c *Census) Move(from, to Seat) (eased bool) {
	if from == to {
		return false
	}
	c.count(from, -1)
	c.count(to, 1)
	if from.revision == (Revision{}) { // one more eases where replicas are counted by their pods
		_, told := c.owners[to.revision.Owner]
		return !told
	}
	return from.granted || from.node != ""
}

// Owner is the key of the owner of a seat's revision.
func (s Seat) Owner() string { return s.revision.Owner }

func (c *Census) count(s Seat, by int) {
	if s.revision == (Revision{}) {
		return
	}
	t, ok := c.revisions[s.revision]
	if !ok {
		if c.revisions == nil {
			c.revisions = make(map[Revision]*tally)
		}
		t = &tally{}
		c.revisions[s.revision] = t
	}
	if t.living += by; t.living == 0 {
		delete(c.revisions, s.revision)
		return
	}
	if s.granted {
		t.granted += by
	}
	if s.node != "" {
		if t.onNode == nil {
			t.onNode = make(map[string]int, 1)
		}
		if t.onNode[s.node] += by; t.onNode[s.node] == 0 {
			delete(t.onNode, s.node)
		}
	}
}

// SetOwner takes in the newest state of a ReplicaSet or StatefulSet, by UID. It
// tells whether that is news. One that is to have no pods is forgotten: a
// Deployment keeps many of those.
func (c *Census) SetOwner(uid string, o Owner) (changed bool) {
	if o.Replicas == 0 {
		return c.DropOwner(uid)
	}
	if known, ok := c.owners[uid]; ok && known == o {
		return false
	}
	if c.owners == nil {
		c.owners = make(map[string]Owner)
	}
	c.owners[uid] = o
	return true
}

// DropOwner forgets a ReplicaSet or StatefulSet.
func (c *Census) DropOwner(uid string) (changed bool) {
	_, changed = c.owners[uid]
	delete(c.owners, uid)
	return changed
}

// Workload is that of the pod; isVirtual tells virtual nodes by name. The replicas
// of an owner that is neither a ReplicaSet nor a StatefulSet are its living pods.
// For a Job this is its parallelism, or what is left of its completions, and it
// cannot run ahead of the pods that have finished, as the Job's own status may.
func (c *Census) Workload(pod *corev1.Pod, isVirtual func(node string) bool) (Workload, bool) {
	w := Workload{Ref: WorkloadOf(pod.Namespace, pod), Replicas: 1}
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return w, true
	}
	revision := RevisionOf(pod)
	t := c.revisions[revision]
	switch {
	case isReplicaSet(owner) || isStatefulSet(owner):
		o, known := c.owners[revision.Owner]
		if !known {
			return w, false
		}
		w.Replicas = int(o.Wanted)
		w.Steady = isReplicaSet(owner) && !o.Deleting && o.Replicas == o.Wanted
	case t != nil:
		w.Replicas = t.living
	}
	if t != nil {
		w.Burst = t.granted
		for node, n := range t.onNode {
			if isVirtual(node) {
				w.Burst += n
			}
		}
	}
	if own := SeatOf(pod); own.granted || own.node != "" && isVirtual(own.node) {
		w.Burst = max(0, w.Burst-1)
	}
	return w, true
}

// unknownWorkload says whose replicas cannot be counted yet.
func unknownWorkload(pod *corev1.Pod) string {
	owner := metav1.GetControllerOfNoCopy(pod)
	return fmt.Sprintf("%s %s, which owns the pod, is not known yet.", owner.Kind, owner.Name)
}

// census is the Workloads of objects.
type census struct {
	Census
	virtual map[string]bool
}

// NewWorkloads counts the pods of the objects, and others that have no node.
func NewWorkloads(o Objects, waiting ...*corev1.Pod) Workloads {
	c := &census{virtual: make(map[string]bool)}
	for _, n := range o.Nodes {
		c.virtual[n.Name] = IsVirtual(n)
	}
	for _, r := range o.ReplicaSets {
		c.SetOwner(ownerKey(r.Namespace, &metav1.OwnerReference{UID: r.UID, Kind: "ReplicaSet", Name: r.Name}), OwnerOfReplicaSet(r))
	}
	for _, s := range o.StatefulSets {
		c.SetOwner(ownerKey(s.Namespace, &metav1.OwnerReference{UID: s.UID, Kind: "StatefulSet", Name: s.Name}), OwnerOfStatefulSet(s))
	}
	for _, pods := range [][]*corev1.Pod{o.Pods, waiting} {
		for _, p := range pods {
			c.Move(Seat{}, SeatOf(p))
		}
	}
	return c
}

// Workload implements Workloads.
func (c *census) Workload(pod *corev1.Pod) (Workload, bool) {
	return c.Census.Workload(pod, func(node string) bool { return c.virtual[node] })
}
