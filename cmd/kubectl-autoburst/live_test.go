package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// server answers as an API server does from the files of testdata/policies and
// more pods; it takes note of every request.
type server struct {
	*httptest.Server
	files files
	pods  []*corev1.Pod
	// stopped is what the switch says.
	stopped string
	// admissions is how many BurstAdmissions there are.
	admissions int
	// excluded is what the controller's argument names as never touched; without, there is
	// no controller.
	excluded string
	// leader is the holder of the controllers' Lease.
	leader string
	// events are those of any pod.
	events []corev1.Event
	// status answers paths with a failure instead.
	status map[string]int

	mu       sync.Mutex
	requests []string
}

func newServer(t *testing.T, pods ...string) *server {
	t.Helper()
	s := &server{status: map[string]int{}, files: files{namespace: "default"}}
	documents, err := readDocuments("testdata/policies", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range documents {
		if err := s.files.add(d); err != nil {
			t.Fatal(err)
		}
	}
	s.pods = s.files.Pods
	for _, p := range pods {
		more, err := readDocuments(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		f := files{namespace: "default"}
		for _, d := range more {
			if err := f.add(d); err != nil {
				t.Fatal(err)
			}
		}
		for _, s2 := range f.subjects {
			s.pods = append(s.pods, s2.pod)
		}
		s.pods = append(s.pods, f.Pods...)
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	line := r.Method + " " + r.URL.Path
	for _, selector := range []string{"labelSelector", "fieldSelector"} {
		if v := q.Get(selector); v != "" {
			line += " " + v
		}
	}
	s.mu.Lock()
	s.requests = append(s.requests, line)
	s.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	answer := func(kind, version string, v any) {
		b, err := json.Marshal(v)
		if err == nil {
			var members map[string]any
			if err = json.Unmarshal(b, &members); err == nil {
				members["kind"], members["apiVersion"] = kind, version
				err = json.NewEncoder(w).Encode(members)
			}
		}
		if err != nil {
			panic(err)
		}
	}
	if code := s.status[r.URL.Path]; code != 0 {
		reason := map[int]metav1.StatusReason{403: metav1.StatusReasonForbidden, 404: metav1.StatusReasonNotFound}[code]
		w.WriteHeader(code)
		answer("Status", "v1", metav1.Status{Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "the server says no"})
		return
	}
	items := func(kind, version string, list any) { answer(kind+"List", version, map[string]any{"items": list}) }
	switch parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/api/v1/nodes":
		selector, err := labels.Parse(q.Get("labelSelector"))
		if err != nil {
			panic(err)
		}
		items("Node", "v1", filter(s.files.Nodes, func(n *corev1.Node) bool { return selector.Matches(labels.Set(n.Labels)) }))
	case r.URL.Path == "/api/v1/pods":
		selector, err := fields.ParseSelector(q.Get("fieldSelector"))
		if err != nil {
			panic(err)
		}
		items("Pod", "v1", filter(s.pods, func(p *corev1.Pod) bool {
			return selector.Matches(fields.Set{"spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase)})
		}))
	case strings.HasSuffix(r.URL.Path, "/clusterburstpolicies"):
		items("ClusterBurstPolicy", "autoburst.io/v1alpha1", s.files.ClusterPolicies)
	case strings.HasSuffix(r.URL.Path, "/burstadmissions"):
		items("BurstAdmission", "autoburst.io/v1alpha1", make([]v1alpha1.BurstAdmission, s.admissions))
	case strings.HasSuffix(r.URL.Path, "/burstpolicies"):
		items("BurstPolicy", "autoburst.io/v1alpha1", s.files.Policies)
	case len(parts) == 6 && parts[5] == "deployments":
		list := []appsv1.Deployment{}
		if s.excluded != "" {
			list = append(list, appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Namespace: parts[4], Name: "autoburst", Labels: map[string]string{"app.kubernetes.io/component": "controller"}},
				Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
					Containers: []corev1.Container{{Args: []string{"--excluded-namespaces=" + s.excluded}}},
				}}},
			})
		}
		items("Deployment", "apps/v1", list)
	case len(parts) == 6 && parts[4] == "configmaps":
		answer("ConfigMap", "v1", corev1.ConfigMap{Data: map[string]string{policy.SwitchKey: s.stopped}})
	case len(parts) == 7 && parts[5] == "leases":
		answer("Lease", "coordination.k8s.io/v1", coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: &s.leader}})
	case len(parts) == 5 && parts[4] == "events":
		items("Event", "v1", s.events)
	case len(parts) == 4 && parts[2] == "namespaces":
		i := slices.IndexFunc(s.files.Namespaces, func(n *corev1.Namespace) bool { return n.Name == parts[3] })
		answer("Namespace", "v1", s.files.Namespaces[i])
	case len(parts) == 6 && parts[4] == "pods":
		i := slices.IndexFunc(s.pods, func(p *corev1.Pod) bool { return p.Name == parts[5] && p.Namespace == parts[3] })
		answer("Pod", "v1", s.pods[i])
	default:
		panic(fmt.Sprintf("an unexpected request: %s", r.URL))
	}
}

