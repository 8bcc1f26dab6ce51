package admission

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers/eci"
)

// large is a snapshot with so many virtual nodes and policies, of which the last
// selects the pod; the pod has so many containers.
func large(nodes, policies, containers int) (*policy.Snapshot, *corev1.Pod) {
	capabilities := eci.Capabilities()
	capabilities.Features, capabilities.Limits = burstable.Features, burstable.Limits{Containers: 1000}
	s := always(&capabilities)
	first := s.VirtualNodes[0]
	s.VirtualNodes = nil
	for i := range nodes {
		n := *first
		n.Name = fmt.Sprintf("virtual-%d", i)
		s.VirtualNodes = append(s.VirtualNodes, &n)
	}
	last := s.Policies["shop"][0]
	s.Policies["shop"] = nil
	for i := range policies - 1 {
		p := *last
		p.Ref.Name = fmt.Sprintf("other-%d", i)
		p.PodSelector = labels.SelectorFromSet(labels.Set{"app": p.Ref.Name, "team": "shop"})
		s.Policies["shop"] = append(s.Policies["shop"], &p)
	}
	s.Policies["shop"] = append(s.Policies["shop"], last)

	pod := admitted()
	first0 := pod.Spec.Containers[0]
	pod.Spec.Containers = nil
	for i := range containers {
		c := first0.DeepCopy()
		c.Name = fmt.Sprintf("app-%d", i)
		for j := range 40 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("NAME_%d", j), Value: "value"})
		}
		pod.Spec.Containers = append(pod.Spec.Containers, *c)
	}
	pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpIn, Values: []string{"ssd"}}}},
			{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "type", Operator: corev1.NodeSelectorOpExists}}},
		},
	}}}
	return s, pod
}

// The API server gives an expression a budget; what is beyond it fails open. The
// documentation promises that this is enough.
func TestCost(t *testing.T) {
	server := newAPIServer(t)
	s, pod := large(100, 1000, 20)
	want, _ := inject(s, "shop", pod)
	got, err := server.admit(t.Context(), policy.Params(s), "shop", pod)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-webhook +API server):\n%s", diff)
	}
}

func BenchmarkAdmit(b *testing.B) {
	server := newAPIServer(b)
	for _, size := range []struct{ nodes, policies, containers int }{{2, 3, 1}, {10, 100, 2}, {100, 1000, 20}} {
		b.Run(fmt.Sprintf("%d nodes, %d policies, %d containers", size.nodes, size.policies, size.containers), func(b *testing.B) {
			s, pod := large(size.nodes, size.policies, size.containers)
			// What the API server does once for each request, or not at all.
			params := policy.Params(s)
			object, err := asStored(&v1alpha1.BurstAdmission{ObjectMeta: metav1.ObjectMeta{Name: "autoburst"}, Spec: params})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := server.admitBy(b.Context(), object, "shop", pod); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
