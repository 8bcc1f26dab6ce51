package eci

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// maxBody bounds a request body. The service publishes no bound; 20 volumes of
// 90 files of 32 KB would be 58 MB.
const maxBody = 64 << 20

// Server is one account of the emulated cloud in all its regions. It is an
// http.Handler and safe for concurrent use. Close it.
type Server struct {
	opts  Options
	fleet *sim.Fleet

	gate   gate // keys, nonces, rates
	faults faults
	hooks  sim.Hooks
	market market

	mu      sync.Mutex // guards what follows, and orders changes
	groups  map[string]*group
	caches  map[string]*imageCache
	subnets map[string]*subnet
	tokens  map[string]tokenUse
	debt    *atomic.Bool // an outstanding payment, true until it is paid; nil is none
	// sessions are commands that wait for their websocket, by the secret of its address.
	sessions map[string]*execSession
	closed   bool

	serving sync.WaitGroup // the listeners, and open websockets
	closing chan struct{}
	http    *http.Server
}

// NewServer returns a server that is not listening yet. It panics if the
// options describe an impossible account, which is a mistake of the program.
func NewServer(o Options) *Server {
	o.setDefaults()
	if err := o.validate(); err != nil {
		panic(err)
	}
	s := &Server{
		opts:     o,
		fleet:    sim.NewFleet(o.Sim),
		market:   market{share: o.SpotShare},
		groups:   map[string]*group{},
		caches:   map[string]*imageCache{},
		subnets:  map[string]*subnet{},
		tokens:   map[string]tokenUse{},
		sessions: map[string]*execSession{}, closing: make(chan struct{}),
	}
	for _, r := range o.Regions {
		for _, v := range r.VSwitches {
			s.subnets[v.ID] = newSubnet(v)
		}
	}
	s.gate.init(o, s.fleet.Now)
	s.http = &http.Server{
		Handler: s, ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 20,
		// Clients that go away in the middle are no news here.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return s
}

// Start serves on a listener until Close. Give a TLS listener for HTTPS.
func (s *Server) Start(l net.Listener) {
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		// Serve returns when Close closes the listener; a listener that fails
		// before shows as refused connections to every client.
		_ = s.http.Serve(l)
	}()
}

// Close stops serving and ends all processes. The record stays readable.
func (s *Server) Close() error {
	err := s.http.Close()
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	s.serving.Wait()
	s.fleet.Close()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the ECI server: %w", err)
	}
	return nil
}

// Fleet holds the container groups, for tests that make containers exit.
func (s *Server) Fleet() *sim.Fleet { return s.fleet }

// Record is the cloud's billing record.
func (s *Server) Record() sim.Record { return s.fleet.Record() }

// Inject adds a fault. Faults apply in the order of their injection.
func (s *Server) Inject(f Fault) { s.faults.add(f) }

// ClearFaults removes all faults.
func (s *Server) ClearFaults() { s.faults.clear() }

// Hook has a function called on the way of admitted calls, until remove.
func (s *Server) Hook(h sim.Hook) (remove func()) { return s.hooks.Hook(h) }

// SetMaxCPU replaces the account's vCPU quota per region; zero is no quota. Groups
// above it stay.
func (s *Server) SetMaxCPU(vcpus float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.MaxCPU = vcpus
}

// SetRates replaces the flow control.
func (s *Server) SetRates(r Rates) { s.gate.setRates(r) }

// SetAccessKeys replaces the account's keys.
func (s *Server) SetAccessKeys(keys ...AccessKey) { s.gate.setKeys(keys) }

// call is one request on its way.
type call struct {
	action    string
	principal string // access key id
	requestID string
	members   *member
	form      url.Values
	host      string // as the client called it
	target    string // the group concerned, for the record
}

// changing are the actions that the record keeps.
var changing = map[string]bool{
	"CreateContainerGroup": true, "DeleteContainerGroup": true, "RestartContainerGroup": true, "UpdateContainerGroup": true,
	"CreateImageCache": true, "UpdateImageCache": true, "DeleteImageCache": true,
	"TagResources": true, "UntagResources": true,
}

