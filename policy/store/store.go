// Package store keeps a [policy.Snapshot] of the cluster by informers, so that
// the webhook and the controller decide from memory alone. It also keeps, pod
// event by pod event, what is free on each local node and which pods wait for a
// node.
package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// DefaultCoalesce is how long the Store gathers changes before it makes a new
// Snapshot: long enough to make one of a burst of events, short enough to be
// lost in the latency of a watch.
const DefaultCoalesce = 3 * time.Millisecond

// ErrNotSynced says that the Store has not yet seen the whole cluster.
var ErrNotSynced = errors.New("the view of the cluster is not complete yet: the caches are still being filled")

// Informers gives the informers that feed the Store; a controller-runtime cache
// does. It must have been made with [CacheOptions].
type Informers interface {
	GetInformer(ctx context.Context, obj client.Object, opts ...cache.InformerGetOption) (cache.Informer, error)
}

// Options of a Store. The zero value works.
type Options struct {
	// Excluded are namespaces that are never touched beside kube-system and
	// kube-node-lease; the release namespace belongs here.
	Excluded []string
	// AdmissionByPolicy is told on in the Snapshot: the API server admits pods by
	// itself.
	AdmissionByPolicy bool
	// Coalesce is how long changes are gathered into one Snapshot. Zero means
	// DefaultCoalesce.
	Coalesce time.Duration
	// Clock drives Coalesce. Nil means the real clock.
	Clock clock.Clock
	// Logger gets one line for each change of the switch. The zero value logs
	// nothing.
	Logger logr.Logger
}

// Store is the view of the cluster. Make it with New, feed it with Attach, run
// it with Start. All methods are safe for concurrent use.
type Store struct {
	snapshot atomic.Pointer[policy.Snapshot]
	synced   atomic.Bool
	changes  atomic.Uint64 // pod events
	// podVersion is that of PodVersion.
	podVersion atomic.Uint64

	coalesce time.Duration
	clock    clock.Clock
	logger   logr.Logger
	excluded map[string]bool
	wake     chan struct{} // capacity 1: something is dirty
	feeds    []toolscache.ResourceEventHandlerRegistration
	// switchFeed is nil where no switch is attached.
	switchFeed toolscache.ResourceEventHandlerRegistration

	mu        sync.Mutex // guards all below
	listeners map[int]Listener
	// podListeners hear of every pod.
	podListeners []PodListener
	lastID       int
	dirty        section
	namespaces   map[string]policy.Namespace
	policies     map[policyKey]policyEntry
	terms        policy.Terms
	pods         map[types.UID]*podEntry
	byNamespace  map[string]map[types.UID]*podEntry
	pending      map[types.UID]*corev1.Pod
	nodes        map[string]*account
	virtual      map[string]*account
	softTaints   map[string]bool // ready local nodes that bear a soft taint
	locals       locals
	stopped      bool
	census       policy.Census
	lease        lease
}

// policyKey names a policy; the namespace of a ClusterBurstPolicy is empty.
type policyKey struct{ namespace, name string }

// section is a part of the Snapshot that is made anew when it is dirty.
type section uint8

const (
	namespaceSection section = 1 << iota
	policySection
	nodeSection // virtual nodes without their room, and soft taints
	roomSection // room on virtual nodes
	termSection
	switchSection
	leaseSection
	usageSection // what counts against limits

	allSections = namespaceSection | policySection | nodeSection | roomSection | termSection | switchSection | leaseSection | usageSection
	// lateSections are those whose change may change a late decision.
	lateSections = namespaceSection | policySection | nodeSection | switchSection
)

// Listener is told of changes while the Store is locked: its methods must return
// at once and must not call the Store. Calls come in the order of the events, one
// at a time.
type Listener interface {
	// PodPending: a pod without a node was created or changed.
	PodPending(p *corev1.Pod)
	// PodSettled: a pod that was pending is now bound to a node, or finished or
	// deleted; then node is empty. The object is its last state.
	PodSettled(p *corev1.Pod, node string)
	// RoomShrank: less is free on a local node than before, or it left.
	RoomShrank(node string)
	// RulesChanged: a new Snapshot has other namespaces, policies or virtual nodes,
	// or bursting was stopped or that was lifted; the room on virtual nodes and
	// inter-pod terms do not count.
	RulesChanged()
}

