package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The server that this package is made for.
var _ Server = crwebhook.Server(nil)

// facts is a Snapshotter with one snapshot.
type facts struct {
	snapshot *policy.Snapshot
	unsynced bool
}

func (f *facts) Snapshot() *policy.Snapshot { return f.snapshot }
func (f *facts) Synced() bool               { return !f.unsynced }

// pendingPods are the pods without a node.
type pendingPods map[types.UID]*corev1.Pod

func (p pendingPods) Pending(uid types.UID) (*corev1.Pod, bool) {
	pod, ok := p[uid]
	return pod, ok
}

// snapshot has one virtual node; in namespace shop pods overflow at admission,
// in waiting they wait, in first they burst before autoscalers act, in other
// nothing is decided.
func snapshot() *policy.Snapshot {
	node := &policy.VirtualNode{
		Name: "eci",
		Labels: labels.Set{
			v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue, v1alpha1.ProviderLabel: "eci", "kubernetes.io/os": "linux",
		},
		HardTaints:   []corev1.Taint{{Key: v1alpha1.ProviderTaintKey, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}},
		Ready:        true,
		Capabilities: &burstable.Capabilities{Provider: "eci"},
		Free: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1000"), corev1.ResourceMemory: resource.MustParse("4Ti"), corev1.ResourcePods: resource.MustParse("1000"),
		},
	}
	for i := range v1alpha1.SoftTaints {
		node.SoftTaints = append(node.SoftTaints, corev1.Taint{Key: fmt.Sprint(v1alpha1.SoftTaintPrefix, i+1), Effect: corev1.TaintEffectPreferNoSchedule})
	}
	waiting := v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{
		Mode: v1alpha1.ModeOverflow, Overflow: &v1alpha1.Overflow{AfterPendingSeconds: 30},
	}}
	waiting.Namespace, waiting.Name = "waiting", "patient"
	first := v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{
		Mode: v1alpha1.ModeOverflow, Overflow: &v1alpha1.Overflow{NodeAutoscaler: v1alpha1.BurstFirst},
	}}
	first.Namespace, first.Name = "first", "burst"
	return &policy.Snapshot{
		Namespaces: map[string]policy.Namespace{
			"shop": {Mode: v1alpha1.ModeOverflow}, "waiting": {}, "first": {}, "other": {}, "typo": {Mode: "overflow"},
			"kube-system": {Mode: v1alpha1.ModeOverflow},
		},
		Policies:       map[string][]*policy.Policy{"waiting": {policy.Compile(&waiting)}, "first": {policy.Compile(&first)}},
		VirtualNodes:   []*policy.VirtualNode{node},
		ControllerLive: true,
		Excluded:       map[string]bool{"kube-system": true},
	}
}

// hooks are the handlers by path, as Register makes them.
type hooks map[string]http.Handler

func (h hooks) Register(path string, handler http.Handler) { h[path] = handler }

func register(t testing.TB, o Options) (hooks, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	if o.Snapshots == nil {
		o.Snapshots = &facts{snapshot: snapshot()}
	}
	if o.Pods == nil {
		o.Pods = pendingPods{}
	}
	if o.Excluded == nil {
		o.Excluded = []string{"autoburst"}
	}
	h := hooks{}
	if err := Register(h, o); err != nil {
		t.Fatal(err)
	}
	return h, registry
}

// withRules is the pods handler with other rules.
func withRules(t testing.TB, o Options, evaluate func(*policy.Snapshot, string, *corev1.Pod) policy.Decision, inject func(*corev1.Pod, policy.Decision) *corev1.Pod) *handler {
	t.Helper()
	h, _ := register(t, o)
	pods, ok := h[PodsPath].(*handler)
	if !ok {
		t.Fatalf("the pods handler is a %T", h[PodsPath])
	}
	pods.mutate = (&podHook{snapshots: &facts{snapshot: snapshot()}, evaluate: evaluate, inject: inject}).mutate
	pods.log = logr.Discard()
	return pods
}

