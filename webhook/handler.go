package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	stdjson "encoding/json"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/trace"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/clock"
)

// maxBody is the largest request that is read, in bytes: two objects of 3 MiB,
// which is twice what etcd stores, and 1 MiB for the rest.
const maxBody = 7 << 20

// hookName is the metric label of a handler.
type hookName string

const (
	hookPods       hookName = "pods"
	hookNamespaces hookName = "namespaces"
	hookBindings   hookName = "bindings"
)

var hookNames = [...]hookName{hookPods, hookNamespaces, hookBindings}

// object is what the hook's warnings call the object of a request.
func (h hookName) object() string {
	switch h {
	case hookNamespaces:
		return "namespace"
	case hookBindings:
		return "binding"
	}
	return "pod"
}

// outcome is what a hook has to say about a request.
type outcome struct {
	patch    []jsonpatch.Operation
	warnings []string
	audit    map[string]string
	// count records the outcome; it is not called for a dry run.
	count func(*metrics)
}

// mutate works on one request. An error admits the object unchanged.
type mutate func(context.Context, *admissionv1.AdmissionRequest) (outcome, error)

// handler answers AdmissionReviews and always allows.
type handler struct {
	hook     hookName
	mutate   mutate
	metrics  *metrics
	log      logr.Logger
	clock    clock.WithTicker
	deadline time.Duration
	tracer   trace.Tracer // nil where nothing is traced
	// inFlight holds one token for each mutate that runs.
	inFlight chan struct{}
}

func newHandler(hook hookName, f mutate, o Options, m *metrics) *handler {
	return &handler{
		hook: hook, mutate: f, metrics: m,
		log:      o.Logger.WithValues("hook", string(hook)),
		clock:    o.Clock,
		deadline: o.Deadline,
		tracer:   o.Tracer,
		inFlight: make(chan struct{}, o.MaxInFlight),
	}
}

// ServeHTTP implements http.Handler. The status is always 200.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := h.clock.Now()
	ctx := r.Context()
	var span trace.Span
	if h.tracer != nil {
		ctx, span = h.begin(r)
		defer span.End()
	}
	req, err := readRequest(r.Body, r.ContentLength)
	var out outcome
	if err == nil {
		out, err = h.run(ctx, req, h.remaining(r, start))
	}
	var patch []byte
	if err == nil && len(out.patch) > 0 {
		patch, err = json.Marshal(out.patch)
	}

	if span != nil {
		traceRequest(span, req, err)
	}
	response := &admissionv1.AdmissionResponse{UID: req.UID, Allowed: true}
	counted := req.DryRun == nil || !*req.DryRun
	switch {
	case err != nil:
		c := causeOf(err)
		response.Warnings = []string{failedOpenWarning(h.hook, c)}
		h.logFailure(req, c, err)
		if counted {
			h.metrics.countFailure(h.hook, c)
		}
	default:
		response.Warnings = out.warnings
		response.AuditAnnotations = out.audit
		if len(patch) > 0 {
			response.Patch = patch
			response.PatchType = new(admissionv1.PatchTypeJSONPatch)
		}
		if counted && out.count != nil {
			out.count(h.metrics)
		}
	}
	h.write(w, response)
	if counted {
		h.metrics.observe(h.hook, h.clock.Since(start))
	}
}

// remaining is how long the work may take from now.
func (h *handler) remaining(r *http.Request, start time.Time) time.Duration {
	limit := h.deadline
	// The API server says how long it waits.
	if t, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && t > 0 {
		limit = min(limit, t*3/4)
	}
	return limit - h.clock.Since(start)
}

type result struct {
	outcome outcome
	err     error
}

// run calls mutate in a goroutine of its own, since rules cannot be interrupted:
// when the time is up, the answer is given without them. The goroutine ends when
// they return; inFlight bounds how many there are.
func (h *handler) run(ctx context.Context, req *admissionv1.AdmissionRequest, limit time.Duration) (outcome, error) {
	select {
	case h.inFlight <- struct{}{}:
	default:
		return outcome{}, fail(causeOverload, "%d requests are being worked on", cap(h.inFlight))
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-h.inFlight }()
		out, err := h.recovered(ctx, req)
		done <- result{out, err}
	}()

	timer := h.clock.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.outcome, r.err
	case <-timer.C():
		return outcome{}, fail(causeDeadline, "not decided within %v", limit)
	case <-ctx.Done():
		return outcome{}, fail(causeCanceled, "%w", context.Cause(ctx))
	}
}

