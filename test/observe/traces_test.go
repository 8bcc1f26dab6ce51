package observe

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/playground"
)

// tracingConfiguration has the API server trace what its client asks it to.
func tracingConfiguration(t *testing.T, collector *collector) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tracing.yaml")
	text := "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nendpoint: " + collector.GRPC + "\nsamplingRatePerMillion: 0\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	tracedSecret = "value-of-a-variable-that-nobody-may-see"
	grantedLate  = "0af7651916cd43dd8448eb211c80319c"
	grantedAtACI = "1af7651916cd43dd8448eb211c80319c"
)

// checkTraces follows two pods, one for each cloud, from the client's request over the
// API server, the webhook, the controller and the agent to the call to the cloud.
func checkTraces(t *testing.T, p *playground.Playground, c *collector) {
	ctx := t.Context()
	for name, test := range map[string]struct {
		trace       string
		labels      map[string]string
		annotations map[string]string
		selector    map[string]string
		spans       []string // of the policy side, beside the admission
		call, cloud string
	}{
		"traced-late": {
			trace: grantedLate, labels: map[string]string{"app": "late"}, selector: map[string]string{v1alpha1.ProviderLabel: "eci"},
			spans: []string{"late grant"}, call: "CreateContainerGroup", cloud: "eci",
		},
		"traced-aci": {
			trace: grantedAtACI, annotations: map[string]string{v1alpha1.ModeAnnotation: string(v1alpha1.ModeAlways)}, selector: map[string]string{v1alpha1.ProviderLabel: "aci"},
			call: "CreateContainerGroup", cloud: "aci",
		},
	} {
		create(t, p, test.trace, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: test.labels, Annotations: test.annotations},
			Spec: corev1.PodSpec{
				NodeSelector: test.selector,
				Containers: []corev1.Container{{
					Name: "app", Image: "nginx", Env: []corev1.EnvVar{{Name: "PASSWORD", Value: tracedSecret}},
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")}},
				}},
			},
		})
		find := func(service, span string) (found spanData) {
			t.Helper()
			if err := playground.Poll(ctx, time.Minute, fmt.Sprintf("%s: %s sends the span %q", name, service, span), func(context.Context) (bool, error) {
				var err error
				found, err = c.find(test.trace, service, span)
				return err == nil, err
			}); err != nil {
				t.Fatal(err)
			}
			return found
		}
		admission := find("autoburst", "admission of pods")
		for _, span := range test.spans {
			if s := find("autoburst", span); s.parent != admission.id {
				t.Errorf("%s: span %q is not of the admission: %+v", name, span, s)
			}
		}
		const agent = "autoburst-vnode"
		start := find(agent, "start on virtual node")
		creates := find(agent, "create container group")
		for _, s := range []spanData{find(agent, "prepare container group"), creates, start} {
			if s.parent != admission.id || s.attributes["k8s.pod.name"] != name || s.attributes["cloud.provider"] != test.cloud {
				t.Errorf("%s: span %q is %+v", name, s.name, s)
			}
		}
		if start.end.Before(start.start) || start.end.Sub(start.start) > time.Minute {
			t.Errorf("%s: the start took %s", name, start.end.Sub(start.start))
		}
		call := find(agent, test.call)
		if call.parent != creates.id || call.attributes["cloud.request_id"] == "" || call.attributes["rpc.system"] != test.cloud {
			t.Errorf("%s: the call to the cloud is %+v", name, call)
		}
		// The API server's own span is between the client's and the webhook's.
		if err := playground.Poll(ctx, 30*time.Second, name+": the API server sends its spans", func(context.Context) (bool, error) {
			parent, ok := c.byID(test.trace, admission.parent)
			return ok && parent.service == "apiserver", nil
		}); err != nil {
			t.Error(err)
		}
	}

	// virtual-kubelet's own, of its heartbeat.
	if err := playground.Poll(ctx, time.Minute, "the agents send spans of virtual-kubelet", func(context.Context) (bool, error) {
		return c.has("autoburst-vnode", "node.pingNode"), nil
	}); err != nil {
		t.Error(err)
	}

	// What the API server does not record, nobody records, and no pod is changed by it.
	list, err := p.Client().CoreV1().Pods("shop").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range list.Items {
		carried := pod.Annotations[v1alpha1.TraceparentAnnotation]
		if traced := pod.Name == "traced-late" || pod.Name == "traced-aci"; traced != (carried != "") {
			t.Errorf("pod %s carries the trace %q", pod.Name, carried)
		}
	}
	sent := c.bytes()
	for _, secret := range []string{tracedSecret, playground.ECISecretKey, playground.ACIClientPassword} {
		if bytes.Contains(sent, []byte(secret)) {
			t.Errorf("a span holds the secret %q", secret)
		}
	}
}

// create makes a pod in a trace, as a client that traces does.
func create(t *testing.T, p *playground.Playground, trace string, pod *corev1.Pod) {
	t.Helper()
	config := p.Config()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
			return next.RoundTrip(r)
		})
	})
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods("shop").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
