package aci

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var againstReal = flag.Bool("real", false, "run against the real service; see the package's documentation")

const (
	apiVersion  = "2023-05-01"
	asyncHeader = "Azure-Asyncoperation"
)

type (
	object = map[string]any
	list   = []any
)

// service is the service under test and what a client of it has.
type service struct {
	authority, manager, audience  string // https://host without a final slash; the audience as it is
	tenant, client, secret        string
	subscription, group, location string
	image                         string // one with a shell
	missingImage                  string // one that its registry does not know
	http                          *http.Client
	lab                           Lab // nil for the real service

	pace, patience time.Duration // between two looks, and in all
	token          string
}

// open is a service on which time passes.
func open(t *testing.T) *service {
	t.Helper()
	t.Parallel()
	if *againstReal {
		return openReal(t)
	}
	return openEmulator(t, false)
}

// openStill is a service on which time stands still if it is a lab.
func openStill(t *testing.T) *service {
	t.Helper()
	t.Parallel()
	if *againstReal {
		return openReal(t)
	}
	return openEmulator(t, true)
}

func openReal(t *testing.T) *service {
	t.Helper()
	setting := func(name, otherwise string) string {
		value := cmp.Or(os.Getenv(name), otherwise)
		if value == "" {
			t.Fatalf("the environment variable %s is needed to test the real service", name)
		}
		return value
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	s := &service{
		authority:    strings.TrimRight(setting("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com"), "/"),
		manager:      strings.TrimRight(setting("AZURE_RESOURCE_MANAGER", "https://management.azure.com"), "/"),
		audience:     setting("AZURE_RESOURCE_MANAGER_AUDIENCE", "https://management.core.windows.net/"),
		tenant:       setting("AZURE_TENANT_ID", ""),
		client:       setting("AZURE_CLIENT_ID", ""),
		secret:       setting("AZURE_CLIENT_SECRET", ""),
		subscription: setting("AZURE_SUBSCRIPTION_ID", ""),
		group:        setting("AZURE_RESOURCE_GROUP", ""),
		location:     setting("AZURE_LOCATION", ""),
		image:        "mcr.microsoft.com/azurelinux/busybox:1.36",
		missingImage: "mcr.microsoft.com/azurelinux/no-such-image:1",
		http:         &http.Client{Transport: transport},
		pace:         2 * time.Second,
		patience:     10 * time.Minute,
	}
	s.login(t)
	return s
}

// answer is one HTTP answer, read to its end.
type answer struct {
	status int
	header http.Header
	body   any // JSON; nil if there is none
	raw    string
}

func (a answer) code() string {
	code, _ := at(a.body, "error", "code").(string)
	return code
}

func (a answer) message() string {
	message, _ := at(a.body, "error", "message").(string)
	return message
}

// want fails the test unless the answer has this status and error code.
func (a answer) want(t *testing.T, what string, status int, code string) answer {
	t.Helper()
	if a.status != status || a.code() != code {
		t.Fatalf("%s: status %d %s, want %d %s: %s", what, a.status, a.code(), status, code, a.raw)
	}
	return a
}

// send sends a request and reads its answer.
func (s *service) send(t *testing.T, request *http.Request) (answer, error) {
	t.Helper()
	response, err := s.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(response)
}

func readAnswer(response *http.Response) (answer, error) {
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	result := answer{status: response.StatusCode, header: response.Header, raw: string(raw)}
	if len(raw) > 0 && json.Unmarshal(raw, &result.body) != nil {
		result.body = nil
	}
	return result, nil
}

// login gets a token.
func (s *service) login(t *testing.T) {
	t.Helper()
	got := s.askToken(t, s.tenant, s.tokenForm())
	token, _ := at(got.body, "access_token").(string)
	if got.status != http.StatusOK || token == "" {
		t.Fatalf("the token endpoint answers %d: %s", got.status, got.raw)
	}
	s.token = token
}

// tokenForm is a valid request for a token, with members replaced or, by an empty
// value, removed.
func (s *service) tokenForm(edits ...string) url.Values {
	form := url.Values{
		"client_id": {s.client}, "client_secret": {s.secret}, "grant_type": {"client_credentials"},
		"scope": {s.audience + "/.default openid offline_access profile"},
	}
	for i := 0; i+1 < len(edits); i += 2 {
		form.Del(edits[i])
		if edits[i+1] != "" {
			form.Set(edits[i], edits[i+1])
		}
	}
	return form
}

func (s *service) askToken(t *testing.T, tenant string, form url.Values) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, s.authority+"/"+tenant+"/oauth2/v2.0/token", strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got, err := s.send(t, request)
	if err != nil {
		t.Fatalf("ask for a token: %v", err)
	}
	return got
}