// New makes an empty Store.
func New(o Options) *Store {
	s := &Store{
		coalesce:    o.Coalesce,
		clock:       o.Clock,
		logger:      o.Logger,
		excluded:    policy.ExcludedNamespaces(o.Excluded...),
		wake:        make(chan struct{}, 1),
		listeners:   make(map[int]Listener),
		namespaces:  make(map[string]policy.Namespace),
		policies:    make(map[policyKey]policyEntry),
		pods:        make(map[types.UID]*podEntry),
		byNamespace: make(map[string]map[types.UID]*podEntry),
		pending:     make(map[types.UID]*corev1.Pod),
		nodes:       make(map[string]*account),
		virtual:     make(map[string]*account),
		softTaints:  make(map[string]bool),
		lease:       lease{live: true, gap: -1},
	}
	if s.coalesce == 0 {
		s.coalesce = DefaultCoalesce
	}
	if s.clock == nil {
		s.clock = clock.RealClock{}
	}
	s.snapshot.Store(&policy.Snapshot{Excluded: s.excluded, AdmissionByPolicy: o.AdmissionByPolicy})
	return s
}

// Snapshot is the newest view: one atomic load. Before the Store is synced it
// holds no namespace, so that no pod is touched.
func (s *Store) Snapshot() *policy.Snapshot { return s.snapshot.Load() }

// Synced tells whether the Snapshot shows the whole cluster.
func (s *Store) Synced() bool { return s.synced.Load() }

// Ready returns ErrNotSynced until the Store is synced.
func (s *Store) Ready() error {
	if !s.Synced() {
		return ErrNotSynced
	}
	return nil
}

// Attach registers the Store with the informers of all that it looks at. It is
// called once, before Start.
func (s *Store) Attach(ctx context.Context, informers Informers) error {
	for _, feed := range []struct {
		obj     client.Object
		handler toolscache.ResourceEventHandler
	}{
		{&corev1.Namespace{}, handle(s.setNamespace, s.dropNamespace)},
		{&corev1.Node{}, handle(s.setNode, s.dropNode)},
		{&v1alpha1.BurstPolicy{}, handle(
			func(p *v1alpha1.BurstPolicy) {
				s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
			},
			func(p *v1alpha1.BurstPolicy) { s.dropPolicy(p) })},
		{&v1alpha1.ClusterBurstPolicy{}, handle(
			func(p *v1alpha1.ClusterBurstPolicy) {
				s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
			},
			func(p *v1alpha1.ClusterBurstPolicy) { s.dropPolicy(p) })},
		{&corev1.Pod{}, podHandler{s}},
		{&appsv1.ReplicaSet{}, ownerHandler{s}},
		{&appsv1.StatefulSet{}, ownerHandler{s}},
	} {
		informer, err := informers.GetInformer(ctx, feed.obj, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("getting the informer of %T: %w", feed.obj, err)
		}
		registration, err := informer.AddEventHandler(feed.handler)
		if err != nil {
			return fmt.Errorf("listening to the informer of %T: %w", feed.obj, err)
		}
		s.feeds = append(s.feeds, registration)
	}
	return nil
}

// Start makes Snapshots until the context ends. It is a Runnable of the manager,
// on every replica.
func (s *Store) Start(ctx context.Context) error {
	synced := make([]toolscache.InformerSynced, len(s.feeds))
	for i, f := range s.feeds {
		synced[i] = f.HasSynced
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil // the context ended first
	}
	if !s.awaitSwitch(ctx) {
		return nil
	}
	s.leaseLeft()
	s.rebuild(allSections)
	s.synced.Store(true)
	defer s.retire()
	stopped := false
	for {
		stopped = s.tellStopped(stopped)
		if !s.awaitChange(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.clock.After(s.coalesce):
		}
		s.rebuild(0)
	}
}

// awaitChange waits until a section is dirty. It is false when the context ended
// first.
func (s *Store) awaitChange(ctx context.Context) bool {
	for {
		var lapse <-chan time.Time
		stop := func() bool { return true }
		if left := s.leaseLeft(); left > 0 {
			timer := s.clock.NewTimer(left)
			lapse, stop = timer.C(), timer.Stop
		}
		select {
		case <-ctx.Done():
			stop()
			return false
		case <-s.wake:
			stop()
			return true
		case <-lapse: // or was renewed since, which the next round sees
		}
	}
}

// NeedLeaderElection is false: every replica answers the webhook from its Store.
func (s *Store) NeedLeaderElection() bool { return false }

// Subscribe adds a listener and tells it at once of every pending pod. The
// returned function removes it.
func (s *Store) Subscribe(l Listener) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastID++
	id := s.lastID
	s.listeners[id] = l
	for _, p := range s.pending {
		l.PodPending(p)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.listeners, id)
	}
}

// Pending is the newest known state of a pod that has no node yet. The object
// must not be changed.
func (s *Store) Pending(uid types.UID) (*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.pending[uid]
	return p, ok
}

// mark notes that a section must be made anew. The lock is held.
func (s *Store) mark(dirty section) {
	s.dirty |= dirty
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// handle adapts typed functions to an informer.
func handle[T any](set, drop func(T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				set(o)
			}
		},
		UpdateFunc: func(_, obj any) {
			if o, ok := obj.(T); ok {
				set(o)
			}
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if o, ok := obj.(T); ok {
				drop(o)
			}
		},
	}
}