func filter[T any](all []T, keep func(T) bool) []T {
	out := []T{}
	for _, v := range all {
		if keep(v) {
			out = append(out, v)
		}
	}
	return out
}

func (s *server) explain(t *testing.T, args ...string) ended {
	t.Helper()
	return execute(t, "", append([]string{"explain", "--server=" + s.URL, "--namespace=shop"}, args...)...)
}

const (
	getShop      = "GET /api/v1/namespaces/shop"
	getPolicies  = "GET /apis/autoburst.io/v1alpha1/namespaces/shop/burstpolicies"
	getCluster   = "GET /apis/autoburst.io/v1alpha1/clusterburstpolicies"
	getAdmission = "GET /apis/autoburst.io/v1alpha1/burstadmissions"
	getVirtual   = "GET /api/v1/nodes type=virtual-kubelet"
	getRelease   = "GET /apis/apps/v1/namespaces/autoburst-system/deployments app.kubernetes.io/part-of=autoburst"
	getSwitch    = "GET /api/v1/namespaces/autoburst-system/configmaps/autoburst-switch"
	getLocal     = "GET /api/v1/nodes type!=virtual-kubelet"
)

func podsOf(node string) string {
	return "GET /api/v1/pods spec.nodeName=" + node + ",status.phase!=Succeeded,status.phase!=Failed"
}

// TestExplainLive: the decision is that of the same objects in files, nothing is
// written, and only what a decision needs is read.
func TestExplainLive(t *testing.T) {
	tests := map[string]struct {
		pods     string
		args     []string
		requests []string
		want     []string
	}{
		"stays local whatever the nodes are": {
			pods: "testdata/explain/never.yaml", args: []string{"pod/payments"},
			requests: []string{"GET /api/v1/namespaces/shop/pods/payments", getShop, getPolicies, getCluster, getAdmission, getVirtual, getRelease, getSwitch},
			want:     []string{"StayLocal: ModeNever"},
		},
		"local nodes matter for a grant at admission": {
			args:     []string{"-f", "testdata/explain/granted.yaml"},
			requests: []string{getShop, getPolicies, getCluster, getAdmission, getVirtual, getRelease, getSwitch, getLocal},
			want:     []string{"Grant: LocalFirst", "The affinity of other pods is not read here"},
		},
		"unschedulable, and fits a local node": {
			pods: "testdata/explain/late.yaml", args: []string{"po/small"},
			requests: []string{
				"GET /api/v1/namespaces/shop/pods/small", getShop, getPolicies, getCluster, getAdmission, getVirtual, getRelease, getSwitch,
				podsOf("virtual-aci"), podsOf("virtual-eci"), getLocal, podsOf("local-1"),
			},
			want: []string{"Wait: AfterPending", "Wait: FitsLocally"},
		},
		"unschedulable, and fits none": {
			pods: "testdata/explain/late.yaml", args: []string{"pods/large"},
			requests: []string{
				"GET /api/v1/namespaces/shop/pods/large", getShop, getPolicies, getCluster, getAdmission, getVirtual, getRelease, getSwitch,
				podsOf("virtual-aci"), podsOf("virtual-eci"), getLocal, podsOf("local-1"),
			},
			want: []string{"Wait: AfterPending", "Grant: GrantedLate"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var more []string
			if test.pods != "" {
				more = append(more, test.pods)
			}
			s := newServer(t, more...)
			e := s.explain(t, test.args...)
			if e.code != exitOK || e.errOut != "" {
				t.Fatalf("ended with %d: %s", e.code, e.errOut)
			}
			for _, want := range test.want {
				if !strings.Contains(e.out, want) {
					t.Errorf("%q is not in\n%s", want, e.out)
				}
			}
			if diff := cmp.Diff(test.requests, s.requests); diff != "" {
				t.Errorf("requests (-want +got)\n%s", diff)
			}
		})
	}
}

