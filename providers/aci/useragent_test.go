package aci

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestUserAgent(t *testing.T) {
	var mu sync.Mutex
	agents := map[string]string{}
	cloud := &fakeCloud{manage: func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		agents[r.Method] = r.UserAgent()
		answer(503, "ServerBusy", "busy")(w, r)
	}}
	p := cloud.start(t, func(c *Config) { c.Version = "v1.2.3" })
	if _, err := p.List(t.Context()); err == nil {
		t.Error("no error of a cloud that is not available")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(agents) == 0 {
		t.Error("the cloud was not called")
	}
	for method, agent := range agents {
		if !strings.HasPrefix(agent, "autoburst/v1.2.3 ") {
			t.Errorf("%s: the User-Agent is %q, want it to begin with autoburst/v1.2.3", method, agent)
		}
	}
}
