package aci

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestA23ListsHaveNoInstanceView(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with([]any{map[string]any{"name": "setup", "properties": map[string]any{"image": "busybox"}}}, "properties", "initContainers"))
	other := strings.Replace(c.path("web"), "/demo/", "/other/", 1)
	if got := c.arm(http.MethodPut, other, groupBody()); got.status != http.StatusCreated {
		t.Fatalf("PUT: %d %s", got.status, got.raw)
	}
	for name, test := range map[string]struct {
		path string
		want []string
	}{
		"resource group": {testGroups, []string{c.path("web")}},
		"subscription":   {"/subscriptions/" + testSubscription + "/providers/Microsoft.ContainerInstance/containerGroups", []string{c.path("web"), other}},
	} {
		got := c.arm(http.MethodGet, test.path, nil)
		if got.status != http.StatusOK || strings.Contains(got.raw, "instanceView") {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
		var ids []string
		for _, g := range objects(got.body, "value") {
			ids = append(ids, g["id"].(string))
		}
		if !slices.Equal(ids, test.want) {
			t.Errorf("%s lists %v, want %v", name, ids, test.want)
		}
	}
	got := c.get("web")
	wantAt(t, got, "Running", "properties", "instanceView", "state")
	wantAt(t, got, "Running", "properties", "containers", 0, "properties", "instanceView", "currentState", "state")
	wantAt(t, got, "Terminated", "properties", "initContainers", 0, "properties", "instanceView", "currentState", "state")
}

func TestA24Paging(t *testing.T) {
	c := newTestCloud(t, settings(Settings{PageSize: 3}))
	for i := range 7 {
		c.put(fmt.Sprintf("web-%d", i), http.StatusCreated)
	}
	var names []string
	var sizes []int
	for url := testGroups; url != ""; {
		got := c.arm(http.MethodGet, url, nil)
		if got.status != http.StatusOK {
			t.Fatalf("GET %s: %d %s", url, got.status, got.raw)
		}
		page := objects(got.body, "value")
		sizes = append(sizes, len(page))
		for _, g := range page {
			names = append(names, g["name"].(string))
		}
		if len(sizes) == 1 {
			// A page that is gone meanwhile does not upset the next one.
			c.arm(http.MethodDelete, c.path("web-2"), nil)
		}
		url, _ = got.body["nextLink"].(string)
		if url != "" && (!strings.HasPrefix(url, c.server.URL()+"/") || !strings.Contains(url, "api-version="+APIVersion)) {
			t.Errorf("nextLink %q is not absolute with its api-version", url)
		}
	}
	if want := []int{3, 3, 1}; !slices.Equal(sizes, want) {
		t.Errorf("page sizes %v, want %v", sizes, want)
	}
	if len(names) != 7 || !slices.IsSorted(names) {
		t.Errorf("names %v", names)
	}
	if got := c.arm(http.MethodGet, testGroups+"?$skiptoken=%21", nil); got.status != http.StatusBadRequest {
		t.Errorf("bad token: %d", got.status)
	}
}

func TestA25SecretsAreNeverEchoed(t *testing.T) {
	const secret = "c2VjcmV0" // base64, as secret volumes need it
	c := newTestCloud(t)
	edits := []func(map[string]any){
		with([]any{map[string]any{"name": "TOKEN", "secureValue": secret}, map[string]any{"name": "PLAIN", "value": "v"}},
			"properties", "containers", 0, "properties", "environmentVariables"),
		with([]any{map[string]any{"name": "setup", "properties": map[string]any{"image": "busybox",
			"environmentVariables": []any{map[string]any{"name": "TOKEN", "secureValue": secret}}}}}, "properties", "initContainers"),
		with([]any{
			map[string]any{"name": "secrets", "secret": map[string]any{"key": secret}},
			map[string]any{"name": "share", "azureFile": map[string]any{"shareName": "s", "storageAccountName": "a", "storageAccountKey": secret}},
		}, "properties", "volumes"),
		with([]any{map[string]any{"server": "r.example.com", "username": "u", "password": secret}}, "properties", "imageRegistryCredentials"),
		with(map[string]any{"logAnalytics": map[string]any{"workspaceId": "w", "workspaceKey": secret}}, "properties", "diagnostics"),
		with([]any{map[string]any{"name": "kube-proxy", "properties": map[string]any{"extensionType": "kube-proxy", "version": "1.0",
			"protectedSettings": map[string]any{"kubeConfig": secret}}}}, "properties", "extensions"),
	}
	put := c.put("web", http.StatusCreated, edits...)
	got := c.get("web")
	wantAt(t, got, map[string]any{}, "properties", "volumes", 0, "secret")
	wantAt(t, got, "TOKEN", "properties", "containers", 0, "properties", "environmentVariables", 0, "name")
	wantAt(t, got, "v", "properties", "containers", 0, "properties", "environmentVariables", 1, "value")
	wantAt(t, got, "a", "properties", "volumes", 1, "azureFile", "storageAccountName")
	wantAt(t, got, "u", "properties", "imageRegistryCredentials", 0, "username")
	wantAt(t, got, "w", "properties", "diagnostics", "logAnalytics", "workspaceId")
	for name, a := range map[string]answer{
		"PUT":    put,
		"GET":    c.arm(http.MethodGet, c.path("web"), nil),
		"list":   c.arm(http.MethodGet, testGroups, nil),
		"PATCH":  c.arm(http.MethodPatch, c.path("web"), map[string]any{"tags": map[string]any{"a": "b"}}),
		"DELETE": c.arm(http.MethodDelete, c.path("web"), nil),
	} {
		if a.status >= 300 || strings.Contains(a.raw, secret) {
			t.Errorf("%s: status %d, echoes the secret: %t", name, a.status, strings.Contains(a.raw, secret))
		}
	}
	// The container itself does get the value.
	if spec := specOf(t, c, edits); spec.Containers[0].Env[0].Value != secret {
		t.Error("the secure value did not reach the container")
	}
}