// request is a request to the resource manager. The path may be absolute; it gets
// the api-version if it names none. A body of type string is sent as it is.
func (s *service) request(t *testing.T, method, path string, body any) *http.Request {
	t.Helper()
	if !strings.HasPrefix(path, "https://") {
		path = s.manager + path
	}
	if !strings.Contains(path, "api-version=") {
		separator := "?"
		if strings.Contains(path, "?") {
			separator = "&"
		}
		path += separator + "api-version=" + apiVersion
	}
	var content io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequest(method, path, content)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.token)
	if content != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request
}

var (
	guid      = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
	requestID = regexp.MustCompile(`^([a-z0-9]+:)?` + guid + `$`)
)

// call sends a request to the resource manager. Whatever it answers must have
// its ids and satisfy the Swagger.
func (s *service) call(t *testing.T, method, path string, body any) answer {
	t.Helper()
	request := s.request(t, method, path, body)
	got, err := s.send(t, request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	for _, name := range []string{"X-Ms-Request-Id", "X-Ms-Correlation-Request-Id"} {
		if id := got.header.Get(name); !requestID.MatchString(strings.ToLower(id)) {
			t.Errorf("%s %s: %s is %q", method, path, name, id)
		}
	}
	if problem := checkAnswer(method, request.URL.Path, got); problem != "" {
		t.Errorf("%s %s: %s\n%s", method, path, problem, got.raw)
	}
	return got
}

func (s *service) groups() string {
	return "/subscriptions/" + s.subscription + "/resourceGroups/" + s.group + "/providers/Microsoft.ContainerInstance/containerGroups"
}

func (s *service) regional(what string) string {
	return "/subscriptions/" + s.subscription + "/providers/Microsoft.ContainerInstance/locations/" + s.location + "/" + what
}

// started tells the groups of one run of the tests from those of another.
var started = fmt.Sprintf("%x", time.Now().Unix())

// name makes the path of a group of this test, which is deleted when the test
// ends.
func (s *service) name(t *testing.T, name string) string {
	t.Helper()
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(t.Name())) // never fails
	path := fmt.Sprintf("%s/%s-%08x-%s", s.groups(), name, hash.Sum32(), started)
	if *againstReal {
		t.Cleanup(func() {
			s.until(t, "the deletion of "+path, func() bool {
				return s.call(t, http.MethodDelete, path, nil).status < http.StatusBadRequest
			})
		})
	}
	return path
}

// until looks again and again until a condition holds. On a lab's clock half a
// second passes between two looks.
func (s *service) until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(s.patience)
	defer deadline.Stop()
	tick := time.NewTicker(s.pace)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
			if s.lab != nil {
				s.lab.Advance(500 * time.Millisecond)
			}
		case <-deadline.C:
			t.Fatalf("waited %s in vain for %s", s.patience, what)
		}
	}
}

// create puts a new group and waits until it runs or has ended.
func (s *service) create(t *testing.T, path string, body object) {
	t.Helper()
	s.call(t, http.MethodPut, path, body).want(t, "PUT", http.StatusCreated, "")
	s.settle(t, path)
}

