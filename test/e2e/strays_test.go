package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

const spreadAnyway = `
topologySpreadConstraints:
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector: {matchLabels: {app: strays}}
`

const preferApart = `
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {app: strays}}
`

// Pods that all fit the local nodes never land on a virtual node, whatever pulls
// them there: the design's table of strays on the real scheduler.
func TestNoStrays(t *testing.T) {
	const cpu = "500m"
	rows := map[string]struct {
		counts []int
		extra  string
		// before prepares the cluster and may leave less room.
		before func(t *testing.T)
	}{
		"plain":                                      {counts: []int{20, 40, 48}},
		"spread ScheduleAnyway":                      {counts: []int{48}, extra: spreadAnyway},
		"preferred pod anti-affinity":                {counts: []int{48}, extra: preferApart},
		"spread and anti-affinity":                   {counts: []int{48}, extra: spreadAnyway + preferApart},
		"nodes loaded to 90 %":                       {counts: []int{5}, before: preload},
		"local soft taint":                           {counts: []int{20, 48}, before: softTaint},
		"local soft taint, spread and anti-affinity": {counts: []int{48}, extra: spreadAnyway + preferApart, before: softTaint},
		"webhook stopped":                            {counts: []int{20, 48}, before: stopWebhook},
	}
	kinds := map[string]func(count int, extra string) string{
		"Deployment": func(n int, extra string) string { return deployment("strays", n, podSpec{cpu: cpu, extra: extra}) },
		"Job":        func(n int, extra string) string { return job("strays", n, podSpec{cpu: cpu, extra: extra}) },
		"bare pods": func(n int, extra string) string {
			var b strings.Builder
			for i := range n {
				b.WriteString(strings.ReplaceAll(barePod(fmt.Sprintf("strays-%d", i), podSpec{cpu: cpu, extra: extra}), fmt.Sprintf("app: strays-%d", i), "app: strays"))
			}
			return b.String()
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if row.before != nil {
				row.before(t)
			}
			for kind, manifest := range kinds {
				for _, count := range row.counts {
					t.Run(fmt.Sprintf("%s/%d", kind, count), func(t *testing.T) {
						noStrays(t, count, manifest(count, row.extra))
					})
				}
			}
		})
	}
}

// The control for the test above: the same pods with the choice left to the
// scheduler do go to the virtual nodes, and the judge says so.
func TestStraysAreSeen(t *testing.T) {
	ns := namespace(t, "auto", map[string]string{"autoburst.io/mode": "Auto"})
	watch, err := playground.WatchPlacements(context.Background(), client())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	kubectl(t, deployment("strays", slots, podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "all pods are bound", func(context.Context) (bool, error) {
		return watch.ByNode(ns)[""] == 0 && len(watch.ByNode(ns)) > 0, nil
	})
	byNode := watch.ByNode(ns)
	if byNode[eciNode]+byNode[aciNode] == 0 || len(watch.Strays()) == 0 {
		t.Errorf("with mode Auto %v were placed and %d strays seen, want some", byNode, len(watch.Strays()))
	}
}

func noStrays(t *testing.T, count int, manifest string) {
	ns := namespace(t, "strays", overflow())
	watch, err := playground.WatchPlacements(context.Background(), client())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	kubectl(t, manifest, "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, fmt.Sprintf("all %d pods are bound", count), func(context.Context) (bool, error) {
		byNode := watch.ByNode(ns)
		total := 0
		for node, n := range byNode {
			if node != "" {
				total += n
			}
		}
		return total == count, nil
	})
	byNode := watch.ByNode(ns)
	if n := byNode[eciNode] + byNode[aciNode]; n > 0 {
		t.Errorf("%d of %d pods went to virtual nodes, want 0: all fit the local ones (%v)", n, count, byNode)
	}
	for _, s := range watch.Strays() {
		t.Error("stray:", s)
	}
}

// preload leaves a tenth of each local node free: five slots in all.
func preload(t *testing.T) {
	ns := namespace(t, "preload", nil)
	kubectl(t, deployment("preload", 3, podSpec{cpu: "7", extra: `
affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector: {matchLabels: {app: preload}}
`}), "--namespace="+ns, "apply", "-f", "-")
	mustEventually(t, time.Minute, "the nodes are loaded", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		return err == nil && len(list.Items) == 3, err
	})
}

// softTaint gives one local node a taint as cluster-autoscaler does.
func softTaint(t *testing.T) {
	const key = "DeletionCandidateOfClusterAutoscaler"
	args := []string{"taint", "node", "local-1"}
	kubectl(t, "", append(args, key+"=1:PreferNoSchedule")...)
	t.Cleanup(func() {
		if _, err := system.Kubectl(context.Background(), "", append(args, key+"-")...); err != nil {
			t.Error(err)
		}
	})
}

// stopWebhook ends all replicas; after the test there are two again.
func stopWebhook(t *testing.T) {
	for _, c := range system.Controllers() {
		system.RemoveController(c, endProcess(t))
	}
	t.Cleanup(func() {
		for len(system.Controllers()) < 2 {
			if _, err := system.StartController(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if err := system.WaitWebhook(context.Background()); err != nil {
			t.Fatal(err)
		}
	})
}
