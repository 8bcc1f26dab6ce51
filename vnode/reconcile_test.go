package vnode

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"

	"github.com/autoburst/autoburst/providers"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// bothListings runs a test with a cloud whose listing carries the groups'
// status, and with one whose listing does not.
func bothListings(t *testing.T, f func(t *testing.T, carries bool)) {
	t.Helper()
	for _, carries := range []bool{true, false} {
		bubble(t, fmt.Sprintf("listing with status %t", carries), func(t *testing.T) { f(t, carries) })
	}
}

func TestPodFromBirthToDeath(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t)
		b.cloud.listStatus, b.cloud.linger = carries, 3
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		b.eventually("the pod waits for its container", func() error {
			s := b.pod("web").Status
			if len(s.ContainerStatuses) != 1 || s.ContainerStatuses[0].State.Waiting == nil || s.ContainerStatuses[0].State.Waiting.Reason != "ContainerCreating" {
				return fmt.Errorf("status %+v", s)
			}
			return nil
		})
		b.cloud.set("g-uid-web", running("app"))
		began := time.Now()
		b.phase("web", corev1.PodRunning)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("the pod became Running %s after its group", took)
		}
		s := b.pod("web").Status
		if s.PodIP != "10.1.2.3" || s.HostIP != "192.0.2.1" || s.StartTime == nil || s.ObservedGeneration != 1 || s.Reason != "" {
			t.Errorf("status of the running pod: %+v", s)
		}
		for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodReadyToStartContainers} {
			if !conditionTrue(s, kind) {
				t.Errorf("condition %s is not True", kind)
			}
		}
		b.remove("web")
		b.eventually("the cloud is asked to delete", func() error {
			if b.cloud.count("Delete") == 0 {
				return errors.New("no call")
			}
			return nil
		})
		if pod := b.pod("web"); pod.DeletionTimestamp == nil {
			t.Error("the pod is not terminating")
		}
		b.absent("web")
		if ids := b.cloud.ids(); len(ids) != 0 {
			t.Errorf("the pod went before its group: %v", ids)
		}
		if n := b.cloud.count("Create"); n != 1 {
			t.Errorf("%d creates, want 1", n)
		}
	})
}

func conditionTrue(s corev1.PodStatus, kind corev1.PodConditionType) bool {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func TestPassingErrorsNeverFailAPod(t *testing.T) {
	for _, class := range []providers.ErrorClass{
		providers.Throttled, providers.Unavailable, providers.Unknown, providers.Conflict, providers.Unauthorized,
		providers.Misconfigured, providers.QuotaExceeded, providers.OutOfStock,
	} {
		bubble(t, string(class), func(t *testing.T) {
			b := newBed(t)
			b.cloud.fail = func(op, _ string, n int) error {
				if op == "Create" && n <= 5 {
					return fault(class, "Code.Of.Cloud")
				}
				return nil
			}
			b.start()
			b.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
			b.eventually("the pod says why it waits", func() error {
				s := b.pod("job").Status
				if s.Phase != corev1.PodPending || s.Reason != "Cloud"+string(class) || !strings.Contains(s.Message, "Code.Of.Cloud") {
					return fmt.Errorf("phase %q, reason %q, message %q", s.Phase, s.Reason, s.Message)
				}
				return nil
			})
			b.groups("g-uid-job")
			b.cloud.set("g-uid-job", running("app"))
			b.phase("job", corev1.PodRunning)
			s := b.pod("job").Status
			if s.Reason != "" || s.Message != "" {
				t.Errorf("a reason stays when the pod runs: %q %q", s.Reason, s.Message)
			}
			if got := b.events("job")["Cloud"+string(class)]; got != 1 {
				t.Errorf("%d events of the error, want 1", got)
			}
			if n := b.cloud.count("Create"); n != 6 {
				t.Errorf("%d creates, want 6", n)
			}
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		var first, second time.Time
		b.cloud.fail = func(op, _ string, n int) error {
			switch {
			case op == "Create" && n == 1:
				first = time.Now()
				return &providers.Error{Class: providers.Throttled, Operation: "Create", RetryAfter: 40 * time.Second}
			case op == "Create" && n == 2:
				second = time.Now()
			}
			return nil
		}
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		if d := second.Sub(first); d < 40*time.Second || d > 60*time.Second {
			t.Errorf("the second try came after %s, want 40 s and a little", d)
		}
	})
}

func TestLostAnswerMakesOneGroup(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t)
		b.cloud.listStatus = carries
		b.cloud.after = func(op, _ string, n int) error {
			if op == "Create" && n == 1 {
				return fault(providers.Unknown, "")
			}
			return nil
		}
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
	})
}

