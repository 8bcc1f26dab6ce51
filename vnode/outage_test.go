package vnode

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// An hour without the cloud: nothing that runs is disturbed, and what was created,
// deleted and ended meanwhile is caught up with within a minute.
func TestOutageOfAnHour(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const each = 10
		b := newBed(t)
		b.as(k)
		b.cfg.RetryMax = 20 * time.Minute // a pod's own back-off must not keep it waiting
		b.start()
		name := func(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }
		group := func(kind string, i int) string { return "g-uid-" + name(kind, i) }
		never := func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }
		for _, kind := range []string{"stays", "deleted", "forced", "ends"} {
			for i := range each {
				b.create(testPod(name(kind, i), never))
			}
		}
		b.eventually("all have groups", func() error {
			if n := len(b.cloud.ids()); n != 4*each {
				return fmt.Errorf("%d groups", n)
			}
			return nil
		})
		for _, id := range b.cloud.ids() {
			b.cloud.set(id, running("app"))
		}
		for _, kind := range []string{"stays", "ends"} {
			b.phase(name(kind, each-1), corev1.PodRunning)
		}
		b.settle(time.Minute)
		before := map[string]corev1.PodStatus{}
		for i := range each {
			before[name("stays", i)] = b.pod(name("stays", i)).Status
			before[name("ends", i)] = b.pod(name("ends", i)).Status
		}
		creates := b.cloud.count("Create")

		b.cloud.setFail(func(string, string, int) error { return fault(providers.Unavailable, "ServiceUnavailable") })
		b.settle(5 * time.Minute)
		for i := range each {
			b.create(testPod(name("new", i), never))
			b.remove(name("deleted", i))
			if err := b.client.CoreV1().Pods("default").Delete(t.Context(), name("forced", i), metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			b.cloud.set(group("ends", i), exited(int32(i%2), "app"))
		}
		calls := b.cloud.count("Create") + b.cloud.count("Delete") + b.cloud.count("Get")
		b.settle(55 * time.Minute)
		if n := b.cloud.count("Create") - creates; n > 2*each {
			t.Errorf("%d creates while the cloud did not answer", n)
		}
		if n := b.cloud.count("Create") + b.cloud.count("Delete") + b.cloud.count("Get") - calls; n > 55*5*each {
			t.Errorf("%d calls while the cloud did not answer", n)
		}
		for pod, was := range before {
			is := b.pod(pod).Status
			if is.Phase != corev1.PodRunning || !is.ContainerStatuses[0].Ready || is.Reason != was.Reason {
				t.Errorf("pod %s is %s (%s): its status did not freeze", pod, is.Phase, is.Reason)
			}
		}
		if s := b.pod("new-0").Status; s.Phase != corev1.PodPending || s.Reason != "CloudUnavailable" || !strings.Contains(s.Message, "CloudReachable") {
			t.Errorf("a new pod is %s (%s): %s", s.Phase, s.Reason, s.Message)
		}
		node := b.node("is Ready and says that the cloud does not answer", has(corev1.NodeReady, corev1.ConditionTrue, ""))
		if err := has("CloudReachable", corev1.ConditionFalse, "ServiceUnavailable")(node); err != nil {
			t.Error(err)
		}

		b.cloud.setFail(nil)
		at := time.Now()
		var want []string
		for i := range each {
			want = append(want, group("stays", i), group("ends", i), group("new", i))
		}
		slices.Sort(want)
		b.groups(want...)
		for i := range each {
			b.absent(name("deleted", i))
			b.phase(name("ends", i), []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}[i%2])
		}
		b.node("takes pods", func(n *corev1.Node) error {
			if slices.Contains(taints(n), v1alpha1.CloudUnreachableTaintKey+"=:NoSchedule") {
				return errors.New("it is tainted")
			}
			return nil
		})
		if took := time.Since(at); took > time.Minute {
			t.Errorf("catching up took %s", took)
		}
		made := 0
		for id, n := range b.cloud.made() {
			if made += n; n != 1 {
				t.Errorf("group %s was made %d times", id, n)
			}
		}
		if made != 5*each {
			t.Errorf("%d groups were made for %d pods", made, 5*each)
		}
	})
}

