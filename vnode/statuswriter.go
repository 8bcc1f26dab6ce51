package vnode

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes"
)

// patchStatus writes what differs between the pod's status and the wanted one, with
// some annotations, and nothing if the status does not differ. Conditions merge by type, so that those of other
// writers stay; the UID in the patch makes the API server refuse it for another
// pod of the same name. It returns the pod as the API server then holds it.
func patchStatus(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, want corev1.PodStatus, annotations map[string]string) (*corev1.Pod, bool, error) {
	if equality.Semantic.DeepEqual(pod.Status, want) {
		return pod, false, nil
	}
	patch, err := statusPatch(pod, want, annotations)
	if err != nil {
		return nil, false, err
	}
	written, err := client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, false, fmt.Errorf("writing the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	written.ManagedFields = nil
	return written, true, nil
}

func statusPatch(pod *corev1.Pod, want corev1.PodStatus, annotations map[string]string) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: pod.Status})
	if err != nil {
		return nil, fmt.Errorf("encoding the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: pod.UID, Annotations: annotations}, Status: want})
	if err != nil {
		return nil, fmt.Errorf("encoding the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("comparing the status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return patch, nil
}
