package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The values of the annotation autoburst.io/stamped.
const (
	StampedAtBinding = "Binding"
	StampedLater     = "Later"
)

// stampSizeMax bounds the names and values of a target's annotations, in bytes.
const stampSizeMax = 32 << 10

// Stamp gives the annotations that a pod gets when it is bound
// to the named node: those of its target's podMetadata, and a pod deletion cost
// that lets it go first when its ReplicaSet shrinks. It gives nil where there is
// nothing to write: the node is no virtual one, nobody granted the pod, it is
// stamped already, or it has all of these of its own. A key that the pod has is
// never among them.
//
// Who decides is who granted the pod. An annotation that grants stands for a
// policy with the defaults.
func Stamp(s *Snapshot, pod *corev1.Pod, node, how string) map[string]string {
	if pod.Annotations[v1alpha1.GrantAnnotation] == "" || pod.Annotations[v1alpha1.StampedAnnotation] != "" {
		return nil
	}
	n := s.VirtualNode(node)
	if n == nil {
		return nil
	}
	scaleIn, annotations, known := stampOf(s, RefOf(pod), n)
	if !known {
		return nil
	}
	var out map[string]string
	add := func(key, value string) {
		if _, own := pod.Annotations[key]; own {
			return
		}
		if out == nil {
			out = make(map[string]string, len(annotations)+2)
		}
		out[key] = value
	}
	for key, value := range annotations {
		add(key, value)
	}
	if owner := metav1.GetControllerOfNoCopy(pod); scaleIn == v1alpha1.ScaleInBurstFirst && owner != nil && owner.Kind == "ReplicaSet" {
		if _, set := annotations[corev1.PodDeletionCost]; !set {
			add(corev1.PodDeletionCost, v1alpha1.BurstDeletionCost)
		}
	}
	if out == nil {
		return nil
	}
	out[v1alpha1.StampedAnnotation] = how
	if sizeOf(pod.Annotations)+sizeOf(out) > apivalidation.TotalAnnotationSizeLimitB {
		return nil // nobody could change the pod any more
	}
	return out
}

// sizeOf counts annotations as the API server does.
func sizeOf(annotations map[string]string) int {
	n := 0
	for k, v := range annotations {
		n += len(k) + len(v)
	}
	return n
}

// checkStamp says what is wrong with annotations to be stamped. It is stricter
// than it looks: the API server does not check the annotations of a binding, and
// refuses every later change of a pod that has got an invalid one.
func checkStamp(annotations map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if problems := validation.IsQualifiedName(strings.ToLower(key)); len(problems) > 0 {
			return fmt.Sprintf("%q: %s", key, strings.Join(problems, "; "))
		}
		if strings.HasPrefix(key, v1alpha1.GroupName+"/") {
			return fmt.Sprintf("%q: annotations of %s are not for policies to set", key, v1alpha1.GroupName)
		}
	}
	if _, wrong := burstable.ECI(annotations, &burstable.Capabilities{}); len(wrong) > 0 {
		return wrong[0].String() // a bound pod would be failed for it
	}
	if n := sizeOf(annotations); n > stampSizeMax {
		return fmt.Sprintf("%d bytes of names and values, at most %d are allowed", n, stampSizeMax)
	}
	return ""
}

// stampOf finds what that which granted a pod stamps on pods of a virtual node. It
// is not known where a policy is gone or invalid.
func stampOf(s *Snapshot, by Ref, n *VirtualNode) (scaleIn v1alpha1.ScaleIn, annotations map[string]string, known bool) {
	if by.Kind == KindNamespace || by.Kind == KindPod {
		return v1alpha1.ScaleInBurstFirst, nil, true
	}
	for _, p := range s.Policies[by.Namespace] {
		if p.Ref != by || p.Invalid != "" {
			continue
		}
		for i := range p.Targets {
			if p.Targets[i].Selector.Matches(n.Labels) {
				return p.ScaleIn, p.Targets[i].Annotations, true
			}
		}
		return p.ScaleIn, nil, true
	}
	return "", nil, false
}

// VirtualNode is the virtual node of that name, or nil.
func (s *Snapshot) VirtualNode(name string) *VirtualNode {
	i := slices.IndexFunc(s.VirtualNodes, func(v *VirtualNode) bool { return v.Name == name })
	if i < 0 {
		return nil
	}
	return s.VirtualNodes[i]
}

// ToleratedBy tells whether the pod tolerates the node's hard taints.
func (n *VirtualNode) ToleratedBy(pod *corev1.Pod) bool {
	return toleratesAll(pod.Spec.Tolerations, nil, n.HardTaints)
}

// RefOf reads who decided for a pod from its annotation autoburst.io/policy. It is
// the zero Ref where nobody did.
func RefOf(pod *corev1.Pod) Ref {
	kind, name, named := strings.Cut(pod.Annotations[v1alpha1.PolicyAnnotation], "/")
	switch {
	case kind == KindPolicy && named:
		return Ref{Kind: kind, Namespace: pod.Namespace, Name: name}
	case kind == KindClusterPolicy && named:
		return Ref{Kind: kind, Name: name}
	case kind == KindNamespace && !named:
		return Ref{Kind: kind, Name: pod.Namespace}
	case kind == KindPod && !named:
		return Ref{Kind: kind, Namespace: pod.Namespace, Name: pod.Name}
	}
	return Ref{}
}

// StampPatch is the JSON Patch that writes a stamp onto a live pod as it was
// seen. It fails, and is to be made anew, when anybody has changed the pod since:
// so it can replace nothing.
func StampPatch(pod *corev1.Pod, stamp map[string]string) ([]byte, error) {
	ops := append([]operation{
		{"test", "/metadata/uid", pod.UID},
		{"test", "/metadata/resourceVersion", pod.ResourceVersion},
	}, annotate(pod, stamp)...)
	patch, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("encoding the stamp of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return patch, nil
}
