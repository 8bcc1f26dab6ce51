package store

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/autoburst/autoburst/policy"
)

// account is one node and what its pods use.
type account struct {
	node    *corev1.Node // nil while only its pods are known
	used    policy.Usage
	virtual bool
	// shown is the virtual node without its room; nil when it must be made anew.
	shown *policy.VirtualNode
}

// account finds or opens the account of a node. The lock is held.
func (s *Store) account(name string) *account {
	a, ok := s.nodes[name]
	if !ok {
		a = &account{}
		s.nodes[name] = a
	}
	return a
}

// release closes the account of a node that is gone with all its pods. The lock
// is held.
func (s *Store) release(name string, a *account) {
	if a.node == nil && a.used.Pods() == 0 {
		delete(s.nodes, name)
	}
}

// setNode takes in the newest state of a node.
func (s *Store) setNode(n *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.account(n.Name)
	before := a.node
	if before != nil && sameNode(before, n) {
		return
	}
	a.node, a.shown = n, nil
	wasVirtual := a.virtual
	a.virtual = policy.IsVirtual(n)
	switch {
	case a.virtual:
		if s.locals.drop(n.Name) {
			s.shrank(n.Name)
		}
		s.virtual[n.Name] = a
		s.mark(nodeSection | roomSection)
	default:
		if wasVirtual {
			delete(s.virtual, n.Name)
			s.mark(nodeSection | roomSection)
		}
		if policy.IsReady(n) {
			s.locals.set(n.Name, a)
		} else {
			s.locals.drop(n.Name)
		}
		if before != nil { // it may have less room, or be open to fewer pods
			s.shrank(n.Name)
		}
	}
	s.noteSoftTaint(n.Name, !a.virtual && policy.IsReady(n) && policy.BearsSoftTaint(n))
}

// dropNode forgets a node. Its pods keep counting until they are gone, in case
// that it comes back.
func (s *Store) dropNode(n *corev1.Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.nodes[n.Name]
	if !ok || a.node == nil {
		return
	}
	a.node, a.shown = nil, nil
	if a.virtual {
		a.virtual = false
		delete(s.virtual, n.Name)
		s.mark(nodeSection | roomSection)
	}
	if s.locals.drop(n.Name) {
		s.shrank(n.Name)
	}
	s.noteSoftTaint(n.Name, false)
	s.release(n.Name, a)
}

// noteSoftTaint keeps the set of local nodes that bear a soft taint. The lock is
// held.
func (s *Store) noteSoftTaint(name string, bears bool) {
	before := len(s.softTaints) > 0
	if bears {
		s.softTaints[name] = true
	} else {
		delete(s.softTaints, name)
	}
	if before != (len(s.softTaints) > 0) {
		s.mark(nodeSection)
	}
}

// LocalNodes are the local nodes that are Ready and not cordoned, with what is
// free on each now. The slice and what it holds must not be changed.
func (s *Store) LocalNodes() []*policy.LocalNode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locals.list()
}

// locals are the ready local nodes in the form that the rules read. A list that
// was handed out is never changed; the next one shares all but what changed.
type locals struct {
	accounts map[string]*account
	index    map[string]int // place in order, while order holds
	order    []*policy.LocalNode
	stale    map[string]bool // nodes whose entry in order is out of date
	shared   bool            // order was handed out
}

// set adds a node, or notes that it changed.
func (l *locals) set(name string, a *account) {
	if l.accounts == nil {
		l.accounts = make(map[string]*account)
		l.stale = make(map[string]bool)
	}
	if _, ok := l.accounts[name]; !ok {
		l.index = nil
	}
	l.accounts[name] = a
	l.stale[name] = true
}

// touch notes that other pods are on a node.
func (l *locals) touch(name string) {
	if _, ok := l.accounts[name]; ok {
		l.stale[name] = true
	}
}

// drop removes a node and tells whether it was there.
func (l *locals) drop(name string) bool {
	if _, ok := l.accounts[name]; !ok {
		return false
	}
	delete(l.accounts, name)
	delete(l.stale, name)
	l.index = nil
	return true
}

// list brings the order up to date and hands it out.
func (l *locals) list() []*policy.LocalNode {
	if l.index == nil {
		known := make(map[string]*policy.LocalNode, len(l.order))
		for _, n := range l.order {
			known[n.Name] = n
		}
		l.order = make([]*policy.LocalNode, 0, len(l.accounts))
		for name, a := range l.accounts {
			n, ok := known[name]
			if !ok || l.stale[name] {
				n = localNode(a)
			}
			l.order = append(l.order, n)
		}
		slices.SortFunc(l.order, func(a, b *policy.LocalNode) int { return cmp.Compare(a.Name, b.Name) })
		l.index = make(map[string]int, len(l.order))
		for i, n := range l.order {
			l.index[n.Name] = i
		}
		clear(l.stale)
		l.shared = true
		return l.order
	}
	if len(l.stale) > 0 {
		if l.shared {
			l.order = slices.Clone(l.order)
		}
		for name := range l.stale {
			l.order[l.index[name]] = localNode(l.accounts[name])
		}
		clear(l.stale)
	}
	l.shared = true
	return l.order
}

// localNode shows a local node to the rules.
func localNode(a *account) *policy.LocalNode { return policy.NewLocalNode(a.node, a.used) }

// sameNode tells whether two trimmed nodes are equal to the rules.
func sameNode(a, b *corev1.Node) bool {
	return equality.Semantic.DeepEqual(a.Labels, b.Labels) &&
		equality.Semantic.DeepEqual(a.Annotations, b.Annotations) &&
		equality.Semantic.DeepEqual(a.Spec, b.Spec) &&
		equality.Semantic.DeepEqual(a.Status, b.Status)
}
