package providers

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestTraced(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracer := trace.NewTracerProvider(trace.WithSyncer(exporter)).Tracer("test")
	for name, test := range map[string]struct {
		err  error
		want map[string]string
	}{
		"a success": {nil, map[string]string{"rpc.system": "eci", "rpc.method": "Create", "cloud.request_id": "R-1"}},
		"a refusal": {&Error{Class: OutOfStock, Code: "NoStock", Message: "of a kind", RequestID: "R-2"},
			map[string]string{"rpc.system": "eci", "rpc.method": "Create", "cloud.request_id": "R-2", "error.type": "OutOfStock", "cloud.error.code": "NoStock"}},
		"an error of ours": {errors.New("nobody knows"), map[string]string{"rpc.system": "eci", "rpc.method": "Create"}},
	} {
		t.Run(name, func(t *testing.T) {
			exporter.Reset()
			ctx, parent := tracer.Start(t.Context(), "create container group")
			ctx, ended := Traced(ctx, "eci", "Create")
			if test.err == nil {
				TraceRequest(ctx, "R-1")
			}
			ended(test.err)
			parent.End()
			span := exporter.GetSpans()[0]
			got := map[string]string{}
			for _, a := range span.Attributes {
				got[string(a.Key)] = a.Value.AsString()
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("attributes (-want +got):\n%s", diff)
			}
			if span.Parent.SpanID() != parent.SpanContext().SpanID() || (span.Status.Description != "") != (test.err != nil) {
				t.Errorf("span %+v", span)
			}
		})
	}

	ctx, ended := Traced(t.Context(), "eci", "Create")
	ended(nil)
	if ctx != t.Context() {
		t.Error("a context without a trace is changed")
	}
}
