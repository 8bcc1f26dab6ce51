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
	"time"

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

	Node     NodeSettings
	Resolver ResolverSettings

	// Workers is how many pods are worked on at once; 50 by default.
	Workers int
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
	// LogInterval is how often a followed log is asked for again; 1 s by
	// default.
	LogInterval time.Duration
}

func orDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.Workers, 50)
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
	c.Node = c.Node.withDefaults()
	c.Resolver = c.Resolver.withDefaults()
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
		{"check interval", c.CheckInterval}, {"log interval", c.LogInterval},
		{"refusal grace", c.RefusalGrace}, {"capacity pause", c.CapacityPause},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %s, must be above zero", d.name, d.value))
		}
	}
	return errors.Join(append(errs, c.Node.validate())...)
}

// Agent runs one virtual node.
type Agent struct {
	cfg      Config
	client   kubernetes.Interface
	provider providers.Provider
	clock    clock.WithTicker
	log      *slog.Logger

	pods       *podCache
	events     *eventSink
	keeper     *nodeKeeper
	reconciler *reconciler
	metrics    *Metrics
}

// New makes an agent; it does nothing before [Agent.Run]. The client should not
// be rate limited below what Workers can use.
func New(cfg Config, client kubernetes.Interface, provider providers.Provider,
	clk clock.WithTicker, log *slog.Logger, metrics *Metrics,
) (*Agent, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("virtual node %q: %w", cfg.Node.Name, err)
	}
	a := &Agent{cfg: cfg, client: client, provider: provider, clock: clk, log: log, metrics: metrics}
	a.pods = newPodCache(client, cfg.Node.Name)
	a.events = newEventSink(client, cfg.Node.Name, clk, log, metrics)
	a.keeper = newNodeKeeper(cfg, client, provider, clk, log, a.pods, metrics)
	a.reconciler = newReconciler(cfg, client, provider, a.pods, a.events, a.keeper, clk, log, metrics)
	return a, nil
}

// Run registers the node and runs its pods until ctx ends. It then finishes the
// calls that are under way, so that no create is left with an unknown outcome,
// and returns nil. The Node object and the groups stay: the next run adopts
// them.
func (a *Agent) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	wg.Go(func() { a.events.run(ctx) })
	wg.Go(func() { a.pods.run(ctx) })
	wg.Go(func() { a.keeper.run(ctx) })
	a.reconciler.run(ctx)
	return nil
}

// Ready tells whether the agent knows its pods and the cloud's groups, so that
// it does its work.
func (a *Agent) Ready() bool { return a.reconciler.adopted.Load() && a.keeper.registered() }

// Pods returns the pods that are bound to the node. The caller must not change
// them.
func (a *Agent) Pods() []*corev1.Pod { return a.pods.list() }
