package webhook

import (
	"context"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/autoburst/autoburst/policy"
)

// Keys of the audit annotations; the API server puts the name of the hook in
// front.
const (
	auditPolicy = "policy"
	auditReason = "reason"
)

var (
	podResource = metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	podKind     = metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
)

// podHook decides for pods at their creation.
type podHook struct {
	snapshots Snapshotter
	// The rules of package policy.
	evaluate func(*policy.Snapshot, string, *corev1.Pod) policy.Decision
	inject   func(*corev1.Pod, policy.Decision) *corev1.Pod
	shares   Shares
}

func (h *podHook) mutate(ctx context.Context, req *admissionv1.AdmissionRequest) (outcome, error) {
	if req.Resource != podResource || req.Kind != podKind || req.SubResource != "" || req.Operation != admissionv1.Create {
		return outcome{}, fail(causeUnexpected, "expected the creation of a pod, got %s of %s %s/%s",
			req.Operation, req.Kind, req.Resource, req.SubResource)
	}
	if !h.snapshots.Synced() {
		return outcome{}, fail(causeUnsynced, "no complete snapshot of the cluster yet")
	}
	snapshot := h.snapshots.Snapshot()
	if snapshot == nil {
		return outcome{}, fail(causeUnsynced, "no snapshot of the cluster yet")
	}
	pod, err := readPod(req.Object.Raw)
	if err != nil {
		return outcome{}, err
	}

	// At creation the namespace may stand in the request alone.
	d, refused := h.take(h.evaluate(snapshot, req.Namespace, pod), req.DryRun != nil && *req.DryRun)
	traceDecision(ctx, d)
	out := outcome{
		count: func(m *metrics) {
			m.countDecision(d)
			if refused {
				m.refusals.Inc()
			}
		},
		audit:    audit(d),
		warnings: warnings(pod, snapshot.Namespaces[req.Namespace].Mode, d),
	}
	if d.Action != policy.Wait && d.Action != policy.Grant && !d.HonorTaints {
		return out, nil
	}
	after := h.inject(pod, d)
	if d.Action == policy.Wait || d.Action == policy.Grant {
		after = carryTrace(ctx, after)
	}
	patch, err := podPatch(pod, after)
	if err != nil {
		return outcome{}, fail(causeNotMerge, "patching the pod: %w", err)
	}
	out.patch = patch
	return out, nil
}

// take takes what a grant costs from the shares of limits, or leaves the grant to
// the controller. A dry run takes nothing.
func (h *podHook) take(d policy.Decision, dryRun bool) (_ policy.Decision, refused bool) {
	if d.Action != policy.Grant || len(d.Charges) == 0 || dryRun {
		return d, false
	}
	if h.shares != nil {
		if stamp, ok := h.shares.Take(d.Charges); ok {
			d.Shares = stamp
			return d, false
		}
	}
	return d.Withheld(), true
}

// readPod decodes a pod. One without metadata or spec is none that an API server
// sends, and could not be patched.
func readPod(raw []byte) (*corev1.Pod, error) {
	var parts struct {
		Metadata *metav1.ObjectMeta `json:"metadata"`
		Spec     *corev1.PodSpec    `json:"spec"`
		Status   corev1.PodStatus   `json:"status"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return nil, fail(causeUndecodable, "reading the pod: %w", err)
	}
	if parts.Metadata == nil || parts.Spec == nil {
		return nil, fail(causeUndecodable, "reading the pod: metadata or spec is missing")
	}
	return &corev1.Pod{ObjectMeta: *parts.Metadata, Spec: *parts.Spec, Status: parts.Status}, nil
}

// podParts are the members of a pod that the rules write to, in the shape of the
// whole. Comparing these alone is what keeps large pods cheap, and nothing else
// of a pod can get into a patch.
type podParts struct {
	Metadata podMetadata `json:"metadata"`
	Spec     podSpec     `json:"spec"`
}

type podMetadata struct {
	Annotations map[string]string `json:"annotations,omitempty"`
}

type podSpec struct {
	Affinity                  *corev1.Affinity                  `json:"affinity,omitempty"`
	Tolerations               []corev1.Toleration               `json:"tolerations,omitempty"`
	SchedulingGates           []corev1.PodSchedulingGate        `json:"schedulingGates,omitempty"`
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
}

func partsOf(pod *corev1.Pod) *podParts {
	return &podParts{
		podMetadata{pod.Annotations},
		podSpec{pod.Spec.Affinity, pod.Spec.Tolerations, pod.Spec.SchedulingGates, pod.Spec.TopologySpreadConstraints},
	}
}

// podPatch is additions for a pod.
func podPatch(before, after *corev1.Pod) ([]jsonpatch.Operation, error) {
	if after == nil {
		return nil, errNotMerge
	}
	return additions(partsOf(before), partsOf(after))
}
