package faults

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
	aciprovider "github.com/autoburst/autoburst/providers/aci"
	eciprovider "github.com/autoburst/autoburst/providers/eci"
	"github.com/autoburst/autoburst/providers/quota"
	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// operation is what the agent asks a cloud for.
type operation int

const (
	anything operation = iota
	create
	remove
	list
	read
)

// fault is what goes wrong in a cloud, in terms of both.
type fault struct {
	op    operation
	calls int // how many; zero is one, negative all until ClearFaults
	// after lets the call have its effect first.
	after bool
	delay time.Duration
	cut   bool
	// throttled refuses as the cloud does when it is asked too often, with
	// retryAfter where the cloud has such a thing (ACI).
	throttled  bool
	retryAfter time.Duration
	// status, code, message and raw are any other answer.
	status        int
	code, message string
	raw           string
}

// cloud is one emulated cloud that one scenario has for itself.
type cloud interface {
	Fleet() *sim.Fleet
	Record() sim.Record
	Hook(sim.Hook) (remove func())
	ClearFaults()
	Close() error

	name() string
	// action is the cloud's own name of an operation.
	action(operation) string
	inject(fault)
	// env are the variables by which an agent finds the cloud.
	env() []string
	// providerOf is the product's client of the cloud, for a node of a cluster.
	providerOf(cluster, node string, clk clock.WithDelayedExecution) (providers.Provider, error)
	// nothing is the answer to a listing that is whole and holds no group.
	nothing() string
	// rate bounds creates and deletes to a burst and so many per second.
	rate(burst int, perSecond float64)
	// short says whether the cloud has no machines left.
	short(bool)
}

// cloudOptions set up a cloud.
type cloudOptions struct {
	// speed is how fast the clock of the cloud and of agents in this process
	// runs; zero is the real clock.
	speed int64
	clock clock.Clock
	// timing is quick if it is nil.
	timing *sim.Timing
	plan   func(sim.Spec, sim.Container, int) (sim.Plan, bool)
	// pageSize is how many groups one page of a list holds; zero is the cloud's
	// own.
	pageSize int
	images   func(string) sim.ImageVerdict
	// quota is how many groups of one vCPU the account may have; zero is no quota.
	quota int
	// processes makes containers with a command real processes.
	processes bool
}

// quick is a cloud in which a pod runs within a fifth of a second.
func quick() sim.Timing { return sim.DefaultTiming().Scaled(0.02) }

func (o cloudOptions) sim() sim.Config {
	timing := quick()
	if o.timing != nil {
		timing = *o.timing
	}
	plan := o.plan
	if plan == nil {
		plan = planOf
	}
	return sim.Config{Clock: o.clock, Timing: timing, Plan: plan, Images: o.images, HostCommands: o.processes}
}

// planOf makes a container of the image exit:N end with N after a moment, and
// every other run for ever.
func planOf(_ sim.Spec, c sim.Container, _ int) (sim.Plan, bool) {
	var code int
	if _, err := fmt.Sscanf(c.Image, "exit:%d", &code); err != nil {
		return sim.Plan{}, false
	}
	return sim.Plan{Exits: true, RunFor: 300 * time.Millisecond, ExitCode: code, Log: []string{"done"}}, true
}

func newCloud(t *testing.T, name string, o cloudOptions) cloud {
	t.Helper()
	if name == "eci" {
		return newECI(t, o)
	}
	return newACI(t, o)
}

// longTime is longer than any scenario lasts on a fast clock; the real clients'
// signatures and tokens go by the real one.
const longTime = 10_000 * time.Hour

type eciCloud struct {
	*eci.Server
	address string
}

