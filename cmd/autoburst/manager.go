package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/autoburst/autoburst/policy/shares"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/webhook"
)

const (
	// leaseName is the lease that elects the replica which writes.
	leaseName = "autoburst-controller"
	// shutdownTimeout is how long requests in flight have to end.
	shutdownTimeout = 5 * time.Second
)

// newManager makes the manager; getCertificate is called once the webhook serves.
func newManager(cfg *rest.Config, o options, logger logr.Logger, getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("making the scheme: %w", err)
	}
	mgr, err := manager.New(cfg, manager.Options{
		Scheme: scheme,
		Logger: logger,
		Cache:  store.CacheOptions(),
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{
			Host: o.webhookHost, Port: o.webhookPort,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.GetCertificate = getCertificate }},
		}),
		Metrics:                       metricsserver.Options{BindAddress: o.metricsAddress},
		HealthProbeBindAddress:        o.healthAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true, // the process ends with the manager
		GracefulShutdownTimeout:       ptr.To(shutdownTimeout),
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	return mgr, nil
}

// everyReplica makes a Runnable run on replicas that are not elected, too: a
// cache by itself does not say so.
type everyReplica struct{ manager.Runnable }

func (everyReplica) NeedLeaderElection() bool { return false }

// attachSwitch lets the view hear of the switch that stops all bursting. Its
// cache is not the manager's, which starts nothing while one of its informers
// cannot be filled.
func attachSwitch(ctx context.Context, mgr manager.Manager, cfg *rest.Config, o options, view *store.Store) error {
	options := store.SwitchCacheOptions(o.namespace, o.switchName)
	options.Scheme, options.Mapper, options.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	switches, err := cache.New(cfg, options)
	if err != nil {
		return fmt.Errorf("making the cache of the switch: %w", err)
	}
	if err := view.AttachSwitch(ctx, switches, o.namespace, o.switchName); err != nil {
		return err
	}
	if err := mgr.Add(everyReplica{switches}); err != nil {
		return fmt.Errorf("adding the cache of the switch: %w", err)
	}
	return nil
}

// attachLease lets the view hear whether there is an elected replica, where
// there are elections. Its cache is not the manager's, for the same reason.
func attachLease(ctx context.Context, mgr manager.Manager, cfg *rest.Config, o options, view *store.Store) error {
	if !o.leaderElect {
		return nil
	}
	options := store.LeaseCacheOptions(o.namespace, leaseName)
	options.Scheme, options.Mapper, options.HTTPClient = mgr.GetScheme(), mgr.GetRESTMapper(), mgr.GetHTTPClient()
	leases, err := cache.New(cfg, options)
	if err != nil {
		return fmt.Errorf("making the cache of the Lease: %w", err)
	}
	if err := view.AttachLease(ctx, leases, o.namespace, leaseName); err != nil {
		return err
	}
	if err := mgr.Add(everyReplica{leases}); err != nil {
		return fmt.Errorf("adding the cache of the Lease: %w", err)
	}
	return nil
}

// serveWebhook makes a replica answer the webhook, and ready only once it can.
func serveWebhook(mgr manager.Manager, o options, logger logr.Logger, tracer trace.Tracer, view *store.Store, serving certificate, held *shares.Replica) error {
	if err := webhook.Register(mgr.GetWebhookServer(), webhook.Options{
		Snapshots: view, Pods: view, Shares: held, Excluded: o.excluded(), Registerer: metrics.Registry, Logger: logger.WithName("webhook"), Tracer: tracer,
	}); err != nil {
		return err
	}
	for _, r := range []manager.Runnable{serving, held} {
		if err := mgr.Add(r); err != nil {
			return fmt.Errorf("adding %T: %w", r, err)
		}
	}
	return errors.Join(
		mgr.AddReadyzCheck("certificate", serving.Ready),
		mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()),
	)
}

// addChecks makes a replica ready once it sees the cluster.
func addChecks(mgr manager.Manager, view *store.Store) error {
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("caches", func(*http.Request) error { return view.Ready() }),
	)
}
