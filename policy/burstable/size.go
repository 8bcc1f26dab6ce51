package burstable

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Size is what a pod takes from a cloud, before the cloud rounds it up.
type Size struct {
	// MilliCPU is in thousandths of a vCPU, zero where the pod names none.
	MilliCPU int64 `json:"milliCPU"`
	// MemoryBytes and EphemeralStorageBytes are zero where the pod names none.
	MemoryBytes           int64 `json:"memoryBytes"`
	EphemeralStorageBytes int64 `json:"ephemeralStorageBytes,omitempty"`
}

// SizeOf adds up the containers as Kubernetes does: the greater of the sum of
// the containers and of the largest init container. A container counts with the
// greater of its request and its limit, since in a cloud there is no one to
// borrow from: what a container may use must have been bought.
func SizeOf(spec *corev1.PodSpec) Size {
	var sum, init Size
	for i := range spec.Containers {
		sum = sum.plus(ContainerSize(&spec.Containers[i].Resources))
	}
	for i := range spec.InitContainers {
		s := ContainerSize(&spec.InitContainers[i].Resources)
		if IsSidecar(&spec.InitContainers[i]) {
			sum = sum.plus(s) // none that ends comes after it
			continue
		}
		init = init.atLeast(s)
	}
	return sum.atLeast(init)
}

// ContainerSize is the greater of the request and the limit of one container.
func ContainerSize(r *corev1.ResourceRequirements) Size {
	return sizeOfList(r.Requests).atLeast(sizeOfList(r.Limits))
}

func (s Size) plus(o Size) Size {
	return Size{
		MilliCPU:              s.MilliCPU + o.MilliCPU,
		MemoryBytes:           s.MemoryBytes + o.MemoryBytes,
		EphemeralStorageBytes: s.EphemeralStorageBytes + o.EphemeralStorageBytes,
	}
}

func (s Size) atLeast(o Size) Size {
	return Size{
		MilliCPU:              max(s.MilliCPU, o.MilliCPU),
		MemoryBytes:           max(s.MemoryBytes, o.MemoryBytes),
		EphemeralStorageBytes: max(s.EphemeralStorageBytes, o.EphemeralStorageBytes),
	}
}

func sizeOfList(l corev1.ResourceList) Size {
	if len(l) == 0 {
		return Size{}
	}
	cpu, memory, disk := l[corev1.ResourceCPU], l[corev1.ResourceMemory], l[corev1.ResourceEphemeralStorage]
	return Size{MilliCPU: cpu.MilliValue(), MemoryBytes: memory.Value(), EphemeralStorageBytes: disk.Value()}
}

// sizes compares the pod's size with the limits.
func (c *checker) sizes(root *path, spec *corev1.PodSpec) {
	limits := &c.caps.Limits
	size := SizeOf(spec)
	if most := limits.MilliCPU; most > 0 && size.MilliCPU > most {
		c.tooLarge(root, corev1.ResourceCPU,
			resource.NewMilliQuantity(size.MilliCPU, resource.DecimalSI), resource.NewMilliQuantity(most, resource.DecimalSI))
	}
	if most := limits.MemoryBytes; most > 0 && size.MemoryBytes > most {
		c.tooLarge(root, corev1.ResourceMemory,
			resource.NewQuantity(size.MemoryBytes, resource.BinarySI), resource.NewQuantity(most, resource.BinarySI))
	}
	if most := limits.EphemeralStorageBytes; most > 0 && size.EphemeralStorageBytes > most && c.caps.Has(EphemeralStorage) {
		c.tooLarge(root, corev1.ResourceEphemeralStorage,
			resource.NewQuantity(size.EphemeralStorageBytes, resource.BinarySI), resource.NewQuantity(most, resource.BinarySI))
	}
}

func (c *checker) tooLarge(root *path, name corev1.ResourceName, have, most *resource.Quantity) {
	c.lacks(root, "containers", fmt.Sprintf("gives a pod at most %s of %s; its containers ask for %s", most, name, have))
}

// resourceNames refuses resources that no cloud sells to a pod.
func (c *checker) resourceNames(at *path, field string, list corev1.ResourceList) {
	if len(list) == 0 {
		return
	}
	unknown := false
	for name := range list {
		switch name {
		case corev1.ResourceCPU, corev1.ResourceMemory:
		case resourceGPU:
			unknown = unknown || !c.caps.Has(GPU)
		case corev1.ResourceEphemeralStorage:
			if !c.caps.Has(EphemeralStorage) {
				c.lacks(at, field+"."+string(name), "does not sell disk space by request")
			}
		default:
			unknown = true
		}
	}
	if !unknown {
		return
	}
	// Sorted, so that the answer does not depend on the order of a map.
	var names []string
	for name := range list {
		if name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage &&
			(name != resourceGPU || !c.caps.Has(GPU)) {
			names = append(names, string(name))
		}
	}
	slices.Sort(names)
	for _, name := range names {
		c.never(at, field+"."+name, "sells cpu, memory and ephemeral-storage only")
	}
}
