package vnode

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/autoburst/autoburst/providers"
)

// crowd is a bed with n pods that run, as an earlier run of the agent left them.
func crowd(t *testing.T, k kind, n int) *bed {
	t.Helper()
	b := newBed(t)
	b.as(k)
	var objects []runtime.Object
	for i := range n {
		pod := testPod(fmt.Sprintf("web-%d", i), ran)
		status := running("app")
		status.Events = []providers.Event{{Reason: "Pulled", Message: "Successfully pulled image", First: time.Now().Add(-time.Second), Last: time.Now().Add(-time.Second)}}
		b.cloud.put(pod, ours(), status)
		objects = append(objects, pod)
	}
	b.client = fakeClient(objects...)
	<-time.After(time.Hour) // the earlier run was some time ago
	return b
}

// writes counts what the agent has written about pods.
func (b *bed) writes() map[string]int {
	got := map[string]int{}
	for _, a := range b.client.Actions() {
		resource := a.GetResource().Resource
		if a.GetVerb() == "get" || a.GetVerb() == "list" || a.GetVerb() == "watch" || resource != "pods" && resource != "events" {
			continue
		}
		got[a.GetVerb()+" "+resource]++
	}
	return got
}

// TestQuietRestart: a thousand pods that run as they did are no work for an agent
// that comes back, also where it has another address now.
func TestQuietRestart(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		const n, changed = 1000, 7
		b := crowd(t, k, n)
		b.cfg.Node.InternalIP = "192.0.2.99"
		for i := range changed { // while the agent was away
			b.cloud.set(fmt.Sprintf("g-uid-web-%d", i), exited(3, "app"))
		}
		b.start()
		began := time.Now()
		b.eventually("the agent knows its pods and groups", func() error {
			if term := b.agent.present.Load(); term == nil || !term.reconciler.adopted.Load() {
				return fmt.Errorf("not ready")
			}
			return nil
		})
		if took := time.Since(began); took > time.Second {
			t.Errorf("ready after %s, want at once", took)
		}
		b.settle(2 * time.Minute)
		for i := range changed {
			if s := b.pod(fmt.Sprintf("web-%d", i)).Status; s.Phase != corev1.PodFailed || s.HostIP != "192.0.2.1" {
				t.Errorf("pod %d: phase %s, host %s, want Failed, and the host that it was told", i, s.Phase, s.HostIP)
			}
		}
		for _, op := range []string{"Create", "Delete"} {
			if c := b.cloud.count(op); c != 0 {
				t.Errorf("%d calls of %s, want none", c, op)
			}
		}
		if got := b.writes(); len(got) > 1 || got["patch pods"] > changed {
			t.Errorf("writes %v, want one for each of the %d that changed", got, changed)
		}
		gets := b.cloud.count("Get")
		if k != listsBare && gets > 0 {
			t.Errorf("%d reads of single groups, though the listing tells", gets)
		}
		b.settle(6 * time.Minute) // every pod has been looked at again
		if got := b.writes(); len(got) > 1 || got["patch pods"] > changed {
			t.Errorf("writes later: %v", got)
		}
	})
}

