package policy

import (
	"encoding/json"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Params is the snapshot as data for the expressions of package
// policy/admission, which decide inside the API server as Evaluate does here with
// Snapshot.AdmissionByPolicy. Equal snapshots give equal Params.
//
// Namespaces, targets and capabilities are resolved here, as far as they do not
// depend on the pod.
func Params(s *Snapshot) v1alpha1.BurstAdmissionSpec {
	c := paramsCompiler{snapshot: s, byPolicy: make(map[*Policy]int32), byNamespaceMode: make(map[v1alpha1.Mode]int32)}
	c.spec.Stopped = s.Stopped
	for _, n := range s.VirtualNodes {
		c.spec.Nodes = append(c.spec.Nodes, c.node(n))
	}
	for _, mode := range [...]v1alpha1.Mode{v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto} {
		c.spec.PodRules = append(c.spec.PodRules, c.add(c.annotation(KindPod, mode)))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Namespaces)) {
		if s.OptedIn(name) {
			if c.spec.Namespaces == nil {
				c.spec.Namespaces = make(map[string][]int32)
			}
			c.spec.Namespaces[name] = c.namespace(name)
		}
	}
	return c.spec
}

// paramsCompiler adds each policy once, however many namespaces it reaches.
type paramsCompiler struct {
	snapshot        *Snapshot
	spec            v1alpha1.BurstAdmissionSpec
	byPolicy        map[*Policy]int32
	byNamespaceMode map[v1alpha1.Mode]int32
}

// namespace lists the rules for the pods of an opted in namespace, in the order
// of selects. Those of mode Never come first: they win wherever they stand.
func (c *paramsCompiler) namespace(name string) []int32 {
	index := c.snapshot.rules(name)
	out := []int32{}
	policies := func(ps []*Policy) {
		for _, p := range ps {
			if requirements, selectable := p.PodSelector.Requirements(); selectable {
				place, ok := c.byPolicy[p]
				if !ok {
					place = c.add(c.policy(p, requirementsOf(requirements)))
					c.byPolicy[p] = place
				}
				out = append(out, place)
			}
		}
	}
	policies(index.own.never.policies)
	policies(index.cluster.never.policies)
	policies(index.own.others.policies)
	if mode := c.snapshot.Namespaces[name].Mode; mode != "" {
		if !validMode(mode) {
			mode = ""
		}
		place, ok := c.byNamespaceMode[mode]
		if !ok {
			place = c.add(c.annotation(KindNamespace, mode))
			c.byNamespaceMode[mode] = place
		}
		out = append(out, place)
	}
	policies(index.cluster.others.policies)
	return out
}

func (c *paramsCompiler) add(r v1alpha1.AdmissionRule) int32 {
	c.spec.Rules = append(c.spec.Rules, r)
	return int32(len(c.spec.Rules) - 1)
}

// annotation is the rule of an annotation with this mode.
func (c *paramsCompiler) annotation(kind string, mode v1alpha1.Mode) v1alpha1.AdmissionRule {
	return c.rule(Ref{Kind: kind}, mode, nil)
}

func (c *paramsCompiler) policy(p *Policy, selector []metav1.LabelSelectorRequirement) v1alpha1.AdmissionRule {
	r := c.rule(p.Ref, p.Mode, p.Targets)
	r.PodSelector = selector
	r.Limited = p.needsCount()
	if p.Mode == v1alpha1.ModeOverflow {
		d := Decision{Action: Wait, Mode: p.Mode, Reason: AdmissionByPolicy, AfterPendingSeconds: p.AfterPendingSeconds}
		switch {
		case p.HasPressure && !p.PressureOpen:
			d.Reason = PressureClosed
		case p.NodeAutoscaler == v1alpha1.NodeFirst:
			d.Reason = NodeFirst
		case p.AfterPendingSeconds > 0:
			d.Reason = AfterPending
		}
		r.Reason = string(d.Reason)
		if d = besides(c.snapshot, new(corev1.Pod), p, d); d.ScaleUpDelay > 0 {
			r.ScaleUpDelay = scaleUpDelay(d.ScaleUpDelay)
		}
	}
	return r
}

// rule is what a mode and its targets make of a pod.
func (c *paramsCompiler) rule(by Ref, mode v1alpha1.Mode, targets []Target) v1alpha1.AdmissionRule {
	r := v1alpha1.AdmissionRule{By: by.String(), Mode: mode}
	switch mode {
	case v1alpha1.ModeAlways:
		r.Reason = string(VirtualOnly)
	case v1alpha1.ModeAuto:
		r.Reason = string(SchedulerChooses)
	case v1alpha1.ModeOverflow:
		r.Reason = string(AdmissionByPolicy)
		r.Preferred = []corev1.PreferredSchedulingTerm{*preferLocalTerm.DeepCopy()}
	default: // writes nothing
		return r
	}
	if len(targets) == 0 {
		every := v1alpha1.AdmissionTarget{Nodes: c.nodes(nil)}
		for _, alternative := range alternatives(mode, nil) {
			every.Requires = alternative
		}
		r.Targets = []v1alpha1.AdmissionTarget{every}
		return r
	}
	if mode != v1alpha1.ModeAlways {
		r.Local = []corev1.NodeSelectorRequirement{onLocal}
	}
	for i := range targets {
		r.Targets = append(r.Targets, v1alpha1.AdmissionTarget{
			Nodes: c.nodes(&targets[i]), Suspended: targets[i].Suspended != "", Requires: alternatives(v1alpha1.ModeAlways, targets[i:i+1])[0],
		})
	}
	return r
}

