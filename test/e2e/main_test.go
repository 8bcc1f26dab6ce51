// Package e2e tests the whole system on a real control plane: the API server,
// scheduler and controller manager of Kubernetes, the chart, the webhook, the
// controller and the agents as processes with their own ServiceAccounts, and
// the emulated clouds.
package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/rights"
)

const (
	eciNode = playground.ECINode
	aciNode = playground.ACINode
)

// system is shared by the tests of this package, which run one after another;
// each uses namespaces of its own and leaves the cluster as it found it.
var system *playground.Playground

// excludedNamespace is one that the operator has taken out.
const excludedNamespace = "taken-out"

// The local room: three nodes with 16 slots of half a CPU each.
const slots = 48

func TestMain(m *testing.M) {
	os.Exit(playground.Suite{Name: "e2e", After: []func(context.Context) error{checkLogs, checkRights, checkUninstall}, Options: playground.Options{
		Local: playground.LocalNodes{Count: 3, CPU: "8", Memory: "32Gi", Pods: 40},
		Cloud: sim.Config{Timing: sim.DefaultTiming().Scaled(0.05), HostCommands: true},
		Race:  raceEnabled,
		Set:   []string{"webhook.excludedNamespaces={" + excludedNamespace + "}"},
		Cluster: cluster.Options{
			ControllerManagerArgs: []string{"--horizontal-pod-autoscaler-sync-period=2s"},
			AuditPolicy:           rights.Policy,
		},
	}}.Run(m, &system))
}

func checkLogs(context.Context) error { return system.CheckLogs() }

// checkRights compares what the programs asked the API server for with what the
// chart lets them ask for.
func checkRights(context.Context) error {
	return rights.Check(system.AuditLog(), playground.Namespace, rights.Whole(), func(rights.Right) bool { return true })
}

// checkUninstall ends the run as an operator would: nothing of the release may
// stay behind but the CRDs, which are kept with the policies.
func checkUninstall(ctx context.Context) error {
	if _, err := system.Helm(ctx, "uninstall", playground.Release, "--namespace="+playground.Namespace, "--wait"); err != nil {
		return err
	}
	for _, kind := range []string{"mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings", "roles", "rolebindings", "deployments", "services", "serviceaccounts"} {
		out, err := system.Kubectl(ctx, "", "get", kind, "--all-namespaces", "--selector=app.kubernetes.io/instance="+playground.Release, "-o", "name")
		if err != nil {
			return err
		}
		if out != "" {
			return fmt.Errorf("helm uninstall left behind: %s", out)
		}
	}
	_, err := system.Kubectl(ctx, "", "get", "crd", "burstpolicies.autoburst.io", "clusterburstpolicies.autoburst.io")
	return err
}

var namespaces atomic.Int32

// namespace makes a namespace of its own for a test. After the test its
// workloads are deleted, and their pods and container groups must go; the
// namespace itself may take its time.
func namespace(t *testing.T, prefix string, annotations map[string]string) string {
	t.Helper()
	name := fmt.Sprintf("%s-%d", prefix, namespaces.Add(1))
	if err := system.CreateNamespace(t.Context(), name, annotations); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := system.Kubectl(ctx, "", "--namespace="+name, "delete", "deployments,replicasets,daemonsets,jobs,pods", "--all", "--wait=false"); err != nil {
			t.Error(err)
		}
		eventually(t, time.Minute, "the pods of namespace "+name+" and their container groups are gone", func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Pods(name).List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			groups := groupsOf(name)
			if len(list.Items)+groups > 0 {
				return false, fmt.Errorf("%d pods and %d groups are left", len(list.Items), groups)
			}
			return true, nil
		})
		if _, err := system.Kubectl(ctx, "", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(system.Logs(15))
		}
	})
	return name
}

// groupsOf counts the groups that the clouds hold for pods of a namespace, by
// the ownership tags.
func groupsOf(namespace string) int {
	n := 0
	for _, node := range []string{eciNode, aciNode} {
		for _, g := range system.Groups(node) {
			for key, value := range g.Tags() {
				if strings.HasSuffix(key, "namespace") && value == namespace {
					n++
				}
			}
		}
	}
	return n
}

func overflow() map[string]string { return map[string]string{"autoburst.io/mode": "Overflow"} }

func client() kubernetes.Interface { return system.Client() }

func eventually(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(context.Background(), timeout, what, condition); err != nil {
		t.Error(err)
	}
}

func mustEventually(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	eventually(t, timeout, what, condition)
	if t.Failed() {
		t.FailNow()
	}
}

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := system.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func pods(t *testing.T, namespace string) []corev1.Pod {
	t.Helper()
	list, err := client().CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.Items
}

func pod(t *testing.T, namespace, name string) *corev1.Pod {
	t.Helper()
	p, err := client().CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waitPod waits until a pod fulfils a condition and returns it.
func waitPod(t *testing.T, namespace, name, what string, condition func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	mustEventually(t, time.Minute, fmt.Sprintf("pod %s/%s %s", namespace, name, what), func(ctx context.Context) (bool, error) {
		p, err := client().CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		last = p
		if !condition(p) {
			return false, fmt.Errorf("it is on %q, %s %s %s", p.Spec.NodeName, p.Status.Phase, p.Status.Reason, p.Status.Message)
		}
		return true, nil
	})
	return last
}

func onNode(node string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Spec.NodeName == node && p.Status.Phase == corev1.PodRunning }
}

// fill takes all local room with pods of a namespace that is not opted in, so
// that nothing else fits.
func fill(t *testing.T) {
	t.Helper()
	name := namespace(t, "filler", nil)
	kubectl(t, deployment("filler", slots, podSpec{cpu: "500m"}), "--namespace="+name, "apply", "-f", "-")
	mustEventually(t, time.Minute, "the local nodes are full", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Pods(name).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		return err == nil && len(list.Items) == slots, err
	})
}

// endProcess ends a program as an operator would.
func endProcess(t *testing.T) func(*cluster.Process) {
	return func(p *cluster.Process) {
		if err := p.Stop(30 * time.Second); err != nil {
			t.Error(err)
		}
	}
}