// recovered is mutate with panics made errors.
func (h *handler) recovered(ctx context.Context, req *admissionv1.AdmissionRequest) (out outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = outcome{}, fail(causePanic, "panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h.mutate(ctx, req)
}

func (h *handler) logFailure(req *admissionv1.AdmissionRequest, c cause, err error) {
	h.log.Error(err, "Admitted unchanged", "cause", string(c),
		"namespace", req.Namespace, "name", req.Name, "requestID", string(req.UID),
		"operation", string(req.Operation), "resource", req.Resource.String())
}

func (h *handler) write(w http.ResponseWriter, response *admissionv1.AdmissionResponse) {
	body, err := json.Marshal(&admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{
			APIVersion: admissionv1.SchemeGroupVersion.String(),
			Kind:       "AdmissionReview",
		},
		Response: response,
	})
	if err != nil { // strings, bytes and a bool: cannot fail
		h.log.Error(err, "Encoding an admission response")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := w.Write(body); err != nil {
		h.log.V(1).Info("The API server has gone before its answer", "error", err.Error())
	}
}

// readRequest reads an AdmissionReview. The request is never nil: with an error
// it holds the UID if that could be found, without which the API server does not
// take the answer.
// The size is a hint, in bytes, -1 if unknown.
func readRequest(body io.Reader, size int64) (*admissionv1.AdmissionRequest, error) {
	if body == nil {
		return &admissionv1.AdmissionRequest{}, fail(causeUndecodable, "the body is empty")
	}
	var buffer bytes.Buffer
	buffer.Grow(int(min(max(size, 0), maxBody)) + bytes.MinRead)
	_, err := buffer.ReadFrom(io.LimitReader(body, maxBody+1))
	b := buffer.Bytes()
	if err != nil {
		return &admissionv1.AdmissionRequest{UID: findUID(b)}, fail(causeUnreadable, "%w", err)
	}
	if len(b) > maxBody {
		return &admissionv1.AdmissionRequest{UID: findUID(b)}, fail(causeOversized, "more than %d bytes", maxBody)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(b, &review); err != nil {
		return &admissionv1.AdmissionRequest{UID: findUID(b)}, fail(causeUndecodable, "reading the AdmissionReview: %w", err)
	}
	if review.Request == nil {
		return &admissionv1.AdmissionRequest{}, fail(causeUndecodable, "an AdmissionReview without a request")
	}
	if gvk := review.GroupVersionKind(); gvk.GroupKind() != admissionv1.SchemeGroupVersion.WithKind("AdmissionReview").GroupKind() {
		return review.Request, fail(causeUnexpected, "expected an AdmissionReview, got %s", gvk)
	}
	return review.Request, nil
}

// findUID looks for request.uid in a document that is cut short or otherwise
// broken. The API server writes it first.
func findUID(b []byte) types.UID {
	d := stdjson.NewDecoder(bytes.NewReader(b))
	uid, err := findMember(d, "request", func() (string, error) {
		return findMember(d, "uid", func() (string, error) {
			t, err := d.Token()
			s, _ := t.(string)
			return s, err
		})
	})
	if err != nil {
		return ""
	}
	return types.UID(uid)
}

var errNoMember = errors.New("no such member")

// findMember reads an object up to the member of that name, and its value.
func findMember(d *stdjson.Decoder, name string, value func() (string, error)) (string, error) {
	if t, err := d.Token(); err != nil || t != stdjson.Delim('{') {
		return "", fmt.Errorf("%w: %s", errNoMember, name)
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return "", err
		}
		if key == name {
			return value()
		}
		var skipped stdjson.RawMessage
		if err := d.Decode(&skipped); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: %s", errNoMember, name)
}
