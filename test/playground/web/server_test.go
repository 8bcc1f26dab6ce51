package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/autoburst/autoburst/test/playground/live"
	"github.com/autoburst/autoburst/test/playground/web"
)

// source shows what a playground recorded, and what a test changes.
type source struct {
	mu          sync.Mutex
	state       live.State
	history     []live.Sample
	subscribers map[chan live.State]struct{}
}

// recorded is a moment of a playground and the minutes before.
func recorded(t *testing.T) *source {
	t.Helper()
	s := &source{subscribers: map[chan live.State]struct{}{}}
	read := func(name string, into any) {
		text, err := os.ReadFile("../live/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	read("state.json", &s.state)
	read("history.json", &s.history)
	return s
}

func (s *source) State() live.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

func (s *source) History() []live.Sample { return s.history }

func (s *source) Subscribe(ctx context.Context) <-chan live.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan live.State, 16)
	c <- s.state
	s.subscribers[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.subscribers, c)
		close(c)
	})
	return c
}

// change tells another state to whoever watches.
func (s *source) change(edit func(*live.State)) live.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.state)
	for c := range s.subscribers {
		c <- s.state
	}
	return s.state
}

func listen(t *testing.T, address string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestServer(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := recorded(t)
	server := web.Serve(listen(t, "127.0.0.1:0"), s, web.About{Commands: []string{"kubectl get nodes"}})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) (*http.Response, string) {
		t.Helper()
		resp, err := client.Get(server.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	for path, want := range map[string]string{
		"/": "text/html; charset=utf-8", "/app.js": "text/javascript; charset=utf-8", "/style.css": "text/css; charset=utf-8",
		"/icon.svg": "image/svg+xml", "/api/state": "application/json", "/api/history": "application/json", "/api/about": "application/json",
	} {
		resp, _ := get(path)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want {
			t.Errorf("%s: %s, %q, want 200 and %q", path, resp.Status, resp.Header.Get("Content-Type"), want)
		}
		if policy := resp.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: content security policy %q", path, policy)
		}
	}
	_, body := get("/api/state")
	var state live.State
	if err := json.Unmarshal([]byte(body), &state); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.State(), state); diff != "" {
		t.Errorf("/api/state (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/nothing", "/../server.go", "/static/app.js"} {
		if resp, _ := get(path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s, want 404", path, resp.Status)
		}
	}

	resp, err := client.Get(server.URL() + "/api/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	next := func() live.State {
		t.Helper()
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var got live.State
				if err := json.Unmarshal([]byte(data), &got); err != nil {
					t.Fatal(err)
				}
				return got
			}
		}
		t.Fatalf("the stream ended: %v", lines.Err())
		return live.State{}
	}
	next()
	s.change(func(st *live.State) { st.Waiting.Pods = 77 })
	if got := next().Waiting.Pods; got != 77 {
		t.Errorf("the stream says that %d pods wait, want 77", got)
	}
	// An open stream does not keep the server from ending.
	if err := server.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}

func TestHandlerRefuses(t *testing.T) {
	handler := web.Handler(recorded(t), web.About{})
	for name, test := range map[string]struct {
		method, host string
		want         int
	}{
		"another name that leads here": {http.MethodGet, "evil.example:8080", http.StatusForbidden},
		"an address of the network":    {http.MethodGet, "192.0.2.1", http.StatusForbidden},
		"loopback":                     {http.MethodGet, "127.0.0.1:8080", http.StatusOK},
		"loopback of IPv6":             {http.MethodGet, "[::1]:8080", http.StatusOK},
		"localhost":                    {http.MethodGet, "localhost:8080", http.StatusOK},
		"a change":                     {http.MethodPost, "localhost:8080", http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "http://localhost/api/state", nil)
			r.Host = test.host
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			if w.Code != test.want {
				t.Errorf("status %d, want %d: %s", w.Code, test.want, w.Body)
			}
		})
	}
}
