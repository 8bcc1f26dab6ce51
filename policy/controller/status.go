package controller

import (
	"fmt"
	"slices"
	"strings"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Reasons of conditions.
const (
	reasonInForce        = "InForce"
	reasonInvalid        = "Invalid"
	reasonUnknownTargets = "UnknownTargets"

	reasonNodeReady     = "NodeReady"
	reasonNoReadyNode   = "NoReadyNode"
	reasonNoVirtualNode = "NoVirtualNode"
	reasonNoCapacity    = "NoCapacity"

	reasonEnoughWaiting = "EnoughWaiting"
	reasonTooFewWaiting = "TooFewWaiting"

	reasonRoom         = "Room"
	reasonLimitReached = "LimitReached"
)

// conditionMessageMax is what metav1.Condition allows; targetReasonMax what
// TargetStatus does. In bytes.
const (
	conditionMessageMax = 32768
	targetReasonMax     = 256
)

// observed is what was seen of one policy.
type observed struct {
	policy *policy.Policy
	// spec is nil where overflow.pressure is unset.
	pressure *v1alpha1.Pressure
	open     bool
	counts   counts
	// suspensions by the target's name.
	suspensions map[string]policy.Suspension
	// usage is what counts against limits, of all accounts; nil while it is not known.
	usage map[policy.Account]policy.Amount
}

// counts are the pods of one policy.
type counts struct {
	v1alpha1.PodCounts
	byNode map[string]int32 // those on virtual nodes
}

// statusOf is the status that a policy shall have. The times of conditions that
// do not change are kept from the one before.
func statusOf(before v1alpha1.BurstPolicyStatus, generation int64, o observed, nodes []*policy.VirtualNode, now metav1.Time) v1alpha1.BurstPolicyStatus {
	after := *before.DeepCopy()
	after.ObservedGeneration = generation
	after.Pods = o.counts.PodCounts
	after.Targets = nil
	for _, t := range o.policy.Targets {
		shown := targetStatus(t, o.counts, nodes)
		o.suspensions[t.Name].Show(&shown, now.Time)
		shown.Usage = usageStatus(policy.Account{Policy: o.policy.Ref, Target: t.Name}, t.Limits, o.usage)
		after.Targets = append(after.Targets, shown)
	}
	o.policy.Suspend(after.Targets)
	after.Usage = usageStatus(policy.Account{Policy: o.policy.Ref}, o.policy.Limits, o.usage)

	set := func(kind string, ok bool, reason, message string) {
		status := metav1.ConditionFalse
		if ok {
			status = metav1.ConditionTrue
		}
		apimeta.SetStatusCondition(&after.Conditions, metav1.Condition{
			Type: kind, Status: status, Reason: reason, Message: clip(message, conditionMessageMax),
			ObservedGeneration: generation, LastTransitionTime: now,
		})
	}
	targets, known := targetsAvailable(o.policy, nodes)
	if o.policy.Mode == v1alpha1.ModeNever {
		apimeta.RemoveStatusCondition(&after.Conditions, v1alpha1.ConditionTargetsAvailable)
	} else {
		set(v1alpha1.ConditionTargetsAvailable, targets.reason == reasonNodeReady, targets.reason, targets.message)
	}
	switch {
	case o.policy.Invalid != "":
		set(v1alpha1.ConditionReady, false, reasonInvalid,
			o.policy.Invalid+". Correct the field; until then the policy "+invalidEffect(o.policy.Mode))
	case !known && o.policy.Mode != v1alpha1.ModeNever:
		set(v1alpha1.ConditionReady, false, reasonUnknownTargets, targets.message)
	default:
		set(v1alpha1.ConditionReady, true, reasonInForce, "The policy is in force.")
	}
	switch {
	case o.pressure == nil:
		apimeta.RemoveStatusCondition(&after.Conditions, v1alpha1.ConditionUnderPressure)
	case o.open:
		set(v1alpha1.ConditionUnderPressure, true, reasonEnoughWaiting,
			fmt.Sprintf("Pods may burst: at least %d pods have waited for room.", threshold(o.pressure)))
	default:
		set(v1alpha1.ConditionUnderPressure, false, reasonTooFewWaiting,
			fmt.Sprintf("Pods stay local while fewer than %d pods wait for room for %d s.", threshold(o.pressure), o.pressure.ForSeconds))
	}
	switch s := standingOf(o.policy, o.usage); {
	case !s.limited:
		apimeta.RemoveStatusCondition(&after.Conditions, v1alpha1.ConditionWithinLimits)
	case !s.counted: // by a new leader, in a moment
	case s.within:
		set(v1alpha1.ConditionWithinLimits, true, reasonRoom, s.message)
	default:
		set(v1alpha1.ConditionWithinLimits, false, reasonLimitReached, s.message)
	}
	return after
}

func threshold(p *v1alpha1.Pressure) int32 { return max(1, p.UnschedulablePods) }

func invalidEffect(mode v1alpha1.Mode) string {
	if mode == v1alpha1.ModeNever {
		return "keeps all pods that it might mean on local nodes."
	}
	return "selects no pods."
}

// availability is the condition TargetsAvailable.
type availability struct{ reason, message string }

// targetsAvailable tells whether any target has a ready node, and whether any
// names a virtual node that exists.
func targetsAvailable(p *policy.Policy, nodes []*policy.VirtualNode) (a availability, known bool) {
	if len(p.Targets) == 0 {
		for _, n := range nodes {
			if n.Ready && n.NoCapacity == "" {
				return availability{reasonNodeReady, fmt.Sprintf("Virtual node %s is ready.", n.Name)}, true
			}
		}
		if len(nodes) == 0 {
			return availability{reasonNoVirtualNode, "The cluster has no virtual node. Install one, such as by the chart's virtualNodes."}, true
		}
		if barred := firstBarred(nodes, nil); barred != "" {
			return availability{reasonNoCapacity, barred}, true
		}
		return availability{reasonNoReadyNode, fmt.Sprintf("No virtual node is ready. The first is %s; see its conditions.", nodes[0].Name)}, true
	}
	var problems []string
	a.reason = reasonNoVirtualNode
	for i, t := range p.Targets {
		var first string
		for _, n := range nodes {
			if !t.Selector.Matches(n.Labels) {
				continue
			}
			if n.Ready && n.NoCapacity == "" && t.Suspended == "" {
				return availability{reasonNodeReady, fmt.Sprintf("Virtual node %s of target %s is ready.", n.Name, t.Name)}, true
			}
			if first == "" {
				first = n.Name
			}
		}
		if first == "" {
			problems = append(problems, fmt.Sprintf("spec.targets[%d].nodeSelector: target %s matches no virtual node; correct it, or install such a node.", i, t.Name))
			continue
		}
		known = true
		if barred := firstBarred(nodes, &t); barred != "" {
			a.reason = reasonNoCapacity
			problems = append(problems, barred)
			continue
		}
		if a.reason != reasonNoCapacity {
			a.reason = reasonNoReadyNode
		}
		problems = append(problems, fmt.Sprintf("Virtual node %s of target %s is not ready; see its conditions.", first, t.Name))
	}
	a.message = strings.Join(problems, " ")
	return a, known
}

// targetStatus is the state of one target.
func targetStatus(t policy.Target, c counts, nodes []*policy.VirtualNode) v1alpha1.TargetStatus {
	s := v1alpha1.TargetStatus{Name: t.Name}
	seen := 0
	for _, n := range nodes {
		if !t.Selector.Matches(n.Labels) {
			continue
		}
		seen++
		s.Pods += c.byNode[n.Name]
		if n.Ready {
			s.ReadyNodes++
		}
	}
	switch {
	case seen == 0:
		s.Reason = "Its nodeSelector matches no virtual node."
	case s.ReadyNodes == 0:
		s.Reason = "None of its virtual nodes is ready."
	case !slices.ContainsFunc(nodes, func(n *policy.VirtualNode) bool {
		return n.Ready && n.NoCapacity == "" && t.Selector.Matches(n.Labels)
	}):
		s.Reason = "The cloud of its virtual nodes has refused pods for want of room lately."
	}
	s.Reason = clip(s.Reason, targetReasonMax)
	return s
}

// change is an event about a policy.
type change struct {
	warning              bool
	reason, note, action string
}

// changes are the events that tell of a new status. A policy that is ready from
// the start needs none.
func changes(before, after []metav1.Condition) []change {
	var out []change
	for _, kind := range []struct {
		condition, on, off string
		offIsWarning       bool
	}{
		{v1alpha1.ConditionReady, EventReady, EventNotReady, true},
		{v1alpha1.ConditionTargetsAvailable, EventTargetsReturned, EventTargetsLost, true},
		{v1alpha1.ConditionUnderPressure, EventPressureOpened, EventPressureClosed, false},
		{v1alpha1.ConditionWithinLimits, EventLimitCleared, EventLimitReached, true},
	} {
		now := apimeta.FindStatusCondition(after, kind.condition)
		was := apimeta.FindStatusCondition(before, kind.condition)
		if now == nil || was != nil && was.Status == now.Status {
			continue
		}
		switch {
		case now.Status == metav1.ConditionTrue && (was != nil || kind.condition == v1alpha1.ConditionUnderPressure):
			out = append(out, change{reason: kind.on, note: now.Message, action: actionObserve})
		case now.Status == metav1.ConditionFalse && (was != nil || kind.offIsWarning):
			out = append(out, change{warning: kind.offIsWarning, reason: kind.off, note: now.Message, action: actionObserve})
		}
	}
	return out
}
