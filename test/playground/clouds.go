package playground

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// The account in the emulated Alibaba Cloud.
const (
	ECIRegion  = "us-west-1"
	ECIVSwitch = "vsw-playground"
	// ECILoopbackVSwitch has addresses of this machine: what listens there is reached
	// by what forwards to a pod.
	ECILoopbackVSwitch = "vsw-loopback"
	ECISecurityGroup   = "sg-playground"
	ECIAccessKey       = "LTAIplayground"
	ECISecretKey       = "playground-secret-key"
)

// The subscription in the emulated Azure.
const (
	ACIRegion         = "japaneast"
	ACIResourceGroup  = "aci-group"
	ACITenant         = "11111111-1111-4111-8111-111111111111"
	ACISubscription   = "22222222-2222-4222-8222-222222222222"
	ACIClient         = "33333333-3333-4333-8333-333333333333"
	ACIClientPassword = "playground-client-secret"
)

// metricPeriod is how often the emulated ECI measures: more often than the service,
// so that what is shown is of the present.
const metricPeriod = 2 * time.Second

func (p *Playground) startClouds() error {
	if err := p.startECI(); err != nil {
		return err
	}
	return p.startACI()
}

func (p *Playground) startECI() error {
	server := eci.NewServer(eci.Options{
		AccessKeys: []eci.AccessKey{{ID: ECIAccessKey, Secret: ECISecretKey}},
		Regions: []eci.Region{{
			ID: ECIRegion, Zones: []string{ECIRegion + "a"},
			VSwitches: []eci.VSwitch{
				{ID: ECIVSwitch, ZoneID: ECIRegion + "a", VpcID: "vpc-playground", CIDR: netip.MustParsePrefix("10.20.0.0/16")},
				{ID: ECILoopbackVSwitch, ZoneID: ECIRegion + "a", VpcID: "vpc-playground", CIDR: netip.MustParsePrefix("127.20.0.0/16")},
			},
			SecurityGroups: []eci.SecurityGroup{{ID: ECISecurityGroup, VpcID: "vpc-playground"}},
		}},
		Sim:          p.options.Cloud,
		PageSize:     p.options.PageSize,
		MetricPeriod: metricPeriod,
	})
	certificate, err := p.Certificate("eci", "127.0.0.1")
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		return err
	}
	server.Start(listener)
	p.ECI = &ECICloud{Server: server, Address: listener.Addr().String(), CAFile: p.CAFile()}
	return nil
}

func (p *Playground) startACI() error {
	server := aci.NewServer(aci.Options{
		Sim:           p.options.Cloud,
		Locations:     []string{ACIRegion},
		Applications:  []aci.Application{{TenantID: ACITenant, ClientID: ACIClient, Secrets: []aci.Secret{{Value: ACIClientPassword}}}},
		Subscriptions: []aci.Subscription{{ID: ACISubscription, ResourceGroups: []string{ACIResourceGroup}}},
		Settings:      aci.Settings{PageSize: p.options.PageSize},
	})
	if err := server.Start(); err != nil {
		return err
	}
	p.ACI = &ACICloud{Server: server, CAFile: p.file("aci-ca.crt")}
	return writeFile(p.ACI.CAFile, server.RootsPEM())
}

// Groups returns the container groups that exist in the cloud of a virtual
// node, by the cloud's own account.
func (p *Playground) Groups(node string) []*sim.Group { return p.fleet(node).Groups() }

// Bill returns the billing record of the cloud of a virtual node.
func (p *Playground) Bill(node string) sim.Record { return p.fleet(node).Record() }

// Billed counts the groups that the cloud of a virtual node charges for now.
func (p *Playground) Billed(node string) int {
	n := 0
	for _, e := range p.Bill(node).Entries {
		if e.To == nil {
			n++
		}
	}
	return n
}

func (p *Playground) fleet(node string) *sim.Fleet {
	if node == ECINode {
		return p.ECI.Fleet()
	}
	return p.ACI.Fleet()
}
