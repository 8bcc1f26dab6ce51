package aci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// journey notes how far one call came, because the SDK's errors do not say: a
// write that never left is repeated without a second thought, one whose answer
// was lost is not.
type journey struct {
	mu     sync.Mutex
	left   bool  // a connection took the request to the resource manager
	signIn error // why the authority could not be reached
}

func (j *journey) sent() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.left
}

func (j *journey) signInFailure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.signIn
}

type journeyKey struct{}

func withJourney(ctx context.Context, j *journey) context.Context {
	return context.WithValue(ctx, journeyKey{}, j)
}

// managerTransport and authorityTransport are the two ways out: to the resource
// manager and to the authority that issues tokens.
type managerTransport struct {
	client *http.Client
	quota  *quota.Account
	dates  *providers.Hearing
}

func (t managerTransport) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	permit, err := t.quota.Take(ctx, quotaOf(req.Method), quota.PriorityOf(ctx))
	if err != nil {
		return nil, err
	}
	if req.Method != http.MethodGet {
		// After the wait: what was allowed before it may not be any more.
		if err := providers.NotPermitted(ctx, req.Method); err != nil {
			permit.Cancel()
			return nil, err
		}
	}
	j, ok := ctx.Value(journeyKey{}).(*journey)
	if !ok {
		j = &journey{}
	}
	// With TLS, GotConn comes after the handshake: before it, nothing of the
	// request can have reached the server.
	begun := time.Now()
	resp, err := t.client.Do(req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			j.mu.Lock()
			j.left = true
			j.mu.Unlock()
		},
	})))
	switch {
	case err != nil && !j.sent():
		permit.Cancel()
	case err != nil:
		permit.Done(nil) // it counts, and says nothing about the quota
	default:
		providers.TraceRequest(ctx, resp.Header.Get("X-Ms-Request-Id"))
		t.dates.Note(resp.Header, begun, time.Now())
		if n, told := left(req.Method, resp.Header); told {
			permit.Left(n)
		}
		permit.Done(verdict(resp))
	}
	return resp, err
}

type authorityTransport struct{ client *http.Client }

func (t authorityTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.client.Do(req)
	if j, ok := req.Context().Value(journeyKey{}).(*journey); ok {
		j.mu.Lock()
		j.signIn = err
		j.mu.Unlock()
	}
	return resp, err
}

// newHTTPClient bounds every phase that a caller's context does not see. The
// longest synchronous answers are those to deletions, about 4 s.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   128,
			IdleConnTimeout:       90 * time.Second,
		},
		// Neither service redirects; following one would carry a token or a
		// group's secrets elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
