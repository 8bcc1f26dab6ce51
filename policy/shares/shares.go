// Package shares lets a replica of the webhook grant pods under limits without
// asking anybody: it holds the shares of limits that the elected replica hands
// out. It reads them from one ConfigMap, and while limits exist it says by a Lease
// that it lives.
package shares

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/limits"
	"github.com/autoburst/autoburst/policy/store"
)

const (
	// beatPause is the least time between two heartbeats.
	beatPause = 20 * time.Millisecond
	// beatTimeout bounds one heartbeat; it must be well below limits.Renewal.
	beatTimeout = 3 * time.Second
	// nameMax leaves room for the rest of a Lease's name.
	nameMax = 200
)

// View tells which limits are in force; a store.Store does.
type View interface {
	Snapshot() *policy.Snapshot
	Subscribe(l store.Listener) (cancel func())
}

// Options of a Replica.
type Options struct {
	// Name of the Pod that this is, by which people know it. Required.
	Name string
	// View is required.
	View View
	// Leases of the release namespace, where the heartbeat is kept. Required.
	Leases coordinationclient.LeaseInterface
	// Clock must be monotonic. Nil means the real one.
	Clock clock.Clock
	// Logger gets a line when the replica was declared dead. The zero value logs
	// nothing.
	Logger logr.Logger
}

// Replica is one replica of the webhook as a holder of shares. Make it with New,
// feed it with Attach, run it with Start.
type Replica struct {
	base   string
	view   View
	leases coordinationclient.LeaseInterface
	clock  clock.Clock
	log    logr.Logger
	holder *limits.Holder
	// wake rings when there is something to say.
	wake chan struct{}
	// beats is true once the heartbeat exists.
	beats bool
}

// New makes a Replica that holds nothing.
func New(o Options) *Replica {
	r := &Replica{base: o.Name, view: o.View, leases: o.Leases, clock: o.Clock, log: o.Logger, wake: make(chan struct{}, 1)}
	if len(r.base) > nameMax {
		r.base = r.base[:nameMax]
	}
	if r.clock == nil {
		r.clock = clock.RealClock{}
	}
	r.holder = limits.NewHolder(r.newName())
	return r
}

// newName is a name that no process has had: one that restarts holds nothing of
// what it held before.
func (r *Replica) newName() string {
	return r.base + "-" + strings.ToLower(rand.Text()[:8])
}

// CacheOptions are the options of a cache that holds the one ConfigMap that is
// the ledger.
func CacheOptions(namespace, name string) cache.Options {
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

// Attach registers the Replica with the informer of the ledger. It is called
// once, before Start. While the ledger cannot be read there are no shares, and
// grants under limits are left to the controller.
func (r *Replica) Attach(ctx context.Context, informers store.Informers, namespace, name string) error {
	informer, err := informers.GetInformer(ctx, &corev1.ConfigMap{}, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("getting the informer of the ledger, ConfigMap %s/%s: %w", namespace, name, err)
	}
	set := func(obj any) {
		if m, ok := obj.(*corev1.ConfigMap); ok && m.Namespace == namespace && m.Name == name {
			r.adopt(m)
		}
	}
	if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    set,
		UpdateFunc: func(_, obj any) { set(obj) },
		DeleteFunc: func(any) {
			r.holder.Lost()
			r.ring()
		},
	}); err != nil {
		return fmt.Errorf("listening to the informer of the ledger, ConfigMap %s/%s: %w", namespace, name, err)
	}
	return nil
}

// adopt takes in the ledger, and rings when there is anything new to say of it;
// mostly it has changed for others.
func (r *Replica) adopt(m *corev1.ConfigMap) {
	before := r.annotations()
	state, err := limits.ReadState(m)
	if err != nil {
		r.log.Error(err, "No shares of limits are used until the ledger can be read")
		r.holder.Lost()
	} else {
		r.holder.Adopt(state)
	}
	if !maps.Equal(before, r.annotations()) {
		r.ring()
	}
}

