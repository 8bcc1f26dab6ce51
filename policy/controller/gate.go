package controller

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/autoburst/autoburst/policy"
)

const (
	// gateHold is for how long at most a pod stands at our gate because others that
	// were let through are about to take the local room that it would fit.
	gateHold = 5 * time.Second
	// gateLook is after how long such a pod is looked at again, if nothing happens.
	gateLook = 500 * time.Millisecond
	// gateRetry is after how long a gate that could not be opened is tried again.
	gateRetry = time.Second
	// promiseLife is for how long room counts as taken by a pod that was let through
	// to it and of which nothing more was heard.
	promiseLife = 30 * time.Second
	// lockTries is how often local nodes are read anew for one decision.
	lockTries = 5
)

// gates remembers which pods were let through our gate to which local room, until
// the scheduler has placed them or found that it cannot.
type gates struct {
	clock clock.PassiveClock

	mu sync.Mutex
	// held is since when pods are kept at the gate.
	held map[types.UID]time.Time
	// opened are pods whose gate is open though the watch may not show it yet.
	opened map[types.UID]bool
	// promised is what pods are about to take from a node, by the node's name.
	promised map[string]map[types.UID]promise
	// place is the node whose room a pod was promised.
	place map[types.UID]string
	// changes counts the promises that were kept or broken.
	changes uint64
}

// promise is what one pod is about to take.
type promise struct {
	used  policy.Usage
	until time.Time
}

func newGates(c clock.PassiveClock) *gates {
	return &gates{
		clock: c, held: make(map[types.UID]time.Time), opened: make(map[types.UID]bool),
		promised: make(map[string]map[types.UID]promise), place: make(map[types.UID]string),
	}
}

// decide decides for a pod at the gate. A pod that fits the room that promises
// leave on a local node is promised that room. One that fits a local node only
// without them is kept, for which the last result is the longest: whether it must
// burst is known when those pods are placed. The node is the one that it fits.
//
// The local nodes are read before the lock is taken, as the view tells of pods while
// it is locked itself; when promises have changed in between, they are read anew.
func (g *gates) decide(s *policy.Snapshot, pod *corev1.Pod, nodes func() []*policy.LocalNode, workloads policy.Workloads) (d policy.LateDecision, node string, keep time.Duration) {
	local := g.lockWith(nodes)
	defer g.mu.Unlock()
	now := g.clock.Now()
	evaluate := func(left func(*policy.LocalNode) *policy.LocalNode) policy.LateDecision {
		return policy.EvaluateGated(s, pod.Namespace, pod, func(yield func(*policy.LocalNode) bool) {
			for _, n := range local {
				if node = n.Name; !yield(left(n)) {
					return
				}
			}
		}, workloads, now)
	}
	switch d = evaluate(func(n *policy.LocalNode) *policy.LocalNode { return g.left(n, now) }); {
	case d.Reason == policy.FitsLocally:
		g.promise(pod, node, now)
		return d, node, 0
	case d.Action != policy.Grant || len(g.promised) == 0:
		return d, "", 0
	}
	if d = evaluate(func(n *policy.LocalNode) *policy.LocalNode { return n }); d.Reason != policy.FitsLocally {
		return d, "", 0
	}
	since, ok := g.held[pod.UID]
	if !ok {
		since = now
		g.held[pod.UID] = now
	}
	return d, node, max(0, gateHold-now.Sub(since))
}

// lockWith locks and returns the local nodes as they are beside the promises, but
// for the last of several tries.
func (g *gates) lockWith(nodes func() []*policy.LocalNode) []*policy.LocalNode {
	for try := 0; ; try++ {
		g.mu.Lock()
		before := g.changes
		g.mu.Unlock()
		local := nodes()
		g.mu.Lock()
		if g.changes == before || try == lockTries {
			return local
		}
		g.mu.Unlock()
	}
}

// left is a local node with the room that promises leave. The lock is held.
func (g *gates) left(n *policy.LocalNode, now time.Time) *policy.LocalNode {
	promised := g.promised[n.Name]
	if len(promised) == 0 {
		return n
	}
	var used policy.Usage
	for uid, p := range promised {
		if now.After(p.until) {
			g.forget(uid)
			continue
		}
		used.Add(p.used, 1)
	}
	after := *n
	after.Free = used.Left(n.Free)
	return &after
}

