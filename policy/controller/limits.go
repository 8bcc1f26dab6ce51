package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	coreclient "k8s.io/client-go/kubernetes/typed/core/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/limits"
)

const (
	// gather is how long reservations are gathered into one write of the ledger.
	gather = 2 * time.Millisecond
	// turnPause is the longest time between two looks at the ledger.
	turnPause = time.Second
	// silence is for how long nothing may be heard of a replica before it is
	// declared dead: it itself has stopped using shares by then.
	silence = limits.Renewal + 2*time.Second
	// lazyPause is after how long changes are persisted that hold nobody up.
	lazyPause = time.Second
	// ledgerRetry is after how long a request about the ledger that failed is tried
	// again.
	ledgerRetry = 500 * time.Millisecond
	// freshPause is the least time between two live lists of pods, freshPage how
	// many pods a page of it holds.
	freshPause = 5 * time.Second
	freshPage  = 1000
	// freshRest is how long the rest of what an informer has listed anew may take,
	// once the newest of it has arrived: a list, unlike a watch, is in no order.
	freshRest = 100 * time.Millisecond
)

// LimitOptions are what the elected replica needs to keep limits.
type LimitOptions struct {
	// ConfigMaps and Leases of the release namespace. Required.
	ConfigMaps coreclient.ConfigMapInterface
	Leases     coordinationclient.LeaseInterface
	// Heartbeats feeds the Leases of the replicas that hold shares. Required.
	Heartbeats toolscache.SharedIndexInformer
	// Ledger is the name of the ConfigMap that keeps the ledger.
	Ledger string
	// Live reads from the API server, not from a cache. Required.
	Live client.Reader
	// Replica is the name of this very process.
	Replica string
}

// errFenced says that another replica has become the one that keeps the ledger.
var errFenced = errors.New("another replica has taken over the ledger of limits")

// keeper keeps the ledger of limits on the elected replica.
type keeper struct {
	LimitOptions
	view    View
	waiting *waiting
	metrics *metrics
	clock   clock.Clock
	bell    bell

	mu     sync.Mutex
	ledger *limits.Ledger // nil until it was taken over and all pods are counted
	// written is the version that is persisted; changed is closed when that grows.
	written uint64
	changed chan struct{}

	inbox inbox

	// What only the loop uses.
	revision    int64
	writtenLazy uint64
	wroteAt     time.Time
	stored      *corev1.ConfigMap // as last read or written
	heard       map[string]heartbeat
	freshAt     time.Time
}

// heartbeat is the last one of a replica.
type heartbeat struct {
	version string
	at      time.Time
	// lives is true once it was seen to change.
	lives bool
}

// inbox gathers what informers tell until the loop takes it.
type inbox struct {
	mu    sync.Mutex
	pods  []podEvent
	beats []beatEvent
	rules bool
	bell  bell
}

type podEvent struct {
	uid types.UID
	pod *corev1.Pod // nil when it is gone
}

type beatEvent struct {
	lease *coordinationv1.Lease
	// old is true for what was there before the informer began; gone for what was
	// deleted.
	old, gone bool
}

func (b *inbox) put(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
	b.bell.ring()
}

// PodSeen implements store.PodListener.
func (b *inbox) PodSeen(p *corev1.Pod) { b.put(func() { b.pods = append(b.pods, podEvent{p.UID, p}) }) }

// PodGone implements store.PodListener.
func (b *inbox) PodGone(uid types.UID) { b.put(func() { b.pods = append(b.pods, podEvent{uid, nil}) }) }

// PodPending, PodSettled, RoomShrank and RulesChanged implement store.Listener.
func (b *inbox) PodPending(*corev1.Pod)         {}
func (b *inbox) PodSettled(*corev1.Pod, string) {}
func (b *inbox) RoomShrank(string)              {}
func (b *inbox) RulesChanged()                  { b.put(func() { b.rules = true }) }

func (b *inbox) take() (pods []podEvent, beats []beatEvent, rules bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	pods, beats, rules = b.pods, b.beats, b.rules
	b.pods, b.beats, b.rules = nil, nil, false
	return pods, beats, rules
}