// ServeHTTP answers one call, and the billing record at sim.BillingPath.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sim.BillingPath {
		s.fleet.ServeBilling(w, r)
		return
	}
	if r.URL.Path == execPath || r.URL.Path == terminalPath {
		s.serveExec(w, r)
		return
	}
	c := &call{requestID: newRequestID(), host: r.Host}
	form, err := s.readForm(w, r)
	if err != nil {
		s.answerError(w, r, c, err)
		return
	}
	c.form = form
	if form.Get("Format") != "JSON" {
		s.answerXML(w, r, c, refuse(http.StatusBadRequest, "InvalidParameter.Format", "This emulator answers Format=JSON only; without it the service answers XML."))
		return
	}
	if err := s.gate.admit(r, c); err != nil {
		s.answerError(w, r, c, err)
		return
	}
	named := cmp.Or(form.Get("ContainerGroupId"), form.Get("ContainerGroupIds"))
	s.hooks.Before(sim.Passage{Action: c.action, Target: named})
	fault := s.faults.take(c.action, form)
	if fault != nil && !fault.AfterEffect && s.spoil(w, r, c, fault) {
		return
	}
	answer, refusal := s.act(c)
	if changing[c.action] {
		s.audit(c, refusal)
	}
	s.hooks.After(sim.Passage{Action: c.action, Target: cmp.Or(c.target, named), Code: codeOf(refusal)})
	if fault != nil && fault.AfterEffect && s.spoil(w, r, c, fault) {
		return
	}
	if refusal != nil {
		s.answerError(w, r, c, refusal)
		return
	}
	answer["RequestId"] = c.requestID
	writeJSON(w, http.StatusOK, answer)
}

// spoil waits and answers as a fault says, and reports whether the call is over.
func (s *Server) spoil(w http.ResponseWriter, r *http.Request, c *call, f *Fault) bool {
	if !s.sleep(r.Context(), f.Delay) {
		return true
	}
	return f.answer(w, func(e *apiError) { s.answerError(w, r, c, e) })
}

// readForm returns the members of query and form body together.
func (s *Server) readForm(w http.ResponseWriter, r *http.Request) (url.Values, *apiError) {
	if s.opts.MaxURL > 0 && len(r.RequestURI) > s.opts.MaxURL {
		return nil, refuse(http.StatusRequestURITooLong, "RequestURITooLong", "The URL has %d bytes; at most %d are allowed.", len(r.RequestURI), s.opts.MaxURL)
	}
	if r.URL.Path != "/" {
		return nil, refuse(http.StatusNotFound, "InvalidApi.NotFound", "Specified api is not found, please check your url and method.")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, unsupportedMethod(r.Method)
	}
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalidParameter("The query cannot be parsed.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, invalidParameter("The body cannot be read or is larger than %d bytes.", maxBody)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		inBody, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, invalidParameter("The form body cannot be parsed.")
		}
		for name, values := range inBody {
			form[name] = append(form[name], values...)
		}
	}
	for name, values := range form {
		if len(values) > 1 {
			return nil, invalidParameter("%s was sent %d times.", name, len(values))
		}
	}
	return form, nil
}

func unsupportedMethod(method string) *apiError {
	return refuse(http.StatusBadRequest, "UnsupportedHTTPMethod", "This http method %s is not supported.", method)
}

