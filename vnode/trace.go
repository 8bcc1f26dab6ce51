package vnode

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/tracing"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// traced begins a span in the trace that a pod carries, if it carries one.
func (r *reconciler) traced(ctx context.Context, pod *corev1.Pod, name string, options ...trace.SpanStartOption) (context.Context, trace.Span) {
	ctx, span := tracing.Continue(ctx, r.cfg.Tracer, pod.Annotations[v1alpha1.TraceparentAnnotation], name, options...)
	if span.IsRecording() {
		// Names and identities only: no environment, no argument, no volume.
		span.SetAttributes(
			attribute.String("k8s.namespace.name", pod.Namespace), attribute.String("k8s.pod.name", pod.Name), attribute.String("k8s.pod.uid", string(pod.UID)),
			attribute.String("k8s.node.name", r.cfg.Node.Name), attribute.String("cloud.provider", r.provider.Name()))
	}
	return ctx, span
}

// endTraced ends a span with the class of its error.
func endTraced(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, string(providers.ClassOf(err)))
	}
	span.End()
}

// traceStart tells of a pod's whole start on the node, once it runs.
func (r *reconciler) traceStart(pod *corev1.Pod, group string, bound, running time.Time) {
	_, span := r.traced(context.Background(), pod, "start on virtual node", trace.WithTimestamp(bound))
	span.SetAttributes(attribute.String("autoburst.group", group))
	span.End(trace.WithTimestamp(running))
}
