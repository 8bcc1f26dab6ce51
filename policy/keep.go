package policy

import (
	"fmt"
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Unbounded is the Budget of a pod that keepLocal does not hold back.
const Unbounded = math.MaxInt

// kept is how many of so many replicas keepLocal keeps.
func (p *Policy) kept(replicas int) int {
	if p == nil || p.KeepLocal == nil {
		return 0
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(p.KeepLocal, replicas, true)
	if err != nil { // an invalid policy, which decides for no pod
		return replicas
	}
	return max(0, min(n, replicas))
}

// keepLocal is how many pods of the pod's revision may burst at once, and where
// as many have, why the pod must wait.
//
// Only the pod's own revision counts. Of a rolling update the pods of the old one
// are on their way out, and would hold back all new ones; so the update goes on,
// and when it is through the new revision has the replicas to keep on local nodes,
// as the old one had.
func (p *Policy) keepLocal(pod *corev1.Pod, workloads Workloads) (budget int, why string) {
	if p == nil || p.KeepLocal == nil {
		return Unbounded, ""
	}
	if workloads == nil {
		return 0, "Nobody counts them here."
	}
	w, known := workloads.Workload(pod)
	if !known {
		return 0, unknownWorkload(pod)
	}
	kept := p.kept(w.Replicas)
	budget = w.Replicas - kept
	if w.Burst < budget {
		return budget, ""
	}
	return budget, fmt.Sprintf("%s keeps %d of its %d replicas local; %d have burst.", w.Ref, kept, w.Replicas, w.Burst)
}
