package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// reconciler makes the cloud's groups follow the pods of the API server, and
// the pods' status follow the groups. Each pass over a pod starts from what is,
// not from what happened: every pass may be repeated or lost.
type reconciler struct {
	cfg      Config
	client   kubernetes.Interface
	provider providers.Provider
	pods     *podCache
	events   *eventSink
	resolver *resolver
	health   capacityObserver
	circuit  *circuit
	returns  *returns
	pulse    *pulse
	clock    clock.WithTicker
	log      *slog.Logger
	metrics  *Metrics

	ledger  *ledger
	creates *outstanding
	queue   workqueue.TypedDelayingInterface[types.UID]
	// createLane and deleteLane are where pods wait for a write to the cloud.
	createLane, deleteLane *lane
	claims                 claims
	// adopted is set by the first complete listing after the pods were known.
	// Nothing is created or removed before.
	adopted atomic.Bool
	// lister is the provider where its cloud tells changes, else nil.
	lister providers.ChangeLister
	// kick ends the wait for the next look at the cloud; whole asks that it be a
	// complete listing.
	kick  chan struct{}
	whole atomic.Bool
	// covered is when the last listing, or look at the changes, began that was
	// answered, full when all pods were looked at. Only sweepLoop uses them.
	covered, full time.Time
	// readKick ends the wait for the next read of a single group.
	readKick chan struct{}
	orphans  orphans
}

// capacityObserver hears how creates that the circuit has let pass end and that the
// cloud was listed, and tells whether the API server holds that the cloud has no room.
type capacityObserver interface {
	created(a applicant, err error)
	refusedLate(size burstable.Size, err error)
	swept()
	shownFull() bool
}

func newReconciler(cfg Config, client kubernetes.Interface, provider providers.Provider, pods *podCache, events *eventSink,
	health capacityObserver, circuit *circuit, pulse *pulse, clk clock.WithTicker, log *slog.Logger, metrics *Metrics,
) *reconciler {
	r := &reconciler{
		cfg: cfg, client: client, provider: provider, pods: pods, events: events, health: health,
		clock: clk, log: log, metrics: metrics, ledger: newLedger(2 * cfg.CallTimeout), creates: newOutstanding(clk),
		kick: make(chan struct{}, 1), readKick: make(chan struct{}, 1), circuit: circuit, pulse: pulse, returns: newReturns(cfg),
	}
	if l, ok := provider.(providers.ChangeLister); ok {
		r.lister, r.ledger.carriesStatus = l, true
	}
	r.circuit.wake = r.wake
	r.resolver = newResolver(client, cfg, provider.Capabilities(), clk)
	r.createLane, r.deleteLane = newLane(nil, "Create"), newLane(nil, "Delete")
	if account := accountOf(provider); account != nil {
		r.createLane, r.deleteLane = newLane(account, account.Create()), newLane(account, account.Delete())
	}
	return r
}

// run works until ctx ends, and then finishes what is under way unless lead ends.
func (r *reconciler) run(ctx, lead context.Context) {
	r.queue = workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[types.UID]{
		Clock: r.clock,
		Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[types.UID]{
			Clock: r.clock,
			Queue: newUrgentFirst(func(uid types.UID) bool {
				pod := r.pods.byUID(uid)
				return pod == nil || pod.DeletionTimestamp != nil
			}),
		}),
	})
	defer r.queue.ShutDown()
	forget, err := r.pods.onChange(r.queue.Add)
	if err != nil {
		// Only an informer that was stopped refuses a handler: the agent ends.
		r.log.Error("pods cannot be watched", "error", err)
		return
	}
	defer forget()
	var wg sync.WaitGroup
	for range r.cfg.Workers {
		wg.Go(func() {
			for r.next(ctx, lead) {
			}
		})
	}
	wg.Go(func() { r.readLoop(ctx) })
	for range r.cfg.Writers {
		wg.Go(func() { r.serve(ctx, lead, r.createLane) })
		wg.Go(func() { r.serve(ctx, lead, r.deleteLane) })
	}
	wg.Go(func() { r.watchQuota(ctx) })
	r.sweepLoop(ctx)
	r.queue.ShutDown()
	r.createLane.close()
	r.deleteLane.close()
	wg.Wait()
}

