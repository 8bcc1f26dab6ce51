package policy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestAccountIsReadBack(t *testing.T) {
	for _, a := range []Account{
		{Policy: Ref{Kind: KindPolicy, Namespace: "shop", Name: "web"}},
		{Policy: Ref{Kind: KindPolicy, Namespace: "shop", Name: "web"}, Target: "eci"},
		{Policy: Ref{Kind: KindClusterPolicy, Name: "cap.all"}, Target: "aci"},
	} {
		got, err := ParseAccount(a.String())
		if err != nil || got != a {
			t.Errorf("%s is read as %+v (%v), want %+v", a, got, err, a)
		}
	}
	for _, s := range []string{"", "web", "Namespace/shop", "BurstPolicy/web", "ClusterBurstPolicy/a/b"} {
		if a, err := ParseAccount(s); err == nil {
			t.Errorf("%q is read as %+v", s, a)
		}
	}
}

// TestChargesOf: what counts is what is, or may any moment be, on a virtual node.
func TestChargesOf(t *testing.T) {
	s := shop()
	limited := policyOf(v1alpha1.ModeOverflow, "web")
	limited.Limits.Pods = 3
	s.Policies = map[string][]*Policy{"shop": {limited}}
	taint := s.VirtualNodes[0].HardTaints[0]
	granted := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: taint.Key, Value: taint.Value, Effect: taint.Effect}}
		p.Annotations = map[string]string{v1alpha1.GrantAnnotation: GrantLate}
	}
	on := func(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }
	for name, c := range map[string]struct {
		change []func(*corev1.Pod)
		want   bool
	}{
		"waits":                               {},
		"granted":                             {change: []func(*corev1.Pod){granted}, want: true},
		"on a virtual node":                   {change: []func(*corev1.Pod){on(s.VirtualNodes[0].Name)}, want: true},
		"on a local node":                     {change: []func(*corev1.Pod){on("local")}},
		"granted, on a local node":            {change: []func(*corev1.Pod){granted, on("local")}},
		"granted, on a node that is gone":     {change: []func(*corev1.Pod){granted, on("gone")}, want: true},
		"not granted, on a node that is gone": {change: []func(*corev1.Pod){on("gone")}},
		"not selected":                        {change: []func(*corev1.Pod){granted, func(p *corev1.Pod) { p.Labels = nil }}},
		"granted, by its selector elsewhere":  {change: []func(*corev1.Pod){granted, func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "such"} }}},
	} {
		t.Run(name, func(t *testing.T) {
			p := web()
			p.Namespace, p.Labels = "shop", map[string]string{"app": "web"}
			for _, change := range c.change {
				change(p)
			}
			got := ChargesOf(s, p, func(node string) bool { return node == "local" })
			if (len(got) == 1 && got[0].Amount.Pods == 1) != c.want {
				t.Errorf("charges are %+v, want one: %t", got, c.want)
			}
		})
	}
}

// What an annotation says is to be bought counts, also while a policy has yet to stamp
// it on the pod.
func TestSizeAnnotationsCount(t *testing.T) {
	const specs = "k8s.aliyun.com/eci-use-specs"
	for name, c := range map[string]struct {
		own, stamped string
		want         int64 // of CPU, in thousandths
	}{
		"none":                       {want: 500},
		"the pod's own":              {own: "4-8Gi", want: 4000},
		"to be stamped":              {stamped: "2-4Gi", want: 2000},
		"the pod's own stays":        {own: "2-4Gi", stamped: "8-16Gi", want: 2000},
		"the largest that it may be": {stamped: "2-4Gi,ecs.c6.2xlarge", want: 8000},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop()
			p := policyOf(v1alpha1.ModeOverflow, "web")
			p.Limits.MilliCPU = 100_000
			p.Targets = []Target{{Name: "eci", Selector: labels.Everything(), Limits: NoLimits}}
			if c.stamped != "" {
				p.Targets[0].Annotations = map[string]string{specs: c.stamped, "example.com/other": "x"}
			}
			s.Policies = map[string][]*Policy{"shop": {p}}
			n := s.VirtualNodes[0]
			n.Capabilities = &burstable.Capabilities{Provider: "eci", Features: burstable.Features}
			pod := web()
			pod.Namespace, pod.Labels = "shop", map[string]string{"app": "web"}
			pod.Spec.NodeName = n.Name
			pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}}
			if c.own != "" {
				pod.Annotations = map[string]string{specs: c.own}
			}
			got := ChargesOf(s, pod, func(string) bool { return false })
			if len(got) != 1 || got[0].Amount.MilliCPU != c.want {
				t.Errorf("charges %+v, want one of %d", got, c.want)
			}
		})
	}
}
