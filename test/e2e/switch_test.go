package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// The switch stops all grants within a second, in every mode, at admission and
// late; it leaves running pods alone, survives an upgrade of the chart and the
// start of a replica, and once it is off all that waited bursts.
func TestSwitch(t *testing.T) {
	const prompt = time.Second
	fill(t)
	namespaces := map[string]string{}
	for _, mode := range []string{"Overflow", "Always", "Auto"} {
		namespaces[mode] = namespace(t, "switch-"+strings.ToLower(mode), map[string]string{"autoburst.io/mode": mode})
	}
	patient := namespace(t, "switch-patient", nil)
	policy(t, patient, "patient", "{overflow: {afterPendingSeconds: 3}}")

	kubectl(t, deployment("running", 3, podSpec{}), "--namespace="+namespaces["Overflow"], "apply", "-f", "-")
	mustEventually(t, time.Minute, "three pods run on virtual nodes", func(context.Context) (bool, error) {
		return len(bursting(t, namespaces["Overflow"])) == 3, nil
	})
	running := bursting(t, namespaces["Overflow"])

	// One pod that waits already would be granted while the switch is on.
	kubectl(t, barePod("patient", podSpec{}), "--namespace="+patient, "apply", "-f", "-")
	waitPod(t, patient, "patient", "is unschedulable", isUnschedulable)
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "--namespace="+playground.Namespace, "delete", "configmap", "autoburst-switch", "--ignore-not-found"); err != nil {
			t.Error(err)
		}
	})
	documented(t, "create configmap autoburst-switch")
	on := time.Now()
	mustEventually(t, 30*time.Second, "every replica has seen the switch", func(ctx context.Context) (bool, error) {
		return stoppedEverywhere(ctx, "1")
	})
	if d := time.Since(on); d > prompt {
		t.Errorf("the replicas saw the switch after %v, want %v at most", d, prompt)
	} else {
		t.Logf("the replicas saw the switch within %v", d)
	}

	waiting := map[string][]string{patient: {"patient"}}
	for mode, ns := range namespaces {
		kubectl(t, barePod("plain", podSpec{})+barePod("apart", podSpec{extra: preferApart}), "--namespace="+ns, "apply", "-f", "-")
		waiting[ns] = []string{"plain", "apart"}
		if got := pod(t, ns, "plain").Annotations["autoburst.io/reason"]; got != "Stopped" {
			t.Errorf("mode %s: the reason at admission is %q, want Stopped", mode, got)
		}
	}
	for ns, names := range waiting {
		mustEventually(t, 30*time.Second, "the pods of namespace "+ns+" are told once that bursting is stopped", func(ctx context.Context) (bool, error) {
			return told(ctx, ns, names)
		})
	}

	// Neither an upgrade nor a new replica, nor the end of the patient pod's wait,
	// gets round the switch.
	if err := system.InstallChart(t.Context(), "commonLabels.upgraded=whileStopped"); err != nil {
		t.Fatal(err)
	}
	c, err := system.StartController(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := stoppedEverywhere(t.Context(), "1"); !ok {
		t.Errorf("a replica that is ready does not know that bursting is stopped: %v", err)
	}
	system.RemoveController(c, endProcess(t))
	mustEventually(t, 30*time.Second, "the patient pod's wait is long over", func(context.Context) (bool, error) {
		for _, c := range pod(t, patient, "patient").Status.Conditions {
			if c.Type == corev1.PodScheduled {
				return time.Since(c.LastTransitionTime.Time) > 6*time.Second, nil
			}
		}
		return false, nil
	})
	for ns, names := range waiting {
		for _, name := range names {
			p := pod(t, ns, name)
			for _, toleration := range p.Spec.Tolerations {
				if !strings.HasPrefix(toleration.Key, "node.kubernetes.io/") {
					t.Errorf("pod %s/%s got the toleration of %s while the switch was on", ns, name, toleration.Key)
				}
			}
			if p.Spec.NodeName != "" || p.Annotations[grantAnnotation] != "" {
				t.Errorf("pod %s/%s is on node %q and granted %q while the switch was on", ns, name, p.Spec.NodeName, p.Annotations[grantAnnotation])
			}
		}
	}
	if diff := cmp.Diff(running, bursting(t, namespaces["Overflow"])); diff != "" {
		t.Errorf("pods that ran on virtual nodes (-before +while stopped):\n%s", diff)
	}

	documented(t, "delete configmap autoburst-switch")
	off := time.Now()
	for ns, names := range waiting {
		for _, name := range names {
			p := waitPod(t, ns, name, "is granted", func(p *corev1.Pod) bool { return p.Annotations[grantAnnotation] != "" })
			if got := p.Annotations[grantAnnotation]; got != "Late" {
				t.Errorf("pod %s/%s was granted %q, want Late", ns, name, got)
			}
		}
	}
	if d := time.Since(off); d > 5*time.Second {
		t.Errorf("all waiting pods were granted after %v, want 5 s at most", d)
	} else {
		t.Logf("all waiting pods were granted within %v", d)
	}
	for ns, names := range waiting {
		for _, name := range names {
			waitPod(t, ns, name, "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
		}
	}
	after := bursting(t, namespaces["Overflow"])
	maps.DeleteFunc(after, func(name string, _ burstPod) bool { return name == "plain" || name == "apart" })
	if diff := cmp.Diff(running, after); diff != "" {
		t.Errorf("pods that ran on virtual nodes (-before +after):\n%s", diff)
	}
}

// burstPod is what must not change of a pod that runs on a virtual node.
type burstPod struct {
	UID, Node, Container string
	Restarts             int32
	Started              string
}

// bursting are the pods of a namespace that run on virtual nodes, by name.
func bursting(t *testing.T, namespace string) map[string]burstPod {
	t.Helper()
	all := map[string]burstPod{}
	for _, p := range pods(t, namespace) {
		if p.DeletionTimestamp != nil || !onNode(eciNode)(&p) && !onNode(aciNode)(&p) {
			continue
		}
		b := burstPod{UID: string(p.UID), Node: p.Spec.NodeName}
		for _, c := range p.Status.ContainerStatuses {
			b.Container, b.Restarts = c.ContainerID, c.RestartCount
		}
		if p.Status.StartTime != nil {
			b.Started = p.Status.StartTime.String()
		}
		all[p.Name] = b
	}
	return all
}

func isUnschedulable(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
			return true
		}
	}
	return false
}

