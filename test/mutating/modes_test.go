package mutating

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

// plain is a bare pod of half a CPU.
func plain(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "nginx:1.29",
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
			}},
		}}},
	}
}

// Without any webhook pods run where their mode says.
func TestModes(t *testing.T) {
	hooks, err := client().AdmissionregistrationV1().MutatingWebhookConfigurations().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(hooks.Items) > 0 {
		t.Fatalf("there are %d webhook configurations (%v), want none", len(hooks.Items), err)
	}
	for mode, want := range map[string]struct {
		grant, reason string
		where         func(*corev1.Pod) bool
	}{
		"Always":   {"Admission", "VirtualOnly", virtual},
		"Auto":     {"Admission", "SchedulerChooses", func(*corev1.Pod) bool { return true }},
		"Overflow": {"", "AdmissionByPolicy", func(p *corev1.Pod) bool { return !virtual(p) }},
		"Never":    {"", "", func(p *corev1.Pod) bool { return !virtual(p) }},
	} {
		t.Run(mode, func(t *testing.T) {
			ns := namespace(t, "mode-"+strings.ToLower(mode), mode)
			created := mustCreate(t, ns, plain("web"))
			if got := created.Annotations["autoburst.io/grant"]; got != want.grant {
				t.Errorf("granted %q at admission, want %q", got, want.grant)
			}
			if got := created.Annotations["autoburst.io/reason"]; got != want.reason {
				t.Errorf("the reason is %q, want %q", got, want.reason)
			}
			p := wait(t, ns, "web", "runs", running)
			if !want.where(p) {
				t.Errorf("it runs on %s", p.Spec.NodeName)
			}
		})
	}
}

// What does not fit locally bursts late, and nothing else does.
func TestOverflow(t *testing.T) {
	ns := namespace(t, "overflow", "Overflow")
	watch, err := playground.WatchPlacements(context.Background(), client())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	const more = 5
	for i := range slots + more {
		mustCreate(t, ns, plain(fmt.Sprintf("web-%d", i)))
	}
	late := 0
	for i := range slots + more {
		p := wait(t, ns, fmt.Sprintf("web-%d", i), "runs", running)
		if virtual(p) {
			late++
			if p.Annotations["autoburst.io/grant"] != "Late" {
				t.Errorf("pod %s was granted %q, want Late", p.Name, p.Annotations["autoburst.io/grant"])
			}
		}
	}
	if late != more {
		t.Errorf("%d pods burst, want the %d that fit no local node", late, more)
	}
	for _, s := range watch.Strays() {
		t.Error("stray:", s)
	}
}

// The switch stops what the API server grants within a second.
func TestSwitch(t *testing.T) {
	const prompt = time.Second
	ns := namespace(t, "switch", "Always")
	reason := func(t *testing.T, want string) {
		t.Helper()
		begin := time.Now()
		eventually(t, "a pod would be admitted with the reason "+want, func(ctx context.Context) (bool, error) {
			p, err := create(ctx, ns, plain("probe"), true)
			return err == nil && p.Annotations["autoburst.io/reason"] == want, err
		})
		if d := time.Since(begin); d > prompt {
			t.Errorf("the reason was %s after %v, want %v at most", want, d, prompt)
		} else {
			t.Logf("the reason was %s after %v", want, d)
		}
	}
	reason(t, "VirtualOnly")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "--namespace="+playground.Namespace, "delete", "configmap", "autoburst-switch", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "", "--namespace="+playground.Namespace, "create", "configmap", "autoburst-switch", "--from-literal=stopped=true")
	reason(t, "Stopped")
	p := mustCreate(t, ns, plain("stopped"))
	if p.Annotations["autoburst.io/grant"] != "" {
		t.Errorf("granted %q while the switch is on", p.Annotations["autoburst.io/grant"])
	}
	for _, toleration := range p.Spec.Tolerations {
		if !strings.HasPrefix(toleration.Key, "node.kubernetes.io/") {
			t.Errorf("got the toleration of %s while the switch is on", toleration.Key)
		}
	}
	kubectl(t, "", "--namespace="+playground.Namespace, "delete", "configmap", "autoburst-switch")
	reason(t, "VirtualOnly")
	if p := wait(t, ns, "stopped", "runs", running); !virtual(p) || p.Annotations["autoburst.io/grant"] != "Late" {
		t.Errorf("it runs on %s, granted %q", p.Spec.NodeName, p.Annotations["autoburst.io/grant"])
	}
}

// A change of a policy is in force within a second.
func TestPolicyChanges(t *testing.T) {
	const prompt = time.Second
	ns := namespace(t, "changes", "")
	for _, mode := range []string{"Always", "Never", "Auto", "Overflow"} {
		kubectl(t, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: web}, spec: {mode: "+mode+"}}",
			"--namespace="+ns, "apply", "-f", "-")
		want := mode
		if mode == "Never" {
			want = ""
		}
		begin := time.Now()
		eventually(t, "pods are admitted in mode "+mode, func(ctx context.Context) (bool, error) {
			p, err := create(ctx, ns, plain("probe"), true)
			return err == nil && p.Annotations["autoburst.io/decided-mode"] == want, err
		})
		if d := time.Since(begin); d > prompt {
			t.Errorf("mode %s was in force after %v, want %v at most", mode, d, prompt)
		} else {
			t.Logf("mode %s was in force after %v", mode, d)
		}
	}
}
