package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

const zoneLabel = corev1.LabelTopologyZone

// spreadHard must be spread evenly over a topology.
func spreadHard(key string) string {
	return fmt.Sprintf(`
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: %s, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: spread}}}
`, key)
}

// zones gives every node a zone, the virtual node on ECI one of its own, and the
// one on ACI none.
func zones(t *testing.T) {
	t.Helper()
	for node, zone := range map[string]string{"local-1": "a", "local-2": "b", "local-3": "c", eciNode: "z"} {
		kubectl(t, "", "label", "node", node, zoneLabel+"="+zone, "--overwrite")
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "label", "node", node, zoneLabel+"-"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Pods that must be spread neither hang because the tainted virtual nodes are
// empty, nor are they forced onto them, while local nodes have room.
func TestSpreadWithLocalRoom(t *testing.T) {
	zones(t)
	for _, key := range []string{corev1.LabelHostname, zoneLabel} {
		for order, spec := range map[string]string{"no order": "{}", "BurstFirst": burstFirst} {
			t.Run(key+"/"+order, func(t *testing.T) {
				ns := namespace(t, "spread", nil)
				policy(t, ns, "spread", spec)
				watch, err := playground.WatchPlacements(context.Background(), client())
				if err != nil {
					t.Fatal(err)
				}
				defer watch.Close()
				kubectl(t, deployment("spread", slots, podSpec{extra: spreadHard(key)}), "--namespace="+ns, "apply", "-f", "-")
				mustEventually(t, time.Minute, "all pods have a node", bound(t, ns, slots))
				if byNode := watch.ByNode(ns); byNode[eciNode]+byNode[aciNode] > 0 {
					t.Errorf("pods went to virtual nodes: %v", byNode)
				}
				for _, s := range watch.Strays() {
					t.Error("stray:", s)
				}
			})
		}
	}
}

// Once the local nodes are full, spread pods burst, as far as their constraint
// lets them: each virtual node is one host, and in one zone.
func TestSpreadBursts(t *testing.T) {
	zones(t)
	fill(t)
	for key, want := range map[string]map[string]int{
		corev1.LabelHostname: {eciNode: 1, aciNode: 1, "": 1},
		zoneLabel:            {eciNode: 1, "": 2},
	} {
		t.Run(key, func(t *testing.T) {
			ns := namespace(t, "spread-full", overflow())
			watch, err := playground.WatchPlacements(context.Background(), client())
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Close()
			kubectl(t, deployment("spread", 3, podSpec{extra: spreadHard(key)}), "--namespace="+ns, "apply", "-f", "-")
			mustEventually(t, time.Minute, fmt.Sprintf("the pods are placed as %v", want), func(context.Context) (bool, error) {
				byNode := watch.ByNode(ns)
				for node, n := range want {
					if byNode[node] != n {
						return false, fmt.Errorf("they are placed as %v", byNode)
					}
				}
				return true, nil
			})
			for _, s := range watch.Strays() {
				t.Error("stray:", s)
			}
		})
	}
}

// A pod that must be spread over a topology to which no virtual node belongs stays
// local, and its owner is told the label.
func TestSpreadOverUnknownTopology(t *testing.T) {
	fill(t)
	ns := namespace(t, "rack", overflow())
	kubectl(t, barePod("spread", podSpec{extra: spreadHard("example.com/rack")}), "--namespace="+ns, "apply", "-f", "-")
	toldOf(t, ns, "spread", "StaysLocal", "NoTopologyLabel", "example.com/rack")
}

// toldOf waits for an event about a pod with that reason, action and text.
func toldOf(t *testing.T, namespace, name, reason, action, text string) {
	t.Helper()
	mustEventually(t, 30*time.Second, fmt.Sprintf("pod %s has an event %s/%s with %q", name, reason, action, text), func(ctx context.Context) (bool, error) {
		list, err := client().EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.Name != name || e.ReportingController != "autoburst" {
				continue
			}
			if e.Reason == reason && e.Action == action && strings.Contains(e.Note, text) {
				return true, nil
			}
			seen = append(seen, e.Reason+"/"+e.Action+": "+e.Note)
		}
		return false, fmt.Errorf("its events are %q", seen)
	})
}

// What bursting would not help opens no pressure and does not burst: pods that
// only affinity, spread or a volume keeps from local nodes with room, and pods for
// which the scheduler evicts others.
func TestFalseAlarms(t *testing.T) {
	zones(t)
	ns := namespace(t, "alarms", nil)
	policy(t, ns, "pressure", "{overflow: {pressure: {unschedulablePods: 1}}}")
	kubectl(t, `
apiVersion: v1
kind: PersistentVolume
metadata: {name: alarms-zonal}
spec:
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  storageClassName: ""
  claimRef: {namespace: `+ns+`, name: data}
  hostPath: {path: /tmp/alarms}
  nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: `+zoneLabel+`, operator: In, values: [elsewhere]}]}]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: `+ns+`}
spec: {accessModes: [ReadWriteOnce], storageClassName: "", volumeName: alarms-zonal, resources: {requests: {storage: 1Gi}}}
`, "apply", "-f", "-")
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", "delete", "pv", "alarms-zonal", "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	const one = "minDomains: 9, " // more domains than there are: one pod each
	manifests := map[string]string{
		"volume": barePod("volume", podSpec{extra: "volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]"}),
		"near": barePod("near", podSpec{extra: `
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: nobody}}}
`}),
		"apart": deployment("apart", 4, podSpec{extra: `
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}
`}),
		"spread": deployment("spread", 4, podSpec{extra: strings.Replace(spreadHard(corev1.LabelHostname), "maxSkew", one+"maxSkew", 1)}),
	}
	for _, m := range manifests {
		kubectl(t, m, "--namespace="+ns, "apply", "-f", "-")
	}
	mustEventually(t, time.Minute, "six pods are placed and four are unschedulable", func(context.Context) (bool, error) {
		placed, unschedulable := 0, 0
		for _, p := range pods(t, ns) {
			if p.Spec.NodeName != "" {
				placed++
			} else if isUnschedulable(&p) {
				unschedulable++
			}
		}
		if placed != 6 || unschedulable != 4 {
			return false, fmt.Errorf("%d are placed, %d unschedulable", placed, unschedulable)
		}
		return true, nil
	})
	toldOf(t, ns, "volume", "StaysLocal", "NotBurstable", "spec.volumes[0].persistentVolumeClaim")
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=jsonpath={.status.pods.waiting}=4", "--timeout=20s")
	kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/pressure", "--for=condition=UnderPressure=False", "--timeout=5s")

	// A pod for want of room opens the pressure. Of the others only those burst that
	// are better off there.
	kubectl(t, barePod("huge", podSpec{cpu: "9"}), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "huge", "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
	mustEventually(t, 30*time.Second, "the pod that must be apart has a host of its own", func(context.Context) (bool, error) {
		n := 0
		for _, p := range pods(t, ns) {
			if p.Labels["app"] == "apart" && (p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode) {
				n++
			}
		}
		return n == 1, nil
	})
	for _, p := range pods(t, ns) {
		switch app := p.Labels["app"]; app {
		case "volume", "near", "spread":
			if p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode {
				t.Errorf("pod %s went to %s", p.Name, p.Spec.NodeName)
			}
			if app != "near" && p.Annotations[grantAnnotation] != "" {
				t.Errorf("pod %s was granted %s", p.Name, p.Annotations[grantAnnotation])
			}
		}
	}
}

// A pod for which the scheduler evicts others is not granted; one that may not
// have others evicted bursts.
func TestPreemption(t *testing.T) {
	for name, spec := range map[string]string{
		"vital": "value: 1000", "humble": "value: 1000\npreemptionPolicy: Never",
	} {
		kubectl(t, "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: "+name+"}\n"+spec, "apply", "-f", "-")
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "delete", "priorityclass", name); err != nil {
				t.Error(err)
			}
		})
	}
	fill(t)
	ns := namespace(t, "priority", nil)
	// The wait keeps the toleration back at admission.
	policy(t, ns, "late", "{overflow: {afterPendingSeconds: 1}}")
	kubectl(t, barePod("humble", podSpec{extra: "priorityClassName: humble"}), "--namespace="+ns, "apply", "-f", "-")
	waitPod(t, ns, "humble", "runs on a virtual node", func(p *corev1.Pod) bool { return onNode(eciNode)(p) || onNode(aciNode)(p) })
	kubectl(t, barePod("vital", podSpec{extra: "priorityClassName: vital"}), "--namespace="+ns, "apply", "-f", "-")
	p := waitPod(t, ns, "vital", "has a node", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	if p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode || p.Annotations[grantAnnotation] != "" {
		t.Errorf("the pod is on %s, granted %q; want it on a local node, as others make room", p.Spec.NodeName, p.Annotations[grantAnnotation])
	}
}
