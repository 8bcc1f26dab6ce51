package vnode

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

func TestDeletionIsRetriedAsLongAsItTakes(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t, testPod("web", ran))
		b.cloud.put(testPod("web"), ours(), running("app"))
		b.cloud.fail = func(op, _ string, n int) error {
			if op == "Delete" && n <= 60 {
				return fault(providers.Unavailable, "")
			}
			return nil
		}
		b.start()
		b.settle(time.Second)
		b.remove("web")
		b.settle(30 * time.Minute)
		b.groups("g-uid-web")
		if n := b.cloud.count("Delete"); n < 25 || n > 60 {
			t.Errorf("%d tries in half an hour, want about one a minute", n)
		}
		b.settle(40 * time.Minute)
		b.absent("web")
		b.groups()
	})
}

func TestEndOfADeletedPodIsWritten(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t, testPod("job", ran, func(p *corev1.Pod) { p.Finalizers = []string{"batch.kubernetes.io/job-tracking"} }))
		b.cloud.put(testPod("job"), ours(), running("app"))
		// As the API server does for a pod with finalizers.
		b.client.PrependReactor("delete", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			pods := corev1.SchemeGroupVersion.WithResource("pods")
			obj, err := b.client.Tracker().Get(pods, "default", "job")
			if err != nil {
				return true, nil, err
			}
			pod := obj.DeepCopyObject().(*corev1.Pod)
			pod.DeletionGracePeriodSeconds = new(int64)
			pod.ResourceVersion = "100000"
			return true, nil, b.client.Tracker().Update(pods, pod, "default")
		})
		b.start()
		b.settle(time.Second)
		b.remove("job")
		b.phase("job", corev1.PodFailed)
		if st := b.pod("job").Status.ContainerStatuses[0].State.Terminated; st == nil || st.ExitCode != exitKilled {
			t.Errorf("container state %+v", b.pod("job").Status.ContainerStatuses[0].State)
		}
		b.settle(10 * time.Minute)
		deletes := 0
		for _, a := range b.client.Actions() {
			if a.GetVerb() == "delete" {
				deletes++
			}
		}
		if deletes < 1 || deletes > 3 {
			t.Errorf("%d deletes in ten minutes of a pod that only a finalizer keeps", deletes)
		}
	})
}

// The API server removes a pod in two steps; a request that ends in between, as
// that of an agent that is killed, leaves a pod without grace that is still there.
func TestHalfRemovedPodIsRemoved(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		now := metav1.Now()
		b := newBed(t, testPod("web", ran, func(p *corev1.Pod) {
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, new(int64)
		}))
		b.start()
		b.settle(time.Minute)
		b.absent("web")
	})
}

func TestEndedPods(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t)
		b.as(k)
		b.start()
		b.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		b.groups("g-uid-job")
		b.cloud.set("g-uid-job", exited(3, "app"))
		b.phase("job", corev1.PodFailed)
		s := b.pod("job").Status
		if term := s.ContainerStatuses[0].State.Terminated; term == nil || term.ExitCode != 3 || term.Reason != "Error" {
			t.Errorf("container state %+v", s.ContainerStatuses[0].State)
		}
		b.settle(time.Minute)
		reads := b.cloud.count("Get")
		b.settle(20 * time.Minute)
		if n := b.cloud.count("Get") - reads; n != 0 {
			t.Errorf("%d reads of an ended group", n)
		}
		b.groups("g-uid-job") // kept for its logs
		b.cloud.lose("g-uid-job")
		b.settle(10 * time.Minute)
		if n := b.cloud.count("Create"); n != 1 {
			t.Errorf("%d creates, want 1", n)
		}
		b.remove("job")
		b.absent("job")
	})
	bubble(t, "evicted while the group runs", func(t *testing.T) {
		b := newBed(t, testPod("web", ran, func(p *corev1.Pod) { p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted" }))
		b.cloud.put(testPod("web"), ours(), running("app"))
		b.start()
		b.groups()
		if s := b.pod("web").Status; s.Reason != "Evicted" {
			t.Errorf("reason %q, want Evicted kept", s.Reason)
		}
	})
}

func TestActiveDeadline(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("job", func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64); *p.Spec.ActiveDeadlineSeconds = 60 }))
		b.groups("g-uid-job")
		b.cloud.set("g-uid-job", running("app"))
		b.phase("job", corev1.PodRunning)
		b.settle(30 * time.Second)
		b.groups("g-uid-job")
		b.phase("job", corev1.PodFailed)
		if s := b.pod("job").Status; s.Reason != ReasonDeadline {
			t.Errorf("reason %q", s.Reason)
		}
		b.groups()
	})
}

func TestMissingObjectsAreWaitedFor(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}
		}))
		b.eventually("the pod says what is missing", func() error {
			if b.events("web")["MandatoryConfigMapNotFound"] != 1 {
				return fmt.Errorf("events %v", b.events("web"))
			}
			s := b.pod("web").Status
			if len(s.ContainerStatuses) != 1 || s.ContainerStatuses[0].State.Waiting.Reason != "CreateContainerConfigError" {
				return fmt.Errorf("status %+v", s)
			}
			return nil
		})
		b.settle(time.Minute)
		if n := b.cloud.count("Create"); n != 0 {
			t.Fatalf("%d creates", n)
		}
		_, err := b.client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: "settings", Namespace: "default"}, Data: map[string]string{"A": "b"},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.groups("g-uid-web")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("created %s after the ConfigMap", took)
		}
		if diff := cmp.Diff([]providers.EnvVar{{Name: "A", Value: "b"}}, b.cloud.specs["g-uid-web"].Containers[0].Env); diff != "" {
			t.Errorf("environment (-want +got):\n%s", diff)
		}
		if b.events("web")["MandatoryConfigMapNotFound"] != 1 {
			t.Errorf("events %v", b.events("web"))
		}
	})
}

