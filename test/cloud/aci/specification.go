package aci

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// APIVersion is the version of Microsoft.ContainerInstance that this package
// serves.
const APIVersion = "2023-05-01"

// previewVersion is the preview that became APIVersion: for deployments the two
// have the same members (the service's change log of its API versions).
const previewVersion = "2022-10-01-preview"

// specificationURL names the embedded Swagger file inside the schema compiler;
// nothing is ever fetched from it.
const specificationURL = "specification:///containerInstance.json"

//go:embed specification
var specificationFiles embed.FS

// specification holds the compiled request definitions of the Swagger file.
type specification struct {
	containerGroup *jsonschema.Schema // body of ContainerGroups_CreateOrUpdate
	resource       *jsonschema.Schema // body of ContainerGroups_Update
	exec           *jsonschema.Schema // body of Containers_ExecuteCommand
}

var loadSpecification = sync.OnceValues(func() (*specification, error) {
	file, err := specificationFiles.ReadFile("specification/containerInstance.json")
	if err != nil {
		return nil, fmt.Errorf("read the embedded Swagger: %w", err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("parse the embedded Swagger: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	// Swagger 2.0 schema objects are JSON Schema draft 4 plus readOnly. Draft 7
	// reads them alike (the file uses no exclusive bounds) and knows readOnly.
	compiler.DefaultDraft(jsonschema.Draft7)
	compiler.RegisterFormat(&jsonschema.Format{Name: "int32", Validate: validateInt32})
	if err := compiler.AddResource(specificationURL, document); err != nil {
		return nil, fmt.Errorf("add the embedded Swagger: %w", err)
	}
	var spec specification
	for name, target := range map[string]**jsonschema.Schema{
		"ContainerGroup": &spec.containerGroup,
		"Resource":       &spec.resource,

		"ContainerExecRequest": &spec.exec,
	} {
		compiled, err := compiler.Compile(specificationURL + "#/definitions/" + name)
		if err != nil {
			return nil, fmt.Errorf("compile definition %s: %w", name, err)
		}
		*target = compiled
	}
	return &spec, nil
})

func validateInt32(value any) error {
	number, ok := value.(json.Number)
	if !ok {
		return nil // another keyword says what type it should have been
	}
	integer, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil || integer < math.MinInt32 || integer > math.MaxInt32 {
		return errors.New("not a 32-bit integer")
	}
	return nil
}

// readBody parses a request body and brings it into the form the service keeps:
// null members count as absent, read-only members are ignored (Swagger
// "readOnly") and, unless refuseUnknown, so are members the schema does not
// know. What remains must satisfy the schema.
func readBody(schema *jsonschema.Schema, body []byte, refuseUnknown bool) (map[string]any, *apiError) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		// The parser's message may quote the body, and with it a secret.
		return nil, badRequest("InvalidRequestContent", "The request content was invalid and could not be deserialized as JSON.")
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, badRequest("InvalidRequestContent", "The request content must be a JSON object.")
	}
	var unknown []string
	prune(schema, object, "", &unknown)
	if refuseUnknown && len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, badRequest("InvalidRequestContent", "Could not find member '"+unknown[0]+"' on the object type of the request.")
	}
	if err := schema.Validate(object); err != nil {
		return nil, schemaError(err)
	}
	return object, nil
}

// prune removes null, read-only and unknown members from value and notes the
// paths of the unknown ones.
func prune(schema *jsonschema.Schema, value any, path string, unknown *[]string) {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			at := path + "." + name
			memberSchema, known := memberOf(schema, name)
			switch {
			case member == nil:
				delete(value, name)
			case !known:
				*unknown = append(*unknown, strings.TrimPrefix(at, "."))
				delete(value, name)
			case memberSchema != nil && isReadOnly(memberSchema):
				delete(value, name)
			case memberSchema != nil:
				prune(memberSchema, member, at, unknown)
			}
		}
	case []any:
		items := itemsOf(schema)
		if items == nil {
			return
		}
		for i, item := range value {
			prune(items, item, fmt.Sprintf("%s[%d]", path, i), unknown)
		}
	}
}

// memberOf finds the schema of an object member through $ref and allOf. A
// member is known when a schema names it or when the object is free-form; the
// schema of a free-form member is nil.
func memberOf(schema *jsonschema.Schema, name string) (*jsonschema.Schema, bool) {
	parts := flatten(schema)
	freeForm := true
	for _, part := range parts {
		if member, ok := part.Properties[name]; ok {
			return member, true
		}
		if additional, ok := part.AdditionalProperties.(*jsonschema.Schema); ok {
			return additional, true
		}
		freeForm = freeForm && len(part.Properties) == 0
	}
	return nil, freeForm
}

func itemsOf(schema *jsonschema.Schema) *jsonschema.Schema {
	for _, part := range flatten(schema) {
		if items, ok := part.Items.(*jsonschema.Schema); ok {
			return items
		}
	}
	return nil
}

func isReadOnly(schema *jsonschema.Schema) bool {
	return slices.ContainsFunc(flatten(schema), func(part *jsonschema.Schema) bool { return part.ReadOnly })
}

// flatten lists schema and everything it includes by $ref and allOf.
func flatten(schema *jsonschema.Schema) []*jsonschema.Schema {
	if schema == nil {
		return nil
	}
	parts := []*jsonschema.Schema{schema}
	parts = append(parts, flatten(schema.Ref)...)
	for _, part := range schema.AllOf {
		parts = append(parts, flatten(part)...)
	}
	return parts
}

// schemaError turns a violation into the service's answer. Two violations have
// codes of their own in public reports of the service; every other one is
// InvalidRequestContent. Only the place and the rule are named, never a value,
// which may be a secret.
func schemaError(err error) *apiError {
	var violation *jsonschema.ValidationError
	if !errors.As(err, &violation) {
		return badRequest("InvalidRequestContent", "The request content was invalid.")
	}
	for len(violation.Causes) > 0 {
		violation = violation.Causes[0]
	}
	keyword := strings.Join(violation.ErrorKind.KeywordPath(), "/")
	at := strings.Join(violation.InstanceLocation, ".")
	if required, ok := violation.ErrorKind.(*kind.Required); ok {
		at = strings.TrimPrefix(at+"."+required.Missing[0], ".")
	}
	code := "InvalidRequestContent"
	switch {
	case at == "properties.osType":
		code = "InvalidOsType"
	case keyword == "required" && (strings.HasSuffix(at, ".resources") || strings.Contains(at, ".resources.requests")):
		code = "ResourceRequestsNotSpecified"
	}
	result := badRequest(code, fmt.Sprintf("The request content is invalid at '%s': the rule '%s' of the API description is not met.", at, keyword))
	result.target = at
	return result
}
