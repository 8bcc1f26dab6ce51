package policy

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// limited is true when the policy or a target of it has limits.
func (p *Policy) limited() bool {
	if p.Limits != NoLimits {
		return true
	}
	for i := range p.Targets {
		if p.Targets[i].Limits != NoLimits {
			return true
		}
	}
	return false
}

// each calls f with every policy that selects a pod with these labels, in order.
func (b *byLabel) each(pod labels.Set, f func(*Policy)) {
	var hits []int
	at := func(places []int) {
		for _, i := range places {
			if b.policies[i].PodSelector.Matches(pod) {
				hits = append(hits, i)
			}
		}
	}
	at(b.rest)
	if len(b.valued)+len(b.present) > 0 {
		for key, value := range pod {
			at(b.valued[label{key, value}])
			at(b.present[key])
		}
	}
	slices.Sort(hits)
	for _, i := range hits {
		f(b.policies[i])
	}
}

// Accounts are the limits of all policies that select pods.
func (s *Snapshot) Accounts() map[Account]Limits {
	out := make(map[Account]Limits)
	for _, ps := range s.Policies {
		for _, p := range ps {
			if p.Invalid != "" || p.Mode == v1alpha1.ModeNever {
				continue
			}
			if p.Limits != NoLimits {
				out[Account{Policy: p.Ref}] = p.Limits
			}
			for i := range p.Targets {
				if p.Targets[i].Limits != NoLimits {
					out[Account{p.Ref, p.Targets[i].Name}] = p.Targets[i].Limits
				}
			}
		}
	}
	return out
}

// ChargesOf is what an unfinished pod of the API server counts against: it is
// bound to a virtual node, or bears the tolerations of one and so may be bound to
// it any moment. The function tells whether a node that is not virtual exists; a
// granted pod on a node that is gone counts on.
func ChargesOf(s *Snapshot, pod *corev1.Pod, isLocal func(node string) bool) []Charge {
	if s.Excluded[pod.Namespace] || pod.Annotations[corev1.MirrorPodAnnotationKey] != "" || ownedByDaemonSet(pod) {
		return nil
	}
	if _, known := s.Namespaces[pod.Namespace]; !known {
		return nil
	}
	rules := s.rules(pod.Namespace)
	if len(rules.limited.policies) == 0 {
		return nil
	}
	if name := pod.Spec.NodeName; name != "" {
		for _, n := range s.VirtualNodes {
			if n.Name == name {
				return chargesOn(rules, pod, []*VirtualNode{n})
			}
		}
		if pod.Annotations[v1alpha1.GrantAnnotation] == "" || isLocal(name) {
			return nil
		}
		return chargesOn(rules, pod, []*VirtualNode{{Name: name}})
	}
	var nodes []*VirtualNode
	r := requiredOf(pod)
	for _, n := range s.VirtualNodes {
		if opens(pod, &Decision{}, n, r) {
			nodes = append(nodes, n)
		}
	}
	if len(nodes) == 0 {
		return nil
	}
	return chargesOn(rules, pod, nodes)
}

// charges is what a grant counts against: the nodes that it opens to the pod,
// ready or not.
func charges(s *Snapshot, namespace string, pod *corev1.Pod, d *Decision, c *candidates) []Charge {
	rules := s.rules(namespace)
	if len(rules.limited.policies) == 0 {
		return nil
	}
	var nodes []*VirtualNode
	for _, n := range s.VirtualNodes {
		if inTargets(c.targets, n) && opens(pod, d, n, c.required) {
			nodes = append(nodes, n)
		}
	}
	return chargesOn(rules, pod, nodes)
}

// chargesOn is what a pod takes of each limited account when it runs on one of
// the nodes, it is not known which: the largest size of any.
func chargesOn(rules *namespaceIndex, pod *corev1.Pod, nodes []*VirtualNode) []Charge {
	var out []Charge
	charge := func(of Account, on func(*VirtualNode) bool) {
		var size Amount
		for _, n := range nodes {
			if on != nil && !on(n) {
				continue
			}
			size = size.Max(rules.sold(pod, n))
		}
		if size.Pods > 0 {
			out = append(out, Charge{of, size})
		}
	}
	rules.limited.each(pod.Labels, func(p *Policy) {
		if p.Limits != NoLimits {
			charge(Account{Policy: p.Ref}, nil)
		}
		for i := range p.Targets {
			if t := &p.Targets[i]; t.Limits != NoLimits {
				charge(Account{p.Ref, t.Name}, func(n *VirtualNode) bool { return t.Selector.Matches(n.Labels) })
			}
		}
	})
	return out
}

