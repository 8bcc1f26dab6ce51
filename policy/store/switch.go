package store

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
)

// SwitchKey is the key of the switch, a ConfigMap, that stops all bursting.
const SwitchKey = policy.SwitchKey

// switchPatience is how long a start waits for the switch to be read, once all
// else is.
const switchPatience = 5 * time.Second

// SwitchCacheOptions are the options of a cache that holds the one ConfigMap
// that is the switch. It is listed and watched by name, so that the right to it
// can be limited to that name.
func SwitchCacheOptions(namespace, name string) cache.Options {
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.ConfigMap{}: {
				Namespaces: map[string]cache.Config{namespace: {}},
				Field:      fields.OneTermEqualSelector("metadata.name", name),
			},
		},
	}
}

// AttachSwitch registers the Store with the informer of the ConfigMap that is
// the switch. It is called once, before Start, and the informers must be others
// than those of Attach: a switch that cannot be read must not keep the Store
// empty.
//
// What is unknown never changes the state. A lost watch leaves the switch as it
// was last seen. A start waits for it, for at most 5 s beyond all else, during
// which nothing is granted; after that it counts as off until it is read, or a
// missing right would stop all bursting for ever. A ConfigMap that does not
// exist is not unknown: nobody has turned the switch on.
func (s *Store) AttachSwitch(ctx context.Context, informers Informers, namespace, name string) error {
	informer, err := informers.GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("getting the informer of the switch, ConfigMap %s/%s: %w", namespace, name, err)
	}
	set := func(stopped func(*corev1.ConfigMap) bool) func(*corev1.ConfigMap) {
		return func(m *corev1.ConfigMap) {
			if m.Namespace == namespace && m.Name == name {
				s.setStopped(stopped(m))
			}
		}
	}
	s.switchFeed, err = informer.AddEventHandler(handle(set(policy.IsStopped), set(func(*corev1.ConfigMap) bool { return false })))
	if err != nil {
		return fmt.Errorf("listening to the informer of the switch, ConfigMap %s/%s: %w", namespace, name, err)
	}
	return nil
}

// setStopped takes in the newest state of the switch.
func (s *Store) setStopped(stopped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == stopped {
		return
	}
	s.stopped = stopped
	s.mark(switchSection)
}

// awaitSwitch waits until the switch was read, or for switchPatience. It is
// false when the context ended first.
func (s *Store) awaitSwitch(ctx context.Context) bool {
	if s.switchFeed == nil {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-s.switchFeed.HasSyncedChecker().Done():
	case <-s.clock.After(switchPatience):
		s.logger.Error(nil, "The switch that stops all bursting cannot be read; until it can, it counts as off."+
			" See whether the controller may list and watch its ConfigMap", "waited", switchPatience.String())
	}
	return true
}

// tellStopped logs a change of the switch, and returns its state.
func (s *Store) tellStopped(before bool) bool {
	now := s.Snapshot().Stopped
	switch {
	case now && !before:
		s.logger.Info("All bursting is stopped by the switch; pods that run are not touched")
	case before && !now:
		s.logger.Info("The switch no longer stops bursting")
	}
	return now
}
