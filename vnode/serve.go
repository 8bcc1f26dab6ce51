package vnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
)

// APISettings say how the kubelet API is served.
type APISettings struct {
	// CertFile and KeyFile hold the serving certificate; they are read again
	// when they change. Without them a certificate is made in memory and signed
	// by itself, as the kubelet does by default.
	CertFile, KeyFile string
	// FromCluster asks the cluster's signer kubernetes.io/kubelet-serving for the
	// serving certificate instead, and in time for the next. Somebody must approve
	// each request; the agent signs for itself until the first is.
	FromCluster bool
	// CertManager asks an issuer of cert-manager instead.
	CertManager CertManagerSettings
	// ClientCAFile holds the authorities of client certificates, such as the one
	// that the API server shows. Without it only bearer tokens are accepted.
	ClientCAFile string
}

// ServeAPI serves the kubelet API on a listener until ctx ends. Every request
// must come from somebody whom the API server knows and who has a right on this
// node's sub-resources, as with the kubelet.
func (a *Agent) ServeAPI(ctx context.Context, listener net.Listener, s APISettings) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	var ca dynamiccertificates.CAContentProvider
	if s.ClientCAFile != "" {
		files, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", s.ClientCAFile)
		if err != nil {
			return fmt.Errorf("client CA file %s: %w", s.ClientCAFile, err)
		}
		wg.Go(func() { files.Run(ctx, 1) })
		ca = files
		// The handler verifies; the handshake only asks, so that clients with
		// tokens need no certificate.
		config.ClientAuth = tls.RequestClientCert
	}
	own := &renewed{node: a.cfg.Node, now: a.clock.Now}
	switch {
	case s.CertFile != "" || s.KeyFile != "":
		files, err := dynamiccertificates.NewDynamicServingContentFromFiles("kubelet-api", s.CertFile, s.KeyFile)
		if err != nil {
			return fmt.Errorf("serving certificate %s with key %s: %w", s.CertFile, s.KeyFile, err)
		}
		wg.Go(func() { files.Run(ctx, 1) })
		config.GetCertificate = (&certificateOf{source: files}).get
	case s.FromCluster:
		signed, err := newSignedByCluster(ctx, a.client, a.cfg.Node, own, a.log, a.metrics)
		if err != nil {
			return err
		}
		config.GetCertificate = signed.get
	case s.CertManager.Requests != nil:
		signed := &signedByIssuer{
			settings: s.CertManager, node: a.cfg.Node, clock: a.clock, log: a.log, metrics: a.metrics, meanwhile: own,
		}
		wg.Go(func() { signed.run(ctx) })
		config.GetCertificate = signed.get
	default:
		config.GetCertificate = own.get
	}
	handler, err := a.authenticated(a.Handler(), ca)
	if err != nil {
		return err
	}

	// The server forgets connections that were taken over from it.
	requests := &visitors{next: handler}
	defer requests.wait()
	defer cancel()
	base, end := context.WithCancelCause(context.WithoutCancel(ctx))
	server := &http.Server{
		Handler: requests, ReadHeaderTimeout: 30 * time.Second,
		BaseContext: func(net.Listener) context.Context { return base },
	}
	stop := context.AfterFunc(ctx, func() {
		end(errStops)
		_ = server.Close()
	})
	defer stop()
	defer end(errStops)
	if err := server.Serve(tls.NewListener(listener, config)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the kubelet API on %s: %w", listener.Addr(), err)
	}
	return nil
}

// errStops is why requests end when the agent is told to stop.
var errStops = errors.New("this agent stops; try again")

// visitors are the requests under way.
type visitors struct {
	next http.Handler

	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

func (v *visitors) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !v.enter() {
		http.Error(w, errStops.Error(), http.StatusServiceUnavailable)
		return
	}
	defer v.inside.Done()
	v.next.ServeHTTP(w, req)
}

func (v *visitors) enter() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.inside.Add(1)
	}
	return !v.closed
}

// wait lets nobody in any more and returns when the last has left.
func (v *visitors) wait() {
	v.mu.Lock()
	v.closed = true
	v.mu.Unlock()
	v.inside.Wait()
}

