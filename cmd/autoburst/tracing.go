package main

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/trace"

	"github.com/autoburst/autoburst/policy/tracing"
)

// lastSpans is how long the last spans have to reach the collector.
const lastSpans = 2 * time.Second

// startTracing returns what makes spans, nil where nothing is traced, and what ends it.
func startTracing(ctx context.Context, o options, logger logr.Logger) (trace.Tracer, func(), error) {
	t := o.tracing
	t.Service, t.Version, t.Instance = "autoburst", version, o.replica
	t.Warn = func(err error) {
		logger.Info("Traces are lost: the collector does not take them", "error", err.Error())
	}
	tracer, stop, err := tracing.Start(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	return tracer, func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSpans)
		defer cancel()
		_ = stop(last) // what is not told by then is lost
	}, nil
}
