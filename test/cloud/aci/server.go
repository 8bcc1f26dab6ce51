package aci

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Options set up a Server. The zero value serves an empty cloud without tenants
// on a random loopback port.
type Options struct {
	// Sim sets up the simulation: clock, timing, images, processes. Its
	// callbacks must not call the Server.
	Sim sim.Config
	// Address is what to listen on; empty is a random port of 127.0.0.1.
	Address string
	// Applications may ask for tokens.
	Applications []Application
	// Identities are those of the machine whose metadata service Metadata is.
	Identities []ManagedIdentity
	// Subscriptions that exist, with their resource groups.
	Subscriptions []Subscription
	// Locations are the regions that take container groups; nil is a handful
	// of real ones.
	Locations []string
	// Audiences are the resources that tokens are issued for and accepted
	// with; nil is those of public Azure.
	Audiences []string
	// TokenLifetime is how long a token is valid; 0 is one hour less a second,
	// as Entra answers.
	TokenLifetime time.Duration
	// Settings are the settings at the start.
	Settings Settings
}

// Subscription is an Azure subscription.
type Subscription struct {
	ID             string
	ResourceGroups []string
}

// Server is the emulated cloud. It is safe for concurrent use. Close it.
type Server struct {
	options        Options
	clock          clock.Clock
	fleet          *sim.Fleet
	specification  *specification
	authority      *authority
	throttle       *throttle
	faults         faultList
	hooks          sim.Hooks
	public         *addressPool
	private        *addressPool
	urlCertificate string // the c member of operation URLs

	mu            sync.RWMutex
	settings      Settings
	subscriptions map[string]map[string]bool // lower case id → lower case resource groups
	registrations map[string]registration    // by lower case subscription
	groups        map[string]*group          // by lower case resource id
	operations    map[string]*operation      // by lower case id
	pruned        time.Time                  // when old operations were last dropped
	streams       map[string]*stream         // that wait for their websocket, by the path of its address

	closing chan struct{}
	joined  sync.WaitGroup // open websockets
	once    sync.Once
	http    *http.Server
	served  chan struct{} // closed when Serve has returned
	url     string
	roots   []byte // PEM
}

// NewServer returns a Server that answers through Handler; Start makes it listen.
// It panics only if the embedded Swagger is damaged.
func NewServer(options Options) *Server {
	spec, err := loadSpecification()
	if err != nil {
		panic("aci: " + err.Error())
	}
	if options.Sim.Clock == nil {
		options.Sim.Clock = clock.RealClock{}
	}
	if len(options.Locations) == 0 {
		options.Locations = []string{"eastus", "eastus2", "westus", "westus2", "westeurope", "northeurope", "swedencentral"}
	}
	if len(options.Audiences) == 0 {
		options.Audiences = []string{"https://management.core.windows.net/", "https://management.azure.com/"}
	}
	if options.TokenLifetime <= 0 {
		options.TokenLifetime = time.Hour - time.Second
	}
	padding := make([]byte, 2048)
	_, _ = rand.Read(padding) // never fails (crypto/rand)
	s := &Server{
		options:        options,
		clock:          options.Sim.Clock,
		fleet:          sim.NewFleet(options.Sim),
		specification:  spec,
		authority:      newAuthority(options.Sim.Clock, options.TokenLifetime, options.Audiences),
		throttle:       newThrottle(options.Sim.Clock),
		public:         newAddressPool(publicAddresses),
		private:        newAddressPool(privateAddresses),
		urlCertificate: base64.RawURLEncoding.EncodeToString(padding),
		settings:       options.Settings,
		subscriptions:  map[string]map[string]bool{},
		registrations:  map[string]registration{},
		groups:         map[string]*group{},
		operations:     map[string]*operation{},
		streams:        map[string]*stream{},
		closing:        make(chan struct{}),
	}
	for _, app := range options.Applications {
		s.PutApplication(app)
	}
	for _, identity := range options.Identities {
		s.authority.assign(identity)
	}
	for _, subscription := range options.Subscriptions {
		s.AddSubscription(subscription)
	}
	return s
}

// Start listens with TLS and serves until Close.
func (s *Server) Start() error {
	certificate, roots, err := newCertificate(time.Now())
	if err != nil {
		return fmt.Errorf("start the Azure server: %w", err)
	}
	address := s.options.Address
	if address == "" {
		address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("start the Azure server: %w", err)
	}
	s.roots = roots
	s.url = "https://" + listener.Addr().String()
	s.served = make(chan struct{})
	s.http = &http.Server{
		Handler:           s.Handler(),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 30 * time.Second,
		// Clients that reject the certificate or go away are no news here.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() {
		defer close(s.served)
		// Always ends with ErrServerClosed, by Close.
		_ = s.http.ServeTLS(listener, "", "")
	}()
	return nil
}

