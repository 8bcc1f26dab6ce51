package aci

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestA04APIVersion(t *testing.T) {
	tests := map[string]struct{ query, want string }{
		"missing":        {"?api-version=", "MissingApiVersionParameter"},
		"unknown":        {"?api-version=1999-01-01", "NoRegisteredProviderFound"},
		"of operations":  {"?api-version=2018-06-01", "NoRegisteredProviderFound"},
		"other services": {"?api-version=2024-05-01-preview", "NoRegisteredProviderFound"},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.arm(http.MethodGet, testGroups+test.query, nil)
			if got.status != http.StatusBadRequest || got.code() != test.want {
				t.Errorf("got %d %s, want 400 %s", got.status, got.code(), test.want)
			}
		})
	}
}

func TestA04PreviewVersion(t *testing.T) {
	c := newTestCloud(t)
	c.put("one", http.StatusCreated)
	c.put("two", http.StatusCreated)
	c.server.Change(func(s *Settings) { s.PageSize = 1 })
	got := c.arm(http.MethodGet, testGroups+"?api-version="+previewVersion, nil)
	if got.status != http.StatusOK {
		t.Fatalf("list: %d %s", got.status, got.raw)
	}
	if link, _ := at(got.body, "nextLink").(string); !strings.Contains(link, "api-version="+previewVersion) {
		t.Errorf("next page at %q, want one of the same version", link)
	}
}

func TestA05NamesWithoutCase(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated)
	upper := strings.Replace(strings.ToUpper(c.path("web")), "/SUBSCRIPTIONS", "/Subscriptions", 1)
	got := c.arm(http.MethodGet, upper, nil)
	if got.status != http.StatusOK {
		t.Fatalf("upper case path: %d %s", got.status, got.raw)
	}
	wantAt(t, got.body, c.path("web"), "id") // the creator's form
	if got := c.arm(http.MethodPut, upper, groupBody()); got.status != http.StatusBadRequest {
		t.Errorf("PUT with a forbidden name: %d", got.status)
	}
	if got := c.arm(http.MethodGet, "/"+c.path("web"), nil); got.status != http.StatusOK {
		t.Errorf("doubled slash: %d", got.status)
	}
}

func TestA05NotFound(t *testing.T) {
	tests := map[string]struct {
		method, path, want string
		status             int
	}{
		"group":                    {"GET", testGroups + "/none", "ResourceNotFound", 404},
		"group to restart":         {"POST", testGroups + "/none/restart", "ResourceNotFound", 404},
		"group to stop":            {"POST", testGroups + "/none/stop", "ResourceNotFound", 404},
		"group to start":           {"POST", testGroups + "/none/start", "ResourceNotFound", 404},
		"logs":                     {"GET", testGroups + "/none/containers/app/logs", "ResourceNotFound", 404},
		"resource group":           {"GET", strings.Replace(testGroups, "/demo/", "/none/", 1), "ResourceGroupNotFound", 404},
		"resource group on delete": {"DELETE", strings.Replace(testGroups, "/demo/", "/none/", 1) + "/web", "ResourceGroupNotFound", 404},
		"subscription":             {"GET", strings.Replace(testGroups, testSubscription, "none", 1), "SubscriptionNotFound", 404},
		"resource type":            {"GET", testGroups + "/web/nothing", "InvalidResourceType", 404},
		"method":                   {"POST", testGroups + "/web", "MethodNotAllowed", 405},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.arm(test.method, test.path, nil)
			if got.status != test.status || got.code() != test.want {
				t.Errorf("got %d %s, want %d %s", got.status, got.code(), test.status, test.want)
			}
			if got.header.Get("X-Ms-Failure-Cause") != "gateway" {
				t.Error("no x-ms-failure-cause: gateway")
			}
		})
	}
}