// next works on one pod; it returns false when there is nothing more to do.
func (r *reconciler) next(ctx, lead context.Context) bool {
	uid, stop := r.queue.Get()
	if stop {
		return false
	}
	defer r.queue.Done(uid)
	if ctx.Err() != nil {
		return true // the queue is emptied; the next run of the agent does the work
	}
	r.metrics.queueDepth.Set(float64(r.queue.Len() + r.createLane.depth() + r.deleteLane.depth()))
	r.attempt(lead, uid)
	return true
}

// attempt works on one pod, unless lead ends, and sees to it that it is looked at
// again.
func (r *reconciler) attempt(lead context.Context, uid types.UID) {
	if !r.claims.take(uid) {
		return // who works on it looks again
	}
	// What has begun is finished even when the agent is told to stop: a create
	// that is cut off may or may not have made a group.
	work, cancel := context.WithTimeout(lead, r.cfg.CallTimeout)
	defer cancel()
	after, err := r.guarded(work, uid)
	again := r.claims.release(uid)
	if lead.Err() != nil {
		return // whoever leads now does it anew
	}

	var wanted *laneError
	errors.As(err, &wanted)
	for _, l := range []*lane{r.createLane, r.deleteLane} {
		if wanted == nil || wanted.lane != l {
			l.drop(uid)
		}
	}
	wait, postponed := quota.Postponed(err)
	switch {
	case wanted != nil:
		r.enter(wanted.lane, uid)
	case postponed:
		after = max(after, jittered(wait))
	case err != nil:
		after = max(after, r.backOff(uid, err))
	}
	if after > 0 {
		r.queue.AddAfter(uid, after)
	}
	if again {
		r.queue.Add(uid)
	}
}

// jittered is up to a tenth more than wait, so that pods which were told the same
// do not come back together.
func jittered(wait time.Duration) time.Duration {
	return wait + time.Duration(rand.Float64()*0.1*float64(wait)) //nolint:gosec // not a secret
}

// guarded keeps a panic in the work on one pod from ending the others.
func (r *reconciler) guarded(ctx context.Context, uid types.UID) (after time.Duration, err error) {
	returned := false
	defer func() {
		if !returned {
			r.tellPanic(uid)
		}
	}()
	defer r.recovered("a pod", string(uid), &err)
	after, err = r.sync(ctx, uid)
	returned = true
	return after, err
}

// tellPanic says on a pod that the agent failed in the work on it.
func (r *reconciler) tellPanic(uid types.UID) {
	if pod := r.pods.byUID(uid); pod != nil {
		// What it panicked with may hold anything: it is in the log only.
		r.events.pod(pod, occurrence{warning: true, reason: reasonInternal, message: "The agent of virtual node " + r.cfg.Node.Name +
			" failed in its work on this pod, and tries again. Its log says more: please report it as a bug."})
	}
}

