package vnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
)

// statusWrites are the patches of the status of pods that the API server got, by
// name of the pod.
func (b *bed) statusWrites() map[string][][]byte {
	writes := map[string][][]byte{}
	for _, a := range b.client.Actions() {
		if p, ok := a.(clienttesting.PatchAction); ok && a.GetResource().Resource == "pods" && a.GetSubresource() == "status" {
			writes[p.GetName()] = append(writes[p.GetName()], p.GetPatch())
		}
	}
	return writes
}

// A burst costs the API server one write of status a pod, where the groups start
// before the next listing. Where that takes longer, the pod says that it waits.
func TestOneWriteOfStatusPerStart(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		const n = 50
		b := newBed(t)
		b.cloud.listStatus = true
		b.start()
		b.create(testPod("first")) // so that the listing is known to carry status
		b.groups("g-uid-first")
		b.cloud.set("g-uid-first", running("app"))
		b.phase("first", corev1.PodRunning)
		lists := b.cloud.count("List")
		b.eventually("the cloud is listed", func() error {
			if b.cloud.count("List") == lists {
				return errors.New("no listing")
			}
			return nil
		})
		b.settle(time.Second) // the next listing is not due yet

		for i := range n {
			b.create(testPod(fmt.Sprintf("p-%d", i)))
		}
		b.eventually("all groups exist", func() error {
			if got := len(b.cloud.ids()); got != n+1 {
				return fmt.Errorf("%d groups", got)
			}
			return nil
		})
		for i := range n {
			b.cloud.set(fmt.Sprintf("g-uid-p-%d", i), running("app"))
		}
		for i := range n {
			b.phase(fmt.Sprintf("p-%d", i), corev1.PodRunning)
		}
		for i := range n {
			if got := len(b.statusWrites()[fmt.Sprintf("p-%d", i)]); got != 1 {
				t.Errorf("the status of p-%d was written %d times, want once", i, got)
			}
		}

		b.create(testPod("slow"))
		b.eventually("the slow pod says that it waits", func() error {
			if s := b.pod("slow").Status.ContainerStatuses; len(s) != 1 || s[0].State.Waiting == nil || s[0].State.Waiting.Reason != reasonCreating {
				return fmt.Errorf("container statuses %+v", s)
			}
			return nil
		})
	})
}

// The last status of a pod that is deleted is written for those who can want to
// know it, and for nobody else.
func TestLastStatusOfDeletedPods(t *testing.T) {
	tests := map[string]struct {
		edit func(*corev1.Pod)
		want bool
	}{
		"a service":            {func(*corev1.Pod) {}, false},
		"a job":                {func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }, true},
		"restarted on failure": {func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure }, true},
		"held by a finalizer":  {func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"} }, true},
	}
	for name, test := range tests {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			b.cloud.listStatus = true
			b.start()
			b.create(testPod("web", test.edit))
			b.groups("g-uid-web")
			b.cloud.set("g-uid-web", running("app"))
			b.phase("web", corev1.PodRunning)
			b.remove("web")
			b.groups()
			b.settle(10 * time.Second)
			got := false
			for _, patch := range b.statusWrites()["web"] {
				got = got || bytes.Contains(patch, []byte(`"phase":"Failed"`))
			}
			if got != test.want {
				t.Errorf("a last phase was written: %t, want %t", got, test.want)
			}
		})
	}
}

// Events are written at the kubelet's pace, warnings first, and none is lost.
func TestEventsInTheirOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const normals, warnings = 400, 50
		client := fakeClient()
		sink := newEventSink(client, testNode, clock.RealClock{}, slog.New(slog.DiscardHandler), NewMetrics(nil))
		for i := range normals {
			sink.pod(testPod(fmt.Sprintf("p-%d", i)), occurrence{reason: "Started", message: "Started container app"})
		}
		for i := range warnings {
			sink.pod(testPod(fmt.Sprintf("p-%d", i)), occurrence{warning: true, reason: "Failed", message: "no such image"})
		}
		sink.pod(testPod("p-0"), occurrence{warning: true, reason: "Failed", message: "no such image"}) // known
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			sink.run(ctx)
		}()
		count := func(kind string) int {
			list, err := client.CoreV1().Events("default").List(context.Background(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for _, e := range list.Items {
				if e.Type == kind {
					n++
				}
			}
			return n
		}
		synctest.Wait()
		if w, n := count(corev1.EventTypeWarning), count(corev1.EventTypeNormal); w != warnings || n != eventBurst-warnings {
			t.Errorf("at once: %d warnings and %d others, want %d and %d", w, n, warnings, eventBurst-warnings)
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		if n := count(corev1.EventTypeNormal); n < 140 || n > 151 {
			t.Errorf("after 2 s: %d others, want 150", n)
		}
		<-time.After(10 * time.Second)
		synctest.Wait()
		if n := count(corev1.EventTypeNormal); n != normals {
			t.Errorf("in the end: %d others, want %d", n, normals)
		}
		sink.forget(types.UID("uid-p-0"))
		cancel()
		<-done
	})
}

// What the cloud tells of a group is told once. If the API server refuses the write
// because others write at the same time, it is made again.
func TestStatusIsWrittenAfterAConflict(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.listStatus = true
		b.start()
		b.create(testPod("web"))
		b.groups("g-uid-web")
		refused := 0
		b.client.PrependReactor("patch", "pods", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if refused == 2 {
				return false, nil, nil
			}
			refused++
			return true, nil, apierrors.NewConflict(corev1.Resource("pods"), "web", errors.New("it has changed"))
		})
		b.cloud.set("g-uid-web", running("app"))
		b.settle(15 * time.Second)
		if p := b.pod("web"); refused != 2 || p.Status.Phase != corev1.PodRunning {
			t.Errorf("after %d conflicts the pod is %s, want Running", refused, p.Status.Phase)
		}
	})
}
