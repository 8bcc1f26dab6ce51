package controller

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
)

// grantLife is for how long the room of a virtual node counts as taken by a pod that
// was granted it and that the scheduler has not bound. Thousands are bound in that
// time; one that is not is kept from the node by something else.
const grantLife = time.Minute

// rooms remembers what granted pods are about to take of virtual nodes, so that no
// more are granted than have room: a pod that was granted one target is not granted
// the next one, which may have room, when the first turns out to be full.
type rooms struct {
	clock clock.PassiveClock

	mu     sync.Mutex
	taken  map[types.UID]taken
	byNode map[string]policy.Usage // the sums of taken
	looked time.Time               // when those whose time is over were last looked for
}

// taken is the room of one pod.
type taken struct {
	node  string
	used  policy.Usage
	until time.Time
}

func newRooms(c clock.PassiveClock) *rooms {
	return &rooms{clock: c, taken: make(map[types.UID]taken), byNode: make(map[string]policy.Usage)}
}

// left is the snapshot with the room that the granted pods leave to this one.
func (r *rooms) left(s *policy.Snapshot, pod types.UID) *policy.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.give(pod)
	r.expire()
	if len(r.byNode) == 0 {
		return s
	}
	twin := *s
	twin.VirtualNodes = make([]*policy.VirtualNode, len(s.VirtualNodes))
	for i, n := range s.VirtualNodes {
		twin.VirtualNodes[i] = r.less(n)
	}
	return &twin
}

// less is the node with the room that granted pods leave. The lock is held.
func (r *rooms) less(n *policy.VirtualNode) *policy.VirtualNode {
	used, ok := r.byNode[n.Name]
	if !ok || len(n.Free) == 0 {
		return n
	}
	after := *n
	after.Free = used.Left(n.Free)
	return &after
}

// expire forgets pods that were not bound in time. The lock is held.
func (r *rooms) expire() {
	now := r.clock.Now()
	if now.Sub(r.looked) < time.Second {
		return
	}
	r.looked = now
	for uid, t := range r.taken {
		if now.After(t.until) {
			r.give(uid)
		}
	}
}

// give gives the room of a pod back. The lock is held.
func (r *rooms) give(uid types.UID) {
	t, ok := r.taken[uid]
	if !ok {
		return
	}
	delete(r.taken, uid)
	sum := r.byNode[t.node]
	if sum.Add(t.used, -1); sum.Pods() == 0 {
		delete(r.byNode, t.node)
		return
	}
	r.byNode[t.node] = sum
}

// take takes the room of a pod that is to be granted, on the first of the decision's
// nodes that has it. It is false when another pod was quicker.
func (r *rooms) take(s *policy.Snapshot, pod *corev1.Pod, d *policy.LateDecision) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.give(pod.UID)
	for _, n := range d.Nodes {
		for _, now := range s.VirtualNodes { // as it is beside what was taken
			if now.Name == n.Name && policy.HasRoom(pod, r.less(now)) {
				t := taken{node: n.Name, used: policy.UsageOf(pod), until: r.clock.Now().Add(grantLife)}
				r.taken[pod.UID] = t
				sum := r.byNode[t.node]
				sum.Add(t.used, 1)
				r.byNode[t.node] = sum
				return true
			}
		}
	}
	return false
}

// settled forgets a pod that was bound, is gone, or was not granted after all.
func (r *rooms) settled(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.give(uid)
}
