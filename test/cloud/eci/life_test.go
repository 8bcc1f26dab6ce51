package eci

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestE17StatusPath(t *testing.T) {
	c := newClient(t)
	id := c.create()
	if !strings.HasPrefix(id, "eci-") || len(id) != 24 {
		t.Errorf("id %q", id)
	}
	for _, step := range []struct {
		after time.Duration
		want  string
	}{{0, "Scheduling"}, {time.Second, "Pending"}, {8 * time.Second, "Pending"}, {time.Second, "Running"}} {
		c.clock.Step(step.after)
		if got := c.describe(id).Status; got != step.want {
			t.Errorf("after %s: %s, want %s", step.after, got, step.want)
		}
	}
	g := c.describe(id)
	if ip := netip.MustParseAddr(g.IntranetIP); !netip.MustParsePrefix("10.0.0.0/20").Contains(ip) || g.VSwitchID != "vsw-h" || g.ZoneID != "cn-hangzhou-h" || g.VpcID != "vpc-1" || g.SecurityGroupID != "sg-1" {
		t.Errorf("place %+v", g)
	}
}

func TestE33CrashLoop(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{Exits: true, RunFor: time.Second, ExitCode: 3}, true
		}
	})
	id := c.create()
	c.clock.Step(time.Minute)
	g := c.describe(id)
	ct := g.Containers[0]
	if g.Status != "Running" || ct.RestartCount < 2 || ct.CurrentState.State != "Waiting" || ct.CurrentState.Reason != "CrashLoopBackOff" {
		t.Errorf("%s %+v", g.Status, ct)
	}
	if p := ct.PreviousState; p == nil || p.State != "Terminated" || p.ExitCode == nil || *p.ExitCode != 3 || p.FinishTime == "" {
		t.Errorf("previous %+v", p)
	}
}

func TestE34InitContainersFirst(t *testing.T) {
	c := newClient(t)
	id := c.create("InitContainer.1.Name", "one", "InitContainer.1.Image", "x", "InitContainer.2.Name", "two", "InitContainer.2.Image", "x")
	c.clock.Step(10 * time.Second)
	g := c.describe(id)
	if g.Status != "Pending" || g.InitContainers[0].CurrentState.State != "Running" || g.InitContainers[1].CurrentState.State != "Waiting" || g.Containers[0].CurrentState.State != "Waiting" {
		t.Errorf("%s %v %v", g.Status, g.InitContainers, g.Containers)
	}
	c.clock.Step(time.Minute)
	if g := c.describe(id); g.Status != "Running" || g.InitContainers[1].CurrentState.State != "Terminated" {
		t.Errorf("%s %v", g.Status, g.InitContainers)
	}
}

func TestE35RestartPolicies(t *testing.T) {
	for _, tt := range []struct {
		policy string
		code   int
		want   string
	}{
		{"", 0, "Running"}, {"Always", 1, "Running"}, {"OnFailure", 1, "Running"},
		{"OnFailure", 0, "Succeeded"}, {"Never", 0, "Succeeded"}, {"Never", 2, "Failed"},
	} {
		c := newClient(t)
		args := []string{"RestartPolicy", tt.policy}
		if tt.policy == "" {
			args = nil
		}
		id := c.create(args...)
		c.clock.Step(time.Minute)
		if err := c.live(id).Exit("nginx", tt.code); err != nil {
			t.Fatal(err)
		}
		c.clock.Step(time.Minute)
		g := c.describe(id)
		if g.Status != tt.want || (tt.want == "Succeeded") != (g.SucceededTime != "") || (tt.want == "Failed") != (g.FailedTime != "") {
			t.Errorf("%s exit %d: %s, want %s", tt.policy, tt.code, g.Status, tt.want)
		}
	}
}

func TestE36BadImage(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Sim.Images = func(image string) sim.ImageVerdict { return sim.ImageNotFound }
	})
	id := c.create("RestartPolicy", "Never")
	c.clock.Step(time.Minute)
	g := c.describe(id)
	var seen []string
	for _, e := range g.Events {
		seen = append(seen, e.Reason)
	}
	if s := g.Containers[0].CurrentState; g.Status != "Pending" || s.State != "Waiting" || s.Reason != "ImagePullBackOff" || !slices.Contains(seen, "Failed") || !slices.Contains(seen, "BackOff") {
		t.Errorf("%s %+v %v", g.Status, s, seen)
	}
}

