package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"
	kjson "sigs.k8s.io/json"

	"github.com/autoburst/autoburst/policy"
)

func TestRegisterRefuses(t *testing.T) {
	taken := prometheus.NewRegistry()
	if err := newMetrics().set.Register(taken); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		options Options
		want    string
	}{
		"no snapshots":  {Options{Pods: pendingPods{}, Registerer: prometheus.NewRegistry()}, "required"},
		"no pods":       {Options{Snapshots: &facts{}, Registerer: prometheus.NewRegistry()}, "required"},
		"no registerer": {Options{Snapshots: &facts{}, Pods: pendingPods{}}, "required"},
		"metrics twice": {Options{Snapshots: &facts{}, Pods: pendingPods{}, Registerer: taken}, "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			h := hooks{}
			if err := Register(h, tc.options); err == nil || !strings.Contains(err.Error(), tc.want) || len(h) > 0 {
				t.Errorf("Register() = %v with %d handlers, want an error with %q and none", err, len(h), tc.want)
			}
		})
	}
}

func TestReadyCheck(t *testing.T) {
	f := &facts{unsynced: true}
	ready := ReadyCheck(f)
	if ready(nil) == nil {
		t.Error("ready before the caches are synced")
	}
	f.unsynced = false
	if err := ready(nil); err != nil {
		t.Errorf("ready() = %v", err)
	}
}

func TestEveryCauseHasAShortSentence(t *testing.T) {
	for c := range sentences {
		for _, hook := range hookNames {
			w := failedOpenWarning(hook, c)
			if len(w) > maxWarning || !strings.HasPrefix(w, "autoburst: ") || !strings.HasSuffix(w, hook.object()+" admitted unchanged") {
				t.Errorf("%s: %q", c, w)
			}
		}
	}
}

