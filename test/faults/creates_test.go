package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

var allPolicies = []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}

// A cloud that is asked too often refuses creates: the pods wait with the reason,
// also those that are never restarted, and each starts once.
func TestC01CreateThrottled(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		const pause = 3 * time.Second
		var refused, again time.Time
		b.Hook(sim.Hook{Action: b.action(create), Before: func(sim.Passage) {
			if refused.IsZero() {
				refused = time.Now()
			} else if again.IsZero() {
				again = time.Now()
			}
		}})
		b.inject(fault{op: create, throttled: true, retryAfter: pause}) // ECI knows no Retry-After
		first := b.pod("first", policy(corev1.RestartPolicyNever))
		p := b.waitWaits("first", v1alpha1.PodWaitingPrefix+"Throttled")
		if s := p.Status.ContainerStatuses; len(s) != 1 || s[0].State.Waiting == nil || s[0].State.Waiting.Reason == "" {
			b.Errorf("containers of a throttled pod: %v, want one that waits with a reason", s)
		}
		b.waitEvent(first, "Throttled")
		b.waitRunning(first)
		if waited := again.Sub(refused); b.name() == "aci" && waited < pause {
			b.Errorf("the create was repeated after %s, want at least the %s of Retry-After", waited, pause)
		}

		// The cloud's own flow control: two at once, then two a second.
		b.rate(2, 2)
		var pods []*corev1.Pod
		for i := range 6 {
			pods = append(pods, b.pod(fmt.Sprintf("pod-%d", i), policy(allPolicies[i%3])))
		}
		b.waitRunning(pods...)
		b.untouched()
		if n := b.made(); n != 7 {
			b.Errorf("%d groups were made for 7 pods", n)
		}
	})
}

// The answer to a create is lost, before its effect, after it, or because it
// comes too late; the request that is repeated may differ in a fresh token. Each
// pod has one group, started once.
func TestC02CreateOutcomeUnknown(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start("--call-timeout=2s")
		for i, f := range []fault{
			{op: create, cut: true, after: true},
			{op: create, cut: true},
			{op: create, status: 502, raw: "<html>bad gateway</html>", after: true},
			{op: create, delay: 4 * time.Second, after: true},
		} {
			b.inject(f)
			p := b.pod(fmt.Sprintf("pod-%d", i), policy(corev1.RestartPolicyNever), withToken)
			b.waitRunning(p)
			b.group(p)
		}
		// No listing shows the group meanwhile: the create is asked for again.
		b.inject(fault{op: list, calls: -1, status: 500})
		b.inject(fault{op: create, cut: true, after: true})
		p := b.pod("blind", policy(corev1.RestartPolicyNever), withToken)
		b.holds(5*time.Second, "while no listing is answered", func() error {
			if n := len(b.groupsOf(p.UID)); n > 1 {
				return fmt.Errorf("the pod has %d groups", n)
			}
			return nil
		})
		b.ClearFaults()
		b.waitRunning(p)
		b.group(p)
		b.untouched()
		if n := b.made(); n != 5 {
			b.Errorf("%d groups were made for 5 pods", n)
		}
	})
}

// A pod is deleted while its group is being made: before the cloud has answered,
// when its answer was lost, and before the group runs. The group goes as soon as
// it is known.
func TestC06DeletedWhileProvisioning(t *testing.T) {
	slow := quick()
	slow.Schedule = 2 * time.Second
	onBothClouds(t, cloudOptions{timing: &slow}, func(b *bed) {
		b.start()
		during := func(name string, f *fault) {
			b.Helper()
			asked, deleted := make(chan struct{}), make(chan struct{})
			remove := b.Hook(sim.Hook{Action: b.action(create), After: func(sim.Passage) { close(asked); <-deleted }})
			if f != nil {
				b.inject(*f)
			}
			p := b.pod(name)
			<-asked
			remove()
			b.group(p)
			b.forget(p)
			close(deleted)
			b.waitGroups(0)
		}
		during("answered", nil)
		during("lost", &fault{op: create, cut: true, after: true})

		p := b.pod("pending")
		b.waitGroups(1)
		b.delete(p)
		b.must(30*time.Second, "the pod is gone", func() error {
			if !b.gone(p) {
				return fmt.Errorf("it is there")
			}
			if n := len(b.Fleet().Groups()); n != 0 {
				b.Fatalf("the pod is gone and %d groups are there", n)
			}
			return nil
		})
		for _, p := range b.history.all() {
			if p.Status.Phase == corev1.PodRunning {
				b.Errorf("pod %s ran", p.Name)
			}
		}
	})
}

// A pod that the cloud cannot run is refused once, with every field that is in
// the way, and the cloud is not asked.
func TestC28InvalidPod(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		b.ends["odd"] = corev1.PodFailed
		p := b.pod("odd", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "logs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/log"}}}}
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80}}
		})
		failed := b.wait("odd", "is refused", phase(corev1.PodFailed))
		for _, field := range []string{"spec.volumes[0].hostPath", "spec.hostNetwork", "spec.containers[0].ports[0].hostPort"} {
			if !strings.Contains(failed.Status.Message, field) {
				b.Errorf("the message does not name %s: %s", field, failed.Status.Message)
			}
		}
		b.sweeps(3)
		if n := b.tap.Count(statusWrites); n != 1 {
			b.Errorf("%d status writes, want 1", n)
		}
		if n := b.calls(anything); n != 0 {
			b.Errorf("the cloud was called %d times: %v", n, b.Record().Calls)
		}
		if n := len(b.events(p)); n != 1 {
			b.Errorf("%d events, want 1", n)
		}
	})
}

// A Job that allows no failure at all meets every passing error of a cloud, and
// completes: none of them costs it a pod.
func TestC37JobWithoutRetries(t *testing.T) {
	onBothClouds(t, cloudOptions{}, func(b *bed) {
		b.start()
		b.inject(fault{op: create, throttled: true})
		b.inject(fault{op: create, status: 500})
		b.inject(fault{op: create, cut: true, after: true})
		b.inject(fault{op: create, status: 503, raw: "<html>unavailable</html>"})
		b.inject(fault{op: read, cut: true, calls: 2})
		spec := b.podSpec()
		spec.RestartPolicy = corev1.RestartPolicyNever
		spec.Containers[0].Image = "exit:0"
		job, err := b.client.BatchV1().Jobs(b.ns).Create(b.Context(), &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Name: "once"},
			Spec: batchv1.JobSpec{
				Completions: ptr.To[int32](3), Parallelism: ptr.To[int32](3), BackoffLimit: ptr.To[int32](0),
				Template: corev1.PodTemplateSpec{Spec: spec},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.must(time.Minute, "the Job is complete", func() error {
			job, err = b.client.BatchV1().Jobs(b.ns).Get(b.Context(), "once", metav1.GetOptions{})
			if err != nil {
				return err
			}
			for _, p := range b.history.all() {
				b.ends[p.Name] = corev1.PodSucceeded
			}
			if job.Status.Failed > 0 {
				b.Fatalf("%d pods of the Job failed", job.Status.Failed)
			}
			if job.Status.Succeeded != 3 {
				return fmt.Errorf("%d pods have succeeded", job.Status.Succeeded)
			}
			return nil
		})
		if n := b.made(); n != 3 {
			b.Errorf("%d groups were made for 3 pods", n)
		}
	})
}