func TestE37Delete(t *testing.T) {
	slow := func(o *Options) {
		o.Sim.Plan = func(sim.Spec, sim.Container, int) (sim.Plan, bool) {
			return sim.Plan{StopAfter: time.Hour}, true
		}
	}
	for _, tt := range []struct {
		name   string
		create []string
		force  string
		want   time.Duration
	}{
		{"default grace", nil, "false", 32 * time.Second},
		{"own grace", []string{"TerminationGracePeriodSeconds", "5"}, "false", 7 * time.Second},
		{"no grace", []string{"TerminationGracePeriodSeconds", "0"}, "false", 2 * time.Second},
		{"force", nil, "true", 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t, slow)
			id := c.create(tt.create...)
			c.clock.Step(time.Minute)
			c.ok("DeleteContainerGroup", "ContainerGroupId", id, "Force", tt.force)
			c.refused(400, "OperationConflict", "DeleteContainerGroup", "ContainerGroupId", id)
			c.clock.Step(tt.want - time.Second)
			if got := c.describe(id).Status; got != "Terminating" {
				t.Errorf("status %s, want Terminating", got)
			}
			c.clock.Step(time.Second)
			c.absent(id)
			c.refused(400, "InvalidParameter", "DeleteContainerGroup", "ContainerGroupId", id)
		})
	}
	c := newClient(t)
	id := c.create("Container.1.LifecyclePreStopHandlerExec.1", "sleep", "Container.1.LifecyclePreStopHandlerExec.2", "10")
	c.clock.Step(time.Minute)
	c.ok("DeleteContainerGroup", "ContainerGroupId", id)
	c.clock.Step(11 * time.Second)
	if got := c.describe(id).Status; got != "Terminating" {
		t.Errorf("status %s, want Terminating: preStop takes 10 s", got)
	}
	c.clock.Step(time.Second)
	c.absent(id)
}

func TestE38EndedGroupsStay(t *testing.T) {
	c := newClient(t)
	var ids []string
	for range 105 {
		id := c.create("RestartPolicy", "Never")
		c.clock.Step(11 * time.Second)
		if err := c.live(id).Exit("nginx", 0); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 105 {
		t.Errorf("%d groups within the hour, want 105", n)
	}
	c.clock.Step(time.Hour)
	if n := c.ok("DescribeContainerGroups").body.TotalCount; n != 100 {
		t.Errorf("%d groups after the hour, want 100", n)
	}
	c.absent(ids[0])
	c.describe(ids[104])
}

func TestE41Restart(t *testing.T) {
	c := newClient(t)
	id := c.create()
	c.refused(400, "IncorrectStatus", "RestartContainerGroup", "ContainerGroupId", id)
	c.clock.Step(time.Minute)
	before := c.describe(id)
	c.ok("RestartContainerGroup", "ContainerGroupId", id)
	if got := c.describe(id).Status; got != "Restarting" {
		t.Errorf("status %s, want Restarting", got)
	}
	c.clock.Step(time.Minute)
	if g := c.describe(id); g.Status != "Running" || g.IntranetIP != before.IntranetIP || g.Containers[0].RestartCount != 1 {
		t.Errorf("%s %s, restarts %d", g.Status, g.IntranetIP, g.Containers[0].RestartCount)
	}
}

func TestE53BillingRecord(t *testing.T) {
	c := newClient(t)
	id := c.create("Cpu", "7", "Memory", "13", "SpotStrategy", "SpotAsPriceGo", "Tag.1.Key", "k", "Tag.1.Value", "v", "RestartPolicy", "Never")
	c.do("CreateContainerGroup", nginx("Cpu", "0.25", "Memory", "64")...)
	record := func(query string) (r sim.Record) {
		t.Helper()
		resp, err := http.Get(c.url + sim.BillingPath + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := record(""); len(r.Entries) != 0 || len(r.Calls) != 2 || r.Calls[0].Target != id || r.Calls[0].Code != "OK" || r.Calls[0].Principal != "LTAI-test" || r.Calls[1].Code != "InvalidParameter.CPU.Memory" {
		t.Errorf("while Scheduling: %+v", r)
	}
	c.clock.Step(61 * time.Second)
	if r := record("?open=true"); len(r.Entries) != 1 || r.Entries[0].Duration(c.clock.Now()) != time.Minute {
		t.Errorf("running: %+v", r)
	}
	if err := c.live(id).Exit("nginx", 0); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(time.Hour)
	r := record("")
	if len(r.Entries) != 1 {
		t.Fatalf("entries %+v", r.Entries)
	}
	e := r.Entries[0]
	if e.To == nil || e.Duration(c.clock.Now()) != time.Minute || e.CPU != 8 || e.MemoryGiB != 16 || !e.Spot || e.Tags["k"] != "v" || e.GroupID != id || e.Cloud != "eci" || !e.From.Equal(epoch.Add(time.Second)) {
		t.Errorf("entry %+v", e)
	}
	if len(record("?open=true").Entries) != 0 {
		t.Error("an ended group is still billed")
	}
}
