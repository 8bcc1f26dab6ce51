package webhook

import (
	"context"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

var (
	namespaceResource = metav1.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	namespaceKind     = metav1.GroupVersionKind{Version: "v1", Kind: "Namespace"}
)

// namespaceHook labels a namespace as served in the request that annotates it,
// so that the pods which follow at once are seen by the pod hook. It only adds
// the label; the controller removes it when nothing opts the namespace in.
type namespaceHook struct {
	excluded map[string]bool
}

func (h *namespaceHook) mutate(_ context.Context, req *admissionv1.AdmissionRequest) (outcome, error) {
	if req.Resource != namespaceResource || req.Kind != namespaceKind || req.SubResource != "" ||
		(req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return outcome{}, fail(causeUnexpected, "expected the creation or update of a namespace, got %s of %s %s/%s",
			req.Operation, req.Kind, req.Resource, req.SubResource)
	}
	var before metav1.PartialObjectMetadata
	if err := json.Unmarshal(req.Object.Raw, &before); err != nil {
		return outcome{}, fail(causeUndecodable, "reading the namespace: %w", err)
	}
	if h.excluded[before.Name] || h.excluded[req.Name] || before.DeletionTimestamp != nil {
		return outcome{}, nil
	}
	mode, ok := before.Annotations[v1alpha1.ModeAnnotation]
	if !ok {
		return outcome{}, nil
	}
	if !knownMode(mode) {
		return outcome{warnings: []string{invalidModeWarning(mode, "pods of the namespace stay")}}, nil
	}
	if v1alpha1.Mode(mode) == v1alpha1.ModeNever {
		return outcome{}, nil
	}
	if _, labelled := before.Labels[v1alpha1.ServedLabel]; labelled {
		return outcome{}, nil
	}
	after := before.DeepCopy()
	metav1.SetMetaDataLabel(&after.ObjectMeta, v1alpha1.ServedLabel, v1alpha1.ServedValue)
	patch, err := additions(&before, after)
	if err != nil {
		return outcome{}, fail(causeNotMerge, "patching the namespace: %w", err)
	}
	return outcome{patch: patch}, nil
}
