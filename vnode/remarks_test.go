package vnode

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// What a pod runs without is told once, also after a restart.
func TestWaivedFieldsAreTold(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Annotations = map[string]string{burstable.WaiveAnnotation: "subdomain,securityContext.fsGroup", "k8s.aliyun.com/eci-fail-strategy": "fail-fast"}
			p.Spec.Subdomain = "db"
		}))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		b.stop()
		b.start()
		b.settle(time.Minute)
		list, err := b.client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range list.Items {
			if e.Reason == reasonRunsWithout {
				told = append(told, e.Message)
			}
		}
		// The security context is not asked for, so nothing is said of it.
		if len(told) != 2 {
			t.Fatalf("events %q, want one for each", told)
		}
		all := strings.Join(told, "\n")
		for _, want := range []string{"without spec.subdomain:", "It was waived", "eci-fail-strategy]:", "It has no effect"} {
			if !strings.Contains(all, want) {
				t.Errorf("events %q, want %q in them", told, want)
			}
		}
	})
}

// The cloud announces that it takes a pod's machine, and then does.
func TestReclaimIsAnnounced(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t)
		b.as(k)
		b.start()
		b.create(testPod("web", ownedBy("ReplicaSet"), granted))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)

		noticed := running("app")
		noticed.ReclaimNotice = "released in 3 minutes"
		noticed.Events = []providers.Event{{Warning: true, Reason: "SpotToBeReleased", Message: "released in 3 minutes", Count: 1, First: time.Now(), Last: time.Now()}}
		b.cloud.set("g-uid-web", noticed)
		b.settle(time.Minute)
		pod := b.pod("web")
		if c := podCondition(pod, corev1.DisruptionTarget); pod.Status.Phase != corev1.PodRunning || c.Status != corev1.ConditionTrue || c.Message != "released in 3 minutes" {
			t.Errorf("phase %s, condition DisruptionTarget %+v", pod.Status.Phase, c)
		}
		if n := b.events("web")["SpotToBeReleased"]; n != 1 {
			t.Errorf("%d events, want 1", n)
		}
		b.cloud.set("g-uid-web", providers.GroupStatus{Phase: providers.GroupFailed, Reason: "SpotToBeReleased", Message: "released", Reclaimed: true})
		b.phase("web", corev1.PodFailed)
		if pod := b.pod("web"); pod.Status.Reason != "SpotToBeReleased" || podCondition(pod, corev1.DisruptionTarget).Status != corev1.ConditionTrue {
			t.Errorf("reason %q, conditions %v", pod.Status.Reason, pod.Status.Conditions)
		}
		if c := b.capacity(); c.Status != corev1.ConditionTrue {
			t.Errorf("a reclaimed machine makes the node say that the cloud has no room: %s", c.Message)
		}
	})
}

// That a machine is out of stock which one pod alone asks for stops no other pod.
func TestShortageOfOneKind(t *testing.T) {
	bubble(t, "refused", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, id string, _ int) error {
			if op == "Create" && strings.Contains(id, "picky") {
				return fault(providers.NoSuchStock, "OperationDenied.NoStock")
			}
			return nil
		}
		b.start()
		b.create(testPod("picky", ownedBy("ReplicaSet"), granted))
		b.settle(3 * time.Minute)
		if s := b.pod("picky").Status; s.Phase != corev1.PodPending || s.Reason != v1alpha1.PodWaitingPrefix+string(providers.NoSuchStock) {
			t.Errorf("phase %s, reason %q, want that it waits", s.Phase, s.Reason)
		}
		if n := b.cloud.count("Create"); n < 4 || n > 12 {
			t.Errorf("%d creates in 3 minutes, want that it backs off", n)
		}
		if c := b.capacity(); c.Status != corev1.ConditionTrue {
			t.Errorf("the node says that the cloud has no room: %s", c.Message)
		}
		b.create(testPod("plain", granted))
		b.groups("g-uid-plain")
	})
	bubble(t, "refused late", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("picky", ownedBy("ReplicaSet"), granted))
		b.groups("g-uid-picky")
		b.cloud.set("g-uid-picky", providers.GroupStatus{Phase: providers.GroupFailed, Reason: "NoStock", Message: "sold out", Refused: providers.NoSuchStock})
		b.phase("picky", corev1.PodFailed)
		if pod := b.pod("picky"); pod.Status.Reason != string(providers.NoSuchStock) || podCondition(pod, corev1.DisruptionTarget).Status != corev1.ConditionTrue {
			t.Errorf("reason %q, conditions %v", pod.Status.Reason, pod.Status.Conditions)
		}
		if c := b.capacity(); c.Status != corev1.ConditionTrue {
			t.Errorf("the node says that the cloud has no room: %s", c.Message)
		}
	})
}

// The statuses of sidecars stand among the init containers, whichever list the cloud
// has them in.
func TestSidecarStatus(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "init", Image: "i"}, {Name: "proxy", Image: "p", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)},
			}
		}))
		b.groups("g-uid-web")
		status := running("proxy", "app")
		done := exited(0, "init")
		status.InitContainers = done.Containers
		status.Containers[0].Ready = false
		b.cloud.set("g-uid-web", status)
		b.phase("web", corev1.PodRunning)
		b.settle(30 * time.Second)
		st := b.pod("web").Status
		if len(st.InitContainerStatuses) != 2 || st.InitContainerStatuses[1].State.Running == nil || len(st.ContainerStatuses) != 1 || st.ContainerStatuses[0].Name != "app" {
			t.Fatalf("init containers %v, containers %v", st.InitContainerStatuses, st.ContainerStatuses)
		}
		pod := b.pod("web")
		if c := podCondition(pod, corev1.PodInitialized); c.Status != corev1.ConditionTrue {
			t.Errorf("condition Initialized is %+v while the sidecar runs", c)
		}
		if c := podCondition(pod, corev1.PodReady); c.Status != corev1.ConditionFalse || !strings.Contains(c.Message, "proxy") {
			t.Errorf("condition Ready is %+v while the sidecar is not ready", c)
		}
		status = running("proxy", "app")
		status.InitContainers = done.Containers
		b.cloud.set("g-uid-web", status)
		b.eventually("the pod is ready", func() error {
			if c := podCondition(b.pod("web"), corev1.PodReady); c.Status != corev1.ConditionTrue {
				return errors.New(c.Message)
			}
			return nil
		})
	})
}
