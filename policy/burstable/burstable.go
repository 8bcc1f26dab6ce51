// Package burstable says whether a pod can run on a virtual node, and if not,
// which of its fields is in the way.
//
// It is the one place that knows. The agent publishes what its cloud can do as
// a [Capabilities] value on its Node; the webhook, the policy controller and
// the command line call [Check] with it before a pod bursts, and the agent calls
// it once more before it spends money. The package is pure: no clients, no
// clocks, no cloud SDKs.
package burstable

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Refusal names one field of a pod that a cloud cannot carry out.
type Refusal struct {
	// Field is the path as kubectl explain writes it, with the index of the
	// element, such as "spec.containers[0].lifecycle.preStop".
	Field string `json:"field"`
	// Message says why, in one sentence for the owner of the pod.
	Message string `json:"message"`
}

func (r Refusal) String() string { return fmt.Sprintf("%s: %s", r.Field, r.Message) }

// ParseCapabilities reads the annotation that an agent published on its Node.
func ParseCapabilities(annotation string) (Capabilities, error) {
	var c Capabilities
	if err := json.Unmarshal([]byte(annotation), &c); err != nil {
		return Capabilities{}, fmt.Errorf("reading the capabilities of a virtual node: %w", err)
	}
	return c, nil
}

// String is the form in which an agent publishes the capabilities.
func (c Capabilities) String() string {
	b, err := json.Marshal(c)
	if err != nil { // only strings, numbers and lists: cannot fail
		panic(err)
	}
	return string(b)
}

// Check returns the fields of the pod that a cloud with these capabilities
// cannot carry out, in the order of the pod's specification; none means that
// the pod can run there. Every field of a pod is either carried out or refused;
// none is dropped in silence.
func Check(pod *corev1.Pod, c Capabilities) []Refusal {
	refused, _ := sift(pod, &c, check(pod, c))
	return refused
}