// settle waits until the last change of a group is done, and returns the group.
func (s *service) settle(t *testing.T, path string) any {
	t.Helper()
	var last answer
	s.until(t, path+" to be provisioned", func() bool {
		last = s.call(t, http.MethodGet, path, nil)
		state := at(last.body, "properties", "provisioningState")
		return state == "Succeeded" || state == "Failed"
	})
	return last.body
}

// awaitState waits until a group's state is one of these, and returns the group.
func (s *service) awaitState(t *testing.T, path, state string) any {
	t.Helper()
	var last answer
	s.until(t, path+" to be "+state, func() bool {
		last = s.call(t, http.MethodGet, path, nil)
		return at(last.body, "properties", "instanceView", "state") == state
	})
	return last.body
}

// finish follows an operation to its end and returns it.
func (s *service) finish(t *testing.T, async string) any {
	t.Helper()
	var last answer
	s.until(t, "the operation to end", func() bool {
		last = s.call(t, http.MethodGet, async, nil)
		if last.status != http.StatusOK {
			t.Fatalf("read the operation: %d %s", last.status, last.raw)
		}
		return at(last.body, "status") != "Pending"
	})
	return last.body
}

// definition is a small group of one container that runs until it is ended, with
// members set.
func (s *service) definition(edits ...func(object)) object {
	body := object{
		"location": s.location,
		"properties": object{
			"osType":     "Linux",
			"containers": list{s.container("app", "sleep", "3600")},
		},
	}
	for _, edit := range edits {
		edit(body)
	}
	return body
}

func (s *service) container(name string, command ...string) object {
	return object{"name": name, "properties": object{
		"image": s.image, "command": command,
		"resources": object{"requests": object{"cpu": 1.0, "memoryInGB": 1.0}},
	}}
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

// set sets a member, by a path of names and list indexes; nil removes it.
func set(value any, path ...any) func(object) {
	return func(body object) {
		parent, _ := at(body, path[:len(path)-1]...).(object)
		name := path[len(path)-1].(string)
		if value == nil {
			delete(parent, name)
			return
		}
		parent[name] = value
	}
}

// inContainer sets a member of the first container's properties.
func inContainer(value any, path ...any) func(object) {
	return set(value, append(list{"properties", "containers", 0, "properties"}, path...)...)
}

// public gives a group a public address.
func public(ports ...int) func(object) {
	exposed := list{}
	for _, port := range ports {
		exposed = append(exposed, object{"port": port, "protocol": "TCP"})
	}
	return set(object{"type": "Public", "ports": exposed}, "properties", "ipAddress")
}

// at reads a member by a path of names and list indexes; nil if it is missing.
func at(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case int:
			items, _ := value.(list)
			if step >= len(items) {
				return nil
			}
			value = items[step]
		case string:
			parent, _ := value.(object)
			value = parent[step]
		}
	}
	return value
}

// view is a member of the first container's instance view.
func view(group any, path ...any) any {
	return at(group, append(list{"properties", "containers", 0, "properties", "instanceView"}, path...)...)
}

// wantAt fails the test unless a member has this value.
func wantAt(t *testing.T, value, want any, path ...any) {
	t.Helper()
	if got := at(value, path...); !equalJSON(got, want) {
		t.Errorf("%v is %v, want %v", path, got, want)
	}
}

func equalJSON(a, b any) bool {
	left, errLeft := json.Marshal(a)
	right, errRight := json.Marshal(b)
	return errLeft == nil && errRight == nil && bytes.Equal(left, right)
}

// when parses a time of an answer.
func when(t *testing.T, value any) time.Time {
	t.Helper()
	text, _ := value.(string)
	parsed, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Errorf("%v is no time: %v", value, err)
	}
	return parsed
}

// event is the first event of that name; nil if there is none.
func event(events any, name string) any {
	items, _ := events.(list)
	for _, e := range items {
		if at(e, "name") == name {
			return e
		}
	}
	return nil
}
