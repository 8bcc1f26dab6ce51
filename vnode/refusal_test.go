package vnode

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

func ownedBy(kind string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "web", UID: "uid-owner", Controller: ptr.To(true)}}
	}
}

func granted(p *corev1.Pod) {
	p.Annotations = map[string]string{v1alpha1.GrantAnnotation: "Admission", v1alpha1.PolicyAnnotation: "BurstPolicy/web"}
}

// capacity is the node's condition CapacityAvailable in the API server, empty while
// the node is not there. It may be asked in the middle of a request.
func (b *bed) capacity() corev1.NodeCondition {
	b.Helper()
	obj, err := b.client.Tracker().Get(corev1.SchemeGroupVersion.WithResource("nodes"), "", testNode)
	if apierrors.IsNotFound(err) {
		return corev1.NodeCondition{}
	}
	node, ok := obj.(*corev1.Node)
	if err != nil || !ok {
		b.Fatalf("reading the node: %T, %v", obj, err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1alpha1.CapacityAvailableCondition {
			return c
		}
	}
	return corev1.NodeCondition{}
}

func (b *bed) awaitCapacity(want corev1.ConditionStatus) {
	b.Helper()
	b.eventually("capacity is "+string(want), func() error {
		if c := b.capacity(); c.Status != want {
			return fmt.Errorf("%s: %s", c.Status, c.Message)
		}
		return nil
	})
}

func refuse(class providers.ErrorClass, code string) func(op, id string, n int) error {
	return func(op, _ string, _ int) error {
		if op == "Create" {
			return fault(class, code)
		}
		return nil
	}
}

func podCondition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

func TestPodWithoutRoomIsFailedForItsOwner(t *testing.T) {
	for class, reason := range map[providers.ErrorClass]string{
		providers.OutOfStock: ReasonOutOfStock, providers.QuotaExceeded: ReasonQuotaExceeded,
	} {
		for _, kind := range []string{"ReplicaSet", "Job", "StatefulSet"} {
			bubble(t, reason+" "+kind, func(t *testing.T) {
				b := newBed(t)
				b.cloud.fail = refuse(class, "Code.Of.Cloud")
				var early atomic.Bool
				b.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
					if p, ok := a.(clienttesting.PatchAction); ok && strings.Contains(string(p.GetPatch()), `"phase":"Failed"`) && b.capacity().Status != corev1.ConditionFalse {
						early.Store(true)
					}
					return false, nil, nil
				})
				b.start()
				begun := time.Now()
				b.create(testPod("web", ownedBy(kind), granted))
				b.phase("web", corev1.PodFailed)
				took := time.Since(begun)
				if took < 10*time.Second || took > 20*time.Second {
					t.Errorf("failed after %s, want 10 s to 20 s", took)
				}
				if early.Load() {
					t.Error("failed before the API server knew that the cloud has no room: the replacement would come back")
				}
				if n := b.cloud.count("Create"); n < 3 {
					t.Errorf("failed after %d refusals, want at least 3", n)
				}
				pod := b.pod("web")
				if s := pod.Status; s.Reason != reason || !strings.Contains(s.Message, "Code.Of.Cloud") || !strings.Contains(s.Message, "owner replaces it") {
					t.Errorf("reason %q, message %q", s.Reason, s.Message)
				}
				if c := podCondition(pod, corev1.DisruptionTarget); c.Status != corev1.ConditionTrue || c.Reason != "RefusedByCloud" {
					t.Errorf("condition DisruptionTarget is %+v", c)
				}
				if c := b.capacity(); c.Reason != string(class) {
					t.Errorf("the node's condition has reason %q, want %q", c.Reason, class)
				}
				n := b.cloud.count("Create")
				b.settle(5 * time.Minute)
				if now := b.cloud.count("Create"); now != n {
					t.Errorf("%d more creates for a failed pod", now-n)
				}
			})
		}
	}
}

