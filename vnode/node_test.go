package vnode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

func (b *bed) node(what string, check func(*corev1.Node) error) *corev1.Node {
	b.Helper()
	var node *corev1.Node
	b.eventually("the node "+what, func() error {
		var err error
		if node, err = b.client.CoreV1().Nodes().Get(context.Background(), testNode, metav1.GetOptions{}); err != nil {
			return err
		}
		return check(node)
	})
	return node
}

func nodeCondition(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

// has checks a condition: its status, and a part of its message.
func has(kind corev1.NodeConditionType, status corev1.ConditionStatus, message string) func(*corev1.Node) error {
	return func(n *corev1.Node) error {
		if c := nodeCondition(n, kind); c.Status != status || !strings.Contains(c.Message, message) {
			return fmt.Errorf("condition %s is %s (%s): %s", kind, c.Status, c.Reason, c.Message)
		}
		return nil
	}
}

func taints(n *corev1.Node) []string {
	var all []string
	for _, t := range n.Spec.Taints {
		all = append(all, t.Key+"="+t.Value+":"+string(t.Effect))
	}
	slices.Sort(all)
	return all
}

var agentTaintsWanted = []string{
	"autoburst.io/last-resort-1=:PreferNoSchedule", "autoburst.io/last-resort-2=:PreferNoSchedule",
	"autoburst.io/last-resort-3=:PreferNoSchedule", "autoburst.io/last-resort-4=:PreferNoSchedule",
	"virtual-kubelet.io/provider=alibabacloud:NoSchedule",
}

func TestNodeIsRegistered(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		node := b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		wantLabels := map[string]string{
			"type": "virtual-kubelet", "kubernetes.io/role": "agent", "kubernetes.io/hostname": testNode,
			"kubernetes.io/os": "linux", "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "beta.kubernetes.io/arch": "amd64",
			"autoburst.io/provider": "eci", "topology.kubernetes.io/region": "cn-hangzhou", "topology.kubernetes.io/zone": "cn-hangzhou-i",
			"node.kubernetes.io/exclude-from-external-load-balancers": "true",
		}
		if diff := cmp.Diff(wantLabels, node.Labels); diff != "" {
			t.Errorf("labels (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(agentTaintsWanted, taints(node)); diff != "" {
			t.Errorf("taints (-want +got):\n%s", diff)
		}
		if c, err := burstable.ParseCapabilities(node.Annotations[v1alpha1.CapabilitiesAnnotation]); err != nil || c.Provider != "eci" {
			t.Errorf("capabilities %+v, error %v", c, err)
		}
		for kind, want := range map[corev1.NodeConditionType]corev1.ConditionStatus{
			"CloudReachable": "True", "CapacityAvailable": "True", corev1.NodeMemoryPressure: "False",
			corev1.NodeDiskPressure: "False", corev1.NodePIDPressure: "False", corev1.NodeNetworkUnavailable: "False",
		} {
			if got := nodeCondition(node, kind).Status; got != want {
				t.Errorf("condition %s is %q, want %q", kind, got, want)
			}
		}
		s := node.Status
		if s.DaemonEndpoints.KubeletEndpoint.Port != 10250 || s.NodeInfo.KubeletVersion != "v1.36.3-autoburst-test" || s.Capacity.Pods().Value() != 5000 {
			t.Errorf("status %+v", s)
		}
		var lease *coordinationv1.Lease
		b.eventually("the lease exists", func() error {
			var err error
			lease, err = b.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(context.Background(), testNode, metav1.GetOptions{})
			return err
		})
		b.settle(time.Minute)
		later, err := b.client.CoordinationV1().Leases(corev1.NamespaceNodeLease).Get(context.Background(), testNode, metav1.GetOptions{})
		if err != nil || !later.Spec.RenewTime.After(lease.Spec.RenewTime.Time) {
			t.Errorf("the lease was not renewed: %v, error %v", later, err)
		}
	})
}

func TestWrongCredentialsAtStart(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(string, string, int) error { return fault(providers.Unauthorized, "InvalidAccessKeyId.NotFound") }
		b.start()
		b.node("says what is wrong", has(corev1.NodeReady, corev1.ConditionFalse, "InvalidAccessKeyId.NotFound"))
		b.settle(10 * time.Minute)
		b.node("still says it", has(corev1.NodeReady, corev1.ConditionFalse, "InvalidAccessKeyId.NotFound"))
		b.cloud.setFail(nil)
		b.node("recovers", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		b.create(testPod("web"))
		b.groups("g-uid-web")
	})
}