// nodes are the places of a target's nodes; nil means any.
func (c *paramsCompiler) nodes(t *Target) []int32 {
	var out []int32
	for i, n := range c.snapshot.VirtualNodes {
		if t == nil || t.Selector.Matches(n.Labels) {
			out = append(out, int32(i))
		}
	}
	return out
}

func (c *paramsCompiler) node(n *VirtualNode) v1alpha1.AdmissionNode {
	out := v1alpha1.AdmissionNode{Name: n.Name, Labels: n.Labels, Ready: n.Ready, NoCapacity: n.NoCapacity != "", Hard: c.taints(n.HardTaints), Soft: c.taints(n.SoftTaints)}
	if n.Capabilities != nil {
		out.Capabilities = capabilities(n.Capabilities)
	}
	return out
}

// taints are the places of the tolerations that open them.
func (c *paramsCompiler) taints(taints []corev1.Taint) []int32 {
	var out []int32
	for _, t := range tolerationsOf([]*VirtualNode{{HardTaints: taints}}, false) {
		place := slices.IndexFunc(c.spec.Tolerations, func(o corev1.Toleration) bool { return sameToleration(&o, &t) })
		if place < 0 {
			place = len(c.spec.Tolerations)
			c.spec.Tolerations = append(c.spec.Tolerations, t)
		}
		out = append(out, int32(place))
	}
	return out
}

// capabilities leaves out the limit on files, which no one sees at admission.
func capabilities(c *burstable.Capabilities) *v1alpha1.AdmissionCapabilities {
	out := &v1alpha1.AdmissionCapabilities{LinuxCapabilities: c.Limits.Capabilities}
	for _, f := range c.Features {
		if !slices.Contains(out.Features, string(f)) {
			out.Features = append(out.Features, string(f))
		}
	}
	for _, r := range c.Limits.ReservedPortRanges {
		out.ReservedPorts = append(out.ReservedPorts, v1alpha1.PortRange{First: r.First, Last: r.Last})
	}
	bounds := c.Limits
	bounds.FileBytes, bounds.Capabilities, bounds.ReservedPortRanges = 0, nil, nil
	published, err := json.Marshal(bounds)
	if err == nil {
		err = json.Unmarshal(published, &out.Limits)
	}
	if err != nil { // numbers only: cannot fail
		panic(err)
	}
	if len(c.Annotations) > 0 {
		// What is bought there, and whether it is sold, the policy cannot know: it lets
		// nobody go where there is a limit that it does not know.
		out.Limits["annotations"] = 0
	}
	if len(out.Limits) == 0 {
		out.Limits = nil
	}
	return out
}

// requirementsOf says in the words of the API what a compiled selector demands.
func requirementsOf(rs labels.Requirements) []metav1.LabelSelectorRequirement {
	var out []metav1.LabelSelectorRequirement
	for i := range rs {
		r := metav1.LabelSelectorRequirement{Key: rs[i].Key()}
		switch rs[i].Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			r.Operator = metav1.LabelSelectorOpIn
		case selection.NotIn, selection.NotEquals:
			r.Operator = metav1.LabelSelectorOpNotIn
		case selection.Exists:
			r.Operator = metav1.LabelSelectorOpExists
		default: // label selectors have no other
			r.Operator = metav1.LabelSelectorOpDoesNotExist
		}
		if values := rs[i].ValuesUnsorted(); len(values) > 0 {
			r.Values = slices.Sorted(slices.Values(values))
		}
		out = append(out, r)
	}
	return out
}

// needsCount tells whether pods must be counted before the policy lets one burst.
func (p *Policy) needsCount() bool {
	return p.Limits != NoLimits || p.KeepLocal != nil ||
		slices.ContainsFunc(p.Targets, func(t Target) bool { return t.Limits != NoLimits })
}

// anyNeedsCount tells whether pods must be counted for a policy that selects the pod.
func anyNeedsCount(s *Snapshot, namespace string, pod *corev1.Pod) bool {
	ns := s.Namespaces[namespace].Labels
	for _, ps := range [...][]*Policy{s.Policies[namespace], s.Policies[""]} {
		for _, p := range ps {
			if p.Invalid == "" && p.needsCount() && p.selectsNamespace(ns) && p.PodSelector.Matches(labels.Set(pod.Labels)) {
				return true
			}
		}
	}
	return false
}
