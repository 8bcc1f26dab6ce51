package policy

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
)

// Usage is what pods take of a node: resources as whole numbers, which add and subtract without the
// cost of quantities: CPU in thousandths, everything else in its own unit.
type Usage struct {
	milliCPU, memory, storage, pods int64
	// other holds extended resources and huge pages; nil where there are none.
	other map[corev1.ResourceName]int64
}

// usageOf reads a list of resources.
func usageOf(list corev1.ResourceList) Usage {
	var a Usage
	for name, q := range list {
		switch name {
		case corev1.ResourceCPU:
			a.milliCPU = q.MilliValue()
		case corev1.ResourceMemory:
			a.memory = q.Value()
		case corev1.ResourceEphemeralStorage:
			a.storage = q.Value()
		case corev1.ResourcePods:
			a.pods = q.Value()
		default:
			if a.other == nil {
				a.other = make(map[corev1.ResourceName]int64, 1)
			}
			a.other[name] = q.Value()
		}
	}
	return a
}

// UsageOf is what a bound pod takes from its node, as the scheduler counts it:
// during a resize in place the larger of what is asked for and what is allocated.
func UsageOf(p *corev1.Pod) Usage {
	a := usageOf(RequestsOf(p))
	a.pods = 1
	return a
}

// RequestsOf is UsageOf as a list of resources.
func RequestsOf(p *corev1.Pod) corev1.ResourceList {
	return resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{
		UseStatusResources: len(p.Status.ContainerStatuses)+len(p.Status.InitContainerStatuses) > 0,
	})
}

// Add adds b times sign, which is 1 or -1. Names that come to zero are removed,
// so that equal sums are equal values.
func (a *Usage) Add(b Usage, sign int64) {
	a.milliCPU += sign * b.milliCPU
	a.memory += sign * b.memory
	a.storage += sign * b.storage
	a.pods += sign * b.pods
	for name, n := range b.other {
		if a.other == nil {
			a.other = make(map[corev1.ResourceName]int64, len(b.other))
		}
		if a.other[name] += sign * n; a.other[name] == 0 {
			delete(a.other, name)
		}
	}
}

// Equal compares all resources.
func (a Usage) Equal(b Usage) bool {
	return a.milliCPU == b.milliCPU && a.memory == b.memory && a.storage == b.storage &&
		a.pods == b.pods && maps.Equal(a.other, b.other)
}

// Pods is how many pods it is of.
func (a Usage) Pods() int64 { return a.pods }

// Left is what is left of allocatable when the usage is taken away. Names that
// allocatable does not have stay absent: the node has none of them.
func (a Usage) Left(allocatable corev1.ResourceList) corev1.ResourceList {
	left := make(corev1.ResourceList, len(allocatable))
	for name, q := range allocatable {
		switch name {
		case corev1.ResourceCPU:
			left[name] = *resource.NewMilliQuantity(q.MilliValue()-a.milliCPU, resource.DecimalSI)
		case corev1.ResourceMemory:
			left[name] = *resource.NewQuantity(q.Value()-a.memory, resource.BinarySI)
		case corev1.ResourceEphemeralStorage:
			left[name] = *resource.NewQuantity(q.Value()-a.storage, resource.BinarySI)
		case corev1.ResourcePods:
			left[name] = *resource.NewQuantity(q.Value()-a.pods, resource.DecimalSI)
		default:
			left[name] = *resource.NewQuantity(q.Value()-a.other[name], q.Format)
		}
	}
	return left
}