// act validates the members and carries the action out.
func (s *Server) act(c *call) (map[string]any, *apiError) {
	if err := refuseFormattedSlices(c.form); err != nil {
		return nil, err
	}
	c.members = parseMembers(c.form)
	if err := published().served[c.action].root.check(c.members); err != nil {
		return nil, err
	}
	if region := c.members.str("RegionId"); region != "" && c.action != "DescribeRegions" {
		if _, ok := s.region(region); !ok {
			return nil, refuse(http.StatusNotFound, "InvalidRegionId.NotFound", "The specified region %q does not exist.", clip(region))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetEnded()
	s.settleCaches()
	return handlers[c.action](s, c)
}

// handlers are the served actions. They run with the server's lock held: the
// cloud sees one call after the other.
var handlers = map[string]func(*Server, *call) (map[string]any, *apiError){
	"CreateContainerGroup":         (*Server).create,
	"DeleteContainerGroup":         (*Server).remove,
	"RestartContainerGroup":        (*Server).restart,
	"UpdateContainerGroup":         (*Server).update,
	"DescribeContainerGroups":      (*Server).describeGroups,
	"DescribeContainerGroupStatus": (*Server).describeStatus,
	"DescribeContainerGroupEvents": (*Server).describeEvents,
	"DescribeContainerLog":         (*Server).describeLog,
	"ExecContainerCommand":         (*Server).exec,
	"DescribeContainerGroupPrice":  (*Server).describePrice,
	"DescribeAvailableResource":    (*Server).describeAvailable,
	"CreateImageCache":             (*Server).createCache,
	"UpdateImageCache":             (*Server).updateCache,
	"DeleteImageCache":             (*Server).removeCache,
	"DescribeImageCaches":          (*Server).describeCaches,
	"TagResources":                 (*Server).tagResources,
	"UntagResources":               (*Server).untagResources,
	"ListTagResources":             (*Server).listTagResources,
	"DescribeRegions":              (*Server).describeRegions,
	"ListUsage":                    (*Server).listUsage,

	"DescribeContainerGroupMetric":      (*Server).describeMetric,
	"DescribeMultiContainerGroupMetric": (*Server).describeMetrics,
}

func notEmulated(action string) *apiError {
	return refuse(http.StatusNotImplemented, "EmulatorNotImplemented", "The service publishes %s, but this emulator does not serve it.", action)
}

func (s *Server) region(id string) (Region, bool) {
	for _, r := range s.opts.Regions {
		if r.ID == id {
			return r, true
		}
	}
	return Region{}, false
}

func (s *Server) audit(c *call, refusal *apiError) {
	s.fleet.Ledger().Audit(sim.Call{
		Time: s.fleet.Now(), Cloud: cloudName, Principal: c.principal, Action: c.action,
		Target: c.target, RequestID: c.requestID, Code: codeOf(refusal),
	})
}

// codeOf is how a call ended, for the record.
func codeOf(refusal *apiError) string {
	if refusal != nil {
		return refusal.code
	}
	return "OK"
}

// sleep waits on the server's clock and reports whether the client is still there.
func (s *Server) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := s.fleet.Clock().NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

// errorBody is the body of every answer that is not a success.
type errorBody struct {
	XMLName   xml.Name `json:"-" xml:"Error"`
	RequestID string   `json:"RequestId" xml:"RequestId"`
	HostID    string   `json:"HostId" xml:"HostId"`
	Code      string   `json:"Code"`
	Message   string   `json:"Message"`
	Recommend string   `json:"Recommend"`
}

func newErrorBody(r *http.Request, c *call, e *apiError) errorBody {
	q := url.Values{"q": {e.code}, "product": {"Eci"}, "requestId": {c.requestID}}
	return errorBody{
		RequestID: c.requestID, HostID: r.Host, Code: e.code, Message: e.message,
		Recommend: "https://api.aliyun.com/troubleshoot?" + q.Encode(),
	}
}

func (s *Server) answerError(w http.ResponseWriter, r *http.Request, c *call, e *apiError) {
	if e.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
	}
	writeJSON(w, e.status, newErrorBody(r, c, e))
}

func (s *Server) answerXML(w http.ResponseWriter, r *http.Request, c *call, e *apiError) {
	w.Header().Set("Content-Type", "text/xml;charset=utf-8")
	w.WriteHeader(e.status)
	// A failed write means that the client has gone.
	_ = xml.NewEncoder(w).Encode(newErrorBody(r, c, e))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	// A failed write means that the client has gone.
	_ = json.NewEncoder(w).Encode(v)
}

// newRequestID is an upper-case UUID of version 4.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := strings.ToUpper(hex.EncodeToString(b[:]))
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newID is a resource id: the kind, and 20 lower-case letters and digits.
func newID(kind string) string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 20)
	rand.Read(b)
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return kind + "-" + string(b)
}
