package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// grantTimeout bounds the write of a grant that keepLocal counts. A replica that
	// cannot renew its lease stops within 10 s, and another is elected 15 s after
	// the last renewal at the earliest (the defaults of controller-runtime): by then
	// whatever the old one was writing is written or has failed.
	grantTimeout = 4 * time.Second
	// unseenMax is for how long a place is kept for a grant that may have been
	// written but is not seen: the API server ends a request after 60 s.
	unseenMax = 75 * time.Second
	// listTimeout is how long reading the pods of a namespace may take.
	listTimeout = time.Minute
	// listChunk is how many pods are read at a time.
	listChunk = 500
)

// budgets keeps, beside the pods that the view counts, the places of pods whose
// grants are being written or are not seen yet, so that keepLocal holds whatever
// the workers do at once and however late the view is. The first time that a pod
// of a namespace asks for a place, the pods of that namespace are read from the
// API server: an earlier leader may have granted some that the view still shows
// as waiting.
type budgets struct {
	view  View
	live  client.Reader
	clock clock.PassiveClock

	// serial lets one pod at a time ask for a place.
	serial sync.Mutex
	listed map[string]bool // namespaces

	mu     sync.Mutex // guards the rest; the view may be locked when it is taken, never the other way round
	places map[types.UID]reservation
	taken  map[policy.Revision]map[types.UID]bool
}

// reservation is a place that a pod has in the budget of its revision.
type reservation struct {
	revision policy.Revision
	// until is when the place is given up though nothing was seen; zero means never.
	until time.Time
	// granted is true when the pod is granted, or may be, by an earlier write.
	granted bool
}

func newBudgets(v View, live client.Reader, c clock.PassiveClock) *budgets {
	return &budgets{
		view: v, live: live, clock: c,
		listed: make(map[string]bool),
		places: make(map[types.UID]reservation),
		taken:  make(map[policy.Revision]map[types.UID]bool),
	}
}

// Workload implements policy.Workloads: that of the view, and the places taken.
func (b *budgets) Workload(pod *corev1.Pod) (policy.Workload, bool) {
	// In this order: a grant that the view comes to see meanwhile counts twice and
	// not never.
	taken := b.count(pod)
	w, known := b.view.Workload(pod)
	w.Burst += taken
	return w, known
}

// count is how many other pods of the pod's revision have places.
func (b *budgets) count(pod *corev1.Pod) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	n := 0
	for uid := range b.taken[policy.RevisionOf(pod)] {
		switch p := b.places[uid]; {
		case !p.until.IsZero() && now.After(p.until):
			b.drop(uid)
		case uid != pod.UID:
			n++
		}
	}
	return n
}

// take reserves a place for a pod, of so many that its revision has. It is false
// when they are all taken.
func (b *budgets) take(ctx context.Context, pod *corev1.Pod, budget int) (bool, error) {
	if budget == policy.Unbounded {
		return true, nil
	}
	b.serial.Lock()
	defer b.serial.Unlock()
	if err := b.catchUp(ctx, pod.Namespace); err != nil {
		return false, err
	}
	if w, known := b.Workload(pod); !known || w.Burst >= budget {
		return false, nil
	}
	b.put(pod)
	return true, nil
}

// catchUp takes places for the pods of a namespace that are granted but not seen
// so. It reads once. The lock serial is held.
func (b *budgets) catchUp(ctx context.Context, namespace string) error {
	if b.listed[namespace] {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var granted []*corev1.Pod
	list := new(corev1.PodList)
	for {
		if err := b.live.List(ctx, list, client.InNamespace(namespace), client.Limit(listChunk), client.Continue(list.Continue)); err != nil {
			return fmt.Errorf("listing the pods of namespace %s, to know those that may burst already: %w", namespace, err)
		}
		for i := range list.Items {
			if p := &list.Items[i]; p.Annotations[v1alpha1.GrantAnnotation] != "" && policy.SeatOf(p) != (policy.Seat{}) {
				granted = append(granted, p.DeepCopy())
			}
		}
		if list.Continue == "" {
			break
		}
	}
	seen := make(map[types.UID]*corev1.Pod)
	for _, p := range b.view.Pods(namespace) {
		seen[p.UID] = p
	}
	for _, p := range granted {
		if s := seen[p.UID]; s == nil || s.Spec.NodeName == "" && s.Annotations[v1alpha1.GrantAnnotation] == "" {
			b.put(p)
			b.doubt(p.UID)
		}
	}
	b.listed[namespace] = true
	return nil
}

func (b *budgets) put(pod *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	revision := policy.RevisionOf(pod)
	b.places[pod.UID] = reservation{revision: revision, granted: b.places[pod.UID].granted}
	if b.taken[revision] == nil {
		b.taken[revision] = make(map[types.UID]bool, 1)
	}
	b.taken[revision][pod.UID] = true
}

// release gives a place back: the pod is seen with its grant, or gone.
func (b *budgets) release(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(uid)
}

// refused gives a place back when the grant was refused, unless an earlier one may
// have been written.
func (b *budgets) refused(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.places[uid]; p.granted {
		p.until = b.clock.Now().Add(unseenMax)
		b.places[uid] = p
		return
	}
	b.drop(uid)
}

// written notes that a pod was granted; its place stays until that is seen.
func (b *budgets) written(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.places[uid]; ok { // or it is seen already
		p.granted = true
		b.places[uid] = p
	}
}

// doubt notes that a pod may be granted though its grant failed.
func (b *budgets) doubt(uid types.UID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p, ok := b.places[uid]; ok {
		p.until, p.granted = b.clock.Now().Add(unseenMax), true
		b.places[uid] = p
	}
}

// drop forgets a place. The lock is held.
func (b *budgets) drop(uid types.UID) {
	p, ok := b.places[uid]
	if !ok {
		return
	}
	delete(b.places, uid)
	if delete(b.taken[p.revision], uid); len(b.taken[p.revision]) == 0 {
		delete(b.taken, p.revision)
	}
}

// PodPending implements store.Listener: the view counts a granted pod itself.
func (b *budgets) PodPending(p *corev1.Pod) {
	if p.Annotations[v1alpha1.GrantAnnotation] != "" {
		b.release(p.UID)
	}
}

// PodSettled implements store.Listener.
func (b *budgets) PodSettled(p *corev1.Pod, _ string) { b.release(p.UID) }

// RoomShrank implements store.Listener.
func (*budgets) RoomShrank(string) {}

// RulesChanged implements store.Listener.
func (*budgets) RulesChanged() {}
