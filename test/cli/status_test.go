package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// status is what these tests read of kubectl autoburst status -o json.
type status struct {
	Bursting   string
	Controller struct{ Leader, Admission string }
	Policies   []struct {
		Kind, Namespace, Name, Mode, Pressure string
		Ready                                 bool
		Pods                                  struct{ Selected, Local, Burst, Waiting int }
		Limits                                []struct{ Target, Resource, Limit, Used, Left string }
	}
	Namespaces   []struct{ Name, Mode string }
	VirtualNodes []virtualNode
	Shortages    []struct{ Of, Message string }
	Waiting      struct {
		Pods   int
		Oldest []struct{ Namespace, Name, Policy, Reason, Message, Scheduler string }
	}
	Notes []string
}

type virtualNode struct {
	Name, State string
	Ready       bool
	Resources   []struct{ Name, Allocatable, Used, Free string }
}

const policies = `
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: patient, namespace: shown}
spec: {priority: 1, podSelector: {matchLabels: {app: waits}}, overflow: {afterPendingSeconds: 3600, pressure: {unschedulablePods: 5}}}
---
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: away, namespace: shown}
spec:
  mode: Always
  limits: {pods: 3, memory: 8Gi}
  targets:
  - {name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}, limits: {cpu: "4"}}
  - {name: mars, nodeSelector: {matchLabels: {planet: mars}}}
---
apiVersion: v1
kind: Pod
metadata: {name: waits, labels: {app: waits}}
spec: {containers: [{name: a, image: nginx, resources: {requests: {cpu: "50"}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: away-1, labels: {app: away}}
spec: {containers: [{name: a, image: nginx, resources: {requests: {cpu: "1", memory: 2Gi}}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: away-2, labels: {app: away}}
spec: {containers: [{name: a, image: nginx, resources: {requests: {cpu: "1", memory: 2Gi}}}]}
`

// TestStatus shows what bursts, and asks the API server for little.
func TestStatus(t *testing.T) {
	namespace(t, "shown", "")
	namespace(t, "annotated", "Auto")
	kubectl(t, policies, "-n", "shown", "apply", "-f", "-")
	afterwards(t, "", "-n", "shown", "delete", "pods", "--all", "--wait=false")
	tap, err := system.NewTap()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Error(err)
		}
	})
	// The tap does not pass certificates of clients on.
	kubectl(t, "", "-n", "shown", "create", "serviceaccount", "reader")
	kubectl(t, "", "create", "clusterrolebinding", "shown-reader", "--clusterrole=cluster-admin", "--serviceaccount=shown:reader")
	afterwards(t, "", "delete", "clusterrolebinding", "shown-reader")
	reader, err := system.ServiceAccountKubeconfig(t.Context(), "shown", "reader")
	if err != nil {
		t.Fatal(err)
	}
	through, err := tap.Kubeconfig(reader)
	if err != nil {
		t.Fatal(err)
	}
	var last status
	mustEventually(t, time.Minute, "the status shows one that waits and two that burst", func(context.Context) (bool, error) {
		last = answer[status](t, "status", "-o", "json")
		n := last.Policies
		return len(n) == 2 && n[0].Pods.Burst == 2 && n[1].Pods.Waiting == 1 && len(last.Waiting.Oldest) == 1 && last.Waiting.Oldest[0].Scheduler != "" &&
			len(n[0].Limits) == 3 && n[0].Limits[2].Left == "2" && slices.ContainsFunc(last.VirtualNodes, func(n virtualNode) bool { return n.Resources[1].Used == "2" }), nil
	})
	away, patient, waits := last.Policies[0], last.Policies[1], last.Waiting.Oldest[0]
	switch {
	case last.Bursting != "On" || last.Controller.Leader == "" || last.Controller.Admission != "Webhook":
		t.Errorf("the head is %+v", last)
	case away.Mode != "Always" || !away.Ready || away.Limits[0].Left != "1" || away.Limits[1].Left != "4Gi" || away.Limits[2].Target != "eci":
		t.Errorf("the policy away is %+v", away)
	case patient.Pressure != "Closed" || patient.Pods.Selected != 1:
		t.Errorf("the policy patient is %+v", patient)
	case len(last.Namespaces) != 1 || last.Namespaces[0].Name != "annotated" || last.Namespaces[0].Mode != "Auto":
		t.Errorf("the namespaces are %+v", last.Namespaces)
	case waits.Name != "waits" || waits.Reason != "PressureClosed" || waits.Policy != "BurstPolicy/patient" || waits.Message == "":
		t.Errorf("what waits is %+v", waits)
	case len(last.Shortages) != 1 || last.Shortages[0].Of != "target mars of BurstPolicy/shown/away":
		t.Errorf("the shortages are %+v", last.Shortages)
	}
	for _, n := range last.VirtualNodes {
		want := map[string]string{playground.ECINode: "2", playground.ACINode: "0"}[n.Name]
		if n.State != "Ready" || !n.Ready || n.Resources[0].Used != want || n.Resources[1].Used != want {
			t.Errorf("virtual node %s is %+v, want %s pods of as many CPUs", n.Name, n, want)
		}
	}
	e := pluginAs(t, through, "status")
	for _, line := range []string{"leads", "Bursting    on", "BurstPolicy/shown/away", "1 of 3 pods, 4Gi of 8Gi memory, eci: 2 of 4 cpu", "virtual-eci", "2 of 5000", "shown/waits", "kubectl autoburst explain pod/waits -n shown"} {
		if e.code != 0 || !strings.Contains(e.out, line) {
			t.Errorf("ended with %d, want %q in\n%s%s", e.code, line, e.out, e.errOut)
		}
	}
	t.Log("\n" + e.out)

	requests := tap.Requests()
	if len(requests) > 12 {
		t.Errorf("it took %d requests", len(requests))
	}
	for _, r := range requests {
		if r.Verb != "get" && r.Verb != "list" || r.Verb == "list" && r.Resource == "pods" && !strings.Contains(r.Query, "spec.nodeName") {
			t.Errorf("it asked to %s %s?%s", r.Verb, r.Path, r.Query)
		}
	}
	t.Run("watch", func(t *testing.T) { watch(t, tap, through) })
}

