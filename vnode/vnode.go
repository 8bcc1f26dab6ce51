// Package vnode is one virtual node: a Node object whose pods run as container
// groups in a cloud.
//
// The node object, its lease and the kubelet API are served with the
// virtual-kubelet library. The pods are not: the library's pod controller knows
// a pod by its name and acts on single events, so that a lost watch event or a
// lost answer of the cloud is a leaked or a doubled container group. Here a
// level-triggered reconciler compares what the API server wants, by pod UID,
// with what the cloud lists, by ownership tags.
package vnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

// Config is what one virtual node is and how hard it works. The zero value of
// an interval or a count means its default.
type Config struct {
	// ClusterUID is the UID of the kube-system namespace: with the node's name,
	// what the ownership tags of a group hold.
	ClusterUID string

	// Tracer makes spans of the start of pods that carry a trace. Nil traces nothing.
	Tracer trace.Tracer

	Node     NodeSettings
	Resolver ResolverSettings
	Election ElectionSettings

	// Namespace is that of the release, where agents that use the same cloud
	// account find each other and share its request quotas out. Empty, the agent
	// uses them all.
	Namespace string

	// Workers is how many pods are worked on at once; 50 by default.
	Workers int
	// Writers is how many groups are created, and how many are deleted, at once,
	// beside what the Workers do; 100 by default. With the 200 ms that a create
	// takes, that is 500 a second: the cloud's quota bounds them, not this.
	Writers int
	// SweepInterval is the time between two listings of the cloud; 10 s by
	// default.
	SweepInterval time.Duration
	// FastInterval is the shortest time between two looks at a group that is
	// starting, changing or ending; 2 s by default.
	FastInterval time.Duration
	// ReadsPerSecond bounds the reads of single groups that the agent plans in
	// the long run; 12 by default, half of what Azure Resource Manager refills.
	ReadsPerSecond float64
	// RetryBase and RetryMax bound the back-off after a failed call for one pod;
	// 1 s and 60 s by default.
	RetryBase, RetryMax time.Duration
	// MissingInterval is how often a pod whose ConfigMap or Secret is missing is
	// tried again; 3 s by default.
	MissingInterval time.Duration
	// CallTimeout bounds one call to the cloud or to the API server; 60 s by
	// default. A call that is under way when the agent is told to stop is
	// finished within it.
	CallTimeout time.Duration
	// CheckInterval is the time between two checks of the cloud's health; 10 s
	// by default.
	CheckInterval time.Duration
	// RefusalGrace is for how long, and Refusals how often at least, the cloud must
	// have refused a pod for want of room before the pod is failed so that its owner
	// replaces it elsewhere; 10 s and 3 by default. A shortage that is shorter only
	// delays the pod.
	RefusalGrace time.Duration
	Refusals     int
	// CapacityPause is how long after the last such refusal the node says that its
	// cloud has no room; 2 min by default. Where the cloud accepts a pod in between,
	// a quarter of it. It should be longer than RetryMax, or pods that wait in place
	// make the node's word change to and fro.
	CapacityPause time.Duration
	// LogInterval is how often a followed log is asked for again, and how soon a
	// stream to a pod ends after the pod; 1 s by default.
	LogInterval time.Duration
	// StreamIdle is how long a connection of kubectl exec, attach or port-forward may
	// be silent; 4 h by default, as with the kubelet.
	StreamIdle time.Duration
	// LogRetention is how long the group of a pod that has ended is kept for its
	// logs, unless the pod is deleted before; 24 h by default. The agent counts from
	// when it found the end.
	LogRetention time.Duration
}

func orDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.Workers, 50)
	orDefault(&c.Writers, 100)
	orDefault(&c.SweepInterval, 10*time.Second)
	orDefault(&c.FastInterval, 2*time.Second)
	orDefault(&c.ReadsPerSecond, 12)
	orDefault(&c.RetryBase, time.Second)
	orDefault(&c.RetryMax, time.Minute)
	orDefault(&c.MissingInterval, 3*time.Second)
	orDefault(&c.CallTimeout, time.Minute)
	orDefault(&c.CheckInterval, 10*time.Second)
	orDefault(&c.RefusalGrace, 10*time.Second)
	orDefault(&c.Refusals, 3)
	orDefault(&c.CapacityPause, 2*time.Minute)
	orDefault(&c.LogInterval, time.Second)
	orDefault(&c.StreamIdle, 4*time.Hour)
	orDefault(&c.LogRetention, 24*time.Hour)
	c.Node = c.Node.withDefaults()
	c.Resolver = c.Resolver.withDefaults()
	c.Election = c.Election.withDefaults()
	return c
}

