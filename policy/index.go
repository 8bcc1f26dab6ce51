package policy

import (
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Index finds the policies that select a pod without asking each of them. It
// belongs to one set of policies and namespaces; many goroutines use it.
type Index struct {
	policies   map[string][]*Policy
	namespaces map[string]Namespace
	// made holds a *namespaceIndex for each namespace that was asked for. Of
	// thousands of namespaces few have pods created between two changes of the
	// rules.
	made sync.Map
}

// NewIndex makes an index of policies by namespace, as in Snapshot.Policies.
// Neither argument may change afterwards.
func NewIndex(policies map[string][]*Policy, namespaces map[string]Namespace) *Index {
	return &Index{policies: policies, namespaces: namespaces}
}

// namespaceIndex is what the policies are to the pods of one namespace.
type namespaceIndex struct {
	own, cluster ranked
	// limited are those with limits, none of mode Never.
	limited byLabel
	// sizing are those that stamp annotations which say what is bought for a pod.
	sizing  []*Policy
	optedIn bool
}

func (x *Index) namespace(name string) *namespaceIndex {
	if known, ok := x.made.Load(name); ok {
		return known.(*namespaceIndex)
	}
	ns := x.namespaces[name]
	made := &namespaceIndex{own: rank(x.policies[name], ns.Labels), cluster: rank(x.policies[""], ns.Labels)}
	made.optedIn = len(made.own.others.policies)+len(made.cluster.others.policies) > 0
	if validMode(ns.Mode) {
		made.optedIn = ns.Mode != v1alpha1.ModeNever
	}
	for _, ps := range [...][]*Policy{made.own.others.policies, made.cluster.others.policies} {
		for _, p := range ps {
			if p.limited() {
				made.limited.add(p)
			}
			if slices.ContainsFunc(p.Targets, func(t Target) bool { return len(t.sizing()) > 0 }) {
				made.sizing = append(made.sizing, p)
			}
		}
	}
	known, _ := x.made.LoadOrStore(name, made)
	return known.(*namespaceIndex)
}

// ranked are the policies that reach a namespace, in the order in which they
// decide: those of mode Never, which win, and the others.
type ranked struct{ never, others byLabel }

// rank leaves out the policies that do not reach a namespace with these labels,
// and invalid ones that forbid nothing.
func rank(ps []*Policy, ns labels.Set) ranked {
	var r ranked
	for _, p := range ps {
		if !p.selectsNamespace(ns) {
			continue
		}
		switch {
		case p.Mode == v1alpha1.ModeNever:
			r.never.add(p)
		case p.Invalid == "":
			r.others.add(p)
		}
	}
	return r
}

// byLabel are policies in order, and where to find those that may select a pod by
// one label of it.
type byLabel struct {
	policies []*Policy
	// Places in policies, each list ascending: of those that demand a label to have
	// a value, of those that demand a label to be there, and of the others.
	valued  map[label][]int
	present map[string][]int
	rest    []int
}

type label struct{ key, value string }

func (b *byLabel) add(p *Policy) {
	place := len(b.policies)
	b.policies = append(b.policies, p)
	requirements, selectable := p.PodSelector.Requirements()
	if !selectable { // selects nothing
		return
	}
	for i := range requirements {
		switch requirements[i].Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			if b.valued == nil {
				b.valued = make(map[label][]int)
			}
			for value := range requirements[i].Values() {
				at := label{requirements[i].Key(), value}
				b.valued[at] = append(b.valued[at], place)
			}
			return
		case selection.Exists:
			if b.present == nil {
				b.present = make(map[string][]int)
			}
			b.present[requirements[i].Key()] = append(b.present[requirements[i].Key()], place)
			return
		}
	}
	b.rest = append(b.rest, place)
}

// first gives the first policy that selects a pod with these labels, or nil.
func (b *byLabel) first(pod labels.Set) *Policy {
	best := b.better(b.rest, len(b.policies), pod)
	if len(b.valued)+len(b.present) > 0 {
		for key, value := range pod {
			best = b.better(b.valued[label{key, value}], best, pod)
			best = b.better(b.present[key], best, pod)
		}
	}
	if best == len(b.policies) {
		return nil
	}
	return b.policies[best]
}

// better is the first of the places before best whose policy selects the pod,
// else best.
func (b *byLabel) better(places []int, best int, pod labels.Set) int {
	for _, i := range places {
		if i >= best {
			break
		}
		if b.policies[i].PodSelector.Matches(pod) {
			return i
		}
	}
	return best
}