func newKeeper(o Options, w *waiting, m *metrics) *keeper {
	k := &keeper{
		view: o.View, waiting: w, metrics: m, clock: o.Clock, bell: newBell(),
		changed: make(chan struct{}), heard: make(map[string]heartbeat),
	}
	if o.Limits != nil {
		k.LimitOptions = *o.Limits
	}
	k.inbox.bell = k.bell
	return k
}

// NeedLeaderElection is true: one replica keeps the ledger.
func (k *keeper) NeedLeaderElection() bool { return true }

// Start keeps the ledger from the moment that there are limits until the context
// ends. It fails when another replica has taken over.
func (k *keeper) Start(ctx context.Context) error {
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("limits"))
	defer k.view.Subscribe(&k.inbox)()
	for len(k.view.Snapshot().Accounts()) == 0 {
		if !k.wait(ctx, 0) {
			return nil
		}
	}
	ledger, err := k.takeOver(ctx)
	if err != nil || ledger == nil {
		return err
	}
	if err := k.listen(ctx); err != nil {
		return err
	}
	defer k.view.SubscribePods(&k.inbox)()
	k.open(ledger)
	log.FromContext(ctx).Info("Keeping the ledger of limits", "ledger", ledger.State().ID)
	for {
		next, err := k.turn(ctx)
		if err != nil {
			return err
		}
		if !k.wait(ctx, next) {
			return nil
		}
	}
}

// wait sleeps until something happens, or for so long where that is not zero. It
// is false when the context has ended.
func (k *keeper) wait(ctx context.Context, longest time.Duration) bool {
	var after <-chan time.Time
	if longest > 0 {
		after = k.clock.After(longest)
	}
	select {
	case <-ctx.Done():
		return false
	case <-k.bell:
	case <-after:
	}
	select {
	case <-ctx.Done():
		return false
	case <-k.clock.After(gather):
	}
	return true
}

// pause waits before a request is tried again.
func (k *keeper) pause(ctx context.Context, why error, what string) bool {
	log.FromContext(ctx).Error(why, what+"; it is tried again, and no grant under a limit is made meanwhile")
	select {
	case <-ctx.Done():
		return false
	case <-k.clock.After(ledgerRetry):
		return true
	}
}

// takeOver reads the ledger and writes it as its new keeper, which fences the one
// before: that can reserve nothing any more. Then it waits until all pods that
// were persisted before are known here. It returns nil when the context ends.
func (k *keeper) takeOver(ctx context.Context) (*limits.Ledger, error) {
	var ledger *limits.Ledger
	for ledger == nil {
		l, err := k.readLedger(ctx)
		if err == nil {
			if err = k.put(ctx, l.State()); err == nil {
				ledger = l
				break
			}
		}
		if errors.Is(err, errFenced) {
			continue // another was quicker; the elected one is the last
		}
		if !k.pause(ctx, err, "Taking over the ledger of limits") {
			return nil, nil
		}
	}
	for {
		err := k.refresh(ctx)
		if err == nil {
			return ledger, nil
		}
		if !k.pause(ctx, err, "Listing pods, to count them against limits") {
			return nil, nil
		}
	}
}

// readLedger makes the ledger from what is persisted. Where that is lost or
// unreadable while replicas hold shares of it, nothing passes until nothing can
// come of them any more.
func (k *keeper) readLedger(ctx context.Context) (*limits.Ledger, error) {
	now := k.clock.Now()
	m, err := k.ConfigMaps.Get(ctx, k.Ledger, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		k.stored, k.revision = nil, 0
		leases, err := k.Leases.List(ctx, metav1.ListOptions{LabelSelector: limits.HeartbeatLabel})
		if err != nil {
			return nil, fmt.Errorf("listing the heartbeats of replicas: %w", err)
		}
		for i := range leases.Items {
			if limits.ReadHeartbeat(&leases.Items[i]).Holds {
				return k.anew(ctx, now.Add(limits.Renewal+limits.InFlight), "it is lost"), nil
			}
		}
		return limits.NewLedger(newLedgerID(), time.Time{}), nil
	case err != nil:
		return nil, fmt.Errorf("reading the ledger, ConfigMap %s: %w", k.Ledger, err)
	}
	k.stored = m
	state, err := limits.ReadState(m)
	if err != nil {
		return k.anew(ctx, now.Add(limits.Renewal+limits.InFlight), err.Error()), nil
	}
	k.revision = state.Revision
	return limits.Restore(state, now), nil
}