func specOf(t *testing.T, c *testCloud, edits []func(map[string]any)) sim.Spec {
	t.Helper()
	c.put("again", http.StatusCreated, edits...)
	return c.run("again").Snapshot().Spec
}

func TestA26GroupStates(t *testing.T) {
	exit := func(codes ...int) func(*testing.T, *testCloud) {
		return func(t *testing.T, c *testCloud) {
			for _, code := range codes {
				if err := c.run("web").Exit("app", code); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	tests := map[string]struct {
		policy         string
		then           func(*testing.T, *testCloud)
		state          string
		containerState string
		detail         string
		exitCode       any
	}{
		"default, running":   {"", exit(), "Running", "Running", "", nil},
		"default, exit 0":    {"", exit(0), "Running", "Running", "", nil},
		"Always, exit 1":     {"Always", exit(1), "Running", "Running", "", nil},
		"OnFailure, exit 0":  {"OnFailure", exit(0), "Succeeded", "Terminated", "Completed", 0.0},
		"OnFailure, exit 3":  {"OnFailure", exit(3), "Running", "Running", "", nil},
		"OnFailure, 3 and 0": {"OnFailure", exit(3, 0), "Succeeded", "Terminated", "Completed", 0.0},
		"Never, exit 0":      {"Never", exit(0), "Succeeded", "Terminated", "Completed", 0.0},
		"Never, exit 2":      {"Never", exit(2), "Failed", "Terminated", "Error", 2.0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t)
			var edits []func(map[string]any)
			if test.policy != "" {
				edits = append(edits, with(test.policy, "properties", "restartPolicy"))
			}
			c.put("web", http.StatusCreated, edits...)
			test.then(t, c)
			got := c.get("web")
			var wantPolicy any
			if test.policy != "" {
				wantPolicy = test.policy
			}
			wantAt(t, got, wantPolicy, "properties", "restartPolicy")
			wantAt(t, got, "Succeeded", "properties", "provisioningState")
			wantAt(t, got, test.state, "properties", "instanceView", "state")
			current := []any{"properties", "containers", 0, "properties", "instanceView", "currentState"}
			wantAt(t, got, test.containerState, append(current, "state")...)
			wantAt(t, got, test.detail, append(current, "detailStatus")...)
			wantAt(t, got, test.exitCode, append(current, "exitCode")...)
		})
	}
}

func TestA26PendingStates(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	c.put("web", http.StatusCreated)
	for _, step := range []struct {
		wait                time.Duration
		provisioning, state string
	}{
		{0, "Pending", "Pending"}, {2 * time.Second, "Creating", "Pending"}, {11 * time.Second, "Succeeded", "Running"},
	} {
		c.clock.Step(step.wait)
		got := c.get("web")
		wantAt(t, got, step.provisioning, "properties", "provisioningState")
		wantAt(t, got, step.state, "properties", "instanceView", "state")
	}
}

func TestA27CrashLoop(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming), func(o *Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{Exits: true, RunFor: time.Second, ExitCode: 7}, true
		}
	})
	c.put("web", http.StatusCreated)
	// Start at 13 s, exit at 14 s, second start at 15 s, exit at 16 s, back-off
	// until 26 s, third start at 27 s.
	c.clock.Step(17 * time.Second)
	view := []any{"properties", "containers", 0, "properties", "instanceView"}
	got := c.get("web")
	wantAt(t, got, "Waiting", append(view, "currentState", "state")...)
	if text, _ := at(got, append(view, "currentState", "detailStatus")...).(string); !strings.HasPrefix(text, "CrashLoopBackOff") {
		t.Errorf("detailStatus %q", text)
	}
	c.clock.Step(10*time.Second + 500*time.Millisecond)
	got = c.get("web")
	wantAt(t, got, 2.0, append(view, "restartCount")...)
	wantAt(t, got, "Running", append(view, "currentState", "state")...)
	wantAt(t, got, "Terminated", append(view, "previousState", "state")...)
	wantAt(t, got, 7.0, append(view, "previousState", "exitCode")...)
	wantAt(t, got, "Error", append(view, "previousState", "detailStatus")...)
	wantAt(t, got, "2026-03-01T12:00:15Z", append(view, "previousState", "startTime")...)
	wantAt(t, got, "2026-03-01T12:00:16Z", append(view, "previousState", "finishTime")...)

	events := map[string]map[string]any{}
	list, _ := at(got, append(view, "events")...).([]any)
	for _, e := range list {
		event := e.(map[string]any)
		events[event["name"].(string)] = event
	}
	for name, want := range map[string]struct {
		count       float64
		kind        string
		first, last string
	}{
		"Pulling": {1, "Normal", "2026-03-01T12:00:02Z", "2026-03-01T12:00:02Z"},
		"Started": {3, "Normal", "2026-03-01T12:00:13Z", "2026-03-01T12:00:27Z"},
		"BackOff": {1, "Warning", "2026-03-01T12:00:16Z", "2026-03-01T12:00:16Z"},
	} {
		wantAt(t, events[name], want.count, "count")
		wantAt(t, events[name], want.kind, "type")
		wantAt(t, events[name], want.first, "firstTimestamp")
		wantAt(t, events[name], want.last, "lastTimestamp")
	}
	wantAt(t, got, []any{}, "properties", "instanceView", "events")
}