// sold is what the cloud of a node sells for a pod. Who grants it may stamp it, when
// it is bound, with annotations that say what to buy: of all that may, the largest.
func (x *namespaceIndex) sold(pod *corev1.Pod, n *VirtualNode) Amount {
	of := func(pod *corev1.Pod) Amount {
		sold := burstable.SoldTo(pod, n.Capabilities)
		return Amount{1, sold.MilliCPU, sold.MemoryBytes}
	}
	most := of(pod)
	for _, p := range x.sizing {
		i := slices.IndexFunc(p.Targets, func(t Target) bool { return t.Selector.Matches(n.Labels) })
		if i < 0 {
			continue
		}
		if stamp := p.Targets[i].sizing(); len(stamp) > 0 {
			stamped := *pod
			stamped.Annotations = stamp // not the snapshot's
			maps.Copy(stamped.Annotations, pod.Annotations)
			most = most.Max(of(&stamped))
		}
	}
	return most
}

// sizing are those of a target's annotations that say what is bought for a pod.
func (t *Target) sizing() map[string]string {
	var out map[string]string
	for k, v := range t.Annotations {
		if burstable.SizeAnnotation(k) {
			if out == nil {
				out = map[string]string{}
			}
			out[k] = v
		}
	}
	return out
}

// limitsOf finds the limits of an account among the policies.
func (s *Snapshot) limitsOf(of Account) Limits {
	for _, p := range s.Policies[of.Policy.Namespace] {
		if p.Ref != of.Policy {
			continue
		}
		if of.Target == "" {
			return p.Limits
		}
		for i := range p.Targets {
			if p.Targets[i].Name == of.Target {
				return p.Targets[i].Limits
			}
		}
	}
	return NoLimits
}

// withinLimits charges a grant, and withholds it where a limit is known to be
// reached.
func withinLimits(s *Snapshot, namespace string, pod *corev1.Pod, d Decision, c *candidates) Decision {
	if d.Action != Grant {
		return d
	}
	d.Charges = charges(s, namespace, pod, &d, c)
	for _, charge := range d.Charges {
		if used, known := s.Usage[charge.Account]; known {
			if limits := s.limitsOf(charge.Account); !limits.Allow(used.Plus(charge.Amount)) {
				return d.OverLimit(charge.Account, used, limits)
			}
		}
	}
	return d
}

// OverLimit is the decision that waits for room under a limit.
func (d Decision) OverLimit(of Account, used Amount, limits Limits) Decision {
	var more Amount
	for _, c := range d.Charges {
		if c.Account == of {
			more = c.Amount
		}
	}
	detail := fmt.Sprintf("It is that of %s.", of.describe())
	if what, usedText, limitText, over := limits.Over(used, more); over {
		detail = fmt.Sprintf("It is %s %s of %s, of which %s are taken; the pod is granted in its turn when others end, or raise the limit.",
			what, limitText, of.describe(), usedText)
	}
	return d.with(Wait, LimitReached, detail)
}

// Withheld is the decision that leaves the grant to the controller, as room under
// a limit could not be had in time.
func (d Decision) Withheld() Decision {
	var of string
	if len(d.Charges) > 0 {
		of = fmt.Sprintf("The first limit that binds it is that of %s.", d.Charges[0].Account.describe())
	}
	if d.NodeAutoscaler == v1alpha1.BurstFirst {
		d.ScaleUpDelay = burstHeadStart
	}
	return d.with(Wait, LimitWithheld, of)
}

// UsageIn reads from the status of a policy what counts against its limits.
func UsageIn(by Ref, status *v1alpha1.BurstPolicyStatus) map[Account]Amount {
	var out map[Account]Amount
	note := func(of Account, u *v1alpha1.Usage) {
		if u == nil {
			return
		}
		if out == nil {
			out = make(map[Account]Amount, 1)
		}
		out[of] = Amount{u.Pods, u.CPU.MilliValue(), u.Memory.Value()}
	}
	note(Account{Policy: by}, status.Usage)
	for i := range status.Targets {
		note(Account{by, status.Targets[i].Name}, status.Targets[i].Usage)
	}
	return out
}

func (s *Snapshot) addUsage(by Ref, status *v1alpha1.BurstPolicyStatus) {
	for of, amount := range UsageIn(by, status) {
		if s.Usage == nil {
			s.Usage = make(map[Account]Amount)
		}
		s.Usage[of] = amount
	}
}

// SharesOf says from which shares a pod was granted; "" for none.
func SharesOf(pod *corev1.Pod) string { return pod.Annotations[v1alpha1.ShareAnnotation] }
