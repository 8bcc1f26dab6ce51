package eci

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

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

// creepingClock is a clock that goes on by itself: every look at it takes a
// while, so that the groups' lives go on in the middle of a call.
type creepingClock struct {
	*clocktesting.FakeClock
	look atomic.Int64 // nanoseconds
}

func (c *creepingClock) Now() time.Time {
	if d := c.look.Load(); d > 0 {
		c.Step(time.Duration(d))
	}
	return c.FakeClock.Now()
}

// TestE37NothingBetween lets a group go at every point within a call: what is
// being deleted is Terminating, and then it is not there.
func TestE37NothingBetween(t *testing.T) {
	for stop := range 60 {
		clk := &creepingClock{FakeClock: clocktesting.NewFakeClock(epoch)}
		c := newClient(t, func(o *Options) {
			o.Sim.Clock = clk
			o.Sim.Timing = sim.Timing{Stop: time.Duration(stop) * time.Millisecond}
			o.StatusInMetadataCase = true
		})
		c.clock = clk.FakeClock
		ids := map[string]string{}
		for _, call := range []string{"DescribeContainerGroups", "DescribeContainerGroupStatus", "DescribeContainerGroupEvents", "DeleteContainerGroup"} {
			id := c.create("ContainerGroupName", strings.ToLower(call))
			ids[call] = id
			c.ok("DeleteContainerGroup", "ContainerGroupId", id)
			clk.look.Store(int64(time.Millisecond))
			r := c.do(call, "ContainerGroupId", id, "ContainerGroupIds", `["`+id+`"]`, "ContainerGroupName", strings.ToLower(call))
			clk.look.Store(0)
			switch {
			case call == "DeleteContainerGroup":
				if _, there := c.server.Fleet().Group(id); r.body.Code != "OperationConflict" && (r.body.Code != "InvalidParameter" || there) {
					t.Errorf("%d ms: the second delete answers %s, and that it is there is %v", stop, r.raw, there)
				}
			case r.status != http.StatusOK:
				t.Errorf("%d ms: %s answers %s", stop, call, r.raw)
			case strings.Contains(string(r.raw), `"Status":"Deleted"`):
				t.Errorf("%d ms: %s shows the unpublished status Deleted: %s", stop, call, r.raw)
			case len(r.body.ContainerGroups)+len(r.body.Data) != r.body.TotalCount:
				t.Errorf("%d ms: %s counts otherwise than it shows: %s", stop, call, r.raw)
			}
			clk.Step(time.Second)
		}
	}
}

// TestE37GoneMeanwhile deletes a group that has gone since the call began.
func TestE37GoneMeanwhile(t *testing.T) {
	c := newClient(t)
	id := c.create()
	c.live(id).Remove()
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	again := &call{action: "DeleteContainerGroup", form: c.members("DeleteContainerGroup", "ContainerGroupId", id)}
	again.members = parseMembers(again.form)
	if _, err := c.server.remove(again); err == nil || err.code != "InvalidParameter" {
		t.Errorf("the second delete answers %+v, want that of a missing group", err)
	}
}

func TestActiveDeadline(t *testing.T) {
	c := newClient(t)
	id := c.create("ActiveDeadlineSeconds", "30", "RestartPolicy", "Always")
	pulling := c.create("ActiveDeadlineSeconds", "5", "RestartPolicy", "Always")
	done := c.create("ActiveDeadlineSeconds", "30", "RestartPolicy", "Never")
	endless := c.create()
	c.clock.Step(11 * time.Second)
	if err := c.live(done).Exit("nginx", 0); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(20*time.Second - time.Millisecond)
	if g := c.describe(id); g.Status != "Running" {
		t.Errorf("before the deadline: %s, want Running", g.Status)
	}
	c.clock.Step(time.Millisecond) // 30 s after a machine was found
	g := c.describe(id)
	ct := g.Containers[0].CurrentState
	if g.Status != "Failed" || g.FailedTime != "2026-03-01T12:00:31Z" || g.ExpiredTime != "" {
		t.Errorf("at the deadline: %s at %q, expired at %q, want Failed", g.Status, g.FailedTime, g.ExpiredTime)
	}
	if ct.State != "Terminated" || ct.ExitCode == nil || *ct.ExitCode != 137 {
		t.Errorf("container %+v, want killed", ct)
	}
	if !slices.ContainsFunc(g.Events, func(e eventView) bool { return e.Reason == "DeadlineExceeded" }) {
		t.Errorf("events %+v, want DeadlineExceeded", g.Events)
	}
	for id, want := range map[string]string{pulling: "Failed", done: "Succeeded", endless: "Running"} {
		if got := c.describe(id).Status; got != want {
			t.Errorf("another group: %s, want %s", got, want)
		}
	}
	if r := c.ok("DescribeContainerGroups", "Status", "Failed"); r.body.TotalCount != 2 {
		t.Errorf("%d groups are Failed, want 2", r.body.TotalCount)
	}
	status := c.ok("DescribeContainerGroupStatus", "ContainerGroupIds", `["`+id+`"]`)
	if raw := string(status.raw); !strings.Contains(raw, `"phase":"Failed"`) || !strings.Contains(raw, `"status":"Failed"`) {
		t.Errorf("status %s, want Failed", raw)
	}
	c.clock.Step(time.Hour)
	for _, e := range c.server.Record().Entries {
		if open := e.To == nil; open != (e.GroupID == endless) {
			t.Errorf("group %s is billed still: %v", e.GroupID, open)
		}
	}
	c.ok("DeleteContainerGroup", "ContainerGroupId", id)
	c.clock.Step(time.Minute)
	c.absent(id)
	for _, bad := range []string{"0", "-1", "x"} {
		c.refused(400, "InvalidParameter", "CreateContainerGroup", nginx("ActiveDeadlineSeconds", bad)...)
	}
}

// TestActiveDeadlineAtOnce looks at the very moment, before anything else had
// the time to happen.
func TestActiveDeadlineAtOnce(t *testing.T) {
	c := newClient(t)
	for range 50 {
		id := c.create("ActiveDeadlineSeconds", "30")
		ask := &call{action: "DescribeContainerGroups", form: c.members("DescribeContainerGroups", "ContainerGroupIds", `["`+id+`"]`)}
		c.clock.Step(31 * time.Second)
		answer, err := c.server.act(ask)
		if err != nil {
			t.Fatal(err.code, err.message)
		}
		if views := answer["ContainerGroups"].([]groupView); len(views) != 1 || views[0].Status != "Failed" {
			t.Fatalf("groups %+v, want one that is Failed", views)
		}
	}
}

// TestActiveDeadlineUnwatched asks nothing of the server meanwhile: the bill
// ends, and the process is killed, at the deadline all the same.
func TestActiveDeadlineUnwatched(t *testing.T) {
	c := newClient(t)
	id := c.create("ActiveDeadlineSeconds", "30")
	live := c.live(id)
	c.clock.Step(31 * time.Second)
	for end := time.Now().Add(10 * time.Second); !live.Phase().Ended(); {
		if time.Now().After(end) {
			t.Fatalf("the group is %s", live.Phase())
		}
		runtime.Gosched()
	}
	if _, _, at := live.Progress(); !at.Equal(epoch.Add(31 * time.Second)) {
		t.Errorf("ended at %s, want 31 s after its creation", at)
	}
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