// Every example of a covered operation is accepted, and answers with a status
// that the example names.
func TestA06Examples(t *testing.T) {
	files, err := fs.Glob(specificationFiles, "specification/examples/*.json")
	if err != nil {
		t.Fatal(err)
	}
	operations := exampleOperations(t)
	covered := 0
	for _, file := range files {
		operation := operations[path.Base(file)]
		var served *route
		for i := range routes {
			if routes[i].operation == operation.id {
				served = &routes[i]
			}
		}
		if served == nil {
			continue // cached images, service association links
		}
		covered++
		t.Run(strings.TrimSuffix(path.Base(file), ".json"), func(t *testing.T) {
			c := newTestCloud(t, func(o *Options) {
				o.Subscriptions = append(o.Subscriptions, Subscription{ID: "subid", ResourceGroups: []string{"demo", "demoResource"}})
				o.Locations = []string{"westus", "eastus", "eastus2", "westeurope", "westcentralus"}
			})
			example := readExample(t, file)
			url := operation.path
			for name, value := range example.Parameters {
				if text, ok := value.(string); ok {
					url = strings.ReplaceAll(url, "{"+name+"}", text)
				}
			}
			if served.method != http.MethodPut && strings.Contains(url, "/containerGroups/") {
				// The example speaks of a group that exists.
				group, _, _ := strings.Cut(url, "/restart")
				for _, suffix := range []string{"/stop", "/start", "/containers/"} {
					group, _, _ = strings.Cut(group, suffix)
				}
				body := groupBody(with("container1", "properties", "containers", 0, "name"))
				if got := c.arm(http.MethodPut, group, body); got.status != http.StatusCreated {
					t.Fatalf("prepare: %d %s", got.status, got.raw)
				}
			}
			var body any
			for _, name := range []string{"containerGroup", "Resource", "containerExecRequest"} {
				if given, ok := example.Parameters[name]; ok {
					body = given
				}
			}
			if tail, ok := example.Parameters["tail"]; ok {
				encoded, _ := json.Marshal(tail)
				url += "?tail=" + string(encoded)
			}
			got := c.arm(served.method, url, body)
			if !hasStatus(example.Responses, got.status) {
				t.Errorf("%s %s: status %d is not in the example: %s", served.method, url, got.status, got.raw)
			}
		})
	}
	if covered < 16 {
		t.Errorf("only %d examples belong to covered operations", covered)
	}
}

type example struct {
	Parameters map[string]any             `json:"parameters"`
	Responses  map[string]json.RawMessage `json:"responses"`
}

func hasStatus(responses map[string]json.RawMessage, status int) bool {
	encoded, _ := json.Marshal(status)
	_, ok := responses[string(encoded)]
	return ok
}

func readExample(t *testing.T, file string) example {
	t.Helper()
	raw, err := specificationFiles.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var result example
	if err := json.Unmarshal(raw, &result); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return result
}

type exampleOperation struct{ id, path string }

