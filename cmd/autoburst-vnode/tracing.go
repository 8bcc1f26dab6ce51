package main

import (
	"context"
	"log/slog"
	"time"

	vktrace "github.com/virtual-kubelet/virtual-kubelet/trace"
	"github.com/virtual-kubelet/virtual-kubelet/trace/opentelemetry"
	"go.opentelemetry.io/otel/trace"

	"github.com/autoburst/autoburst/policy/tracing"
)

// lastSpans is how long the last spans have to reach the collector.
const lastSpans = 2 * time.Second

// startTracing returns what makes spans, nil where nothing is traced, and what ends
// it. The library's own spans, of its node controller and of requests to the kubelet
// API, go the same way.
func startTracing(ctx context.Context, o options, log *slog.Logger) (trace.Tracer, func(), error) {
	t := o.tracing
	t.Service, t.Version, t.Instance = "autoburst-vnode", version, o.config.Node.Name
	t.Warn = func(err error) { log.Warn("traces are lost: the collector does not take them", "error", err) }
	tracer, stop, err := tracing.Start(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	if tracer != nil {
		vktrace.T = opentelemetry.Adapter{}
	}
	return tracer, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		_ = stop(last) // what is not told by then is lost
	}, nil
}
