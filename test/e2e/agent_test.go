package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// pinned is a pod specification that only one virtual node takes.
var pinned = map[string]string{
	eciNode: `
nodeSelector: {type: virtual-kubelet, autoburst.io/provider: eci}
tolerations: [{key: alibabacloud.com/eci, operator: Exists, effect: NoSchedule}]
`,
	aciNode: `
nodeSelector: {type: virtual-kubelet, autoburst.io/provider: aci}
tolerations: [{key: virtual-kubelet.io/provider, operator: Exists, effect: NoSchedule}]
`,
}

func onBothClouds(t *testing.T, test func(t *testing.T, node, ns string)) {
	t.Helper()
	for _, node := range []string{eciNode, aciNode} {
		t.Run(node, func(t *testing.T) {
			test(t, node, namespace(t, "on-"+node, nil))
		})
	}
}

// The node objects are what design and seeds promise.
func TestVirtualNodes(t *testing.T) {
	tests := map[string]struct {
		provider string
		taint    corev1.Taint
	}{
		eciNode: {"eci", corev1.Taint{Key: "alibabacloud.com/eci", Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}},
		aciNode: {"aci", corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "azure", Effect: corev1.TaintEffectNoSchedule}},
	}
	for name, want := range tests {
		t.Run(name, func(t *testing.T) {
			n, err := client().CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range map[string]string{
				"type": "virtual-kubelet", "kubernetes.io/role": "agent", "kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux",
				"autoburst.io/provider": want.provider, "node.kubernetes.io/exclude-from-external-load-balancers": "true",
			} {
				if n.Labels[key] != value {
					t.Errorf("label %s is %q, want %q", key, n.Labels[key], value)
				}
			}
			soft := 0
			hard := false
			for _, taint := range n.Spec.Taints {
				if strings.HasPrefix(taint.Key, "autoburst.io/last-resort-") && taint.Effect == corev1.TaintEffectPreferNoSchedule {
					soft++
				}
				taint.TimeAdded = nil
				hard = hard || taint == want.taint
			}
			if soft != 4 || !hard {
				t.Errorf("taints %v, want %v and four soft ones", n.Spec.Taints, want.taint)
			}
			conditions := map[corev1.NodeConditionType]corev1.ConditionStatus{}
			for _, c := range n.Status.Conditions {
				conditions[c.Type] = c.Status
			}
			for _, c := range []corev1.NodeConditionType{"Ready", "CloudReachable", "CapacityAvailable"} {
				if conditions[c] != corev1.ConditionTrue {
					t.Errorf("condition %s is %q, want True", c, conditions[c])
				}
			}
			if n.Annotations["autoburst.io/capabilities"] == "" {
				t.Error("the node publishes no capabilities")
			}
			eventually(t, 20*time.Second, "the node's lease is renewed", func(ctx context.Context) (bool, error) {
				lease, err := client().CoordinationV1().Leases("kube-node-lease").Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return false, err
				}
				return lease.Spec.RenewTime != nil && time.Since(lease.Spec.RenewTime.Time) < 20*time.Second, nil
			})
		})
	}
}

// A pod with everything that this release resolves runs to its end as a real
// process in both clouds: environment, exit code, logs.
func TestPodRunsForReal(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {COLOUR: green, file.conf: "port=1\n"}}
- {apiVersion: v1, kind: Secret, metadata: {name: keys}, stringData: {TOKEN: s3cr3t-value}}
- apiVersion: v1
  kind: Secret
  metadata: {name: registry}
  type: kubernetes.io/dockerconfigjson
  data: {.dockerconfigjson: `+base64.StdEncoding.EncodeToString([]byte(`{"auths":{"registry.example.com":{"username":"robot","password":"r0b0t-pass"}}}`))+`}
`, "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, barePod("real", podSpec{
			image: "registry.example.com/tools/sh:1",
			extra: pinned[node] + `
restartPolicy: Never
imagePullSecrets: [{name: registry}]
initContainers:
- name: first
  image: registry.example.com/tools/sh:1
  command: [sh, -c, "echo init done"]
volumes:
- {name: settings, configMap: {name: settings}}
- {name: keys, secret: {secretName: keys}}
- {name: scratch, emptyDir: {}}
`,
			container: `
