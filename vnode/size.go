package vnode

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// soldSize is what the cloud sells for a pod: what it says of the pod's group, else
// what its sizes make of the pod.
func (r *reconciler) soldSize(v view) burstable.Size {
	caps := r.provider.Capabilities()
	size := burstable.SoldSize(&v.pod.Spec, &caps)
	var told *providers.GroupStatus
	if len(v.groups) > 0 {
		told = v.groups[0].group.Status
	}
	if told != nil && told.CPUMillis > 0 && told.MemoryBytes > 0 {
		size.MilliCPU, size.MemoryBytes = told.CPUMillis, told.MemoryBytes
	}
	return size
}

// sizeAnnotation is the text of [v1alpha1.SizeAnnotation], empty where nothing is
// known of the size.
func sizeAnnotation(size burstable.Size) string {
	list := corev1.ResourceList{}
	if size.MilliCPU > 0 {
		list[corev1.ResourceCPU] = *resource.NewMilliQuantity(size.MilliCPU, resource.DecimalSI)
	}
	if size.MemoryBytes > 0 {
		// In the cloud's own units, which are those that need fewer digits.
		memory := resource.NewQuantity(size.MemoryBytes, resource.BinarySI)
		if decimal := resource.NewQuantity(size.MemoryBytes, resource.DecimalSI); len(decimal.String()) < len(memory.String()) {
			memory = decimal
		}
		list[corev1.ResourceMemory] = *memory
	}
	if len(list) == 0 {
		return ""
	}
	b, err := json.Marshal(list)
	if err != nil { // only quantities: cannot fail
		panic(err)
	}
	return string(b)
}

// notes are the annotations that go with a pod's status: they cost no write of their
// own, as a write of the status may change them too.
func (r *reconciler) notes(v view) map[string]string {
	text := sizeAnnotation(r.soldSize(v))
	if text == "" || v.pod.Annotations[v1alpha1.SizeAnnotation] == text {
		return nil
	}
	return map[string]string{v1alpha1.SizeAnnotation: text}
}