// told is true when each of the pods has exactly one event that says that
// bursting is stopped.
func told(ctx context.Context, namespace string, names []string) (bool, error) {
	list, err := client().EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return false, err
	}
	times := map[string]int{}
	for _, e := range list.Items {
		if e.Reason == "BurstStopped" && e.Series == nil {
			times[e.Regarding.Name]++
		}
	}
	for _, name := range names {
		if times[name] != 1 {
			return false, fmt.Errorf("pod %s has %d such events", name, times[name])
		}
	}
	return true, nil
}

// stoppedEverywhere is true when the metric autoburst_stopped of every replica
// has that value.
func stoppedEverywhere(ctx context.Context, want string) (bool, error) {
	for _, c := range system.Controllers() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Metrics+"/metrics", nil)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		found := false
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			found = found || lines.Text() == "autoburst_stopped "+want
		}
		if err := resp.Body.Close(); err != nil {
			return false, err
		}
		if err := lines.Err(); err != nil {
			return false, err
		}
		if !found {
			return false, fmt.Errorf("%s/metrics has no line autoburst_stopped %s", c.Metrics, want)
		}
	}
	return true, nil
}

// documented runs the line of the README that contains this command.
func documented(t *testing.T, command string) {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line, _, _ = strings.Cut(line, "#")
		if args := strings.Fields(line); len(args) > 1 && args[0] == "kubectl" && strings.Contains(line, command) {
			kubectl(t, "", args[1:]...)
			return
		}
	}
	t.Fatalf("README.md has no line with the command kubectl … %s", command)
}
