package vnode

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/providers"
)

const spotStrategy, withEIP = "k8s.aliyun.com/eci-spot-strategy", "k8s.aliyun.com/eci-with-eip"

// late are the annotations that a pod was told of too late, sorted.
func (b *bed) late(pod string) []string {
	b.Helper()
	list, err := b.client.CoreV1().Events("default").List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.InvolvedObject.Name == pod && e.Reason == reasonRunsWithout && strings.Contains(e.Message, "had been asked for") {
			words := strings.Fields(e.Message)
			out = append(out, words[2]+" "+words[4])
		}
	}
	slices.Sort(out)
	return out
}

func (b *bed) annotate(pod string, annotations map[string]string) {
	b.Helper()
	p := b.pod(pod)
	p.Annotations = annotations
	if _, err := b.client.CoreV1().Pods("default").Update(b.Context(), p, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
}

// What is written onto a pod once its group is there has no effect, and that is told, once.
func TestAnnotationsThatComeLate(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.start()
		b.create(testPod("web", func(p *corev1.Pod) { p.Annotations = map[string]string{withEIP: "true", "note": "1"} }))
		b.groups("g-uid-web")
		b.cloud.set("g-uid-web", running("app"))
		b.phase("web", corev1.PodRunning)
		b.settle(time.Minute)
		if got := b.late("web"); len(got) != 0 {
			t.Errorf("told of %v, though nothing has changed", got)
		}
		var want []string
		for _, step := range []struct {
			bears map[string]string
			told  string
		}{
			{map[string]string{withEIP: "true", "note": "2"}, ""},
			{map[string]string{withEIP: "true", spotStrategy: "SpotAsPriceGo"}, spotStrategy + " set"},
			{map[string]string{withEIP: "true", spotStrategy: "NoSpot"}, spotStrategy + " changed"},
			{map[string]string{spotStrategy: "NoSpot"}, withEIP + " taken"},
		} {
			b.annotate("web", step.bears)
			b.settle(time.Minute)
			if step.told != "" {
				want = append(want, step.told)
				slices.Sort(want)
			}
			if diff := cmp.Diff(want, b.late("web")); diff != "" {
				t.Errorf("told of (-want +got):\n%s", diff)
			}
		}
		b.stop()
		b.start()
		b.settle(time.Minute)
		if diff := cmp.Diff(want, b.late("web")); diff != "" {
			t.Errorf("after a restart, told of (-want +got):\n%s", diff)
		}
	})
	bubble(t, "before the group is made", func(t *testing.T) {
		b := newBed(t)
		tries := 0
		b.cloud.fail = func(op, _ string, _ int) error {
			if op == "Create" {
				if tries++; tries == 1 {
					return fault(providers.Throttled, "Throttling.User")
				}
			}
			return nil
		}
		b.start()
		b.create(testPod("web"))
		b.eventually("the first create is refused", func() error {
			if b.cloud.count("Create") == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		b.annotate("web", map[string]string{withEIP: "true"})
		b.groups("g-uid-web")
		b.settle(time.Minute)
		if got := b.late("web"); len(got) != 0 {
			t.Errorf("told of %v, though the group was made with it", got)
		}
	})
}