func TestStopFinishesWhatHasBegun(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.hold = make(chan struct{})
		b.start()
		b.create(testPod("web"))
		b.settle(time.Second)
		stopped := make(chan struct{})
		go func() { b.stop(); close(stopped) }()
		synctest.Wait()
		select {
		case <-stopped:
			t.Fatal("the agent ended during a create")
		default:
		}
		close(b.cloud.hold)
		<-stopped
		if ids := b.cloud.ids(); len(ids) != 1 {
			t.Errorf("groups %v", ids)
		}
		if s := b.pod("web").Status; len(s.ContainerStatuses) != 1 {
			t.Errorf("the status of the created pod was not written: %+v", s)
		}
	})
}

func TestConditionsOfOthersStay(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		gate := corev1.PodConditionType("example.com/load-balancer")
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) { p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}} }))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		if s := b.pod("web").Status; conditionTrue(s, corev1.PodReady) || !conditionTrue(s, corev1.ContainersReady) {
			t.Errorf("conditions before the gate opens: %+v", s.Conditions)
		}
		patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"status":"True"}]}}`, gate)
		if _, err := b.client.CoreV1().Pods("default").Patch(t.Context(), "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
		b.eventually("the pod is ready", func() error {
			s := b.pod("web").Status
			if !conditionTrue(s, corev1.PodReady) || !conditionTrue(s, gate) {
				return fmt.Errorf("conditions %+v", s.Conditions)
			}
			return nil
		})
	})
}

func TestPanicIsKeptToItsPod(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, id string, _ int) error {
			if op == "Create" && id == "g-uid-bad" {
				panic("a bug")
			}
			return nil
		}
		b.start()
		b.create(testPod("bad"))
		b.create(testPod("good"))
		b.groups("g-uid-good")
		b.settle(5 * time.Minute)
		b.cloud.setFail(nil)
		b.groups("g-uid-bad", "g-uid-good")
	})
}

func TestCloudEventsBecomeKubernetesEventsOnce(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t)
		b.as(k)
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		s := providers.GroupStatus{Phase: providers.GroupPending, Events: []providers.Event{{
			Warning: true, Reason: "Failed", Message: `Failed to pull image "nginx": not found`, Container: "app", Count: 3, First: time.Now(), Last: time.Now(),
		}}}
		b.cloud.set("g-uid-web", s)
		b.eventually("the container says that its image is not there", func() error {
			list := b.pod("web").Status.ContainerStatuses
			if len(list) != 1 || list[0].State.Waiting == nil || list[0].State.Waiting.Reason != "ErrImagePull" {
				return fmt.Errorf("container statuses %+v", list)
			}
			return nil
		})
		b.stop()
		b.start() // also a new run knows the event
		b.settle(time.Minute)
		if got := b.events("web"); got["Failed"] != 1 || got["GroupCreated"] != 1 {
			t.Errorf("events %v", got)
		}
	})
}

func TestBurstThenMassDeletion(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const n = 300
		b := newBed(t)
		b.cloud.linger = 2
		b.start()
		b.settle(time.Second)
		for i := range n {
			b.create(testPod(fmt.Sprintf("p-%d", i)))
		}
		b.eventually("all groups exist", func() error {
			if got := len(b.cloud.ids()); got != n {
				return fmt.Errorf("%d groups", got)
			}
			return nil
		})
		if got := b.cloud.count("Create"); got != n {
			t.Errorf("%d creates for %d pods", got, n)
		}
		for i := range n {
			b.remove(fmt.Sprintf("p-%d", i))
		}
		b.groups()
		b.eventually("all pods are gone", func() error {
			if got := len(b.agent.Pods()); got != 0 {
				return fmt.Errorf("%d pods", got)
			}
			return nil
		})
		b.eventually("nothing is remembered", func() error {
			l := b.agent.present.Load().reconciler.ledger
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.records) != 0 {
				return fmt.Errorf("%d records", len(l.records))
			}
			return nil
		})
	})
}

// The event of a new group names who let the pod burst, where it is known.
func TestGroupEventNamesThePolicy(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Annotations = map[string]string{v1alpha1.PolicyAnnotation: "BurstPolicy/batch"}
		}))
		b.create(testPod("by-hand"))
		b.groups("g-uid-by-hand", "g-uid-web")
		b.settle(time.Second)
		list, err := b.client.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		named := map[string]bool{}
		for _, e := range list.Items {
			if e.Reason == "GroupCreated" {
				named[e.InvolvedObject.Name] = strings.Contains(e.Message, "decided by BurstPolicy/batch.")
			}
		}
		if want := (map[string]bool{"web": true, "by-hand": false}); !maps.Equal(named, want) {
			t.Errorf("events that name the policy: %v, want %v", named, want)
		}
	})
}
