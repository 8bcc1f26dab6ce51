package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The kinds of a Ref.
const (
	KindPolicy        = "BurstPolicy"
	KindClusterPolicy = "ClusterBurstPolicy"
	KindNamespace     = "Namespace"
	KindPod           = "Pod"
)

// Kinds are all kinds of a Ref.
func Kinds() []string { return []string{KindPolicy, KindClusterPolicy, KindNamespace, KindPod} }

// Compile makes a Policy from what a user wrote. The schema of the API rejects
// most mistakes; what gets past it (label selectors are not checked by the API
// server) is told in Policy.Invalid, which names the field. The state of its
// pressure is the caller's to set; the policy starts closed where it has one.
func Compile[P *v1alpha1.BurstPolicy | *v1alpha1.ClusterBurstPolicy](p P) *Policy {
	switch p := any(p).(type) {
	case *v1alpha1.BurstPolicy:
		return compile(Ref{Kind: KindPolicy, Namespace: p.Namespace, Name: p.Name}, &p.Spec, nil).withMoves(p.Status.Moves)
	case *v1alpha1.ClusterBurstPolicy:
		return compile(Ref{Kind: KindClusterPolicy, Name: p.Name}, &p.Spec.BurstPolicySpec, &p.Spec.NamespaceSelector).withMoves(p.Status.Moves)
	}
	return nil // the constraint has no other type
}

func compile(ref Ref, spec *v1alpha1.BurstPolicySpec, namespaces *metav1.LabelSelector) *Policy {
	p := &Policy{Ref: ref, Priority: spec.Priority, Mode: spec.Mode}
	if p.Mode == "" {
		p.Mode = v1alpha1.ModeOverflow // the schema's default
	}
	invalid := func(field string, problem any) {
		if p.Invalid == "" {
			p.Invalid = fmt.Sprintf("%s: %v", field, problem)
		}
	}
	if !validMode(p.Mode) {
		invalid("spec.mode", fmt.Sprintf("%q is not one of %s", p.Mode, modes))
	}

	selector := func(field string, ls *metav1.LabelSelector) labels.Selector {
		s, err := metav1.LabelSelectorAsSelector(ls)
		if err == nil {
			return s
		}
		invalid(field, err)
		if p.Mode == v1alpha1.ModeNever {
			// It is not known which pods must never burst; better too many than
			// one too few. A tenant's policy still ends at its namespace.
			return labels.Everything()
		}
		return labels.Nothing()
	}
	p.PodSelector = selector("spec.podSelector", &spec.PodSelector)
	if namespaces != nil {
		p.NamespaceSelector = selector("spec.namespaceSelector", namespaces)
	}

	p.Limits = compileLimits("spec.limits", spec.Limits, invalid)
	p.KeepLocal = compileKeepLocal(spec.KeepLocal, invalid)
	p.ScaleIn = cmp.Or(spec.ScaleIn, v1alpha1.ScaleInBurstFirst)
	p.Repatriation = compileRepatriation(spec.Repatriation, invalid)
	if o := spec.Overflow; o != nil {
		p.AfterPendingSeconds = o.AfterPendingSeconds
		p.NodeAutoscaler = o.NodeAutoscaler
		if o.NodeAutoscaler == v1alpha1.NodeFirst && o.AfterPendingSeconds == 0 {
			p.AfterPendingSeconds = defaultNodeFirstSeconds
		}
		if o.AfterPendingSeconds < 0 {
			invalid("spec.overflow.afterPendingSeconds", "must not be negative")
		}
		if pr := o.Pressure; pr != nil {
			p.HasPressure = true
			p.PressureForSeconds = pr.ForSeconds
			switch {
			case pr.UnschedulablePods < 0:
				invalid("spec.overflow.pressure.unschedulablePods", "must not be negative")
			case pr.ForSeconds < 0:
				invalid("spec.overflow.pressure.forSeconds", "must not be negative")
			case pr.CooldownSeconds != nil && *pr.CooldownSeconds < 0:
				invalid("spec.overflow.pressure.cooldownSeconds", "must not be negative")
			}
		}
	}

	for i := range spec.Targets {
		t := &spec.Targets[i]
		field := fmt.Sprintf("spec.targets[%d]", i)
		if slices.ContainsFunc(p.Targets, func(o Target) bool { return o.Name == t.Name }) {
			invalid(field+".name", fmt.Sprintf("%q is the name of an earlier target", t.Name))
		}
		s, err := metav1.LabelSelectorAsSelector(&t.NodeSelector)
		if err != nil {
			invalid(field+".nodeSelector", err)
			s = labels.Nothing()
		}
		compiled := Target{
			Name: t.Name, Selector: s, Requirements: requirements(&t.NodeSelector),
			Limits: compileLimits(field+".limits", t.Limits, invalid),
		}
		if t.PodMetadata != nil {
			compiled.Annotations = t.PodMetadata.Annotations
			if problem := checkStamp(compiled.Annotations); problem != "" {
				invalid(field+".podMetadata.annotations", problem)
			}
		}
		p.Targets = append(p.Targets, compiled)
	}
	return p
}