func TestPodWithoutRoomIsRetriedInPlace(t *testing.T) {
	for name, c := range map[string]struct {
		edit []func(*corev1.Pod)
		fail func(op, id string, n int) error
	}{
		"bare":              {[]func(*corev1.Pod){granted}, refuse(providers.OutOfStock, "NoStock")},
		"of a DaemonSet":    {[]func(*corev1.Pod){granted, ownedBy("DaemonSet")}, refuse(providers.OutOfStock, "NoStock")},
		"put here by hand":  {[]func(*corev1.Pod){ownedBy("ReplicaSet")}, refuse(providers.OutOfStock, "NoStock")},
		"throttled":         {[]func(*corev1.Pod){granted, ownedBy("ReplicaSet")}, refuse(providers.Throttled, "Throttling.User")},
		"no answer":         {[]func(*corev1.Pod){granted, ownedBy("ReplicaSet")}, refuse(providers.Unknown, "Timeout")},
		"cloud in trouble":  {[]func(*corev1.Pod){granted, ownedBy("ReplicaSet")}, refuse(providers.Unavailable, "ServiceUnavailable")},
		"wrong credentials": {[]func(*corev1.Pod){granted, ownedBy("ReplicaSet")}, refuse(providers.Unauthorized, "Forbidden")},
		"not yet proven that there is no group": {[]func(*corev1.Pod){granted, ownedBy("ReplicaSet")}, func(op, _ string, n int) error {
			switch {
			case op == "Create" && n == 1:
				return fault(providers.Unknown, "Timeout")
			case op == "Create":
				return fault(providers.OutOfStock, "NoStock")
			case op == "List" && n > 1:
				return fault(providers.Unavailable, "ServiceUnavailable")
			}
			return nil
		}},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			b.cloud.fail = c.fail
			b.start()
			b.create(testPod("web", c.edit...))
			b.settle(4 * time.Minute)
			if s := b.pod("web").Status; s.Phase != corev1.PodPending || !strings.HasPrefix(s.Reason, "Cloud") {
				t.Fatalf("phase %q, reason %q, want Pending with the cloud's reason", s.Phase, s.Reason)
			}
			b.cloud.setFail(nil)
			b.groups("g-uid-web")
			b.cloud.set("g-uid-web", running("app"))
			b.phase("web", corev1.PodRunning)
		})
	}
}

func TestMomentaryShortageFailsNobody(t *testing.T) {
	bubble(t, "two refusals", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = func(op, _ string, n int) error {
			if op == "Create" && n <= 2 {
				return fault(providers.OutOfStock, "NoStock")
			}
			return nil
		}
		b.start()
		b.create(testPod("web", ownedBy("ReplicaSet"), granted))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
	})
}

// While the API server cannot be told that the cloud has no room, no pod is failed.
func TestNobodyIsFailedBeforeTheNodeSaysSo(t *testing.T) {
	bubble(t, "the node's status cannot be written", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.awaitCapacity(corev1.ConditionTrue)
		var mended atomic.Bool
		b.client.PrependReactor("*", "nodes", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if a.GetSubresource() == "status" && !mended.Load() {
				return true, nil, errors.New("no")
			}
			return false, nil, nil
		})
		b.cloud.setFail(refuse(providers.OutOfStock, "NoStock"))
		b.create(testPod("web", ownedBy("ReplicaSet"), granted))
		b.settle(3 * time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodPending {
			t.Fatalf("phase %q: %s", s.Phase, s.Message)
		}
		mended.Store(true)
		b.phase("web", corev1.PodFailed)
	})
}

