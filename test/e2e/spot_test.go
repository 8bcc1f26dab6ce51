package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// biddingPods ask ECI for more than the pod API knows. The one of the restricted Pod
// Security standard belongs to a StatefulSet in all but its owner, and has a sidecar.
const biddingPods = `
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: bid
    annotations: {k8s.aliyun.com/eci-spot-strategy: SpotAsPriceGo, k8s.aliyun.com/eci-spot-fallback: "true", k8s.aliyun.com/eci-use-specs: 2-8Gi}
  spec: &spec
    nodeSelector: {autoburst.io/provider: eci}
    containers: [{name: app, image: nginx}]
- apiVersion: v1
  kind: Pod
  metadata:
    name: slip
    annotations: {k8s.aliyun.com/eci-spot-strateyg: SpotAsPriceGo}
  spec: *spec
- apiVersion: v1
  kind: Pod
  metadata:
    name: admin
    annotations: {k8s.aliyun.com/eci-ram-role-name: Admin}
  spec: *spec
- apiVersion: v1
  kind: Pod
  metadata:
    name: db-0
    annotations: {autoburst.io/waive: "subdomain,securityContext.seccompProfile,securityContext.capabilities.drop,securityContext.allowPrivilegeEscalation"}
  spec:
    hostname: db-0
    subdomain: db
    nodeSelector: {autoburst.io/provider: eci}
    securityContext: {runAsNonRoot: true, runAsUser: 1000, seccompProfile: {type: RuntimeDefault}}
    initContainers:
    - {name: proxy, image: nginx, restartPolicy: Always, securityContext: &hard {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}
    containers:
    - {name: app, image: nginx, securityContext: *hard}
`

// Annotations for ECI are carried out or keep the pod away, as one does that asks for
// rights which are not open, or come too late, which is told; spot falls back to on
// demand; what was waived is told; a machine that is taken away is announced.
func TestAnnotationsSpotAndWaivers(t *testing.T) {
	ns := namespace(t, "spot", map[string]string{"autoburst.io/mode": "Always"})
	system.ECI.SetShortages(eci.Shortage{SpotOnly: true})
	t.Cleanup(func() { system.ECI.SetShortages() })
	kubectl(t, biddingPods, "--namespace="+ns, "apply", "-f", "-")

	runs := func(p *corev1.Pod) bool { return onNode(eciNode)(p) && p.Status.Phase == corev1.PodRunning }
	waitPod(t, ns, "bid", "runs on demand", runs)
	if s := groupOf(t, ns, "bid").Snapshot().Spec; s.Spot || s.CPU != 2 || s.MemoryGiB != 8 {
		t.Errorf("the group is spot %v with %g vCPU and %g GiB, want it on demand with 2 and 8", s.Spot, s.CPU, s.MemoryGiB)
	}
	waitEvent(t, ns, "bid", "SpotFallback", "on demand")

	db := waitPod(t, ns, "db-0", "runs without what was waived", func(p *corev1.Pod) bool {
		return runs(p) && len(p.Status.InitContainerStatuses) == 1 && p.Status.InitContainerStatuses[0].State.Running != nil
	})
	if len(db.Status.ContainerStatuses) != 1 || db.Status.ContainerStatuses[0].Name != "app" {
		t.Errorf("container statuses %v, want that of app alone", db.Status.ContainerStatuses)
	}
	for _, field := range []string{"spec.subdomain", "seccompProfile", "capabilities.drop", "allowPrivilegeEscalation"} {
		waitEvent(t, ns, "db-0", "RunsWithout", field)
	}

	waitEvent(t, ns, "slip", "", "eci-spot-strateyg")
	if p := waitPod(t, ns, "slip", "is there", func(*corev1.Pod) bool { return true }); p.Spec.NodeName != "" {
		t.Errorf("the pod with the misspelt annotation is on %s", p.Spec.NodeName)
	}

	waitEvent(t, ns, "admin", "", "ECI_ALLOWED_RAM_ROLES")
	if p := waitPod(t, ns, "admin", "is there", func(*corev1.Pod) bool { return true }); p.Spec.NodeName != "" {
		t.Errorf("the pod that asks for a role that is not open is on %s", p.Spec.NodeName)
	}
	kubectl(t, "", "--namespace="+ns, "annotate", "pod", "bid", "kubernetes.io/egress-bandwidth=10M")
	waitEvent(t, ns, "bid", "RunsWithout", "kubernetes.io/egress-bandwidth was set after")

	system.ECI.SetShortages()
	kubectl(t, strings.NewReplacer("name: bid", "name: taken", `k8s.aliyun.com/eci-spot-fallback: "true", `, "").Replace(biddingPods), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "taken", "runs as a spot instance", runs)
	g := groupOf(t, ns, "taken")
	if !g.Snapshot().Spec.Spot {
		t.Error("the group is no spot instance though there are some")
	}
	g.AddEvent(sim.Warning, "SpotToBeReleased", "The spot instance will be released in 3 minutes.")
	waitPod(t, ns, "taken", "is announced to end", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && hasCondition(p, corev1.DisruptionTarget)
	})
	waitEvent(t, ns, "taken", "SpotToBeReleased", "3 minutes")
	if err := g.Expire("SpotToBeReleased", "The spot instance is released."); err != nil {
		t.Fatal(err)
	}
	waitPod(t, ns, "taken", "has failed", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.Reason == "SpotToBeReleased"
	})
}

// groupOf is the one group of a pod on ECI.
func groupOf(t *testing.T, ns, pod string) *sim.Group {
	t.Helper()
	var found []*sim.Group
	for _, g := range system.Groups(eciNode) {
		if tags := g.Tags(); tags["autoburst.io/namespace"] == ns && tags["autoburst.io/pod"] == pod {
			found = append(found, g)
		}
	}
	if len(found) != 1 {
		t.Fatalf("pod %s/%s has %d groups, want 1", ns, pod, len(found))
	}
	return found[0]
}

// waitEvent waits for an event of a pod with the reason, any if it is empty, and the
// text in its message.
func waitEvent(t *testing.T, ns, pod, reason, text string) {
	t.Helper()
	mustEventually(t, time.Minute, fmt.Sprintf("an event of pod %s says %q", pod, text), func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
		if err != nil {
			return false, err
		}
		var seen []string
		for _, e := range list.Items {
			if (reason == "" || e.Reason == reason) && strings.Contains(e.Message, text) {
				return true, nil
			}
			seen = append(seen, e.Reason+": "+e.Message)
		}
		return false, fmt.Errorf("seen: %s", strings.Join(seen, "\n"))
	})
}
