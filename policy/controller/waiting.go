package controller

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
)

// waiting remembers, of each pod that has no node yet, what was last decided and
// what its owner was told, so that nothing is granted, said or counted twice.
// It hears of pods from the store and puts those that may burst into a queue.
type waiting struct {
	clock   clock.PassiveClock
	metrics *metrics
	gates   *gates
	// rooms is what granted pods are about to take.
	rooms *rooms
	// changed rings when the pods that wait for room became more or fewer.
	changed bell
	// rules rings when all pods must be looked at again.
	rules bell

	mu   sync.Mutex
	pods map[types.UID]*waiter
	// byNode are the pods that would fit a local node, by that node.
	byNode map[string]map[types.UID]*waiter
	// kept are the pods that wait for a place in the budget of their workload, by
	// the UID of their owner.
	kept map[string]map[types.UID]*waiter
	// wanting counts, by what decides, the pods that bursting would help.
	wanting map[policy.Ref]int32
	add     func(key store.PodKey, urgent bool)
}

// waiter is one pod without a node.
type waiter struct {
	key           store.PodKey
	owner         string // UID of what owns it, "" for none
	unschedulable bool
	gated         bool // it bears our scheduling gate
	granted       bool
	queued        time.Time     // when it was put into the queue; zero once it was taken
	since         time.Time     // when the scheduler first found it unschedulable; zero while it has not
	reason        policy.Reason // for which it is counted as waiting; "" for none
	fits          string        // the local node that it would fit
	last          policy.Reason // of the last look
	looks         int           // how often it was looked at in a row with that
	wants         policy.Ref
	told          map[policy.Reason]bool
	counted       map[policy.Reason]bool
	// conflictAt is the version at which the last grant was refused, conflicts
	// how often it was.
	conflictAt string
	conflicts  int
}

func newWaiting(c clock.PassiveClock, m *metrics, g *gates) *waiting {
	w := &waiting{
		clock:   c,
		metrics: m,
		gates:   g,
		rooms:   newRooms(c),
		changed: newBell(),
		rules:   newBell(),
		pods:    make(map[types.UID]*waiter),
		byNode:  make(map[string]map[types.UID]*waiter),
		kept:    make(map[string]map[types.UID]*waiter),
		wanting: make(map[policy.Ref]int32),
		add:     func(store.PodKey, bool) {},
	}
	m.oldest = w.oldest
	return w
}

// PodPending implements store.Listener.
func (w *waiting) PodPending(p *corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, known := w.pods[p.UID]
	if !known {
		e = &waiter{key: store.KeyOf(p), owner: policy.RevisionOf(p).Owner}
		w.pods[p.UID] = e
	}
	since, now := policy.Unschedulable(p)
	e.since = since
	if !now {
		w.file(e, "", "", policy.Ref{})
	}
	e.unschedulable, e.gated = now, policy.Gated(p)
	if now || e.gated || !known {
		w.queue(e, now || e.gated)
	}
}

// PodSettled implements store.Listener.
func (w *waiting) PodSettled(p *corev1.Pod, node string) {
	w.gates.settled(p.UID, node)
	w.rooms.settled(p.UID)
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, ok := w.pods[p.UID]; ok {
		w.file(e, "", "", policy.Ref{})
		delete(w.pods, p.UID)
	}
}

// RoomShrank implements store.Listener: the pods that would have fitted there
// are looked at again.
func (w *waiting) RoomShrank(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.byNode[node] {
		w.queue(e, true)
	}
}

// WorkloadChanged implements store.WorkloadListener: others of its pods may burst.
func (w *waiting) WorkloadChanged(owner string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.kept[owner] {
		w.queue(e, true)
	}
}

// RulesChanged implements store.Listener.
func (w *waiting) RulesChanged() { w.rules.ring() }

// again puts every unschedulable pod that is not granted into the queue.
func (w *waiting) again() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.pods {
		if (e.unschedulable || e.gated) && !e.granted {
			w.queue(e, false)
		}
	}
}

// wake puts these pods into the queue, those that wait.
func (w *waiting) wake(uids []types.UID) {
	if len(uids) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, uid := range uids {
		if e, ok := w.pods[uid]; ok && !e.granted {
			w.queue(e, true)
		}
	}
}

// queue puts a pod into the queue. The lock is held.
func (w *waiting) queue(e *waiter, urgent bool) {
	if e.queued.IsZero() {
		e.queued = w.clock.Now()
	}
	w.add(e.key, urgent)
}

