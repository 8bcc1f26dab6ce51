package policy

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Evaluate decides what is to be done with a pod of a namespace when it is
// created. At admission the pod's own namespace field may still be empty, hence
// the argument. It changes neither the snapshot nor the pod, and allocates
// nothing for a pod that nobody selects.
//
// A pod that Evaluate has decided for before and Inject has written to gets the
// same decision again.
func Evaluate(s *Snapshot, namespace string, pod *corev1.Pod) Decision {
	d, p, ok := decide(s, namespace, pod)
	if !ok {
		return d
	}
	return besides(s, pod, p, atAdmission(s, namespace, pod, d, p))
}

// atAdmission decides for a pod that may burst whether it may do so at once.
func atAdmission(s *Snapshot, namespace string, pod *corev1.Pod, d Decision, p *Policy) Decision {
	d, c := place(s, pod, d, p, nil)
	if s.Stopped && d.Action != StayLocal {
		// The affinity is written all the same: it cannot be later, when the switch
		// is released and the controller grants the toleration. A pod of mode Always
		// waits until then, and the others run locally where there is room.
		return d.with(Wait, Stopped, "")
	}
	if s.AdmissionByPolicy && (d.Reason == "" || d.Action == Grant && anyNeedsCount(s, namespace, pod)) {
		return d.with(Wait, AdmissionByPolicy, "")
	}
	if d.Action != Wait || d.Reason != "" {
		return withinLimits(s, namespace, pod, d, c)
	}
	if r, detail := p.withholds(namespace, pod); r != "" {
		return d.with(Wait, r, detail)
	}
	if r, detail := localFirst(s, namespace, pod, &d, c); r != LocalFirst {
		return d.with(Wait, r, detail)
	}
	return withinLimits(s, namespace, pod, d.with(Grant, LocalFirst, ""), c)
}

// with sets the outcome. The message is the reason's sentence and the detail.
func (d Decision) with(a Action, r Reason, detail string) Decision {
	d.Action, d.Reason, d.Message = a, r, r.Sentence()
	if detail != "" {
		d.Message += " " + detail
	}
	return d
}

// decide finds who decides for the pod. It is not ok when that alone settles
// the matter. The policy is nil where an annotation decides.
func decide(s *Snapshot, namespace string, pod *corev1.Pod) (Decision, *Policy, bool) {
	ns, known := s.Namespaces[namespace]
	switch {
	case s.Excluded[namespace]:
		return Decision{}.with(Ignore, NamespaceExcluded, ""), nil, false
	case !known:
		return Decision{}.with(Ignore, NamespaceUnknown, ""), nil, false
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return Decision{}.with(Ignore, MirrorPod, ""), nil, false
	case pod.Spec.NodeName != "":
		return Decision{}.with(Ignore, AlreadyBound, ""), nil, false
	case ownedByDaemonSet(pod):
		return Decision{}.with(Ignore, DaemonSetPod, ""), nil, false
	}

	d, p, selected := selects(s, namespace, ns, pod)
	if !selected {
		return d.with(Ignore, NotSelected, ""), nil, false
	}
	if toleration := ownToleration(s, pod); toleration != nil {
		return Decision{}.with(Ignore, OwnToleration, fmt.Sprintf("It is the one of the taint %s.", describe(toleration))), nil, false
	}
	switch {
	case d.Mode == v1alpha1.ModeNever:
		return d.with(StayLocal, ModeNever, fmt.Sprintf("It is set by %s.", d.By.describe())), nil, false
	case !validMode(d.Mode) && d.By.Kind == KindPod:
		return d.invalidMode(InvalidPodMode), nil, false
	case !validMode(d.Mode):
		return d.invalidMode(InvalidNamespaceMode), nil, false
	}
	if p != nil {
		d.AfterPendingSeconds, d.NodeAutoscaler = p.AfterPendingSeconds, p.NodeAutoscaler
	}
	return d, p, true
}

func (d Decision) invalidMode(r Reason) Decision {
	value := d.Mode
	d.Mode = ""
	return d.with(StayLocal, r, fmt.Sprintf("Its value is %q; set it to one of %s, or remove it.", value, modes))
}

