package eci

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestE33CrashLoop(t *testing.T) {
	c := row(t)
	id := c.create(crashes.in("Container.1")...)
	c.until("the restarts are held back", 10*time.Minute, func() bool {
		main := c.describe(id).Containers[0]
		return main.RestartCount >= 2 && main.CurrentState.State == "Waiting" && strings.Contains(main.CurrentState.Reason, "BackOff")
	})
	g := c.describe(id)
	main := g.Containers[0]
	if g.Status != "Running" || main.Ready {
		t.Errorf("group %+v", g)
	}
	if p := main.PreviousState; p == nil || p.State != "Terminated" || p.ExitCode == nil || *p.ExitCode != 3 || p.StartTime == "" || p.FinishTime < p.StartTime {
		t.Errorf("previous state %+v", p)
	}
	if !hasAll(g.reasons(), "BackOff") {
		t.Errorf("events %v", g.reasons())
	}
	// Each restart is held back for longer than the one before.
	var waits []time.Duration
	for range 3 {
		before := c.describe(id).Containers[0].RestartCount
		waits = append(waits, c.until("another restart", 10*time.Minute, func() bool { return c.describe(id).Containers[0].RestartCount > before }))
	}
	if waits[2] <= waits[1] || waits[1] < 5*time.Second {
		t.Errorf("restarts after %v, want longer and longer", waits)
	}
}

func TestE34InitContainersFirst(t *testing.T) {
	c := row(t)
	args := []string{"InitContainer.1.Name", "first", "InitContainer.1.Image", *image, "InitContainer.2.Name", "second", "InitContainer.2.Image", *image}
	args = append(append(args, works.in("InitContainer.1")...), ends.in("InitContainer.2")...)
	id := c.create(args...)
	state := func(list []container, i int) string { return list[i].CurrentState.State }
	seen := false
	c.until("the group runs", 10*time.Minute, func() bool {
		g := c.describe(id)
		first, second, main := state(g.InitContainers, 0), state(g.InitContainers, 1), state(g.Containers, 0)
		if first != "Terminated" && second != "Waiting" || second != "Terminated" && main != "Waiting" {
			t.Fatalf("init containers %s and %s, container %s", first, second, main)
		}
		if first == "Running" {
			seen = true
			if g.Status != "Pending" {
				t.Errorf("status %s while an init container runs", g.Status)
			}
		}
		return g.Status == "Running"
	})
	if !seen {
		t.Error("the first init container, of 20 s, was never seen to run")
	}
	part(t, "failing", "a clock", settings{}, func(c *cloud) {
		args := append([]string{"RestartPolicy", "Never", "InitContainer.1.Name", "first", "InitContainer.1.Image", *image}, fails.in("InitContainer.1")...)
		id := c.create(args...)
		c.waitStatus(id, "Failed")
		if g := c.describe(id); state(g.Containers, 0) != "Waiting" || *g.InitContainers[0].CurrentState.ExitCode != 5 {
			t.Errorf("group %+v", g)
		}
	})
}

func TestE35RestartPolicies(t *testing.T) {
	c := row(t)
	for _, tt := range []struct {
		policy string
		runs   program
		want   string
	}{
		{"-", ends, "Running"}, {"Always", ends, "Running"}, {"Always", fails, "Running"}, {"OnFailure", fails, "Running"},
		{"OnFailure", ends, "Succeeded"}, {"Never", ends, "Succeeded"}, {"Never", fails, "Failed"},
	} {
		c.each(tt.policy+" "+tt.runs.script, func(c *cloud) {
			id := c.create(append([]string{"RestartPolicy", tt.policy}, tt.runs.in("Container.1")...)...)
			if tt.want == "Running" {
				c.until("a restart", 10*time.Minute, func() bool { return c.describe(id).Containers[0].RestartCount > 0 })
				if got := c.status(id); got != "Running" {
					c.t.Errorf("status %s after a restart", got)
				}
				return
			}
			c.waitStatus(id, tt.want)
			g := c.describe(id)
			if g.Containers[0].RestartCount != 0 || *g.Containers[0].CurrentState.ExitCode != tt.runs.code {
				c.t.Errorf("container %+v", g.Containers[0])
			}
			if (g.SucceededTime != "") != (tt.want == "Succeeded") || (g.FailedTime != "") != (tt.want == "Failed") {
				c.t.Errorf("succeeded %q, failed %q", g.SucceededTime, g.FailedTime)
			}
		})
	}
	c.each("two containers", func(c *cloud) {
		args := append([]string{"RestartPolicy", "Never", "Container.2.Name", "second", "Container.2.Image", *image}, fails.in("Container.1")...)
		id := c.create(append(args, works.in("Container.2")...)...)
		c.until("the first has ended", 10*time.Minute, func() bool { return c.describe(id).Containers[0].CurrentState.State == "Terminated" })
		if got := c.status(id); got != "Running" {
			c.t.Errorf("status %s while the second runs", got)
		}
		c.waitStatus(id, "Failed") // though the second ends well
	})
}

