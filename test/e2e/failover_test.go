package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// inOrder are the targets of these tests.
const inOrder = `targets: [
  {name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}, podMetadata: {annotations: {example.com/cost-centre: burst, example.com/owner: policy}}},
  {name: aci, nodeSelector: {matchLabels: {autoburst.io/provider: aci}}, podMetadata: {annotations: {example.com/cost-centre: burst}}}]`

// ECI runs out of machines: pods that somebody replaces are failed and their
// replacements run on ACI, a bare pod waits, a Job does not mind, and once there are
// machines again new pods go to ECI.
func TestFailover(t *testing.T) {
	fill(t)
	ns := namespace(t, "failover", nil)
	policy(t, ns, "both", "{"+inOrder+"}")
	restartAgent(t, eciNode, "REFUSAL_GRACE=3s", "CAPACITY_PAUSE=20s")
	t.Cleanup(func() { restartAgent(t, eciNode) })

	system.ECI.SetShortages(eci.Shortage{})
	t.Cleanup(func() { system.ECI.SetShortages() })
	kubectl(t, deployment("web", 3, podSpec{})+"---"+patientJob+"---"+barePod("bare", podSpec{}), "--namespace="+ns, "apply", "-f", "-")

	refused := map[string]bool{}
	mustEventually(t, time.Minute, "the pods that ECI refused are failed and their replacements run on ACI", func(context.Context) (bool, error) {
		running, job := 0, 0
		for _, p := range pods(t, ns) {
			switch {
			case p.Name == "bare":
			case p.Status.Phase == corev1.PodFailed:
				refused[p.Name] = true
				if p.Spec.NodeName != eciNode || p.Status.Reason != v1alpha1.PodOutOfStock ||
					!strings.Contains(p.Status.Message, "OperationDenied.NoStock") || !hasCondition(&p, corev1.DisruptionTarget) {
					t.Errorf("pod %s on %s failed: %s: %s, conditions %v", p.Name, p.Spec.NodeName, p.Status.Reason, p.Status.Message, p.Status.Conditions)
				}
			case p.Labels["app"] == "web" && onNode(aciNode)(&p):
				running++
			case strings.HasPrefix(p.Name, "patient") && p.Status.Phase == corev1.PodSucceeded:
				job++
			}
		}
		if running != 3 || job != 1 || len(refused) < 4 {
			return false, fmt.Errorf("%d run on ACI, %d pods of the Job succeeded, %d were refused", running, job, len(refused))
		}
		return true, nil
	})
	if len(refused) != 4 {
		t.Errorf("%d pods were refused, want the 3 of the Deployment and the one of the Job: a replacement met ECI again", len(refused))
	}
	kubectl(t, "", "--namespace="+ns, "wait", "--for=condition=Complete", "job/patient", "--timeout=30s")
	if failed := kubectl(t, "", "--namespace="+ns, "get", "job", "patient", "-o", "jsonpath={.status.failed}"); failed != "" && failed != "0" {
		t.Errorf("the Job counts %s failures, though its podFailurePolicy ignores pods that the cloud refused", failed)
	}
	until := kubectl(t, "", "--namespace="+ns, "get", "burstpolicy", "both", "-o", "jsonpath={.status.targets[0].suspendedUntil} {.status.targets[0].suspensions} {.status.targets[0].reason}")
	if at, _, _ := strings.Cut(until, " "); at == "" || !strings.Contains(until, " 1 ") || !strings.Contains(until, "OutOfStock") {
		t.Errorf("status of target eci: %q, want suspendedUntil, 1 and the reason", until)
	}
	if p := pod(t, ns, "bare"); p.Spec.NodeName != eciNode || p.Status.Phase != corev1.PodPending || p.Status.Reason != "CloudOutOfStock" {
		t.Errorf("the bare pod is on %s, %s %s, want it to wait on %s with the cloud's reason", p.Spec.NodeName, p.Status.Phase, p.Status.Reason, eciNode)
	}

	system.ECI.SetShortages()
	waitPod(t, ns, "bare", "runs on ECI once there are machines again", onNode(eciNode))
	mustEventually(t, time.Minute, "target eci is used again", func(ctx context.Context) (bool, error) {
		out, err := system.Kubectl(ctx, "", "--namespace="+ns, "get", "burstpolicy", "both", "-o", "jsonpath={.status.targets[0].suspendedUntil}{.status.targets[0].reason}")
		if err == nil && out != "" {
			err = fmt.Errorf("target eci: %s", out)
		}
		return err == nil, err
	})
	kubectl(t, deployment("after", 2, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "new pods run on ECI", func(context.Context) (bool, error) {
		n := 0
		for _, p := range pods(t, ns) {
			if p.Labels["app"] == "after" && onNode(eciNode)(&p) {
				n++
			}
		}
		return n == 2, nil
	})
	events := kubectl(t, "", "--namespace="+ns, "get", "events", "--field-selector=involvedObject.name=both", "-o", "jsonpath={.items[*].reason}")
	for _, want := range []string{"TargetSuspended", "TargetResumed"} {
		if !strings.Contains(events, want) {
			t.Errorf("events of the policy: %s, want %s among them", events, want)
		}
	}
}

// patientJob would fail for good by its first failed pod, did it not ignore those
// that the cloud refused.
const patientJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: patient}
spec:
  backoffLimit: 0
  podFailurePolicy:
    rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget}]
  template:
    metadata: {labels: {autoburst.test/stay: "true"}}
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: nginx:1.29
        command: [sh, -c, "exit 0"]
        resources: {requests: {cpu: 500m, memory: 64Mi}}