// recovered turns a panic in the work on something into an error; it must be
// deferred.
func (r *reconciler) recovered(what, which string, err *error) {
	if p := recover(); p != nil {
		r.metrics.panics.Inc()
		r.log.Error("panic in the work on "+what, "which", which, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

// backOff sets and returns how long the pod's calls wait after an error.
func (r *reconciler) backOff(uid types.UID, err error) time.Duration {
	now := r.clock.Now()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	rec := r.ledger.get(uid, now)
	wait := min(r.cfg.RetryMax, time.Duration(float64(r.cfg.RetryBase)*math.Pow(2, float64(min(rec.failures, 30)))))
	rec.failures++
	rec.outage = ofOutage(err)
	// A tenth to each side, so that pods which failed together do not come back
	// together.
	wait += time.Duration((rand.Float64() - 0.5) * 0.2 * float64(wait)) //nolint:gosec // not a secret
	var e *providers.Error
	if errors.As(err, &e) && e.RetryAfter > wait {
		wait = jittered(e.RetryAfter)
	}
	rec.notBefore = now.Add(wait)
	if rec.failures > 3 {
		r.log.Warn("a pod's work keeps failing", "pod", rec.namespace+"/"+rec.name, "uid", uid, "attempts", rec.failures, "again", wait, "error", err)
	} else {
		r.log.Info("a pod's work failed", "pod", rec.namespace+"/"+rec.name, "uid", uid, "again", wait, "error", err)
	}
	return wait
}

// view is a consistent copy of what is known about one pod.
type view struct {
	pod     *corev1.Pod // nil when the pod is not in the cache
	groups  []sighting  // the one that stands for the pod first
	absent  int
	known   bool // that there was a group
	proven  bool // that there is no group, if groups is empty
	lost    int
	started time.Time
	found   time.Time
	wait    time.Duration
	// failures is how often in a row the work on the pod has failed.
	failures int
	// carries is whether the cloud's listing holds the groups' status.
	carries bool
}

func (r *reconciler) look(uid types.UID) view {
	now := r.clock.Now()
	pod := r.pods.byUID(uid)
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.records[uid]; !ok && pod == nil {
		return view{}
	}
	rec := l.get(uid, now)
	if pod != nil {
		rec.namespace, rec.name = pod.Namespace, pod.Name
		if rec.started.IsZero() {
			rec.started = now
			if hasRun(pod) {
				rec.found = lastChange(&pod.Status)
			}
		}
	}
	v := view{
		pod: rec.newest(pod), absent: rec.absent, known: rec.known, lost: rec.lost, started: rec.started, found: rec.found, failures: rec.failures,
		carries: l.carriesStatus,
		proven:  rec.doubt.IsZero() || l.listed.After(rec.doubt),
		wait:    max(0, rec.notBefore.Sub(now)),
	}
	for _, s := range rec.sorted() {
		v.groups = append(v.groups, *s)
	}
	return v
}

// change edits a pod's record.
func (r *reconciler) change(uid types.UID, edit func(*record)) {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	edit(r.ledger.get(uid, r.clock.Now()))
}

// sync does what the pod needs now and returns when to look again, zero for not
// before something changes.
func (r *reconciler) sync(ctx context.Context, uid types.UID) (time.Duration, error) {
	if !r.adopted.Load() {
		return 0, nil // the first sweep enqueues all
	}
	v := r.look(uid)
	if v.pod == nil || v.pod.DeletionTimestamp != nil || terminal(v.pod) || len(v.groups) > 0 {
		r.circuit.leave(uid)
	}
	switch {
	case v.pod == nil && len(v.groups) == 0:
		r.ledger.forget(uid)
		r.events.forget(uid)
		return 0, nil
	case v.wait > 0:
		return v.wait, nil
	case v.pod == nil:
		return r.removeOrphan(ctx, uid, v)
	case v.pod.DeletionTimestamp != nil:
		return r.endPod(ctx, uid, v)
	case terminal(v.pod):
		return r.settle(ctx, uid, v)
	default:
		return r.runPod(ctx, uid, v)
	}
}

// succeeded ends a pod's back-off.
func (r *reconciler) succeeded(uid types.UID) {
	r.change(uid, func(rec *record) { rec.failures, rec.notBefore, rec.outage = 0, time.Time{}, false })
}

// read asks the cloud for one group and notes the answer; nil means that the
// group does not exist.
func (r *reconciler) read(ctx context.Context, uid types.UID, id string) (*providers.Group, error) {
	return r.ask("Get", uid, id, func() (*providers.Group, error) { return r.provider.Get(ctx, id) })
}

// ask asks the cloud for one pod's group and notes the answer; nil means that there
// is none.
func (r *reconciler) ask(operation string, uid types.UID, which string, call func() (*providers.Group, error)) (*providers.Group, error) {
	begun := r.clock.Now()
	g, err := call()
	now := r.clock.Now()
	r.heard(operation, now.Sub(begun), ignoreNotFound(err))
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		return nil, nil
	case err != nil:
		return nil, err
	}
	if !r.owns(*g) || g.Owner.PodUID != string(uid) {
		return nil, fmt.Errorf("the cloud answered with another pod's group for %q", which)
	}
	r.ledger.take(begun, now, *g)
	return g, nil
}

func ignoreNotFound(err error) error {
	if providers.ClassOf(err) == providers.NotFound {
		return nil
	}
	return err
}

// owns tells whether a group is this node's. Providers filter by the ownership
// tags themselves; nothing foreign is touched even if one does not.
func (r *reconciler) owns(g providers.Group) bool {
	return g.Owner.ClusterUID == r.cfg.ClusterUID && g.Owner.NodeName == r.cfg.Node.Name && g.Owner.PodUID != ""
}

// confirmGone notes that a group does not exist any more.
func (r *reconciler) confirmGone(uid types.UID, id string) {
	now := r.clock.Now()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	r.ledger.confirm(uid, id, now)
}