func TestPodRefusedForGoodCanBeIgnoredByItsJob(t *testing.T) {
	bubble(t, "invalid", func(t *testing.T) {
		b := newBed(t)
		b.cloud.fail = refuse(providers.InvalidPod, "InvalidParameter")
		b.start()
		b.create(testPod("web", ownedBy("Job"), granted))
		b.phase("web", corev1.PodFailed)
		pod := b.pod("web")
		if c := podCondition(pod, corev1.DisruptionTarget); pod.Status.Reason != ReasonRefused || c.Status != corev1.ConditionTrue {
			t.Errorf("reason %q, condition DisruptionTarget %+v", pod.Status.Reason, c)
		}
		b.settle(time.Second) // the node is registered
		if c := b.capacity(); c.Status != corev1.ConditionTrue {
			t.Errorf("one bad pod makes the node say that the cloud has no room: %s", c.Message)
		}
	})
}

// The cloud takes the group and finds no machine for it later.
func TestGroupWithoutRoom(t *testing.T) {
	for name, owner := range map[string]func(*corev1.Pod){"owned": ownedBy("ReplicaSet"), "bare": func(*corev1.Pod) {}} {
		eachKind(t, func(t *testing.T, k kind) {
			b := newBed(t)
			b.as(k)
			b.start()
			b.create(testPod("web", owner, granted))
			b.groups("g-uid-web")
			b.cloud.set("g-uid-web", providers.GroupStatus{Phase: providers.GroupFailed, Reason: "NoStock", Message: "sold out", Refused: providers.OutOfStock})
			b.phase("web", corev1.PodFailed)
			pod := b.pod("web")
			if c := podCondition(pod, corev1.DisruptionTarget); pod.Status.Reason != ReasonOutOfStock || c.Status != corev1.ConditionTrue || !strings.Contains(pod.Status.Message, "NoStock: sold out") {
				t.Errorf("%s: reason %q, message %q, condition DisruptionTarget %+v", name, pod.Status.Reason, pod.Status.Message, c)
			}
			b.awaitCapacity(corev1.ConditionFalse)
			b.groups()
		})
	}
}

func TestCapacityComesBack(t *testing.T) {
	const pause = 2 * time.Minute
	shortage := func(t *testing.T) *bed {
		b := newBed(t)
		b.cloud.fail = func(op, id string, _ int) error {
			if op == "Create" && strings.Contains(id, "large") {
				return fault(providers.OutOfStock, "NoStock")
			}
			return nil
		}
		b.start()
		b.create(testPod("large", ownedBy("ReplicaSet"), granted))
		b.phase("large", corev1.PodFailed)
		return b
	}
	within := func(t *testing.T, b *bed, least, most time.Duration) {
		t.Helper()
		since := b.capacity().LastTransitionTime.Time
		b.awaitCapacity(corev1.ConditionTrue)
		if took := time.Since(since); took < least || took > most {
			t.Errorf("CapacityAvailable came back after %s, want %s to %s", took, least, most)
		}
	}
	bubble(t, "by time", func(t *testing.T) { within(t, shortage(t), pause, pause+40*time.Second) })
	bubble(t, "sooner by a pod that is taken", func(t *testing.T) {
		b := shortage(t)
		b.create(testPod("small", granted))
		b.groups("g-uid-small")
		if c := b.capacity(); c.Status != corev1.ConditionFalse {
			t.Error("the node's word changes with each pod")
		}
		within(t, b, pause/4, pause/4+40*time.Second)
	})
	bubble(t, "not by a restart", func(t *testing.T) {
		b := shortage(t)
		b.stop()
		b.start()
		b.settle(30 * time.Second)
		if c := b.capacity(); c.Status != corev1.ConditionFalse || c.Reason != "OutOfStock" {
			t.Errorf("after a restart the node says %s (%s)", c.Status, c.Reason)
		}
		b.awaitCapacity(corev1.ConditionTrue)
	})
	bubble(t, "not while a pod is still refused in place", func(t *testing.T) {
		b := shortage(t)
		b.create(testPod("large-bare", granted))
		for range 60 {
			b.settle(10 * time.Second)
			if c := b.capacity(); c.Status != corev1.ConditionFalse {
				t.Fatalf("the node says %s (%s)", c.Status, c.Message)
			}
		}
	})
}