func (k *keeper) anew(ctx context.Context, opens time.Time, why string) *limits.Ledger {
	log.FromContext(ctx).Error(nil, "The ledger of limits begins anew, and no grant under a limit is made until nothing can come of the old one any more",
		"why", why, "configMap", k.Ledger, "until", opens)
	return limits.NewLedger(newLedgerID(), opens)
}

func newLedgerID() string { return strings.ToLower(rand.Text()[:8]) }

// put persists a state, unless another replica has since this one last did.
func (k *keeper) put(ctx context.Context, state limits.State) error {
	state.Leader, state.Revision = k.Replica, k.revision+1
	var m *corev1.ConfigMap
	if k.stored != nil {
		m = k.stored.DeepCopy()
	} else {
		m = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: k.Ledger}}
	}
	if err := state.Write(m); err != nil {
		return err
	}
	var err error
	if k.stored != nil {
		m, err = k.ConfigMaps.Update(ctx, m, metav1.UpdateOptions{})
	} else {
		m, err = k.ConfigMaps.Create(ctx, m, metav1.CreateOptions{})
	}
	switch {
	case err == nil:
		k.metrics.ledgerWrites.WithLabelValues(resultWritten).Inc()
		k.stored, k.revision = m, state.Revision
		return nil
	case apierrors.IsNotFound(err): // somebody deleted it; what it said is known here
		k.metrics.ledgerWrites.WithLabelValues(resultConflict).Inc()
		k.stored = nil
		return fmt.Errorf("writing the ledger: %w", err)
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
		k.metrics.ledgerWrites.WithLabelValues(resultConflict).Inc()
		return k.reread(ctx, err)
	}
	k.metrics.ledgerWrites.WithLabelValues(resultFailed).Inc()
	return fmt.Errorf("writing the ledger: %w", err)
}

// reread finds out after a conflict whether the last write was this replica's own,
// of which the answer was lost, or somebody edited the object.
func (k *keeper) reread(ctx context.Context, conflict error) error {
	m, err := k.ConfigMaps.Get(ctx, k.Ledger, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading the ledger again: %w", err)
	}
	state, err := limits.ReadState(m)
	if err != nil || state.Leader != k.Replica {
		return fmt.Errorf("%w (%s)", errFenced, state.Leader)
	}
	k.stored, k.revision = m, max(k.revision, state.Revision)
	return fmt.Errorf("writing the ledger: %w", conflict)
}

// refresh returns once every pod that is persisted now is known to the view.
func (k *keeper) refresh(ctx context.Context) error {
	var newest uint64
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	for {
		if err := k.Live.List(ctx, list, client.Limit(freshPage), client.Continue(list.Continue)); err != nil {
			return fmt.Errorf("listing pods: %w", err)
		}
		for i := range list.Items {
			if v, err := strconv.ParseUint(list.Items[i].ResourceVersion, 10, 64); err == nil {
				newest = max(newest, v)
			}
		}
		if list.Continue == "" {
			break
		}
	}
	for pause := gather; ; {
		known := k.view.PodVersion() >= newest
		if known {
			pause = freshRest
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.clock.After(pause):
		}
		if known {
			return nil
		}
	}
}

// listen starts to hear the heartbeats of the replicas.
func (k *keeper) listen(ctx context.Context) error {
	put := func(obj any, old, gone bool) {
		if d, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
			obj = d.Obj
		}
		if l, ok := obj.(*coordinationv1.Lease); ok {
			k.inbox.put(func() { k.inbox.beats = append(k.inbox.beats, beatEvent{l, old, gone}) })
		}
	}
	if _, err := k.Heartbeats.AddEventHandler(toolscache.ResourceEventHandlerDetailedFuncs{
		AddFunc:    func(obj any, initial bool) { put(obj, initial, false) },
		UpdateFunc: func(_, obj any) { put(obj, false, false) },
		DeleteFunc: func(obj any) { put(obj, false, true) },
	}); err != nil {
		return fmt.Errorf("listening to the heartbeats of replicas: %w", err)
	}
	go k.Heartbeats.RunWithContext(ctx)
	return nil
}

