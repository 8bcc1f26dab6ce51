package burstable

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestSoldSize(t *testing.T) {
	offers := &Capabilities{Sizes: &Sizes{Offers: &Offers{
		Rows:    []Offer{{500, []int64{1 << 30, 2 << 30}}, {1000, []int64{2 << 30, 4 << 30}}},
		Default: Size{MilliCPU: 1000, MemoryBytes: 4 << 30}, CPUWeight: 10, MemoryWeight: 1,
	}}}
	steps := &Capabilities{Sizes: &Sizes{
		CPU:    &Steps{Step: 10, Minimum: 1000, Default: 1000, Container: 100},
		Memory: &Steps{Step: 100, Minimum: 1000, Default: 1500, Container: 100},
	}}
	container := func(cpu, memory, limit string) corev1.Container {
		c := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
		for text, into := range map[string]resourceAt{cpu: {c.Resources.Requests, corev1.ResourceCPU}, memory: {c.Resources.Requests, corev1.ResourceMemory}, limit: {c.Resources.Limits, corev1.ResourceCPU}} {
			if text != "" {
				into.list[into.name] = resource.MustParse(text)
			}
		}
		return c
	}
	for name, c := range map[string]struct {
		capabilities *Capabilities
		containers   []corev1.Container
		inits        []corev1.Container
		cpu, memory  int64
	}{
		"no sizes known":         {nil, []corev1.Container{container("300m", "1Mi", "")}, nil, 300, 1 << 20},
		"an offer":               {offers, []corev1.Container{container("300m", "1Mi", "")}, nil, 500, 1 << 30},
		"more memory":            {offers, []corev1.Container{container("300m", "3Gi", "")}, nil, 1000, 4 << 30},
		"a limit is bought":      {offers, []corev1.Container{container("300m", "1Mi", "900m")}, nil, 1000, 2 << 30},
		"nothing asked for":      {offers, []corev1.Container{container("", "", "")}, nil, 1000, 4 << 30},
		"larger than any offer":  {offers, []corev1.Container{container("3", "1Mi", "")}, nil, 3000, 1 << 20},
		"steps":                  {steps, []corev1.Container{container("1003m", "1010", ""), container("500m", "1", "")}, nil, 1510, 1200},
		"steps, at the least":    {steps, []corev1.Container{container("10m", "1", "")}, nil, 1000, 1000},
		"steps, nothing":         {steps, []corev1.Container{container("", "", "")}, nil, 1000, 1500},
		"steps, one asks":        {steps, []corev1.Container{container("2", "", ""), container("", "", "")}, nil, 2100, 1500},
		"steps, init containers": {steps, []corev1.Container{container("1", "1000", "")}, []corev1.Container{container("1995m", "2001", "")}, 2000, 2100},
	} {
		t.Run(name, func(t *testing.T) {
			got := SoldSize(&corev1.PodSpec{Containers: c.containers, InitContainers: c.inits}, c.capabilities)
			if got.MilliCPU != c.cpu || got.MemoryBytes != c.memory {
				t.Errorf("%+v, want %d and %d", got, c.cpu, c.memory)
			}
		})
	}
}

type resourceAt struct {
	list corev1.ResourceList
	name corev1.ResourceName
}
