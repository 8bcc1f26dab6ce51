package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
)

// setQuota lets the account hold so many of the pods of these tests, and zero as many
// as it likes. A pod that asks for half a CPU is sold one half on ECI.
var setQuota = map[string]func(pods int){
	eciNode: func(pods int) { system.ECI.SetMaxCPU(float64(pods) / 2) },
	aciNode: func(pods int) {
		system.ACI.Change(func(s *aci.Settings) {
			s.Quota = nil
			if pods > 0 {
				s.Quota = map[string]int{"ContainerGroups": pods}
			}
		})
	},
}

// cutOff breaks every connection to the cloud of a node before it answers.
var cutOff = map[string]func(){
	eciNode: func() { system.ECI.Inject(eci.Fault{Calls: -1, Cut: true}) },
	aciNode: func() { system.ACI.Inject(aci.Fault{Calls: -1, Cut: true}) },
}

var reconnect = map[string]func(){
	eciNode: func() { system.ECI.ClearFaults() },
	aciNode: func() { system.ACI.ClearFaults() },
}

// offered is for how many pods of these tests a node offers room.
func offered(n *corev1.Node) int64 {
	return min(n.Status.Allocatable.Pods().Value(), n.Status.Allocatable.Cpu().MilliValue()/500)
}

func bears(n *corev1.Node, key string) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
}