// A single failed check before the cloud was ever reached holds nothing up later.
func TestOneFailedCheckAtStart(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, _ string, n int) error {
			if op == "Check" && n == 1 {
				return fault(providers.Unauthorized, "InvalidAccessKeyId.NotFound")
			}
			return nil
		}
		b.start()
		b.create(testPod("web"))
		at := time.Now()
		b.groups("g-uid-web")
		if took := time.Since(at); took > 15*time.Second {
			t.Errorf("the pod waited %s", took)
		}
	})
}

func TestOutageKeepsTheNodeReady(t *testing.T) {
	unreachable := v1alpha1.CloudUnreachableTaintKey + "=:NoSchedule"
	bubble(t, "of a cloud that answered", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		b.cloud.setFail(func(string, string, int) error { return fault(providers.Unavailable, "ServiceUnavailable") })
		b.node("says that the cloud does not answer", has("CloudReachable", corev1.ConditionFalse, "ServiceUnavailable"))
		b.node("takes no pods", func(n *corev1.Node) error {
			if !slices.Contains(taints(n), unreachable) {
				return fmt.Errorf("taints %v", taints(n))
			}
			return nil
		})
		b.settle(20 * time.Minute)
		node := b.node("stays Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		if age := time.Since(nodeCondition(node, corev1.NodeReady).LastHeartbeatTime.Time); age > 2*time.Minute {
			t.Errorf("the last heartbeat is %s old", age)
		}
		b.cloud.setFail(nil)
		b.node("recovers", has("CloudReachable", corev1.ConditionTrue, ""))
		b.node("takes pods", func(n *corev1.Node) error {
			if diff := cmp.Diff(agentTaintsWanted, taints(n)); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	})
	for _, test := range []struct {
		name string
		pods []*corev1.Pod
		want corev1.ConditionStatus
	}{
		{"at a restart with pods", []*corev1.Pod{testPod("web", ran)}, corev1.ConditionTrue},
		{"at a restart without pods", nil, corev1.ConditionFalse},
	} {
		bubble(t, test.name, func(t *testing.T) {
			b := newBed(t)
			h := health{}
			h.ready.set(true, "VirtualNodeReady", "", time.Now())
			h.reachable.set(true, "CloudAnswers", "", time.Now())
			node := nodeObject(b.cfg.Node.withDefaults(), b.cloud, h, time.Now())
			node.UID = "node"
			b.client = fakeClient(node)
			for _, pod := range test.pods {
				b.create(pod)
			}
			b.cloud.fail = func(string, string, int) error { return fault(providers.Unavailable, "ServiceUnavailable") }
			b.start()
			b.node("says that the cloud does not answer", has("CloudReachable", corev1.ConditionFalse, "ServiceUnavailable"))
			b.node("is as it was, if it has pods", has(corev1.NodeReady, test.want, ""))
		})
	}
}

func TestDeletedNodeIsRegisteredAgain(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		if err := b.client.CoreV1().Nodes().Delete(t.Context(), testNode, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.client.CoreV1().Nodes().Get(t.Context(), testNode, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Fatalf("the node is still there: %v", err)
		}
		began := time.Now()
		node := b.node("is back", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the node came back after %s", took)
		}
		if diff := cmp.Diff(agentTaintsWanted, taints(node)); diff != "" {
			t.Errorf("taints (-want +got):\n%s", diff)
		}
	})
}

func TestWhatOthersSetOnTheNodeStays(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		b.stop()
		node := b.node("is there", func(*corev1.Node) error { return nil })
		node.Spec.Unschedulable = true
		node.Labels["team"] = "shop"
		delete(node.Labels, "type")
		node.Spec.Taints = append(node.Spec.Taints[1:], // the hard taint is lost
			corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: corev1.TaintEffectNoSchedule})
		if _, err := b.client.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		// The settings name another taint now.
		b.cfg.Node.Taint = corev1.Taint{Key: "alibabacloud.com/eci", Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule}
		b.start()
		want := append([]string{"alibabacloud.com/eci=alibabacloud:NoSchedule"}, agentTaintsWanted[:4]...)
		want = append(want, "node.kubernetes.io/unschedulable=:NoSchedule")
		b.node("has the taints of both", func(n *corev1.Node) error {
			if diff := cmp.Diff(want, taints(n)); diff != "" {
				return errors.New(diff)
			}
			if !n.Spec.Unschedulable || n.Labels["team"] != "shop" || n.Labels["type"] != "virtual-kubelet" {
				return fmt.Errorf("unschedulable %t, labels %v", n.Spec.Unschedulable, n.Labels)
			}
			return nil
		})
	})
}