`

// What is stamped on pods is there in the very write that binds them, and the user's
// own values stay. Where the webhook is away the controller writes it, once.
func TestStamps(t *testing.T) {
	fill(t)
	tests := map[string]struct {
		replicas func(t *testing.T) []*playground.Controller
		stamped  string
		// repaired is how many pods the controller writes to.
		repaired int
	}{
		"with the webhook":    {replicas: func(*testing.T) []*playground.Controller { return system.Controllers() }, stamped: "Binding"},
		"without the webhook": {replicas: unreachableWebhook, stamped: "Later", repaired: 7},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ns := namespace(t, "stamps", nil)
			policy(t, ns, "both", "{"+inOrder+"}")
			controllers := test.replicas(t)
			repaired := metric(t, controllers, "autoburst_stamps_repaired_total")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			_, events, err := playground.WatchPods(ctx, client(), ns)
			if err != nil {
				t.Fatal(err)
			}
			kubectl(t, deployment("web", 3, podSpec{})+"---"+
				deployment("late", 2, podSpec{extra: preferApart})+"---"+
				ownValues+"---"+barePod("bare", podSpec{}), "--namespace="+ns, "apply", "-f", "-")

			bound, wrote := map[string]bool{}, map[string]int{}
			last := map[string]map[string]string{}
			deadline := time.After(time.Minute)
			done := func() bool {
				for _, annotations := range last {
					if annotations["autoburst.io/stamped"] == "" {
						return false
					}
				}
				return len(bound) == 7
			}
			for !done() {
				select {
				case e := <-events:
					if e.Err != nil {
						t.Fatal(e.Err)
					}
					p := e.Pod
					if p.Spec.NodeName == "" {
						continue
					}
					if !bound[p.Name] && test.stamped == "Binding" && p.Annotations["autoburst.io/stamped"] != "Binding" {
						t.Errorf("pod %s was bound to %s with annotations %v", p.Name, p.Spec.NodeName, p.Annotations)
					}
					bound[p.Name] = true
					if before := last[p.Name]; before != nil && fmt.Sprint(before) != fmt.Sprint(p.Annotations) {
						wrote[p.Name]++
					}
					last[p.Name] = p.Annotations
				case <-deadline:
					t.Fatalf("not stamped within a minute: %v", last)
				}
			}
			for name, got := range last {
				want := map[string]string{"autoburst.io/stamped": test.stamped, "example.com/cost-centre": "burst", "example.com/owner": "policy"}
				switch {
				case strings.HasPrefix(name, "own"):
					want[corev1.PodDeletionCost], want["example.com/owner"] = "7", "me"
				case name != "bare":
					want[corev1.PodDeletionCost] = v1alpha1.BurstDeletionCost
				}
				for key, value := range want {
					if got[key] != value {
						t.Errorf("pod %s: annotation %s is %q, want %q", name, key, got[key], value)
					}
				}
				if _, set := got[corev1.PodDeletionCost]; set && name == "bare" {
					t.Error("the bare pod got a deletion cost, which nobody reads")
				}
				if most := min(test.repaired, 1); wrote[name] > most {
					t.Errorf("%d writes of annotations of pod %s after it was bound, want at most %d", wrote[name], name, most)
				}
			}
			eventually(t, 10*time.Second, "the controller has counted its writes", func(context.Context) (bool, error) {
				got := int(metric(t, controllers, "autoburst_stamps_repaired_total") - repaired)
				if got != test.repaired {
					return false, fmt.Errorf("%d, want %d", got, test.repaired)
				}
				return true, nil
			})
		})
	}
}

// ownValues is a Deployment whose pods have values of their own for all that is
// stamped but one.
const ownValues = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: own}
spec:
  replicas: 1
  selector: {matchLabels: {app: own}}
  template:
    metadata:
      labels: {app: own}
      annotations: {controller.kubernetes.io/pod-deletion-cost: "7", example.com/owner: me}
    spec:
      containers:
      - name: app
        image: nginx:1.29
        resources: {requests: {cpu: 500m, memory: 64Mi}}
`

