package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// setNamespace takes in the newest state of a namespace.
func (s *Store) setNamespace(n *corev1.Namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := policy.NewNamespace(n)
	before, known := s.namespaces[n.Name]
	if known && before.Mode == now.Mode && maps.Equal(before.Labels, now.Labels) {
		return
	}
	s.namespaces[n.Name] = now
	s.mark(namespaceSection | s.termsBySelector())
}

// dropNamespace forgets a namespace.
func (s *Store) dropNamespace(n *corev1.Namespace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.namespaces, n.Name)
	s.mark(namespaceSection | s.termsBySelector())
}

// termsBySelector is the section of the terms when any depends on the labels of
// namespaces. The lock is held.
func (s *Store) termsBySelector() section {
	if s.terms.BySelector() {
		return termSection
	}
	return 0
}

// policyVersion tells apart the states of a policy that matter to the rules. The
// counts in its status change neither.
type policyVersion struct {
	uid        types.UID
	generation int64
	open       bool
	suspended  string
	moves      string
}

// policyEntry is a compiled policy and what it was compiled from.
type policyEntry struct {
	version  policyVersion
	compiled *policy.Policy
	usage    map[policy.Account]policy.Amount
}

// setPolicy takes in the newest state of a policy, which compile compiles.
func (s *Store) setPolicy(meta metav1.Object, status *v1alpha1.BurstPolicyStatus, compile func() *policy.Policy) {
	version := policyVersion{
		uid:        meta.GetUID(),
		generation: meta.GetGeneration(),
		open:       policy.IsUnderPressure(status.Conditions),
		suspended:  suspensions(status.Targets),
		moves:      movesOf(status.Moves),
	}
	key := policyKey{meta.GetNamespace(), meta.GetName()}
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.policies[key]
	if ok && known.version == version {
		if usage := policy.UsageIn(known.compiled.Ref, status); !maps.Equal(usage, known.usage) {
			known.usage = usage
			s.policies[key] = known
			s.mark(usageSection)
		}
		return
	}
	compiled := compile()
	compiled.PressureOpen = version.open
	compiled.Suspend(status.Targets)
	s.policies[key] = policyEntry{version, compiled, policy.UsageIn(compiled.Ref, status)}
	s.mark(policySection | usageSection)
}

// movesOf tells apart the states of what a policy remembers as moved.
func movesOf(moves []v1alpha1.Move) string {
	var b strings.Builder
	for i := range moves {
		m := &moves[i]
		fmt.Fprintf(&b, "%s %d %t %d\n", m.UID, m.Time.Unix(), m.HeldUntil != nil, m.Next.Unix())
	}
	return b.String()
}

// suspensions tells apart the states of targets as far as they are suspended.
func suspensions(targets []v1alpha1.TargetStatus) string {
	var b strings.Builder
	for i := range targets {
		if t := &targets[i]; t.SuspendedUntil != nil {
			fmt.Fprintf(&b, "%s %d %s\n", t.Name, t.SuspendedUntil.Unix(), t.Reason)
		}
	}
	return b.String()
}

// dropPolicy forgets a policy.
func (s *Store) dropPolicy(meta metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.policies, policyKey{meta.GetNamespace(), meta.GetName()})
	s.mark(policySection | usageSection)
}

// rebuild publishes a Snapshot in which the dirty sections, and those given, are
// made anew and the others are shared with the one before.
func (s *Store) rebuild(also section) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dirty := s.dirty | also
	if dirty == 0 {
		return
	}
	s.dirty = 0
	next := *s.snapshot.Load()
	if dirty&namespaceSection != 0 {
		next.Namespaces = maps.Clone(s.namespaces)
	}
	if dirty&policySection != 0 {
		next.Policies = s.sortedPolicies()
	}
	if dirty&(namespaceSection|policySection) != 0 {
		next.Index = policy.NewIndex(next.Policies, next.Namespaces)
	}
	if dirty&(nodeSection|roomSection) != 0 {
		next.VirtualNodes = s.virtualNodes()
		next.LocalSoftTaint = len(s.softTaints) > 0
	}
	if dirty&termSection != 0 {
		next.InterPodTerms = s.terms.List(s.namespaces)
	}
	if dirty&switchSection != 0 {
		next.Stopped = s.stopped
	}
	if dirty&leaseSection != 0 {
		next.ControllerLive = s.lease.live
	}
	if dirty&usageSection != 0 {
		next.Usage = make(map[policy.Account]policy.Amount)
		for _, p := range s.policies {
			maps.Copy(next.Usage, p.usage)
		}
	}
	s.snapshot.Store(&next)
	if dirty&lateSections != 0 {
		for _, l := range s.listeners {
			l.RulesChanged()
		}
	}
}

// sortedPolicies lists the policies of each namespace in the order in which they
// decide. The lock is held.
func (s *Store) sortedPolicies() map[string][]*policy.Policy {
	out := make(map[string][]*policy.Policy)
	for key, p := range s.policies {
		out[key.namespace] = append(out[key.namespace], p.compiled)
	}
	for _, list := range out {
		policy.Sort(list)
	}
	return out
}

// virtualNodes lists the virtual nodes by name, with their room. The lock is
// held.
func (s *Store) virtualNodes() []*policy.VirtualNode {
	out := make([]*policy.VirtualNode, 0, len(s.virtual))
	for _, a := range s.virtual {
		if a.shown == nil {
			a.shown = policy.NewVirtualNode(a.node)
		}
		n := *a.shown
		n.Free = a.used.Left(a.node.Status.Allocatable)
		out = append(out, &n)
	}
	slices.SortFunc(out, func(a, b *policy.VirtualNode) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
