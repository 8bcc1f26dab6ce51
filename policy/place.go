package policy

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// candidates is what the virtual nodes are to one pod.
type candidates struct {
	// target is the first with a node in ready.
	target *Target
	// ready nodes of that target can run the pod now. returning nodes, of any
	// target, could if they were ready.
	ready, returning []*VirtualNode
	// seen counts the nodes of the targets that were looked at.
	seen int
	// What stood in the way, of the first node each.
	refusals                     []burstable.Refusal
	refused, untainted, excluded string
	domainless                   string
	full                         string
	// barred nodes could run the pod, but their cloud has no room lately, or their
	// target is suspended; it is why in sentences.
	barred        []*VirtualNode
	barredBecause []string
	// required is the pod's own node selector and required node affinity.
	required required
	// targets are those that the decision's node selector leaves open; none means
	// any virtual node.
	targets []Target
}

// required is a pod's own node selector and required node affinity, parsed once.
type required struct {
	affinity nodeaffinity.RequiredNodeAffinity
	any      bool
}

func requiredOf(pod *corev1.Pod) required {
	a := pod.Spec.Affinity
	if len(pod.Spec.NodeSelector) == 0 && (a == nil || a.NodeAffinity == nil ||
		a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil) {
		return required{any: true}
	}
	return required{affinity: nodeaffinity.GetRequiredNodeAffinity(pod)}
}

func (r required) matches(name string, labels map[string]string) bool {
	if r.any {
		return true
	}
	var n corev1.Node
	n.Name, n.Labels = name, labels
	ok, err := r.affinity.Match(&n)
	return ok && err == nil
}

// place finds where the pod may burst to and what is to be written. A decision
// without a reason is one whose grant is still to be settled; its Action is
// Wait. The room function says what of a ready node is too small for the pod; it
// is nil at admission, where there is nothing to know of room yet.
func place(s *Snapshot, pod *corev1.Pod, d Decision, p *Policy, room func(*VirtualNode) string) (Decision, *candidates) {
	var targets []Target
	if p != nil {
		targets = p.Targets
	}
	c := search(s, pod, d.Mode, targets, room)
	d.NodeSelector = alternatives(d.Mode, targets)
	d.PreferLocal = d.Mode == v1alpha1.ModeOverflow

	nodes := c.ready
	if len(nodes) == 0 {
		switch {
		case len(c.barred) > 0 && (d.Mode == v1alpha1.ModeOverflow || len(c.returning) == 0):
			return d.with(Wait, NoCapacity, strings.Join(c.barredBecause, " ")), c
		case len(c.returning) == 0 && c.full != "":
			return d.with(Wait, NoVirtualNodeFits, c.full), c
		case len(c.returning) == 0 && c.refused != "":
			return d.refused(c), c
		case len(c.returning) == 0 && c.untainted != "":
			return d.stay(NoHardTaint, fmt.Sprintf("The first of them is %s.", c.untainted)), c
		case len(c.returning) == 0 && c.domainless != "":
			return d.stay(NoTopologyLabel, c.domainless), c
		case len(c.returning) == 0 && c.seen > 0:
			return d.stay(SelectorExcludesVirtualNodes, fmt.Sprintf("The first that it does not match is %s.", c.excluded)), c
		}
		if d.Mode == v1alpha1.ModeOverflow || len(c.returning) == 0 {
			return d.with(Wait, NoReadyVirtualNode, describeTargets(targets)), c
		}
		// Local first is not promised: let the pod start as soon as a node is back.
		nodes = c.returning
	} else if c.target != nil {
		d.Target = c.target.Name
	}
	d.Nodes = c.ready
	d.Tolerations = tolerationsOf(nodes, d.Mode == v1alpha1.ModeAuto)

	if room == nil && len(targets) > 1 && opensOther(s, pod, &d, targets, c) {
		// The taints do not tell the targets apart; then the affinity must, while
		// it can still be written.
		c.targets = []Target{*c.target}
		d.NodeSelector = alternatives(d.Mode, c.targets)
	}
	if room == nil {
		d.NodeSelector = c.avoidBarred(pod, &d)
	}
	if n := opensRefused(s, pod, &d, c); n != "" {
		return d.stay(TolerationTooBroad, fmt.Sprintf("The node %s bears the same taints and cannot run the pod.", n)), c
	}
	switch {
	case len(c.ready) == 0:
		return d.with(Grant, NoReadyVirtualNode, describeTargets(targets)), c
	case d.Mode == v1alpha1.ModeAlways:
		return d.with(Grant, VirtualOnly, ""), c
	case d.Mode == v1alpha1.ModeAuto:
		return d.with(Grant, SchedulerChooses, ""), c
	}
	switch {
	case p != nil && p.HasPressure && !p.PressureOpen:
		return d.with(Wait, PressureClosed, ""), c
	case p != nil && p.HasPressure && room == nil && !s.ControllerLive && !s.AdmissionByPolicy:
		return d.with(Wait, PressureUnknown, ""), c
	case d.NodeAutoscaler == v1alpha1.NodeFirst:
		return d.with(Wait, NodeFirst, fmt.Sprintf("Until it has been unschedulable for %d s, autoscalers have the time.", d.AfterPendingSeconds)), c
	}
	if d.AfterPendingSeconds > 0 {
		return d.with(Wait, AfterPending, fmt.Sprintf("That is %d s.", d.AfterPendingSeconds)), c
	}
	d.Action, d.Reason = Wait, ""
	return d, c
}