func wantFailedOpen(t *testing.T, m *metrics, body string, r func() (uid string, patch []byte, warnings []string), c cause, counted float64) {
	t.Helper()
	uid, patch, warnings := r()
	if len(patch) > 0 {
		t.Errorf("patched: %s", patch)
	}
	if strings.Contains(body, "705ab4f5") && uid != "705ab4f5-6393-11e8-b7cc-42010a800002" {
		t.Errorf("uid %q, so that the API server does not take the answer", uid)
	}
	if want := failedOpenWarning(hookPods, c); len(warnings) != 1 || warnings[0] != want {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if got := testutil.ToFloat64(m.failedOpen.WithLabelValues("pods", string(c))); got != counted {
		t.Errorf("%v failures of cause %s counted, want %v", got, c, counted)
	}
}

func TestFailsOpen(t *testing.T) {
	boom := func(*policy.Snapshot, string, *corev1.Pod) policy.Decision { panic("boom") }
	for name, tc := range map[string]struct {
		body     string
		facts    *facts
		evaluate func(*policy.Snapshot, string, *corev1.Pod) policy.Decision
		inject   func(*corev1.Pod, policy.Decision) *corev1.Pod
		want     cause
		dryRun   bool
	}{
		"not synced":             {body: review(plainPod), facts: &facts{snapshot: snapshot(), unsynced: true}, want: causeUnsynced},
		"no snapshot":            {body: review(plainPod), facts: &facts{}, want: causeUnsynced},
		"panic in Evaluate":      {body: review(plainPod), evaluate: boom, want: causePanic},
		"panic in a dry run":     {body: review(plainPod, set("dryRun", true)), evaluate: boom, want: causePanic, dryRun: true},
		"panic in Inject":        {body: review(plainPod), inject: func(*corev1.Pod, policy.Decision) *corev1.Pod { panic(errors.New("boom")) }, want: causePanic},
		"Inject returns nothing": {body: review(plainPod), inject: func(*corev1.Pod, policy.Decision) *corev1.Pod { return nil }, want: causeNotMerge},
		"Inject replaces": {
			body: review(`{"metadata":{"annotations":{"mine":"x"}},"spec":{` + containers + `}}`), want: causeNotMerge,
			inject: func(p *corev1.Pod, _ policy.Decision) *corev1.Pod {
				p = p.DeepCopy()
				p.Annotations["mine"] = "yours"
				return p
			}},
		"Inject removes": {
			body: review(`{"metadata":{"annotations":{"mine":"x"}},"spec":{` + containers + `}}`), want: causeNotMerge,
			inject: func(p *corev1.Pod, _ policy.Decision) *corev1.Pod {
				p = p.DeepCopy()
				p.Annotations = nil
				return p
			}},
		"Inject inserts in front": {
			body: review(`{"metadata":{},"spec":{"tolerations":[{"key":"mine"}],` + containers + `}}`), want: causeNotMerge,
			inject: func(p *corev1.Pod, _ policy.Decision) *corev1.Pod {
				p = p.DeepCopy()
				p.Spec.Tolerations = append([]corev1.Toleration{provider}, p.Spec.Tolerations...)
				return p
			}},
		"no body":                  {body: "", want: causeUndecodable},
		"no JSON":                  {body: "\x00\xff not JSON", want: causeUndecodable},
		"cut short":                {body: `{"kind":"AdmissionReview","request":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","kind":{"gr`, want: causeUndecodable},
		"wrong types":              {body: review(plainPod, set("kind", 7)), want: causeUndecodable},
		"no request":               {body: `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, want: causeUndecodable},
		"another document":         {body: strings.Replace(review(plainPod), "AdmissionReview", "Pod", 1), want: causeUnexpected},
		"no object":                {body: review("null"), want: causeUndecodable},
		"object is a list":         {body: review("[]"), want: causeUndecodable},
		"object of wrong types":    {body: review(`{"spec":{"containers":"none"}}`), want: causeUndecodable},
		"object without metadata":  {body: review(`{"spec":{` + containers + `}}`), want: causeUndecodable},
		"object without anything":  {body: review(`{}`), want: causeUndecodable},
		"spec is null":             {body: review(`{"metadata":{},"spec":null}`), want: causeUndecodable},
		"metadata and spec empty":  {body: review(`{"metadata":{},"spec":{}}`), want: ""},
		"another kind":             {body: namespaceReview(`{"metadata":{"name":"x"}}`), want: causeUnexpected},
		"another version":          {body: review(plainPod, set("kind", map[string]any{"version": "v2", "kind": "Pod"})), want: causeUnexpected},
		"update":                   {body: review(plainPod, set("operation", "UPDATE")), want: causeUnexpected},
		"binding":                  {body: review(plainPod, set("subResource", "binding")), want: causeUnexpected},
		"larger than the limit":    {body: review(`{"metadata":{"annotations":{"x":"`+strings.Repeat("x", maxBody)+`"}}}`, func(r map[string]any) {}), want: causeOversized},
		"one byte below the limit": {body: padded(maxBody), want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := tc.facts
			if f == nil {
				f = &facts{snapshot: snapshot()}
			}
			h := withRules(t, Options{}, nil, nil)
			p := &podHook{snapshots: f, evaluate: policy.Evaluate, inject: policy.Inject}
			if tc.evaluate != nil {
				p.evaluate = tc.evaluate
			}
			if tc.inject != nil {
				p.inject = tc.inject
			}
			h.mutate = p.mutate
			body := tc.body
			if tc.want == causeOversized {
				// encoding/json sorts members; an API server puts the UID first.
				body = strings.Replace(body, `"request":{`, `"request":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002",`, 1)
			}
			r := post(t, h, body)
			if tc.want == "" {
				for _, w := range r.Warnings {
					if strings.Contains(w, "admitted unchanged") {
						t.Errorf("failed open: %s", w)
					}
				}
				return
			}
			counted := 1.0
			if tc.dryRun {
				counted = 0
			}
			wantFailedOpen(t, h.metrics, body, func() (string, []byte, []string) { return string(r.UID), r.Patch, r.Warnings }, tc.want, counted)
			if got := testutil.CollectAndCount(h.metrics.admissions); got != 0 {
				t.Errorf("%d decisions counted", got)
			}
		})
	}
}

// padded is a review of exactly that many bytes.
func padded(size int) string {
	body := review(plainPod)
	return body + strings.Repeat(" ", size-len(body))
}

// TestSlowRules lets the rules hang until the test ends.
func TestSlowRules(t *testing.T) {
	for name, tc := range map[string]struct {
		query []string
		want  time.Duration
	}{
		"own deadline":          {nil, DefaultDeadline},
		"API server's deadline": {[]string{"timeout=1s"}, 750 * time.Millisecond},
		"longer one":            {[]string{"timeout=30s"}, DefaultDeadline},
		"nonsense":              {[]string{"timeout=-4"}, DefaultDeadline},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			clk := testclock.NewFakeClock(time.Now())
			h := withRules(t, Options{Clock: clk, MaxInFlight: 1},
				func(*policy.Snapshot, string, *corev1.Pod) policy.Decision { <-release; return policy.Decision{} }, policy.Inject)
			defer close(release)
			var wg sync.WaitGroup
			defer wg.Wait()
			answered := make(chan struct{})
			wg.Go(func() {
				defer close(answered)
				r := post(t, h, review(plainPod), tc.query...)
				wantFailedOpen(t, h.metrics, review(plainPod), func() (string, []byte, []string) { return string(r.UID), r.Patch, r.Warnings }, causeDeadline, 1)
			})
			waitFor(t, clk.HasWaiters)
			clk.Step(tc.want - time.Nanosecond)
			select {
			case <-answered:
				t.Error("answered before the deadline")
			default:
			}
			clk.Step(time.Nanosecond)
			<-answered

			// The rules still hold the only place.
			r := post(t, h, review(plainPod))
			wantFailedOpen(t, h.metrics, review(plainPod), func() (string, []byte, []string) { return string(r.UID), r.Patch, r.Warnings }, causeOverload, 1)
		})
	}
}

