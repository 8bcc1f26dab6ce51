package faults

import (
	"fmt"
	"slices"
	"strings"
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
		b.waitFull(true)

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
		b.waitFull(false)
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
		for _, p := range b.history.all() {
			if p.Labels["app"] == "owned" {
				b.ends[p.Name] = corev1.PodFailed // several may have been made while there was no room
			}
		}
	})
}

// The account's quota is used up: the pods that are too many wait with the
// reason and are asked for ever more seldom, the node says so, and when one ends,
// another one starts by itself. Meanwhile the node offers what its pods hold.
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
		b.waitFull(true)
		b.waitAllocatable(func(offered, allowed int64) bool { return offered == quota })
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
		if c := conditionOf(b.nodeObject(), v1alpha1.CapacityAvailableCondition); c.Status != corev1.ConditionFalse {
			b.Errorf("CapacityAvailable is %s with the quota used up: %s", c.Status, c.Message)
		}
		b.delete(late[0])
		b.waitCondition(v1alpha1.CapacityAvailableCondition, corev1.ConditionTrue)
		b.waitFull(false)
		if n := b.made(); n != quota+len(late) {
			b.Errorf("%d groups were made for %d pods", n, quota+len(late))
		}
	})
}

// waitFull waits until the node has the taint that nothing can start, or has it
// no longer.
func (b *bed) waitFull(full bool) {
	b.Helper()
	b.must(30*time.Second, fmt.Sprintf("the node has the taint of no capacity: %t", full), func() error {
		if n := b.nodeObject(); hasTaint(n, v1alpha1.NoCapacityTaintKey) != full {
			return fmt.Errorf("its taints are %v", n.Spec.Taints)
		}
		return nil
	})
}

// waitAllocatable waits until the node offers what is wanted of the resource that
// the cloud has a quota of: vCPUs on ECI, groups on ACI. What the operator allows
// stays as it was.
func (b *bed) waitAllocatable(want func(offered, allowed int64) bool) {
	b.Helper()
	name := map[string]corev1.ResourceName{"eci": corev1.ResourceCPU, "aci": corev1.ResourcePods}[b.name()]
	b.must(45*time.Second, "the node offers what there is", func() error {
		n := b.nodeObject()
		offered, allowed := n.Status.Allocatable[name], n.Status.Capacity[name]
		if !want(offered.Value(), allowed.Value()) {
			return fmt.Errorf("it offers %s of %s %s", offered.String(), allowed.String(), name)
		}
		return nil
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

// The cloud refuses to delete a group whose pod is gone. It costs money for
// nothing, so that after ten minutes the node says so, and a metric does.
func TestC35GroupWithoutPodLong(t *testing.T) {
	onBothClouds(t, cloudOptions{speed: 30}, func(b *bed) {
		agent := b.runInside(nil, nil)
		kept, gone := b.pod("kept"), b.pod("gone")
		b.waitRunning(kept, gone)
		last := func(id string) string { return id[strings.LastIndex(id, "/")+1:] } // ACI's is a path
		id := last(b.group(gone).ID())
		b.inject(fault{op: remove, calls: -1, status: 500})
		begun := b.clock.Now()
		b.forget(gone)
		alarms := func() []corev1.Event {
			b.Helper()
			list, err := b.client.CoreV1().Events(metav1.NamespaceDefault).List(b.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=" + b.node})
			if err != nil {
				b.Fatal(err)
			}
			return slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.Reason != "GroupsWithoutPod" })
		}
		b.pass(8 * time.Minute)
		if n := len(alarms()); n != 0 {
			b.Errorf("%d alarms after %s", n, b.clock.Since(begun))
		}
		b.must(30*time.Second, "the node tells of the group", func() error {
			if len(alarms()) == 0 {
				return fmt.Errorf("it does not")
			}
			return nil
		})
		if since := b.clock.Since(begun); since < 10*time.Minute {
			b.Errorf("the alarm came after %s, want 10 min", since)
		}
		for _, e := range alarms() {
			if e.Type != corev1.EventTypeWarning || e.InvolvedObject.Kind != "Node" || !strings.Contains(e.Message, id) || strings.Contains(e.Message, last(b.group(kept).ID())) {
				b.Errorf("a %s about a %s says %q, want a warning about the node that names %s alone", e.Type, e.InvolvedObject.Kind, e.Message, id)
			}
		}
		if n := agent.metric(b.T, "autoburst_vnode_groups_without_pod_long", ""); n != 1 {
			b.Errorf("the metric counts %v groups, want 1", n)
		}
		b.ClearFaults()
		b.waitGroups(1)
		b.must(30*time.Second, "the metric is back at zero", func() error {
			if n := agent.metric(b.T, "autoburst_vnode_groups_without_pod_long", ""); n != 0 {
				return fmt.Errorf("it is %v", n)
			}
			return nil
		})
		if n := len(alarms()); n != 1 {
			b.Errorf("%d alarms in half an hour, want 1", n)
		}
	})
}
