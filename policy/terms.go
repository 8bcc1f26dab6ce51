package policy

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Terms counts the inter-pod affinity terms of the pods in the cluster. The
// replicas of a workload share one. The zero value is empty.
type Terms struct {
	byKey map[string]*countedTerm
}

// countedTerm is one distinct term and how many pods have it.
type countedTerm struct {
	pods       int
	all        bool            // every namespace
	namespaces map[string]bool // those named
	// bySelector selects further namespaces by their labels; nil selects none.
	bySelector labels.Selector
	selector   labels.Selector
}

// Add counts the pod's terms that pull or push other pods in the scheduler's
// scores, and returns their keys, each once, and whether any is new.
func (t *Terms) Add(p *corev1.Pod) (keys []string, grew bool) {
	scoringTerms(p, func(podTerm *corev1.PodAffinityTerm) {
		if podTerm.LabelSelector == nil { // matches no pod
			return
		}
		key := termKey(p.Namespace, podTerm)
		if slices.Contains(keys, key) {
			return
		}
		known, ok := t.byKey[key]
		if !ok {
			known, ok = newTerm(p.Namespace, podTerm)
			if !ok {
				return
			}
			if t.byKey == nil {
				t.byKey = make(map[string]*countedTerm)
			}
			t.byKey[key] = known
			grew = true
		}
		known.pods++
		keys = append(keys, key)
	})
	return keys, grew
}

// Remove takes back what Add returned.
func (t *Terms) Remove(keys []string) (shrank bool) {
	for _, key := range keys {
		known := t.byKey[key]
		if known.pods--; known.pods == 0 {
			delete(t.byKey, key)
			shrank = true
		}
	}
	return shrank
}

// BySelector tells whether any term depends on the labels of namespaces.
func (t *Terms) BySelector() bool {
	for _, k := range t.byKey {
		if k.bySelector != nil {
			return true
		}
	}
	return false
}

// List is the terms with namespace selectors resolved.
func (t *Terms) List(namespaces map[string]Namespace) []InterPodTerm {
	keys := make([]string, 0, len(t.byKey))
	for key := range t.byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	out := make([]InterPodTerm, 0, len(keys))
	for _, key := range keys {
		k := t.byKey[key]
		named := k.namespaces
		if k.bySelector != nil {
			named = make(map[string]bool, len(k.namespaces))
			for name := range k.namespaces {
				named[name] = true
			}
			for name, ns := range namespaces {
				if k.bySelector.Matches(ns.Labels) {
					named[name] = true
				}
			}
		}
		out = append(out, InterPodTerm{Namespaces: named, All: k.all, Selector: k.selector})
	}
	return out
}

// scoringTerms calls f with every term of the pod that enters the scheduler's scores of
// other pods. Required anti-affinity filters nodes, but never scores them.
func scoringTerms(p *corev1.Pod, f func(*corev1.PodAffinityTerm)) {
	a := p.Spec.Affinity
	if a == nil {
		return
	}
	if a.PodAffinity != nil {
		for i := range a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			f(&a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution[i])
		}
		for i := range a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			f(&a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
	if a.PodAntiAffinity != nil {
		for i := range a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			f(&a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[i].PodAffinityTerm)
		}
	}
}

// termKey is equal for equal terms. The topology key and the weight do not matter:
// a term in any topology pulls.
func termKey(namespace string, t *corev1.PodAffinityTerm) string {
	var b strings.Builder
	if t.NamespaceSelector == nil && len(t.Namespaces) == 0 {
		b.WriteString(namespace)
	}
	for _, ns := range slices.Sorted(slices.Values(t.Namespaces)) {
		b.WriteString(ns)
		b.WriteByte(',')
	}
	b.WriteByte('|')
	if t.NamespaceSelector != nil {
		b.WriteString(metav1.FormatLabelSelector(t.NamespaceSelector))
	}
	b.WriteByte('|')
	b.WriteString(metav1.FormatLabelSelector(t.LabelSelector))
	return b.String()
}

// newTerm reads a term. It reports false for one whose selectors are invalid.
func newTerm(namespace string, t *corev1.PodAffinityTerm) (*countedTerm, bool) {
	selector, err := metav1.LabelSelectorAsSelector(t.LabelSelector)
	if err != nil { // the API server refuses it
		return nil, false
	}
	k := &countedTerm{selector: selector, namespaces: make(map[string]bool, len(t.Namespaces)+1)}
	for _, ns := range t.Namespaces {
		k.namespaces[ns] = true
	}
	switch {
	case t.NamespaceSelector == nil:
		if len(t.Namespaces) == 0 {
			k.namespaces[namespace] = true
		}
	case len(t.NamespaceSelector.MatchLabels)+len(t.NamespaceSelector.MatchExpressions) == 0:
		k.all = true
	default:
		if k.bySelector, err = metav1.LabelSelectorAsSelector(t.NamespaceSelector); err != nil {
			return nil, false
		}
	}
	return k, true
}
