package store

import (
	"fmt"
	"reflect"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// What pods have in common is shared, and no pod becomes another one by it.
func TestInternedPodsAreEqualAndShare(t *testing.T) {
	shared := newInterner()
	list := func(cpu, storage string) corev1.ResourceList {
		l := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}
		if storage != "" {
			l[corev1.ResourceEphemeralStorage] = resource.MustParse(storage)
		}
		return l
	}
	// More lists of one CPU than are known at once.
	var all []*corev1.Pod
	for i := range 3 * alike {
		for _, l := range []corev1.ResourceList{list("1", ""), list("1000m", ""), list("1", fmt.Sprint(i+1, "Gi")), list("2", ""), nil} {
			p := &corev1.Pod{}
			p.Name, p.Namespace = fmt.Sprint("p-", i), fmt.Sprint("shop", "")
			p.Labels = map[string]string{fmt.Sprint("ap", "p"): fmt.Sprint("web-", i%2)}
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: fmt.Sprint("web-", i%3), UID: types.UID(fmt.Sprint(i % 3)), Controller: ptr.To(true)}}
			p.Spec.NodeName, p.Spec.Overhead = fmt.Sprint("node-", i%3), l
			want := p.DeepCopy()
			shared.pod(p)
			if diff := cmp.Diff(want, p); diff != "" {
				t.Fatalf("an interned pod (-want +got):\n%s", diff)
			}
			all = append(all, p)
		}
	}
	first, last := all[0], all[len(all)-1]
	if unsafe.StringData(first.Namespace) != unsafe.StringData(last.Namespace) {
		t.Error("two pods of a namespace do not share its name")
	}
	if sixth := all[5*6]; &first.OwnerReferences[0] != &sixth.OwnerReferences[0] || reflect.ValueOf(first.Labels).Pointer() != reflect.ValueOf(sixth.Labels).Pointer() {
		t.Error("two pods of a ReplicaSet do not share their owner and labels")
	}
}