func TestLostAnswerThenDeletion(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.after = func(op, _ string, _ int) error {
			if op == "Create" {
				return fault(providers.Unknown, "")
			}
			return nil
		}
		listed := make(chan struct{})
		b.start()
		b.settle(time.Second)
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "List" {
				select {
				case <-listed:
				default:
					return fault(providers.Unavailable, "")
				}
			}
			return nil
		})
		b.create(testPod("web"))
		b.settle(100 * time.Millisecond)
		b.remove("web")
		b.settle(time.Minute)
		// Nothing has proven that the create had no effect: the pod stays.
		if pod := b.pod("web"); pod.DeletionTimestamp == nil {
			t.Error("the pod is not terminating")
		}
		close(listed)
		b.absent("web")
		b.groups()
	})
}

func TestPermanentRefusalFailsThePod(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, _ string, _ int) error {
			if op == "Create" {
				return fault(providers.InvalidPod, "InvalidParameter.CPU.Memory")
			}
			return nil
		}
		b.start()
		b.create(testPod("web"))
		b.phase("web", corev1.PodFailed)
		s := b.pod("web").Status
		if s.Reason != ReasonRefused || !strings.Contains(s.Message, "InvalidParameter.CPU.Memory") {
			t.Errorf("reason %q, message %q", s.Reason, s.Message)
		}
		b.settle(5 * time.Minute)
		if n := b.cloud.count("Create"); n != 1 {
			t.Errorf("%d creates, want 1", n)
		}
	})
}

func TestUnsupportedPodIsRefusedBeforeTheCloud(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
			p.Spec.HostNetwork = true
		}))
		b.phase("web", corev1.PodFailed)
		s := b.pod("web").Status
		if s.Reason != ReasonUnsupported || !strings.Contains(s.Message, "spec.volumes[0].hostPath") || !strings.Contains(s.Message, "spec.hostNetwork") {
			t.Errorf("reason %q, message %q", s.Reason, s.Message)
		}
		b.settle(time.Minute)
		if n := b.cloud.count("Create"); n != 0 {
			t.Errorf("%d creates, want none", n)
		}
		if got := b.events("web"); got[ReasonUnsupported] != 1 {
			t.Errorf("events %v", got)
		}
	})
}

func TestRestartAdoptsWithoutAWrite(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		var objects []runtime.Object
		b := newBed(t)
		for i := range 20 {
			pod := testPod(fmt.Sprintf("web-%d", i), ran)
			objects = append(objects, pod)
			b.cloud.put(pod, ours(), running("app"))
		}
		b.client = fakeClient(objects...)
		b.cloud.listStatus = carries
		b.start()
		b.settle(5 * time.Minute)
		for _, op := range []string{"Create", "Delete"} {
			if n := b.cloud.count(op); n != 0 {
				t.Errorf("%d calls of %s, want none", n, op)
			}
		}
		if n := b.cloud.count("List"); n < 25 {
			t.Errorf("%d listings in five minutes, want one in 10 s", n)
		}
		for _, a := range b.client.Actions() {
			if a.GetResource().Resource == "pods" && (a.GetVerb() == "patch" || a.GetVerb() == "delete") {
				t.Errorf("a needless %s of a pod", a.GetVerb())
			}
		}
	})
}

func TestFailedListingChangesNothing(t *testing.T) {
	bubble(t, "at the start", func(t *testing.T) {
		b := newBed(t, testPod("web"))
		b.cloud.fail = func(op, _ string, n int) error {
			if op == "List" && n <= 4 {
				return fault(providers.Unavailable, "")
			}
			return nil
		}
		// A group whose pod is gone is there too.
		b.cloud.put(testPod("old"), ours(), running("app"))
		b.start()
		b.eventually("four listings", func() error {
			if b.cloud.count("List") < 4 {
				return errors.New("not yet")
			}
			if c, d := b.cloud.count("Create"), b.cloud.count("Delete"); c+d > 0 {
				t.Fatalf("%d creates and %d deletes before a complete listing", c, d)
			}
			return nil
		})
		b.groups("g-uid-web")
	})
	bubble(t, "later", func(t *testing.T) {
		b := newBed(t, testPod("web", ran))
		id := b.cloud.put(testPod("web"), ours(), running("app"))
		b.start()
		b.settle(30 * time.Second)
		b.cloud.lose(id) // unseen while listings fail
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "List" || op == "Get" {
				return fault(providers.Unavailable, "")
			}
			return nil
		})
		b.settle(time.Hour)
		if s := b.pod("web").Status; s.Phase != corev1.PodRunning {
			t.Errorf("phase %q after an hour of failed listings, want Running", s.Phase)
		}
		b.cloud.setFail(nil)
		b.phase("web", corev1.PodFailed)
	})
}

