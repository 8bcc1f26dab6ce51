package eci

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestE18Shortage(t *testing.T) {
	c := newClient(t)
	c.server.SetShortages(Shortage{ZoneID: "cn-hangzhou-h"})
	c.refused(403, "OperationDenied.NoStock", "CreateContainerGroup", nginx("VSwitchId", "vsw-h")...)
	if g := c.describe(c.create("VSwitchId", "vsw-h,vsw-i")); g.VSwitchID != "vsw-i" {
		t.Errorf("placed in %s, want the first with stock", g.VSwitchID)
	}
	c.server.SetShortages(Shortage{SpotOnly: true, Late: true, Reason: "StockExhaust"})
	c.create()
	id := c.create("SpotStrategy", "SpotAsPriceGo")
	c.clock.Step(time.Minute)
	g := c.describe(id)
	if g.Status != "ScheduleFailed" || g.Events[0].Reason != "StockExhaust" {
		t.Errorf("%s %v", g.Status, g.Events)
	}
	c.clock.Step(24 * time.Hour)
	c.absent(id) // E39
}

func TestE19SeveralInstanceTypes(t *testing.T) {
	c := newClient(t)
	c.server.SetShortages(Shortage{InstanceType: "ecs.c6.large"})
	if g := c.describe(c.create("InstanceType", "ecs.c6.large,ecs.g6.large")); g.InstanceType != "ecs.g6.large" || g.CPU != 2 || g.Memory != 8 {
		t.Errorf("%s %v/%v", g.InstanceType, g.CPU, g.Memory)
	}
	ids := strings.Repeat("vsw-h,", 10) + "vsw-h"
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("VSwitchId", ids)...)
}

func TestE20Addresses(t *testing.T) {
	c := newClient(t)
	seen := map[string]bool{}
	var last string
	for range 4 { // a /29 has 4: 8 less the first, and the last three
		last = c.create("VSwitchId", "vsw-tiny")
		c.clock.Step(time.Minute)
		ip := c.describe(last).IntranetIP
		if seen[ip] || ip < "10.0.32.1" || ip > "10.0.32.4" {
			t.Errorf("address %s", ip)
		}
		seen[ip] = true
	}
	c.refused(403, "InvalidVSwitchId.IpNotEnough", "CreateContainerGroup", nginx("VSwitchId", "vsw-tiny")...)
	c.ok("DeleteContainerGroup", "ContainerGroupId", last)
	c.clock.Step(time.Minute)
	c.create("VSwitchId", "vsw-tiny")

	c.refused(403, "OperationDenied.VswZoneMisMatch", "CreateContainerGroup", nginx("VSwitchId", "vsw-h", "ZoneId", "cn-hangzhou-i")...)
	c.refused(403, "OperationDenied.SecurityGroupMisMatch", "CreateContainerGroup", nginx("VSwitchId", "vsw-h", "SecurityGroupId", "sg-2")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("VSwitchId", "vsw-h,vsw-other")...)
	c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("VSwitchId", "vsw-none")...)
}

// Whether a full vSwitch is passed over is a setting; how many addresses there are, too.
func TestFullVSwitch(t *testing.T) {
	for passes, want := range map[bool]string{false: "", true: "vsw-i"} {
		c := newClient(t, func(o *Options) {
			o.FullVSwitchIsPassed, o.Regions[0].VSwitches[0].Addresses = passes, 1
		})
		c.create("VSwitchId", "vsw-h")
		if want == "" {
			c.refused(403, "InvalidVSwitchId.IpNotEnough", "CreateContainerGroup", nginx("VSwitchId", "vsw-h,vsw-i")...)
		} else if got := c.describe(c.create("VSwitchId", "vsw-h,vsw-i")).VSwitchID; got != want {
			t.Errorf("the group is in %s, want %s", got, want)
		}
		c.refused(403, "InvalidVSwitchId.IpNotEnough", "CreateContainerGroup", nginx("VSwitchId", "vsw-h")...)
	}
}

func TestE21Quota(t *testing.T) {
	c := newClient(t, func(o *Options) { o.MaxCPU = 5 })
	c.create()
	id := c.create()
	c.refused(403, "QuotaExceeded", "CreateContainerGroup", nginx()...)
	if a := c.ok("ListUsage").body.Attributes; a["MaxCpu"] != 5 || a["UsedCpu"] != 4 {
		t.Errorf("usage %v", a)
	}
	c.ok("DeleteContainerGroup", "ContainerGroupId", id)
	c.clock.Step(time.Minute)
	c.create()
}

func TestE22Arrears(t *testing.T) {
	c := newClient(t)
	c.server.SetArrears(true)
	c.refused(400, "Account.Arrearage", "CreateContainerGroup", nginx()...)
}

func TestOptionsRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no region":  func(o *Options) { o.Regions = nil },
		"no vSwitch": func(o *Options) { o.Regions[0].VSwitches = nil },
		"tiny range": func(o *Options) { o.Regions[0].VSwitches[0].CIDR = netip.MustParsePrefix("10.0.0.0/30") },
		"no secret":  func(o *Options) { o.AccessKeys[0].Secret = "" },
	} {
		o := testOptions()
		change(&o)
		if err := o.validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := testOptions().validate(); err != nil {
		t.Errorf("valid options: %v", err)
	}
}