func TestE36BadImage(t *testing.T) {
	c := row(t)
	id := c.create("Container.1.Image", "registry.invalid/none:1")
	c.until("the pull is held back", 10*time.Minute, func() bool { return hasAll(c.describe(id).reasons(), "Failed", "BackOff") })
	g := c.describe(id)
	main := g.Containers[0]
	if g.Status != "Pending" || main.CurrentState.State != "Waiting" || main.Ready || main.RestartCount != 0 {
		t.Errorf("group %s, container %+v", g.Status, main)
	}
	for _, e := range g.Events {
		if e.Reason == "Failed" && e.Type != "Warning" {
			t.Errorf("event %+v", e)
		}
	}
}

func TestE37Delete(t *testing.T) {
	c := row(t)
	remove := func(c *cloud, id string, args ...string) {
		c.t.Helper()
		c.ok("DeleteContainerGroup", append([]string{"ContainerGroupId", id}, args...)...)
	}
	gone := func(c *cloud, id string) time.Duration {
		c.t.Helper()
		return c.until("group "+id+" is gone", 5*time.Minute, func() bool {
			status := c.status(id)
			if status != "Terminating" && status != "Absent" {
				c.t.Fatalf("status %s after the delete", status)
			}
			return status == "Absent"
		})
	}
	c.each("grace", func(c *cloud) {
		id := c.running(append([]string{"TerminationGracePeriodSeconds", "20"}, stays.in("Container.1")...)...)
		remove(c, id)
		if got := c.status(id); got != "Terminating" {
			c.t.Errorf("status %s, want Terminating", got)
		}
		c.refused(400, "OperationConflict", "DeleteContainerGroup", "ContainerGroupId", id)
		if took := gone(c, id); took < 18*time.Second || took > 60*time.Second {
			c.t.Errorf("a container that ignores SIGTERM took %s, want its grace of 20 s", took)
		}
	})
	c.each("preStop", func(c *cloud) {
		id := c.running("TerminationGracePeriodSeconds", "60", "Container.1.LifecyclePreStopHandlerExec.1", "sleep", "Container.1.LifecyclePreStopHandlerExec.2", "15")
		remove(c, id)
		if took := gone(c, id); took < 13*time.Second || took > 55*time.Second {
			c.t.Errorf("a preStop handler of 15 s took %s", took)
		}
	})
	c.each("force", func(c *cloud) {
		id := c.running(append([]string{"TerminationGracePeriodSeconds", "120"}, stays.in("Container.1")...)...)
		remove(c, id, "Force", "true")
		if took := gone(c, id); took > 60*time.Second {
			c.t.Errorf("a forced delete took %s", took)
		}
	})
	c.each("early", func(c *cloud) {
		id := c.create()
		remove(c, id)
		gone(c, id)
	})
	c.each("ended", func(c *cloud) {
		id := c.create(append([]string{"RestartPolicy", "Never"}, ends.in("Container.1")...)...)
		c.waitStatus(id, "Succeeded")
		remove(c, id)
		gone(c, id)
	})
	c.each("missing", func(c *cloud) { // its answer is not published
		if a := c.do("DeleteContainerGroup", "ContainerGroupId", "eci-none"); a.status/100 == 5 {
			c.t.Errorf("answer %d %s", a.status, a.raw)
		}
	})
	part(t, "to the second", "a clock", settings{}, func(c *cloud) {
		id := c.running(append([]string{"TerminationGracePeriodSeconds", "20"}, stays.in("Container.1")...)...)
		remove(c, id)
		c.pass(19 * time.Second)
		if got := c.status(id); got != "Terminating" {
			t.Errorf("status %s after 19 s of 20", got)
		}
		if main := c.describe(id).Containers[0]; main.CurrentState.State != "Running" {
			t.Errorf("container %+v", main)
		}
	})
}