func TestVanishedGroup(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t, testPod("web", ran))
		id := b.cloud.put(testPod("web"), ours(), running("app"))
		b.cloud.listStatus = carries
		b.start()
		b.settle(30 * time.Second)
		lists := b.cloud.count("List")
		b.cloud.lose(id)
		b.phase("web", corev1.PodFailed)
		if n := b.cloud.count("List") - lists; n < sightings {
			t.Errorf("the pod failed after %d listings, want at least %d", n, sightings)
		}
		s := b.pod("web").Status
		if s.Reason != ReasonVanished || s.ContainerStatuses[0].State.Terminated == nil || s.ContainerStatuses[0].State.Terminated.ExitCode != exitKilled {
			t.Errorf("status %+v", s)
		}
		b.settle(5 * time.Minute)
		if n := b.cloud.count("Create"); n != 0 {
			t.Errorf("%d creates of an ended pod", n)
		}
	})
	bubble(t, "unseen by this run", func(t *testing.T) {
		b := newBed(t, testPod("web", ran))
		b.start()
		b.phase("web", corev1.PodFailed)
		if n := b.cloud.count("Create"); n != 0 {
			t.Errorf("%d creates of a pod that had run", n)
		}
	})
	bubble(t, "before it ran", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web"))
		for range recreations {
			b.groups("g-uid-web")
			b.settle(5 * time.Second)
			b.cloud.lose("g-uid-web")
		}
		b.groups("g-uid-web")
		b.settle(5 * time.Second)
		b.cloud.lose("g-uid-web")
		b.phase("web", corev1.PodFailed)
	})
}

func TestOrphans(t *testing.T) {
	bubble(t, "are removed, foreign groups stay", func(t *testing.T) {
		b := newBed(t)
		b.cloud.put(testPod("gone"), ours(), running("app"))
		b.cloud.put(testPod("other-cluster"), providers.Owner{ClusterUID: "another", NodeName: testNode}, running("app"))
		b.cloud.put(testPod("other-node"), providers.Owner{ClusterUID: testCluster, NodeName: "another"}, running("app"))
		b.start()
		b.groups("g-uid-other-cluster", "g-uid-other-node")
		b.settle(5 * time.Minute)
		b.groups("g-uid-other-cluster", "g-uid-other-node")
	})
	bubble(t, "stay while the API server knows the pod", func(t *testing.T) {
		b := newBed(t)
		b.cloud.put(testPod("web"), ours(), running("app"))
		var known atomic.Bool
		known.Store(true)
		b.client.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			if known.Load() {
				return true, testPod("web"), nil
			}
			return false, nil, nil
		})
		b.start()
		b.settle(10 * time.Minute)
		b.groups("g-uid-web")
		known.Store(false)
		b.groups()
	})
	bubble(t, "stay while the API server does not answer", func(t *testing.T) {
		b := newBed(t)
		b.cloud.put(testPod("web"), ours(), running("app"))
		var down atomic.Bool
		down.Store(true)
		b.client.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return down.Load(), nil, errors.New("connection refused")
		})
		b.start()
		b.settle(10 * time.Minute)
		b.groups("g-uid-web")
		down.Store(false)
		b.groups()
	})
}

func TestSameNameNewUID(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.linger = 5
		b.start()
		b.create(testPod("db-0"))
		b.groups("g-uid-db-0")
		b.cloud.set("g-uid-db-0", running("app"))
		b.phase("db-0", corev1.PodRunning)
		// Force-deleted and made anew under its name.
		if err := b.client.CoreV1().Pods("default").Delete(b.Context(), "db-0", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		b.create(testPod("db-0", func(p *corev1.Pod) { p.UID = "second" }))
		b.groups("g-second")
		if s := b.pod("db-0").Status; s.PodIP != "" {
			t.Errorf("the new pod shows the address of the old: %s", s.PodIP)
		}
		b.cloud.set("g-second", running("app"))
		b.phase("db-0", corev1.PodRunning)
	})
}

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

func TestEndedPods(t *testing.T) {
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t)
		b.cloud.listStatus = carries
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
		b.settle(time.Hour)
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
			if b.events("web")["Failed"] != 1 {
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
		if b.events("web")["Failed"] != 1 {
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
	bothListings(t, func(t *testing.T, carries bool) {
		b := newBed(t)
		b.cloud.listStatus = carries
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
			l := b.agent.reconciler.ledger
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.records) != 0 {
				return fmt.Errorf("%d records", len(l.records))
			}
			return nil
		})
	})
}
