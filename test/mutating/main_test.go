// Package mutating tests the system without a webhook: the API server admits pods
// by itself, by the MutatingAdmissionPolicy of the chart. It has a system of its
// own, since the mode is one of the whole installation.
package mutating

import (
	"context"
	"fmt"
	"os"
	"strings"
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

const byPolicy = "admission=MutatingAdmissionPolicy"

// The local room: two nodes with 4 slots of half a CPU each.
const slots = 8

// system is shared by the tests of this package, which run one after another.
var system *playground.Playground

func TestMain(m *testing.M) {
	os.Exit(playground.Suite{Name: "mutating", Options: playground.Options{
		Local:   playground.LocalNodes{Count: 2, CPU: "2", Memory: "8Gi", Pods: 40},
		Cloud:   sim.Config{Timing: sim.DefaultTiming().Scaled(0.05)},
		Race:    raceEnabled,
		Set:     []string{byPolicy},
		Cluster: cluster.Options{AuditPolicy: rights.Policy},
	}}.Run(m, &system))
}

// checkLogs fails for a data race, a panic, and a request that the chart's Roles
// forbid. It comes before these Roles change.
func checkLogs(t testing.TB) {
	t.Helper()
	for _, c := range system.Controllers() {
		log := string(c.Process.Tail(100000))
		for _, bad := range []string{"DATA RACE", "panic:", "is forbidden"} {
			if i := strings.Index(log, bad); i >= 0 {
				t.Errorf("%s says %q: …%s", c.Process.Name, bad, log[max(0, i-200):min(len(log), i+400)])
			}
		}
	}
}

// checkRights compares what the programs have asked the API server for with what
// the chart lets them ask for. Of the rights that no request needed, those count
// that are for this mode only. It comes before the Roles change, too.
func checkRights(t testing.TB) {
	t.Helper()
	if err := rights.Check(system.AuditLog(), playground.Namespace, true, func(r rights.Right) bool {
		return r.Resource == "burstadmissions" || r.Resource == "mutatingadmissionpolicies"
	}); err != nil {
		t.Error(err)
	}
}

func client() kubernetes.Interface { return system.Client() }

// namespace makes a namespace whose pods go with the test, and waits until it is
// served if anything opts it in.
func namespace(t testing.TB, name, mode string) string {
	t.Helper()
	var annotations map[string]string
	if mode != "" {
		annotations = map[string]string{"autoburst.io/mode": mode}
	}
	if err := system.CreateNamespace(t.Context(), name, annotations); err != nil {
		t.Fatal(err)
	}
	if mode != "" && mode != "Never" {
		served(t, name)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := system.Kubectl(ctx, "", "--namespace="+name, "delete", "pods", "--all", "--wait=false"); err != nil {
			t.Error(err)
		}
		eventually(t, "the pods of namespace "+name+" are gone", func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Pods(name).List(ctx, metav1.ListOptions{})
			return err == nil && len(list.Items) == 0, err
		})
	})
	return name
}

// served waits until the API server looks at the pods of a namespace.
func served(t testing.TB, name string) {
	t.Helper()
	eventually(t, "namespace "+name+" is served", func(ctx context.Context) (bool, error) {
		ns, err := client().CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil || ns.Labels["autoburst.io/served"] != "true" {
			return false, err
		}
		out, err := system.Kubectl(ctx, "", "get", "burstadmission", playground.Release, "-o", "jsonpath={.spec.namespaces."+name+"}")
		return out != "", err
	})
}

func eventually(t testing.TB, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(context.Background(), time.Minute, what, condition); err != nil {
		t.Fatal(err)
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

// burstPolicy makes a BurstPolicy and waits until it is in force.
func burstPolicy(t *testing.T, namespace, name, spec string) {
	t.Helper()
	kubectl(t, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: "+name+"}, spec: "+spec+"}",
		"--namespace="+namespace, "apply", "-f", "-")
	kubectl(t, "", "--namespace="+namespace, "wait", "burstpolicy/"+name, "--for=condition=Ready", "--timeout=20s")
}

// create makes a pod; with dryRun it only asks what would become of it.
func create(ctx context.Context, namespace string, pod *corev1.Pod, dryRun bool) (*corev1.Pod, error) {
	var o metav1.CreateOptions
	if dryRun {
		o.DryRun = []string{metav1.DryRunAll}
	}
	return client().CoreV1().Pods(namespace).Create(ctx, pod, o)
}

func mustCreate(t *testing.T, namespace string, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	out, err := create(t.Context(), namespace, pod, false)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wait until a pod fulfils a condition and return it.
func wait(t *testing.T, namespace, name, what string, condition func(*corev1.Pod) bool) *corev1.Pod {
	t.Helper()
	var last *corev1.Pod
	eventually(t, fmt.Sprintf("pod %s/%s %s", namespace, name, what), func(ctx context.Context) (bool, error) {
		p, err := client().CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if last = p; !condition(p) {
			return false, fmt.Errorf("it is on %q, %s; annotations %v", p.Spec.NodeName, p.Status.Phase, p.Annotations)
		}
		return true, nil
	})
	return last
}

func running(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }

func virtual(p *corev1.Pod) bool {
	return p.Spec.NodeName == playground.ECINode || p.Spec.NodeName == playground.ACINode
}