// exampleOperations maps an example's file name to its operation.
func exampleOperations(t *testing.T) map[string]exampleOperation {
	t.Helper()
	raw, err := specificationFiles.ReadFile("specification/containerInstance.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
			Examples    map[string]struct {
				Ref string `json:"$ref"`
			} `json:"x-ms-examples"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	result := map[string]exampleOperation{}
	for url, methods := range document.Paths {
		for _, operation := range methods {
			for _, e := range operation.Examples {
				result[path.Base(e.Ref)] = exampleOperation{operation.OperationID, url}
			}
		}
	}
	return result
}

func TestA06Schema(t *testing.T) {
	properties := []any{"properties", "containers", 0, "properties"}
	inContainer := func(value any, steps ...any) func(map[string]any) {
		return with(value, append(append([]any{}, properties...), steps...)...)
	}
	tests := map[string]struct {
		edit func(map[string]any)
		want string
	}{
		"no properties":         {with(nil, "properties"), "InvalidRequestContent"},
		"no containers":         {with(nil, "properties", "containers"), "InvalidRequestContent"},
		"no os type":            {with(nil, "properties", "osType"), "InvalidOsType"},
		"unknown os type":       {with("Plan9", "properties", "osType"), "InvalidOsType"},
		"unknown policy":        {with("Sometimes", "properties", "restartPolicy"), "InvalidRequestContent"},
		"unknown sku":           {with("Cheap", "properties", "sku"), "InvalidRequestContent"},
		"unknown priority":      {with("High", "properties", "priority"), "InvalidRequestContent"},
		"no image":              {inContainer(nil, "image"), "InvalidRequestContent"},
		"no resources":          {inContainer(nil, "resources"), "ResourceRequestsNotSpecified"},
		"no requests":           {inContainer(nil, "resources", "requests"), "ResourceRequestsNotSpecified"},
		"no cpu":                {inContainer(nil, "resources", "requests", "cpu"), "ResourceRequestsNotSpecified"},
		"cpu is text":           {inContainer("1", "resources", "requests", "cpu"), "InvalidRequestContent"},
		"command is text":       {inContainer("sleep", "command"), "InvalidRequestContent"},
		"env without name":      {inContainer([]any{map[string]any{"value": "x"}}, "environmentVariables"), "InvalidRequestContent"},
		"port is a fraction":    {inContainer([]any{map[string]any{"port": 80.5}}, "ports"), "InvalidRequestContent"},
		"port beyond 32 bit":    {inContainer([]any{map[string]any{"port": 1 << 40}}, "ports"), "InvalidRequestContent"},
		"volume without name":   {with([]any{map[string]any{"emptyDir": map[string]any{}}}, "properties", "volumes"), "InvalidRequestContent"},
		"address without ports": {with(map[string]any{"type": "Public"}, "properties", "ipAddress"), "InvalidRequestContent"},
		"tag is a number":       {with(map[string]any{"a": 1}, "tags"), "InvalidRequestContent"},
		"no location":           {with(nil, "location"), "LocationRequired"},
		"unknown location":      {with("moon", "location"), "LocationNotAvailableForResourceType"},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := c.arm(http.MethodPut, c.path("web"), groupBody(test.edit))
			if got.status != http.StatusBadRequest || got.code() != test.want {
				t.Errorf("got %d %s, want 400 %s: %s", got.status, got.code(), test.want, got.raw)
			}
		})
	}
	t.Run("not JSON", func(t *testing.T) {
		got := c.arm(http.MethodPut, c.path("web"), `{"properties": {"password": "s3cret`)
		if got.status != http.StatusBadRequest || strings.Contains(got.raw, "s3cret") {
			t.Errorf("got %d %s", got.status, got.raw)
		}
	})
	if got := c.arm(http.MethodGet, c.path("web"), nil); got.status != http.StatusNotFound {
		t.Errorf("a refused PUT left a group: %d", got.status)
	}
}

func TestA06ReadOnlyAndNullMembersAreIgnored(t *testing.T) {
	c := newTestCloud(t, timing(sim.Timing{Schedule: 1}))
	c.put("web", http.StatusCreated,
		with("Failed", "properties", "provisioningState"),
		with("a text where an object belongs", "properties", "instanceView"),
		with(7, "id"),
		with(map[string]any{"ports": []any{map[string]any{"port": 80}}, "type": "Public", "fqdn": 5, "ip": "203.0.113.77"}, "properties", "ipAddress"),
		func(body map[string]any) {
			body["properties"].(map[string]any)["volumes"] = nil
			body["properties"].(map[string]any)["dnsConfig"] = nil
		})
	got := c.get("web")
	wantAt(t, got, "Pending", "properties", "provisioningState")
	wantAt(t, got, nil, "properties", "volumes")
	wantAt(t, got, nil, "properties", "ipAddress", "ip")
	wantAt(t, got, c.path("web"), "id")
}

func TestA06UnknownMembers(t *testing.T) {
	c := newTestCloud(t)
	unknown := with("x", "properties", "containers", 0, "properties", "workingDir")
	c.put("web", http.StatusCreated, unknown)
	wantAt(t, c.get("web"), nil, "properties", "containers", 0, "properties", "workingDir")

	c.server.Change(func(s *Settings) { s.RefuseUnknownMembers = true })
	got := c.arm(http.MethodPut, c.path("web2"), groupBody(unknown))
	if got.status != http.StatusBadRequest || !strings.Contains(got.raw, "workingDir") {
		t.Errorf("got %d %s", got.status, got.raw)
	}
}

// What the server answers satisfies the definitions that the Swagger gives for
// its answers.
func TestA06AnswersSatisfyTheSchema(t *testing.T) {
	raw, err := specificationFiles.ReadFile("specification/containerInstance.json")
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4)
	if err := compiler.AddResource(specificationURL, document); err != nil {
		t.Fatal(err)
	}
	c := newTestCloud(t)
	location := "/subscriptions/" + testSubscription + "/providers/Microsoft.ContainerInstance/locations/eastus/"
	full := []func(map[string]any){
		with(map[string]any{"type": "Public", "ports": []any{map[string]any{"port": 80}}}, "properties", "ipAddress"),
		with([]any{map[string]any{"name": "setup", "properties": map[string]any{"image": "busybox"}}}, "properties", "initContainers"),
		with([]any{map[string]any{"name": "secrets", "secret": map[string]any{"a": "YQ=="}}}, "properties", "volumes"),
	}
	for _, test := range []struct {
		name, definition string
		answer           func() answer
	}{
		{"created", "ContainerGroup", func() answer { return c.put("web", http.StatusCreated, full...) }},
		{"read", "ContainerGroup", func() answer { return c.arm(http.MethodGet, c.path("web"), nil) }},
		{"crashed", "ContainerGroup", func() answer {
			if err := c.run("web").Exit("app", 1); err != nil {
				t.Fatal(err)
			}
			return c.arm(http.MethodGet, c.path("web"), nil)
		}},
		{"updated", "ContainerGroup", func() answer { return c.put("web", http.StatusOK, full...) }},
		{"listed", "ContainerGroupListResult", func() answer { return c.arm(http.MethodGet, testGroups, nil) }},
		{"logs", "Logs", func() answer { return c.arm(http.MethodGet, c.path("web")+"/containers/app/logs", nil) }},
		{"usages", "UsageListResult", func() answer { return c.arm(http.MethodGet, location+"usages", nil) }},
		{"capabilities", "CapabilitiesListResult", func() answer { return c.arm(http.MethodGet, location+"capabilities", nil) }},
		{"operations", "OperationListResult", func() answer {
			return c.arm(http.MethodGet, "/providers/Microsoft.ContainerInstance/operations", nil)
		}},
		{"deleted", "ContainerGroup", func() answer { return c.arm(http.MethodDelete, c.path("web"), nil) }},
		{"error", "CloudError", func() answer { return c.arm(http.MethodGet, c.path("web"), nil) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			schema, err := compiler.Compile(specificationURL + "#/definitions/" + test.definition)
			if err != nil {
				t.Fatal(err)
			}
			got := test.answer()
			if err := schema.Validate(got.body); err != nil {
				t.Errorf("%v\n%s", err, got.raw)
			}
		})
	}
}

