package store

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
)

// WorkloadListener is a Listener that also hears of workloads.
type WorkloadListener interface {
	Listener
	// WorkloadChanged: the owner of pods, by UID, wants another number of them, or
	// one of its pods does not burst any more, so that others may. It is called as
	// the methods of Listener are.
	WorkloadChanged(owner string)
}

// owner is what is kept of a ReplicaSet or StatefulSet: clusters have many, most
// of them without pods, and their templates are large.
type owner struct {
	metav1.ObjectMeta
	policy.Owner
}

// trimOwner replaces a ReplicaSet or StatefulSet by its owner.
func trimOwner(obj any) (any, error) {
	switch o := obj.(type) {
	case *appsv1.ReplicaSet:
		return &owner{identity(&o.ObjectMeta), policy.OwnerOfReplicaSet(o)}, nil
	case *appsv1.StatefulSet:
		return &owner{identity(&o.ObjectMeta), policy.OwnerOfStatefulSet(o)}, nil
	}
	return obj, nil
}

func identity(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

// ownerHandler feeds the events of owners in. An update may put one in the place
// of another of the same name.
type ownerHandler struct{ s *Store }

func (h ownerHandler) OnAdd(obj any, _ bool) {
	if o, ok := obj.(*owner); ok {
		h.s.setOwner(o)
	}
}

func (h ownerHandler) OnUpdate(before, obj any) {
	o, ok := obj.(*owner)
	if !ok {
		return
	}
	if b, ok := before.(*owner); ok && b.UID != o.UID {
		h.s.dropOwner(b)
	}
	h.s.setOwner(o)
}

func (h ownerHandler) OnDelete(obj any) {
	if o, ok := last(obj).(*owner); ok {
		h.s.dropOwner(o)
	}
}

func (s *Store) setOwner(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.census.SetOwner(string(o.UID), o.Owner) {
		s.workloadChanged(string(o.UID))
	}
}

func (s *Store) dropOwner(o *owner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.census.DropOwner(string(o.UID))
}

// seat counts a pod for its workload, or nil no more. The lock is held.
func (s *Store) seat(e *podEntry, p *corev1.Pod) {
	var to policy.Seat
	if p != nil {
		to = policy.SeatOf(p)
	}
	from := e.seat
	if e.seat = to; s.census.Move(from, to) {
		s.workloadChanged(from.Owner())
		if to.Owner() != from.Owner() {
			s.workloadChanged(to.Owner())
		}
	}
}

// workloadChanged tells the listeners. The lock is held.
func (s *Store) workloadChanged(owner string) {
	if owner == "" {
		return
	}
	for _, l := range s.listeners {
		if l, ok := l.(WorkloadListener); ok {
			l.WorkloadChanged(owner)
		}
	}
}

// Workload implements policy.Workloads: the workload of a pod, as of the newest
// events.
func (s *Store) Workload(pod *corev1.Pod) (policy.Workload, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.census.Workload(pod, func(node string) bool {
		_, virtual := s.virtual[node]
		return virtual
	})
}

// PendingPods are all pods that have no node, in no order. The objects must not be
// changed.
func (s *Store) PendingPods() []*corev1.Pod {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*corev1.Pod, 0, len(s.pending))
	for _, p := range s.pending {
		out = append(out, p)
	}
	return out
}
