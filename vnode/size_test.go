package vnode

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestSizeAnnotation(t *testing.T) {
	for name, test := range map[string]struct {
		size burstable.Size
		want string
	}{
		"nothing is known": {want: ""},
		"as ECI sells":     {burstable.Size{MilliCPU: 2000, MemoryBytes: 4 << 30}, `{"cpu":"2","memory":"4Gi"}`},
		"a part of a CPU":  {burstable.Size{MilliCPU: 250, MemoryBytes: 512 << 20}, `{"cpu":"250m","memory":"512Mi"}`},
		"as ACI sells":     {burstable.Size{MilliCPU: 1010, MemoryBytes: 1_500_000_000}, `{"cpu":"1010m","memory":"1500M"}`},
		"CPU alone":        {burstable.Size{MilliCPU: 1000}, `{"cpu":"1"}`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sizeAnnotation(test.size); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// The rounded size is on the pod with the first status that is written, and costs no
// write of its own; what the cloud says of the group wins.
func TestSizeIsPublished(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.sizes = &burstable.Sizes{
			CPU:    &burstable.Steps{Step: 500, Minimum: 500, Default: 1000},
			Memory: &burstable.Steps{Step: 1 << 30, Minimum: 1 << 30, Default: 2 << 30},
		}
		patches := 0
		b.onPatch(func(string) { patches++ })
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) {
			p.Annotations = map[string]string{"note": "kept"}
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("1001m"), "memory": resource.MustParse("1")}
		}))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		pod := b.pod("web")
		if got, want := pod.Annotations[v1alpha1.SizeAnnotation], `{"cpu":"1500m","memory":"1Gi"}`; got != want {
			t.Errorf("annotation %s, want %s", got, want)
		}
		if pod.Annotations["note"] != "kept" {
			t.Errorf("annotations %v: one of the user is lost", pod.Annotations)
		}
		synctest.Wait()
		before := patches
		b.settle(time.Minute)
		if patches != before {
			t.Errorf("%d writes of a pod that does not change", patches-before)
		}

		told := running("app")
		told.CPUMillis, told.MemoryBytes = 2000, 4<<30
		told.Containers[0].RestartCount = 1
		b.cloud.set("g-uid-web", told)
		b.eventually("the cloud's own word wins", func() error {
			if got := b.pod("web").Annotations[v1alpha1.SizeAnnotation]; got != `{"cpu":"2","memory":"4Gi"}` {
				return fmt.Errorf("annotation %s", got)
			}
			return nil
		})
	})
}