func (r *Replica) ring() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Take takes all charges from shares in memory, or nothing.
func (r *Replica) Take(charges []policy.Charge) (stamp string, ok bool) {
	return r.holder.Take(charges, r.clock.Now())
}

// NeedLeaderElection is false: every replica answers the webhook.
func (r *Replica) NeedLeaderElection() bool { return false }

// listener rings when the rules changed.
type listener struct{ r *Replica }

func (listener) PodPending(*corev1.Pod)         {}
func (listener) PodSettled(*corev1.Pod, string) {}
func (listener) RoomShrank(string)              {}
func (l listener) RulesChanged()                { l.r.ring() }

// Start sends heartbeats while there are limits, until the context ends; then it
// closes its shares and says so.
func (r *Replica) Start(ctx context.Context) error {
	defer r.view.Subscribe(listener{r})()
	for {
		if r.limited() {
			r.beat(ctx)
		}
		select {
		case <-ctx.Done():
			r.end()
			return nil
		case <-r.clock.After(beatPause):
		}
		select {
		case <-ctx.Done():
			r.end()
			return nil
		case <-r.wake:
		case <-r.clock.After(limits.HeartbeatPeriod):
		}
	}
}

// limited is true while there are limits, or shares that are left of some.
func (r *Replica) limited() bool {
	if len(r.view.Snapshot().Accounts()) > 0 {
		return true
	}
	closed, open := r.holder.Report()
	return open+len(closed) > 0
}

// end gives back what is left, within a moment that a shutdown has.
func (r *Replica) end() {
	if !r.beats {
		return
	}
	r.holder.Lost()
	ctx, cancel := context.WithTimeout(context.Background(), beatTimeout)
	defer cancel()
	r.beat(ctx)
}

// beat tells that the replica lives, and what it has closed. A heartbeat that is
// gone was deleted to declare the replica dead; it begins anew with nothing.
func (r *Replica) beat(ctx context.Context) {
	started := r.clock.Now()
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	var err error
	if r.beats {
		err = r.renew(ctx)
	} else {
		err = r.create(ctx)
	}
	switch {
	case err == nil:
		r.beats = true
		r.holder.Renewed(started)
	case r.beats && apierrors.IsNotFound(err):
		r.log.Info("This replica was taken for dead, as its heartbeat did not reach the API server in time; it begins anew without shares of limits")
		r.beats = false
		r.holder.Rename(r.newName())
		r.ring()
	case !r.beats && apierrors.IsAlreadyExists(err):
		r.beats = true // an answer was lost
		r.ring()
	case ctx.Err() == nil:
		r.log.Error(err, "Sending the heartbeat; without it no shares of limits are used, and grants under limits are left to the controller")
	}
}

func (r *Replica) annotations() map[string]string {
	closed, open := r.holder.Report()
	b, err := json.Marshal(closed)
	if err != nil { // numbers under strings: cannot fail
		b = []byte("{}")
	}
	return map[string]string{limits.ClosedAnnotation: string(b), limits.OpenAnnotation: strconv.Itoa(open)}
}

func (r *Replica) create(ctx context.Context) error {
	name := r.holder.Replica()
	_, err := r.leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: limits.HeartbeatPrefix + name, Labels: map[string]string{limits.HeartbeatLabel: "true"}, Annotations: r.annotations(),
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &name,
			LeaseDurationSeconds: ptr.To(int32(limits.Renewal / time.Second)),
			RenewTime:            ptr.To(metav1.NewMicroTime(r.clock.Now())),
		},
	}, metav1.CreateOptions{})
	return err
}

func (r *Replica) renew(ctx context.Context) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": r.annotations()},
		"spec":     map[string]any{"renewTime": metav1.NewMicroTime(r.clock.Now())},
	})
	if err != nil {
		return fmt.Errorf("writing the heartbeat: %w", err)
	}
	_, err = r.leases.Patch(ctx, limits.HeartbeatPrefix+r.holder.Replica(), types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// Name tells this process from any other, one that was here before among them.
func (r *Replica) Name() string { return r.holder.Replica() }
