package main

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/autoburst/autoburst/policy/controller"
	"github.com/autoburst/autoburst/policy/limits"
	"github.com/autoburst/autoburst/policy/shares"
	"github.com/autoburst/autoburst/policy/store"
)

// attachLimits makes what holds this replica's shares of limits, and what it
// needs to keep the ledger of them when it is elected. The ledger has a cache of
// its own, as the switch has: limits that cannot be read must stop grants under
// limits and nothing else.
func attachLimits(ctx context.Context, mgr manager.Manager, cfg *rest.Config, o options, view *store.Store) (*shares.Replica, *controller.LimitOptions, error) {
	clients, err := kubernetes.NewForConfigAndClient(cfg, mgr.GetHTTPClient())
	if err != nil {
		return nil, nil, fmt.Errorf("making a client: %w", err)
	}
	held := shares.New(shares.Options{
		Name: o.replica, View: view, Leases: clients.CoordinationV1().Leases(o.namespace), Logger: mgr.GetLogger().WithName("shares"),
	})
	options := shares.CacheOptions(o.namespace, o.ledgerName)
	options.Scheme, options.Mapper, options.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	ledgers, err := cache.New(cfg, options)
	if err != nil {
		return nil, nil, fmt.Errorf("making the cache of the ledger: %w", err)
	}
	if err := held.Attach(ctx, ledgers, o.namespace, o.ledgerName); err != nil {
		return nil, nil, err
	}
	if err := mgr.Add(everyReplica{ledgers}); err != nil {
		return nil, nil, fmt.Errorf("adding the cache of the ledger: %w", err)
	}
	heartbeats := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(o.namespace),
		informers.WithTweakListOptions(func(l *metav1.ListOptions) { l.LabelSelector = limits.HeartbeatLabel }))
	return held, &controller.LimitOptions{
		ConfigMaps: clients.CoreV1().ConfigMaps(o.namespace), Leases: clients.CoordinationV1().Leases(o.namespace),
		Heartbeats: heartbeats.Coordination().V1().Leases().Informer(),
		Ledger:     o.ledgerName, Live: mgr.GetAPIReader(), Replica: held.Name(),
	}, nil
}
