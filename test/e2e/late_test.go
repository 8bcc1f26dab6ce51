package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const grantAnnotation = "autoburst.io/grant"

// A full cluster overflows, granted at admission where the scheduler's scores
// keep local nodes first, and late everywhere else, a stopped webhook included.
func TestOverflow(t *testing.T) {
	fill(t)
	tests := map[string]struct {
		spec   podSpec
		before func(t *testing.T)
		// after comes when the pods have been created.
		after func(t *testing.T, namespace string)
		grant string
	}{
		"at admission": {grant: "Admission"},
		"late, as the pods prefer to be apart": {
			spec: podSpec{extra: preferApart}, grant: "Late",
		},
		"late, as a local node bears a soft taint": {before: softTaint, grant: "Late"},
		"late, as the webhook is stopped and was so at admission": {
			before: stopWebhook, after: startOneController,
			grant: "Late",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "overflowing", overflow())
			if test.before != nil {
				test.before(t)
			}
			kubectl(t, deployment("strays", 5, test.spec), "--namespace="+ns, "apply", "-f", "-")
			if test.after != nil {
				test.after(t, ns)
			}
			mustEventually(t, time.Minute, "five pods run on virtual nodes", func(ctx context.Context) (bool, error) {
				list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
				if err != nil {
					return false, err
				}
				n := 0
				for _, p := range list.Items {
					if p.Status.Phase == corev1.PodRunning && (p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode) {
						n++
					}
				}
				return n == 5, nil
			})
			for _, p := range pods(t, ns) {
				if got := p.Annotations[grantAnnotation]; got != test.grant {
					t.Errorf("pod %s was granted %q, want %q (%s)", p.Name, got, test.grant, p.Annotations["autoburst.io/reason"])
				}
			}
		})
	}
}

// startOneController brings the controller back once all pods wait.
func startOneController(t *testing.T, ns string) {
	t.Helper()
	mustEventually(t, 30*time.Second, "five pods wait", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == 5, err
	})
	if _, err := system.StartController(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// afterPendingSeconds counts from the scheduler's first verdict.
func TestAfterPendingSeconds(t *testing.T) {
	fill(t)
	ns := namespace(t, "patient", nil)
	policy(t, ns, "wait", "{overflow: {afterPendingSeconds: 4}}")
	kubectl(t, barePod("patient", podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	p := waitPod(t, ns, "patient", "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
	refused := p.CreationTimestamp.Time // the verdict comes within the same second
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled {
			if waited := c.LastTransitionTime.Sub(refused); waited < 3*time.Second || waited > 15*time.Second {
				t.Errorf("the pod was scheduled %s after its creation, want 4 s and a little", waited)
			}
		}
	}
	if p.Annotations[grantAnnotation] != "Late" {
		t.Errorf("the pod was granted %q, want Late", p.Annotations[grantAnnotation])
	}
}

// Pressure opens a policy when enough pods wait, and closes it again.
func TestPressure(t *testing.T) {
	fill(t)
	ns := namespace(t, "pressed", nil)
	policy(t, ns, "pressure", "{overflow: {pressure: {unschedulablePods: 4, forSeconds: 1, cooldownSeconds: 2}}}")
	apply := func(replicas int) {
		kubectl(t, deployment("pressed", replicas, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	}
	burst := func(ctx context.Context) (n, waiting int, err error) {
		list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return 0, 0, err
		}
		for _, p := range list.Items {
			switch p.Spec.NodeName {
			case eciNode, aciNode:
				n++
			case "":
				waiting++
			}
		}
		return n, waiting, nil
	}
	apply(3)
	mustEventually(t, 20*time.Second, "three pods are known to wait", func(ctx context.Context) (bool, error) {
		out, err := system.Kubectl(ctx, "", "--namespace="+ns, "get", "burstpolicy", "pressure", "-o", "jsonpath={.status.pods.waiting}")
		if err == nil && out != "3" {
			err = fmt.Errorf("status.pods.waiting is %q", out)
		}
		return err == nil, err
	})
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=condition=UnderPressure=False", "--timeout=20s")
	if n, waiting, err := burst(t.Context()); err != nil || n != 0 || waiting != 3 {
		t.Fatalf("%d pods burst and %d wait (%v), want 0 and 3: three are less than the pressure of four", n, waiting, err)
	}
	apply(6)
	mustEventually(t, 30*time.Second, "all six burst", func(ctx context.Context) (bool, error) {
		n, waiting, err := burst(ctx)
		if err == nil && n != 6 {
			err = fmt.Errorf("%d burst, %d wait", n, waiting)
		}
		return err == nil, err
	})
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=condition=UnderPressure=False", "--timeout=30s")
	apply(8)
	// Closed again: the two new ones are fewer than four.
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=jsonpath={.status.pods.waiting}=2", "--timeout=20s")
	if n, waiting, err := burst(t.Context()); err != nil || n != 6 || waiting != 2 {
		t.Errorf("%d pods burst and %d wait (%v), want 6 and 2", n, waiting, err)
	}
}

// policy makes a BurstPolicy and waits until it is in force.
func policy(t *testing.T, namespace, name, spec string) {
	t.Helper()
	kubectl(t, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: "+name+"}, spec: "+spec+"}",
		"--namespace="+namespace, "apply", "-f", "-")
	kubectl(t, "", "--namespace="+namespace, "wait", "burstpolicy/"+name, "--for=condition=Ready", "--timeout=20s")
}
