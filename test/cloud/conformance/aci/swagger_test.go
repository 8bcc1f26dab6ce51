package aci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// specification is where the Swagger and its examples are.
const specification = "../../aci/specification"

// swagger is the Swagger file with the schemas of its answers.
type swagger struct {
	document   object
	operations []swaggerOperation
	compiler   *jsonschema.Compiler
}

type swaggerOperation struct {
	id, method string
	segments   []string
	responses  object // by status
	examples   []string
}

// loadSwagger reads the Swagger once. It panics if the file is damaged.
var loadSwagger = sync.OnceValue(func() *swagger {
	raw, err := os.ReadFile(filepath.Join(specification, "containerInstance.json"))
	if err != nil {
		panic(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		panic(err)
	}
	s := &swagger{document: parsed.(object), compiler: jsonschema.NewCompiler()}
	s.compiler.DefaultDraft(jsonschema.Draft4)
	if err := s.compiler.AddResource("swagger:///file.json", parsed); err != nil {
		panic(err)
	}
	for template, methods := range s.document["paths"].(object) {
		for method, operation := range methods.(object) {
			o := swaggerOperation{
				id: at(operation, "operationId").(string), method: strings.ToUpper(method),
				segments: strings.Split(strings.Trim(template, "/"), "/"), responses: at(operation, "responses").(object),
			}
			examples, _ := at(operation, "x-ms-examples").(object)
			for _, example := range examples {
				o.examples = append(o.examples, path.Base(at(example, "$ref").(string)))
			}
			s.operations = append(s.operations, o)
		}
	}
	return s
})

var swaggerLock sync.Mutex // of the compiler, which tests share

func (s *swagger) find(method, urlPath string) (swaggerOperation, bool) {
	segments := strings.FieldsFunc(urlPath, func(r rune) bool { return r == '/' })
next:
	for _, o := range s.operations {
		if o.method != method || len(o.segments) != len(segments) {
			continue
		}
		for i, segment := range o.segments {
			if !strings.HasPrefix(segment, "{") && !strings.EqualFold(segment, segments[i]) {
				continue next
			}
		}
		return o, true
	}
	return swaggerOperation{}, false
}

// beyondSwagger are members that recordings of the service show and the Swagger
// does not.
var beyondSwagger = map[string]bool{"properties.provisioningTimeoutInSeconds": true}

// checkAnswer says what of an answer the Swagger does not allow; empty if it
// allows all, or does not speak of the request.
func checkAnswer(method, urlPath string, got answer) string {
	s := loadSwagger()
	if got.status >= http.StatusBadRequest {
		if at(got.body, "error", "code") == nil || at(got.body, "error", "message") == nil {
			return "the error has no code or no message"
		}
		return s.validate("#/definitions/CloudError", got.body)
	}
	o, ok := s.find(method, urlPath)
	if !ok {
		return ""
	}
	response, ok := o.responses[strconv.Itoa(got.status)]
	if !ok {
		return fmt.Sprintf("the Swagger has no status %d for %s", got.status, o.id)
	}
	reference, _ := at(response, "schema", "$ref").(string)
	switch {
	case reference == "" && got.raw != "":
		return fmt.Sprintf("the Swagger has no body with status %d for %s", got.status, o.id)
	case reference == "":
		return ""
	case got.body == nil:
		return "the answer is no JSON"
	}
	return s.validate(reference, got.body)
}

func (s *swagger) validate(reference string, body any) string {
	swaggerLock.Lock()
	defer swaggerLock.Unlock()
	schema, err := s.compiler.Compile("swagger:///file.json" + reference)
	if err != nil {
		return err.Error()
	}
	var violation *jsonschema.ValidationError
	if err := schema.Validate(body); errors.As(err, &violation) && !onlySecrets(violation) {
		return err.Error()
	}
	if unknown := s.unknown(object{"$ref": reference}, body, ""); unknown != "" {
		return "the Swagger knows no member " + unknown
	}
	return ""
}

// onlySecrets reports whether nothing is wrong but that a secret is missing: the
// Swagger requires of answers too what only requests may have.
func onlySecrets(violation *jsonschema.ValidationError) bool {
	if len(violation.Causes) > 0 {
		return !slices.ContainsFunc(violation.Causes, func(cause *jsonschema.ValidationError) bool { return !onlySecrets(cause) })
	}
	required, ok := violation.ErrorKind.(*kind.Required)
	return ok && slices.Equal(required.Missing, []string{"workspaceKey"})
}

// unknown is the path of a member that no schema names; empty if there is none.
func (s *swagger) unknown(schema object, value any, at string) string {
	parts := s.parts(schema)
	switch value := value.(type) {
	case object:
		for name, member := range value {
			where := strings.TrimPrefix(at+"."+name, ".")
			next, known := memberSchema(parts, name)
			if !known && !beyondSwagger[strings.TrimPrefix(where, "value[].")] {
				return where
			}
			if next == nil {
				continue
			}
			if unknown := s.unknown(next, member, where); unknown != "" {
				return unknown
			}
		}
	case list:
		for _, part := range parts {
			items, ok := part["items"].(object)
			if !ok {
				continue
			}
			for _, item := range value {
				if unknown := s.unknown(items, item, at+"[]"); unknown != "" {
					return unknown
				}
			}
		}
	}
	return ""
}

// memberSchema is the schema of a member, which is nil where any is allowed.
func memberSchema(parts []object, name string) (schema object, known bool) {
	free := true
	for _, part := range parts {
		properties, _ := part["properties"].(object)
		if member, ok := properties[name].(object); ok {
			return member, true
		}
		if additional, ok := part["additionalProperties"].(object); ok {
			return additional, true
		}
		if part["allOf"] == nil && part["$ref"] == nil {
			free = free && len(properties) == 0
		}
	}
	return nil, free
}

// parts are a schema and all that it includes.
func (s *swagger) parts(schema object) []object {
	parts := []object{schema}
	if reference, ok := schema["$ref"].(string); ok {
		name := path.Base(reference)
		parts = append(parts, s.parts(at(s.document, "definitions", name).(object))...)
	}
	all, _ := schema["allOf"].(list)
	for _, part := range all {
		parts = append(parts, s.parts(part.(object))...)
	}
	return parts
}

// example is one example of the Swagger.
type example struct {
	operation  swaggerOperation
	name       string
	parameters object
	responses  object
}

// examples are all examples of the Swagger.
func examples(t *testing.T) []example {
	t.Helper()
	var all []example
	for _, o := range loadSwagger().operations {
		for _, file := range o.examples {
			raw, err := os.ReadFile(filepath.Join(specification, "examples", file))
			if err != nil {
				t.Fatal(err)
			}
			var parsed object
			if err := json.Unmarshal(raw, &parsed); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, example{o, strings.TrimSuffix(file, ".json"), at(parsed, "parameters").(object), at(parsed, "responses").(object)})
		}
	}
	return all
}

// answerOf is the body of an example's answer with this status.
func answerOf(t *testing.T, name string, status int) any {
	t.Helper()
	for _, e := range examples(t) {
		if e.name == name {
			return at(e.responses, strconv.Itoa(status), "body")
		}
	}
	t.Fatalf("there is no example %s", name)
	return nil
}