// review is an AdmissionReview as an API server sends it at creation. Changes
// are made to the decoded document.
func review(object string, changes ...func(request map[string]any)) string {
	document := map[string]any{}
	must(json.Unmarshal([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{
		"uid":"705ab4f5-6393-11e8-b7cc-42010a800002",
		"kind":{"group":"","version":"v1","kind":"Pod"},
		"resource":{"group":"","version":"v1","resource":"pods"},
		"requestKind":{"group":"","version":"v1","kind":"Pod"},
		"requestResource":{"group":"","version":"v1","resource":"pods"},
		"namespace":"shop","operation":"CREATE",
		"userInfo":{"username":"system:serviceaccount:kube-system:replicaset-controller","groups":["system:authenticated"]},
		"object":`+object+`,"oldObject":null,"dryRun":false,
		"options":{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1"}}}`), &document))
	for _, change := range changes {
		change(document["request"].(map[string]any))
	}
	b, err := json.Marshal(document)
	must(err)
	return string(b)
}

func set(key string, value any) func(map[string]any) {
	return func(request map[string]any) { request[key] = value }
}

func namespaceReview(object string, changes ...func(map[string]any)) string {
	return review(object, append([]func(map[string]any){
		set("kind", map[string]any{"group": "", "version": "v1", "kind": "Namespace"}),
		set("resource", map[string]any{"group": "", "version": "v1", "resource": "namespaces"}),
		set("namespace", ""), set("name", "shop"),
	}, changes...)...)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// post sends a body over HTTP and returns the answer. Whatever the body, the
// answer must be one that an API server takes, and allow.
func post(t testing.TB, handler http.Handler, body string, query ...string) *admissionv1.AdmissionResponse {
	t.Helper()
	server := httptest.NewServer(handler)
	defer server.Close()
	response, err := server.Client().Post(server.URL+"/?"+strings.Join(query, "&"), "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	return decodeAnswer(t, response.StatusCode, b.Bytes())
}

// postInProcess is post without the network.
func postInProcess(t testing.TB, handler http.Handler, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body)))
	return decodeAnswer(t, w.Code, w.Body.Bytes())
}

func decodeAnswer(t testing.TB, status int, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	if status != http.StatusOK {
		t.Fatalf("status %d, want 200", status)
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("the answer is no AdmissionReview: %v", err)
	}
	if answer.APIVersion != "admission.k8s.io/v1" || answer.Kind != "AdmissionReview" || answer.Response == nil {
		t.Fatalf("the answer is no admission.k8s.io/v1 AdmissionReview with a response: %s", body)
	}
	r := answer.Response
	if !r.Allowed {
		t.Fatalf("denied: %s", body)
	}
	if (len(r.Patch) > 0) != (r.PatchType != nil && *r.PatchType == admissionv1.PatchTypeJSONPatch) {
		t.Fatalf("patch and patchType do not go together: %s", body)
	}
	for _, w := range r.Warnings {
		if len(w) > 120 {
			t.Errorf("a warning of %d bytes: %q", len(w), w)
		}
	}
	return r
}

// patched applies the answer's patch to the object, and checks that all of the
// object is still there.
func patched(t testing.TB, object []byte, r *admissionv1.AdmissionResponse) []byte {
	t.Helper()
	if len(r.Patch) == 0 {
		return object
	}
	p, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatalf("the patch %s: %v", r.Patch, err)
	}
	after, err := p.Apply(object)
	if err != nil {
		t.Fatalf("an API server would deny the object, as the patch %s cannot be applied: %v", r.Patch, err)
	}
	if err := kept(document(t, object), document(t, after), ""); err != nil {
		t.Errorf("the patch %s loses something: %v", r.Patch, err)
	}
	return after
}

func document(t testing.TB, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// kept checks that everything in before is at the same place in after.
func kept(before, after any, path string) error {
	switch b := before.(type) {
	case nil:
		return nil
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is gone", path)
		}
		for k, v := range b {
			p := path + "/" + k
			if strings.HasPrefix(p, "/metadata/annotations/autoburst.io/") && k != v1alpha1.ModeAnnotation {
				continue
			}
			if err := kept(v, a[k], p); err != nil {
				return err
			}
		}
		return nil
	case []any:
		a, ok := after.([]any)
		if !ok || len(a) < len(b) {
			return fmt.Errorf("%s is gone or shorter", path)
		}
		for i := range b {
			if err := kept(b[i], a[i], fmt.Sprint(path, "/", i)); err != nil {
				return err
			}
		}
		return nil
	}
	if !reflect.DeepEqual(before, after) {
		return fmt.Errorf("%s was %v and is %v", path, before, after)
	}
	return nil
}