// open lets grants be asked for. The first turn counts the pods.
func (k *keeper) open(ledger *limits.Ledger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ledger = ledger
	k.written, k.writtenLazy = ledger.Version()
	k.inbox.put(func() { k.inbox.rules = true })
	k.waiting.rules.ring() // pods that were told to wait for this
}

// turn brings the ledger up to date, persists it, and wakes the pods that can be
// granted. It returns when the next is due.
func (k *keeper) turn(ctx context.Context) (time.Duration, error) {
	k.catchUp()
	if err := k.bury(ctx); err != nil {
		log.FromContext(ctx).Error(err, "Declaring a replica dead; it is tried again, and its shares of limits stay counted")
	}
	fresh := k.freshen(ctx)

	k.mu.Lock()
	now := k.clock.Now()
	k.ledger.Plan(fresh, now)
	version, lazy := k.ledger.Version()
	var state limits.State
	due := version != k.written || lazy != k.writtenLazy && now.Sub(k.wroteAt) >= lazyPause
	if due {
		state = k.ledger.State()
	}
	k.mu.Unlock()

	if due {
		err := k.put(ctx, state)
		switch {
		case errors.Is(err, errFenced):
			return 0, err
		case err != nil:
			k.pause(ctx, err, "Persisting the ledger of limits")
			return gather, nil
		}
		k.mu.Lock()
		k.written, k.writtenLazy, k.wroteAt = version, lazy, now
		close(k.changed)
		k.changed = make(chan struct{})
		k.mu.Unlock()
	}

	k.mu.Lock()
	next := k.ledger.Next(k.clock.Now())
	k.mu.Unlock()
	k.waiting.wake(next)
	return turnPause, nil
}

// catchUp takes in what the informers have told.
func (k *keeper) catchUp() {
	pods, beats, rules := k.inbox.take()
	k.mu.Lock()
	defer k.mu.Unlock()
	snapshot, now := k.view.Snapshot(), k.clock.Now()
	if rules {
		k.ledger.SetLimits(snapshot.Accounts(), now)
	}
	for _, e := range pods {
		if e.pod == nil {
			k.ledger.Gone(e.uid)
		} else {
			k.ledger.Observe(k.observe(snapshot, e.pod))
		}
	}
	if rules {
		// After the events, which are older. Those that come meanwhile are applied all
		// together at the next turn, before anything is planned by them.
		for namespace := range snapshot.Namespaces {
			for _, p := range k.view.Pods(namespace) {
				k.ledger.Observe(k.observe(snapshot, p))
			}
		}
	}
	for _, e := range beats {
		k.hear(e, now)
	}
}

// observe says what a pod counts against.
func (k *keeper) observe(s *policy.Snapshot, p *corev1.Pod) limits.Observation {
	return limits.Observation{
		UID: p.UID, Charges: policy.ChargesOf(s, p, k.view.IsLocal), Stamp: policy.SharesOf(p),
		Settled: p.Spec.NodeName != "",
	}
}

// hear takes in one heartbeat. A replica is known to live once its heartbeat was
// seen to change: one that was there before may be of the dead.
func (k *keeper) hear(e beatEvent, now time.Time) {
	r := limits.ReadHeartbeat(e.lease)
	if e.gone {
		delete(k.heard, r.Replica)
		k.ledger.Lost(r.Replica, now)
		return
	}
	before := k.heard[r.Replica]
	if before.version == e.lease.ResourceVersion {
		return
	}
	k.heard[r.Replica] = heartbeat{e.lease.ResourceVersion, now, before.lives || !e.old}
	if !e.old {
		k.ledger.Heard(r.Replica, r.Closed, now)
	} else {
		k.ledger.Closed(r.Replica, r.Closed, now)
	}
}

