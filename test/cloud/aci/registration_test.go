package aci

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestRegistrationTakesTime(t *testing.T) {
	c := newTestCloud(t, settings(Settings{RegistrationTime: time.Minute}))
	provider := "/subscriptions/" + testSubscription + "/providers/microsoft.containerinstance"
	state := func(method, path string) any {
		t.Helper()
		got := c.arm(method, path+"?api-version=2019-05-01", nil)
		if got.status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, got.status, got.raw)
		}
		return at(got.body, "registrationState")
	}
	if got := state(http.MethodGet, provider); got != "Registered" {
		t.Errorf("at first it is %v", got)
	}
	c.server.Unregister(strings.ToUpper(testSubscription))
	steps := []struct {
		method, path, want string
		list               int
		step               time.Duration
	}{
		{http.MethodGet, provider, "NotRegistered", http.StatusConflict, time.Hour / 2},
		{http.MethodPost, provider + "/register", "Registering", http.StatusConflict, 59 * time.Second},
		{http.MethodPost, provider + "/register", "Registering", http.StatusConflict, time.Second},
		{http.MethodGet, provider, "Registered", http.StatusOK, 0},
	}
	for i, step := range steps {
		if got := state(step.method, step.path); got != step.want {
			t.Errorf("step %d: %v, want %s", i, got, step.want)
		}
		if got := c.arm(http.MethodGet, testGroups, nil); got.status != step.list {
			t.Errorf("step %d: the list answers %d %s", i, got.status, got.raw)
		}
		c.clock.Step(step.step)
	}
	if got := c.arm(http.MethodGet, provider, nil); got.status != http.StatusBadRequest {
		t.Errorf("the service's own api-version: %d %s", got.status, got.raw)
	}
}