// TestReadsAtRest: what a thousand pods that run cost in reads, and how old the
// news of them gets.
func TestReadsAtRest(t *testing.T) {
	const n = 1000
	bubble(t, string(tellsChanges), func(t *testing.T) {
		b := crowd(t, tellsChanges, n)
		b.start()
		b.settle(3 * time.Minute)
		lists, changes := b.cloud.count("List"), b.cloud.count("Changes")
		began := time.Now()
		b.settle(10 * time.Minute)
		// A listing has 200 groups a page.
		calls := 5*(b.cloud.count("List")-lists) + b.cloud.count("Changes") - changes + b.cloud.count("Get")
		if rate := float64(calls) / time.Since(began).Seconds(); rate > 0.5 {
			t.Errorf("%.2f reads a second, want at most half a read", rate)
		}
		for i := range 20 {
			name := fmt.Sprintf("web-%d", i)
			b.settle(1700 * time.Millisecond)
			b.cloud.set("g-uid-"+name, exited(0, "app"))
			changedAt := time.Now()
			b.phase(name, corev1.PodSucceeded)
			if took := time.Since(changedAt); took > 8*time.Second {
				t.Errorf("the end of %s was seen after %s", name, took)
			}
		}
	})
	bubble(t, string(listsBare), func(t *testing.T) {
		b := crowd(t, listsBare, n)
		b.start()
		b.settle(3 * time.Minute)
		gets := b.cloud.count("Get")
		b.settle(3 * time.Minute)
		if rate := float64(b.cloud.count("Get")-gets) / 180; rate > 12.2 {
			t.Errorf("%.2f reads a second, want the 12 that are planned", rate)
		}
		b.agent.present.Load().reconciler.ledger.mu.Lock()
		var oldest time.Duration
		for _, rec := range b.agent.present.Load().reconciler.ledger.records {
			oldest = max(oldest, time.Since(rec.course.readAt))
		}
		b.agent.present.Load().reconciler.ledger.mu.Unlock()
		if want := n * time.Second / 12 * 11 / 10; oldest > want {
			t.Errorf("a group was read %s ago; all in turn take %s", oldest, want)
		}
	})
}

// TestFewOfManyStart: where changes are told, one pod that starts now and then beside
// a thousand that run is no reason to ask every two seconds; many that start at once are.
func TestFewOfManyStart(t *testing.T) {
	bubble(t, string(tellsChanges), func(t *testing.T) {
		b := crowd(t, tellsChanges, 1000)
		b.start()
		b.settle(3 * time.Minute)
		looks := b.cloud.count("Changes")
		began := time.Now()
		for i := range 40 {
			name := fmt.Sprintf("late-%d", i)
			b.create(testPod(name))
			b.settle(2500 * time.Millisecond)
			b.cloud.set("g-uid-"+name, running("app"))
			startedAt := time.Now()
			b.phase(name, corev1.PodRunning)
			if took := time.Since(startedAt); took > 5*time.Second {
				t.Errorf("the start of %s was seen after %s", name, took)
			}
		}
		rate := float64(b.cloud.count("Changes")-looks) / time.Since(began).Seconds()
		if rate > 0.3 {
			t.Errorf("%.2f looks a second while few start, want at most 0.3", rate)
		}
		for i := range 150 {
			b.create(testPod(fmt.Sprintf("many-%d", i)))
		}
		b.settle(10 * time.Second) // they exist, and do not run yet
		looks, began = b.cloud.count("Changes"), time.Now()
		b.settle(20 * time.Second)
		if rate := float64(b.cloud.count("Changes")-looks) / time.Since(began).Seconds(); rate < 0.4 {
			t.Errorf("%.2f looks a second while many start, want about a half", rate)
		}
	})
}

// TestGapInTheChanges: what changed while the cloud did not answer is asked for
// when it does, without a listing.
func TestGapInTheChanges(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := crowd(t, tellsChanges, 3)
		b.start()
		b.settle(time.Minute)
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "List" || op == "Changes" {
				return fault(providers.Unavailable, "")
			}
			return nil
		})
		b.settle(time.Minute)
		b.cloud.set("g-uid-web-1", exited(3, "app"))
		b.settle(20 * time.Minute)
		if s := b.pod("web-1").Status; s.Phase != corev1.PodRunning {
			t.Errorf("phase %s while the cloud does not answer", s.Phase)
		}
		lists := b.cloud.count("List")
		b.cloud.setFail(func(op, _ string, _ int) error {
			if op == "List" {
				return fault(providers.Unavailable, "")
			}
			return nil
		})
		b.agent.present.Load().reconciler.ledger.mu.Lock()
		b.agent.present.Load().reconciler.ledger.listed = time.Now() // no listing is due
		b.agent.present.Load().reconciler.ledger.mu.Unlock()
		b.phase("web-1", corev1.PodFailed)
		if n := b.cloud.count("List") - lists; n > 1 {
			t.Errorf("%d listings, want the changes alone", n)
		}
	})
}