func TestE38EndedGroupsStay(t *testing.T) {
	c := labRow(t, "a clock")
	var ids []string
	for range 105 {
		ids = append(ids, c.create(append([]string{"RestartPolicy", "Never"}, ends.in("Container.1")...)...))
		c.pass(time.Second)
	}
	c.waitStatus(ids[104], "Succeeded")
	total := func() int { return c.ok("DescribeContainerGroups", "Status", "Succeeded").TotalCount }
	c.pass(58 * time.Minute) // the first ended 104 s before the last, and none an hour ago
	if n := total(); n != 105 {
		t.Errorf("%d ended groups within the hour, want all 105", n)
	}
	c.pass(3 * time.Minute)
	if n := total(); n != 100 {
		t.Errorf("%d ended groups after it, want the newest 100", n)
	}
	for i, id := range ids {
		if _, ok := c.find(id); ok != (i >= 5) {
			t.Errorf("group %d by age: there %t", i, ok)
		}
	}
	c.pass(30 * 24 * time.Hour)
	if n := total(); n != 100 {
		t.Errorf("%d ended groups after a month, want the newest 100", n)
	}
	for _, b := range c.lab.Bills() {
		if b.To.IsZero() {
			t.Fatalf("an ended group is billed: %+v", b)
		}
	}
}

func TestE39ScheduleFailedGoes(t *testing.T) {
	c := labRow(t, "stock and a clock")
	c.lab.Shortages(Shortage{Late: true})
	id := c.create()
	c.waitStatus(id, "ScheduleFailed")
	c.pass(24*time.Hour - time.Second)
	if got := c.status(id); got != "ScheduleFailed" {
		t.Errorf("status %s within 24 h", got)
	}
	c.pass(time.Second)
	if got := c.status(id); got != "Absent" {
		t.Errorf("status %s after 24 h", got)
	}
	if bills := c.lab.Bills(); len(bills) != 0 {
		t.Errorf("bills %v", bills)
	}
}

