package webhook

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	recorded   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unrecorded = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
)

func postTraced(t *testing.T, handler http.Handler, traceparent, body string) *admissionv1.AdmissionResponse {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte(body)))
	if traceparent != "" {
		r.Header.Set("Traceparent", traceparent)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return decodeAnswer(t, w.Code, w.Body.Bytes())
}

// TestTrace checks that a pod carries the trace of its admission if that is recorded,
// and that nothing of a pod is different otherwise.
func TestTrace(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	tracer := trace.NewTracerProvider(trace.WithSyncer(exporter), trace.WithSampler(trace.ParentBased(trace.NeverSample()))).Tracer("test")
	plain, _ := register(t, Options{})
	traced, _ := register(t, Options{Tracer: tracer})
	untraced := string(postTraced(t, plain[PodsPath], "", review(plainPod)).Patch)
	for name, test := range map[string]struct {
		parent, body string
		carries      bool
	}{
		"recorded":            {recorded, review(plainPod), true},
		"not recorded":        {unrecorded, review(plainPod), false},
		"no trace":            {"", review(plainPod), false},
		"a pod that is local": {recorded, review(plainPod, set("namespace", "other")), false},
	} {
		t.Run(name, func(t *testing.T) {
			exporter.Reset()
			answer := postTraced(t, traced[PodsPath], test.parent, test.body)
			patch, spans := string(answer.Patch), exporter.GetSpans()
			if carries := strings.Contains(patch, "traceparent"); carries != test.carries {
				t.Errorf("the patch is %s", patch)
			}
			if test.parent != recorded {
				if patch != untraced || len(spans) != 0 {
					t.Errorf("%d spans, and the patch %s, want none and %s", len(spans), patch, untraced)
				}
				return
			}
			if len(spans) != 1 || spans[0].Name != "admission of pods" || spans[0].Parent.SpanID().String() != "b7ad6b7169203331" {
				t.Fatalf("spans %+v", spans)
			}
			attributes := map[string]string{}
			for _, a := range spans[0].Attributes {
				attributes[string(a.Key)] = a.Value.AsString()
			}
			if attributes["autoburst.action"] == "" || attributes["autoburst.reason"] == "" || attributes["k8s.namespace.name"] == "" {
				t.Errorf("attributes %v", attributes)
			}
			if test.carries && !strings.Contains(patch, "00-"+spans[0].SpanContext.TraceID().String()+"-"+spans[0].SpanContext.SpanID().String()+"-01") {
				t.Errorf("the pod carries another trace: %s", patch)
			}
		})
	}

	// The trace of the first admission stays.
	again := strings.Replace(plainPod, `"metadata":{`, `"metadata":{"annotations":{"`+v1alpha1.TraceparentAnnotation+`":"`+unrecorded+`"},`, 1)
	if again == plainPod {
		t.Fatal("the pod of the test is of another shape")
	}
	if patch := string(postTraced(t, traced[PodsPath], recorded, review(again)).Patch); strings.Contains(patch, "traceparent") {
		t.Errorf("a pod that carries a trace is given another: %s", patch)
	}

	exporter.Reset()
	postTraced(t, traced[PodsPath], recorded, review(plainPod, set("operation", "UPDATE")))
	if spans := exporter.GetSpans(); len(spans) != 1 || spans[0].Status.Code != codes.Error || spans[0].Status.Description != sentences[causeUnexpected] {
		t.Errorf("spans of a request that failed open: %+v", spans)
	}
}