// TestMarkIsReadAtOnce: what a listing shows of a change is followed up.
func TestMarkIsReadAtOnce(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := crowd(t, listsBare, 30)
		for i := range 30 {
			b.cloud.mark(fmt.Sprintf("g-uid-web-%d", i), "Succeeded")
		}
		b.start()
		b.settle(10 * time.Minute)
		for i := range 10 {
			name := fmt.Sprintf("web-%d", i)
			b.cloud.set("g-uid-"+name, exited(3, "app"))
			b.cloud.mark("g-uid-"+name, "Updating")
			at := time.Now()
			b.phase(name, corev1.PodFailed)
			if took := time.Since(at); took > 11*time.Second {
				t.Errorf("the change of %s was seen after %s, want with the next listing", name, took)
			}
			b.settle(3100 * time.Millisecond)
		}
	})
}

// TestLateAnswerOfADeletedGroup: a read that was under way while its group was
// removed brings nothing back.
func TestLateAnswerOfADeletedGroup(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t, testPod("web"))
		b.as(listsBare)
		b.start()
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		r := b.agent.present.Load().reconciler
		begun := time.Now()
		late := providers.Group{ID: "g-uid-web", Owner: ours(), Status: new(providers.GroupStatus)}
		late.Owner.PodUID, late.Owner.PodName, late.Owner.Namespace = "uid-web", "web", "default"
		b.settle(time.Second)
		b.remove("web")
		b.absent("web")
		b.settle(20 * time.Second)
		for _, uid := range r.ledger.take(begun, time.Now(), late) {
			r.queue.Add(uid)
		}
		deletes := b.cloud.count("Delete")
		b.settle(time.Minute)
		if n := b.cloud.count("Delete") - deletes; n != 0 {
			t.Errorf("%d deletions of a group that is gone", n)
		}
		r.ledger.mu.Lock()
		defer r.ledger.mu.Unlock()
		if len(r.ledger.records) != 0 {
			t.Errorf("the ledger knows %d pods, want none", len(r.ledger.records))
		}
	})
}

// TestRunTimesAreLearnt: the end of a Job's pod is seen soon after those of its
// kin, by few reads.
func TestRunTimesAreLearnt(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.as(listsBare)
		b.start()
		const runs = 5 * time.Minute
		for i := range 8 {
			name := fmt.Sprintf("job-%d", i)
			gets := b.cloud.count("Get")
			b.create(testPod(name, func(p *corev1.Pod) {
				p.Spec.RestartPolicy = corev1.RestartPolicyNever
				p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: fmt.Sprintf("nightly-2917%04d", i), UID: "job", Controller: new(bool)}}
				*p.OwnerReferences[0].Controller = true
			}))
			b.eventually("the group is made", func() error {
				if b.cloud.count("Create") != i+1 {
					return fmt.Errorf("%d creates", b.cloud.count("Create"))
				}
				return nil
			})
			b.settle(20 * time.Second)
			started := time.Now()
			b.cloud.set("g-uid-"+name, running("app"))
			b.settle(runs)
			done := exited(0, "app")
			done.Containers[0].State.Terminated.StartedAt = metav1.NewTime(started)
			b.cloud.set("g-uid-"+name, done)
			at := time.Now()
			b.phase(name, corev1.PodSucceeded)
			took, reads := time.Since(at), b.cloud.count("Get")-gets
			if i >= 6 && (took > 6*time.Second || reads > 25) {
				t.Errorf("run %d: the end was seen after %s and %d reads, want within 6 s by at most 25", i, took, reads)
			}
		}
	})
}

