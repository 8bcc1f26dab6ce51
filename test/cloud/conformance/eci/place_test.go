package eci

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestE17CreateAnswersAtOnce(t *testing.T) {
	c := row(t)
	begin := c.now()
	id := c.create()
	if took := c.now().Sub(begin); took > 10*time.Second {
		t.Errorf("create took %s", took)
	}
	if !strings.HasPrefix(id, "eci-") {
		t.Errorf("id %q", id)
	}
	path := []string{"Scheduling", "Pending", "Running"}
	at := 0
	c.until("the group is Running", 10*time.Minute, func() bool {
		g := c.describe(id)
		i := slices.Index(path, g.Status)
		if i < at {
			t.Fatalf("status %s after %s", g.Status, path[at])
		}
		at = i
		if scheduled := g.Status != "Scheduling"; scheduled != (g.IntranetIP != "") {
			t.Errorf("a %s group has the address %q", g.Status, g.IntranetIP)
		}
		return g.Status == "Running"
	})
	if g := c.describe(id); g.ZoneID == "" || g.VSwitchID == "" || g.RegionID != c.region || !g.Containers[0].Ready {
		t.Errorf("group %+v", g)
	}
	part(t, "every status", "a clock", settings{}, func(c *cloud) {
		id := c.create()
		for _, want := range path {
			if got := c.status(id); got != want {
				t.Errorf("status %s, want %s", got, want)
			}
			c.waitStatus(id, path[min(slices.Index(path, want)+1, 2)])
		}
	})
}

func TestE18Stock(t *testing.T) {
	c := labRow(t, "stock")
	v := c.lab.VSwitches()
	two := v[0].ID + "," + v[1].ID
	refused := func(args ...string) {
		t.Helper()
		c.refused(403, "OperationDenied.NoStock", "CreateContainerGroup", c.small(args...)...)
	}
	in := func(zone string, args ...string) {
		t.Helper()
		if g := c.describe(c.create(args...)); g.ZoneID != zone {
			t.Errorf("%v is in zone %s, want %s", args, g.ZoneID, zone)
		}
	}
	in(v[0].Zone, "VSwitchId", two)
	in(v[0].Zone, "VSwitchId", two, "ScheduleStrategy", "VSwitchOrdered")

	c.lab.Shortages(Shortage{Zone: v[0].Zone})
	refused("VSwitchId", v[0].ID)
	in(v[1].Zone, "VSwitchId", two)

	c.lab.Shortages(Shortage{})
	refused("VSwitchId", two)

	c.lab.Shortages(Shortage{InstanceType: "ecs.c6.large"})
	refused("InstanceType", "ecs.c6.large")
	in(v[0].Zone, "InstanceType", "ecs.c6.xlarge")
	in(v[0].Zone)

	c.lab.Shortages(Shortage{SpotOnly: true})
	refused("SpotStrategy", "SpotAsPriceGo")
	in(v[0].Zone)

	c.lab.Shortages(Shortage{Zone: v[0].Zone, Late: true})
	id := c.create("VSwitchId", v[0].ID)
	c.waitStatus(id, "ScheduleFailed")
	if g := c.describe(id); !hasAll(g.reasons(), "NoStock") || g.FailedTime == "" || g.IntranetIP != "" {
		t.Errorf("group %+v", g)
	}
	if status := c.podStatus(id); pick(status, "phase") != "Failed" || !strings.Contains(text(status), "NoStock") {
		t.Errorf("pod status %v", status)
	}
	in(v[1].Zone, "VSwitchId", two) // late or not, the first with stock counts

	c.lab.Shortages()
	seen := map[string]bool{}
	for range 60 {
		seen[c.describe(c.create("VSwitchId", two, "ScheduleStrategy", "VSwitchRandom")).ZoneID] = true
	}
	if len(seen) != 2 { // by chance once in 2^59
		t.Errorf("60 groups at random are all in %v", seen)
	}
}

func TestE19SeveralPlaces(t *testing.T) {
	c := row(t)
	many := strings.TrimSuffix(strings.Repeat("vsw-x,", 11), ",")
	c.refused(400, "InvalidParameter", "CreateContainerGroup", append(c.small(), "VSwitchId", many)...)
	c.refused(400, "InvalidInstanceTypeForEciBuy", "CreateContainerGroup", c.small("InstanceType", "ecs.nosuch.large")...)
	part(t, "in order", "stock", settings{}, func(c *cloud) {
		v := c.lab.VSwitches()
		types := "ecs.c6.large,ecs.g6.large,ecs.c6.xlarge"
		in := func(zone, instanceType string, cpu, gib float64, args ...string) {
			t.Helper()
			g := c.describe(c.create(args...))
			if g.ZoneID != zone || g.InstanceType != instanceType || g.CPU != cpu || g.Memory != gib {
				t.Errorf("%v: %s %s %g %g", args, g.ZoneID, g.InstanceType, g.CPU, g.Memory)
			}
		}
		places := v[1].ID + "," + v[0].ID + "," + v[2].ID
		in(v[1].Zone, "ecs.c6.large", 2, 4, "VSwitchId", places, "InstanceType", types)
		c.lab.Shortages(Shortage{InstanceType: "ecs.c6.large"})
		in(v[1].Zone, "ecs.g6.large", 2, 8, "VSwitchId", places, "InstanceType", types)
		c.lab.Shortages(Shortage{InstanceType: "ecs.c6.large"}, Shortage{InstanceType: "ecs.g6.large"})
		in(v[1].Zone, "ecs.c6.xlarge", 4, 8, "VSwitchId", places, "InstanceType", types)
		c.lab.Shortages(Shortage{Zone: v[1].Zone})
		in(v[0].Zone, "ecs.c6.large", 2, 4, "VSwitchId", places, "InstanceType", types)
		c.lab.Shortages(Shortage{Zone: v[1].Zone}, Shortage{Zone: v[0].Zone})
		in(v[2].Zone, "ecs.c6.large", 2, 4, "VSwitchId", places, "InstanceType", types)
		c.lab.Shortages()

		ten := strings.TrimSuffix(strings.Repeat(v[0].ID+",", 10), ",")
		in(v[0].Zone, "ecs.c6.large", 2, 4, "VSwitchId", ten, "InstanceType", "ecs.c6.large")
		c.refused(403, "OperationDenied.VswZoneMisMatch", "CreateContainerGroup", c.small("VSwitchId", v[1].ID, "ZoneId", v[0].Zone)...)
		c.refused(403, "Zone.NotOnSale", "CreateContainerGroup", c.small("ZoneId", "cn-hangzhou-z")...)
		// All vSwitches are of one VPC, and the security group is of it too.
		c.refused(400, "InvalidParameter", "CreateContainerGroup", c.small("VSwitchId", v[0].ID+","+v[3].ID)...)
		c.refused(403, "OperationDenied.SecurityGroupMisMatch", "CreateContainerGroup", c.small("VSwitchId", v[0].ID, "SecurityGroupId", "sg-2")...)
	})
}