func TestA40RequestIDs(t *testing.T) {
	guid := `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	c := newTestCloud(t)
	for name, request := range map[string]*http.Request{
		"success":     c.armRequest(http.MethodGet, testGroups, nil),
		"created":     c.armRequest(http.MethodPut, c.path("web"), groupBody()),
		"no content":  c.armRequest(http.MethodDelete, c.path("none"), nil),
		"not found":   c.armRequest(http.MethodGet, c.path("none"), nil),
		"bad version": c.armRequest(http.MethodGet, testGroups+"?api-version=x", nil),
		"no resource": c.armRequest(http.MethodGet, "/nothing", nil),
		"unauthorized": func() *http.Request {
			r := c.armRequest(http.MethodGet, testGroups, nil)
			r.Header.Del("Authorization")
			return r
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			got := c.do(request)
			if id := got.header.Get("X-Ms-Request-Id"); !regexp.MustCompile(`^[a-z0-9]+:` + guid + `$`).MatchString(id) {
				t.Errorf("x-ms-request-id %q", id)
			}
			if id := got.header.Get("X-Ms-Correlation-Request-Id"); !regexp.MustCompile(`^` + guid + `$`).MatchString(id) {
				t.Errorf("x-ms-correlation-request-id %q", id)
			}
		})
	}
	request := c.armRequest(http.MethodGet, testGroups, nil)
	request.Header.Set("X-Ms-Correlation-Request-Id", "5c5bd2ee-bf5b-4a1a-8a12-0f2f1f3f4f5f")
	if got := c.do(request).header.Get("X-Ms-Correlation-Request-Id"); got != "5c5bd2ee-bf5b-4a1a-8a12-0f2f1f3f4f5f" {
		t.Errorf("the caller's correlation id became %q", got)
	}
}
