package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// drainer makes somebody with the rights that docs/drain.md names, and none but
// these, and returns a kubeconfig.
func drainer(t *testing.T) string {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "drain.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, role, ok := strings.Cut(string(page), "```yaml\n")
	role, _, ended := strings.Cut(role, "```")
	if !ok || !ended {
		t.Fatal("docs/drain.md names no rights")
	}
	kubectl(t, role, "apply", "-f", "-")
	ns := namespace(t, "operators", nil)
	kubectl(t, "", "--namespace="+ns, "create", "serviceaccount", "drainer")
	kubectl(t, "", "create", "clusterrolebinding", ns, "--clusterrole=autoburst-drain", "--serviceaccount="+ns+":drainer")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "clusterrolebinding/"+ns, "clusterrole/autoburst-drain"); err != nil {
			t.Error(err)
		}
	})
	config, err := system.ServiceAccountKubeconfig(t.Context(), ns, "drainer")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// A virtual node is emptied: with what is in the way named, by a command that is
// killed halfway and run again, until the cloud's own account holds nothing.
func TestDrain(t *testing.T) {
	config := drainer(t)
	onBothCloudsAtOnce(t, func(t *testing.T, node, ns string) {
		drain := func(args ...string) (out, errOut string, code int) {
			t.Helper()
			out, errOut, code = plugin(t, config, "", append([]string{"drain", node}, args...)...)
			t.Logf("drain %s ended with %d:\n%s%s", strings.Join(args, " "), code, out, errOut)
			return out, errOut, code
		}
		uncordon := func() {
			if _, err := system.Kubectl(context.Background(), "", "uncordon", node); err != nil {
				t.Error(err)
			}
		}
		t.Cleanup(uncordon)
		kubectl(t, deployment("web", 5, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, job("sum", 1, podSpec{extra: pinned[node], container: `command: [sh, -c, "echo 42"]`}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, barePod("alone", podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, fmt.Sprintf(`
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: %s}
spec: {minAvailable: 4, selector: {matchLabels: {app: web}}}
`, ns), "apply", "-f", "-")
		kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/web", "--timeout=90s")
		kubectl(t, "", "--namespace="+ns, "wait", "--for=condition=Complete", "job/sum", "--timeout=60s")
		waitPod(t, ns, "alone", "runs", onNode(node))
		kubectl(t, "", "--namespace="+ns, "wait", "--for=jsonpath={.status.disruptionsAllowed}=1", "pdb/web", "--timeout=30s")

		if _, errOut, code := drain(); code != 1 || !strings.Contains(errOut, ns+"/alone") || !strings.Contains(errOut, "--force") {
			t.Errorf("a bare pod: ended with %d: %s", code, errOut)
		}
		if out, _, code := drain("--dry-run", "--force"); code != 0 || strings.Count(out, "would evict") != 7 {
			t.Errorf("a dry run ended with %d and does not name 7 pods:\n%s", code, out)
		}
		if n, err := client().CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{}); err != nil || n.Spec.Unschedulable {
			t.Errorf("the node is cordoned before the drain: %v", err)
		}

		// The pods that take the places of evicted ones find no node, so the budget
		// lets one go and holds the other four.
		out, errOut, code := drain("--force", "--timeout=15s", "--grace-period=1")
		if code != 1 || !strings.Contains(errOut, "budget web") || !strings.Contains(errOut, "4 pods are left") || !strings.Contains(out, "pod "+ns+"/alone is gone") {
			t.Errorf("a budget: ended with %d: %s%s", code, out, errOut)
		}
		kubectl(t, "", "--namespace="+ns, "delete", "pdb/web")

		// Killed when the first pod is on its way.
		cmd := exec.CommandContext(t.Context(), system.Plugin(), "drain", node, "--force", "--grace-period=1")
		cmd.Env = append(os.Environ(), "KUBECONFIG="+config)
		lines, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for s := bufio.NewScanner(lines); s.Scan(); {
			if strings.Contains(s.Text(), "is evicted") {
				_ = cmd.Process.Kill()
				break
			}
		}
		_ = cmd.Wait() // it was killed
		if len(system.Groups(node)) == 0 {
			t.Error("the command was killed too late: no group is left")
		}
		out, errOut, code = drain("--force", "--grace-period=1", "--timeout=90s")
		if code != 0 || !strings.Contains(out, "is empty") {
			t.Errorf("run again, it ended with %d: %s%s", code, out, errOut)
		}
		if groups, billed := len(system.Groups(node)), system.Billed(node); groups+billed != 0 {
			t.Errorf("the cloud holds %d groups and charges for %d after it was said to hold none", groups, billed)
		}
		for _, p := range pods(t, ns) {
			if p.Spec.NodeName != "" {
				t.Errorf("pod %s is on node %s", p.Name, p.Spec.NodeName)
			}
		}

		// A node whose agent runs is not deleted: it would come back.
		out, errOut, code = drain("--delete-node", "--timeout=20s")
		if code != 1 || !strings.Contains(errOut, "its agents have not stopped") {
			t.Errorf("with an agent that runs, it ended with %d: %s%s", code, out, errOut)
		}
		system.RemoveAgent(node, endProcess(t))
		out, errOut, code = drain("--delete-node", "--timeout=60s")
		if code != 0 || !strings.Contains(out, "node "+node+" is deleted") {
			t.Errorf("without an agent, it ended with %d: %s%s", code, out, errOut)
		}
		if _, err := client().CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("reading the node: %v, want that it is not found", err)
		}

		// The agent makes it anew, for all who want to go there.
		if _, err := system.StartAgent(context.Background(), node); err != nil {
			t.Fatal(err)
		}
		if err := system.WaitNodeReady(t.Context(), node); err != nil {
			t.Fatal(err)
		}
		kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/web", "--timeout=90s")
	})
}

// No pod is granted to a cordoned virtual node, and those that wait are when it is
// uncordoned.
func TestCordonedNodesAreNoTargets(t *testing.T) {
	fill(t)
	for _, node := range []string{eciNode, aciNode} {
		kubectl(t, "", "cordon", node)
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "uncordon", node); err != nil {
				t.Error(err)
			}
		})
	}
	ns := namespace(t, "cordoned", overflow())
	kubectl(t, barePod("waits", podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "waits", "is unschedulable", func(p *corev1.Pod) bool {
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled {
				return c.Reason == corev1.PodReasonUnschedulable
			}
		}
		return false
	})
	// Were it granted, the grant would be there about now.
	err := playground.Poll(t.Context(), 5*time.Second, "the pod is granted", func(context.Context) (bool, error) {
		return pod(t, ns, "waits").Annotations["autoburst.io/grant"] != "", nil
	})
	if err == nil {
		t.Errorf("a pod was granted to a cordoned node: %v", pod(t, ns, "waits").Annotations)
	}
	kubectl(t, "", "uncordon", eciNode)
	waitPod(t, ns, "waits", "runs", onNode(eciNode))
}