func TestA28InitContainersRunInOrderFirst(t *testing.T) {
	c := newTestCloud(t, timing(sim.Timing{Init: 5 * time.Second}))
	c.put("web", http.StatusCreated, with([]any{
		map[string]any{"name": "first", "properties": map[string]any{"image": "busybox"}},
		map[string]any{"name": "second", "properties": map[string]any{"image": "busybox"}},
	}, "properties", "initContainers"))
	states := func() []any {
		got := c.get("web")
		return []any{
			at(got, "properties", "initContainers", 0, "properties", "instanceView", "currentState", "state"),
			at(got, "properties", "initContainers", 1, "properties", "instanceView", "currentState", "state"),
			at(got, "properties", "containers", 0, "properties", "instanceView", "currentState", "state"),
			at(got, "properties", "instanceView", "state"),
		}
	}
	for i, want := range [][]any{
		{"Running", "Waiting", "Waiting", "Pending"},
		{"Terminated", "Running", "Waiting", "Pending"},
		{"Terminated", "Terminated", "Running", "Running"},
	} {
		if got := states(); !slices.Equal(got, want) {
			t.Errorf("after %d init containers: %v, want %v", i, got, want)
		}
		c.clock.Step(5 * time.Second)
	}
}

func TestA33Logs(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming), settings(Settings{TransitTime: time.Second}), func(o *Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{Log: []string{"one", "two", "three"}}, true
		}
	})
	logs := func(query string) answer {
		return c.arm(http.MethodGet, c.path("web")+"/containers/app/logs"+query, nil)
	}
	c.put("web", http.StatusCreated, with("Never", "properties", "restartPolicy"))
	c.clock.Step(5 * time.Second)
	if got := logs(""); got.status != http.StatusBadRequest || got.code() != "ContainerLogNotAvailable" {
		t.Errorf("before the start: %d %s", got.status, got.code())
	}
	c.clock.Step(8 * time.Second)
	for query, want := range map[string]string{
		"":                         "one\ntwo\nthree\n",
		"?tail=2":                  "two\nthree\n",
		"?tail=99":                 "one\ntwo\nthree\n",
		"?tail=1&timestamps=true":  "2026-03-01T12:00:13Z three\n",
		"?tail=1&timestamps=false": "three\n",
	} {
		wantAt(t, logs(query).body, want, "content")
	}
	for _, query := range []string{"?tail=x", "?tail=-1", "?timestamps=maybe"} {
		if got := logs(query); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", query, got.status)
		}
	}
	if got := c.arm(http.MethodGet, c.path("web")+"/containers/none/logs", nil); got.status != http.StatusNotFound {
		t.Errorf("unknown container: %d", got.status)
	}

	line := strings.Repeat("x", 1023)
	big := make([]string, 5*1024)
	for i := range big {
		big[i] = line
	}
	if err := c.run("web").Print("app", big...); err != nil {
		t.Fatal(err)
	}
	if n := len(at(logs("").body, "content").(string)); n > 4<<20 || n < 4<<20-2048 {
		t.Errorf("a running container's log is %d bytes, want 4 MiB", n)
	}
	if err := c.run("web").Exit("app", 0); err != nil {
		t.Fatal(err)
	}
	if n := len(at(logs("").body, "content").(string)); n > 16<<10 || n < 14<<10 {
		t.Errorf("an ended container's log is %d bytes, want 16 KiB", n)
	}
}

