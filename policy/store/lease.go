package store

import (
	"context"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// defaultLease is how long a Lease holds that does not say; it is the default of
// controller-runtime.
const defaultLease = 15 * time.Second

// lease is what is known of the Lease by which replicas elect the one that
// decides.
type lease struct {
	// attached is false where there is no election: then the controller runs in this
	// very process.
	attached bool
	spec     coordinationv1.LeaseSpec
	// until is when the Lease runs out, by this process's clock. Zero while nobody
	// holds it, as far as is known.
	until time.Time
	live  bool
	// holder is the last that there was, seen when it last renewed the Lease or gave
	// it up, and gap how long nobody had renewed it when the holder took it; negative
	// while that is unknown.
	holder string
	seen   time.Time
	gap    time.Duration
}

// LeaseCacheOptions are the options of a cache that holds the one Lease by which
// replicas elect the one that decides. It is listed and watched by name, so that
// the right to it can be limited to that name.
func LeaseCacheOptions(namespace, name string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&coordinationv1.Lease{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Field:      fields.OneTermEqualSelector("metadata.name", name),
			},
		},
	}
}

// AttachLease registers the Store with the informer of the Lease by which replicas
// elect the one that decides, so that the Snapshot tells whether there is one. It
// is called once, before Start; the informers must be others than those of Attach,
// as the Lease is not worth waiting for. Without it the controller counts as live.
//
// The controller is live while its Lease was seen to change within the time for
// which a Lease holds, both by the clock of this process: clocks of several
// machines are never compared. So a Lease that is merely there says nothing, and
// an unreadable one means that there is no controller.
func (s *Store) AttachLease(ctx context.Context, informers Informers, namespace, name string) error {
	informer, err := informers.GetInformer(ctx, &coordinationv1.Lease{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("getting the informer of Lease %s/%s: %w", namespace, name, err)
	}
	see := func(obj any, fresh bool) {
		if l, ok := obj.(*coordinationv1.Lease); ok && l.Namespace == namespace && l.Name == name {
			s.setLease(l.Spec, fresh)
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, initial bool) { see(obj, !initial) },
		UpdateFunc: func(_, obj any) { see(obj, true) },
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			if l, ok := obj.(*coordinationv1.Lease); ok {
				l = l.DeepCopy()
				l.Spec = coordinationv1.LeaseSpec{}
				see(l, true)
			}
		},
	})
	if err != nil {
		return fmt.Errorf("listening to the informer of Lease %s/%s: %w", namespace, name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lease.attached, s.lease.live = true, false
	return nil
}

// setLease takes in the Lease. One that is not fresh was found on the first look,
// so nobody knows how old it is.
func (s *Store) setLease(spec coordinationv1.LeaseSpec, fresh bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if equality.Semantic.DeepEqual(s.lease.spec, spec) { // a resync, or a change of something else
		return
	}
	s.lease.spec = spec
	s.lease.until = time.Time{}
	s.noteHolder(ptr.Deref(spec.HolderIdentity, ""), fresh)
	if fresh && ptr.Deref(spec.HolderIdentity, "") != "" {
		holds := time.Duration(ptr.Deref(spec.LeaseDurationSeconds, 0)) * time.Second
		if holds <= 0 {
			holds = defaultLease
		}
		s.lease.until = s.clock.Now().Add(holds)
	}
	s.judgeLease()
}

// noteHolder keeps for how long there was no controller before the present one. The
// lock is held.
func (s *Store) noteHolder(holder string, fresh bool) {
	now := s.clock.Now()
	if holder != "" && holder != s.lease.holder {
		s.lease.holder, s.lease.gap = holder, -1
		if !s.lease.seen.IsZero() {
			s.lease.gap = now.Sub(s.lease.seen)
		}
	}
	if fresh {
		s.lease.seen = now
	}
}

// LeaseGap is for how long nobody was at work before the present controller, as far
// as this replica has watched it; negative where it has not.
func (s *Store) LeaseGap() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease.gap
}

// judgeLease settles whether the controller is live now. The lock is held.
func (s *Store) judgeLease() {
	live := s.clock.Now().Before(s.lease.until)
	if !s.lease.attached || s.lease.live == live {
		return
	}
	s.lease.live = live
	s.mark(leaseSection)
}

// leaseLeft settles whether the controller is live, and returns how long that
// holds if nothing happens; zero means for ever.
func (s *Store) leaseLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.judgeLease()
	if !s.lease.attached || !s.lease.live {
		return 0
	}
	return s.lease.until.Sub(s.clock.Now())
}

// retire makes the last Snapshot: a replica that stops can no longer vouch for a
// controller, so it holds no more pods back for one.
func (s *Store) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := *s.snapshot.Load()
	last.ControllerLive = false
	s.snapshot.Store(&last)
}
