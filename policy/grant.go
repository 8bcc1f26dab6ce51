package policy

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// operation is one step of a JSON Patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

// GrantPatch is the JSON Patch that carries a late grant out on the pod as it
// was seen. It appends and never replaces: spec.tolerations is an atomic list of
// which the API server lets a live pod's only grow.
//
// The patch fails, and is to be made anew from a fresh pod, when the pod is
// another one by now (UID) or its tolerations have changed. Where a list or map
// has to be made because the pod has none, the resourceVersion must be the one
// that was seen, or a list that has come up since would be lost; otherwise not,
// so that the scheduler's own writes of the status do not stand in the way.
func GrantPatch(pod *corev1.Pod, d LateDecision) ([]byte, error) {
	if d.Action != Grant {
		return nil, fmt.Errorf("making the patch of a grant for pod %s/%s: its decision is %s (%s)", pod.Namespace, pod.Name, d.Action, d.Reason)
	}
	ops := []operation{{"test", "/metadata/uid", pod.UID}}
	if len(pod.Spec.Tolerations) == 0 || len(pod.Annotations) == 0 {
		ops = append(ops, operation{"test", "/metadata/resourceVersion", pod.ResourceVersion})
	}
	if add := missing(pod, d.Tolerations); len(add) > 0 {
		if len(pod.Spec.Tolerations) == 0 {
			ops = append(ops, operation{"add", "/spec/tolerations", add})
		} else {
			ops = append(ops, operation{"test", "/spec/tolerations", pod.Spec.Tolerations})
			for i := range add {
				ops = append(ops, operation{"add", "/spec/tolerations/-", add[i]})
			}
		}
	}
	ops = append(ops, openGate(pod)...)
	ops = append(ops, annotate(pod, map[string]string{
		v1alpha1.PolicyAnnotation:      d.By.String(),
		v1alpha1.DecidedModeAnnotation: string(d.Mode),
		v1alpha1.ReasonAnnotation:      string(d.Reason),
		v1alpha1.GrantAnnotation:       GrantLate,
	})...)
	b, err := json.Marshal(ops)
	if err != nil {
		return nil, fmt.Errorf("writing the patch of a grant for pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return b, nil
}

// annotate sets annotations of a pod as it was seen. Where it has none, the patch
// must test that it is still so.
func annotate(pod *corev1.Pod, annotations map[string]string) []operation {
	if len(pod.Annotations) == 0 {
		return []operation{{"add", "/metadata/annotations", annotations}}
	}
	var ops []operation
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		ops = append(ops, operation{"add", "/metadata/annotations/" + strings.ReplaceAll(key, "/", "~1"), annotations[key]})
	}
	return ops
}
