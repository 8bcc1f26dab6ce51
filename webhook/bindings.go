package webhook

import (
	"context"

	"maps"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
)

const (
	// bindingWait is how long the hook waits for a pod that its view does not show
	// yet: the scheduler may bind a pod within milliseconds of its creation or grant.
	bindingWait = 200 * time.Millisecond
	// bindingPoll is the time between two looks.
	bindingPoll = 2 * time.Millisecond
)

var bindingKind = metav1.GroupVersionKind{Version: "v1", Kind: "Binding"}

// PendingPods gives the pods that have no node yet. A store.Store does.
type PendingPods interface {
	// Pending is the newest known state of a pod without a node. It must not block,
	// and the object must not be changed.
	Pending(uid types.UID) (*corev1.Pod, bool)
}

// bindingHook adds annotations to the request that binds a pod to a virtual node;
// the API server copies them to the pod in the same write (k8s.io/kubernetes
// v1.36.3, BindingREST in pkg/registry/core/pod/storage). There they would replace
// the pod's own, so what the pod has is left out.
type bindingHook struct {
	snapshots Snapshotter
	pods      PendingPods
	clock     clock.Clock
	stamp     func(s *policy.Snapshot, pod *corev1.Pod, node, how string) map[string]string
}

// binding are the members of a Binding that are read.
type binding struct {
	Metadata *metav1.ObjectMeta     `json:"metadata"`
	Target   corev1.ObjectReference `json:"target"`
}

func (h *bindingHook) mutate(_ context.Context, req *admissionv1.AdmissionRequest) (outcome, error) {
	if req.Resource != podResource || req.Kind != bindingKind || req.SubResource != "binding" || req.Operation != admissionv1.Create {
		return outcome{}, fail(causeUnexpected, "expected the binding of a pod, got %s of %s %s/%s",
			req.Operation, req.Kind, req.Resource, req.SubResource)
	}
	if !h.snapshots.Synced() || h.snapshots.Snapshot() == nil {
		return outcome{}, fail(causeUnsynced, "no complete snapshot of the cluster yet")
	}
	var b binding
	if err := json.Unmarshal(req.Object.Raw, &b); err != nil {
		return outcome{}, fail(causeUndecodable, "reading the binding: %w", err)
	}
	if b.Metadata == nil {
		return outcome{}, fail(causeUndecodable, "reading the binding: metadata is missing")
	}
	// A binding without the pod's UID is not the scheduler's; the controller sees to
	// its pod.
	if b.Metadata.UID == "" || b.Target.Kind != "" && b.Target.Kind != "Node" {
		return outcome{}, nil
	}
	pod := h.await(b.Metadata.UID, b.Target.Name)
	if pod == nil {
		return outcome{}, nil
	}
	stamp := h.stamp(h.snapshots.Snapshot(), pod, b.Target.Name, policy.StampedAtBinding)
	if len(stamp) == 0 {
		return outcome{}, nil
	}
	before := podMetadata{b.Metadata.Annotations}
	after := podMetadata{maps.Clone(stamp)}
	maps.Copy(after.Annotations, before.Annotations) // the scheduler's own win
	type parts struct {
		Metadata podMetadata `json:"metadata"`
	}
	patch, err := additions(parts{before}, parts{after})
	if err != nil {
		return outcome{}, fail(causeNotMerge, "patching the binding: %w", err)
	}
	return outcome{patch: patch}, nil
}

// await finds the pod as the scheduler saw it when it chose the node: with the
// toleration of the node's taints. It gives nil for a node that is no virtual one,
// and what it has when the time is up.
func (h *bindingHook) await(uid types.UID, node string) *corev1.Pod {
	for end := h.clock.Now().Add(bindingWait); ; {
		n := h.snapshots.Snapshot().VirtualNode(node)
		if n == nil {
			return nil
		}
		pod, known := h.pods.Pending(uid)
		if known && n.ToleratedBy(pod) {
			return pod
		}
		if !h.clock.Now().Before(end) {
			return pod
		}
		<-h.clock.After(bindingPoll)
	}
}