// feed sends the pods to a queue from now on.
func (w *waiting) feed(add func(key store.PodKey, urgent bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.add = add
}

// take begins a look at a pod. It is not ok for a pod that waits no more or was
// granted. The time is when the look was asked for.
func (w *waiting) take(uid types.UID) (since time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.pods[uid]
	if !ok || e.granted {
		return time.Time{}, false
	}
	if since = e.queued; since.IsZero() { // a look that was put off
		since = w.clock.Now()
	}
	e.queued = time.Time{}
	return since, true
}

// decided notes a decision, and counts it the first time. It returns for how
// many looks in a row the reason has been the same.
func (w *waiting) decided(uid types.UID, d policy.Decision, fits string, helps bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.pods[uid]
	if !ok { // settled meanwhile
		return 0
	}
	if !e.counted[d.Reason] {
		if e.counted == nil {
			e.counted = make(map[policy.Reason]bool, 2)
		}
		e.counted[d.Reason] = true
		w.metrics.countDecision(d)
	}
	if e.last == d.Reason {
		e.looks++
	} else {
		e.last, e.looks = d.Reason, 1
	}
	reason := d.Reason
	if d.Action != policy.Wait && d.Action != policy.StayLocal {
		reason = "" // it does not wait
	}
	var wants policy.Ref
	if helps {
		wants = d.By
	}
	w.file(e, reason, fits, wants)
	return e.looks
}

// file keeps the indexes and gauges of a pod. The lock is held.
func (w *waiting) file(e *waiter, reason policy.Reason, fits string, wants policy.Ref) {
	if e.reason != reason {
		if e.reason != "" {
			w.metrics.waiting.WithLabelValues(string(e.reason)).Dec()
		}
		if reason != "" {
			w.metrics.waiting.WithLabelValues(string(reason)).Inc()
		}
		if e.reason == policy.KeptLocal {
			if delete(w.kept[e.owner], e.key.UID); len(w.kept[e.owner]) == 0 {
				delete(w.kept, e.owner)
			}
		}
		if reason == policy.KeptLocal && e.owner != "" {
			if w.kept[e.owner] == nil {
				w.kept[e.owner] = make(map[types.UID]*waiter)
			}
			w.kept[e.owner][e.key.UID] = e
		}
		e.reason = reason
	}
	if e.fits != fits {
		if e.fits != "" {
			delete(w.byNode[e.fits], e.key.UID)
			if len(w.byNode[e.fits]) == 0 {
				delete(w.byNode, e.fits)
			}
		}
		if fits != "" {
			if w.byNode[fits] == nil {
				w.byNode[fits] = make(map[types.UID]*waiter)
			}
			w.byNode[fits][e.key.UID] = e
		}
		e.fits = fits
	}
	if e.wants != wants {
		if e.wants != (policy.Ref{}) {
			if w.wanting[e.wants]--; w.wanting[e.wants] == 0 {
				delete(w.wanting, e.wants)
			}
		}
		if wants != (policy.Ref{}) {
			w.wanting[wants]++
		}
		e.wants = wants
		w.changed.ring()
	}
}

// oldest is how long the oldest waiting pod has been unschedulable, in seconds, by
// the reason for which it waits.
func (w *waiting) oldest() map[string]float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock.Now()
	ages := map[string]float64{}
	for _, e := range w.pods {
		reason := e.reason
		if e.granted {
			reason = policy.AlreadyGranted
		}
		if reason != "" && !e.since.IsZero() {
			ages[string(reason)] = max(ages[string(reason)], now.Sub(e.since).Seconds())
		}
	}
	return ages
}

// want is how many pods, for which this decides, bursting would help now.
func (w *waiting) want(by policy.Ref) int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanting[by]
}

// grant notes that a pod was granted: from now on it is not granted again.
func (w *waiting) grant(uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e, ok := w.pods[uid]; ok {
		e.granted = true
		w.file(e, "", "", policy.Ref{})
	}
}

// tell reports whether the owner of the pod is yet to be told this reason, and
// notes that he is.
func (w *waiting) tell(uid types.UID, r policy.Reason, may func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.pods[uid]
	if !ok || e.told[r] || !may() {
		return false
	}
	if e.told == nil {
		e.told = make(map[policy.Reason]bool, 1)
	}
	e.told[r] = true
	return true
}

// conflict notes that the API server refused the grant of this version of the
// pod, and returns how often it has.
func (w *waiting) conflict(uid types.UID, version string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.pods[uid]
	if !ok {
		return 0
	}
	if e.conflictAt != version {
		e.conflictAt, e.conflicts = version, 0
	}
	e.conflicts++
	return e.conflicts
}