command: [sh, -c, 'echo "colour=$COLOUR name=$NAME greeting=$GREETING"; test "$TOKEN" = s3cr3t-value && echo token ok; exit 3']
env:
- {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: COLOUR}}}
- {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: TOKEN}}}
- {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: GREETING, value: hello $(NAME)}
volumeMounts:
- {name: settings, mountPath: /etc/settings}
- {name: keys, mountPath: /etc/keys}
- {name: scratch, mountPath: /scratch}
`,
		}), "--namespace="+ns, "apply", "-f", "-")
		p := waitPod(t, ns, "real", "failed with its exit code", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if len(p.Status.ContainerStatuses) != 1 || p.Status.ContainerStatuses[0].State.Terminated == nil {
			t.Fatalf("container statuses: %v", p.Status.ContainerStatuses)
		}
		if got := p.Status.ContainerStatuses[0].State.Terminated.ExitCode; got != 3 {
			t.Errorf("exit code %d, want 3", got)
		}
		if len(p.Status.InitContainerStatuses) != 1 || p.Status.InitContainerStatuses[0].State.Terminated == nil || p.Status.InitContainerStatuses[0].State.Terminated.ExitCode != 0 {
			t.Errorf("init container statuses: %v", p.Status.InitContainerStatuses)
		}
		want := "colour=green name=real greeting=hello real\ntoken ok\n"
		if got := kubectl(t, "", "--namespace="+ns, "logs", "real"); got != want {
			t.Errorf("kubectl logs printed %q, want %q", got, want)
		}
		if got := kubectl(t, "", "--namespace="+ns, "logs", "real", "--tail=1"); got != "token ok\n" {
			t.Errorf("kubectl logs --tail=1 printed %q", got)
		}
	})
}

// A Job's pod that ends well is Succeeded, and its group is gone once the Job is
// deleted.
func TestJobSucceeds(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, job("sum", 2, podSpec{extra: pinned[node], container: `command: [sh, -c, "echo $((40 + 2))"]`}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+ns, "wait", "--for=condition=Complete", "job/sum", "--timeout=60s")
		for _, p := range pods(t, ns) {
			if out := kubectl(t, "", "--namespace="+ns, "logs", p.Name); out != "42\n" {
				t.Errorf("logs of %s: %q, want 42", p.Name, out)
			}
		}
		kubectl(t, "", "--namespace="+ns, "delete", "job/sum")
		eventually(t, 30*time.Second, "no group is left", func(context.Context) (bool, error) { return len(system.Groups(node)) == 0, nil })
	})
}

// Restarts in place are counted, and the last exit code is kept.
func TestRestartCounts(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, barePod("flaky", podSpec{extra: pinned[node], container: `command: [sh, -c, "exit 7"]`}), "--namespace="+ns, "apply", "-f", "-")
		p := waitPod(t, ns, "flaky", "was restarted", func(p *corev1.Pod) bool {
			return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].RestartCount >= 2
		})
		c := p.Status.ContainerStatuses[0]
		last := c.LastTerminationState.Terminated
		if last == nil {
			last = c.State.Terminated
		}
		if last == nil || last.ExitCode != 7 {
			t.Errorf("last termination %v, want exit code 7", c)
		}
	})
}

// The agent is restarted, politely and by a crash: its pods live on in the same
// groups, and what was deleted meanwhile is removed.
func TestAgentRestart(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, deployment("steady", 4, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/steady", "--timeout=60s")
		for name, end := range map[string]func(*cluster.Process){"stopped": endProcess(t), "killed": (*cluster.Process).Kill} {
			before := groupIDs(node)
			calls := len(system.Bill(node).Calls)
			system.RemoveAgent(node, end)
			victim := pods(t, ns)[0].Name
			kubectl(t, "", "--namespace="+ns, "delete", "pod", victim, "--wait=false", "--grace-period=0", "--force")
			if _, err := system.StartAgent(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			if err := system.WaitNodeReady(t.Context(), node); err != nil {
				t.Fatal(err)
			}
			mustEventually(t, time.Minute, "four pods run in four groups, one of them new", func(ctx context.Context) (bool, error) {
				ready := 0
				for _, p := range pods(t, ns) {
					if p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil {
						ready++
					}
				}
				after := groupIDs(node)
				kept := 0
				for id := range before {
					if after[id] {
						kept++
					}
				}
				if ready != 4 || len(after) != 4 || kept != 3 {
					return false, fmt.Errorf("%d pods run, %d groups, %d of them old", ready, len(after), kept)
				}
				return true, nil
			})
			if n := len(system.Bill(node).Calls) - calls; n != 2 {
				t.Errorf("%s agent: %d changing calls, want 2: one create and one delete (%v)", name, n, system.Bill(node).Calls[calls:])
			}
		}
	})
}

func groupIDs(node string) map[string]bool {
	ids := map[string]bool{}
	for _, g := range system.Groups(node) {
		ids[g.ID()] = true
	}
	return ids
}

// A pod that the cloud cannot run, put there by hand, fails at once with the
// field named and without a call to the cloud.
func TestUnsupportedPodIsRefused(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		calls := len(system.Bill(node).Calls)
		kubectl(t, barePod("host", podSpec{extra: pinned[node] + `