// watch: what changes is printed once, and nothing while nothing does.
func watch(t *testing.T, tap *cluster.Tap, kubeconfig string) {
	cmd := exec.CommandContext(t.Context(), system.Plugin(), "status", "--watch")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	bursting := func(want string) {
		t.Helper()
		timeout := time.NewTimer(30 * time.Second)
		defer timeout.Stop()
		for {
			select {
			case l, ok := <-lines:
				if !ok {
					t.Fatal("it has ended")
				}
				if state, found := strings.CutPrefix(l, "Bursting    "); found && strings.HasPrefix(state, want) {
					return
				}
			case <-timeout.C:
				t.Fatalf("it does not say that bursting is %s", want)
			}
		}
	}
	bursting("on")
	kubectl(t, "", "-n", release, "create", "configmap", "autoburst-switch", "--from-literal=stopped=true")
	bursting("STOPPED by ConfigMap autoburst-system/autoburst-switch")
	// A lost connection is said, and gone after it.
	if err := tap.Down(); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "", "-n", release, "delete", "configmap", "autoburst-switch")
	if err := tap.Up(); err != nil {
		t.Fatal(err)
	}
	bursting("on")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for range lines {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("told to end, it ended with %v", err)
	}
}

// TestStatusOfAStranger: who may read little is told what is left out.
func TestStatusOfAStranger(t *testing.T) {
	kubectl(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: little}
rules:
- {apiGroups: [apps], resources: [deployments], verbs: [list]}
- {apiGroups: [autoburst.io], resources: [burstpolicies, clusterburstpolicies], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: little}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: little}
subjects: [{kind: User, name: jane}]
`, "apply", "-f", "-")
	afterwards(t, "", "delete", "clusterrole/little", "clusterrolebinding/little")
	e := plugin(t, "status", "--as=jane", "-o", "json")
	var s status
	if err := json.Unmarshal([]byte(e.out), &s); err != nil {
		t.Fatalf("ended with %d: %v in %s%s", e.code, err, e.out, e.errOut)
	}
	if s.Bursting != "Unknown" || len(s.Notes) != 5 {
		t.Errorf("it says %+v", s)
	}
	e = plugin(t, "status", "--as=nobody")
	if e.code != 1 || !strings.Contains(e.errOut, `cannot list resource "deployments"`) || strings.Count(e.errOut, "\n") != 1 {
		t.Errorf("ended with %d: %s%s", e.code, e.out, e.errOut)
	}
}