// A pod that is bound was decided on before it was, and bears what was decided.
func TestExplainBoundPod(t *testing.T) {
	s := newServer(t, "testdata/bound.yaml")
	e := s.explain(t, "pod/web-1")
	if e.code != exitOK {
		t.Fatalf("ended with %d: %s", e.code, e.errOut)
	}
	for _, want := range []string{
		"pod/web-1 in namespace shop, bound to node virtual-aci",
		"Written on it: LocalFirst by BurstPolicy/all, mode Overflow, grant Admission",
		"Grant: LocalFirst",
	} {
		if !strings.Contains(e.out, want) {
			t.Errorf("%q is not in\n%s", want, e.out)
		}
	}
}

// ordered puts a policy with an order against autoscalers before all others.
func (s *server) ordered(o v1alpha1.Overflow) {
	s.files.Policies = append(s.files.Policies, &v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "ordered"},
		Spec:       v1alpha1.BurstPolicySpec{Priority: 100, Overflow: &o},
	})
}

// TestExplainOrder: what is written for the order against autoscalers is shown,
// what they have said is read, and whether there is a controller where it matters.
func TestExplainOrder(t *testing.T) {
	const lease = "GET /apis/coordination.k8s.io/v1/namespaces/autoburst-system/leases/autoburst-controller"
	read := func(s *server, request string) bool {
		return slices.ContainsFunc(s.requests, func(r string) bool { return strings.HasPrefix(r, request) })
	}
	wants := func(t *testing.T, e ended, wants ...string) {
		t.Helper()
		if e.code != exitOK {
			t.Fatalf("ended with %d: %s", e.code, e.errOut)
		}
		for _, want := range wants {
			if !strings.Contains(e.out, want) {
				t.Errorf("%q is not in\n%s", want, e.out)
			}
		}
	}
	t.Run("gate", func(t *testing.T) {
		s := newServer(t, "testdata/gated.yaml")
		s.ordered(v1alpha1.Overflow{NodeAutoscaler: v1alpha1.BurstFirst})
		s.leader = "autoburst-1"
		wants(t, s.explain(t, "-f", "testdata/apart.yaml"), "Wait: OwnInterPodTerms", "held by autoburst-1",
			"- name: autoburst.io/decision", "cluster-autoscaler.kubernetes.io/pod-scale-up-delay: 300s")
		wants(t, s.explain(t, "pod/gated"), "The pod stands at the gate autoburst.io/decision", "Grant: GrantedLate")
		s.leader = ""
		e := s.explain(t, "-f", "testdata/apart.yaml")
		wants(t, e, "No controller is elected")
		if strings.Contains(e.out, "- name: autoburst.io/decision") || !read(s, lease) {
			t.Errorf("without a controller a gate is shown, or the Lease was not read (%q):\n%s", s.requests, e.out)
		}
	})
	t.Run("pressure", func(t *testing.T) {
		s := newServer(t)
		s.ordered(v1alpha1.Overflow{Pressure: &v1alpha1.Pressure{UnschedulablePods: 1}})
		s.files.Policies[len(s.files.Policies)-1].Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue}}
		wants(t, s.explain(t, "-f", "testdata/explain/granted.yaml"), "Wait: PressureUnknown", "No controller is elected")
		s.leader = "autoburst-1"
		wants(t, s.explain(t, "-f", "testdata/explain/granted.yaml"), "Grant: LocalFirst")
	})
	t.Run("node first", func(t *testing.T) {
		s := newServer(t, "testdata/explain/late.yaml")
		s.ordered(v1alpha1.Overflow{NodeAutoscaler: v1alpha1.NodeFirst})
		wants(t, s.explain(t, "pod/large"), "Wait: NodeFirst", "Grant: GrantedLate")
		s.events = []corev1.Event{{Reason: "TriggeredScaleUp", Source: corev1.EventSource{Component: "cluster-autoscaler"}, LastTimestamp: metav1.NewTime(noon)}}
		wants(t, s.explain(t, "pod/large"), "Wait: NodeComing", "cluster-autoscaler said so")
		if !read(s, "GET /api/v1/namespaces/shop/events involvedObject.uid=") || read(s, lease) {
			t.Errorf("the events were not read, or more was: %q", s.requests)
		}
	})
}

