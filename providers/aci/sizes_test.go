package aci

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// What is published for those who count limits is what groups are asked for.
func TestSoldSizeIsWhatIsBought(t *testing.T) {
	capabilities := Capabilities(false)
	list := func(t *rapid.T) corev1.ResourceList {
		out := corev1.ResourceList{}
		if n := rapid.Int64Range(0, 3000).Draw(t, "cpu"); n > 0 {
			out[corev1.ResourceCPU] = *resource.NewMilliQuantity(n, resource.DecimalSI)
		}
		if n := rapid.Int64Range(0, 4<<30).Draw(t, "memory"); n > 0 {
			out[corev1.ResourceMemory] = *resource.NewQuantity(n, resource.BinarySI)
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		var pod corev1.PodSpec
		var group providers.GroupSpec
		for range rapid.IntRange(1, 3).Draw(t, "containers") {
			r := corev1.ResourceRequirements{Requests: list(t), Limits: list(t)}
			pod.Containers = append(pod.Containers, corev1.Container{Resources: r})
			group.Containers = append(group.Containers, providers.Container{Resources: r})
		}
		for range rapid.IntRange(0, 2).Draw(t, "init containers") {
			r := corev1.ResourceRequirements{Requests: list(t)}
			pod.InitContainers = append(pod.InitContainers, corev1.Container{Resources: r})
			group.InitContainers = append(group.InitContainers, providers.Container{Resources: r})
		}
		got := burstable.SoldSize(&pod, &capabilities)
		cpu, memory := sum(cpuShares(&group))*milliCPUPerStep, sum(memoryShares(&group))*bytesPerStep
		if got.MilliCPU != cpu || got.MemoryBytes != memory {
			t.Fatalf("counted as %+v, bought %d and %d", got, cpu, memory)
		}
	})
}