// compileLimits reads limits. What the schema lets pass but cannot be counted is
// told to invalid.
func compileLimits(field string, l *v1alpha1.Limits, invalid func(field string, problem any)) Limits {
	out := NoLimits
	if l == nil {
		return out
	}
	if l.Pods != nil {
		out.Pods = int64(*l.Pods)
	}
	if l.CPU != nil {
		out.MilliCPU = l.CPU.MilliValue()
	}
	if l.Memory != nil {
		out.Memory = l.Memory.Value()
	}
	if out.Pods < 0 || out.MilliCPU < 0 || out.Memory < 0 {
		invalid(field, "must not be negative")
	}
	return out
}

func compileKeepLocal(k *intstr.IntOrString, invalid func(field string, problem any)) *intstr.IntOrString {
	if k == nil {
		return nil
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(k, 100, true)
	switch {
	case err != nil:
		invalid("spec.keepLocal", err)
	case n < 0 || k.Type == intstr.String && n > 100:
		invalid("spec.keepLocal", fmt.Sprintf("%s is neither a number of at least 0 nor a percentage from 0%% to 100%%", k))
	case n == 0:
		return nil
	}
	return k
}

// The schema's defaults of repatriation.
const (
	defaultMinBurst      = 600
	defaultHold          = 300
	defaultMaxConcurrent = 1
)

func compileRepatriation(r *v1alpha1.Repatriation, invalid func(field string, problem any)) *Repatriation {
	if r == nil || r.Mode != v1alpha1.RepatriateWhenRoom {
		return nil
	}
	seconds := func(field string, v *int32, otherwise int32) time.Duration {
		n := ptr.Deref(v, otherwise)
		if n < 0 {
			invalid("spec.repatriation."+field, "must not be negative")
		}
		return time.Duration(n) * time.Second
	}
	return &Repatriation{
		MinBurst:      seconds("minBurstSeconds", r.MinBurstSeconds, defaultMinBurst),
		Hold:          seconds("holdSeconds", r.HoldSeconds, defaultHold),
		MaxConcurrent: max(1, int(ptr.Deref(r.MaxConcurrent, defaultMaxConcurrent))),
	}
}

// requirements says in the words of node affinity what a label selector says.
// The four operators of label selectors mean the same there.
func requirements(ls *metav1.LabelSelector) []corev1.NodeSelectorRequirement {
	var rs []corev1.NodeSelectorRequirement
	for k, v := range ls.MatchLabels {
		rs = append(rs, corev1.NodeSelectorRequirement{Key: k, Operator: corev1.NodeSelectorOpIn, Values: []string{v}})
	}
	slices.SortFunc(rs, func(a, b corev1.NodeSelectorRequirement) int { return cmp.Compare(a.Key, b.Key) })
	for _, e := range ls.MatchExpressions {
		rs = append(rs, corev1.NodeSelectorRequirement{
			Key: e.Key, Operator: corev1.NodeSelectorOperator(e.Operator), Values: slices.Clone(e.Values),
		})
	}
	return rs
}

// Less is true when a decides before b: the higher priority, then the name.
func Less(a, b *Policy) bool {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(a.Ref.Name, b.Ref.Name),
		cmp.Compare(a.Ref.Namespace, b.Ref.Namespace),
	) < 0
}

const modes = "Overflow, Always, Auto, Never"

func validMode(m v1alpha1.Mode) bool {
	switch m {
	case v1alpha1.ModeOverflow, v1alpha1.ModeAlways, v1alpha1.ModeAuto, v1alpha1.ModeNever:
		return true
	}
	return false
}

// String is the value of the annotation autoburst.io/policy.
func (r Ref) String() string {
	switch r.Kind {
	case KindPolicy, KindClusterPolicy:
		return r.Kind + "/" + r.Name
	}
	return r.Kind
}
