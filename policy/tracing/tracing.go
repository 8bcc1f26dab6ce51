// Package tracing sends OpenTelemetry spans of the programs to a collector, where an
// operator has named one. A trace follows one pod from the request that creates it to
// its running containers; the pod carries it from program to program in an annotation.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/utils/clock"
)

// DefaultRatio of the traces that begin here and are recorded.
const DefaultRatio = 0.01

const (
	// queued is how many spans wait for the collector; more are dropped.
	queued = 2048
	// exportTimeout bounds one try to hand spans over, tries everything after the first.
	exportTimeout = 5 * time.Second
	tries         = 30 * time.Second
	// quietFor is how long nothing is said of further failures.
	quietFor = 10 * time.Minute
)

// Options of Start.
type Options struct {
	// Endpoint is the base URL of a collector that takes OTLP over HTTP, such as
	// http://collector:4318; the path v1/traces is appended. Empty sends nothing.
	// Headers and certificates come from the variables of OpenTelemetry, such as
	// OTEL_EXPORTER_OTLP_HEADERS.
	Endpoint string
	// Ratio of the traces that begin here and are recorded, from 0 to 1. One that
	// another program has begun is recorded if that program records it.
	Ratio float64
	// Service, Version and Instance say whose spans they are.
	Service, Version, Instance string
	// Warn is told that spans cannot be handed over, seldom. Nil means nobody is.
	Warn func(error)
	// Clock measures how seldom. Nil means the real clock.
	Clock clock.PassiveClock
}

// Check says what is wrong with the options, in the words of the flags.
func (o Options) Check() error {
	if o.Endpoint != "" {
		if u, err := url.Parse(o.Endpoint); err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
			// Not the value: it may hold a password.
			return errors.New("--tracing-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) is no URL of a collector: write http://HOST:PORT or https://HOST:PORT, without user and password")
		}
	}
	if math.IsNaN(o.Ratio) || o.Ratio < 0 || o.Ratio > 1 {
		return fmt.Errorf("--tracing-sampling-ratio is %g: write a number from 0 to 1", o.Ratio)
	}
	return nil
}

// Start begins to send spans and returns what makes them, and what sends the last of
// them and ends, within the given context. Without an endpoint the tracer is nil.
//
// A collector that does not answer holds nothing up: spans wait in a queue that is
// bounded, and are dropped beyond it.
func Start(ctx context.Context, o Options) (trace.Tracer, func(context.Context) error, error) {
	if o.Endpoint == "" {
		return nil, func(context.Context) error { return nil }, nil
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	endpoint, err := url.JoinPath(o.Endpoint, "v1/traces")
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint), otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second, MaxInterval: 10 * time.Second, MaxElapsedTime: tries}))
	if err != nil {
		return nil, nil, fmt.Errorf("tracing: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(queued), sdktrace.WithBatchTimeout(time.Second), sdktrace.WithExportTimeout(tries)),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Ratio))),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Service), attribute.String("service.version", o.Version), attribute.String("service.instance.id", o.Instance))),
	)
	otel.SetErrorHandler(&seldom{clock: o.Clock, warn: o.Warn})
	otel.SetTracerProvider(provider) // for libraries that take it from there
	return provider.Tracer("github.com/autoburst/autoburst"), provider.Shutdown, nil
}

// seldom passes on the first failure, and then one in a while.
type seldom struct {
	clock clock.PassiveClock
	warn  func(error)

	mu   sync.Mutex
	last time.Time
}

func (s *seldom) Handle(err error) {
	s.mu.Lock()
	now := s.clock.Now()
	said := !s.last.IsZero() && now.Sub(s.last) < quietFor
	if !said {
		s.last = now
	}
	s.mu.Unlock()
	if !said && s.warn != nil {
		s.warn(err)
	}
}

const traceparent = "traceparent"

// Carried is what an annotation says of the trace that a context belongs to, empty
// where there is none, or none that is recorded.
func Carried(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// Continue begins a span in the trace that an annotation names. Without a tracer, or
// where the annotation names no trace that is recorded, the span does nothing.
func Continue(ctx context.Context, tracer trace.Tracer, annotation, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	if tracer == nil || annotation == "" {
		return ctx, trace.SpanFromContext(context.Background())
	}
	parent := propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: strings.TrimSpace(annotation)})
	if !trace.SpanContextFromContext(parent).IsSampled() {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return tracer.Start(parent, name, options...)
}