// promise keeps room on a node for a pod. The lock is held.
func (g *gates) promise(pod *corev1.Pod, node string, now time.Time) {
	g.forget(pod.UID)
	g.keep(pod.UID, node, promise{policy.UsageOf(pod), now.Add(promiseLife)})
}

// keep enters a promise. The lock is held.
func (g *gates) keep(uid types.UID, node string, p promise) {
	if g.promised[node] == nil {
		g.promised[node] = make(map[types.UID]promise)
	}
	g.promised[node][uid] = p
	g.place[uid] = node
}

// forget takes a promise back. The lock is held.
func (g *gates) forget(uid types.UID) {
	node, ok := g.place[uid]
	if !ok {
		return
	}
	g.changes++
	delete(g.place, uid)
	if delete(g.promised[node], uid); len(g.promised[node]) == 0 {
		delete(g.promised, node)
	}
}

// open notes that the gate of a pod is open.
func (g *gates) open(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, uid)
	g.opened[uid] = true
}

func (g *gates) isOpen(uid types.UID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.opened[uid]
}

// refused notes that the scheduler found no room for a pod.
func (g *gates) refused(uid types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(uid)
}

// settled notes that a pod has a node now, or with "" that it is gone. When the
// scheduler has put it elsewhere than where it was promised room, a pod that was
// promised that other room has its place instead, one of the same size if there
// is any: else the node that it left would count as free.
func (g *gates) settled(uid types.UID, node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.held, uid)
	delete(g.opened, uid)
	from, ok := g.place[uid]
	if !ok {
		return
	}
	left := g.promised[from][uid]
	g.forget(uid)
	if node == from || node == "" {
		return
	}
	var moved types.UID
	for other, p := range g.promised[node] {
		if moved = other; p.used.Equal(left.used) {
			break
		}
	}
	if moved != "" {
		p := g.promised[node][moved]
		g.forget(moved)
		g.keep(moved, from, p)
	}
}

// atGate decides for a pod that bears our gate. It grants the pod and opens the
// gate in one write, or opens the gate alone, or keeps the pod for a while.
func (g *granter) atGate(ctx context.Context, snapshot *policy.Snapshot, pod *corev1.Pod, since time.Time) (reconcile.Result, error) {
	if g.gates.isOpen(pod.UID) {
		return reconcile.Result{}, nil
	}
	d, node, keep := g.gates.decide(g.waiting.rooms.left(withoutUsage(snapshot), pod.UID), pod, g.view.LocalNodes, workloadOf(g.budgets, pod))
	switch {
	case d.Reason == policy.OtherGates, d.Reason == policy.Finished:
		return reconcile.Result{}, nil
	case keep > 0:
		// The node names whose changes bring the pod here again.
		g.waiting.decided(pod.UID, d.Decision, node, false)
		return reconcile.Result{RequeueAfter: min(gateLook, keep)}, nil
	case d.Action == policy.Grant && !g.distrusts(snapshot, d.By):
		if !g.waiting.rooms.take(snapshot, pod, &d) || !g.secure(ctx, pod, &d) {
			g.waiting.rooms.settled(pod.UID)
			return g.release(ctx, pod), nil
		}
		result, err := g.grant(ctx, pod, d, since)
		if err != nil {
			log.FromContext(ctx).Error(err, "Granting a pod at our gate; it is tried again", "retryAfter", gateRetry.String())
			return reconcile.Result{RequeueAfter: gateRetry}, nil
		}
		return result, nil
	}
	return g.release(ctx, pod), nil
}

// secure takes what a grant needs beside the toleration: a place among the replicas
// that may burst, and room under the limits that bind the pod. A pod that cannot
// have both does not stand at the gate for them: it waits as any other.
func (g *granter) secure(ctx context.Context, pod *corev1.Pod, d *policy.LateDecision) bool {
	placed, err := g.budgets.take(ctx, pod, d.Budget)
	if err == nil && placed {
		*d, err = g.takeRoom(ctx, pod, *d)
	}
	if err != nil {
		log.FromContext(ctx).Error(err, "Counting what bursts for a pod at our gate; the gate is opened without a grant")
	}
	if err == nil && placed && d.Action == policy.Grant {
		return true
	}
	g.budgets.refused(pod.UID)
	return false
}

