package playground

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// The scheduler decides about one pod after another and writes its bindings at the
// same time. One to a virtual node that is seen first is no stray when the room was
// given away before; it is one when the room stays, or goes to a pod that came later.
func TestStrays(t *testing.T) {
	bind := func(pod, node string) [2]string { return [2]string{pod, node} }
	for name, test := range map[string]struct {
		// bindings in the order in which they are seen; a pod that begins with "new" is
		// created then, the others were before.
		bindings [][2]string
		want     int
	}{
		"the cluster fills first":            {[][2]string{bind("a", "local"), bind("b", "local"), bind("c", "virtual")}, 0},
		"the last slot is seen after it":     {[][2]string{bind("a", "local"), bind("c", "virtual"), bind("b", "local")}, 0},
		"both slots are seen after it":       {[][2]string{bind("c", "virtual"), bind("a", "local"), bind("b", "local")}, 0},
		"one slot stays":                     {[][2]string{bind("c", "virtual"), bind("a", "local")}, 1},
		"both stay":                          {[][2]string{bind("c", "virtual")}, 1},
		"the slot goes to one that is newer": {[][2]string{bind("a", "local"), bind("c", "virtual"), bind("new", "local")}, 1},
		"two, and one slot stays":            {[][2]string{bind("a", "virtual"), bind("b", "virtual"), bind("c", "local")}, 2},
		"two, and no slot stays":             {[][2]string{bind("a", "virtual"), bind("b", "local"), bind("c", "local")}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ready := corev1.NodeStatus{
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourcePods: resource.MustParse("10")},
			}
			p := &Placements{
				nodes: map[string]*corev1.Node{
					"local":   {ObjectMeta: metav1.ObjectMeta{Name: "local"}, Status: ready},
					"virtual": {ObjectMeta: metav1.ObjectMeta{Name: "virtual", Labels: map[string]string{"type": "virtual-kubelet"}}, Status: ready},
				},
				pods: map[types.UID]*corev1.Pod{}, bound: map[types.UID]string{},
			}
			pod := func(name, node string) *corev1.Pod {
				return &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name)},
					Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{
						Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}},
					}}},
				}
			}
			for _, name := range []string{"a", "b", "c"} {
				p.observe(watch.Added, pod(name, ""))
			}
			for _, b := range test.bindings {
				if b[0] == "new" {
					p.observe(watch.Added, pod(b[0], ""))
				}
				p.observe(watch.Modified, pod(b[0], b[1]))
			}
			if got := p.Strays(); len(got) != test.want {
				t.Errorf("%d strays, want %d: %s", len(got), test.want, fmt.Sprint(got))
			}
		})
	}
}
