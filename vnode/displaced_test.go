package vnode

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

// spotGroup is a group of the kind whose machine the cloud may take away.
func spotGroup(displaced bool) providers.GroupStatus {
	s := running("app")
	s.Spot = true
	if displaced {
		s.Displaced = true
		s.Containers[0] = corev1.ContainerStatus{Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
	}
	return s
}

// TestDisplacedPods takes the machine of a pod away twice. The pod waits, is not
// failed, and says so once each time, also to those who watch for disruptions.
func TestDisplacedPods(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		starting := spotGroup(true) // as every group looks before it runs
		starting.Phase = providers.GroupPending
		b.cloud.set("g-uid-web", starting)
		b.settle(time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodPending || disruption(s.Conditions) != nil {
			t.Errorf("while it starts for the first time: %s, %+v", s.Phase, s.Conditions)
		}
		b.cloud.set("g-uid-web", spotGroup(false))
		b.phase("web", corev1.PodRunning)
		expect := func(what string, status corev1.ConditionStatus, reason, podReason string) {
			t.Helper()
			b.eventually(what, func() error {
				s := b.pod("web").Status
				c := disruption(s.Conditions)
				if s.Phase != corev1.PodRunning || s.Reason != podReason || c == nil || c.Status != status || c.Reason != reason {
					return fmt.Errorf("%s %q, condition %+v", s.Phase, s.Reason, c)
				}
				return nil
			})
		}
		for turn := 1; turn <= 2; turn++ {
			b.cloud.set("g-uid-web", spotGroup(true))
			expect("the pod is the target of a disruption", corev1.ConditionTrue, reasonReclaimed, reasonDisplaced)
			if s := b.pod("web").Status; conditionTrue(s, corev1.PodReady) || s.ContainerStatuses[0].State.Waiting == nil {
				t.Errorf("turn %d: a pod without a machine is ready: %+v", turn, s)
			}
			b.settle(time.Minute)
			b.stop()
			b.start() // another agent knows of it
			b.settle(time.Minute)
			if got := b.events("web")[reasonReclaimed]; got != turn {
				t.Errorf("turn %d: %d events, want %d", turn, got, turn)
			}
			b.cloud.set("g-uid-web", spotGroup(false))
			expect("the disruption is over", corev1.ConditionFalse, reasonPlaced, "")
		}
	})
}

// TestDisruptionTakenBack is about what the disruption controller does after two
// minutes to a pod that is not deleted: it takes the condition back. The agent does
// not fight it, and tells no second time.
func TestDisruptionTakenBack(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", spotGroup(false))
		b.phase("web", corev1.PodRunning)
		b.cloud.set("g-uid-web", spotGroup(true))
		b.eventually("the pod is the target of a disruption", func() error {
			if !conditionTrue(b.pod("web").Status, corev1.DisruptionTarget) {
				return fmt.Errorf("conditions %+v", b.pod("web").Status.Conditions)
			}
			return nil
		})
		pod := b.pod("web")
		*disruption(pod.Status.Conditions) = corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now().Rfc3339Copy()}
		if _, err := b.client.CoreV1().Pods(pod.Namespace).UpdateStatus(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		b.settle(5 * time.Minute)
		if c := disruption(b.pod("web").Status.Conditions); c.Status != corev1.ConditionFalse {
			t.Errorf("the condition is %s again", c.Status)
		}
		if got := b.events("web")[reasonReclaimed]; got != 1 {
			t.Errorf("%d events, want 1", got)
		}
		b.cloud.set("g-uid-web", spotGroup(false))
		b.eventually("the disruption is over", func() error {
			if c := disruption(b.pod("web").Status.Conditions); c.Reason != reasonPlaced {
				return fmt.Errorf("condition %+v", c)
			}
			return nil
		})
	})
}