// TestClientGone cancels a request while the rules work.
func TestClientGone(t *testing.T) {
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	h := withRules(t, Options{}, func(*policy.Snapshot, string, *corev1.Pod) policy.Decision {
		cancel()
		<-release
		return policy.Decision{}
	}, policy.Inject)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", strings.NewReader(review(plainPod))).WithContext(ctx))
	close(release)
	if got := testutil.ToFloat64(h.metrics.failedOpen.WithLabelValues("pods", string(causeCanceled))); got != 1 {
		t.Errorf("%v failures counted, want 1", got)
	}
	waitFor(t, func() bool { return len(h.inFlight) == 0 })
}

// TestBrokenBody has the connection break in the middle of the request.
func TestBrokenBody(t *testing.T) {
	h := withRules(t, Options{}, policy.Evaluate, policy.Inject)
	body := `{"request":{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","kind":`
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", io.MultiReader(strings.NewReader(body), failingReader{})))
	r := decodeAnswer(t, w.Code, w.Body.Bytes())
	wantFailedOpen(t, h.metrics, body, func() (string, []byte, []string) { return string(r.UID), r.Patch, r.Warnings }, causeUnreadable, 1)
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatal("timed out")
		case <-tick.C:
		}
	}
}

// TestAtOnce has many creators on one handler; run with the race detector.
func TestAtOnce(t *testing.T) {
	h, registry := register(t, Options{})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				namespace := []string{"shop", "waiting", "other"}[(i+j)%3]
				r := postInProcess(t, h[PodsPath], []byte(review(plainPod, set("namespace", namespace))))
				if (len(r.Patch) > 0) != (namespace != "other") {
					t.Errorf("%s: patch %s", namespace, r.Patch)
				}
			}
		})
	}
	wg.Wait()
	const want = 16 * 20
	var total float64
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "autoburst_webhook_admissions_total" {
			for _, m := range f.GetMetric() {
				total += m.GetCounter().GetValue()
			}
		}
	}
	if total != want {
		t.Errorf("%v decisions counted, want %d", total, want)
	}
}

// FuzzReview sends anything to both hooks. It is never denied, and a patch can
// always be applied and loses nothing.
func FuzzReview(f *testing.F) {
	for _, seed := range []string{
		review(plainPod),
		review(plainPod, set("namespace", "waiting"), set("dryRun", true)),
		review(`{"metadata":{"annotations":{"autoburst.io/grant":"Late"}},"spec":{"tolerations":null,"affinity":{"nodeAffinity":null}}}`),
		review(`{"metadata":null,"spec":{"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{},{"matchExpressions":[]}]}}}}}`),
		namespaceReview(`{"metadata":{"name":"shop","annotations":{"autoburst.io/mode":"Auto"},"labels":{"a":"b"}}}`),
		`{"request":{"uid":"x","object":{}}}`, `{"request":`, `[]`, ``, `null`,
	} {
		f.Add([]byte(seed))
	}
	h, _ := register(f, Options{})
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{PodsPath, NamespacesPath, BindingsPath} {
			r := postInProcess(t, h[path], body)
			if len(r.Patch) == 0 {
				continue
			}
			req, err := readRequest(bytes.NewReader(body), -1)
			if err != nil {
				t.Fatalf("patched what cannot be read: %v", err)
			}
			if strict, err := kjson.UnmarshalStrict(req.Object.Raw, new(any)); err != nil || len(strict) > 0 {
				continue // a member twice: readers differ in which one counts
			}
			after := patched(t, req.Object.Raw, r)
			req.Object.Raw = after
			again := postInProcess(t, h[path], []byte(fmt.Sprintf(`{"kind":"AdmissionReview","request":%s}`, encode(t, req))))
			if len(again.Patch) > 0 {
				t.Errorf("the second call patches too: %s after %s", again.Patch, r.Patch)
			}
		}
	})
}
