// Package controller is the part of the policy side that writes: one elected
// replica grants unschedulable pods their toleration, measures the pressure on
// policies, keeps their status, and labels the namespaces that are served. It
// decides by package policy on the facts of package store, as the webhook does.
package controller

import (
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrl "sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
)

// DefaultWorkers is how many grants are written at once: enough to hide the
// latency of the API server at hundreds of grants per second.
const DefaultWorkers = 16

// Bounds of the delay before a grant that failed is tried again.
const (
	retryMin = 50 * time.Millisecond
	retryMax = 30 * time.Second
)

// View is the controller's view of the cluster; a store.Store is one.
type View interface {
	// Snapshot is the newest view for the rules. It must not block.
	Snapshot() *policy.Snapshot
	// LocalNodes are the ready local nodes with their room, not to be changed.
	LocalNodes() []*policy.LocalNode
	// Pending is the newest state of a pod without a node, not to be changed.
	Pending(uid types.UID) (*corev1.Pod, bool)
	// LeaseGap is for how long nobody was at work before the present controller;
	// negative where that is not known.
	LeaseGap() time.Duration
	// Pods are the unfinished pods of a namespace, not to be changed.
	Pods(namespace string) []*corev1.Pod
	// PendingPods are the pods that have no node, not to be changed.
	PendingPods() []*corev1.Pod
	// Workloads are as of the newest events.
	policy.Workloads
	// PodChanges counts pod events.
	PodChanges() uint64
	// PodVersion is the largest resourceVersion of a pod that was seen.
	PodVersion() uint64
	// IsLocal tells whether a node exists and is not virtual.
	IsLocal(node string) bool
	// SubscribePods tells a listener of all pods until the returned function is
	// called.
	SubscribePods(l store.PodListener) (cancel func())
	// Subscribe tells a listener of changes until the returned function is called.
	Subscribe(l store.Listener) (cancel func())
}

// Options of the controller.
type Options struct {
	// View is required.
	View View
	// Client reads policies, from a cache, and writes. It should not limit its own
	// rate: the API server does. Required.
	Client client.Client
	// Live reads from the API server itself: pods, as the cache keeps a part of them
	// only, and events. Required.
	Live client.Reader
	// Recorder writes events. Required.
	Recorder events.EventRecorder
	// Registerer gets the metrics of this package. Required.
	Registerer prometheus.Registerer
	// Admission is nil where a webhook admits pods.
	Admission *Admission
	// Workers is how many grants are written at once. Zero means DefaultWorkers.
	Workers int
	// Limits lets grants be made under limits; without it they wait.
	Limits *LimitOptions
	// Tracer makes a span of the grant of a pod that carries a trace. Nil traces
	// nothing.
	Tracer trace.Tracer
	// Clock measures waits. Nil means the real clock.
	Clock clock.Clock
}

// AddTo adds everything that the elected replica does to a manager.
func AddTo(mgr manager.Manager, o Options) error {
	p, err := newParts(o)
	if err != nil {
		return err
	}
	workers := o.Workers
	if workers <= 0 {
		workers = DefaultWorkers
	}
	c, err := ctrl.NewTyped("late-grant", mgr, ctrl.TypedOptions[store.PodKey]{
		Reconciler:              p.granter,
		MaxConcurrentReconciles: workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[store.PodKey](retryMin, retryMax),
		LogConstructor: func(key *store.PodKey) logr.Logger {
			l := mgr.GetLogger().WithValues("controller", "late-grant")
			if key != nil {
				l = l.WithValues("namespace", key.Namespace, "pod", key.Name)
			}
			return l
		},
	})
	if err != nil {
		return fmt.Errorf("making the late-grant controller: %w", err)
	}
	if err := c.Watch(source.TypedFunc[store.PodKey](p.granter.feed)); err != nil {
		return fmt.Errorf("feeding the late-grant controller: %w", err)
	}
	runnables := []manager.Runnable{p.observer, p.served, p.stamper, p.sweeper, p.repatriator}
	if o.Limits != nil {
		runnables = append(runnables, p.keeper)
	}
	if p.admission != nil {
		runnables = append(runnables, p.admission)
	}
	for _, r := range runnables {
		if err := mgr.Add(r); err != nil {
			return fmt.Errorf("adding %T: %w", r, err)
		}
	}
	return nil
}

// parts are what runs on the elected replica.
type parts struct {
	granter  *granter
	keeper   *keeper
	observer *observer
	served   *served
	stamper  *stamper
	// admission is nil where a webhook admits pods.
	admission *admission
	// sweeper runs on every replica.
	sweeper *sweeper
	// repatriator moves pods back.
	repatriator *repatriator
}

func newParts(o Options) (*parts, error) {
	if o.View == nil || o.Client == nil || o.Live == nil || o.Recorder == nil || o.Registerer == nil {
		return nil, fmt.Errorf("making the policy controller: View, Client, Live, Recorder and Registerer are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	m := newMetrics(func() bool { return o.View.Snapshot().Stopped }, func() bool { return o.View.Snapshot().ControllerLive })
	m.nodes = func() map[string]float64 { return readiness(o.View.Snapshot().VirtualNodes) }
	if err := m.register(o.Registerer); err != nil {
		return nil, fmt.Errorf("registering the metrics of the policy controller: %w", err)
	}
	tell := newTeller(o.Recorder, o.Clock)
	gates := newGates(o.Clock)
	w := newWaiting(o.Clock, m, gates)
	rules := newBell()
	k := newKeeper(o, w, m)
	p := &parts{
		keeper: k,
		granter: &granter{
			view: o.View, writes: o.Client, budgets: newBudgets(o.View, o.Live, o.Clock), limits: k, waiting: w, tell: tell, metrics: m, clock: o.Clock,
			gates: gates, autoscalers: newAutoscalers(o.Live, o.Clock), tracer: o.Tracer,
		},
		observer: &observer{
			limits: k,
			view:   o.View, reads: o.Client, writes: o.Client.Status(), waiting: w, tell: tell, metrics: m, clock: o.Clock,
			rules: rules, outcomes: newOutcomes(o.Clock, rules, m), limit: flowcontrol.NewTokenBucketRateLimiterWithClock(statusPerSecond, statusBurst, limiterClock{o.Clock}),
			pressure: make(map[types.UID]policy.Pressure),
		},
		served:  &served{view: o.View, writes: o.Client, clock: o.Clock, bell: newBell()},
		stamper: &stamper{view: o.View, live: o.Live, writes: o.Client, metrics: m, clock: o.Clock, bell: newBell()},
		sweeper: &sweeper{reads: o.Live, writes: o.Client, clock: o.Clock},

		repatriator: newRepatriator(o, tell, m),
	}
	if o.Admission != nil {
		p.admission = &admission{options: *o.Admission, view: o.View, writes: o.Client, clock: o.Clock, bell: newBell()}
	}
	return p, nil
}
