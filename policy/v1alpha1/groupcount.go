package v1alpha1

import "encoding/json"

// GroupCount is how many container groups of a virtual node its cloud holds, as the
// node's agent has found by a complete listing that it began after it had read the
// question.
// +kubebuilder:object:generate=false
type GroupCount struct {
	// Request is the question: the value of CountGroupsAnnotation.
	Request string `json:"request"`
	// Groups counts those that exist, those that are being made, and those that may
	// exist because the outcome of a call is not known.
	Groups int `json:"groups"`
	// Listed is when the listing began, by the agent's clock (RFC 3339); empty when
	// there is none yet.
	Listed string `json:"listed,omitempty"`
	// Error is why the cloud could not be listed. The agent goes on trying.
	Error string `json:"error,omitempty"`
}

// String is the value of GroupCountAnnotation.
func (c GroupCount) String() string {
	b, err := json.Marshal(c)
	if err != nil { // strings and a number
		panic(err)
	}
	return string(b)
}

// ParseGroupCount reads the value of GroupCountAnnotation; what cannot be read answers
// no question.
func ParseGroupCount(s string) GroupCount {
	var c GroupCount
	if json.Unmarshal([]byte(s), &c) != nil {
		return GroupCount{}
	}
	return c
}