// TestPodsAreTrimmedOnceTheyHaveRun: until then, a group may be made of them.
func TestPodsAreTrimmedOnceTheyHaveRun(t *testing.T) {
	full := func() *corev1.Pod {
		return testPod("web", func(p *corev1.Pod) {
			p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
			p.Annotations = map[string]string{corev1.LastAppliedConfigAnnotation: "{}", "kept": "yes"}
			p.Spec.Volumes = []corev1.Volume{{Name: "data"}}
			p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/ready"}}
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80}}
		})
	}
	trimmed := func(pod *corev1.Pod) *corev1.Pod {
		t.Helper()
		obj, err := trim(pod)
		if err != nil {
			t.Fatal(err)
		}
		return obj.(*corev1.Pod)
	}
	want := full()
	want.ManagedFields = nil
	if diff := cmp.Diff(want, trimmed(full())); diff != "" {
		t.Errorf("a pod that waits (-want +got):\n%s", diff)
	}
	pod := full()
	ran(pod)
	want = pod.DeepCopy()
	want.ManagedFields, want.Spec.Volumes, want.Spec.Containers[0].Env = nil, nil, nil
	want.Annotations = map[string]string{"kept": "yes"}
	if diff := cmp.Diff(want, trimmed(pod)); diff != "" {
		t.Errorf("a pod that runs (-want +got):\n%s", diff)
	}
}

// TestEndedGroupsAfterARestart: an ended pod's group that an earlier run saw end is
// made sure of in its turn, and one that is gone is not asked for for ever.
func TestEndedGroupsAfterARestart(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		end := func(p *corev1.Pod) {
			s := exited(0, "app")
			p.Status = runningStatus(p, &s, place{hostIP: "192.0.2.1"}, time.Now(), time.Now())
		}
		b := newBed(t, testPod("there", end), testPod("gone", end), testPod("deadline", func(p *corev1.Pod) {
			ran(p)
			p.Status = failedStatus(p, ReasonDeadline, "", place{}, time.Now(), time.Now())
		}))
		b.as(listsBare)
		b.cloud.put(testPod("there"), ours(), exited(0, "app"))
		gone := b.cloud.put(testPod("gone"), ours(), exited(0, "app"))
		// The earlier run was killed before it removed what had run for too long.
		b.cloud.put(testPod("deadline"), ours(), running("app"))
		b.start()
		b.groups(gone, "g-uid-there")
		b.cloud.lose(gone)
		b.settle(5 * time.Minute)
		gets := b.cloud.count("Get")
		b.settle(30 * time.Minute)
		if n := b.cloud.count("Get") - gets; n != 0 {
			t.Errorf("%d more reads of groups that have ended, want none", n)
		}
		if got := b.writes(); got["patch pods"] != 0 {
			t.Errorf("writes %v, want no status", got)
		}
		b.groups("g-uid-there")
	})
}

// TestPanicInALookAtTheCloud: what one answer breaks, the next one mends.
func TestPanicInALookAtTheCloud(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t, testPod("web"))
		b.as(k)
		b.cloud.fail = func(op, _ string, n int) error {
			if (op == "List" || op == "Changes") && n%2 == 1 {
				panic("a bug")
			}
			return nil
		}
		b.start()
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
	})
}

// TestFractionsOfASecondAreNoChange: the API server keeps whole seconds, a cloud may
// tell more.
func TestFractionsOfASecondAreNoChange(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		b := newBed(t, testPod("web"))
		b.as(k)
		b.start()
		b.groups("g-uid-web")
		status := running("app")
		at := metav1.NewTime(time.Now().Add(123 * time.Millisecond))
		status.Containers[0].State.Running.StartedAt = at
		status.Containers[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1, StartedAt: at, FinishedAt: at}
		b.cloud.set("g-uid-web", status)
		b.phase("web", corev1.PodRunning)
		b.settle(time.Second)
		patches := b.writes()["patch pods"]
		b.settle(10 * time.Minute)
		if n := b.writes()["patch pods"] - patches; n != 0 {
			t.Errorf("%d writes of a status that is the same", n)
		}
	})
}