// Another agent that led for a moment leaves its address behind.
func TestAddressOfTheNodeIsKept(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		b.settle(5 * time.Second)
		node := b.node("is there", func(*corev1.Node) error { return nil }).DeepCopy()
		node.Status.Addresses[0].Address = "192.0.2.77"
		node.Status.DaemonEndpoints.KubeletEndpoint.Port = 1
		if _, err := b.client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		b.node("has its agent's address", func(n *corev1.Node) error {
			if n.Status.Addresses[0].Address != "192.0.2.1" || n.Status.DaemonEndpoints.KubeletEndpoint.Port != 10250 {
				return fmt.Errorf("addresses %v, endpoints %v", n.Status.Addresses, n.Status.DaemonEndpoints)
			}
			return nil
		})
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestMergeTaints(t *testing.T) {
	hard := corev1.Taint{Key: "virtual-kubelet.io/provider", Value: "azure", Effect: corev1.TaintEffectNoSchedule}
	soft := corev1.Taint{Key: "autoburst.io/last-resort-1", Effect: corev1.TaintEffectPreferNoSchedule}
	foreign := corev1.Taint{Key: "node.kubernetes.io/not-ready", Effect: corev1.TaintEffectNoExecute, TimeAdded: &metav1.Time{Time: time.Unix(1, 0)}}
	old := corev1.Taint{Key: "old.example.com/key", Effect: corev1.TaintEffectNoSchedule}
	down := corev1.Taint{Key: v1alpha1.CloudUnreachableTaintKey, Effect: corev1.TaintEffectNoSchedule}
	for name, test := range map[string]struct {
		current, wanted []corev1.Taint
		before          string
		want            []corev1.Taint
		changed         bool
	}{
		"nothing there":        {nil, []corev1.Taint{hard, soft}, "", []corev1.Taint{hard, soft}, true},
		"all there":            {[]corev1.Taint{soft, foreign, hard}, []corev1.Taint{hard, soft}, "", []corev1.Taint{foreign, hard, soft}, false},
		"value differs":        {[]corev1.Taint{{Key: hard.Key, Value: "x", Effect: hard.Effect}}, []corev1.Taint{hard}, "", []corev1.Taint{hard}, true},
		"one of earlier":       {[]corev1.Taint{old, hard}, []corev1.Taint{hard}, "old.example.com/key:NoSchedule", []corev1.Taint{hard}, true},
		"one of others":        {[]corev1.Taint{old, hard}, []corev1.Taint{hard}, "", []corev1.Taint{old, hard}, false},
		"the cloud is back":    {[]corev1.Taint{hard, down}, []corev1.Taint{hard}, "", []corev1.Taint{hard}, true},
		"the same key, softer": {[]corev1.Taint{{Key: hard.Key, Effect: "PreferNoSchedule"}}, []corev1.Taint{hard}, "", []corev1.Taint{{Key: hard.Key, Effect: "PreferNoSchedule"}, hard}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed := mergeTaints(test.current, test.wanted, test.before)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("taints (-want +got):\n%s", diff)
			}
			if changed != test.changed {
				t.Errorf("changed %t, want %t", changed, test.changed)
			}
		})
	}
}

func TestSettingsAreChecked(t *testing.T) {
	good := newBedConfig()
	for name, test := range map[string]struct {
		edit func(*Config)
		want string
	}{
		"no cluster":   {func(c *Config) { c.ClusterUID = "" }, "cluster's UID"},
		"name":         {func(c *Config) { c.Node.Name = "Not A Name" }, `node name "Not A Name"`},
		"address":      {func(c *Config) { c.Node.InternalIP = "host" }, `node address "host"`},
		"port":         {func(c *Config) { c.Node.KubeletPort = 70000 }, "port 70000"},
		"taint key":    {func(c *Config) { c.Node.Taint.Key = "" }, "taint key"},
		"taint effect": {func(c *Config) { c.Node.Taint.Effect = "Never" }, `taint effect "Never"`},
		"workers":      {func(c *Config) { c.Workers = -1 }, "workers is -1"},
		"interval":     {func(c *Config) { c.SweepInterval = -1 }, "sweep interval"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			test.edit(&c)
			_, err := New(c, fakeClient(), newMemoryCloud(), nil, nil, NewMetrics(nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one about %q", err, test.want)
			}
		})
	}
}