// A cloud that answers and yet fails at something says so, and only where nothing
// can start the node takes no pods.
func TestPartOfTheCloudFails(t *testing.T) {
	for name, c := range map[string]struct {
		operation string
		err       error
		reason    string
		tainted   bool
	}{
		"creates are not answered":       {"Create", fault(providers.Unknown, "Timeout"), "CloudPartlyUnknown", true},
		"creates fail":                   {"Create", fault(providers.Unavailable, "InternalError"), "CloudPartlyUnavailable", true},
		"creates are not allowed":        {"Create", fault(providers.Unauthorized, "Forbidden.RAM"), "CloudPartlyUnauthorized", true},
		"the account is in arrears":      {"Create", fault(providers.AccountSuspended, "Account.Arrearage"), "CloudPartlyAccountSuspended", true},
		"the subnet is wrong":            {"Create", fault(providers.Misconfigured, "InvalidVSwitchId"), "CloudPartlyMisconfigured", true},
		"deletes fail":                   {"Delete", fault(providers.Unavailable, "InternalError"), "CloudPartlyUnavailable", false},
		"listings fail":                  {"List", fault(providers.Unavailable, "InternalError"), "CloudPartlyUnavailable", false},
		"there is no time for creates":   {"Create", fault(providers.Throttled, "Throttling.User"), "CloudPartlyThrottled", false},
		"there is no time for deletions": {"Delete", fault(providers.Throttled, "Throttling.User"), "CloudPartlyThrottled", false},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			b.start()
			b.create(testPod("old"))
			b.groups("g-uid-old")
			b.cloud.setFail(func(op, _ string, _ int) error {
				if op == c.operation {
					return c.err
				}
				return nil
			})
			for i := range 5 {
				b.create(testPod(fmt.Sprint("web-", i)))
			}
			b.remove("old")
			b.node("says what fails", func(n *corev1.Node) error {
				got := nodeCondition(n, "CloudReachable")
				if got.Status != corev1.ConditionFalse || got.Reason != c.reason || !strings.Contains(got.Message, c.operation) {
					return fmt.Errorf("%s (%s): %s", got.Status, got.Reason, got.Message)
				}
				return nil
			})
			b.settle(3 * time.Minute)
			node := b.node("is Ready", has(corev1.NodeReady, corev1.ConditionTrue, ""))
			if got := slices.Contains(taints(node), noCapacityTaint); got != c.tainted {
				t.Errorf("taint of no capacity %t, want %t: %v", got, c.tainted, nodeCondition(node, "CapacityAvailable"))
			}
			if slices.Contains(taints(node), v1alpha1.CloudUnreachableTaintKey+"=:NoSchedule") {
				t.Error("the cloud answers, and the node says that it does not")
			}
			if c.tainted {
				if s := b.pod("web-0").Status; s.Phase != corev1.PodPending || s.Reason != "Cloud"+string(providers.ClassOf(c.err)) {
					t.Errorf("a pod is %s (%s): %s", s.Phase, s.Reason, s.Message)
				}
				begun := b.cloud.count("Create")
				b.settle(10 * time.Minute)
				if n := b.cloud.count("Create") - begun; n > 20 {
					t.Errorf("%d creates of 5 pods in 10 min that all fail", n)
				}
			}
			b.cloud.setFail(nil)
			at := time.Now()
			b.absent("old")
			b.groups("g-uid-web-0", "g-uid-web-1", "g-uid-web-2", "g-uid-web-3", "g-uid-web-4")
			if took := time.Since(at); took > 75*time.Second {
				t.Errorf("catching up took %s", took)
			}
			b.node("is well", has("CloudReachable", corev1.ConditionTrue, ""))
			b.awaitCapacity(corev1.ConditionTrue)
			b.node("takes pods", offers(5000, false))
		})
	}
}

// One pod that the cloud cannot take for a reason of its own keeps no other waiting.
func TestOnePodsTroubleIsItsOwn(t *testing.T) {
	for class, most := range map[providers.ErrorClass]time.Duration{
		providers.Misconfigured: 5 * time.Second,
		providers.Unavailable:   5 * time.Second,
		// Refused credentials are everybody's trouble until another pod shows that they
		// are not.
		providers.Unauthorized: 70 * time.Second,
	} {
		bubble(t, string(class), func(t *testing.T) {
			b := newBed(t)
			b.cloud.setFail(func(op, id string, _ int) error {
				if op == "Create" && strings.Contains(id, "odd") {
					return fault(class, "Odd")
				}
				return nil
			})
			b.start()
			b.create(testPod("odd", prior(1000, time.Hour)))
			b.settle(10 * time.Minute)
			b.create(testPod("web"))
			at := time.Now()
			b.groups("g-uid-web")
			if took := time.Since(at); took > most {
				t.Errorf("the other pod waited %s", took)
			}
			b.node("takes pods", offers(5000, false))
		})
	}
}

// Rotated credentials are named, and taken up again without a restart.
func TestCredentialsRotateWhileRunning(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		b.cloud.setFail(func(string, string, int) error { return fault(providers.Unauthorized, "InvalidAccessKeyId.NotFound") })
		b.node("names the credentials", func(n *corev1.Node) error {
			if c := nodeCondition(n, "CloudReachable"); c.Status != corev1.ConditionFalse || c.Reason != "CloudUnauthorized" || !strings.Contains(c.Message, "InvalidAccessKeyId.NotFound") {
				return fmt.Errorf("%s (%s): %s", c.Status, c.Reason, c.Message)
			}
			return nil
		})
		b.create(testPod("new"))
		b.settle(30 * time.Minute)
		if s := b.pod("web").Status; s.Phase != corev1.PodRunning {
			t.Errorf("the running pod is %s", s.Phase)
		}
		b.cloud.setFail(nil)
		at := time.Now()
		b.groups("g-uid-new", "g-uid-web")
		b.node("is well", has("CloudReachable", corev1.ConditionTrue, ""))
		if took := time.Since(at); took > 30*time.Second {
			t.Errorf("that took %s", took)
		}
	})
}