// A ReplicaSet with pods on both sides shrinks: those on virtual nodes go, although
// Kubernetes by itself would take those first that share a node with the most others,
// which here are the local ones.
func TestScaleIn(t *testing.T) {
	filler := namespace(t, "filler", nil)
	kubectl(t, deployment("here", 6, podSpec{cpu: "500m", extra: "nodeSelector: {kubernetes.io/hostname: local-1}"})+"---"+
		deployment("there", 32, podSpec{cpu: "500m", extra: `
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [local-1]}]}]
`}), "--namespace="+filler, "apply", "-f", "-")
	for _, name := range []string{"here", "there"} {
		kubectl(t, "", "--namespace="+filler, "rollout", "status", "deployment/"+name, "--timeout=60s")
	}
	for scaleIn, cost := range map[string]string{"BurstFirst": v1alpha1.BurstDeletionCost, "Unordered": ""} {
		t.Run(scaleIn, func(t *testing.T) {
			ns := namespace(t, "scale-in", nil)
			policy(t, ns, "first", "{scaleIn: "+scaleIn+"}")
			kubectl(t, deployment("web", 20, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
			kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/web", "--timeout=60s")
			local := map[string]bool{}
			byNode := map[string]int{}
			for _, p := range pods(t, ns) {
				byNode[p.Spec.NodeName]++
				if p.Spec.NodeName != eciNode && p.Spec.NodeName != aciNode {
					local[p.Name] = true
				} else if got := p.Annotations[corev1.PodDeletionCost]; got != cost {
					t.Errorf("pod %s on %s has deletion cost %q, want %q", p.Name, p.Spec.NodeName, got, cost)
				}
			}
			if byNode["local-1"] != 10 || byNode[eciNode] == 0 || byNode[aciNode] == 0 {
				t.Fatalf("20 pods are on %v, want 10 on local-1 and the others on both virtual nodes", byNode)
			}
			kubectl(t, "", "--namespace="+ns, "scale", "deployment/web", "--replicas=10")
			mustEventually(t, time.Minute, "ten pods are left", func(ctx context.Context) (bool, error) {
				list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
				return err == nil && len(list.Items) == 10, err
			})
			left := 0
			for _, p := range pods(t, ns) {
				if local[p.Name] && p.DeletionTimestamp == nil {
					left++
				}
			}
			if scaleIn == "BurstFirst" && left != 10 {
				t.Errorf("%d of the 10 local pods are left, want all", left)
			}
			t.Logf("%d of 10 local pods are left", left)
		})
	}
}

// restartAgent starts the agent of a virtual node anew with more variables.
func restartAgent(t *testing.T, node string, env ...string) {
	t.Helper()
	system.RemoveAgent(node, endProcess(t))
	if _, err := system.StartAgent(context.Background(), node, env...); err != nil {
		t.Fatal(err)
	}
	if err := system.WaitNodeReady(context.Background(), node); err != nil {
		t.Fatal(err)
	}
}

// unreachableWebhook replaces the replicas by one that the API server cannot reach.
func unreachableWebhook(t *testing.T) []*playground.Controller {
	t.Helper()
	stopWebhook(t)
	c, err := system.StartController(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	system.RemoveController(c, func(*cluster.Process) {})
	t.Cleanup(func() { endProcess(t)(c.Process) })
	mustEventually(t, time.Minute, "the replica is ready", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Health+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	})
	return []*playground.Controller{c}
}

// metric sums a metric without labels over replicas.
func metric(t *testing.T, of []*playground.Controller, name string) float64 {
	t.Helper()
	sum := 0.0
	for _, c := range of {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.Metrics+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				sum, found = sum+v, true
			}
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if !found {
			t.Fatalf("%s/metrics has no %s", c.Metrics, name)
		}
	}
	return sum
}

func hasCondition(p *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
