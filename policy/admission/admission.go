// Package admission lets the API server admit pods by itself, from Kubernetes 1.36
// on: the rules of package policy as expressions of a MutatingAdmissionPolicy, for
// clusters that want no webhook. The expressions are the same in every cluster and
// come with the chart; what differs is data, which policy.Params compiles and the
// controller keeps in one BurstAdmission.
package admission

import (
	_ "embed"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"sigs.k8s.io/yaml"
)

//go:embed mutation.yaml
var mutation []byte

// Spec is the part of a MutatingAdmissionPolicy that is the same in every cluster:
// its conditions, variables and mutations. The chart adds the rest.
func Spec() (admissionregistrationv1.MutatingAdmissionPolicySpec, error) {
	var spec admissionregistrationv1.MutatingAdmissionPolicySpec
	if err := yaml.UnmarshalStrict(mutation, &spec); err != nil {
		return spec, fmt.Errorf("reading the expressions: %w", err)
	}
	return spec, nil
}
