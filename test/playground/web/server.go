// Package web serves a playground's figures on loopback: as a page with plots, as
// JSON and as a stream of events.
package web

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path"
	"time"

	"github.com/autoburst/autoburst/test/playground/live"
)

//go:embed static
var static embed.FS

// Source is what is shown.
type Source interface {
	State() live.State
	History() []live.Sample
	// Subscribe returns states, closed when there are no more.
	Subscribe(ctx context.Context) <-chan live.State
}

// contentTypes are by extension; those of the system may say otherwise.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// About is what the page says about the playground itself.
type About struct {
	// Commands are what to type in a terminal, one line each.
	Commands []string `json:"commands"`
}

// Server serves one playground. Close it.
type Server struct {
	server   *http.Server
	listener net.Listener
	stop     context.CancelFunc
	done     chan error
}

// The page loads nothing from elsewhere, runs no inline code and is in no frame.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// Serve serves on a listener of loopback, which Close closes.
func Serve(listener net.Listener, source Source, about About) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{listener: listener, stop: stop, done: make(chan error, 1)}
	s.server = &http.Server{
		Handler: Handler(source, about), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	go func() { s.done <- s.server.Serve(listener) }()
	return s
}

// URL is where the page is.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Close ends all streams and stops to listen.
func (s *Server) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Handler answers GET and HEAD of the page, and of
//
//	/api/state    the newest state
//	/api/history  a sample a second of the last 15 minutes
//	/api/events   states as server-sent events, a few in a second
//	/api/about    what to type in a terminal
func Handler(source Source, about About) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/state", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, source.State()) })
	mux.HandleFunc("GET /api/history", func(w http.ResponseWriter, _ *http.Request) {
		history := source.History()
		if history == nil {
			history = []live.Sample{}
		}
		writeJSON(w, history)
	})
	mux.HandleFunc("GET /api/about", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, about) })
	mux.HandleFunc("GET /api/events", func(w http.ResponseWriter, r *http.Request) { stream(w, r, source) })
	files, err := fs.Sub(static, "static")
	if err != nil { // the folder is compiled in
		panic(err)
	}
	mux.HandleFunc("GET /{file...}", func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("file")
		if name == "" {
			name = "index.html"
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
		_, _ = w.Write(body) // whoever asked may be gone
	})
	return guard(mux)
}

// guard sets the headers of every answer and refuses requests that came by another
// name: a page elsewhere whose name resolves to loopback must not read this one.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			http.Error(w, fmt.Sprintf("This page is served on loopback only, not as %q.", host), http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever asked may be gone
}

func stream(w http.ResponseWriter, r *http.Request, source Source) {
	w.Header().Set("Content-Type", "text/event-stream")
	flusher := http.NewResponseController(w)
	if _, err := fmt.Fprint(w, "retry: 1000\n\n"); err != nil {
		return
	}
	for s := range source.Subscribe(r.Context()) {
		text, err := json.Marshal(s)
		if err != nil {
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
	}
}