// Close stops serving, cuts open connections and ends the simulation. The
// billing record stays readable. It may be called twice.
func (s *Server) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		if s.http != nil {
			// Handlers see closing and return; what is left is cut.
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if err = s.http.Shutdown(ctx); errors.Is(err, context.DeadlineExceeded) {
				err = s.http.Close()
			}
			<-s.served
		}
		s.joined.Wait()
		s.fleet.Close()
	})
	if err != nil {
		return fmt.Errorf("close the Azure server: %w", err)
	}
	return nil
}

// URL is the base address of both the authority and the resource manager,
// https://host:port without a final slash. It is empty before Start.
func (s *Server) URL() string { return s.url }

// RootsPEM is the certificate authority that the server's certificate is issued
// by, for a client's trust store.
func (s *Server) RootsPEM() []byte { return slices.Clone(s.roots) }

// Client returns an HTTP client that trusts the server. Close its idle
// connections when done.
func (s *Server) Client() *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.roots)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 64,
	}}
}

// Handler serves the authority, the resource manager and the billing record
// (sim.BillingPath).
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == sim.BillingPath {
			s.fleet.ServeBilling(w, r)
			return
		}
		if isNetwork(r) {
			s.serveNetwork(w, r)
			return
		}
		tenant, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		switch {
		case isStream(r.URL.Path):
			s.serveStream(w, r)
		case r.Host == publicAuthority && r.URL.Path == "/common/discovery/instance" && r.Method == http.MethodGet:
			s.authority.instances(w, r)
		case rest == "v2.0/.well-known/openid-configuration" && r.Method == http.MethodGet:
			r.SetPathValue("tenant", tenant)
			s.authority.configuration(w, r)
		case rest == "oauth2/v2.0/token" && r.Method == http.MethodPost:
			r.SetPathValue("tenant", tenant)
			s.serveToken(w, r)
		default:
			s.serveManager(w, r)
		}
	})
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	fault, struck := s.faults.next(OperationToken, "")
	if !struck {
		s.authority.token(w, r)
		return
	}
	// A token has no effect on the server: before and after are the same.
	if refusal := s.strike(fault, r); refusal != nil {
		writeError(w, refusal)
		return
	}
	s.authority.token(w, r)
}

// Fleet is the simulation behind the server, to make containers exit or print,
// and to read the billing record. A group's id in it is its resource id.
func (s *Server) Fleet() *sim.Fleet { return s.fleet }

// Record is the cloud's billing record, brought up to the present.
func (s *Server) Record() sim.Record { return s.fleet.Record() }

// Settings returns the present settings.
func (s *Server) Settings() Settings {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.settings
}

// Change edits the settings. The new ones hold from the next request on. edit
// must not keep its argument or call the Server.
func (s *Server) Change(edit func(*Settings)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit(&s.settings)
}

// PutApplication adds an application or replaces the one of the same tenant and
// client id, which is how secrets are rotated. Tokens issued before stay valid.
func (s *Server) PutApplication(app Application) { s.authority.put(app) }

// RemoveApplication makes an application unknown; its tokens are refused.
func (s *Server) RemoveApplication(tenantID, clientID string) { s.authority.remove(tenantID, clientID) }

// RevokeTokens makes every token issued so far invalid.
func (s *Server) RevokeTokens() { s.authority.revoke() }

// AddSubscription adds a subscription, or resource groups to an existing one.
func (s *Server) AddSubscription(subscription Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := strings.ToLower(subscription.ID)
	if s.subscriptions[id] == nil {
		s.subscriptions[id] = map[string]bool{}
	}
	for _, name := range subscription.ResourceGroups {
		s.subscriptions[id][strings.ToLower(name)] = true
	}
}

// Inject adds a fault. Faults are tried in the order they came.
func (s *Server) Inject(f Fault) { s.faults.add(f) }

// ClearFaults removes all faults.
func (s *Server) ClearFaults() { s.faults.clear() }

// Hook has a function called on the way of admitted calls, until remove.
func (s *Server) Hook(h sim.Hook) (remove func()) { return s.hooks.Hook(h) }

func (s *Server) findScope(subscription, resourceGroup string) (subscriptionFound, resourceGroupFound bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	resourceGroups, found := s.subscriptions[strings.ToLower(subscription)]
	return found, resourceGroups[strings.ToLower(resourceGroup)]
}
