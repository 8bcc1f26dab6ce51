package admission

import (
	"encoding/json"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// newSchema is what the API server checks a BurstAdmission by. One that it refuses
// would leave all pods to the late grants.
func newSchema(t *testing.T) validation.SchemaValidator {
	t.Helper()
	text, err := v1alpha1.CRDs.ReadFile("crds/autoburst.io_burstadmissions.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		t.Fatal(err)
	}
	var schema apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(crd.Spec.Versions[0].Schema.OpenAPIV3Schema, &schema, nil); err != nil {
		t.Fatal(err)
	}
	v, _, err := validation.NewSchemaValidator(&schema)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// valid fails the test when the API server would refuse the params.
func valid(t interface{ Fatalf(string, ...any) }, schema validation.SchemaValidator, params v1alpha1.BurstAdmissionSpec) {
	text, err := json.Marshal(v1alpha1.BurstAdmission{Spec: params})
	if err != nil {
		t.Fatalf("encoding: %v", err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		t.Fatalf("decoding: %v", err)
	}
	if errs := validation.ValidateCustomResource(nil, object, schema); len(errs) > 0 {
		t.Fatalf("the API server refuses the params: %v", errs)
	}
}
