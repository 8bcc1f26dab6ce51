package aci

import (
	"net/http"
	"testing"
	"time"
)

func TestEvict(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming), settings(Settings{EvictionTime: 10 * time.Minute}))
	c.put("spot", http.StatusCreated, with("Spot", "properties", "priority"))
	c.put("regular", http.StatusCreated)
	c.clock.Step(time.Minute)
	for name, id := range map[string]string{"regular priority": c.path("regular"), "no such group": c.path("none")} {
		if err := c.server.Evict(id); err == nil {
			t.Errorf("%s: a group was evicted", name)
		}
	}
	if err := c.server.Evict(c.path("spot")); err != nil {
		t.Fatal(err)
	}
	if err := c.server.Evict(c.path("spot")); err == nil {
		t.Error("a group was evicted twice")
	}
	state := []any{"properties", "containers", 0, "properties", "instanceView", "currentState"}
	for _, step := range []struct {
		after                      time.Duration
		provisioning, group, state string
	}{
		{0, "Repairing", "Pending", "Waiting"},
		{10*time.Minute - time.Second, "Repairing", "Pending", "Waiting"},
		{time.Minute, "Succeeded", "Running", "Running"},
	} {
		c.clock.Step(step.after)
		got := c.get("spot")
		wantAt(t, got, step.provisioning, "properties", "provisioningState")
		wantAt(t, got, step.group, "properties", "instanceView", "state")
		wantAt(t, got, step.state, append(state, "state")...)
	}
}

func TestMaintain(t *testing.T) {
	c := newTestCloud(t, timing(slowTiming))
	c.put("web", http.StatusCreated)
	if err := c.server.Maintain(c.path("web"), PlatformExit); err == nil {
		t.Error("a group without a machine lost it")
	}
	c.clock.Step(time.Minute)
	if err := c.server.Maintain(c.path("WEB"), PlatformFailureExit); err != nil {
		t.Fatal(err)
	}
	got := c.get("web")
	wantAt(t, got, "Repairing", "properties", "provisioningState")
	wantAt(t, got, 7148.0, "properties", "containers", 0, "properties", "instanceView", "previousState", "exitCode")
	c.clock.Step(time.Minute)
	wantAt(t, c.get("web"), "Succeeded", "properties", "provisioningState")
	// Nobody changes the group, so that changes are not refused meanwhile.
	if err := c.server.Maintain(c.path("web"), PlatformExit); err != nil {
		t.Fatal(err)
	}
	if got := c.arm(http.MethodPatch, c.path("web"), map[string]any{"tags": map[string]any{"a": "b"}}); got.status != http.StatusOK {
		t.Errorf("PATCH while the platform works: %d %s", got.status, got.raw)
	}
}

func TestProbeLimits(t *testing.T) {
	exec := map[string]any{"command": []any{"true"}}
	http0 := map[string]any{"port": 80}
	for name, test := range map[string]struct {
		probe map[string]any
		want  int
	}{
		"exec":         {map[string]any{"exec": exec}, http.StatusCreated},
		"httpGet":      {map[string]any{"httpGet": http0, "periodSeconds": 5}, http.StatusCreated},
		"both":         {map[string]any{"exec": exec, "httpGet": http0}, http.StatusBadRequest},
		"neither":      {map[string]any{"periodSeconds": 5}, http.StatusBadRequest},
		"no command":   {map[string]any{"exec": map[string]any{"command": []any{}}}, http.StatusBadRequest},
		"negative":     {map[string]any{"exec": exec, "periodSeconds": -1}, http.StatusBadRequest},
		"not a number": {map[string]any{"exec": exec, "periodSeconds": "5"}, http.StatusBadRequest},
	} {
		for _, use := range []string{"livenessProbe", "readinessProbe"} {
			t.Run(name+" "+use, func(t *testing.T) {
				newTestCloud(t).put("web", test.want, with(test.probe, "properties", "containers", 0, "properties", use))
			})
		}
	}
}
