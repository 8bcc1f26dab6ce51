package agent

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/bench/foreign"
	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// cloud is an emulated cloud of one benchmark, empty at its start.
type cloud struct {
	node  string
	fleet *sim.Fleet
	calls *counter
	// address and caFile are where it listens and whose certificate it has.
	address, caFile string
	// env leads an agent to it.
	env []string
	// eci is the server of an ECI.
	eci *eci.Server
}

// counter counts the requests that reach a cloud, also those that it refuses, by
// action (ECI) or HTTP method (ACI; POST is a request for a token).
type counter struct {
	next  http.Handler
	mu    sync.Mutex
	calls map[string]int
}

func (c *counter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind := r.URL.Query().Get("Action")
	if kind == "" {
		kind = r.Method
	}
	c.mu.Lock()
	c.calls[kind]++
	c.mu.Unlock()
	c.next.ServeHTTP(w, r)
}

// since is what has come since an earlier reading.
func (c *counter) since(earlier map[string]int) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := maps.Clone(c.calls)
	for kind, n := range earlier {
		now[kind] -= n
	}
	maps.DeleteFunc(now, func(_ string, n int) bool { return n == 0 })
	return now
}

// reads is how many of the calls change nothing.
func reads(calls map[string]int) int {
	n := 0
	for kind, c := range calls {
		switch kind {
		case "CreateContainerGroup", "DeleteContainerGroup", http.MethodPut, http.MethodDelete, http.MethodPost:
		default:
			n += c
		}
	}
	return n
}

// startECI starts an emulated Alibaba Cloud. Groups start within moments.
func startECI(b *testing.B, config sim.Config, rates eci.Rates) *cloud {
	b.Helper()
	server := eci.NewServer(eci.Options{
		AccessKeys: []eci.AccessKey{{ID: playground.ECIAccessKey, Secret: playground.ECISecretKey}},
		Regions: []eci.Region{{
			ID: playground.ECIRegion, Zones: []string{playground.ECIRegion + "a"},
			VSwitches: []eci.VSwitch{{
				ID: playground.ECIVSwitch, ZoneID: playground.ECIRegion + "a", VpcID: "vpc-bench", CIDR: netip.MustParsePrefix("10.64.0.0/16"),
			}},
			SecurityGroups: []eci.SecurityGroup{{ID: playground.ECISecurityGroup, VpcID: "vpc-bench"}},
		}},
		Sim: config, Rates: rates,
	})
	for _, action := range []string{"CreateContainerGroup", "DeleteContainerGroup"} {
		server.Inject(eci.Fault{Action: action, Calls: -1, Delay: callLatency})
	}
	c := &cloud{node: playground.ECINode, fleet: server.Fleet(), eci: server}
	c.serve(b, server, server.Close)
	c.env = []string{"ECI_ENDPOINT=" + c.address, "ECI_CA_FILE=" + c.caFile}
	if len(rates.Buckets) > 0 {
		c.env = append(c.env, "CLOUD_QUOTA=") // as documented, which the playground's account is not
	}
	return c
}

// startACI starts an emulated Azure.
func startACI(b *testing.B, config sim.Config) *cloud {
	b.Helper()
	server := aci.NewServer(aci.Options{
		Sim:           config,
		Locations:     []string{playground.ACIRegion},
		Applications:  []aci.Application{{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: playground.ACIClientPassword}}}},
		Subscriptions: []aci.Subscription{{ID: playground.ACISubscription, ResourceGroups: []string{playground.ACIResourceGroup}}},
	})
	for _, operation := range []string{"ContainerGroups_CreateOrUpdate", "ContainerGroups_Delete"} {
		server.Inject(aci.Fault{Operation: operation, Calls: -1, Delay: callLatency})
	}
	c := &cloud{node: playground.ACINode, fleet: server.Fleet()}
	c.serve(b, server.Handler(), server.Close)
	c.env = []string{"ACI_ARM_ENDPOINT=https://" + c.address, "AZURE_AUTHORITY_HOST=https://" + c.address, "ACI_CA_FILE=" + c.caFile}
	return c
}

// serve listens with a certificate that is good for the public hosts as well,
// until the benchmark ends.
func (c *cloud) serve(b *testing.B, handler http.Handler, stop func() error) {
	b.Helper()
	certificate, err := system.Certificate("bench-"+c.node, "127.0.0.1", "login.microsoftonline.com", "management.azure.com")
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c.calls = &counter{next: handler, calls: map[string]int{}}
	c.address, c.caFile = listener.Addr().String(), system.CAFile()
	server := &http.Server{
		Handler: c.calls, TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 20, ErrorLog: log.New(io.Discard, "", 0),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.ServeTLS(listener, "", "") // always ends with ErrServerClosed
	}()
	b.Cleanup(func() {
		if err := errors.Join(server.Close(), stop()); err != nil {
			b.Error(err)
		}
		<-served
	})
}

// azure is the account for azure-aci.
func (c *cloud) azure() foreign.Azure {
	return foreign.Azure{
		Address: c.address, CAFile: c.caFile,
		Tenant: playground.ACITenant, Subscription: playground.ACISubscription,
		Client: playground.ACIClient, ClientSecret: playground.ACIClientPassword,
		ResourceGroup: playground.ACIResourceGroup, Region: playground.ACIRegion,
	}
}