volumes: [{name: logs, hostPath: {path: /var/log}}]
`}), "--namespace="+ns, "apply", "-f", "-")
		p := waitPod(t, ns, "host", "is failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if !strings.Contains(p.Status.Message, "spec.volumes[0].hostPath") || p.Status.Reason == "" {
			t.Errorf("status %q: %q, want a reason and the field spec.volumes[0].hostPath", p.Status.Reason, p.Status.Message)
		}
		if n := len(system.Bill(node).Calls) - calls; n != 0 {
			t.Errorf("the cloud was called %d times", n)
		}
	})
}

// A missing ConfigMap holds the pod back with an event; it starts when the
// object appears.
func TestMissingObjectAppears(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, barePod("late", podSpec{extra: pinned[node], container: "envFrom: [{configMapRef: {name: later}}]"}), "--namespace="+ns, "apply", "-f", "-")
		mustEventually(t, 30*time.Second, "an event names the ConfigMap", func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=late"})
			if err != nil {
				return false, err
			}
			for _, e := range list.Items {
				if strings.Contains(e.Message, "later") {
					return true, nil
				}
			}
			return false, nil
		})
		kubectl(t, "", "--namespace="+ns, "create", "configmap", "later", "--from-literal=A=b")
		waitPod(t, ns, "late", "runs", onNode(node))
	})
}

// Wrong credentials: the node is there, not ready, with the cloud's own code; no
// crash loop; mended credentials are taken up without a restart of anything but
// the cloud's side.
func TestWrongCredentials(t *testing.T) {
	tests := map[string]struct {
		breakIt, mend func()
		want          string
	}{
		eciNode: {
			breakIt: func() { system.ECI.SetAccessKeys(eci.AccessKey{ID: "LTAIother", Secret: "other"}) },
			mend: func() {
				system.ECI.SetAccessKeys(eci.AccessKey{ID: playground.ECIAccessKey, Secret: playground.ECISecretKey})
			},
			want: "InvalidAccessKeyId.NotFound",
		},
		aciNode: {
			breakIt: func() {
				system.ACI.PutApplication(aci.Application{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: "other"}}})
				system.ACI.RevokeTokens()
			},
			mend: func() {
				system.ACI.PutApplication(aci.Application{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: playground.ACIClientPassword}}})
			},
			want: "AADSTS7000215",
		},
	}
	for node, test := range tests {
		t.Run(node, func(t *testing.T) {
			system.RemoveAgent(node, endProcess(t))
			kubectl(t, "", "delete", "node", node)
			test.breakIt()
			mended := false
			defer func() {
				if !mended {
					test.mend()
				}
			}()
			agent, err := system.StartAgent(t.Context(), node)
			if err != nil {
				t.Fatal(err)
			}
			mustEventually(t, time.Minute, "the node says what is wrong", func(ctx context.Context) (bool, error) {
				n, err := client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
				if err != nil {
					return false, err
				}
				for _, c := range n.Status.Conditions {
					if c.Type == corev1.NodeReady {
						if c.Status == corev1.ConditionFalse && strings.Contains(c.Message, test.want) {
							return true, nil
						}
						return false, fmt.Errorf("Ready=%s %s: %s", c.Status, c.Reason, c.Message)
					}
				}
				return false, nil
			})
			test.mend()
			mended = true
			if err := system.WaitNodeReady(t.Context(), node); err != nil {
				t.Error(err)
			}
			if err := agent.Process.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A node object that somebody deletes comes back with its labels and taints.
func TestNodeComesBack(t *testing.T) {
	kubectl(t, "", "delete", "node", eciNode)
	if err := system.WaitNodeReady(t.Context(), eciNode); err != nil {
		t.Fatal(err)
	}
	t.Run("complete", TestVirtualNodes)
}
