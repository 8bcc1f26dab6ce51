package store

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/autoburst/autoburst/policy"
)

// podEntry is what the Store remembers of a pod that is not finished.
type podEntry struct {
	pod   *corev1.Pod
	node  string       // "" while it has none
	bound time.Time    // when it was seen to get one, zero where it had one before
	used  policy.Usage // on that node
	terms []string
	seat  policy.Seat // in its workload
}

// podHandler feeds pod events in. An update may put one pod in the place of
// another of the same name, when the watch missed the deletion between.
type podHandler struct{ s *Store }

func (h podHandler) OnAdd(obj any, _ bool) {
	if p, ok := obj.(*corev1.Pod); ok {
		h.s.setPod(p)
	}
}

func (h podHandler) OnUpdate(before, obj any) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if b, ok := before.(*corev1.Pod); ok && b.UID != p.UID {
		h.s.dropPod(b)
	}
	h.s.setPod(p)
}

func (h podHandler) OnDelete(obj any) {
	if p, ok := last(obj).(*corev1.Pod); ok {
		h.s.dropPod(p)
	}
}

// last is the last known state of what was deleted.
func last(obj any) any {
	if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		return gone.Obj
	}
	return obj
}

// setPod takes in the newest state of a pod. A pod that is being deleted counts
// until it is gone, as the scheduler counts it.
func (s *Store) setPod(p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteOutcome(p)
	defer s.reach(p)
	if finished(p) {
		s.forget(p)
		return
	}
	s.changes.Add(1)
	s.seen(p)
	e, known := s.pods[p.UID]
	if !known {
		e = &podEntry{}
		s.pods[p.UID] = e
		in := s.byNamespace[p.Namespace]
		if in == nil {
			in = make(map[types.UID]*podEntry)
			s.byNamespace[p.Namespace] = in
		}
		in[p.UID] = e
		keys, grew := s.terms.Add(p)
		if e.terms = keys; grew {
			s.mark(termSection)
		}
	}
	e.pod = p
	s.seat(e, p)
	if p.Spec.NodeName == "" {
		s.pending[p.UID] = p
		for _, l := range s.listeners {
			l.PodPending(p)
		}
		return
	}
	s.occupy(e, p.Spec.NodeName, policy.UsageOf(p))
	s.settle(p, p.Spec.NodeName)
}

// dropPod forgets a pod that was deleted.
func (s *Store) dropPod(p *corev1.Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(p)
}

// forget removes what the pod occupies. The lock is held.
func (s *Store) forget(p *corev1.Pod) {
	e, known := s.pods[p.UID]
	if !known {
		return
	}
	delete(s.pods, p.UID)
	s.gone(p.UID)
	in := s.byNamespace[p.Namespace]
	if delete(in, p.UID); len(in) == 0 {
		delete(s.byNamespace, p.Namespace)
	}
	s.changes.Add(1)
	s.occupy(e, "", policy.Usage{})
	s.seat(e, nil)
	if s.terms.Remove(e.terms) {
		s.mark(termSection)
	}
	s.settle(p, "")
}

// settle tells the listeners that a pod waits no more. The lock is held.
func (s *Store) settle(p *corev1.Pod, node string) {
	if _, ok := s.pending[p.UID]; !ok {
		return
	}
	delete(s.pending, p.UID)
	for _, l := range s.listeners {
		l.PodSettled(p, node)
	}
}

// occupy moves what a pod occupies to a node, "" for none. The lock is held.
func (s *Store) occupy(e *podEntry, node string, used policy.Usage) {
	if e.node == node && e.used.Equal(used) {
		return
	}
	if e.node != "" {
		s.change(e.node, e.used, -1)
	}
	if e.node, e.used = node, used; node != "" {
		s.change(node, used, 1)
	}
}

// change adds to or takes from what is used on a node. The lock is held.
func (s *Store) change(name string, by policy.Usage, sign int64) {
	a := s.account(name)
	a.used.Add(by, sign)
	switch {
	case a.node == nil: // its pods are known before it is, or outlive it
		s.release(name, a)
	case a.virtual:
		s.mark(roomSection)
	default:
		s.locals.touch(name)
		if sign > 0 {
			s.shrank(name)
		}
	}
}

// shrank tells the listeners that less is free on a local node.
func (s *Store) shrank(name string) {
	for _, l := range s.listeners {
		l.RoomShrank(name)
	}
}

// Pods are the pods of a namespace that are not finished, in no order. The
// objects must not be changed.
func (s *Store) Pods(namespace string) []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.byNamespace[namespace]
	out := make([]*corev1.Pod, 0, len(in))
	for _, e := range in {
		out = append(out, e.pod)
	}
	return out
}

// PodChanges counts the pod events so far: while it stays the same, no pod has
// changed.
func (s *Store) PodChanges() uint64 { return s.changes.Load() }
