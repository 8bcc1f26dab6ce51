package eci

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	emulator "github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// newEmulator is the emulated cloud with a clock that only a test turns.
func newEmulator(t *testing.T, s settings) *cloud {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	zones := []string{"cn-hangzhou-h", "cn-hangzhou-i", "cn-hangzhou-j"}
	subnet := func(id, zone, vpc, cidr string) emulator.VSwitch {
		return emulator.VSwitch{ID: id, ZoneID: zone, VpcID: vpc, CIDR: netip.MustParsePrefix(cidr)}
	}
	cn := emulator.Region{
		ID: "cn-hangzhou", Zones: zones,
		VSwitches: []emulator.VSwitch{
			subnet("vsw-h", zones[0], "vpc-1", "10.0.0.0/20"), subnet("vsw-i", zones[1], "vpc-1", "10.0.16.0/20"),
			subnet("vsw-tiny", zones[2], "vpc-1", "10.0.32.0/29"), subnet("vsw-other", zones[0], "vpc-2", "10.9.0.0/20"),
		},
		SecurityGroups: []emulator.SecurityGroup{{ID: "sg-1", VpcID: "vpc-1"}, {ID: "sg-2", VpcID: "vpc-2"}},
	}
	other := emulator.Region{
		ID: "ap-southeast-1", Zones: []string{"ap-southeast-1a"},
		VSwitches: []emulator.VSwitch{subnet("vsw-sg", "ap-southeast-1a", "vpc-3", "10.1.0.0/20")},
	}
	server := emulator.NewServer(emulator.Options{
		AccessKeys: []emulator.AccessKey{
			{ID: "LTAI-conformance", Secret: "s3cret"},
			{ID: "LTAI-inactive", Secret: "inactive", Inactive: true},
			{ID: "STS-conformance", Secret: "temporary", SecurityToken: "token"},
		},
		Regions:              []emulator.Region{cn, other},
		Sim:                  sim.Config{Clock: clk, Timing: sim.DefaultTiming(), Plan: plan, Images: verdict, HostCommands: s.realProcesses, TempDir: t.TempDir()},
		TimestampWindow:      s.timestampWindow,
		TokenRetention:       s.tokenRetention,
		StatusInMetadataCase: s.statusInMetadataCase,
		LogNeedsRunning:      s.logNeedsRunning,
		MaxURL:               s.maxURL,
		PageSize:             s.pageSize,
		SpotNotice:           s.spotNotice,
		ArrearsGrace:         s.arrearsGrace,
		MaxImageCaches:       s.maxImageCaches,
		SnapshotTime:         time.Minute,
	})
	web := httptest.NewServer(server)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		web.Close()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &cloud{
		t: t, url: web.URL, region: cn.ID, http: &http.Client{Transport: transport}, lab: &lab{t, server, clk, cn},
		key: credentials{"LTAI-conformance", "s3cret", ""},
	}
}

// plan has simulated containers do what the programs of the suite do.
func plan(_ sim.Spec, c sim.Container, _ int) (sim.Plan, bool) {
	for _, p := range programs {
		if slices.Contains(c.Command, p.script) {
			return sim.Plan{Log: p.prints, Exits: p.ends, RunFor: p.after, ExitCode: p.code, StopAfter: p.ignores}, true
		}
	}
	return sim.Plan{}, false
}

// verdict knows every image but those of hosts that cannot exist.
func verdict(image string) sim.ImageVerdict {
	if strings.Contains(image, ".invalid/") {
		return sim.ImageNotFound
	}
	return sim.ImageOK
}

// lab is the emulator's Lab.
type lab struct {
	t      *testing.T
	server *emulator.Server
	clock  *clocktesting.FakeClock
	region emulator.Region
}

func (l *lab) Now() time.Time       { return l.clock.Now() }
func (l *lab) Pass(d time.Duration) { l.clock.Step(d) }

func (l *lab) Shortages(list ...Shortage) {
	var out []emulator.Shortage
	for _, s := range list {
		out = append(out, emulator.Shortage{ZoneID: s.Zone, InstanceType: s.InstanceType, SpotOnly: s.SpotOnly, Late: s.Late})
	}
	l.server.SetShortages(out...)
}

func (l *lab) SpotPrices(list ...SpotPrice) {
	var out []emulator.SpotPrice
	for _, p := range list {
		out = append(out, emulator.SpotPrice{ZoneID: p.Zone, InstanceType: p.InstanceType, PerHour: p.PerHour})
	}
	l.server.SetSpotPrices(out...)
}

func (l *lab) Quota(vCPU float64) { l.server.SetMaxCPU(vCPU) }
func (l *lab) Arrears(on bool)    { l.server.SetArrears(on) }

func (l *lab) Rates(profile, code string) {
	var r emulator.Rates
	switch profile {
	case quotaRates:
		r = emulator.QuotaRates()
	case bucketRates:
		r = emulator.LimitRates()
	}
	r.Code = code
	l.server.SetRates(r)
}

func (l *lab) Break(f Fault) {
	l.server.Inject(emulator.Fault{
		Action: f.Action, AfterEffect: f.AfterEffect, Delay: f.Delay, Status: f.Status, Code: f.Code, Message: "injected",
		RawBody: f.Body, Cut: f.Cut,
	})
}

func (l *lab) Inactive() credentials  { return credentials{"LTAI-inactive", "inactive", ""} }
func (l *lab) Temporary() credentials { return credentials{"STS-conformance", "temporary", "token"} }

func (l *lab) VSwitches() []VSwitch {
	var out []VSwitch
	for _, v := range l.region.VSwitches {
		out = append(out, VSwitch{
			ID: v.ID, Zone: v.ZoneID, VPC: v.VpcID,
			// The first address and the last three of a vSwitch are the cloud's.
			Addresses: 1<<(32-v.CIDR.Bits()) - 4,
			Contains: func(ip string) bool {
				a, err := netip.ParseAddr(ip)
				return err == nil && v.CIDR.Contains(a)
			},
		})
	}
	return out
}

func (l *lab) group(id string) *sim.Group {
	l.t.Helper()
	g, ok := l.server.Fleet().Group(id)
	if !ok {
		l.t.Fatalf("there is no group %s", id)
	}
	return g
}

func (l *lab) Exit(group, container string, code int) {
	l.t.Helper()
	if err := l.group(group).Exit(container, code); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) Print(group, container string, lines ...string) {
	l.t.Helper()
	if err := l.group(group).Print(container, lines...); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) Bills() []Bill {
	var out []Bill
	for _, e := range l.server.Record().Entries {
		b := Bill{
			Group: e.GroupID, CPU: e.CPU, Memory: e.MemoryGiB, Spot: e.Spot, From: e.From,
			Seconds: int(e.Duration(l.Now()) / time.Second),
		}
		if e.To != nil {
			b.To = *e.To
		}
		out = append(out, b)
	}
	return out
}
