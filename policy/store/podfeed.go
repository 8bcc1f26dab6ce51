package store

import (
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// PodListener is told of every pod while the Store is locked: its methods must
// return at once and must not call the Store. Calls come in the order of the
// events, one at a time.
type PodListener interface {
	// PodSeen: a pod that is not finished was created or changed.
	PodSeen(p *corev1.Pod)
	// PodGone: such a pod was deleted, or is finished.
	PodGone(uid types.UID)
}

// SubscribePods adds a listener and tells it at once of every pod that is not
// finished. The returned function removes it.
func (s *Store) SubscribePods(l PodListener) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.podListeners = append(s.podListeners, l)
	for _, e := range s.pods {
		l.PodSeen(e.pod)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.podListeners = slices.DeleteFunc(s.podListeners, func(o PodListener) bool { return o == l })
	}
}

// PodVersion is the largest resourceVersion of a pod that was seen, as a number:
// every change of a pod up to it is known.
func (s *Store) PodVersion() uint64 { return s.podVersion.Load() }

// IsLocal tells whether a node exists and is not virtual.
func (s *Store) IsLocal(node string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.nodes[node]
	return ok && a.node != nil && !a.virtual
}

// seen tells the listeners of a pod. The lock is held.
func (s *Store) seen(p *corev1.Pod) {
	for _, l := range s.podListeners {
		l.PodSeen(p)
	}
}

// gone tells the listeners that a pod is no more. The lock is held.
func (s *Store) gone(uid types.UID) {
	for _, l := range s.podListeners {
		l.PodGone(uid)
	}
}

// reach notes how far the pods are known, once an event is worked in. Versions
// are numbers that grow (Kubernetes 1.35, KEP-5504).
func (s *Store) reach(p *corev1.Pod) {
	if v, err := strconv.ParseUint(p.ResourceVersion, 10, 64); err == nil && v > s.podVersion.Load() {
		s.podVersion.Store(v)
	}
}