func nodeSays(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func awaitNode(t *testing.T, name, what string, timeout time.Duration, check func(*corev1.Node) error) {
	t.Helper()
	mustEventually(t, timeout, fmt.Sprintf("node %s %s", name, what), func(ctx context.Context) (bool, error) {
		n, err := client().CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil {
			err = check(n)
		}
		return err == nil, err
	})
}

// A Deployment meets the quota of the account: the pods beyond wait and say for what,
// the node offers what there is and bears a taint, and all goes on when the quota is
// raised. Then the scheduler knows what the quota leaves.
func TestQuotaIsReached(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		const quota, raised = 4, 8
		t.Cleanup(func() {
			setQuota[node](0)
			restartAgent(t, node) // it would ask for the quota a minute later
		})
		setQuota[node](quota)
		kubectl(t, deployment("web", 7, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		count := func() (running, held, unbound int) {
			for _, p := range pods(t, ns) {
				switch {
				case p.Spec.NodeName == "":
					unbound++
				case p.Status.Phase == corev1.PodRunning:
					running++
				case p.Status.Phase == corev1.PodPending && p.Status.Reason == "CloudQuotaExceeded" && strings.Contains(p.Status.Message, "Not before"):
					held++
				case p.Status.Phase == corev1.PodFailed:
					t.Errorf("pod %s failed: %s: %s", p.Name, p.Status.Reason, p.Status.Message)
				}
			}
			return running, held, unbound
		}
		mustEventually(t, time.Minute, "four pods run and three wait", func(context.Context) (bool, error) {
			running, held, unbound := count()
			if running != quota || held+unbound != 3 {
				return false, fmt.Errorf("%d run, %d wait on the node, %d have no node", running, held, unbound)
			}
			return true, nil
		})
		awaitNode(t, node, "offers what it holds and takes no pods", time.Minute, func(n *corev1.Node) error {
			if got, c := offered(n), nodeSays(n, "CapacityAvailable"); got != quota || !bears(n, v1alpha1.NoCapacityTaintKey) || c.Status != corev1.ConditionFalse || c.Reason != "QuotaExceeded" {
				return fmt.Errorf("it offers %d pods, taints %v, condition %s (%s): %s", got, n.Spec.Taints, c.Status, c.Reason, c.Message)
			}
			return nil
		})

		setQuota[node](raised)
		mustEventually(t, time.Minute, "all run", func(context.Context) (bool, error) {
			running, held, unbound := count()
			if running != 7 {
				return false, fmt.Errorf("%d run, %d wait on the node, %d have no node", running, held, unbound)
			}
			return true, nil
		})
		awaitNode(t, node, "takes pods and offers what the quota allows", time.Minute, func(n *corev1.Node) error {
			if got := offered(n); got != raised || bears(n, v1alpha1.NoCapacityTaintKey) {
				return fmt.Errorf("it offers %d pods, taints %v", got, n.Spec.Taints)
			}
			return nil
		})
		calls := len(system.Bill(node).Calls)
		kubectl(t, "", "--namespace="+ns, "scale", "deployment/web", "--replicas=10")
		mustEventually(t, time.Minute, "the eighth runs and the scheduler keeps two", func(context.Context) (bool, error) {
			running, held, unbound := count()
			if running != raised || unbound != 2 {
				return false, fmt.Errorf("%d run, %d wait on the node, %d have no node", running, held, unbound)
			}
			return true, nil
		})
		if n := len(system.Bill(node).Calls) - calls; n != 1 {
			t.Errorf("%d calls of the cloud, want the one create that had room: %v", n, system.Bill(node).Calls[calls:])
		}
	})
}

// The cloud is cut off: the node stays Ready and says so, what runs is left alone, and
// what was asked for meanwhile is done soon after.
func TestCloudIsCutOff(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		kubectl(t, deployment("web", 4, podSpec{extra: pinned[node]}), "--namespace="+ns, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+ns, "rollout", "status", "deployment/web", "--timeout=60s")
		before := groupIDs(node)
		calls := len(system.Bill(node).Calls)

		cutOff[node]()
		t.Cleanup(reconnect[node])
		awaitNode(t, node, "says that its cloud does not answer", time.Minute, func(n *corev1.Node) error {
			c := nodeSays(n, "CloudReachable")
			if c.Status != corev1.ConditionFalse || c.Reason != "CloudUnavailable" || !bears(n, v1alpha1.CloudUnreachableTaintKey) {
				return fmt.Errorf("%s (%s): %s; taints %v", c.Status, c.Reason, c.Message, n.Spec.Taints)
			}
			if ready := nodeSays(n, corev1.NodeReady); ready.Status != corev1.ConditionTrue {
				return fmt.Errorf("it is not Ready: %s", ready.Message)
			}
			return nil
		})
		victim := pods(t, ns)[0].Name
		kubectl(t, "", "--namespace="+ns, "delete", "pod", victim, "--wait=false")
		// Bound by hand, as if the scheduler had not seen the taint yet.
		kubectl(t, barePod("bound", podSpec{extra: "nodeName: " + node + "\ntolerations: [{operator: Exists}]"}), "--namespace="+ns, "apply", "-f", "-")
		waitPod(t, ns, "bound", "waits for the cloud", func(p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodPending && p.Status.Reason == "CloudUnavailable"
		})
		for _, p := range pods(t, ns) {
			if before := p.Spec.NodeName == node && p.Name != "bound"; before && (p.Status.Phase != corev1.PodRunning || !p.Status.ContainerStatuses[0].Ready) {
				t.Errorf("pod %s is %s (%s): its status did not freeze", p.Name, p.Status.Phase, p.Status.Reason)
			}
		}
		if n := len(system.Bill(node).Calls) - calls; n != 0 {
			t.Errorf("%d changes reached the cloud", n)
		}

		reconnect[node]()
		at := time.Now()
		mustEventually(t, time.Minute, "four pods of the Deployment and the bound one run, each in one group", func(context.Context) (bool, error) {
			running := 0
			for _, p := range pods(t, ns) {
				if p.Name == victim {
					return false, errors.New("the deleted pod is still there")
				}
				if onNode(node)(&p) {
					running++
				}
			}
			kept := 0
			after := groupIDs(node)
			for id := range before {
				if after[id] {
					kept++
				}
			}
			if running != 5 || kept != 3 || len(after) != 5 {
				return false, fmt.Errorf("%d pods run in %d groups, %d of them old", running, len(after), kept)
			}
			return true, nil
		})
		t.Logf("caught up after %s", time.Since(at).Round(time.Second))
		awaitNode(t, node, "is well", time.Minute, func(n *corev1.Node) error {
			if c := nodeSays(n, "CloudReachable"); c.Status != corev1.ConditionTrue || bears(n, v1alpha1.CloudUnreachableTaintKey) {
				return fmt.Errorf("%s: %s", c.Status, c.Message)
			}
			return nil
		})
		if n := len(system.Bill(node).Calls) - calls; n != 3 {
			t.Errorf("%d changes in the cloud, want two creates and one delete: %v", n, system.Bill(node).Calls[calls:])
		}
	})
}
