package policy

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"pgregory.net/rapid"
)

// TestStoppedNeverGrants: while bursting is stopped no pod gets a toleration,
// neither at admission nor late, and nobody's affinity is another than it would
// be otherwise; so a pod that was created meanwhile bursts when that is lifted.
func TestStoppedNeverGrants(t *testing.T) {
	now := pending().Status.Conditions[0].LastTransitionTime.Add(time.Hour)
	none := slices.Values([]*LocalNode(nil))
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		for _, n := range s.VirtualNodes {
			n.Free = free("8", "8Gi", "10")
		}
		s.Stopped = false
		running := Evaluate(s, "shop", pod)
		s.Stopped = true
		d := Evaluate(s, "shop", pod)
		if d.Action == Grant {
			t.Fatalf("granted at admission: %s", d.Message)
		}
		if writes := running.Action == Grant || running.Action == Wait; writes != (d.Reason == Stopped) {
			t.Fatalf("%s (%s) when running is %s (%s) when stopped", running.Action, running.Reason, d.Action, d.Reason)
		}
		admitted, otherwise := Inject(pod, d), Inject(pod, running)
		if !equality.Semantic.DeepEqual(admitted.Spec.Tolerations, pod.Spec.Tolerations) {
			t.Fatalf("tolerations %v became %v", pod.Spec.Tolerations, admitted.Spec.Tolerations)
		}
		if diff := cmp.Diff(otherwise.Spec.Affinity, admitted.Spec.Affinity); diff != "" {
			t.Fatalf("affinity (-running +stopped):\n%s", diff)
		}

		// The scheduler finds each of them unschedulable.
		for _, seen := range []*corev1.Pod{pod, admitted, otherwise} {
			seen = seen.DeepCopy()
			seen.Status = pending().Status
			if late := EvaluateLate(s, "shop", seen, none, nil, now); late.Action == Grant {
				t.Fatalf("granted late: %s", late.Message)
			}
		}
		if running.Action != Grant || len(running.Nodes) == 0 {
			return
		}
		s.Stopped = false
		admitted.Status = pending().Status
		late := EvaluateLate(s, "shop", admitted, none, nil, now)
		if late.Action != Grant {
			t.Fatalf("once lifted: %s: %s", late.Action, late.Message)
		}
		want := slices.Concat(pod.Spec.Tolerations, late.Tolerations)
		if diff := cmp.Diff(want, otherwise.Spec.Tolerations); diff != "" {
			t.Fatalf("tolerations (-late +at admission):\n%s", diff)
		}
	})
}
