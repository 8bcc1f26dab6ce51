package vnode

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/providers"
)

// Complete listings lack a group that runs, from before the agent's start on.
func TestListingsLackAGroupAfterAStart(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t, testPod("web", ran))
		b.as(k)
		id := b.cloud.put(testPod("web"), ours(), running("app"))
		b.cloud.hide(id, true)
		b.start()
		b.settle(20 * time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodRunning || s.Reason != "" {
			t.Errorf("phase %q, reason %q of a pod that runs, want Running", s.Phase, s.Reason)
		}
		if n := b.cloud.count("Find"); n == 0 {
			t.Error("the cloud was not asked for the pod's group")
		}
		if n := b.cloud.count("Create") + b.cloud.count("Delete"); n != 0 {
			t.Errorf("%d changing calls, want none", n)
		}
		// Its end is followed all the same.
		b.cloud.hide(id, false)
		b.settle(time.Minute)
		b.cloud.lose(id)
		b.phase("web", corev1.PodFailed)
		if s := b.pod("web").Status; s.Reason != ReasonVanished {
			t.Errorf("reason %q, want %q", s.Reason, ReasonVanished)
		}
	})
}

// The question for one pod's group may fail, whether there is one or not. Then nothing
// is known.
func TestUnansweredQuestionFailsNoPod(t *testing.T) {
	for _, class := range []providers.ErrorClass{
		providers.Throttled, providers.Unavailable, providers.Unknown, providers.Conflict,
		providers.Unauthorized, providers.Misconfigured, providers.AccountSuspended,
	} {
		bubble(t, string(class), func(t *testing.T) {
			b := newBed(t, testPod("web", ran))
			b.as(tellsChanges)
			b.cloud.fail = func(op, _ string, _ int) error {
				if op == "Find" {
					return fault(class, "")
				}
				return nil
			}
			b.start()
			b.settle(20 * time.Minute)
			if s := b.pod("web").Status; s.Phase != corev1.PodRunning {
				t.Errorf("phase %q, reason %q while the cloud gives no answer, want Running", s.Phase, s.Reason)
			}
			if n := b.cloud.count("Find"); n == 0 || n > 60 {
				t.Errorf("asked %d times in 20 minutes, want some, and ever less often", n)
			}
			b.cloud.setFail(nil)
			b.phase("web", corev1.PodFailed)
		})
	}
}

// plainCloud is a cloud that cannot be asked for one pod.
type plainCloud struct{ providers.Provider }

func TestVanishedGroupOfACloudWithoutFind(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t, testPod("web", ran))
		b.provider = plainCloud{b.cloud}
		b.start()
		b.phase("web", corev1.PodFailed)
		if n := b.cloud.count("List"); n < sightings {
			t.Errorf("the pod failed after %d listings, want at least %d", n, sightings)
		}
	})
}

// spent is the refusal of a group for a pod that had one.
func spent(op string) error {
	return &providers.Error{Class: providers.Conflict, Operation: op, Spent: true}
}

// A group that an earlier run of the agent has made is lost before its pod ran, and the
// cloud makes no second one. This run, which has seen nothing, does not wait for it.
func TestLossBeforeAStartIsFound(t *testing.T) {
	bubble(t, "listings are answered", func(t *testing.T) {
		b := newBed(t, testPod("web"))
		b.as(tellsChanges)
		b.cloud.fail = func(op, _ string, _ int) error {
			if op == "Create" {
				if n := b.cloud.count("List"); n < 1 {
					t.Error("asked for before the first listing")
				}
				return spent(op)
			}
			return nil
		}
		b.start()
		b.phase("web", corev1.PodFailed)
		if s := b.pod("web").Status; s.Reason != ReasonVanished {
			t.Errorf("reason %q, want %q", s.Reason, ReasonVanished)
		}
		if n := b.cloud.count("List"); n < sightings {
			t.Errorf("the pod failed after %d listings, want at least %d", n, sightings)
		}
	})
	bubble(t, "listings fail", func(t *testing.T) {
		b := newBed(t, testPod("web"))
		b.as(tellsChanges)
		b.cloud.fail = func(op, _ string, n int) error {
			switch {
			case op == "Create":
				return spent(op)
			case op == "List" && n > 1:
				return fault(providers.Unavailable, "")
			}
			return nil
		}
		b.start()
		b.settle(20 * time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodPending {
			t.Errorf("phase %q while nothing is listed, want Pending", s.Phase)
		}
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "Create" {
				return spent(op)
			}
			return nil
		})
		b.phase("web", corev1.PodFailed)
	})
}

// Listings from before a create whose answer was lost say nothing of the group that it
// may have made.
func TestListingsBeforeALostAnswerDoNotCount(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.as(tellsChanges)
		b.cloud.fail = func(op, _ string, n int) error {
			switch {
			case op == "Create" && n == 1:
				return fault(providers.Throttled, "") // so that listings go by without a group
			case op == "Create" && n > 2:
				return spent(op)
			case op == "List" && b.cloud.count("Create") > 1:
				return fault(providers.Unavailable, "")
			}
			return nil
		}
		b.cloud.after = func(op, id string, n int) error {
			if op == "Create" && n == 2 {
				b.cloud.hide(id, true)
				return fault(providers.Unknown, "")
			}
			return nil
		}
		b.cfg.RetryBase = time.Minute
		b.start()
		b.create(testPod("web"))
		b.eventually("the answer is lost", func() error {
			if b.cloud.count("Create") < 2 {
				return errors.New("not yet")
			}
			return nil
		})
		if n := b.cloud.count("List"); n < sightings {
			t.Fatalf("%d listings before the create, want at least %d", n, sightings)
		}
		b.eventually("the create is refused", func() error {
			if n := b.cloud.count("Create"); n < 4 {
				return fmt.Errorf("%d creates", n)
			}
			return nil
		})
		if s := b.pod("web").Status; s.Phase != corev1.PodPending {
			t.Errorf("phase %q of a pod whose group is not known to be gone, want Pending", s.Phase)
		}
		b.cloud.hide("g-uid-web", false)
		b.cloud.setFail(nil)
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
	})
}

// A pod that is deleted right after the agent's start stays until its group is gone,
// which no listing shows.
func TestDeletedPodOfAnUnlistedGroup(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t, testPod("web", ran))
		b.as(k)
		id := b.cloud.put(testPod("web"), ours(), running("app"))
		b.cloud.hide(id, true)
		b.cloud.fail = func(op, _ string, _ int) error {
			if op == "Find" {
				return fault(providers.Unavailable, "")
			}
			return nil
		}
		b.remove("web")
		b.start()
		b.settle(5 * time.Minute)
		b.groups(id)
		if b.pod("web").DeletionTimestamp == nil {
			t.Error("the pod is not terminating")
		}
		b.cloud.setFail(nil)
		b.absent("web")
		b.groups()
		if n := b.cloud.count("Delete"); n == 0 {
			t.Error("the group was not deleted")
		}
	})
}
