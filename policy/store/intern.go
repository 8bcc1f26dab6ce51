package store

import (
	"maps"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// internMax bounds how many values an interner knows. When it is full it starts
// anew, as some values, such as labels that name single pods, do not come again.
const internMax = 1 << 16

// interner lets pods share what many of them have in common: decoded objects
// share nothing by themselves. What it hands out must not be changed.
type interner struct {
	mu       sync.Mutex
	texts    map[string]string
	labels   map[string]map[string]string
	owners   map[types.UID][]metav1.OwnerReference
	requests map[common][]corev1.ResourceList
	key      []byte // of the last labels; its memory is used again
}

// alike bounds how many lists with the same CPU and memory are known.
const alike = 8

// common tells apart the lists of requests that most pods have.
type common struct{ milliCPU, memory int64 }

func newInterner() *interner {
	return &interner{
		texts: make(map[string]string), labels: make(map[string]map[string]string),
		owners: make(map[types.UID][]metav1.OwnerReference), requests: make(map[common][]corev1.ResourceList),
	}
}

// pod replaces values of a trimmed pod by equal ones that other pods have.
func (x *interner) pod(p *corev1.Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p.Namespace, p.Spec.NodeName = x.text(p.Namespace), x.text(p.Spec.NodeName)
	p.Labels = x.labelsOf(p.Labels)
	p.OwnerReferences = x.ownersOf(p.OwnerReferences)
	p.Spec.Overhead = x.list(p.Spec.Overhead)
}

func (x *interner) text(s string) string {
	if s == "" {
		return ""
	}
	if known, ok := x.texts[s]; ok {
		return known
	}
	if len(x.texts) >= internMax {
		clear(x.texts)
	}
	x.texts[s] = s
	return s
}

// labelsOf shares whole sets of labels: the pods of a ReplicaSet have the same.
func (x *interner) labelsOf(labels map[string]string) map[string]string {
	if len(labels) == 0 {
		return nil
	}
	x.key = x.key[:0]
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		x.key = append(append(append(append(x.key, k...), 0), labels[k]...), 0) // in neither
	}
	if known, ok := x.labels[string(x.key)]; ok {
		return known
	}
	shared := make(map[string]string, len(labels))
	for k, v := range labels {
		shared[x.text(k)] = x.text(v)
	}
	if len(x.labels) >= internMax {
		clear(x.labels)
	}
	x.labels[string(x.key)] = shared
	return shared
}

// ownersOf shares the one controller that a trimmed pod has.
func (x *interner) ownersOf(owners []metav1.OwnerReference) []metav1.OwnerReference {
	if len(owners) != 1 {
		return owners
	}
	uid := owners[0].UID
	if known, ok := x.owners[uid]; ok && equality.Semantic.DeepEqual(known, owners) {
		return known
	}
	if len(x.owners) >= internMax {
		clear(x.owners)
	}
	x.owners[uid] = owners
	return owners
}

func (x *interner) list(l corev1.ResourceList) corev1.ResourceList {
	if len(l) == 0 {
		return nil
	}
	key := common{l.Cpu().MilliValue(), l.Memory().Value()}
	for _, known := range x.requests[key] {
		if sameList(known, l) {
			return known
		}
	}
	if len(x.requests) >= internMax || len(x.requests[key]) >= alike {
		clear(x.requests)
	}
	x.requests[key] = append(x.requests[key], l)
	return l
}

func sameList(a, b corev1.ResourceList) bool {
	if len(a) != len(b) {
		return false
	}
	for name, q := range a {
		if o, ok := b[name]; !ok || o.Cmp(q) != 0 {
			return false
		}
	}
	return true
}
