package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Explanation is a decision with all that was weighed for it.
type Explanation struct {
	// Decision is that of Evaluate.
	Decision Decision
	// Considered are all that could decide for the pod, in the order in which they
	// do. It is empty where nobody was asked, as the pod is never touched.
	Considered []Considered
	// Targets are those of what decided, in order; one without a name stands for
	// any virtual node. It is empty where the pod stays local whatever the virtual
	// nodes are.
	Targets []ExplainedTarget
	// Limits are those that bind the pod on the virtual nodes that it may burst to.
	Limits []ExplainedLimit
}

// LateExplanation is the decision about a live pod with all that was weighed.
type LateExplanation struct {
	// Decision is that of EvaluateLate.
	Decision   LateDecision
	Considered []Considered
	Targets    []ExplainedTarget
	Limits     []ExplainedLimit
}

// Verdict says what became of one that could decide.
type Verdict string

// The verdicts.
const (
	// Decides: it is the one.
	Decides Verdict = "Decides"
	// Outranked: it selects the pod, but another comes first.
	Outranked Verdict = "Outranked"
	// OtherPods: its pod selector does not match the pod's labels.
	OtherPods Verdict = "OtherPods"
	// OtherNamespaces: its namespace selector does not match the namespace's labels.
	OtherNamespaces Verdict = "OtherNamespaces"
	// Invalid: it cannot be carried out.
	Invalid Verdict = "Invalid"
	// NotOptedIn: the pod's annotation does not count, since nothing opts its
	// namespace in.
	NotOptedIn Verdict = "NotOptedIn"
)

// Considered is one that could decide for a pod: a policy, or an annotation that
// is set.
type Considered struct {
	By Ref
	// Mode may be invalid where an annotation sets it.
	Mode     v1alpha1.Mode
	Priority int32
	Verdict  Verdict
	// Why is one sentence.
	Why string
}

// NodeVerdict says whether a pod may burst to a virtual node.
type NodeVerdict string

// The verdicts on virtual nodes.
const (
	NodeFits      NodeVerdict = "Fits"
	NodeUntainted NodeVerdict = "NoHardTaint"
	NodeExcluded  NodeVerdict = "SelectorExcludes"
	// NodeDomainless: it lacks the label of a topology that the pod is bound to.
	NodeDomainless NodeVerdict = "NoTopologyLabel"
	NodeRefuses    NodeVerdict = "FieldsRefused"
	NodeNotReady   NodeVerdict = "NotReady"
	NodeNoCapacity NodeVerdict = "NoCapacity"
	NodeFull       NodeVerdict = "TooSmall"
)

// ExplainedTarget is a target and its virtual nodes.
type ExplainedTarget struct {
	// Name is "" for any virtual node.
	Name string
	// Chosen is true when the pod may burst here.
	Chosen bool
	// Why is one sentence.
	Why   string
	Nodes []ExplainedNode
}

// ExplainedNode is a virtual node and whether the pod fits it.
type ExplainedNode struct {
	Name    string
	Verdict NodeVerdict
	// Why is one sentence.
	Why      string
	Refusals []burstable.Refusal
}

// Explain decides as Evaluate does and tells everything that was weighed. It is
// made for people and not for the path of every pod: it allocates.
func Explain(s *Snapshot, namespace string, pod *corev1.Pod) Explanation {
	d := Evaluate(s, namespace, pod)
	e := Explanation{Decision: d, Considered: considered(s, namespace, pod)}
	e.Targets = explainTargets(s, namespace, pod, &d, nil)
	e.Limits = explainLimits(s, namespace, pod, &d)
	return e
}

// ExplainLate decides as EvaluateLate does and tells everything that was
// weighed. Unlike Explain it looks at the room on the virtual nodes.
func ExplainLate(s *Snapshot, namespace string, pod *corev1.Pod, local iter.Seq[*LocalNode], workloads Workloads, now time.Time) LateExplanation {
	d := EvaluateLate(s, namespace, pod, local, workloads, now)
	e := LateExplanation{Decision: d}
	if d.Reason == Finished {
		return e
	}
	e.Considered = considered(s, namespace, pod)
	e.Targets = explainTargets(s, namespace, pod, &d.Decision, newFitter(pod).room)
	e.Limits = explainLimits(s, namespace, pod, &d.Decision)
	return e
}