// stay writes nothing into the pod.
func (d Decision) stay(r Reason, detail string) Decision {
	d.Target, d.Nodes, d.Tolerations, d.NodeSelector, d.PreferLocal = "", nil, nil, nil, false
	d.Charges = nil
	return d.with(StayLocal, r, detail)
}

func (d Decision) refused(c *candidates) Decision {
	d.Refusals = c.refusals
	texts := make([]string, len(c.refusals))
	for i, r := range c.refusals {
		texts[i] = r.String()
	}
	return d.stay(NotBurstable, fmt.Sprintf("On node %s: %s", c.refused, strings.Join(texts, "; ")))
}

// search looks at the targets in order until one has a ready node that can run
// the pod. No targets means any virtual node.
func search(s *Snapshot, pod *corev1.Pod, mode v1alpha1.Mode, targets []Target, room func(*VirtualNode) string) *candidates {
	c := &candidates{required: requiredOf(pod), targets: targets}
	for i := range max(1, len(targets)) {
		var t *Target
		if len(targets) > 0 {
			t = &targets[i]
		}
		for _, n := range s.VirtualNodes {
			if t == nil || t.Selector.Matches(n.Labels) {
				c.consider(pod, mode, n, room, t)
			}
		}
		if len(c.ready) > 0 {
			c.target = t
			break
		}
	}
	return c
}

func (c *candidates) consider(pod *corev1.Pod, mode v1alpha1.Mode, n *VirtualNode, room func(*VirtualNode) string, t *Target) {
	note := func(at *string, text string) bool {
		if *at == "" {
			*at = text
			return true
		}
		return false
	}
	c.seen++
	st := judge(pod, mode, n, c.required, room)
	if c.bar(n, st.verdict, t) {
		return
	}
	switch st.verdict {
	case NodeUntainted:
		note(&c.untainted, n.Name)
	case NodeExcluded:
		note(&c.excluded, n.Name)
	case NodeDomainless:
		note(&c.domainless, st.why)
	case NodeRefuses:
		if note(&c.refused, n.Name) {
			c.refusals = st.refusals
		}
	case NodeNotReady:
		if !slices.Contains(c.returning, n) { // targets may overlap
			c.returning = append(c.returning, n)
		}
	case NodeFull:
		note(&c.full, st.full)
	default:
		c.ready = append(c.ready, n)
	}
}

// standing is what a virtual node is to one pod.
type standing struct {
	verdict  NodeVerdict
	refusals []burstable.Refusal
	full     string
	why      string
}

