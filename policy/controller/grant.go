package controller

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/tracing"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// lookAgain and lookAgainMax are after how long a pod that waits for room is
	// looked at again: doubled each time.
	lookAgain, lookAgainMax = time.Second, 10 * time.Second
	// conflictRetry is after how long a grant is tried again when the pod had
	// changed; mostly its new state arrives before.
	conflictRetry = 25 * time.Millisecond
	// rejectedAfter is how many refusals of the very same version of a pod mean
	// that the API server does not take the toleration at all.
	rejectedAfter = 4
	// rejectedRetry is after how long such a grant is tried again.
	rejectedRetry = 5 * time.Minute
	// rulesPause is how long changes of the rules are gathered before all waiting
	// pods are looked at again.
	rulesPause = 100 * time.Millisecond
)

// granter lets unschedulable pods burst: it appends the toleration of the
// virtual nodes' taint when the rules allow it.
type granter struct {
	view    View
	writes  client.Writer
	budgets *budgets
	waiting *waiting
	limits  *keeper
	tell    *teller
	metrics *metrics
	clock   clock.Clock
	gates   *gates
	// term is nil before the first begins.
	term atomic.Pointer[term]
	// autoscalers are asked before a grant under the order NodeFirst.
	autoscalers *autoscalers
	// opened is the snapshot last seen with every policy open, and not stopped.
	opened atomic.Pointer[openedSnapshot]
	tracer trace.Tracer // nil where nothing is traced
}

// feed puts pods into the queue until the context ends. It is the controller's
// source.
func (g *granter) feed(ctx context.Context, queue workqueue.TypedRateLimitingInterface[store.PodKey]) error {
	add := func(key store.PodKey, _ bool) { queue.Add(key) }
	if q, ok := queue.(priorityqueue.PriorityQueue[store.PodKey]); ok {
		add = func(key store.PodKey, urgent bool) {
			o := priorityqueue.AddOpts{}
			if !urgent {
				o.Priority = ptr.To(handler.LowPriority)
			}
			q.AddWithOpts(o, key)
		}
	}
	g.term.Store(beginTerm(g.view, g.clock))
	g.waiting.feed(add)
	cancelBudgets := g.view.Subscribe(g.budgets)
	cancel := g.view.Subscribe(g.waiting)
	go func() {
		defer cancelBudgets()
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-g.waiting.rules:
			}
			g.waiting.again()
			select {
			case <-ctx.Done():
				return
			case <-g.clock.After(rulesPause):
			}
		}
	}()
	return nil
}

