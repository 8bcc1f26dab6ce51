package providers

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Traced begins a span for one call to a cloud, under the context's span. What it
// returns ends it. Where the context's span is not recorded it does nothing.
func Traced(ctx context.Context, cloud, operation string) (context.Context, func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := parent.TracerProvider().Tracer("github.com/autoburst/autoburst/providers").Start(ctx, operation,
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("rpc.system", cloud), attribute.String("rpc.method", operation)))
	return ctx, func(err error) {
		var e *Error
		if errors.As(err, &e) {
			// Not the message: it is for people, and the log has it.
			span.SetAttributes(attribute.String("error.type", string(e.Class)), attribute.String("cloud.error.code", e.Code))
			TraceRequest(ctx, e.RequestID)
		}
		if err != nil {
			span.SetStatus(codes.Error, string(ClassOf(err)))
		}
		span.End()
	}
}

// TraceRequest notes on the context's span what the cloud calls the request, which
// is what its support asks for.
func TraceRequest(ctx context.Context, id string) {
	if span := trace.SpanFromContext(ctx); id != "" && span.IsRecording() {
		span.SetAttributes(attribute.String("cloud.request_id", id))
	}
}
