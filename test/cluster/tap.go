package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/client-go/tools/clientcmd"
)

// Tap is a proxy between one client and the API server. It ends the client's
// TLS with a certificate of the cluster's authority and passes its bearer token
// on, so that the API server knows the client; client certificates are not
// passed on. It keeps a record of all requests and disturbs those that a test
// names. It is safe for concurrent use. Close it.
type Tap struct {
	address     string
	certificate tls.Certificate
	proxy       *httputil.ReverseProxy
	transport   *http.Transport

	mu       sync.Mutex
	server   *http.Server // nil while the tap is down
	served   chan struct{}
	requests []Request
	rules    []*Disturbance
	watches  map[int]watch
	next     int
	holds    []*hold
}

// Request is one request of the client, in the API server's terms.
type Request struct {
	At time.Time
	// Verb is get, list, watch, create, update, patch, delete or
	// deletecollection; the lower case HTTP method for paths that are not
	// resources.
	Verb string
	// Resource and Subresource are as in Roles: pods and status. Path is all
	// that there is for other requests.
	Group, Resource, Subresource, Namespace, Name, Path string
	// Query is the raw query.
	Query string
}

// String is as a Role would say it, with the object.
func (r Request) String() string {
	if r.Resource == "" {
		return r.Verb + " " + r.Path
	}
	s := r.Verb + " " + r.Resource
	if r.Subresource != "" {
		s += "/" + r.Subresource
	}
	if r.Namespace != "" || r.Name != "" {
		s += " " + r.Namespace + "/" + r.Name
	}
	return s
}

// Is tells whether the request is of that verb and resource, such as "patch"
// and "pods/status".
func (r Request) Is(verb, resource string) bool {
	have := r.Resource
	if r.Subresource != "" {
		have += "/" + r.Subresource
	}
	return r.Verb == verb && have == resource
}

// Disturbance is what happens to requests. Its parts apply in the order Before,
// Delay, then the answer: Cut, Status, or the API server's own after After.
type Disturbance struct {
	// Match names the requests; nil is all.
	Match func(Request) bool
	// Calls is how many requests are disturbed; zero is one, negative all until
	// Restore.
	Calls int
	// Before is called when the request arrives, before it is passed on.
	Before func(Request)
	// After is called when the API server has answered, before the client has
	// the answer.
	After func(Request)
	// Delay passes before the request is passed on.
	Delay time.Duration
	// Cut closes the connection without an answer. With AfterEffect the API
	// server carries the request out first.
	Cut         bool
	AfterEffect bool
	// Status, Reason and Message answer in the API server's place.
	Status  int
	Reason  metav1.StatusReason
	Message string
}

// hold keeps watches away.
type hold struct {
	match    func(Request) bool
	released chan struct{}
	expired  bool
}

type watch struct {
	request Request
	cancel  context.CancelFunc
}

var requestInfo = request.RequestInfoFactory{
	APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api"), //nolint:staticcheck // the fields' own type
}

// NewTap starts a tap on a loopback port.
func (c *Cluster) NewTap() (*Tap, error) {
	certificate, err := tls.LoadX509KeyPair(c.path("server.crt"), c.path("server.key"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(c.CAFile())
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	target, err := url.Parse(c.server)
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	t := &Tap{
		address: "127.0.0.1:" + port, certificate: certificate, watches: map[int]watch{},
		transport: &http.Transport{
			TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 64,
		},
	}
	t.proxy = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     t.transport,
		FlushInterval: -1, // a watch delivers what it has
		ErrorLog:      log.New(io.Discard, "", 0),
		// The API server is away: the client sees what it would see without a tap.
		ErrorHandler:   func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
		ModifyResponse: answered,
	}
	return t, t.Up()
}

// Server is the URL of the tap, to be used in place of the API server's.
func (t *Tap) Server() string { return "https://" + t.address }

// Kubeconfig writes a copy of a kubeconfig that leads through the tap, and
// returns its path.
func (t *Tap) Kubeconfig(path string) (string, error) {
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return "", err
	}
	for _, cluster := range config.Clusters {
		cluster.Server = t.Server()
	}
	_, port, err := net.SplitHostPort(t.address)
	if err != nil {
		return "", err
	}
	through := path + ".tap-" + port
	return through, clientcmd.WriteToFile(*config, through)
}

// Up serves on the tap's port; it does nothing if the tap is up.
func (t *Tap) Up() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", t.address)
	if err != nil {
		return fmt.Errorf("start the tap: %w", err)
	}
	t.server = &http.Server{
		Handler:           t,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{t.certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
	}
	server, served := t.server, make(chan struct{})
	t.served = served
	go func() {
		defer close(served)
		// Always ends with ErrServerClosed, by Down.
		_ = server.ServeTLS(listener, "", "")
	}()
	return nil
}