func TestE40Update(t *testing.T) {
	c := row(t)
	env := func(pairs ...string) []string {
		var out []string
		for i := 0; i < len(pairs); i += 2 {
			at := "Container.1.EnvironmentVar." + strconv.Itoa(i/2+1)
			out = append(out, at+".Key", pairs[i], at+".Value", pairs[i+1])
		}
		return out
	}
	variables := func(o container) map[string]string {
		out := map[string]string{}
		for _, v := range o.EnvironmentVars {
			out[v.Key] = v.Value
		}
		return out
	}
	second := []string{"Container.2.Name", "second", "Container.2.Image", *image, "Container.2.Command.1", "sleep", "Container.2.Command.2", "3600"}
	sleeps := []string{"Container.1.Command.1", "sleep", "Container.1.Command.2", "3600"}
	update := func(c *cloud, id string, args ...string) {
		c.t.Helper()
		c.ok("UpdateContainerGroup", append([]string{"ContainerGroupId", id}, args...)...)
		if got := c.status(id); got != "Updating" {
			c.t.Errorf("status %s right after the update, want Updating", got)
		}
		c.waitStatus(id, "Running")
	}
	c.each("renew", func(c *cloud) {
		id := c.running(append(env("KEPT", "1", "LOST", "2"), second...)...)
		before := c.describe(id)
		update(c, id, slices.Concat([]string{"Container.1.Name", "main", "Container.1.Image", *image}, sleeps, env("KEPT", "3"))...)
		g := c.describe(id)
		if len(g.Containers) != 1 || g.Containers[0].Name != "main" {
			c.t.Fatalf("containers %+v, want only the one that was sent", g.Containers)
		}
		if v := variables(g.Containers[0]); len(v) != 1 || v["KEPT"] != "3" {
			c.t.Errorf("variables %v, want only those that were sent", v)
		}
		if g.IntranetIP != before.IntranetIP || g.ContainerGroupName != before.ContainerGroupName || g.CPU != before.CPU {
			c.t.Errorf("group %+v was %+v", g, before)
		}
	})
	c.each("incremental", func(c *cloud) {
		id := c.running(append(env("KEPT", "1", "CHANGED", "2"), second...)...)
		update(c, id, slices.Concat([]string{"UpdateType", "IncrementalUpdate", "Container.1.Name", "main"}, env("CHANGED", "3", "NEW", "4"))...)
		g := c.describe(id)
		if len(g.Containers) != 2 || g.Containers[0].Image != *image || !slices.Equal(g.Containers[0].Commands, []string{"sleep", "3600"}) {
			c.t.Fatalf("containers %+v, want that the rest stays", g.Containers)
		}
		if v := variables(g.Containers[0]); len(v) != 3 || v["KEPT"] != "1" || v["CHANGED"] != "3" || v["NEW"] != "4" {
			c.t.Errorf("variables %v", v)
		}
	})
	c.each("tags", func(c *cloud) {
		id := c.running("Tag.1.Key", "a", "Tag.1.Value", "1")
		c.ok("TagResources", "ResourceType", "ContainerGroup", "ResourceId.1", id, "Tag.1.Key", "b", "Tag.1.Value", "2")
		update(c, id, "Cpu", "4", "Memory", "8")
		if got := c.describe(id).Tags; len(got) != 2 {
			c.t.Errorf("tags %v after an update of the size, want both", got)
		}
		c.ok("UpdateContainerGroup", "ContainerGroupId", id, "UpdateType", "IncrementalUpdate", "Tag.1.Key", "b", "Tag.1.Value", "3")
		if got := c.describe(id).Tags; len(got) != 2 || !slices.Contains(got, tag{"b", "3"}) {
			c.t.Errorf("tags %v", got)
		}
		c.ok("UpdateContainerGroup", "ContainerGroupId", id, "Tag.1.Key", "c", "Tag.1.Value", "4")
		if got := c.describe(id).Tags; !slices.Equal(got, []tag{{"c", "4"}}) {
			c.t.Errorf("tags %v, want only the one that was sent", got)
		}
	})
	c.each("size", func(c *cloud) {
		id := c.running()
		update(c, id, "Cpu", "3", "Memory", "5")
		if g := c.describe(id); g.CPU != 4 || g.Memory != 8 {
			c.t.Errorf("%g vCPU %g GiB, want 4 and 8", g.CPU, g.Memory)
		}
		c.refused(400, "InvalidParam.CpuOrMemorySpec", "UpdateContainerGroup", "ContainerGroupId", id, "Cpu", "1000", "Memory", "1")
	})
	c.each("refused", func(c *cloud) {
		id := c.running(env("A", "1")...)
		try := func(status int, code string, args ...string) {
			c.t.Helper()
			c.refused(status, code, "UpdateContainerGroup", append([]string{"ContainerGroupId", id}, args...)...)
		}
		same := slices.Concat([]string{"Container.1.Name", "main", "Container.1.Image", *image}, sleeps, env("A", "1"))
		try(400, "NoNeedUpdate")
		try(400, "NoNeedUpdate", same...)
		try(400, "NoNeedUpdate", slices.Concat([]string{"UpdateType", "IncrementalUpdate", "Container.1.Name", "main"}, env("A", "1"))...)
		try(400, "NoNeedUpdate", "ContainerGroupName", "another", "VSwitchId", "vsw-none") // not among the members of an update
		try(400, "InvalidParameter", "UpdateType", "Some")
		try(400, "InvalidParameter", "RestartPolicy", "Sometimes")
		try(400, "InvalidParameter.DuplicatedName", append(same, "Container.2.Name", "main", "Container.2.Image", *image)...)
		if a := c.do("UpdateContainerGroup", "ContainerGroupId", id, "Container.1.Name", "main"); a.status != 400 || !strings.HasPrefix(a.Code, "Missing") {
			c.t.Errorf("a renewed container without an image: answer %d %s", a.status, a.raw)
		}
		if got := c.status(id); got != "Running" {
			c.t.Errorf("status %s after refusals", got)
		}
		if a := c.do("UpdateContainerGroup", append([]string{"ContainerGroupId", "eci-none"}, env("A", "2")...)...); a.status/100 != 4 {
			c.t.Errorf("a missing group: answer %d %s", a.status, a.raw)
		}
	})
	c.each("statuses", func(c *cloud) {
		changed := slices.Concat([]string{"UpdateType", "IncrementalUpdate", "Container.1.Name", "main"}, env("A", "2"))
		id := c.create(append([]string{"RestartPolicy", "Never"}, works.in("Container.1")...)...)
		c.waitStatus(id, "Pending")
		c.ok("UpdateContainerGroup", append([]string{"ContainerGroupId", id}, changed...)...)
		for _, action := range []string{"UpdateContainerGroup", "RestartContainerGroup"} { // it is Updating
			c.refused(400, "IncorrectStatus", action, append([]string{"ContainerGroupId", id}, "Cpu", "4", "Memory", "8")...)
		}
		c.waitStatus(id, "Succeeded")
		c.refused(400, "IncorrectStatus", "UpdateContainerGroup", append([]string{"ContainerGroupId", id}, env("A", "3")...)...)
	})
	part(t, "not yet scheduled", "a clock", settings{}, func(c *cloud) {
		id := c.create()
		c.refused(400, "IncorrectStatus", "UpdateContainerGroup", "ContainerGroupId", id, "Cpu", "4", "Memory", "8")
		c.waitStatus(id, "Running")
		update(c, id, "Cpu", "4", "Memory", "8")
		bills := c.lab.Bills()
		if len(bills) != 2 || bills[0].CPU != 2 || bills[1].CPU != 4 || !bills[0].To.Equal(bills[1].From) || !bills[1].To.IsZero() {
			t.Errorf("bills %+v, want one for each size without a gap", bills)
		}
	})
}