func TestE20Addresses(t *testing.T) {
	c := labRow(t, "a small vSwitch")
	v := c.lab.VSwitches()
	tiny := v[2]
	seen := map[string]bool{}
	var ids []string
	for range tiny.Addresses {
		id := c.running("VSwitchId", tiny.ID)
		ip := c.describe(id).IntranetIP
		if seen[ip] || !tiny.Contains(ip) {
			t.Errorf("address %s again, or not of the vSwitch", ip)
		}
		seen[ip] = true
		ids = append(ids, id)
	}
	c.refused(403, "InvalidVSwitchId.IpNotEnough", "CreateContainerGroup", c.small("VSwitchId", tiny.ID)...)
	c.ok("DeleteContainerGroup", "ContainerGroupId", ids[0], "Force", "true")
	c.waitStatus(ids[0], "Absent")
	id := c.running("VSwitchId", tiny.ID)
	if ip := c.describe(id).IntranetIP; !seen[ip] {
		t.Errorf("address %s is not the one that was given back", ip)
	}
	// A container that is restarted gives no address back.
	c.lab.Exit(id, "main", 0)
	c.refused(403, "InvalidVSwitchId.IpNotEnough", "CreateContainerGroup", c.small("VSwitchId", tiny.ID)...)
	once := c.running(append([]string{"VSwitchId", v[0].ID, "RestartPolicy", "Never"}, works.in("Container.1")...)...)
	ip := c.describe(once).IntranetIP
	c.refused(400, "PrivateIpAddress.Already.InUse", "CreateContainerGroup", c.small("VSwitchId", v[0].ID, "PrivateIpAddress", ip)...)
	c.waitStatus(once, "Succeeded")
	if got := c.describe(c.running("VSwitchId", v[0].ID, "PrivateIpAddress", ip)).IntranetIP; got != ip {
		t.Errorf("address %s, want %s as asked", got, ip)
	}
}

func TestE21Quota(t *testing.T) {
	c := row(t)
	if a := c.ok("ListUsage"); a.Attributes == nil {
		t.Errorf("no Attributes in %s", a.raw)
	}
	part(t, "used up", "a quota", settings{}, func(c *cloud) {
		usage := func(used float64) {
			t.Helper()
			a := c.ok("ListUsage").Attributes
			if a["MaxCpu"] != 5 || a["UsedCpu"] != used {
				t.Errorf("usage %v, want %g of 5", a, used)
			}
		}
		c.lab.Quota(5)
		usage(0)
		first := c.running(append([]string{"RestartPolicy", "Never"}, works.in("Container.1")...)...)
		second := c.running("Cpu", "1.5", "Memory", "3") // rounded to 2 vCPU
		usage(4)
		a := c.refused(403, "QuotaExceeded", "CreateContainerGroup", c.small("Cpu", "2", "Memory", "4")...)
		if !a.names("quota") {
			t.Errorf("message %q", a.Message)
		}
		c.create("Cpu", "1", "Memory", "2")
		usage(5)
		c.waitStatus(first, "Succeeded")
		usage(3)
		c.ok("DeleteContainerGroup", "ContainerGroupId", second, "Force", "true")
		c.waitStatus(second, "Absent")
		usage(1)
		c.create()
	})
}

func TestE22Arrears(t *testing.T) {
	c := labRow(t, "arrears", settings{arrearsGrace: time.Hour})
	id := c.running()
	c.lab.Arrears(true)
	c.refused(400, "Account.Arrearage", "CreateContainerGroup", c.small()...)
	c.refused(400, "Account.Arrearage", "CreateImageCache", "ImageCacheName", "conformance", "Image.1", *image)
	c.pass(59 * time.Minute)
	if got := c.status(id); got != "Running" {
		t.Errorf("status %s before the end of the grace", got)
	}
	c.lab.Arrears(false)
	c.pass(2 * time.Minute)
	if got := c.status(id); got != "Running" {
		t.Errorf("status %s after the payment", got)
	}
	other := c.running()
	c.lab.Arrears(true)
	c.pass(time.Hour)
	for _, id := range []string{id, other} {
		if g := c.describe(id); g.Status != "Expired" || g.ExpiredTime == "" {
			t.Errorf("group %+v, want Expired", g)
		}
	}
	c.lab.Arrears(false)
	c.create()
}
