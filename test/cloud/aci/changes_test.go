package aci

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

var slowTiming = sim.Timing{
	Schedule: 2 * time.Second, Pull: 10 * time.Second, Start: time.Second, Restart: 3 * time.Second,
	CrashBackOff: sim.BackOff{Initial: 10 * time.Second, Max: 5 * time.Minute},
	PullBackOff:  sim.BackOff{Initial: 10 * time.Second, Max: 5 * time.Minute},
}

func TestA07PutNew(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	got := c.put("web", http.StatusCreated)
	wantAt(t, got.body, "Pending", "properties", "provisioningState")
	async := got.header.Get(asyncHeader)
	if len(async) < 3000 || len(async) > 4096 {
		t.Errorf("%s is %d bytes, want 3000 to 4096", asyncHeader, len(async))
	}
	if !strings.HasPrefix(async, c.server.URL()+"/subscriptions/"+testSubscription+"/providers/Microsoft.ContainerInstance/locations/eastus/operations/") ||
		!strings.Contains(async, "api-version=2018-06-01") {
		t.Errorf("%s: %.200s", asyncHeader, async)
	}
	for _, name := range []string{"Retry-After", "Location"} {
		if value := got.header.Get(name); value != "" {
			t.Errorf("%s: %s", name, value)
		}
	}
}

func TestA07PutNewAnswersPendingEvenIfInstant(t *testing.T) {
	c := newTestCloud(t)
	wantAt(t, c.put("web", http.StatusCreated).body, "Pending", "properties", "provisioningState")
	wantAt(t, c.get("web"), "Succeeded", "properties", "provisioningState")
}

func TestA08PutOnLivingGroupRestartsInPlace(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	public := with(map[string]any{"type": "Public", "ports": []any{map[string]any{"port": 80}}}, "properties", "ipAddress")
	c.put("web", http.StatusCreated, public)
	c.clock.Step(13 * time.Second)
	before := c.get("web")
	wantAt(t, before, "Running", "properties", "instanceView", "state")

	got := c.put("web", http.StatusOK, public, with("nginx:2", "properties", "containers", 0, "properties", "image"))
	if got.header.Get(asyncHeader) == "" {
		t.Error("no " + asyncHeader)
	}
	wantAt(t, got.body, "Updating", "properties", "provisioningState")
	c.clock.Step(3 * time.Second)
	wantAt(t, c.get("web"), "Updating", "properties", "provisioningState")
	c.clock.Step(11 * time.Second)
	after := c.get("web")
	wantAt(t, after, "Succeeded", "properties", "provisioningState")
	wantAt(t, after, "nginx:2", "properties", "containers", 0, "properties", "image")
	wantAt(t, after, 1.0, "properties", "containers", 0, "properties", "instanceView", "restartCount")
	if at(before, "properties", "ipAddress", "ip") == at(after, "properties", "ipAddress", "ip") {
		t.Error("the address survived an update; the service does not promise that, so the emulator must not")
	}
}

func TestA09ImmutableChanges(t *testing.T) {
	inContainer := func(value any, steps ...any) func(map[string]any) {
		return with(value, append([]any{"properties", "containers", 0, "properties"}, steps...)...)
	}
	tests := map[string]struct {
		edit   func(map[string]any)
		status int
		code   string
	}{
		"cpu":            {inContainer(2, "resources", "requests", "cpu"), 400, "InvalidContainerGroupUpdate"},
		"memory":         {inContainer(2, "resources", "requests", "memoryInGB"), 400, "InvalidContainerGroupUpdate"},
		"os":             {with("Windows", "properties", "osType"), 400, "InvalidContainerGroupUpdate"},
		"restart policy": {with("Never", "properties", "restartPolicy"), 400, "InvalidContainerGroupUpdate"},
		"subnet":         {with([]any{map[string]any{"id": "/subnet"}}, "properties", "subnetIds"), 400, "InvalidContainerGroupUpdate"},
		"location":       {with("westus", "location"), 409, "InvalidResourceLocation"},
		"policy spelled": {with("Always", "properties", "restartPolicy"), 200, ""},
		"image":          {inContainer("busybox", "image"), 200, ""},
		"command":        {inContainer([]any{"a"}, "command"), 200, ""},
		"environment":    {inContainer([]any{map[string]any{"name": "A", "value": "b"}}, "environmentVariables"), 200, ""},
		"tags":           {with(map[string]any{"a": "b"}, "tags"), 200, ""},
	}
	c := newTestCloud(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			group := strings.ReplaceAll(name, " ", "-")
			c.put(group, http.StatusCreated)
			got := c.arm(http.MethodPut, c.path(group), groupBody(test.edit))
			if got.status != test.status || got.code() != test.code {
				t.Fatalf("living: got %d %s, want %d %s: %s", got.status, got.code(), test.status, test.code, got.raw)
			}
			if test.status == http.StatusConflict {
				return
			}
			if got := c.arm(http.MethodPost, c.path(group)+"/stop", nil); got.status != http.StatusNoContent {
				t.Fatalf("stop: %d %s", got.status, got.raw)
			}
			c.put(group, http.StatusOK, test.edit)
			wantAt(t, c.get(group), "Running", "properties", "instanceView", "state")
		})
	}
}