// authenticated lets a request through to the handler when its caller is known
// and may do it.
func (a *Agent) authenticated(next http.Handler, ca dynamiccertificates.CAContentProvider) (http.Handler, error) {
	// The periods are the kubelet's defaults, so is the back-off.
	backoff := &wait.Backoff{Duration: 500 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 5}
	authn, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		TokenAccessReviewClient: a.client.AuthenticationV1(), TokenAccessReviewTimeout: 10 * time.Second,
		WebhookRetryBackoff: backoff, CacheTTL: 2 * time.Minute, ClientCertificateCAContentProvider: ca,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("setting up authentication of the kubelet API: %w", err)
	}
	authz, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: a.client.AuthorizationV1(), WebhookRetryBackoff: backoff,
		AllowCacheTTL: 5 * time.Minute, DenyCacheTTL: 30 * time.Second,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("setting up authorization of the kubelet API: %w", err)
	}
	return a.guard(next, authn, authz), nil
}

func (a *Agent) guard(next http.Handler, authn authenticator.Request, authz authorizer.Authorizer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		who, ok, err := authn.AuthenticateRequest(req)
		if err != nil || !ok {
			if err != nil {
				a.log.Info("a request to the kubelet API was not authenticated", "from", req.RemoteAddr, "error", err)
			}
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		for _, sub := range subresources(req.URL.Path) {
			decision, _, err := authz.Authorize(req.Context(), nodeAttributes(who.User, req, a.cfg.Node.Name, sub))
			if err != nil {
				a.log.Warn("a request to the kubelet API could not be authorized", "user", who.User.GetName(), "error", err)
				http.Error(w, "Authorization error", http.StatusInternalServerError)
				return
			}
			if decision == authorizer.DecisionAllow {
				next.ServeHTTP(w, req)
				return
			}
		}
		http.Error(w, fmt.Sprintf("Forbidden (user=%s, verb=%s, resource=nodes, subresource(s)=%v)", who.User.GetName(), verb(req), subresources(req.URL.Path)), http.StatusForbidden)
	})
}

// subresources are the rights on the node of which one opens a path, in the
// kubelet's fine-grained scheme.
func subresources(path string) []string {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "pods", "runningpods":
		return []string{"pods", "proxy"}
	case "healthz":
		return []string{"healthz", "proxy"}
	case "stats":
		return []string{"stats"}
	case "metrics":
		return []string{"metrics"}
	case "logs":
		return []string{"log"}
	}
	return []string{"proxy"}
}

func nodeAttributes(who user.Info, req *http.Request, node, sub string) authorizer.Attributes {
	return authorizer.AttributesRecord{
		User: who, Verb: verb(req), APIVersion: "v1", Resource: "nodes", Subresource: sub,
		Name: node, ResourceRequest: true, Path: req.URL.Path,
	}
}

// verb is what a request does to a sub-resource. Whoever connects to a container
// changes something, also where the request is a GET, as that of a websocket: with
// the right to read alone nobody gets a shell.
func verb(req *http.Request) string {
	for _, stream := range []string{"/exec/", "/attach/", "/portForward/"} {
		if strings.HasPrefix(req.URL.Path, stream) {
			return "create"
		}
	}
	switch req.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		return "delete"
	}
	return "get"
}

// certificateOf parses a certificate once for each of its versions.
type certificateOf struct {
	source dynamiccertificates.CertKeyContentProvider

	mu        sync.Mutex
	cert, key []byte
	parsed    *tls.Certificate
}

func (c *certificateOf) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	cert, key := c.source.CurrentCertKeyContent()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.parsed != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return c.parsed, nil
	}
	parsed, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the serving certificate: %w", err)
	}
	c.cert, c.key, c.parsed = cert, key, &parsed
	return c.parsed, nil
}

// ownLifetime is how long a certificate signed by itself is valid; a new one is
// made a month before its end.
const ownLifetime = 365 * 24 * time.Hour

// renewed makes a node's own certificates.
type renewed struct {
	node NodeSettings
	now  func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
	until   time.Time
}

func (r *renewed) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now := r.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || now.After(r.until) {
		certificate, err := selfSigned(r.node, now)
		if err != nil {
			return nil, err
		}
		r.current, r.until = &certificate, now.Add(ownLifetime-30*24*time.Hour)
	}
	return r.current, nil
}

// selfSigned makes a serving certificate for a node.
func selfSigned(node NodeSettings, now time.Time) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a serving key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: node.Name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(ownLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: false,
		DNSNames: []string{node.Name}, IPAddresses: []net.IP{net.ParseIP(node.InternalIP)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("signing a serving certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
