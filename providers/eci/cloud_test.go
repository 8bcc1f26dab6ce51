package eci_test

import (
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/providertest"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	keyID     = "LTAI-conformance"
	keySecret = "conformance-key-secret"
	region    = "cn-hangzhou"
)

// quick makes a group run within some hundredths of a second.
var quick = sim.Timing{
	Schedule: 2 * time.Millisecond, Pull: 2 * time.Millisecond, Start: 2 * time.Millisecond, Stop: 2 * time.Millisecond,
	CrashBackOff: sim.BackOff{Initial: 20 * time.Millisecond, Max: 100 * time.Millisecond},
	PullBackOff:  sim.BackOff{Initial: 20 * time.Millisecond},
}

// cloud is an emulated account behind TLS.
type cloud struct {
	*emulator.Server
	host string
	cas  *x509.CertPool
	// certificate is that of the endpoint, as it is signed.
	certificate []byte
}

func newCloud(t testing.TB, edits ...func(*emulator.Options)) *cloud {
	t.Helper()
	o := emulator.Options{
		AccessKeys: []emulator.AccessKey{{ID: keyID, Secret: keySecret}},
		Regions: []emulator.Region{{
			ID: region, Zones: []string{"cn-hangzhou-h", "cn-hangzhou-i"},
			VSwitches: []emulator.VSwitch{
				{ID: "vsw-h", ZoneID: "cn-hangzhou-h", VpcID: "vpc-1", CIDR: netip.MustParsePrefix("10.0.0.0/20")},
				{ID: "vsw-i", ZoneID: "cn-hangzhou-i", VpcID: "vpc-1", CIDR: netip.MustParsePrefix("10.0.16.0/20")},
			},
			SecurityGroups: []emulator.SecurityGroup{{ID: "sg-1", VpcID: "vpc-1"}},
		}},
		Sim:         sim.Config{Timing: quick, HostCommands: true, TempDir: t.TempDir()},
		GracePeriod: time.Second,
	}
	for _, edit := range edits {
		edit(&o)
	}
	s := emulator.NewServer(o)
	web := httptest.NewUnstartedServer(s)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
		if err := s.Close(); err != nil {
			t.Errorf("closing the cloud: %v", err)
		}
	})
	u, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	cas := x509.NewCertPool()
	cas.AddCert(web.Certificate())
	return &cloud{Server: s, host: u.Host, cas: cas, certificate: web.Certificate().Raw}
}

func (c *cloud) provider(t testing.TB, edits ...func(*eci.Config)) *eci.Provider {
	t.Helper()
	cfg := eci.Config{
		Region: region, Zone: "cn-hangzhou-h", VSwitchIDs: []string{"vsw-h", "vsw-i"}, SecurityGroupID: "sg-1",
		Credentials: eci.StaticCredentials(eci.Credentials{AccessKeyID: keyID, AccessKeySecret: keySecret}),
		ClusterUID:  "cluster-a", NodeName: "burst-eci", Endpoint: c.host, RootCAs: c.cas, Timeout: 5 * time.Second,
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	if cfg.Quota == nil {
		cfg.Quota = providertest.Unbounded(t, cfg.Plan())
	}
	p, err := eci.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestConformance(t *testing.T) {
	for name, inMetadataCase := range map[string]bool{"members as in Kubernetes": false, "members as in the metadata": true} {
		t.Run(name, func(t *testing.T) { testConformance(t, inMetadataCase) })
	}
}

func testConformance(t *testing.T, inMetadataCase bool) {
	providertest.Run(t, func(t *testing.T) *providertest.Harness {
		c := newCloud(t, func(o *emulator.Options) { o.StatusInMetadataCase, o.PageSize = inMetadataCase, 20 })
		p := c.provider(t)
		return &providertest.Harness{
			Provider:   p,
			ClusterUID: "cluster-a", NodeName: "burst-eci",
			Sibling: func(t testing.TB, clusterUID, nodeName string) providers.Provider {
				return c.provider(t, func(cfg *eci.Config) { cfg.ClusterUID, cfg.NodeName = clusterUID, nodeName })
			},
			Inject: c.inject,
			Heal: func() {
				c.ClearFaults()
				providertest.Reopen(p.Quota())
			},
			Revoke:    func() { c.SetAccessKeys(emulator.AccessKey{ID: keyID, Secret: "rotated-away"}) },
			Restore:   func() { c.SetAccessKeys(emulator.AccessKey{ID: keyID, Secret: keySecret}) },
			Made:      c.made,
			MissingID: "eci-bp1missingmissingmis",
			Secrets:   []string{keyID, keySecret},
		}
	})
}

// made are the groups of a pod, by the cloud's own record.
func (c *cloud) made(podUID string) []string {
	seen := map[string]bool{}
	var ids []string
	add := func(id, uid string) {
		if uid == podUID && !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	for _, g := range c.Fleet().Groups() {
		add(g.ID(), g.Snapshot().Spec.Tags["autoburst.io/pod-uid"])
	}
	for _, e := range c.Record().Entries {
		add(e.GroupID, e.Tags["autoburst.io/pod-uid"])
	}
	return ids
}

// inject translates a fault into the cloud's words.
func (c *cloud) inject(f providertest.Fault) {
	out := emulator.Fault{Calls: f.Calls}
	if f.Calls == 0 {
		out.Calls = -1
	}
	switch f.Operation {
	case providertest.Create:
		out.Action = "CreateContainerGroup"
	case providertest.Delete:
		out.Action = "DeleteContainerGroup"
	case providertest.Logs:
		out.Action = "DescribeContainerLog"
	case providertest.List, providertest.Changes:
		out.Action = "DescribeContainerGroupStatus"
	case providertest.Get:
		out.Action = "DescribeContainerGroups"
	}
	var mu sync.Mutex
	skip := f.Skip
	out.Match = func(m url.Values) bool {
		if f.Operation == providertest.Get && m.Get("ContainerGroupIds") == "" {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		skip--
		return skip < 0
	}
	switch f.Kind {
	case providertest.Throttle:
		out.Status, out.Code, out.Message = http.StatusBadRequest, "Throttling.User", "Request was denied due to user flow control."
	case providertest.Unavailable:
		out.Status, out.Code, out.Message = http.StatusServiceUnavailable, "ServiceUnavailable", "The request has failed due to a temporary failure of the server."
	case providertest.Cut:
		out.Cut = true
	case providertest.LoseAnswer:
		out.Cut, out.AfterEffect = true, true
	case providertest.Garbage:
		out.Status, out.RawBody = http.StatusBadGateway, "<html><body>Bad Gateway</body></html>"
	case providertest.Hang:
		out.Delay, out.Cut = time.Minute, true
	}
	c.Inject(out)
}