// bury declares replicas dead of which nothing was heard for long, by deleting
// their heartbeats just as they were last seen: had a replica renewed it since,
// that would fail, and if it does so later, it learns that it was declared dead.
func (k *keeper) bury(ctx context.Context) error {
	now := k.clock.Now()
	k.mu.Lock()
	var silent []string
	for name := range k.ledger.Holders() {
		if _, known := k.heard[name]; !known {
			k.heard[name] = heartbeat{at: now}
		}
	}
	heard := maps.Clone(k.heard)
	k.mu.Unlock()
	for name, h := range heard {
		if now.Sub(h.at) >= silence {
			silent = append(silent, name)
		}
	}
	var errs []error
	for _, name := range silent {
		o := metav1.DeleteOptions{}
		if v := heard[name].version; v != "" {
			o.Preconditions = &metav1.Preconditions{ResourceVersion: &v}
		} else if _, err := k.Leases.Get(ctx, limits.HeartbeatPrefix+name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			errs = append(errs, err) // it exists, or that is not known: its heartbeat is about to be heard
			continue
		}
		err := k.Leases.Delete(ctx, limits.HeartbeatPrefix+name, o)
		if err != nil && !apierrors.IsNotFound(err) {
			if !apierrors.IsConflict(err) {
				errs = append(errs, fmt.Errorf("deleting the heartbeat %s%s: %w", limits.HeartbeatPrefix, name, err))
			}
			continue
		}
		k.mu.Lock()
		delete(k.heard, name)
		k.ledger.Lost(name, now)
		k.mu.Unlock()
		log.FromContext(ctx).Info("A replica of the webhook does not answer any more; what it holds of limits is free again when nothing can come of it",
			"replica", name, "within", (limits.Renewal + limits.InFlight).String())
	}
	return errors.Join(errs...)
}

// freshen makes certain that all pods of until now are counted, when something
// is to be struck out of the ledger of which pods may have come.
func (k *keeper) freshen(ctx context.Context) bool {
	now := k.clock.Now()
	k.mu.Lock()
	ending := k.ledger.Ending(now)
	k.mu.Unlock()
	if !ending || now.Sub(k.freshAt) < freshPause {
		return false
	}
	k.freshAt = now
	if err := k.refresh(ctx); err != nil {
		if ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Listing pods, to free room under limits; it is tried again")
		}
		return false
	}
	k.catchUp()
	return true
}

// answer to a request for room.
type answer struct {
	refused *limits.Refusal
	// closed is true while the ledger is not in force here yet.
	closed bool
}

// reserve makes room for a late grant and returns once that is persisted.
func (k *keeper) reserve(ctx context.Context, pod *corev1.Pod, charges []policy.Charge) (answer, error) {
	k.mu.Lock()
	if k.ledger == nil {
		k.mu.Unlock()
		return answer{closed: true}, nil
	}
	version, refused := k.ledger.Reserve(pod.UID, rankOf(pod), charges, k.clock.Now())
	k.mu.Unlock()
	k.bell.ring() // to persist it, or to revoke shares for it
	if refused != nil {
		return answer{refused: refused}, nil
	}
	for {
		k.mu.Lock()
		written, changed := k.written, k.changed
		k.mu.Unlock()
		if written >= version {
			return answer{}, nil
		}
		select {
		case <-ctx.Done():
			return answer{}, fmt.Errorf("waiting until room under a limit is reserved for pod %s/%s: %w", pod.Namespace, pod.Name, ctx.Err())
		case <-changed:
		}
	}
}

func rankOf(p *corev1.Pod) limits.Rank {
	r := limits.Rank{Created: p.CreationTimestamp.Time, Name: p.Namespace + "/" + p.Name}
	if p.Spec.Priority != nil {
		r.Priority = *p.Spec.Priority
	}
	return r
}

// withdraw takes a pod out that is not to be granted now.
func (k *keeper) withdraw(uid types.UID) { k.do(func(l *limits.Ledger) { l.Withdraw(uid) }) }

// sent notes that the grant of a pod is about to be written, failed that it has
// certainly not been.
func (k *keeper) sent(uid types.UID)   { k.do(func(l *limits.Ledger) { l.Sent(uid, k.clock.Now()) }) }
func (k *keeper) failed(uid types.UID) { k.do(func(l *limits.Ledger) { l.Failed(uid) }) }

func (k *keeper) do(f func(*limits.Ledger)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ledger == nil {
		return
	}
	lazy := k.ledger.Waiting()
	f(k.ledger)
	if k.ledger.Waiting() != lazy {
		k.bell.ring()
	}
}

// usage is what counts against each limit; nil while that is not known.
func (k *keeper) usage() map[policy.Account]policy.Amount {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ledger == nil {
		return nil
	}
	return k.ledger.Usage()
}
