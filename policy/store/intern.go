package store

import (
	"sync"

	corev1 "k8s.io/api/core/v1"
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
	requests map[common][]corev1.ResourceList
}

// alike bounds how many lists with the same CPU and memory are known.
const alike = 8

// common tells apart the lists of requests that most pods have.
type common struct{ milliCPU, memory int64 }

func newInterner() *interner {
	return &interner{texts: make(map[string]string), requests: make(map[common][]corev1.ResourceList)}
}

// pod replaces values of a trimmed pod by equal ones that other pods have.
func (x *interner) pod(p *corev1.Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p.Namespace, p.Spec.NodeName = x.text(p.Namespace), x.text(p.Spec.NodeName)
	if len(p.Labels) > 0 {
		shared := make(map[string]string, len(p.Labels))
		for k, v := range p.Labels {
			shared[x.text(k)] = x.text(v)
		}
		p.Labels = shared
	}
	for i := range p.OwnerReferences {
		o := &p.OwnerReferences[i]
		*o = metav1.OwnerReference{
			APIVersion: x.text(o.APIVersion), Kind: x.text(o.Kind), Name: x.text(o.Name), UID: types.UID(x.text(string(o.UID))),
			Controller: o.Controller, BlockOwnerDeletion: o.BlockOwnerDeletion,
		}
	}
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
