package eci

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestE24ClientToken(t *testing.T) {
	c := newClient(t)
	id := c.create("ClientToken", "t1")
	c.clock.Step(time.Second) // another timestamp
	c.body = true
	if again := c.create("ClientToken", "t1"); again != id {
		t.Errorf("%s, want %s", again, id)
	}
	c.refused(400, "IdempotentParameterMismatch", "CreateContainerGroup", nginx("ClientToken", "t1", "Cpu", "4")...)
	if other := c.create("ClientToken", "T1"); other == id {
		t.Error("tokens are case-sensitive")
	}
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 2 {
		t.Errorf("%d groups, want 2", n)
	}
	c.ok("DeleteContainerGroup", "ContainerGroupId", id, "ClientToken", "d1")
	c.ok("DeleteContainerGroup", "ContainerGroupId", id, "ClientToken", "d1")
	c.clock.Step(25 * time.Hour)
	if later := c.create("ClientToken", "t1"); later == id {
		t.Error("the token outlives its retention")
	}
}

func TestE25TokenSurvivesLostAnswer(t *testing.T) {
	c := newClient(t)
	c.server.Inject(Fault{Action: "CreateContainerGroup", AfterEffect: true, Cut: true})
	if r := c.do("CreateContainerGroup", nginx("ClientToken", "t")...); r.err == nil {
		t.Fatalf("answered %s, want a cut connection", r.raw)
	}
	made := c.ok("DescribeContainerGroups").body.ContainerGroups
	if len(made) != 1 || c.create("ClientToken", "t") != made[0].ContainerGroupID {
		t.Errorf("groups after the lost answer: %v", made)
	}
	c.server.Inject(Fault{Action: "CreateContainerGroup", Cut: true})
	if r := c.do("CreateContainerGroup", nginx("ClientToken", "t2")...); r.err == nil {
		t.Fatalf("answered %s, want a cut connection", r.raw)
	}
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 1 {
		t.Errorf("%d groups, want 1: a cut before the effect has none", n)
	}
}

func TestE26DryRun(t *testing.T) {
	c := newClient(t)
	c.refused(400, "DryRunOperation", "CreateContainerGroup", nginx("DryRun", "true")...)
	c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", nginx("DryRun", "true", "Cpu", "0.25", "Memory", "64")...)
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 0 {
		t.Errorf("%d groups", n)
	}
}

func TestFaults(t *testing.T) {
	c := newClient(t)
	c.server.Inject(Fault{Calls: 2, Status: 503, Code: "ServiceUnavailable", Message: "later"})
	c.server.Inject(Fault{Action: "DescribeRegions", Status: 502, RawBody: "<html>bad gateway</html>"})
	c.refused(503, "ServiceUnavailable", "ListUsage")
	c.refused(503, "ServiceUnavailable", "DescribeRegions")
	c.ok("ListUsage")
	if r := c.do("DescribeRegions"); r.status != 502 || string(r.raw) != "<html>bad gateway</html>" {
		t.Errorf("%d %s", r.status, r.raw)
	}
	c.server.Inject(Fault{Action: "CreateContainerGroup", Calls: -1, AfterEffect: true, Code: "InternalError"})
	c.refused(500, "InternalError", "CreateContainerGroup", nginx()...)
	c.refused(500, "InternalError", "CreateContainerGroup", nginx()...)
	c.server.ClearFaults()
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 2 {
		t.Errorf("%d groups, want 2: the effect happened", n)
	}
	reached := make(chan struct{})
	c.server.Inject(Fault{Delay: time.Minute, Match: func(url.Values) bool { close(reached); return true }})
	answered := make(chan reply)
	m := c.members("DescribeRegions")
	go func() { answered <- c.send(m) }()
	<-reached
	var r reply
	for steps := 0; ; steps++ {
		select {
		case r = <-answered:
		default:
			c.clock.Step(time.Second)
			continue
		}
		if steps < 60 {
			t.Errorf("answered after %d s, want at least 60", steps)
		}
		break
	}
	if r.status != 200 {
		t.Errorf("delayed answer %d", r.status)
	}
}

// A hook sees the cloud before and after the effect of a call, also of one
// whose answer is lost.
func TestHooks(t *testing.T) {
	c := newClient(t)
	var seen []string
	groups := func() int { return len(c.server.Fleet().Groups()) }
	remove := c.server.Hook(sim.Hook{
		Action: "CreateContainerGroup",
		Before: func(p sim.Passage) { seen = append(seen, fmt.Sprint("before ", p.Target, groups())) },
		After: func(p sim.Passage) {
			seen = append(seen, fmt.Sprint("after ", p.Code, groups(), p.Target == c.server.Fleet().Groups()[0].ID()))
		},
	})
	c.server.Inject(Fault{Action: "CreateContainerGroup", AfterEffect: true, Cut: true})
	if r := c.do("CreateContainerGroup", nginx("ClientToken", "t")...); r.err == nil {
		t.Fatalf("answered %s, want a cut connection", r.raw)
	}
	c.ok("DescribeContainerGroups")
	remove()
	c.create("ClientToken", "t2")
	if want := []string{"before 0", "after OK1 true"}; !slices.Equal(seen, want) {
		t.Errorf("hooks: %q, want %q", seen, want)
	}
}