func (c Config) validate() error {
	var errs []error
	if c.ClusterUID == "" {
		errs = append(errs, errors.New("the cluster's UID is empty"))
	}
	if c.Workers < 1 {
		errs = append(errs, fmt.Errorf("workers is %d, must be at least 1", c.Workers))
	}
	if c.Writers < 1 {
		errs = append(errs, fmt.Errorf("writers is %d, must be at least 1", c.Writers))
	}
	if c.Refusals < 1 {
		errs = append(errs, fmt.Errorf("refusals is %d, must be at least 1", c.Refusals))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"sweep interval", c.SweepInterval}, {"fast interval", c.FastInterval},
		{"retry base", c.RetryBase}, {"retry maximum", c.RetryMax},
		{"missing interval", c.MissingInterval}, {"call timeout", c.CallTimeout},
		{"check interval", c.CheckInterval}, {"log interval", c.LogInterval}, {"log retention", c.LogRetention}, {"stream idle time", c.StreamIdle},
		{"refusal grace", c.RefusalGrace}, {"capacity pause", c.CapacityPause},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %s, must be above zero", d.name, d.value))
		}
	}
	return errors.Join(append(errs, c.Node.validate(), c.Election.validate())...)
}

// Agent runs one virtual node, alone or as one of several replicas of which one
// leads.
type Agent struct {
	cfg      Config
	client   kubernetes.Interface
	provider providers.Provider
	clock    clock.WithTicker
	log      *slog.Logger

	// These are kept whether the agent leads or not, so that a new leader knows its
	// pods.
	pods    *podCache
	events  *eventSink
	metrics *Metrics
	hold    atomic.Pointer[hold]
	// present is the work of the leader, nil in an agent that does not lead.
	present atomic.Pointer[term]
}

// term is the work of an agent from when it begins to lead until it ends. It knows
// nothing of terms before.
type term struct {
	keeper     *nodeKeeper
	reconciler *reconciler
	measurer   *measurer
	over       <-chan struct{} // closed when it ends
}

// New makes an agent; it does nothing before [Agent.Run]. The client should not
// be rate limited below what Workers can use, and hold back writes that are not
// permitted any more, see [PermitTransport].
func New(cfg Config, client kubernetes.Interface, provider providers.Provider,
	clk clock.WithTicker, log *slog.Logger, metrics *Metrics,
) (*Agent, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("virtual node %q: %w", cfg.Node.Name, err)
	}
	return &Agent{
		cfg: cfg, client: client, provider: provider, clock: clk, log: log, metrics: metrics,
		pods:   newPodCache(client, cfg.Node.Name),
		events: newEventSink(client, cfg.Node.Name, clk, log, metrics),
	}, nil
}

// Run registers the node and runs its pods until ctx ends; where replicas elect
// one, while this one leads. It then finishes the calls that are under way, so that
// no create is left with an unknown outcome, gives its Lease up and returns nil. The
// Node object and the groups stay: the next leader adopts them.
func (a *Agent) Run(ctx context.Context) error {
	// What the last calls have to tell is told.
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { a.events.run(around) })
	wg.Go(func() { a.pods.run(around) })
	if a.cfg.Election.enabled() {
		return a.stand(ctx)
	}
	a.work(ctx, context.WithoutCancel(ctx))
	return nil
}

// work keeps the node and runs its pods until ctx ends, finishes what is under way,
// and lets go of the node last: its lease is renewed as long as anything is done. It
// breaks off as soon as lead ends.
func (a *Agent) work(ctx, lead context.Context) {
	working, halt := context.WithCancel(lead)
	defer context.AfterFunc(ctx, halt)()
	t := &term{over: working.Done(), keeper: newNodeKeeper(a.cfg, a.client, a.provider, a.clock, a.log, a.pods, a.metrics)}
	t.reconciler = newReconciler(a.cfg, a.client, a.provider, a.pods, a.events, t.keeper, t.keeper.circuit, t.keeper.pulse, a.clock, a.log, a.metrics)
	t.keeper.holding, t.keeper.recovered = t.reconciler.holding, t.reconciler.cloudIsBack
	t.measurer = newMeasurer(a.cfg, a.provider, t.reconciler)
	a.present.Store(t)
	defer a.present.Store(nil)
	a.metrics.leads.Set(1)
	defer a.metrics.standBy()

	keeping, let := context.WithCancel(lead)
	var wg sync.WaitGroup
	wg.Go(func() { t.keeper.run(keeping) })
	wg.Go(func() { t.measurer.run(working) })
	wg.Go(func() { newTeller(a.cfg, a.client, t.keeper, t.reconciler, a.clock, a.log).run(keeping) })
	if account := accountOf(a.provider); account != nil && a.cfg.Namespace != "" {
		account.Newcomer()
		s := newSharer(account, a.client.CoordinationV1().Leases(a.cfg.Namespace), a.cfg, a.clock, a.log, t.reconciler.reportDemand)
		wg.Go(func() { s.run(keeping, lead) })
	}
	t.reconciler.run(working, lead)
	halt()
	let()
	wg.Wait()
}

// Ready tells whether the agent does its work: as the leader, that it knows its pods
// and the cloud's groups and its node is registered; as another replica, that it
// knows its pods and follows the election, so that it could lead at once.
func (a *Agent) Ready() bool {
	if t := a.present.Load(); t != nil {
		return t.reconciler.adopted.Load() && t.keeper.registered()
	}
	h := a.hold.Load()
	if h == nil || !a.pods.synced() {
		return false
	}
	_, lately := h.state()
	return lately
}

// Pods returns the pods that are bound to the node. Those that have run lack what
// their group was made from, such as environment, probes and volumes. The caller
// must not change them.
func (a *Agent) Pods() []*corev1.Pod { return a.pods.list() }
