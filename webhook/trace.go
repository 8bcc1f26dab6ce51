package webhook

import (
	"context"
	"maps"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/tracing"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// begin starts the span of a request, in the trace of the API server where that sends
// one.
func (h *handler) begin(r *http.Request) (context.Context, trace.Span) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	return h.tracer.Start(ctx, "admission of "+string(h.hook), trace.WithSpanKind(trace.SpanKindServer))
}

// traceRequest says whose request it was and, where it failed open, why. It says
// nothing of what the object holds.
func traceRequest(span trace.Span, req *admissionv1.AdmissionRequest, failed error) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("k8s.namespace.name", req.Namespace), attribute.String("k8s.object.name", req.Name),
		attribute.String("admission.uid", string(req.UID)), attribute.Bool("admission.dry_run", req.DryRun != nil && *req.DryRun))
	if failed != nil {
		c := causeOf(failed)
		span.SetAttributes(attribute.String("autoburst.failed_open", string(c)))
		span.SetStatus(codes.Error, sentences[c])
	}
}

// traceDecision says on the context's span what was decided.
func traceDecision(ctx context.Context, d policy.Decision) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(
			attribute.String("autoburst.action", string(d.Action)), attribute.String("autoburst.reason", string(d.Reason)),
			attribute.String("autoburst.policy", d.By.String()), attribute.String("autoburst.mode", string(d.Mode)))
	}
}

// carryTrace lets a pod carry the trace of its admission, if that is recorded. A trace
// that it carries already stays, so that a second admission changes nothing.
func carryTrace(ctx context.Context, pod *corev1.Pod) *corev1.Pod {
	text := tracing.Carried(ctx)
	if text == "" || pod == nil || pod.Annotations[v1alpha1.TraceparentAnnotation] != "" {
		return pod
	}
	carrying := *pod
	carrying.Annotations = maps.Clone(pod.Annotations)
	if carrying.Annotations == nil {
		carrying.Annotations = map[string]string{}
	}
	carrying.Annotations[v1alpha1.TraceparentAnnotation] = text
	return &carrying
}
