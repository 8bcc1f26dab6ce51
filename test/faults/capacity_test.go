package faults

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// The cloud has no machines. On ECI the next zone is taken where there is one;
// where there is none, pods wait with the reason, the node says so, and a pod
// that somebody replaces is failed for its owner. When there are machines again,
// what waits starts.
func TestC13OutOfStock(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start("--refusal-grace=2s", "--capacity-pause=8s")
		if c, ok := b.cloud.(*eciCloud); ok {
			c.SetShortages(eci.Shortage{ZoneID: playground.ECIRegion + "a"})
			for _, p := range b.pods(3, "zone", policy(corev1.RestartPolicyNever)) {
				b.waitRunning(p)
			}
		}
		b.short(true)
		waiting := b.pod("waiting", policy(corev1.RestartPolicyNever))
		p := b.waitWaits("waiting", v1alpha1.PodWaitingPrefix+v1alpha1.PodOutOfStock)
		if p.Status.Message == "" {
			b.Error("the pod waits without a message")
		}
		if c := b.waitCondition(v1alpha1.CapacityAvailableCondition, corev1.ConditionFalse); c.Reason != "OutOfStock" || c.LastTransitionTime.IsZero() {
			b.Errorf("CapacityAvailable is False for %q since %s", c.Reason, c.LastTransitionTime)
		}

		labels := map[string]string{"app": "owned"}
		if _, err := b.client.AppsV1().ReplicaSets(b.ns).Create(b.Context(), &appsv1.ReplicaSet{
			ObjectMeta: metav1.ObjectMeta{Name: "owned"},
			Spec: appsv1.ReplicaSetSpec{
				Replicas: ptr.To[int32](1), Selector: &metav1.LabelSelector{MatchLabels: labels},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{v1alpha1.GrantAnnotation: "late"}},
					Spec:       b.podSpec(),
				},
			},
		}, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		b.must(45*time.Second, "the pod of a ReplicaSet is failed for its owner", func() error {
			done := false
			for _, p := range b.history.all() {
				if p.Labels["app"] != "owned" {
					continue
				}
				b.ends[p.Name] = corev1.PodFailed
				if p.Status.Phase != corev1.PodFailed {
					continue
				}
				done = true
				if p.Status.Reason != v1alpha1.PodOutOfStock {
					b.Fatalf("the pod failed for %s: %s", p.Status.Reason, p.Status.Message)
				}
				if !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
					return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue
				}) {
					b.Fatalf("conditions %v, want DisruptionTarget", p.Status.Conditions)
				}
			}
			if !done {
				return fmt.Errorf("none has failed")
			}
			return nil
		})
		b.short(false)
		b.waitRunning(waiting)
		b.waitCondition(v1alpha1.CapacityAvailableCondition, corev1.ConditionTrue)
		b.must(30*time.Second, "the ReplicaSet's pod runs", func() error {
			list, err := b.client.CoreV1().Pods(b.ns).List(b.Context(), metav1.ListOptions{LabelSelector: "app=owned"})
			if err != nil {
				return err
			}
			for i := range list.Items {
				b.ends[list.Items[i].Name] = corev1.PodFailed
				if running(&list.Items[i]) {
					return nil
				}
			}
			return fmt.Errorf("none of %d runs", len(list.Items))
		})
	})
}

// The account's quota is used up: the pods that are too many wait with the
// reason and are asked for ever more seldom, the node says so, and when one ends,
// another one starts by itself.
func TestC14QuotaExhausted(t *testing.T) {
	const quota = 3
	onBothClouds(t, cloudOptions{quota: quota}, func(b *bed) {
		b.start("--capacity-pause=8s")
		size := func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("2Gi"),
			}
			p.Spec.RestartPolicy = corev1.RestartPolicyNever
		}
		ran := b.pods(quota, "ran", size)
		b.waitRunning(ran...)
		late := b.pods(3, "late", size)
		for _, p := range late {
			b.waitWaits(p.Name, v1alpha1.PodWaitingPrefix+v1alpha1.PodQuotaExceeded)
		}
		if c := b.waitCondition(v1alpha1.CapacityAvailableCondition, corev1.ConditionFalse); c.Reason != "QuotaExceeded" {
			b.Errorf("CapacityAvailable is False for %q: %s", c.Reason, c.Message)
		}
		b.sweeps(8)
		if n := b.calls(create); n > quota+len(late)*6 {
			b.Errorf("%d creates were asked for while the quota is used up", n)
		}
		for i, p := range ran {
			b.delete(p)
			b.must(100*time.Second, "another pod starts", func() error {
				n := 0
				for _, p := range late {
					if running(b.get(p.Name)) {
						n++
					}
				}
				if n != i+1 {
					return fmt.Errorf("%d run", n)
				}
				return nil
			})
		}
		b.untouched()
		b.waitCondition(v1alpha1.CapacityAvailableCondition, corev1.ConditionTrue)
		if n := b.made(); n != quota+len(late) {
			b.Errorf("%d groups were made for %d pods", n, quota+len(late))
		}
	})
}

// The cloud loses every group before it runs. The agent does not make new ones
// for ever: after a few the pod fails with the reason.
func TestC35GroupsMadeOverAndOver(t *testing.T) {
	slow := quick()
	slow.Schedule = time.Hour
	onBothClouds(t, cloudOptions{timing: &slow}, func(b *bed) {
		b.start()
		b.ends["pod"] = corev1.PodFailed
		b.Hook(sim.Hook{Action: b.action(create), After: func(sim.Passage) {
			for _, g := range b.Fleet().Groups() {
				g.Remove()
			}
		}})
		p := b.pod("pod")
		failed := b.wait("pod", "has failed", phase(corev1.PodFailed))
		if failed.Status.Reason != "GroupVanished" {
			b.Errorf("the pod failed for %s: %s", failed.Status.Reason, failed.Status.Message)
		}
		b.waitEvent(p, "GroupVanished")
		b.sweeps(3)
		if n := b.accepted(create); n == 0 || n > 5 {
			b.Errorf("%d groups were made for one pod", n)
		}
	})
}