// selects gives the one that decides, and its mode, which of an annotation may
// be invalid.
//
// Never wins wherever it stands. Then the first of these decides: the pod's
// annotation where its namespace is opted in, the policies of the namespace, the
// namespace's annotation, the cluster's policies. An annotation that is not a
// mode opts nothing in but takes its turn all the same, and keeps the pod local:
// whoever wrote it wanted something else than what comes after it, and may have
// meant Never.
func selects(s *Snapshot, namespace string, ns Namespace, pod *corev1.Pod) (Decision, *Policy, bool) {
	podMode, hasPodMode := pod.Annotations[v1alpha1.ModeAnnotation]
	byPod := Decision{
		By:   Ref{Kind: KindPod, Namespace: namespace, Name: pod.Name},
		Mode: v1alpha1.Mode(podMode),
	}
	byNamespace := Decision{By: Ref{Kind: KindNamespace, Name: namespace}, Mode: ns.Mode}
	if byPod.Mode == v1alpha1.ModeNever {
		return byPod, nil, true
	}
	if ns.Mode == v1alpha1.ModeNever {
		return byNamespace, nil, true
	}
	rules := s.rules(namespace)
	for _, ps := range [...]*ranked{&rules.own, &rules.cluster} {
		if never := ps.never.first(pod.Labels); never != nil {
			return never.decision(), never, true
		}
	}

	own := rules.own.others.first(pod.Labels)
	switch {
	case hasPodMode && rules.optedIn:
		return byPod, nil, true
	case own != nil:
		return own.decision(), own, true
	case ns.Mode != "":
		return byNamespace, nil, true
	}
	if cluster := rules.cluster.others.first(pod.Labels); cluster != nil {
		return cluster.decision(), cluster, true
	}
	return Decision{}, nil, false
}

// rules are what the policies are to the pods of a namespace.
func (s *Snapshot) rules(namespace string) *namespaceIndex {
	if s.Index != nil {
		return s.Index.namespace(namespace)
	}
	return NewIndex(s.Policies, s.Namespaces).namespace(namespace)
}

func (p *Policy) decision() Decision { return Decision{By: p.Ref, Mode: p.Mode} }

func (p *Policy) selectsNamespace(ns labels.Set) bool {
	return p.NamespaceSelector == nil || p.NamespaceSelector.Matches(ns)
}

// OptedIn is true when an annotation or a policy lets pods of the namespace
// burst, so that pods of it need looking at when they are created.
func (s *Snapshot) OptedIn(namespace string) bool {
	_, known := s.Namespaces[namespace]
	return known && !s.Excluded[namespace] && s.rules(namespace).optedIn
}

func ownedByDaemonSet(pod *corev1.Pod) bool {
	for i := range pod.OwnerReferences {
		o := &pod.OwnerReferences[i]
		if o.Controller != nil && *o.Controller && o.Kind == "DaemonSet" {
			return true
		}
	}
	return false
}

// ownToleration gives the taint of a virtual node that the pod tolerates by its
// owner's hand, or nil. The two annotations tell that we wrote it.
func ownToleration(s *Snapshot, pod *corev1.Pod) *corev1.Taint {
	if pod.Annotations[v1alpha1.PolicyAnnotation] != "" && pod.Annotations[v1alpha1.GrantAnnotation] != "" {
		return nil
	}
	for _, vn := range s.VirtualNodes {
		if len(vn.HardTaints) > 0 && toleratesAll(pod.Spec.Tolerations, nil, vn.HardTaints) {
			return &vn.HardTaints[0]
		}
	}
	// The default taint of virtual nodes counts also while there is none.
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if t.Key == v1alpha1.ProviderTaintKey {
			return &corev1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect}
		}
	}
	return nil
}

// describe names the object in a message.
func (r Ref) describe() string {
	switch r.Kind {
	case KindPod:
		return "the annotation " + v1alpha1.ModeAnnotation + " of the pod"
	case KindNamespace:
		return "the annotation " + v1alpha1.ModeAnnotation + " of the namespace"
	case KindPolicy:
		return r.Kind + " " + r.Namespace + "/" + r.Name
	}
	return r.Kind + " " + r.Name
}

func describe(t *corev1.Taint) string {
	out := t.Key
	if t.Value != "" {
		out += "=" + t.Value
	}
	if t.Effect != "" {
		out += ":" + string(t.Effect)
	}
	return out
}