func newECI(t *testing.T, o cloudOptions) *eciCloud {
	t.Helper()
	zone := func(letter, cidr string) eci.VSwitch {
		return eci.VSwitch{
			ID: playground.ECIVSwitch + "-" + letter, ZoneID: playground.ECIRegion + letter,
			VpcID: "vpc-playground", CIDR: netip.MustParsePrefix(cidr),
		}
	}
	server := eci.NewServer(eci.Options{
		AccessKeys: []eci.AccessKey{{ID: playground.ECIAccessKey, Secret: playground.ECISecretKey}},
		Regions: []eci.Region{{
			ID: playground.ECIRegion, Zones: []string{playground.ECIRegion + "a", playground.ECIRegion + "b"},
			VSwitches:      []eci.VSwitch{zone("a", "10.30.0.0/16"), zone("b", "10.31.0.0/16")},
			SecurityGroups: []eci.SecurityGroup{{ID: playground.ECISecurityGroup, VpcID: "vpc-playground"}},
		}},
		Sim: o.sim(), PageSize: o.pageSize, TimestampWindow: longTime, TokenRetention: longTime,
		MaxCPU: float64(o.quota),
	})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	server.Start(listener)
	return &eciCloud{Server: server, address: listener.Addr().String()}
}

func (c *eciCloud) name() string { return "eci" }

func (c *eciCloud) action(op operation) string {
	return map[operation]string{
		create: "CreateContainerGroup", remove: "DeleteContainerGroup",
		list: "DescribeContainerGroupStatus", read: "DescribeContainerGroups",
	}[op]
}

func (c *eciCloud) nothing() string {
	return `{"RequestId":"F0A8","TotalCount":0,"NextToken":"","ContainerGroups":[],"Data":[]}`
}

func (c *eciCloud) inject(f fault) {
	e := eci.Fault{
		Action: c.action(f.op), Calls: f.calls, AfterEffect: f.after, Delay: f.delay, Cut: f.cut,
		Status: f.status, Code: f.code, Message: f.message, RawBody: f.raw,
	}
	switch {
	case f.throttled:
		e.Status, e.Code, e.Message = 400, "Throttling.User", "Request was denied due to user flow control."
	case f.status != 0 && f.code == "" && f.raw == "":
		e.Code, e.Message = "InternalError", "The request processing has failed due to some unknown error."
	}
	if f.op == list || f.op == read {
		// One action lists groups and reads one. A page of the new polling action
		// is a listing, too.
		e.Action = ""
		e.Match = func(m url.Values) bool {
			// So is a question for the group of one pod, by its tag.
			one := m.Get("ContainerGroupIds") != "" || m.Get("ContainerGroupId") != "" || m.Get("Tag.3.Key") != ""
			switch m.Get("Action") {
			case "DescribeContainerGroups", "DescribeContainerGroupStatus":
				// The health check asks for one group.
				return one == (f.op == read) && m.Get("Limit") != "1"
			}
			return false
		}
	}
	c.Inject(e)
}

func (c *eciCloud) env() []string {
	return []string{
		"ECI_ENDPOINT=" + c.address, "ECI_CA_FILE=" + system.CAFile(),
		"ECI_VSWITCH=" + playground.ECIVSwitch + "-a," + playground.ECIVSwitch + "-b",
	}
}

func (c *eciCloud) providerOf(cluster, node string, clk clock.WithDelayedExecution) (providers.Provider, error) {
	config, err := eciprovider.ConfigFromEnv(lookup(append(c.env(),
		"ECI_REGION="+playground.ECIRegion, "ECI_SECURITY_GROUP="+playground.ECISecurityGroup,
		"ECI_ACCESS_KEY="+playground.ECIAccessKey, "ECI_SECRET_KEY="+playground.ECISecretKey)))
	if err != nil {
		return nil, err
	}
	config.ClusterUID, config.NodeName = cluster, node
	if config.Quota, err = quota.New(config.Plan(), quota.Settings{}, clk, nil); err != nil {
		return nil, err
	}
	return eciprovider.New(config)
}

func (c *eciCloud) rate(burst int, perSecond float64) {
	b := eci.Bucket{Burst: burst, PerSecond: perSecond}
	c.SetRates(eci.Rates{Buckets: map[string]eci.Bucket{c.action(create): b, c.action(remove): b}})
}

func (c *eciCloud) short(on bool) {
	if on {
		c.SetShortages(eci.Shortage{})
		return
	}
	c.SetShortages()
}

type aciCloud struct {
	*aci.Server
	caFile string
}

