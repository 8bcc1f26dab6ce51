package vnode

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
)

// reasonRunsWithout is the reason of the events that say what a pod runs without: what
// was waived, and annotations without effect.
const reasonRunsWithout = "RunsWithout"

// tellRemarks says each once, before the pod's group is made.
func (r *reconciler) tellRemarks(pod *corev1.Pod) {
	for _, f := range burstable.Remarks(pod, r.provider.Capabilities()) {
		r.events.pod(pod, occurrence{warning: true, reason: reasonRunsWithout, key: f.Field,
			message: fmt.Sprintf("Virtual node %s runs this pod without %s", r.cfg.Node.Name, f)})
	}
}