// Reconcile decides for one pod without a node.
func (g *granter) Reconcile(ctx context.Context, key store.PodKey) (reconcile.Result, error) {
	pod, pending := g.view.Pending(key.UID)
	since, waits := g.waiting.take(key.UID)
	if !pending || !waits {
		g.limits.withdraw(key.UID)
		return reconcile.Result{}, nil
	}
	snapshot := g.view.Snapshot()
	if policy.Gated(pod) {
		return g.atGate(ctx, snapshot, pod, since)
	}
	if _, ok := policy.Unschedulable(pod); !ok {
		g.limits.withdraw(key.UID)
		g.refuse(snapshot, pod)
		return reconcile.Result{}, nil
	}
	g.gates.refused(pod.UID)

	d, fits := g.evaluate(ctx, snapshot, pod)
	if d.Action == policy.Grant && g.distrusts(snapshot, d.By) {
		d = policy.AwaitPressure(d)
	}
	if d.Action == policy.Grant && !g.waiting.rooms.take(snapshot, pod, &d) {
		return reconcile.Result{RequeueAfter: conflictRetry}, nil // another pod was quicker
	}
	if d.Action == policy.Grant {
		placed, err := g.budgets.take(ctx, pod, d.Budget)
		if err != nil {
			return reconcile.Result{}, err
		}
		if !placed { // another worker was quicker
			if d, fits = g.evaluate(ctx, snapshot, pod); d.Action == policy.Grant {
				return reconcile.Result{RequeueAfter: conflictRetry}, nil
			}
		}
	}
	helps := d.WantOfRoom
	again, left := d.RequeueAfter, lookAgainMax
	room := d.Reason
	switch d.Reason {
	case policy.PressureClosed, policy.Stopped, policy.AfterPending, policy.NodeFirst, policy.NodeComing:
		// It counts for the pressure when it would burst for want of room, were the
		// policy open and its waits over and bursting not stopped; so the pressure is as
		// it should be when that is lifted.
		var open policy.LateDecision
		open, fits = g.evaluate(ctx, g.open(snapshot), pod)
		helps, room = open.WantOfRoom, open.Reason
		if again == 0 {
			again = open.RequeueAfter
		} else {
			left = min(left, again)
		}
	}
	d, err := g.takeRoom(ctx, pod, d)
	if err != nil || d.Action != policy.Grant {
		g.budgets.refused(key.UID)
		g.waiting.rooms.settled(key.UID)
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	if d.Reason == policy.LimitWithheld {
		again, room = d.RequeueAfter, d.Reason
	}
	looks := g.waiting.decided(key.UID, d.Decision, fits, helps)
	switch room {
	case policy.FitsLocally, policy.NoVirtualNodeFits, policy.SpreadOnly, policy.KeptLocal, policy.LimitWithheld:
		again = min(lookAgain<<min(max(looks-1, 0), 8), left)
	}

	switch d.Action {
	case policy.Grant:
		return g.grant(ctx, pod, d, since)
	case policy.Wait:
		// A pod that fits locally is mostly about to be placed, and room that is
		// withheld about to be had: say so only when it still is so at the second look.
		if d.Reason != policy.AlreadyGranted && (d.Reason != policy.FitsLocally && d.Reason != policy.LimitWithheld || looks > 1) {
			g.tell.waits(g.waiting, pod, d.Decision)
		}
	case policy.StayLocal:
		g.tell.stays(g.waiting, pod, d.Decision)
	}
	return reconcile.Result{RequeueAfter: again}, nil
}

// refuse tells the owner of a pod that admission passed over, because no cloud
// can carry it out, that it will never burst.
func (g *granter) refuse(snapshot *policy.Snapshot, pod *corev1.Pod) {
	if pod.Annotations[v1alpha1.ReasonAnnotation] != "" {
		return // admission took it
	}
	if d := policy.Evaluate(snapshot, pod.Namespace, pod); d.Action == policy.StayLocal && len(d.Refusals) > 0 {
		g.tell.stays(g.waiting, pod, d)
	}
}

// evaluate decides, and names a local node that the pod fits where that is why
// it waits.
func (g *granter) evaluate(ctx context.Context, s *policy.Snapshot, pod *corev1.Pod) (policy.LateDecision, string) {
	var last string // the rules stop at the node that settles the matter
	local := func(yield func(*policy.LocalNode) bool) {
		for _, n := range g.view.LocalNodes() {
			if last = n.Name; !yield(n) {
				return
			}
		}
	}
	d := policy.EvaluateLate(g.waiting.rooms.left(withoutUsage(s), pod.UID), pod.Namespace, pod, local, g.budgets, g.clock.Now())
	if d.Reason != policy.FitsLocally {
		last = ""
	}
	if d.Action == policy.Grant && d.NodeAutoscaler == v1alpha1.NodeFirst {
		said, err := g.autoscalers.of(ctx, pod)
		if err != nil {
			log.FromContext(ctx).Error(err, "What autoscalers do for a pod is not known; it is asked again")
			return policy.AwaitWord(d), last
		}
		d = policy.AwaitNode(d, said, g.clock.Now())
	}
	return d, last
}

// withoutUsage is the snapshot without what counts against limits: the ledger of
// the elected replica knows better.
func withoutUsage(s *policy.Snapshot) *policy.Snapshot {
	if s.Usage == nil {
		return s
	}
	twin := *s
	twin.Usage = nil
	return &twin
}

// takeRoom reserves room for a grant under the limits that bind the pod, which
// makes the decision one that waits where there is none.
func (g *granter) takeRoom(ctx context.Context, pod *corev1.Pod, d policy.LateDecision) (policy.LateDecision, error) {
	if d.Action != policy.Grant || len(d.Charges) == 0 {
		g.limits.withdraw(pod.UID)
		return d, nil
	}
	got, err := g.limits.reserve(ctx, pod, d.Charges)
	switch r := got.refused; {
	case err != nil:
		return d, err
	case got.closed, r != nil && r.Queued:
		// It is looked at again as soon as its turn has come, or else then.
		d.Decision, d.RequeueAfter = d.Withheld(), lookAgain
	case r != nil:
		d.Decision = d.OverLimit(r.Account, r.Used, r.Limits)
	}
	return d, nil
}

// grant writes the toleration. The patch fails when the pod is another one by
// now or was changed where it matters.
func (g *granter) grant(ctx context.Context, pod *corev1.Pod, d policy.LateDecision, since time.Time) (reconcile.Result, error) {
	patch, err := policy.GrantPatch(pod, d)
	if err != nil {
		return reconcile.Result{}, reconcile.TerminalError(err)
	}
	g.limits.sent(pod.UID)
	ctx, span := tracing.Continue(ctx, g.tracer, pod.Annotations[v1alpha1.TraceparentAnnotation], "late grant")
	defer span.End()
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("k8s.namespace.name", pod.Namespace), attribute.String("k8s.pod.name", pod.Name), attribute.String("k8s.pod.uid", string(pod.UID)),
			attribute.String("autoburst.reason", string(d.Reason)), attribute.String("autoburst.policy", d.By.String()), attribute.String("autoburst.target", d.Target))
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	if err = g.write(ctx, target, d, patch, pod.UID); err != nil {
		span.SetStatus(codes.Error, string(apierrors.ReasonForError(err)))
	}
	switch {
	case err == nil:
		g.waiting.grant(pod.UID)
		g.metrics.granted(g.clock.Since(since))
		if policy.Gated(pod) {
			g.gates.open(pod.UID)
			g.metrics.gates.WithLabelValues(gateGranted).Inc()
		}
		g.tell.granted(pod, d.Decision)
		log.FromContext(ctx).V(1).Info("Granted", "policy", d.By.String(), "target", d.Target)
		return reconcile.Result{}, nil
	case apierrors.IsNotFound(err):
		g.limits.failed(pod.UID)
		return reconcile.Result{}, nil
	case apierrors.IsConflict(err), apierrors.IsInvalid(err):
		g.limits.failed(pod.UID)
		// A failed test of the patch comes as Invalid, and so does a toleration
		// that is refused. Only the second repeats for the same version.
		if g.waiting.conflict(pod.UID, pod.ResourceVersion) < rejectedAfter {
			g.metrics.failures.WithLabelValues(causeChanged).Inc()
			return reconcile.Result{RequeueAfter: conflictRetry}, nil
		}
		fallthrough
	case apierrors.IsForbidden(err):
		g.limits.failed(pod.UID)
		g.limits.withdraw(pod.UID)
		g.metrics.failures.WithLabelValues(causeRejected).Inc()
		if policy.Gated(pod) {
			return g.release(ctx, pod), nil
		}
		g.tell.rejected(g.waiting, pod, d.Decision, err)
		log.FromContext(ctx).Info("The API server refuses the toleration; it is tried again later",
			"error", err.Error(), "retryAfter", rejectedRetry.String())
		return reconcile.Result{RequeueAfter: rejectedRetry}, nil
	}
	g.metrics.failures.WithLabelValues(causeError).Inc()
	return reconcile.Result{}, fmt.Errorf("granting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// write patches the pod. A pod that has a place in a budget gives it back when it
// is gone, or its grant was refused for certain. It is not certain when the pod
// has changed: an earlier grant, of a leader before or whose answer was lost, may
// be what changed it.
func (g *granter) write(ctx context.Context, pod *corev1.Pod, d policy.LateDecision, patch []byte, uid types.UID) error {
	if d.Budget == policy.Unbounded {
		return g.writes.Patch(ctx, pod, client.RawPatch(types.JSONPatchType, patch))
	}
	ctx, cancel := context.WithTimeout(ctx, grantTimeout)
	defer cancel()
	err := g.writes.Patch(ctx, pod, client.RawPatch(types.JSONPatchType, patch))
	switch {
	case err == nil:
		g.budgets.written(uid)
	case apierrors.IsNotFound(err):
		g.budgets.release(uid)
	case apierrors.IsForbidden(err):
		g.budgets.refused(uid)
	default:
		g.budgets.doubt(uid)
	}
	return err
}

// openedSnapshot is a snapshot and its twin in which no policy is closed or waits
// and bursting is not stopped.
type openedSnapshot struct{ of, opened *policy.Snapshot }

// open is the snapshot as it were if the pressure of every policy were open, all
// waits were over and bursting were not stopped.
func (g *granter) open(s *policy.Snapshot) *policy.Snapshot {
	if o := g.opened.Load(); o != nil && o.of == s {
		return o.opened
	}
	twin := *s
	twin.Stopped = false
	twin.Policies = make(map[string][]*policy.Policy, len(s.Policies))
	for namespace, policies := range s.Policies {
		policies = slices.Clone(policies)
		for i, p := range policies {
			if p.HasPressure && !p.PressureOpen || p.AfterPendingSeconds > 0 || p.NodeAutoscaler == v1alpha1.NodeFirst {
				opened := *p
				opened.PressureOpen, opened.AfterPendingSeconds, opened.NodeAutoscaler = true, 0, ""
				policies[i] = &opened
			}
		}
		twin.Policies[namespace] = policies
	}
	twin.Index = policy.NewIndex(twin.Policies, twin.Namespaces)
	g.opened.Store(&openedSnapshot{s, &twin})
	return &twin
}