func TestA10Operations(t *testing.T) {
	verdict := sim.ImageOK
	c := newTestCloud(t, timing(slowTiming), func(o *Options) {
		o.Sim.Images = func(string) sim.ImageVerdict { return verdict }
	})
	async := c.put("web", http.StatusCreated).header.Get(asyncHeader)
	got := c.arm(http.MethodGet, async, nil)
	if got.status != http.StatusOK {
		t.Fatalf("operation: %d %s", got.status, got.raw)
	}
	wantAt(t, got.body, "Pending", "status")
	wantAt(t, got.body, "2026-03-01T12:00:00Z", "startTime")
	wantAt(t, got.body, []any{}, "properties", "events")
	c.clock.Step(13 * time.Second)
	wantAt(t, c.arm(http.MethodGet, async, nil).body, "Succeeded", "status")

	for name, url := range map[string]string{
		"unknown id":         "/subscriptions/" + testSubscription + "/providers/Microsoft.ContainerInstance/locations/eastus/operations/66666666-6666-6666-6666-666666666666",
		"of another region":  strings.Replace(async, "/eastus/", "/westus/", 1),
		"no longer retained": "",
	} {
		if url == "" {
			c.clock.Step(time.Hour)
			c.token = c.login()
			url = async
		}
		if got := c.arm(http.MethodGet, url, nil); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", name, got.status)
		}
	}

	verdict = sim.ImageNotFound
	async = c.put("broken", http.StatusCreated).header.Get(asyncHeader)
	c.clock.Step(20 * time.Minute)
	wantAt(t, c.arm(http.MethodGet, async, nil).body, "Pending", "status")
	c.clock.Step(10 * time.Minute)
	got = c.arm(http.MethodGet, async, nil)
	wantAt(t, got.body, "Failed", "status")
	if at(got.body, "error", "code") == nil {
		t.Errorf("a failed operation has no error: %s", got.raw)
	}
	wantAt(t, c.get("broken"), "Failed", "properties", "provisioningState")
}

func TestA19Delete(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with(map[string]any{"a": "b"}, "tags"))
	got := c.arm(http.MethodDelete, c.path("web"), nil)
	if got.status != http.StatusOK || got.header.Get(asyncHeader) != "" {
		t.Errorf("DELETE: %d, %s %q", got.status, asyncHeader, got.header.Get(asyncHeader))
	}
	wantAt(t, got.body, c.path("web"), "id")
	wantAt(t, got.body, "nginx", "properties", "containers", 0, "properties", "image")
	wantAt(t, got.body, "b", "tags", "a")
	if got := c.arm(http.MethodGet, c.path("web"), nil); got.status != http.StatusNotFound {
		t.Errorf("GET after DELETE: %d", got.status)
	}
	got = c.arm(http.MethodDelete, c.path("web"), nil)
	if got.status != http.StatusNoContent || got.raw != "" {
		t.Errorf("DELETE of nothing: %d %q", got.status, got.raw)
	}
	c.put("web", http.StatusCreated) // the name is free again
}

// The answer comes only when the group is gone.
func TestA19DeleteIsSynchronous(t *testing.T) {
	c := newTestCloud(t, timing(sim.Timing{Stop: 4 * time.Second}))
	c.put("web", http.StatusCreated)
	done := make(chan answer, 1)
	go func() { done <- c.arm(http.MethodDelete, c.path("web"), nil) }()
	run := c.run("web")
	waitFor(t, "the deletion to begin", func() bool { return run.Phase() == sim.Terminating })
	if got := c.arm(http.MethodDelete, c.path("web"), nil); got.status != http.StatusConflict || got.code() != "ContainerGroupTransitioning" {
		t.Errorf("second DELETE meanwhile: %d %s", got.status, got.code())
	}
	select {
	case got := <-done:
		t.Fatalf("answered %d before the group was gone", got.status)
	default:
	}
	c.clock.Step(4 * time.Second)
	if got := <-done; got.status != http.StatusOK {
		t.Errorf("DELETE: %d", got.status)
	}
}

