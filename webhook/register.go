package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
)

// The paths at which Register serves.
const (
	// PodsPath answers for pods being created.
	PodsPath = "/mutate-pods"
	// NamespacesPath answers for namespaces being created or updated.
	NamespacesPath = "/mutate-namespaces"
	// BindingsPath answers for pods being bound to nodes.
	BindingsPath = "/mutate-bindings"
)

// Defaults of Options.
const (
	// DefaultDeadline is half of the 2 s for which the API server waits, so that
	// an answer that is given up still arrives, with its warning.
	DefaultDeadline = time.Second
	// DefaultMaxInFlight is far above what an API server sends at once; it bounds
	// the goroutines that rules which never return could leave behind.
	DefaultMaxInFlight = 512
)

// Snapshotter gives the facts that decisions are made from.
type Snapshotter interface {
	// Snapshot is the latest state of the cluster. It must not block.
	Snapshot() *policy.Snapshot
	// Synced is true once Snapshot is complete for the first time.
	Synced() bool
}

// Shares are this replica's parts of the limits that are in force.
type Shares interface {
	// Take takes all charges or nothing, in memory. The stamp is written on the pod.
	Take(charges []policy.Charge) (stamp string, ok bool)
}

// Server serves HTTP handlers by path, as the webhook server of
// controller-runtime does.
type Server interface {
	Register(path string, hook http.Handler)
}

// Options are what the handlers need.
type Options struct {
	// Snapshots is required.
	Snapshots Snapshotter
	// Pods are required.
	Pods PendingPods
	// Shares let pods be granted under limits; without them the controller grants
	// such pods late.
	Shares Shares
	// Excluded are namespaces that are never served, beside those of Kubernetes; the
	// one that Autoburst itself runs in belongs here.
	Excluded []string
	// Registerer gets the metrics of this package. Required.
	Registerer prometheus.Registerer
	// Tracer makes a span of every request. Nil traces nothing and costs nothing.
	Tracer trace.Tracer
	// Logger gets one line for every request that failed open. The zero value
	// logs nothing.
	Logger logr.Logger
	// Clock defaults to the real one.
	Clock clock.WithTicker
	// Deadline is how long one request may take before its object is admitted
	// unchanged, at most three quarters of what the API server says it waits.
	// Defaults to DefaultDeadline.
	Deadline time.Duration
	// MaxInFlight is how many requests may be worked on at once, per handler; one
	// more is admitted unchanged at once. Defaults to DefaultMaxInFlight.
	MaxInFlight int
}

// Register adds the handlers for pods, namespaces and bindings to a server. It fails only
// when an option is missing or the metrics are registered already.
func Register(server Server, o Options) error {
	if o.Snapshots == nil || o.Pods == nil || o.Registerer == nil {
		return errors.New("registering the webhook: Snapshots, Pods and Registerer are required")
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Deadline <= 0 {
		o.Deadline = DefaultDeadline
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	m := newMetrics()
	if err := m.set.Register(o.Registerer); err != nil {
		return fmt.Errorf("registering the webhook: %w", err)
	}

	pods := &podHook{snapshots: o.Snapshots, evaluate: policy.Evaluate, inject: policy.Inject, shares: o.Shares}
	server.Register(PodsPath, newHandler(hookPods, pods.mutate, o, m))
	namespaces := &namespaceHook{excluded: policy.ExcludedNamespaces(o.Excluded...)}
	server.Register(NamespacesPath, newHandler(hookNamespaces, namespaces.mutate, o, m))
	bindings := &bindingHook{snapshots: o.Snapshots, pods: o.Pods, clock: o.Clock, stamp: policy.Stamp}
	server.Register(BindingsPath, newHandler(hookBindings, bindings.mutate, o, m))
	return nil
}

// ReadyCheck is a readiness check that fails until the snapshots are complete,
// so that no request is routed to a replica that could only fail open.
func ReadyCheck(s Snapshotter) func(*http.Request) error {
	return func(*http.Request) error {
		if !s.Synced() {
			return errors.New("the caches of the webhook are not synced yet")
		}
		return nil
	}
}
