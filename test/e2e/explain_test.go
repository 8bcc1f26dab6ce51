package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// explanation is what these tests read of kubectl autoburst explain -o json.
type explanation struct {
	Node       string
	Decision   explained
	Considered []struct{ By, Verdict, Why string }
	Targets    []struct {
		Chosen bool
		Nodes  []struct{ Name, Verdict string }
	}
	Diff     string
	Recorded *explained
	Late     *struct{ Decision explained }
}

type explained struct{ Action, Reason, Message, Docs, Policy, Mode, Target, Grant string }

// plugin runs kubectl autoburst as a user with that kubeconfig.
func plugin(t *testing.T, kubeconfig, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), system.Plugin(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func explain(t *testing.T, kubeconfig, stdin string, args ...string) explanation {
	t.Helper()
	out, errOut, code := plugin(t, kubeconfig, stdin, append([]string{"explain", "-o", "json"}, args...)...)
	if code != 0 {
		t.Fatalf("explain %s ended with %d: %s", strings.Join(args, " "), code, errOut)
	}
	var e explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	return e
}

// reader makes a user who may read what explain needs, and nothing more, and
// returns its kubeconfig.
func reader(t *testing.T, namespace string) string {
	t.Helper()
	name := "reader-" + namespace
	kubectl(t, fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: %[2]s}
rules:
- {apiGroups: [""], resources: [namespaces], verbs: [get]}
- {apiGroups: [""], resources: [nodes], verbs: [list]}
- {apiGroups: [""], resources: [pods], verbs: [get, list]}
- {apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get]}
- {apiGroups: [batch], resources: [jobs], verbs: [get]}
- {apiGroups: [autoburst.io], resources: [burstpolicies, clusterburstpolicies, burstadmissions], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: %[2]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: %[2]s}
subjects: [{kind: ServiceAccount, name: reader, namespace: %[1]s}]
`, namespace, name), "apply", "-f", "-")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "clusterrole,clusterrolebinding", name); err != nil {
			t.Error(err)
		}
	})
	path, err := system.ServiceAccountKubeconfig(t.Context(), namespace, "reader")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// What kubectl autoburst explain says of a pod is what the webhook and the
// controller do with it.
func TestExplain(t *testing.T) {
	ns := namespace(t, "explained", nil)
	user := reader(t, ns)
	policy(t, ns, "patient", "{priority: 5, podSelector: {matchLabels: {app: waits}}, overflow: {afterPendingSeconds: 3600}}")
	policy(t, ns, "rest", "{targets: [{name: aci, nodeSelector: {matchLabels: {autoburst.io/provider: aci}}}]}")
	fill(t)

	t.Run("before and after a burst", func(t *testing.T) {
		manifest := barePod("bursts", podSpec{})
		before := explain(t, user, manifest, "--namespace="+ns, "-f", "-")
		kubectl(t, manifest, "--namespace="+ns, "apply", "-f", "-")
		created := waitPod(t, ns, "bursts", "runs on ACI", onNode(aciNode))
		after := explain(t, user, "", "--namespace="+ns, "pod/bursts")

		for when, d := range map[string]explained{"before": before.Decision, "after": after.Decision} {
			if d.Action != "Grant" || d.Reason != created.Annotations["autoburst.io/reason"] ||
				d.Policy != created.Annotations["autoburst.io/policy"] || d.Grant != created.Annotations[grantAnnotation] || d.Target != "aci" {
				t.Errorf("%s: explain says %+v, the pod bears %v", when, d, created.Annotations)
			}
		}
		for key, value := range created.Annotations {
			if key == v1alpha1.SizeAnnotation {
				continue // the agent's
			}
			if strings.HasPrefix(key, "autoburst.io/") && !strings.Contains(before.Diff, "+     "+key+": "+value+"\n") {
				t.Errorf("the webhook wrote %s: %s, which is not in\n%s", key, value, before.Diff)
			}
		}
		if after.Node != aciNode || after.Recorded == nil || after.Recorded.Reason != after.Decision.Reason || after.Diff != "" {
			t.Errorf("after: node %q, recorded %+v, diff %q", after.Node, after.Recorded, after.Diff)
		}
	})

	t.Run("a pod that waits", func(t *testing.T) {
		kubectl(t, deployment("waits", 1, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
		var name string
		mustEventually(t, 30*time.Second, "the pod is unschedulable", func(context.Context) (bool, error) {
			for _, p := range pods(t, ns) {
				for _, c := range p.Status.Conditions {
					if p.Labels["app"] == "waits" && c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable {
						name = p.Name
					}
				}
			}
			return name != "", nil
		})
		e := explain(t, user, "", "--namespace="+ns, "pod/"+name)
		if e.Late == nil || e.Late.Decision.Action != "Wait" || e.Late.Decision.Reason != "AfterPending" {
			t.Errorf("the late decision is %+v, want to wait", e.Late)
		}
		verdicts := map[string]string{}
		for _, c := range e.Considered {
			verdicts[c.By] = c.Verdict
		}
		if verdicts["BurstPolicy/patient"] != "Decides" || verdicts["BurstPolicy/rest"] != "Outranked" {
			t.Errorf("the policies are %v", e.Considered)
		}
		if d := explain(t, user, "", "--namespace="+ns, "deploy/waits").Decision; d != e.Decision {
			t.Errorf("for the Deployment %+v is decided, for its pod %+v", d, e.Decision)
		}
	})

	t.Run("offline, from what kubectl gets", func(t *testing.T) {
		dir := t.TempDir()
		for file, args := range map[string][]string{
			"nodes.yaml":     {"get", "nodes", "-o", "yaml"},
			"policies.yaml":  {"--namespace=" + ns, "get", "burstpolicies", "-o", "yaml"},
			"namespace.yaml": {"get", "namespace", ns, "-o", "yaml"},
		} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(kubectl(t, "", args...)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		manifest := barePod("offline", podSpec{})
		live := explain(t, user, manifest, "--namespace="+ns, "-f", "-")
		offline := explain(t, filepath.Join(dir, "none"), manifest, "--namespace="+ns, "-f", "-", "--policies="+dir)
		if live.Decision != offline.Decision || live.Diff != offline.Diff {
			t.Errorf("live %+v, offline %+v", live.Decision, offline.Decision)
		}
	})

	t.Run("a pod that is not there", func(t *testing.T) {
		out, errOut, code := plugin(t, user, "", "explain", "--namespace="+ns, "pod/none")
		if code != 1 || out != "" || !strings.Contains(errOut, "reading pod/none of namespace "+ns) || strings.Count(errOut, "\n") != 1 {
			t.Errorf("ended with %d: %s%s", code, out, errOut)
		}
	})
}
