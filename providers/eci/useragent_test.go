package eci

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func TestUserAgent(t *testing.T) {
	var agent atomic.Value
	p := served(t, func(w http.ResponseWriter, r *http.Request) {
		agent.Store(r.UserAgent())
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	p.client.version = "v1.2.3"
	if _, err := p.List(t.Context()); err == nil {
		t.Error("no error of a cloud that is not available")
	}
	if got, _ := agent.Load().(string); !strings.Contains(got, "autoburst/v1.2.3") {
		t.Errorf("the User-Agent is %q, want autoburst/v1.2.3 in it", got)
	}
}
