package vnode

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/autoburst/autoburst/providers"
)

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// kind is what a cloud tells beside single groups.
type kind string

const (
	listsBare    kind = "listing without status" // as ACI
	listsStatus  kind = "listing with status"
	tellsChanges kind = "changes" // as ECI
)

// eachKind runs a test with each kind of cloud.
func eachKind(t *testing.T, f func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range []kind{listsBare, listsStatus, tellsChanges} {
		bubble(t, string(k), func(t *testing.T) { f(t, k) })
	}
}

func TestPodFromBirthToDeath(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t)
		b.as(k)
		b.cloud.linger = 3
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
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t)
		b.as(k)
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
	eachKind(t, func(t *testing.T, k kind) {
		var objects []runtime.Object
		b := newBed(t)
		for i := range 20 {
			pod := testPod(fmt.Sprintf("web-%d", i), ran)
			objects = append(objects, pod)
			b.cloud.put(pod, ours(), running("app"))
		}
		b.client = fakeClient(objects...)
		b.as(k)
		b.start()
		b.settle(5 * time.Minute)
		for _, op := range []string{"Create", "Delete"} {
			if n := b.cloud.count(op); n != 0 {
				t.Errorf("%d calls of %s, want none", n, op)
			}
		}
		looks := b.cloud.count("List") + b.cloud.count("Changes")
		if looks < 25 {
			t.Errorf("%d looks at the cloud in five minutes, want one in 10 s", looks)
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
		b.settle(20 * time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodRunning {
			t.Errorf("phase %q after an hour of failed listings, want Running", s.Phase)
		}
		b.cloud.setFail(nil)
		b.phase("web", corev1.PodFailed)
	})
}

func TestVanishedGroup(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t, testPod("web", ran))
		id := b.cloud.put(testPod("web"), ours(), running("app"))
		b.as(k)
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

// A cloud may refuse to make a second group for a pod whose first one it has lost.
func TestVanishedGroupIsNotMadeAgain(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		b.settle(5 * time.Second)
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "Create" {
				return &providers.Error{Class: providers.Conflict, Operation: op, Spent: true}
			}
			return nil
		})
		b.cloud.lose("g-uid-web")
		b.phase("web", corev1.PodFailed)
		if s := b.pod("web").Status; s.Reason != ReasonVanished {
			t.Errorf("reason %q, want %q", s.Reason, ReasonVanished)
		}
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
