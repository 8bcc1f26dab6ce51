package vnode

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
)

// reasonRunsWithout is the reason of the event that says what a pod runs without: what
// was waived, and annotations without effect.
const reasonRunsWithout = "RunsWithout"

// tellRemarks says so once, before the pod's group is made.
func (r *reconciler) tellRemarks(pod *corev1.Pod) {
	remarks := burstable.Remarks(pod, r.provider.Capabilities())
	if len(remarks) == 0 {
		return
	}
	texts := make([]string, len(remarks))
	for i, f := range remarks {
		texts[i] = f.String()
	}
	r.events.pod(pod, occurrence{warning: true, reason: reasonRunsWithout, message: "Virtual node " + r.cfg.Node.Name +
		" runs this pod without everything that it asks for. " + strings.Join(texts, " ")})
}