// considered gives a verdict on each that could decide for the pod.
func considered(s *Snapshot, namespace string, pod *corev1.Pod) []Considered {
	ns := s.Namespaces[namespace]
	if d, _, ok := decide(s, namespace, pod); !ok && d.By == (Ref{}) && d.Reason != NotSelected && d.Reason != OwnToleration {
		return nil
	}
	winner, decider, selected := selects(s, namespace, ns, pod)
	// Refs of two kinds never are equal, and a policy is compared as itself.
	decides := func(by Ref, p *Policy) bool { return selected && by == winner.By && p == decider }
	outranked := func() string {
		if winner.Mode == v1alpha1.ModeNever {
			return fmt.Sprintf("It selects the pod, but mode Never of %s wins over everything.", winner.By.describe())
		}
		return fmt.Sprintf("It selects the pod, but %s comes first.", winner.By.describe())
	}
	won := func(mode v1alpha1.Mode) string {
		switch {
		case mode == v1alpha1.ModeNever:
			return "It selects the pod, and mode Never wins over everything."
		case !validMode(mode):
			return fmt.Sprintf("It is the first, but %q is not one of %s.", mode, modes)
		}
		return "It is the first that selects the pod."
	}

	var out []Considered
	annotation := func(by Ref, mode v1alpha1.Mode, counts bool) {
		c := Considered{By: by, Mode: mode}
		switch {
		case decides(by, nil):
			c.Verdict, c.Why = Decides, won(mode)
		case !counts:
			c.Verdict, c.Why = NotOptedIn, "No policy and no annotation of the namespace lets pods of it burst, so the annotation of a pod does not count."
		default:
			c.Verdict, c.Why = Outranked, outranked()
		}
		out = append(out, c)
	}
	policies := func(ps []*Policy) {
		for _, p := range ps {
			c := Considered{By: p.Ref, Mode: p.Mode, Priority: p.Priority}
			switch {
			case decides(p.Ref, p):
				c.Verdict, c.Why = Decides, won(p.Mode)
			case p.Invalid != "" && p.Mode != v1alpha1.ModeNever:
				c.Verdict, c.Why = Invalid, "It selects nothing until it is mended: "+p.Invalid+"."
			case !p.selectsNamespace(ns.Labels):
				c.Verdict, c.Why = OtherNamespaces, fmt.Sprintf("Its namespaceSelector %s does not match the labels of the namespace.", p.NamespaceSelector)
			case !p.PodSelector.Matches(labels.Set(pod.Labels)):
				c.Verdict, c.Why = OtherPods, fmt.Sprintf("Its podSelector %s does not match the labels of the pod.", p.PodSelector)
			default:
				c.Verdict, c.Why = Outranked, outranked()
			}
			out = append(out, c)
		}
	}

	if mode, ok := pod.Annotations[v1alpha1.ModeAnnotation]; ok {
		annotation(Ref{Kind: KindPod, Namespace: namespace, Name: pod.Name}, v1alpha1.Mode(mode), s.rules(namespace).optedIn)
	}
	policies(s.Policies[namespace])
	if ns.Mode != "" {
		annotation(Ref{Kind: KindNamespace, Name: namespace}, ns.Mode, true)
	}
	policies(s.Policies[""])
	return out
}

// explainTargets gives a verdict on each virtual node that the decider names.
func explainTargets(s *Snapshot, namespace string, pod *corev1.Pod, d *Decision, room func(*VirtualNode) string) []ExplainedTarget {
	decided, p, ok := decide(s, namespace, pod)
	if !ok {
		return nil
	}
	targets := []Target{{}}
	if p != nil && len(p.Targets) > 0 {
		targets = p.Targets
	}
	r := requiredOf(pod)
	var out []ExplainedTarget
	var chosen string
	for i := range targets {
		t := ExplainedTarget{Name: targets[i].Name}
		fits := 0
		for _, n := range s.VirtualNodes {
			if targets[i].Selector != nil && !targets[i].Selector.Matches(n.Labels) {
				continue
			}
			st := judge(pod, decided.Mode, n, r, room)
			if st.verdict == NodeFits && targets[i].Suspended == "" {
				fits++
			}
			t.Nodes = append(t.Nodes, explainNode(n, st))
		}
		switch {
		case len(t.Nodes) == 0:
			t.Why = "It has no virtual node."
		case targets[i].Suspended != "":
			t.Why = targets[i].Suspended
		case fits == 0:
			t.Why = "None of its virtual nodes takes the pod now."
		case len(d.Nodes) == 0:
			t.Why = "It is not used, for the reason of the decision."
		case chosen != "":
			t.Why = fmt.Sprintf("%s comes first.", chosen)
		default:
			t.Chosen, t.Why = true, "It is the first with a virtual node that takes the pod."
			if chosen = t.Name; t.Name == "" {
				t.Why = "Any virtual node that takes the pod is used."
			}
		}
		out = append(out, t)
	}
	return out
}

func explainNode(n *VirtualNode, st standing) ExplainedNode {
	e := ExplainedNode{Name: n.Name, Verdict: st.verdict, Refusals: st.refusals}
	switch st.verdict {
	case NodeUntainted:
		e.Why = "It bears no taint of effect NoSchedule or NoExecute, so mode Overflow cannot hold pods back from it."
	case NodeExcluded:
		e.Why = "The node selector or the required node affinity of the pod does not match it."
	case NodeDomainless:
		e.Why = st.why
	case NodeRefuses:
		fields := make([]string, len(st.refusals))
		for i, r := range st.refusals {
			fields[i] = r.String()
		}
		e.Why = "It cannot carry out " + strings.Join(fields, "; ")
	case NodeNotReady:
		e.Why = "It is not ready, is cordoned, or its cloud does not answer."
	case NodeNoCapacity:
		e.Why = noCapacity(n)
	case NodeFull:
		e.Why = st.full
	case NodeFits:
		e.Why = "It is ready and can run the pod; its taints are " + describeTaints(n.HardTaints) + "."
	}
	return e
}

func describeTaints(taints []corev1.Taint) string {
	if len(taints) == 0 {
		return "none"
	}
	texts := make([]string, len(taints))
	for i := range taints {
		texts[i] = describe(&taints[i])
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}