func TestE41Restart(t *testing.T) {
	c := row(t)
	id := c.running()
	before := c.describe(id)
	c.ok("RestartContainerGroup", "ContainerGroupId", id)
	if got := c.status(id); got != "Restarting" {
		t.Errorf("status %s right after the restart, want Restarting", got)
	}
	c.refused(400, "IncorrectStatus", "RestartContainerGroup", "ContainerGroupId", id)
	c.waitStatus(id, "Running")
	after := c.describe(id)
	if after.IntranetIP != before.IntranetIP || after.IntranetIP == "" || after.ZoneID != before.ZoneID {
		t.Errorf("group %+v was %+v", after, before)
	}
	if was, is := before.Containers[0].CurrentState.StartTime, after.Containers[0].CurrentState.StartTime; is <= was {
		t.Errorf("the container started at %s, and before at %s", is, was)
	}
	once := c.create(append([]string{"RestartPolicy", "Never"}, ends.in("Container.1")...)...)
	c.waitStatus(once, "Succeeded")
	c.refused(400, "IncorrectStatus", "RestartContainerGroup", "ContainerGroupId", once)
	pending := c.create("Container.1.Image", "registry.invalid/none:1")
	c.waitStatus(pending, "Pending")
	c.ok("RestartContainerGroup", "ContainerGroupId", pending)
	c.waitStatus(pending, "Pending")
	part(t, "not yet scheduled", "a clock and stock", settings{}, func(c *cloud) {
		id := c.create()
		c.refused(400, "IncorrectStatus", "RestartContainerGroup", "ContainerGroupId", id)
		c.lab.Shortages(Shortage{Late: true})
		id = c.create()
		c.waitStatus(id, "ScheduleFailed")
		c.refused(400, "IncorrectStatus", "RestartContainerGroup", "ContainerGroupId", id)
	})
}
