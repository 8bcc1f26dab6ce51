package installation

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
)

func deployment(namespace, name, component, image string, args ...string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
			"app.kubernetes.io/part-of": "autoburst", componentLabel: component, instanceLabel: "burst", versionLabel: "0.2.0",
			"app.kubernetes.io/name": "autoburst", chartLabel: "autoburst-0.2.1", "autoburst.io/virtual-node": name,
		}},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: image, Args: args}}}}},
	}
}

func TestFind(t *testing.T) {
	controller := deployment("system", "burst-controller", controllerComponent, "autoburst:0.2.0", "--switch-name=off", "--switch-name=burst-switch", "--admission=mutating-admission-policy")
	agent, other := deployment("system", "virtual-eci", agentComponent, "vnode:0.2.0"), deployment("elsewhere", "x", controllerComponent, "autoburst:0.2.0")
	tests := map[string]struct {
		namespace string
		there     []*appsv1.Deployment
		want      string // of the error
	}{
		"wherever it is": {"", []*appsv1.Deployment{controller, agent}, ""},
		"one of two":     {"system", []*appsv1.Deployment{controller, agent, other}, ""},
		"two":            {"", []*appsv1.Deployment{controller, other}, "there are 2 controllers (elsewhere/x, system/burst-controller): say which with --release-namespace"},
		"none":           {"", nil, "no installation of Autoburst is found: no namespace has its controller; install the chart, or say where it is with --release-namespace"},
		"none there":     {"default", []*appsv1.Deployment{controller}, "no installation of Autoburst is found: namespace default does not have its controller; install the chart, or say where it is with --release-namespace"},
		"an agent alone": {"", []*appsv1.Deployment{agent}, "no installation of Autoburst is found: no namespace has its controller; install the chart, or say where it is with --release-namespace"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			kube := fake.NewClientset()
			for _, d := range test.there {
				if err := kube.Tracker().Add(d); err != nil {
					t.Fatal(err)
				}
			}
			r, err := (&Clients{Kube: kube}).Find(t.Context(), test.namespace)
			if test.want != "" {
				if err == nil || err.Error() != test.want {
					t.Errorf("the error is %v, want %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Namespace != "system" || r.Name != "burst" || len(r.Agents) != 1 || r.SwitchName != "burst-switch" || !r.ByPolicy || r.CASecretName != "autoburst-webhook-ca" || ChartVersion(r.Controller) != "0.2.1" {
				t.Errorf("found %+v", r)
			}
		})
	}
}

func TestVersions(t *testing.T) {
	node := func(version string) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "virtual-eci", Labels: map[string]string{"type": "virtual-kubelet"}},
			Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.36.3-autoburst-" + version}},
		}
	}
	tests := map[string]struct {
		client, controller, agent, said string
		want                            []string
	}{
		"all the same":         {"v0.2.0", "r.io:5000/autoburst:0.2.0", "vnode:0.2.0", "0.2.0", nil},
		"an older program":     {"0.1.0", "autoburst:0.2.0", "vnode:0.2.0", "0.2.0", []string{"this program is 0.1.0, and the controller 0.2.0"}},
		"an older agent":       {"0.2.0", "autoburst:0.2.0", "vnode:0.2.0", "0.1.0", []string{"the agent of virtual node virtual-eci is 0.1.0, and the controller 0.2.0"}},
		"another image":        {"0.3.0", "autoburst:0.3.0", "vnode:0.3.0", "0.3.0", []string{"the chart's app is 0.2.0, and the controller 0.3.0"}},
		"a digest, by label":   {"0.2.0", "autoburst@sha256:abc", "vnode@sha256:abc", "0.2.0", nil},
		"an agent that is not": {"0.2.0", "autoburst:0.2.0", "vnode:0.1.0", "v0.0.0-dev", []string{"the agent of virtual node virtual-eci is 0.1.0, and the controller 0.2.0"}},
		"from a checkout":      {"v0.0.0-dev", "autoburst:0.2.0", "vnode:0.2.0", "0.2.0", nil},
		"from a commit":        {"bafbe6b", "autoburst:0.2.0-3-gbafbe6b", "vnode:0.2.0", "bafbe6b", nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := &Release{
				Controller: deployment("system", "burst-controller", controllerComponent, test.controller),
				Agents:     []appsv1.Deployment{*deployment("system", "virtual-eci", agentComponent, test.agent)},
			}
			v, err := (&Clients{Kube: fake.NewClientset(node(test.said))}).Versions(t.Context(), r, test.client)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, v.Skew); diff != "" {
				t.Errorf("the skew (-want +got)\n%s", diff)
			}
		})
	}
}

func TestLeader(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	lease := func(holder string, quiet time.Duration) *coordinationv1.Lease {
		return &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, RenewTime: ptr.To(metav1.NewMicroTime(now.Add(-quiet))), LeaseDurationSeconds: ptr.To[int32](15),
		}}
	}
	tests := map[string]struct {
		lease *coordinationv1.Lease
		want  Leader
	}{
		"alive":            {lease("a", 14*time.Second), Leader{"a", 14 * time.Second, false}},
		"dead":             {lease("a", 16*time.Second), Leader{"a", 16 * time.Second, true}},
		"of a fast clock":  {lease("a", -time.Second), Leader{"a", 0, false}},
		"given up":         {lease("", time.Second), Leader{"", time.Second, false}},
		"of nobody so far": {&coordinationv1.Lease{}, Leader{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, leader(test.lease, now)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestClock: the time is that of the API server, however wrong this machine's is, and
// that of this machine where both agree.
func TestClock(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour, "right": 0} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
				w.Header().Set("Content-Type", "application/json")
				fmt.Fprint(w, `{"gitVersion": "v1.36.3"}`)
			}))
			defer s.Close()
			c, err := Connect(&rest.Config{Host: s.URL}, "test")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Kube.Discovery().ServerVersion(); err != nil {
				t.Fatal(err)
			}
			if off := c.Now().Sub(time.Now().Add(ahead)).Abs(); off > 10*time.Second || ahead == 0 && off > time.Second {
				t.Errorf("the time is off by %s", off)
			}
		})
	}
}

// Errors of others are as they are, and none is nil.
func TestExplainOthers(t *testing.T) {
	plain := errors.New("something else")
	if got := Explain(plain); !errors.Is(got, plain) || got.Error() != plain.Error() {
		t.Errorf("it says %v", got)
	}
	if Explain(nil) != nil {
		t.Error("no error has become one")
	}
}