// Down cuts every connection and refuses new ones until Up: for the client the
// API server is stopped.
func (t *Tap) Down() error {
	t.mu.Lock()
	server, served := t.server, t.served
	t.server = nil
	t.mu.Unlock()
	if server == nil {
		return nil
	}
	err := server.Close()
	<-served
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// Close ends the tap for good.
func (t *Tap) Close() error {
	t.Restore()
	err := t.Down()
	t.transport.CloseIdleConnections()
	return err
}

// Disturb adds a disturbance. They are tried in the order they came; the first
// that matches a request is used for it.
func (t *Tap) Disturb(d Disturbance) {
	if d.Calls == 0 {
		d.Calls = 1
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = append(t.rules, &d)
}

// Restore drops all disturbances and releases all watches that are held.
func (t *Tap) Restore() {
	t.mu.Lock()
	t.rules = nil
	holds := t.holds
	t.holds = nil
	t.mu.Unlock()
	for _, h := range holds {
		close(h.released)
	}
}

// Watches tells how many watches that match are open.
func (t *Tap) Watches(match func(Request) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, w := range t.watches {
		if match == nil || match(w.request) {
			n++
		}
	}
	return n
}

// HoldWatches cuts the open watches that match and lets new ones wait until
// Release; with expired the first ones after that are told that their resource
// version is too old, as after a long gap, so that the client lists anew and
// never hears what happened in between. Nil matches all.
func (t *Tap) HoldWatches(match func(Request) bool, expired bool) {
	if match == nil {
		match = func(Request) bool { return true }
	}
	h := &hold{match: match, released: make(chan struct{}), expired: expired}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.holds = append(t.holds, h)
	for _, w := range t.watches {
		if match(w.request) {
			w.cancel()
		}
	}
}

// Release lets the watches that are held go on.
func (t *Tap) Release() {
	t.mu.Lock()
	holds := t.holds
	t.holds = nil
	t.mu.Unlock()
	for _, h := range holds {
		close(h.released)
	}
}

// Requests are all requests so far, oldest first.
func (t *Tap) Requests() []Request {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.requests)
}

// Count is how many of the requests so far match.
func (t *Tap) Count(match func(Request) bool) int {
	n := 0
	for _, r := range t.Requests() {
		if match(r) {
			n++
		}
	}
	return n
}

// take notes a request and uses up one call of the first rule that matches it.
func (t *Tap) take(r Request) (Disturbance, *hold) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.requests = append(t.requests, r)
	var held *hold
	if r.Verb == "watch" {
		for _, h := range t.holds {
			if h.match(r) {
				held = h
				break
			}
		}
	}
	for i, d := range t.rules {
		if d.Match != nil && !d.Match(r) {
			continue
		}
		found := *d
		if d.Calls > 0 {
			if d.Calls--; d.Calls == 0 {
				t.rules = slices.Delete(t.rules, i, i+1)
			}
		}
		return found, held
	}
	return Disturbance{}, held
}

type afterKey struct{}

// answered runs while the client waits for the answer that the API server gave.
func answered(resp *http.Response) error {
	if after, ok := resp.Request.Context().Value(afterKey{}).(func()); ok {
		after()
	}
	return nil
}

// ServeHTTP passes one request on.
func (t *Tap) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r := describe(req)
	d, held := t.take(r)
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	if held != nil {
		select {
		case <-held.released:
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		}
		if held.expired {
			writeStatus(w, http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
			return
		}
	}
	if d.Before != nil {
		d.Before(r)
	}
	if d.Delay > 0 {
		timer := time.NewTimer(d.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		}
	}
	if !d.AfterEffect {
		d.spoil(w)
		if d.Status != 0 {
			return
		}
	}
	if r.Verb == "watch" {
		defer t.open(r, cancel)()
	}
	cut := d.AfterEffect && d.Cut
	if cut || d.After != nil {
		ctx = context.WithValue(ctx, afterKey{}, func() {
			if d.After != nil {
				d.After(r)
			}
			if cut {
				panic(http.ErrAbortHandler)
			}
		})
	}
	t.proxy.ServeHTTP(w, req.WithContext(ctx))
}

// spoil answers in the API server's place, if the disturbance says so.
func (d Disturbance) spoil(w http.ResponseWriter) {
	switch {
	case d.Cut:
		panic(http.ErrAbortHandler) // net/http's way to drop the connection
	case d.Status != 0:
		writeStatus(w, d.Status, d.Reason, d.Message)
	}
}

// open notes a watch until the returned function is called.
func (t *Tap) open(r Request, cancel context.CancelFunc) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	id := t.next
	t.next++
	t.watches[id] = watch{request: r, cancel: cancel}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watches, id)
	}
}

func describe(req *http.Request) Request {
	r := Request{At: time.Now(), Path: req.URL.Path, Query: req.URL.RawQuery}
	info, err := requestInfo.NewRequestInfo(req)
	if err != nil { // not a path of the API
		r.Verb = req.Method
		return r
	}
	r.Verb, r.Group, r.Resource, r.Subresource = info.Verb, info.APIGroup, info.Resource, info.Subresource
	r.Namespace, r.Name = info.Namespace, info.Name
	return r
}

func writeStatus(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// A failed write means that the client has gone.
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
}
