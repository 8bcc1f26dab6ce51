// Command autoburst-vnode is one virtual node: it registers the node, runs the
// pods that are bound to it as container groups of a cloud, and serves their
// logs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	certmanagerclient "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/typed/certmanager/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/cmd/startup"
	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/quota"
	"github.com/autoburst/autoburst/vnode"
)

// version is set by the linker.
var version = "v0.0.0-dev"

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	o, err := parse(args, getenv, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		complain(stderr, err)
		return 2
	case o.version:
		_, _ = fmt.Fprintln(stdout, version)
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	var handler slog.Handler = slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: o.logLevel})
	if o.logFormat == "text" {
		handler = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: o.logLevel})
	}
	log := slog.New(handler)
	slog.SetDefault(log)
	klog.SetSlogLogger(log)
	vnode.UseLibraryLogger(log)

	if err := serve(ctx, o, getenv, log); err != nil {
		complain(stderr, err)
		return 1
	}
	return 0
}

// complain prints each line of an error as a line of its own.
func complain(w io.Writer, err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintf(w, "autoburst-vnode: %s\n", line)
	}
}

func serve(ctx context.Context, o options, getenv func(string) string, log *slog.Logger) error {
	newProvider, err := cloudOf(o, getenv, log)
	if err != nil {
		return err
	}
	listener, err := startup.Listen(ctx, o.kubeletAt)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	var metrics net.Listener // nil where none is wanted
	if o.metricsAt.Value != "" {
		if metrics, err = startup.Listen(ctx, o.metricsAt); err != nil {
			return err
		}
		defer func() { _ = metrics.Close() }()
	}
	config, err := startup.Config(o.kubeconfig)
	if err != nil {
		return err
	}
	config.UserAgent = "autoburst-vnode/" + version
	found, err := startup.Check(ctx, config, o.needs())
	if errors.Is(err, context.Canceled) {
		return nil // told to stop
	} else if err != nil {
		return err
	}
	config, client, err := newClient(config)
	if err != nil {
		return err
	}
	if o.api.CertManager.RequestName != "" {
		if o.api.CertManager.Requests, err = newCertificateRequests(config, o.config.Namespace); err != nil {
			return err
		}
	}
	o.config.Node.KubeletVersion = found.GitVersion + "-autoburst-" + version
	if o.config.ClusterUID == "" {
		if err := startup.Ask(ctx, config, func(ctx context.Context) error {
			ns, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
			if err == nil {
				o.config.ClusterUID = string(ns.UID)
			}
			return err
		}, nil); errors.Is(err, context.Canceled) {
			return nil // told to stop
		} else if err != nil {
			return err
		}
	}

	provider, err := newProvider(o.config.ClusterUID, o.config.Node.Name)
	if err != nil {
		return err
	}
	tracer, stopTracing, err := startTracing(ctx, o, log)
	if err != nil {
		return err
	}
	defer stopTracing()
	o.config.Tracer = tracer
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	ours := prometheus.WrapRegistererWith(metric.OfAgent(o.config.Node.Name, provider.Name()), registry)
	if err := metric.BuildInfo(version).Register(ours); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	agent, err := vnode.New(o.config, client, provider, clock.RealClock{}, log, vnode.NewMetrics(ours))
	if err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var first error
	var once sync.Once
	// Whichever part ends first ends the others.
	part := func(f func(context.Context) error) {
		wg.Go(func() {
			defer cancel()
			if err := f(ctx); err != nil {
				once.Do(func() { first = err })
			}
		})
	}
	part(agent.Run)
	part(func(ctx context.Context) error { return agent.ServeAPI(ctx, listener, o.api) })
	if metrics != nil {
		part(func(ctx context.Context) error { return serveMetrics(ctx, metrics, registry, agent) })
	}
	log.Info("virtual node started", "node", o.config.Node.Name, "provider", provider.Name(), "version", version, "cluster", o.config.ClusterUID)
	wg.Wait()
	log.Info("virtual node stopped", "node", o.config.Node.Name)
	return first
}

// newClient makes a client without a rate of its own: the API server's priority
// and fairness is the judge of what is too much.
func newClient(config *rest.Config) (*rest.Config, kubernetes.Interface, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	config.Timeout = 0 // watches last; every other call has a bound of its own
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.Wrap(vnode.PermitTransport)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return config, client, nil
}

// newCertificateRequests makes a client of cert-manager's requests in a namespace.
func newCertificateRequests(config *rest.Config, namespace string) (vnode.CertificateRequests, error) {
	config = rest.CopyConfig(config)
	// Custom resources have no other form.
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	client, err := certmanagerclient.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of cert-manager: %w", err)
	}
	return client.CertificateRequests(namespace), nil
}

// cloudOf reads a cloud's settings, so that wrong ones show before anything is
// asked for, and returns what makes its provider.
func cloudOf(o options, getenv func(string) string, log *slog.Logger) (func(clusterUID, nodeName string) (providers.Provider, error), error) {
	switch o.cloud {
	case "eci":
		config, err := eci.ConfigFromEnv(getenv)
		if err != nil {
			return nil, err
		}
		config.Waived, config.Version = o.waived, version
		if config.Quota, err = quota.New(config.Plan(), o.quota, clock.RealClock{}, log); err != nil {
			return nil, err
		}
		return func(clusterUID, nodeName string) (providers.Provider, error) {
			config.ClusterUID, config.NodeName = clusterUID, nodeName
			return eci.New(config)
		}, nil
	case "aci":
		config, err := aci.ConfigFromEnv(getenv)
		if err != nil {
			return nil, err
		}
		config.Waived, config.Version = o.waived, version
		if config.Quota, err = quota.New(config.Plan(), o.quota, clock.RealClock{}, log); err != nil {
			return nil, err
		}
		return func(clusterUID, nodeName string) (providers.Provider, error) {
			config.ClusterUID, config.NodeName = clusterUID, nodeName
			return aci.New(config)
		}, nil
	}
	return nil, fmt.Errorf("provider %q is not known", o.cloud)
}

func serveMetrics(ctx context.Context, listener net.Listener, registry *prometheus.Registry, agent *vnode.Agent) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !agent.Ready() {
			http.Error(w, "the pods, the cloud's groups or the leader are not known yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics on %s: %w", listener.Addr(), err)
	}
	return nil
}