// judge says whether the pod may burst to the node now, and if not, what is
// first in the way.
func judge(pod *corev1.Pod, mode v1alpha1.Mode, n *VirtualNode, r required, room func(*VirtualNode) string) standing {
	if mode == v1alpha1.ModeOverflow && len(n.HardTaints) == 0 {
		return standing{verdict: NodeUntainted}
	}
	if !r.matches(n.Name, n.Labels) {
		return standing{verdict: NodeExcluded}
	}
	if key := lacksDomain(pod, n.Labels); key != "" {
		return standing{verdict: NodeDomainless, why: fmt.Sprintf("Node %s lacks the label %s.", n.Name, key)}
	}
	if refusals := refusalsOf(pod, n); len(refusals) > 0 {
		return standing{verdict: NodeRefuses, refusals: refusals}
	}
	if !n.Ready {
		return standing{verdict: NodeNotReady}
	}
	if n.NoCapacity != "" {
		return standing{verdict: NodeNoCapacity}
	}
	if room != nil {
		if why := room(n); why != "" {
			return standing{verdict: NodeFull, full: why}
		}
	}
	return standing{verdict: NodeFits}
}

// refusalsOf asks the node's capabilities. Nodes of other makers publish none;
// what they can run is theirs to say.
func refusalsOf(pod *corev1.Pod, n *VirtualNode) []burstable.Refusal {
	if n.Capabilities == nil {
		return nil
	}
	return burstable.Check(pod, *n.Capabilities)
}

// opensOther is true when the tolerations let the pod onto a node of a target
// that comes after the chosen one.
func opensOther(s *Snapshot, pod *corev1.Pod, d *Decision, targets []Target, c *candidates) bool {
	if c.target == nil {
		return false
	}
	for _, n := range s.VirtualNodes {
		if !c.target.Selector.Matches(n.Labels) && inTargets(targets, n) && opens(pod, d, n, c.required) {
			return true
		}
	}
	return false
}

// opensRefused names a node of the targets that the tolerations let the pod onto
// though it cannot run the pod.
func opensRefused(s *Snapshot, pod *corev1.Pod, d *Decision, c *candidates) string {
	for _, n := range s.VirtualNodes {
		if slices.Contains(c.ready, n) || slices.Contains(c.returning, n) || !inTargets(c.targets, n) {
			continue
		}
		if opens(pod, d, n, c.required) && len(refusalsOf(pod, n)) > 0 {
			return n.Name
		}
	}
	return ""
}

// opens is true when the pod, with the decision's tolerations, tolerates the
// node's hard taints and may by its own selector run there.
func opens(pod *corev1.Pod, d *Decision, n *VirtualNode, r required) bool {
	return len(n.HardTaints) > 0 && toleratesAll(pod.Spec.Tolerations, d.Tolerations, n.HardTaints) &&
		r.matches(n.Name, n.Labels)
}

func inTargets(targets []Target, n *VirtualNode) bool {
	if len(targets) == 0 {
		return true
	}
	for i := range targets {
		if targets[i].Selector.Matches(n.Labels) {
			return true
		}
	}
	return false
}

var (
	onLocal   = corev1.NodeSelectorRequirement{Key: v1alpha1.VirtualNodeLabel, Operator: corev1.NodeSelectorOpNotIn, Values: []string{v1alpha1.VirtualNodeValue}}
	onVirtual = corev1.NodeSelectorRequirement{Key: v1alpha1.VirtualNodeLabel, Operator: corev1.NodeSelectorOpIn, Values: []string{v1alpha1.VirtualNodeValue}}
)

// alternatives is the required node affinity of a mode. All targets are in it,
// not only the chosen one, because a pod's affinity cannot be changed later and
// another target may be the one that is ready then; the toleration says which.
func alternatives(mode v1alpha1.Mode, targets []Target) [][]corev1.NodeSelectorRequirement {
	var alts [][]corev1.NodeSelectorRequirement
	if len(targets) == 0 {
		if mode == v1alpha1.ModeAlways {
			return [][]corev1.NodeSelectorRequirement{{onVirtual}}
		}
		return nil
	}
	if mode != v1alpha1.ModeAlways {
		alts = append(alts, []corev1.NodeSelectorRequirement{onLocal})
	}
	for i := range targets {
		alts = append(alts, append(slices.Clip(slices.Clone(targets[i].Requirements)), onVirtual))
	}
	return alts
}

func describeTargets(targets []Target) string {
	if len(targets) == 0 {
		return ""
	}
	names := make([]string, len(targets))
	for i := range targets {
		names[i] = targets[i].Name
	}
	return "Its targets are " + strings.Join(names, ", ") + "."
}