func TestA20Codes(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	c.put("web", http.StatusCreated)
	c.clock.Step(13 * time.Second)
	steps := []struct {
		action    string
		status    int
		async     bool
		wantState string // right after
		step      time.Duration
	}{
		{"start", http.StatusNoContent, false, "Succeeded", 0},
		{"restart", http.StatusNoContent, true, "Updating", 14 * time.Second},
		{"stop", http.StatusNoContent, false, "Succeeded", 0},
		{"stop", http.StatusNoContent, false, "Succeeded", 0},
		{"start", http.StatusAccepted, true, "Pending", 13 * time.Second},
	}
	for _, step := range steps {
		got := c.arm(http.MethodPost, c.path("web")+"/"+step.action, nil)
		async := got.header.Get(asyncHeader)
		if got.status != step.status || got.raw != "" || (async != "") != step.async {
			t.Errorf("%s: %d %q, async %.40q", step.action, got.status, got.raw, async)
		}
		wantAt(t, c.get("web"), step.wantState, "properties", "provisioningState")
		c.clock.Step(step.step)
		if async != "" {
			wantAt(t, c.arm(http.MethodGet, async, nil).body, "Succeeded", "status")
		}
	}
	wantAt(t, c.get("web"), "Running", "properties", "instanceView", "state")
}

func TestA15Transitioning(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	c.put("web", http.StatusCreated)
	requests := map[string]func() answer{
		"PUT":     func() answer { return c.arm(http.MethodPut, c.path("web"), groupBody()) },
		"PATCH":   func() answer { return c.arm(http.MethodPatch, c.path("web"), map[string]any{}) },
		"DELETE":  func() answer { return c.arm(http.MethodDelete, c.path("web"), nil) },
		"restart": func() answer { return c.arm(http.MethodPost, c.path("web")+"/restart", nil) },
		"stop":    func() answer { return c.arm(http.MethodPost, c.path("web")+"/stop", nil) },
		"start":   func() answer { return c.arm(http.MethodPost, c.path("web")+"/start", nil) },
		"logs":    func() answer { return c.arm(http.MethodGet, c.path("web")+"/containers/app/logs", nil) },
	}
	for name, request := range requests {
		if got := request(); got.status != http.StatusConflict || got.code() != "ContainerGroupTransitioning" {
			t.Errorf("%s in transit: %d %s", name, got.status, got.code())
		}
	}
	wantAt(t, c.get("web"), "Pending", "properties", "provisioningState") // reads go on

	c.clock.Step(10 * time.Second) // the pull goes on, the default bound has passed
	wantAt(t, c.get("web"), "Creating", "properties", "provisioningState")
	if got := requests["DELETE"](); got.status != http.StatusOK {
		t.Errorf("DELETE after the bound: %d %s", got.status, got.raw)
	}

	c.server.Change(func(s *Settings) { s.TransitTime = -1 })
	c.put("web", http.StatusCreated)
	if got := requests["DELETE"](); got.status != http.StatusOK {
		t.Errorf("DELETE without transit: %d %s", got.status, got.raw)
	}
}

func TestA21Stop(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with(map[string]any{"type": "Public", "ports": []any{map[string]any{"port": 80}}}, "properties", "ipAddress"))
	if at(c.get("web"), "properties", "ipAddress", "ip") == nil {
		t.Fatal("a running public group has no address")
	}
	c.clock.Step(90 * time.Second)
	if got := c.arm(http.MethodPost, c.path("web")+"/stop", nil); got.status != http.StatusNoContent {
		t.Fatalf("stop: %d %s", got.status, got.raw)
	}
	got := c.get("web")
	view := []any{"properties", "containers", 0, "properties", "instanceView"}
	wantAt(t, got, "Stopped", "properties", "instanceView", "state")
	wantAt(t, got, nil, "properties", "ipAddress", "ip")
	wantAt(t, got, "Terminated", append(view, "currentState", "state")...)
	wantAt(t, got, "Running", append(view, "previousState", "state")...)
	if text, _ := at(got, append(view, "currentState", "detailStatus")...).(string); !strings.Contains(text, "client request") {
		t.Errorf("detailStatus %q does not name the client's request", text)
	}
	entries := c.server.Record().Entries
	if len(entries) != 1 || entries[0].To == nil || entries[0].Duration(c.clock.Now()) != 90*time.Second {
		t.Errorf("billing after stop: %+v", entries)
	}
}

func TestA22PatchChangesTagsOnly(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with(map[string]any{"old": "1"}, "tags"))
	got := c.arm(http.MethodPatch, c.path("web"), map[string]any{
		"tags": map[string]any{"new": "2"}, "location": "westus", "properties": map[string]any{"osType": "Windows"},
	})
	if got.status != http.StatusOK {
		t.Fatalf("PATCH: %d %s", got.status, got.raw)
	}
	for _, body := range []map[string]any{got.body, c.get("web")} {
		wantAt(t, body, map[string]any{"new": "2"}, "tags")
		wantAt(t, body, "eastus", "location")
		wantAt(t, body, "Linux", "properties", "osType")
		wantAt(t, body, 0.0, "properties", "containers", 0, "properties", "instanceView", "restartCount")
	}
	if got := c.arm(http.MethodPatch, c.path("none"), map[string]any{}); got.status != http.StatusNotFound {
		t.Errorf("PATCH of nothing: %d", got.status)
	}
}

// waitFor waits up to 10 s of real time for a condition.
func waitFor(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}
