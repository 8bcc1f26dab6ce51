package aci

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testTenant       = "11111111-1111-1111-1111-111111111111"
	testClient       = "22222222-2222-2222-2222-222222222222"
	testSecret       = "the-client-secret"
	testSubscription = "33333333-3333-3333-3333-333333333333"
	testGroups       = "/subscriptions/" + testSubscription + "/resourceGroups/demo/providers/Microsoft.ContainerInstance/containerGroups"
)

var testStart = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// testCloud is a server, its clock and a client that has a token.
type testCloud struct {
	t      *testing.T
	server *Server
	clock  *clocktesting.FakeClock
	client *http.Client
	token  string
}

func newTestCloud(t *testing.T, edits ...func(*Options)) *testCloud {
	t.Helper()
	clk := clocktesting.NewFakeClock(testStart)
	options := Options{
		Sim:           sim.Config{Clock: clk},
		Applications:  []Application{{TenantID: testTenant, ClientID: testClient, Secrets: []Secret{{Value: testSecret}}}},
		Subscriptions: []Subscription{{ID: testSubscription, ResourceGroups: []string{"demo", "other"}}},
	}
	for _, edit := range edits {
		edit(&options)
	}
	server := NewServer(options)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	client := server.Client()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := server.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	c := &testCloud{t: t, server: server, clock: clk, client: client}
	c.token = c.login()
	return c
}

// answer is one HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (a answer) code() string {
	code, _ := object(a.body, "error")["code"].(string)
	return code
}

func (c *testCloud) do(request *http.Request) answer {
	c.t.Helper()
	response, err := c.client.Do(request)
	if err != nil {
		c.t.Fatalf("%s %s: %v", request.Method, request.URL, err)
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("%s %s: read: %v", request.Method, request.URL, err)
	}
	result := answer{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &result.body); err != nil {
			c.t.Fatalf("%s %s: not JSON: %q", request.Method, request.URL, raw)
		}
	}
	return result
}

func (c *testCloud) tokenRequest(form url.Values) answer {
	c.t.Helper()
	request, err := http.NewRequest(http.MethodPost, c.server.URL()+"/"+testTenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.do(request)
}

func tokenForm(edits ...string) url.Values {
	form := url.Values{
		"client_id": {testClient}, "client_secret": {testSecret}, "grant_type": {"client_credentials"},
		"scope": {"https://management.core.windows.net//.default openid offline_access profile"},
	}
	for i := 0; i+1 < len(edits); i += 2 {
		if edits[i+1] == "" {
			form.Del(edits[i])
		} else {
			form.Set(edits[i], edits[i+1])
		}
	}
	return form
}

func (c *testCloud) login() string {
	c.t.Helper()
	got := c.tokenRequest(tokenForm())
	token, _ := got.body["access_token"].(string)
	if got.status != http.StatusOK || token == "" {
		c.t.Fatalf("token: %d %s", got.status, got.raw)
	}
	return token
}

// arm sends a request to the resource manager; path may be absolute and gets the
// api-version if it names none.
func (c *testCloud) arm(method, path string, body any) answer {
	c.t.Helper()
	return c.do(c.armRequest(method, path, body))
}

func (c *testCloud) armRequest(method, path string, body any) *http.Request {
	c.t.Helper()
	if !strings.HasPrefix(path, "https://") {
		path = c.server.URL() + path
	}
	if !strings.Contains(path, "api-version=") {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + "api-version=" + APIVersion
	}
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request
}

func (c *testCloud) path(name string) string { return testGroups + "/" + name }

// put creates or updates a group and checks the status.
func (c *testCloud) put(name string, wantStatus int, edits ...func(body map[string]any)) answer {
	c.t.Helper()
	got := c.arm(http.MethodPut, c.path(name), groupBody(edits...))
	if got.status != wantStatus {
		c.t.Fatalf("PUT %s: status %d, want %d: %s", name, got.status, wantStatus, got.raw)
	}
	return got
}

func (c *testCloud) get(name string) map[string]any {
	c.t.Helper()
	got := c.arm(http.MethodGet, c.path(name), nil)
	if got.status != http.StatusOK {
		c.t.Fatalf("GET %s: status %d: %s", name, got.status, got.raw)
	}
	return got.body
}

func (c *testCloud) run(name string) *sim.Group {
	c.t.Helper()
	g, ok := c.server.Fleet().Group(c.path(name))
	if !ok {
		c.t.Fatalf("no group %s in the simulation", name)
	}
	return g
}

// groupBody is a small valid definition.
func groupBody(edits ...func(body map[string]any)) map[string]any {
	body := map[string]any{
		"location": "eastus",
		"properties": map[string]any{
			"osType": "Linux",
			"containers": []any{map[string]any{
				"name": "app",
				"properties": map[string]any{
					"image":     "nginx",
					"resources": map[string]any{"requests": map[string]any{"cpu": 1.0, "memoryInGB": 1.5}},
				},
			}},
		},
	}
	for _, edit := range edits {
		edit(body)
	}
	return body
}

// with sets a member, by a path of names and list indexes; nil deletes it.
func with(value any, path ...any) func(map[string]any) {
	return func(body map[string]any) {
		var at any = body
		for _, step := range path[:len(path)-1] {
			at = step1(at, step)
		}
		name := path[len(path)-1].(string)
		parent := at.(map[string]any)
		if value == nil {
			delete(parent, name)
		} else {
			parent[name] = value
		}
	}
}

func step1(at, step any) any {
	if index, ok := step.(int); ok {
		return at.([]any)[index]
	}
	return at.(map[string]any)[step.(string)]
}

// at reads a member by a path of names and list indexes; nil if it is missing.
func at(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		case string:
			parent, _ := value.(map[string]any)
			value = parent[step]
		}
	}
	return value
}

func wantAt(t *testing.T, value any, want any, path ...any) {
	t.Helper()
	if diff := cmp.Diff(want, at(value, path...)); diff != "" {
		t.Errorf("%v (-want +got):\n%s", path, diff)
	}
}

func timing(change sim.Timing) func(*Options) {
	return func(o *Options) { o.Sim.Timing = change }
}

func settings(change Settings) func(*Options) {
	return func(o *Options) { o.Settings = change }
}
