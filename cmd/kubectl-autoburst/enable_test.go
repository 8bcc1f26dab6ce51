package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEnable: what a real cluster seldom has. All else is tested on one (test/cli).
func TestEnable(t *testing.T) {
	type list map[string]any
	node := func(ready corev1.ConditionStatus) list {
		return list{"kind": "NodeList", "apiVersion": "v1", "items": []corev1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "virtual-eci"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}}}
	}
	none := func(kind, version string) list { return list{"kind": kind, "apiVersion": version, "items": []any{}} }
	const (
		path  = "/api/v1/namespaces/shop"
		nodes = "/api/v1/nodes"
	)
	tests := map[string]struct {
		change  func(objects map[string]any, status map[string]int)
		code    int
		want    string
		written bool
	}{
		"all is well": {func(map[string]any, map[string]int) {}, exitOK, "namespace shop: its annotation autoburst.io/mode is Overflow", true},
		"no virtual node": {func(o map[string]any, _ map[string]int) { o[nodes] = none("NodeList", "v1") }, exitOK,
			"warning: the cluster has no virtual node, so nothing can burst", true},
		"none is ready": {func(o map[string]any, _ map[string]int) { o[nodes] = node(corev1.ConditionFalse) }, exitOK,
			"warning: no virtual node is ready, so nothing bursts now", true},
		"nodes are not for this user": {func(_ map[string]any, s map[string]int) { s["GET "+nodes] = http.StatusForbidden }, exitOK,
			"warning: you may not list nodes, so whether there is a virtual node is not known", true},
		"somebody else was faster": {func(_ map[string]any, s map[string]int) { s["PATCH "+path] = http.StatusConflict }, exitFailure,
			"error: somebody else has changed namespace shop in this moment; try again", false},
		"only to look": {func(_ map[string]any, s map[string]int) { s["PATCH "+path] = http.StatusForbidden }, exitFailure,
			"error: annotating namespace shop: the server says no", false},
		"it is being deleted": {func(o map[string]any, _ map[string]int) {
			o[path].(map[string]any)["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
		}, exitFailure, "error: namespace shop is being deleted", false},
		"no kind of policies": {func(_ map[string]any, s map[string]int) {
			s["GET /apis/autoburst.io/v1alpha1/namespaces/shop/burstpolicies"] = http.StatusNotFound
		}, exitFailure, "error: listing BurstPolicies of namespace shop: the cluster does not know the kind", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			objects, status := map[string]any{
				path: map[string]any{"kind": "Namespace", "apiVersion": "v1", "metadata": map[string]any{"name": "shop", "uid": "1", "resourceVersion": "7"}},
				"/apis/apps/v1/deployments": list{"kind": "DeploymentList", "apiVersion": "apps/v1", "items": []appsv1.Deployment{{
					ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst-system", Name: "autoburst-controller", Labels: map[string]string{"app.kubernetes.io/component": "controller"}},
				}}},
				"/apis/autoburst.io/v1alpha1/namespaces/shop/burstpolicies": none("BurstPolicyList", "autoburst.io/v1alpha1"),
				"/apis/autoburst.io/v1alpha1/clusterburstpolicies":          none("ClusterBurstPolicyList", "autoburst.io/v1alpha1"),
				nodes: node(corev1.ConditionTrue),
			}, map[string]int{}
			test.change(objects, status)
			var patch map[string]any
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				o, code := objects[r.URL.Path], status[r.Method+" "+r.URL.Path]
				if o == nil && code == 0 {
					code = http.StatusNotFound
				}
				if code != 0 {
					reason := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound, 409: metav1.StatusReasonConflict}[code]
					w.WriteHeader(code)
					o = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "the server says no"}
				} else if r.Method == http.MethodPatch {
					if err := json.NewDecoder(r.Body).Decode(&patch); err != nil {
						t.Error(err)
					}
				}
				_ = json.NewEncoder(w).Encode(o) // a failed write fails the command
			}))
			defer s.Close()
			e := execute(t, "", "enable", "shop", "--server="+s.URL)
			if said := e.out + e.errOut; e.code != test.code || !strings.Contains(said, test.want) {
				t.Errorf("ended with %d, want %d and %q in\n%s", e.code, test.code, test.want, said)
			}
			if (patch != nil) != test.written {
				t.Errorf("it wrote %v", patch)
			}
			if patch == nil {
				return
			}
			metadata := patch["metadata"].(map[string]any)
			if len(patch) != 1 || metadata["resourceVersion"] != "7" || metadata["uid"] != "1" || metadata["annotations"].(map[string]any)["autoburst.io/mode"] != "Overflow" {
				t.Errorf("it wrote %v", patch)
			}
		})
	}
}