// counted is the count of one pod's workload as it was.
type counted struct {
	workload policy.Workload
	known    bool
}

// workloadOf counts the workload of a pod. At the gate that comes before the lock on
// promises is taken, as the local nodes do.
func workloadOf(w policy.Workloads, pod *corev1.Pod) policy.Workloads {
	workload, known := w.Workload(pod)
	return counted{workload, known}
}

// Workload implements policy.Workloads for that pod.
func (c counted) Workload(*corev1.Pod) (policy.Workload, bool) { return c.workload, c.known }

// release opens our gate and leaves the pod to the scheduler.
func (g *granter) release(ctx context.Context, pod *corev1.Pod) reconcile.Result {
	err := openGate(ctx, g.writes, pod)
	switch {
	case err == nil:
		g.gates.open(pod.UID)
		g.metrics.gates.WithLabelValues(gateReleased).Inc()
	case apierrors.IsConflict(err), apierrors.IsInvalid(err): // it has changed
		return reconcile.Result{RequeueAfter: conflictRetry}
	default:
		log.FromContext(ctx).Error(err, "Opening our gate; it is tried again", "retryAfter", gateRetry.String())
		return reconcile.Result{RequeueAfter: gateRetry}
	}
	return reconcile.Result{}
}

// openGate removes our gate from a pod. A pod that is gone is no error.
func openGate(ctx context.Context, writes client.Writer, pod *corev1.Pod) error {
	patch, err := policy.ReleasePatch(pod)
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err := writes.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("opening the gate of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

const (
	// sweepDelay is after how long from the order to stop gates are looked for: until
	// then, pods arrive that the webhook gave one before.
	sweepDelay = 500 * time.Millisecond
	// sweepTime bounds the search; the program has 5 s to end.
	sweepTime = 4 * time.Second
	// sweepPage is how many pods are listed, and sweepWorkers how many gates opened,
	// at once.
	sweepPage, sweepWorkers = 500, 16
)

// sweeper opens all gates of ours when a replica stops, whether it is the elected
// one or not: with the last replica goes whoever would open them. While others go
// on, this costs the few pods that stand at a gate just then their decision; they
// are decided when the scheduler has found them unschedulable.
type sweeper struct {
	reads  client.Reader // from the API server itself
	writes client.Writer
	clock  clock.Clock
}

// NeedLeaderElection is false: the elected replica may have ended before this.
func (s *sweeper) NeedLeaderElection() bool { return false }

// Start waits until the context ends, and then sweeps.
func (s *sweeper) Start(ctx context.Context) error {
	<-ctx.Done()
	logger := log.FromContext(ctx).WithName("gates")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sweepTime)
	defer cancel()
	<-s.clock.After(sweepDelay)
	n, err := s.sweep(ctx)
	if err != nil {
		logger.Error(err, "Gates of pods may be left that the next controller opens; docs/autoscalers.md tells how to open them without one")
	}
	if n > 0 {
		logger.Info("Opened the gates of pods, as this replica stops", "pods", n)
	}
	return nil
}

// sweep opens the gates of all pods and returns how many it opened.
func (s *sweeper) sweep(ctx context.Context) (int, error) {
	var gated []*corev1.Pod
	list := &corev1.PodList{}
	for {
		err := s.reads.List(ctx, list, client.MatchingFields{"status.phase": string(corev1.PodPending)},
			client.Limit(sweepPage), client.Continue(list.Continue))
		if err != nil {
			return 0, fmt.Errorf("listing pending pods: %w", err)
		}
		for i := range list.Items {
			if p := &list.Items[i]; policy.Gated(p) {
				gated = append(gated, p.DeepCopy())
			}
		}
		if list.Continue == "" {
			break
		}
	}
	var (
		mu     sync.Mutex
		opened int
		failed error
		wg     sync.WaitGroup
	)
	for chunk := range slices.Chunk(gated, max(1, (len(gated)+sweepWorkers-1)/sweepWorkers)) {
		wg.Go(func() {
			for _, p := range chunk {
				err := openGate(ctx, s.writes, p)
				mu.Lock()
				if err == nil {
					opened++
				} else if !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) { // else someone opened it
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return opened, failed
}
