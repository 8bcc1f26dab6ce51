package webhook

import (
	"encoding/json"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const cost = corev1.PodDeletionCost

// grantedPod is a pod that may burst to the node eci.
func grantedPod(more map[string]string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web-1", UID: "pod-uid",
		Annotations:     map[string]string{v1alpha1.PolicyAnnotation: "Namespace", v1alpha1.GrantAnnotation: policy.GrantAdmission},
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web", Controller: ptr.To(true)}},
	}}
	maps.Copy(p.Annotations, more)
	p.Spec.Tolerations = []corev1.Toleration{{Key: v1alpha1.ProviderTaintKey, Operator: corev1.TolerationOpEqual, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}}
	return p
}

func bindingReview(object string, changes ...func(map[string]any)) string {
	return review(object, append([]func(map[string]any){
		set("kind", map[string]any{"group": "", "version": "v1", "kind": "Binding"}),
		set("subResource", "binding"), set("name", "web-1"),
	}, changes...)...)
}

// binds is a Binding as the scheduler writes it.
func binds(node, annotations string) string {
	if annotations != "" {
		annotations = `,"annotations":` + annotations
	}
	return `{"kind":"Binding","apiVersion":"v1","metadata":{"name":"web-1","namespace":"shop","uid":"pod-uid"` + annotations +
		`},"target":{"kind":"Node","name":"` + node + `"}}`
}

func TestBindings(t *testing.T) {
	stamp := map[string]string{cost: "-100", v1alpha1.StampedAnnotation: "Binding"}
	for name, c := range map[string]struct {
		pod     *corev1.Pod
		binding string
		want    map[string]string // annotations of the binding; none is no patch
	}{
		"to a virtual node":    {grantedPod(nil), binds("eci", ""), stamp},
		"with annotations":     {grantedPod(nil), binds("eci", `{"mine":"x"}`), map[string]string{"mine": "x", cost: "-100", v1alpha1.StampedAnnotation: "Binding"}},
		"with a cost":          {grantedPod(nil), binds("eci", `{"`+cost+`":"8"}`), map[string]string{cost: "8", v1alpha1.StampedAnnotation: "Binding"}},
		"null annotations":     {grantedPod(nil), binds("eci", "null"), stamp},
		"no kind of target":    {grantedPod(nil), `{"metadata":{"uid":"pod-uid"},"target":{"name":"eci"}}`, stamp},
		"a cost of the pod":    {grantedPod(map[string]string{cost: "4"}), binds("eci", ""), nil},
		"to a local node":      {grantedPod(nil), binds("local-1", ""), nil},
		"not granted":          {grantedPod(map[string]string{v1alpha1.GrantAnnotation: ""}), binds("eci", ""), nil},
		"without the pod's ID": {grantedPod(nil), `{"metadata":{"name":"web-1"},"target":{"kind":"Node","name":"eci"}}`, nil},
		"to something else":    {grantedPod(nil), `{"metadata":{"uid":"pod-uid"},"target":{"kind":"Pod","name":"eci"}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			h, registry := register(t, Options{Pods: pendingPods{"pod-uid": c.pod}})
			r := post(t, h[BindingsPath], bindingReview(c.binding))
			if len(r.Warnings) > 0 {
				t.Errorf("warnings %q", r.Warnings)
			}
			var got struct{ Metadata metav1.ObjectMeta }
			if err := json.Unmarshal(patched(t, []byte(c.binding), r), &got); err != nil {
				t.Fatal(err)
			}
			if (len(r.Patch) > 0) != (c.want != nil) {
				t.Errorf("patch %s, want annotations %v", r.Patch, c.want)
			}
			if c.want != nil {
				if diff := cmp.Diff(c.want, got.Metadata.Annotations); diff != "" {
					t.Errorf("(-want +got)\n%s", diff)
				}
			}
			if n, err := testutil.GatherAndCount(registry, "autoburst_webhook_admissions_total"); err != nil || n != 0 {
				t.Errorf("%d decisions counted (%v)", n, err)
			}
		})
	}
}

// latePods shows a pod only after some looks, and its grant after some more.
type latePods struct {
	mu             sync.Mutex
	looks          int
	known, granted int
}

func (p *latePods) Pending(types.UID) (*corev1.Pod, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.looks++
	pod := grantedPod(nil)
	switch {
	case p.looks <= p.known:
		return nil, false
	case p.looks <= p.granted:
		pod.Annotations, pod.Spec.Tolerations = nil, nil
	}
	return pod, true
}

// The scheduler may be faster than the watch of this replica.
func TestBindingsAwaitThePod(t *testing.T) {
	h, _ := register(t, Options{Pods: &latePods{known: 3, granted: 6}})
	if r := post(t, h[BindingsPath], bindingReview(binds("eci", ""))); len(r.Patch) == 0 {
		t.Error("the binding of a pod that is just becoming known is not patched")
	}
	never := &latePods{known: 1 << 30}
	h, _ = register(t, Options{Pods: never})
	begun := time.Now()
	r := post(t, h[BindingsPath], bindingReview(binds("eci", "")))
	if len(r.Patch) > 0 || len(r.Warnings) > 0 {
		t.Errorf("patch %s, warnings %q for a pod that never becomes known", r.Patch, r.Warnings)
	}
	if took := time.Since(begun); took < bindingWait || took > DefaultDeadline {
		t.Errorf("answered after %s, want %s and a little", took, bindingWait)
	}
}

func TestBindingsFailOpen(t *testing.T) {
	for name, c := range map[string]struct {
		body  string
		facts *facts
		stamp func(*policy.Snapshot, *corev1.Pod, string, string) map[string]string
		want  cause
	}{
		"not synced":       {bindingReview(binds("eci", "")), &facts{snapshot: snapshot(), unsynced: true}, policy.Stamp, causeUnsynced},
		"no snapshot":      {bindingReview(binds("eci", "")), &facts{}, policy.Stamp, causeUnsynced},
		"a pod":            {review(plainPod), nil, policy.Stamp, causeUnexpected},
		"no binding":       {bindingReview("[]"), nil, policy.Stamp, causeUndecodable},
		"no metadata":      {bindingReview(`{"target":{"name":"eci"}}`), nil, policy.Stamp, causeUndecodable},
		"panic":            {bindingReview(binds("eci", "")), nil, func(*policy.Snapshot, *corev1.Pod, string, string) map[string]string { panic("boom") }, causePanic},
		"another's update": {bindingReview(binds("eci", ""), set("operation", "UPDATE")), nil, policy.Stamp, causeUnexpected},
	} {
		t.Run(name, func(t *testing.T) {
			hooks, _ := register(t, Options{})
			h, ok := hooks[BindingsPath].(*handler)
			if !ok {
				t.Fatalf("the bindings handler is a %T", hooks[BindingsPath])
			}
			if c.facts == nil {
				c.facts = &facts{snapshot: snapshot()}
			}
			h.mutate = (&bindingHook{snapshots: c.facts, pods: pendingPods{"pod-uid": grantedPod(nil)}, clock: h.clock, stamp: c.stamp}).mutate
			r := post(t, h, c.body)
			want := failedOpenWarning(hookBindings, c.want)
			if len(r.Patch) > 0 || len(r.Warnings) != 1 || r.Warnings[0] != want {
				t.Errorf("patch %s, warnings %q, want %q", r.Patch, r.Warnings, want)
			}
			if got := testutil.ToFloat64(h.metrics.failedOpen.WithLabelValues("bindings", string(c.want))); got != 1 {
				t.Errorf("%v failures counted, want 1", got)
			}
		})
	}
}
