package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	testclock "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("timed out waiting until %s", what)
		case <-tick.C:
		}
	}
}

// start runs managers until the end of the test.
func start(t *testing.T, managers ...*Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, m := range managers {
		wg.Go(func() {
			if err := m.Start(ctx); err != nil {
				t.Errorf("Start() = %v", err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func allReady(managers []*Manager) func() bool {
	return func() bool {
		for _, m := range managers {
			if m.Ready(nil) != nil {
				return false
			}
		}
		return true
	}
}

// TestReplicasAtOnce starts many replicas on an empty cluster.
func TestReplicasAtOnce(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	var managers []*Manager
	for range 8 {
		managers = append(managers, newManager(t, a, clk))
	}
	start(t, managers...)
	eventually(t, "all replicas are ready", allReady(managers))
	eventually(t, "all replicas wait for the next interval", func() bool { return clk.Waiters() == len(managers) })
	mustBeTrusted(t, a, epoch, managers...)
	a.mu.Lock()
	if a.writes["secret"] != 1 || a.writes["configuration"] != 1 {
		t.Errorf("writes: %v, want one each", a.writes)
	}
	a.mu.Unlock()

	// All find out at once that the Secret is gone.
	old := managers[0].leaf.Load()
	a.change(func() { a.secret = nil })
	eventually(t, "all replicas have left the deleted authority", func() bool {
		clk.Step(DefaultInterval)
		for _, m := range managers {
			if leaf := m.leaf.Load(); leaf == old || trustedBy(m, a.bundles(t)[0], clk.Now()) != nil {
				return false
			}
		}
		return true
	})
	if n := len(decodeCertificates(a.bundles(t)[0])); n != 1 {
		t.Errorf("%d authorities are trusted after the Secret was deleted, want 1", n)
	}
}

// TestServeThroughRotation serves TLS all the while the authority is replaced.
func TestServeThroughRotation(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(time.Now())
	m := newManager(t, a, clk)
	start(t, m)
	eventually(t, "the replica is ready", allReady([]*Manager{m}))

	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "served")
	}))
	server.TLS = &tls.Config{GetCertificate: m.GetCertificate}
	server.StartTLS()
	defer server.Close()

	get := func() string {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(a.bundles(t)[0])
		// httptest would offer its own certificate to a client without a name.
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: dnsName, Time: clk.Now}}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if string(body) != "served" {
			t.Fatalf("the server answered %q", body)
		}
		return string(response.TLS.PeerCertificates[0].AuthorityKeyId)
	}
	before := get()
	clk.Step(DefaultAuthorityLife * 3 / 4)
	eventually(t, "the server has a leaf of another authority", func() bool {
		clk.Step(DefaultInterval)
		leaf := m.leaf.Load().Leaf
		return string(leaf.AuthorityKeyId) != before && clk.Now().Before(leaf.NotAfter)
	})
	if after := get(); after == before {
		t.Error("still served with a leaf of the old authority")
	}
}