func newACI(t *testing.T, o cloudOptions) *aciCloud {
	t.Helper()
	server := aci.NewServer(aci.Options{
		Sim:           o.sim(),
		Locations:     []string{playground.ACIRegion},
		Applications:  []aci.Application{{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: playground.ACIClientPassword}}}},
		Subscriptions: []aci.Subscription{{ID: playground.ACISubscription, ResourceGroups: []string{playground.ACIResourceGroup}}},
		TokenLifetime: longTime,
		Settings:      aci.Settings{PageSize: o.pageSize},
	})
	if o.quota > 0 {
		server.Change(func(s *aci.Settings) { s.Quota = map[string]int{"ContainerGroups": o.quota} })
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	c := &aciCloud{Server: server, caFile: filepath.Join(t.TempDir(), "aci-ca.crt")}
	if err := os.WriteFile(c.caFile, server.RootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *aciCloud) name() string { return "aci" }

func (c *aciCloud) action(op operation) string {
	return map[operation]string{
		create: "ContainerGroups_CreateOrUpdate", remove: "ContainerGroups_Delete",
		list: "ContainerGroups_ListByResourceGroup", read: "ContainerGroups_Get",
	}[op]
}

func (c *aciCloud) nothing() string { return `{"value":[]}` }

func (c *aciCloud) inject(f fault) {
	a := aci.Fault{
		Operation: c.action(f.op), Calls: f.calls, AfterEffect: f.after, Delay: f.delay, Cut: f.cut,
		Status: f.status, Code: f.code, Message: f.message, RawBody: f.raw, RetryAfter: f.retryAfter,
	}
	if f.throttled {
		a.Status, a.Code, a.Message = 429, "TooManyRequests", "The subscription sends too many requests."
	}
	c.Inject(a)
}

func (c *aciCloud) env() []string {
	return []string{"AZURE_AUTHORITY_HOST=" + c.URL(), "ACI_ARM_ENDPOINT=" + c.URL(), "ACI_CA_FILE=" + c.caFile}
}

func (c *aciCloud) providerOf(cluster, node string, clk clock.WithDelayedExecution) (providers.Provider, error) {
	config, err := aciprovider.ConfigFromEnv(lookup(append(c.env(),
		"ACI_REGION="+playground.ACIRegion, "ACI_RESOURCE_GROUP="+playground.ACIResourceGroup,
		"AZURE_SUBSCRIPTION_ID="+playground.ACISubscription, "AZURE_TENANT_ID="+playground.ACITenant,
		"AZURE_CLIENT_ID="+playground.ACIClient, "AZURE_CLIENT_SECRET="+playground.ACIClientPassword)))
	if err != nil {
		return nil, err
	}
	config.ClusterUID, config.NodeName, config.Clock = cluster, node, clk
	if config.Quota, err = quota.New(config.Plan(), quota.Settings{}, clk, nil); err != nil {
		return nil, err
	}
	return aciprovider.New(config)
}

func (c *aciCloud) rate(burst int, perSecond float64) {
	b := aci.Bucket{Size: burst, RefillPerSecond: perSecond}
	c.Change(func(s *aci.Settings) { s.ARM.Writes, s.ARM.Deletes = b, b })
}

func (c *aciCloud) short(on bool) {
	c.Change(func(s *aci.Settings) {
		s.Shortages = nil
		if on {
			s.Shortages = []aci.Shortage{{}}
		}
	})
}

// lookup is os.Getenv on a list of its own.
func lookup(env []string) func(string) string {
	return func(name string) string {
		for _, e := range env {
			if value, ok := strings.CutPrefix(e, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// foreignGroup makes a group that a node of the same name of another cluster
// owns, through the product's own client, and returns the cloud's ID of it.
func (b *bed) foreignGroup() string {
	b.Helper()
	const other = "11111111-2222-3333-4444-555555555555"
	before := b.groupIDs()
	provider, err := b.providerOf(other, b.node, clock.RealClock{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := provider.Create(b.Context(), &providers.GroupSpec{
		Owner:      providers.Owner{ClusterUID: other, NodeName: b.node, Namespace: b.ns, PodName: "foreign", PodUID: "99999999-2222-3333-4444-555555555555"},
		Containers: []providers.Container{{Name: "app", Image: "app:v1"}},
	}); err != nil {
		b.Fatal(err)
	}
	for _, id := range b.groupIDs() {
		if !slices.Contains(before, id) {
			return id
		}
	}
	b.Fatal("the group of another cluster was not made")
	return ""
}