func TestA33EndedLogKeepsOneThousandLines(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with("Never", "properties", "restartPolicy"))
	lines := make([]string, 3000)
	for i := range lines {
		lines[i] = fmt.Sprint(i)
	}
	if err := c.run("web").Print("app", lines...); err != nil {
		t.Fatal(err)
	}
	if err := c.run("web").Exit("app", 0); err != nil {
		t.Fatal(err)
	}
	content := at(c.arm(http.MethodGet, c.path("web")+"/containers/app/logs", nil).body, "content").(string)
	if n := strings.Count(content, "\n"); n != 1000 || !strings.HasPrefix(content, "2000\n") || !strings.HasSuffix(content, "2999\n") {
		t.Errorf("%d lines, beginning %.10q", n, content)
	}
}

// A command that this host may run is a real process with the container's plain
// and secure environment.
func TestHostProcess(t *testing.T) {
	c := newTestCloud(t, func(o *Options) {
		o.Sim = sim.Config{HostCommands: true, TempDir: t.TempDir()}
	})
	c.put("job", http.StatusCreated,
		with("Never", "properties", "restartPolicy"),
		with([]any{"/bin/sh", "-c", `echo "$PLAIN-$TOKEN"; exit 3`}, "properties", "containers", 0, "properties", "command"),
		with([]any{map[string]any{"name": "PLAIN", "value": "a"}, map[string]any{"name": "TOKEN", "secureValue": "b"}},
			"properties", "containers", 0, "properties", "environmentVariables"))
	waitFor(t, "the process to end", func() bool {
		return at(c.get("job"), "properties", "instanceView", "state") == "Failed"
	})
	wantAt(t, c.get("job"), 3.0, "properties", "containers", 0, "properties", "instanceView", "currentState", "exitCode")
	wantAt(t, c.arm(http.MethodGet, c.path("job")+"/containers/app/logs", nil).body, "a-b\n", "content")
}

func TestA43Billing(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	c.put("web", http.StatusCreated, with(map[string]any{"owner": "shop"}, "tags"))
	c.put("spot", http.StatusCreated, with("Spot", "properties", "priority"))
	c.clock.Step(2 * time.Second) // the first pull begins
	c.clock.Step(time.Minute)
	c.arm(http.MethodPost, c.path("web")+"/stop", nil)
	c.clock.Step(time.Hour)
	c.token = c.login()
	if got := c.arm(http.MethodPost, c.path("web")+"/start", nil); got.status != http.StatusAccepted {
		t.Fatalf("start: %d %s", got.status, got.raw)
	}
	c.clock.Step(2*time.Second + 30*time.Second)
	c.arm(http.MethodDelete, c.path("web"), nil)
	c.clock.Step(time.Hour)

	request := httptest.NewRequest(http.MethodGet, c.server.URL()+sim.BillingPath, nil)
	request.RequestURI = ""
	got := c.do(request)
	entries := objects(got.body, "entries")
	if got.status != http.StatusOK || len(entries) != 3 {
		t.Fatalf("billing: %d %s", got.status, got.raw)
	}
	var durations []time.Duration
	for _, e := range c.server.Record().Entries {
		if e.Cloud != "aci" || e.CPU != 1 || e.MemoryGiB != 1.5 || e.Region != "eastus" {
			t.Errorf("entry %+v", e)
		}
		if e.Spot != (e.Name == "spot") {
			t.Errorf("entry %s: spot %t", e.Name, e.Spot)
		}
		if e.Name == "web" {
			if e.To == nil || e.Tags["owner"] != "shop" {
				t.Errorf("entry %+v", e)
			}
			durations = append(durations, e.Duration(c.clock.Now()))
		} else if e.To != nil {
			t.Error("the living group's bill is closed")
		}
	}
	if want := []time.Duration{time.Minute, 30 * time.Second}; !slices.Equal(durations, want) {
		t.Errorf("billed %v, want %v", durations, want)
	}
	var actions []string
	for _, call := range c.server.Record().Calls {
		actions = append(actions, strings.TrimPrefix(call.Action, "ContainerGroups_")+" "+call.Code)
		if call.Principal != testClient || call.RequestID == "" {
			t.Errorf("call %+v", call)
		}
	}
	if want := []string{"CreateOrUpdate OK", "CreateOrUpdate OK", "Stop OK", "Start OK", "Delete OK"}; !slices.Equal(actions, want) {
		t.Errorf("calls %v, want %v", actions, want)
	}
}