// While the switch is on nothing is granted, and explain says so.
func TestExplainStopped(t *testing.T) {
	s := newServer(t, "testdata/bound.yaml")
	s.stopped = "true"
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Wait: Stopped") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	s.status["/api/v1/namespaces/autoburst-system/configmaps/autoburst-switch"] = http.StatusForbidden
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Note: You may not read the switch") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
}

// Namespaces that the installation never touches are known by the controller's argument.
func TestExplainExcludedNamespace(t *testing.T) {
	s := newServer(t, "testdata/bound.yaml")
	s.excluded = "bank,shop"
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Ignore: NamespaceExcluded") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	s.excluded = "bank"
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || strings.Contains(e.out, "NamespaceExcluded") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	s.status["/apis/apps/v1/namespaces/autoburst-system/deployments"] = http.StatusForbidden
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Note: You may not read the Deployment of the controller") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
}

// Where the API server admits pods by itself, explain says what it decides.
func TestExplainAdmissionByPolicy(t *testing.T) {
	s := newServer(t, "testdata/bound.yaml")
	s.admissions = 1
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Wait: AdmissionByPolicy") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	path := "/apis/autoburst.io/v1alpha1/burstadmissions"
	s.status[path] = http.StatusForbidden
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Note: You may not read BurstAdmissions") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	s.status[path] = http.StatusNotFound
	if e := s.explain(t, "pod/web-1"); e.code != exitOK || !strings.Contains(e.out, "Grant: LocalFirst") {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
}

func TestExplainLiveFailures(t *testing.T) {
	tests := map[string]struct {
		path string
		code int
		want string
		ends int
	}{
		"no such pod":             {"/api/v1/namespaces/shop/pods/small", 404, "reading pod/small of namespace shop", exitFailure},
		"no CRDs":                 {"/apis/autoburst.io/v1alpha1/namespaces/shop/burstpolicies", 404, "install Autoburst's CustomResourceDefinitions", exitFailure},
		"may not list policies":   {"/apis/autoburst.io/v1alpha1/clusterburstpolicies", 403, "listing ClusterBurstPolicies: the server says no", exitFailure},
		"may not list nodes":      {"/api/v1/nodes", 403, "listing virtual nodes: the server says no", exitFailure},
		"may not count the pods":  {"/api/v1/pods", 403, "The late decision is not known here: listing the pods on node virtual-aci: the server says no", exitOK},
		"may not see a namespace": {"/api/v1/namespaces/shop", 403, "reading namespace shop: the server says no", exitFailure},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "testdata/explain/late.yaml")
			s.status[test.path] = test.code
			e := s.explain(t, "pod/small")
			if e.code != test.ends {
				t.Errorf("ended with %d, want %d", e.code, test.ends)
			}
			if said := e.out + e.errOut; !strings.Contains(said, test.want) {
				t.Errorf("%q is not in\n%s", test.want, said)
			}
		})
	}
}
