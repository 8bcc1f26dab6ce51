package eci

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pick follows names into a JSON value without regard to their case, for two
// spellings of the status members are published. It is nil where it finds nothing.
func pick(v any, names ...string) any {
	for _, name := range names {
		object, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = nil
		for key, value := range object {
			// The metadata prints the start of a running container in this way.
			if strings.EqualFold(key, name) || name == "startedAt" && key == "StartedAtstartedAt" {
				v = value
			}
		}
	}
	return v
}

// at is an element of a JSON list.
func at(v any, i int) any {
	list, ok := v.([]any)
	if !ok || i >= len(list) {
		return nil
	}
	return list[i]
}

// text is a JSON value as text.
func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON before
	}
	return string(b)
}

// decode is a JSON object.
func decode(t *testing.T, raw string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// podStatus is the PodStatus of a group in DescribeContainerGroupStatus.
func (c *cloud) podStatus(id string) any {
	c.t.Helper()
	a := c.ok("DescribeContainerGroupStatus", "ContainerGroupIds", idList(id))
	if len(a.Data) != 1 {
		c.t.Fatalf("group %s: %s", id, a.raw)
	}
	return pick(a.Data[0], "podStatus")
}

// dataIDs are the ids of the groups in an answer of the polling actions.
func (a answer) dataIDs() []string {
	var out []string
	for _, d := range a.Data {
		id, _ := pick(d, "containerGroupId").(string)
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

func (a answer) groupIDs() []string {
	var out []string
	for _, g := range a.ContainerGroups {
		out = append(out, g.ContainerGroupID)
	}
	slices.Sort(out)
	return out
}

func sorted(ids ...string) []string { return slices.Sorted(slices.Values(ids)) }

func TestE27DescribeByIDAndPage(t *testing.T) {
	c := row(t)
	tag := []string{"Tag.1.Key", "run", "Tag.1.Value", nonce()}
	var ids []string
	for range 5 {
		ids = append(ids, c.create(tag...))
	}
	var got []string
	pages, token := 0, ""
	for {
		a := c.ok("DescribeContainerGroups", append([]string{"Limit", "2", "NextToken", token}, tag...)...)
		if a.TotalCount != 5 || len(a.ContainerGroups) > 2 {
			t.Errorf("page %d has %d of %d groups", pages+1, len(a.ContainerGroups), a.TotalCount)
		}
		got = append(got, a.groupIDs()...)
		pages++
		if token = a.NextToken; token == "" || pages > 5 {
			break
		}
	}
	if !slices.Equal(sorted(got...), sorted(ids...)) || pages != 3 {
		t.Errorf("%d pages have %v, want %v in 3", pages, got, ids)
	}
	a := c.ok("DescribeContainerGroups", "ContainerGroupIds", idList(ids[0], "eci-none", ids[3]))
	if !slices.Equal(a.groupIDs(), sorted(ids[0], ids[3])) || a.TotalCount != 2 {
		t.Errorf("with a missing id: %s", a.raw)
	}
	if a := c.ok("DescribeContainerGroups", "ContainerGroupIds", idList("eci-none")); len(a.ContainerGroups) != 0 {
		t.Errorf("missing: %s", a.raw)
	}
	many := make([]string, 21)
	for i := range many {
		many[i] = "eci-none" + strconv.Itoa(i)
	}
	c.ok("DescribeContainerGroups", "ContainerGroupIds", idList(many[:20]...))
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", idList(many...))
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", ids[0])
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", `{"a":1}`)
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", `[1]`)
	c.ok("DescribeContainerGroups", "Limit", "20")
	for _, limit := range []string{"21", "0", "-1"} {
		c.refused(400, "InvalidParameter", "DescribeContainerGroups", "Limit", limit)
	}
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "NextToken", "no token!")
	part(t, "default page", "many groups", settings{}, func(c *cloud) {
		for range 25 {
			c.create()
		}
		if a := c.ok("DescribeContainerGroups"); len(a.ContainerGroups) != 20 || a.TotalCount != 25 || a.NextToken == "" {
			t.Errorf("%d of %d groups, token %q", len(a.ContainerGroups), a.TotalCount, a.NextToken)
		}
		// Another region has none of them.
		if a := c.ok("DescribeContainerGroups", "RegionId", "ap-southeast-1"); a.TotalCount != 0 {
			t.Errorf("another region: %s", a.raw)
		}
	})
	part(t, "smaller pages", "a setting", settings{pageSize: 2}, func(c *cloud) {
		for range 3 {
			c.create()
		}
		if a := c.ok("DescribeContainerGroups", "Limit", "20"); len(a.ContainerGroups) != 2 || a.NextToken == "" {
			t.Errorf("%d groups, token %q", len(a.ContainerGroups), a.NextToken)
		}
	})
}

func TestE28Filters(t *testing.T) {
	c := row(t)
	run := nonce()
	a := c.running("ContainerGroupName", "first-"+run, "Tag.1.Key", "run", "Tag.1.Value", run, "Tag.2.Key", "odd", "Tag.2.Value", "yes")
	b := c.create("ContainerGroupName", "second-"+run, "Tag.1.Key", "run", "Tag.1.Value", run)
	mine := []string{"Tag.1.Key", "run", "Tag.1.Value", run}
	g := c.describe(a)
	for _, tt := range []struct {
		filter []string
		want   []string
	}{
		{nil, []string{a, b}},
		{[]string{"ContainerGroupName", "first-" + run}, []string{a}},
		{[]string{"ContainerGroupName", "first"}, nil},
		{[]string{"Tag.2.Key", "odd", "Tag.2.Value", "yes"}, []string{a}},
		{[]string{"Tag.2.Key", "odd"}, []string{a}},
		{[]string{"Tag.2.Key", "odd", "Tag.2.Value", "no"}, nil},
		{[]string{"Tag.2.Key", "even"}, nil},
		{[]string{"Status", "Succeeded"}, nil},
		{[]string{"ZoneId", g.ZoneID, "ContainerGroupName", "first-" + run}, []string{a}},
		{[]string{"ZoneId", "cn-hangzhou-none"}, nil},
		{[]string{"VSwitchId", g.VSwitchID, "ContainerGroupName", "second-" + run}, []string{b}},
		{[]string{"VSwitchId", "vsw-none"}, nil},
		{[]string{"SecurityGroupId", g.SecurityGroupID, "ContainerGroupName", "first-" + run}, []string{a}},
		{[]string{"SecurityGroupId", "sg-none"}, nil},
		{[]string{"ResourceGroupId", "rg-none"}, nil},
	} {
		if got := c.ok("DescribeContainerGroups", append(slices.Clone(mine), tt.filter...)...); !slices.Equal(got.groupIDs(), sorted(tt.want...)) {
			t.Errorf("%v: %v, want %v", tt.filter, got.groupIDs(), tt.want)
		}
	}
	for _, args := range [][]string{{"Status", "Running"}, {"Status", "Scheduling"}, {"Status", "Pending"}} {
		for _, g := range c.ok("DescribeContainerGroups", append(args, mine...)...).ContainerGroups {
			if g.Status != args[1] {
				t.Errorf("status %s among the %s ones", g.Status, args[1])
			}
		}
	}
	part(t, "resource group", "a resource group", settings{}, func(c *cloud) {
		id := c.running("ResourceGroupId", "rg-1")
		c.create("ResourceGroupId", "rg-2")
		for _, args := range [][]string{{"ResourceGroupId", "rg-1"}, {"Status", "Running"}} {
			if a := c.ok("DescribeContainerGroups", args...); !slices.Equal(a.groupIDs(), []string{id}) {
				t.Errorf("%v: %v", args, a.groupIDs())
			}
			if a := c.ok("DescribeContainerGroupStatus", "ResourceGroupId", "rg-1"); !slices.Equal(a.dataIDs(), []string{id}) {
				t.Errorf("status: %v", a.dataIDs())
			}
		}
	})
}

func TestE29WithEvent(t *testing.T) {
	c := row(t)
	var args []string
	for i := range 19 {
		n := strconv.Itoa(i + 2)
		args = append(args, "Container."+n+".Name", "more"+n, "Container."+n+".Image", *image, "Container."+n+".Command.1", "sleep",
			"Container."+n+".Command.2", "3600")
	}
	id := c.running(args...)
	c.until("all containers run", 10*time.Minute, func() bool {
		return !slices.ContainsFunc(c.describe(id).Containers, func(o container) bool { return !o.Ready })
	})
	g := c.describe(id)
	if len(g.Events) != knownFacts(t).Limits.Events {
		t.Errorf("%d events of a group of 20 containers, want the newest 50", len(g.Events))
	}
	for _, e := range g.Events {
		if e.Type != "Normal" && e.Type != "Warning" || e.Name == "" || e.Reason == "" || e.Message == "" || e.Count < 1 || e.FirstTimestamp == "" || e.LastTimestamp < e.FirstTimestamp {
			t.Errorf("event %+v", e)
		}
	}
	if !slices.ContainsFunc(g.Events, func(e event) bool { return e.Reason == "Started" && strings.Contains(e.Message, "more20") }) {
		t.Errorf("the newest events are not among %v", g.Events)
	}
	for _, with := range []string{"false", "-"} {
		if a := c.ok("DescribeContainerGroups", "ContainerGroupIds", idList(id), "WithEvent", with); len(a.ContainerGroups[0].Events) != 0 {
			t.Errorf("WithEvent %s: %d events", with, len(a.ContainerGroups[0].Events))
		}
	}
}

func TestE30StatusSince(t *testing.T) {
	c := row(t)
	tag := []string{"Tag.1.Key", "run", "Tag.1.Value", nonce()}
	a, b := c.running(tag...), c.running(tag...)
	since := func(seconds string, want ...string) {
		t.Helper()
		for _, action := range []string{"DescribeContainerGroupStatus", "DescribeContainerGroupEvents"} {
			got := c.ok(action, append([]string{"SinceSecond", seconds}, tag...)...)
			if !slices.Equal(got.dataIDs(), sorted(want...)) || got.TotalCount != len(want) {
				t.Errorf("%s since %s s: %v of %d, want %v", action, seconds, got.dataIDs(), got.TotalCount, want)
			}
		}
	}
	since("60", a, b)
	c.pass(65 * time.Second)
	since("60")
	since("3600", a, b)
	c.ok("RestartContainerGroup", "ContainerGroupId", b)
	since("60", b)
	c.waitStatus(b, "Running")
	since("60", b)
	for _, bad := range [][]string{{"SinceSecond", "59"}, {"SinceSecond", "3601"}, {"Limit", "0"}, {"Limit", "201"}, {"ContainerGroupIds", "x"}} {
		c.refused(400, "InvalidParameter", "DescribeContainerGroupStatus", bad...)
		c.refused(400, "InvalidParameter", "DescribeContainerGroupEvents", bad...)
	}
	many := make([]string, 21)
	for i := range many {
		many[i] = "eci-none" + strconv.Itoa(i)
	}
	c.refused(400, "InvalidParameter", "DescribeContainerGroupStatus", "ContainerGroupIds", idList(many...))
	if got := c.ok("DescribeContainerGroupStatus", "ContainerGroupIds", idList(a, "eci-none")); !slices.Equal(got.dataIDs(), []string{a}) {
		t.Errorf("with a missing id: %s", got.raw)
	}
	var got []string
	for token, pages := "", 0; pages < 3; pages++ {
		page := c.ok("DescribeContainerGroupStatus", append([]string{"Limit", "1", "NextToken", token}, tag...)...)
		if len(page.Data) != 1 || page.TotalCount != 2 {
			t.Errorf("page %d: %s", pages+1, page.raw)
		}
		got = append(got, page.dataIDs()...)
		if token = page.NextToken; token == "" {
			break
		}
	}
	if !slices.Equal(sorted(got...), sorted(a, b)) {
		t.Errorf("pages have %v", got)
	}
	part(t, "200", "many groups", settings{}, func(c *cloud) {
		for range 205 {
			c.create()
		}
		if a := c.ok("DescribeContainerGroupStatus", "Limit", "200"); len(a.Data) != 200 || a.TotalCount != 205 || a.NextToken == "" {
			t.Errorf("%d of %d", len(a.Data), a.TotalCount)
		}
		// 50 by the metadata, 200 by its text.
		if a := c.ok("DescribeContainerGroupStatus"); len(a.Data) != 50 && len(a.Data) != 200 {
			t.Errorf("%d by default", len(a.Data))
		}
	})
}

func TestE31StatusSpelling(t *testing.T) {
	c := row(t)
	id := c.running(crashes.in("Container.1")...)
	c.until("the container has run twice", 5*time.Minute, func() bool { return c.describe(id).Containers[0].RestartCount > 0 })
	check := func(c *cloud, id string) {
		t.Helper()
		status := c.podStatus(id)
		main := at(pick(status, "containerStatuses"), 0)
		if pick(status, "phase") != "Running" || pick(status, "podIP") != c.describe(id).IntranetIP || pick(status, "hostIP") == nil ||
			pick(at(pick(status, "podIPs"), 0), "ip") != pick(status, "podIP") || pick(status, "startTime") == nil {
			t.Errorf("status %s", text(status))
		}
		if n, ok := pick(main, "restartCount").(float64); !ok || n < 1 || pick(main, "name") != "main" || pick(main, "lastState", "terminated", "exitCode") != 3. {
			t.Errorf("container %s", text(main))
		}
		kinds := map[any]bool{}
		for i := 0; at(pick(status, "conditions"), i) != nil; i++ {
			o := at(pick(status, "conditions"), i)
			kinds[pick(o, "type")] = true
			if s := pick(o, "status"); s != "True" && s != "False" || pick(o, "lastTransitionTime") == nil {
				t.Errorf("condition %s", text(o))
			}
		}
		for _, kind := range []string{"PodScheduled", "ContainerInstanceCreated", "Initialized", "ContainersReady", "Ready"} {
			if !kinds[kind] {
				t.Errorf("no condition %s in %s", kind, text(status))
			}
		}
	}
	check(c, id)
	for name, tt := range map[string]struct {
		s    settings
		want []string
	}{
		"lower camel":   {settings{}, []string{`"podStatus"`, `"containerStatuses"`, `"restartCount"`, `"lastState"`, `"podIP"`, `"hostIP"`, `"running":{"startedAt"`, `"uuid"`}},
		"metadata case": {settings{statusInMetadataCase: true}, []string{`"PodStatus"`, `"ContainerStatuses"`, `"RestartCount"`, `"LastState"`, `"PodIp"`, `"HostIp"`, `"Running":{"StartedAtstartedAt"`, `"uuid"`, `"lastTransitionTime"`}},
	} {
		part(t, name, "a setting", tt.s, func(c *cloud) {
			id := c.running(works.in("Container.1")...)
			c.pass(time.Minute)
			c.until("the container runs again", time.Minute, func() bool { return c.describe(id).Containers[0].CurrentState.State == "Running" })
			a := c.ok("DescribeContainerGroupStatus", "ContainerGroupIds", idList(id))
			for _, member := range tt.want {
				if !strings.Contains(a.raw, member) {
					t.Errorf("no %s in %s", member, a.raw)
				}
			}
		})
	}
}

func TestE32Events(t *testing.T) {
	c := row(t)
	id := c.running()
	events := func(args ...string) []any {
		t.Helper()
		a := c.ok("DescribeContainerGroupEvents", append([]string{"ContainerGroupIds", idList(id)}, args...)...)
		if len(a.Data) != 1 || pick(a.Data[0], "containerGroupId") != id {
			t.Fatalf("answer %s", a.raw)
		}
		list, _ := pick(a.Data[0], "events").([]any)
		return list
	}
	all, service, agent := events(), events("EventSource", "EciService"), events("EventSource", "K8sAgent")
	if len(all) == 0 || len(all) != len(service)+len(agent) || len(agent) == 0 {
		t.Errorf("%d events, %d of the service and %d of the agent", len(all), len(service), len(agent))
	}
	reasons := map[any]bool{}
	for _, e := range agent {
		reasons[pick(e, "reason")] = true
		if pick(e, "type") == nil || pick(e, "message") == nil || pick(e, "count") == nil || pick(e, "firstTimestamp") == nil || pick(e, "lastTimestamp") == nil ||
			pick(e, "source", "component") == nil || pick(e, "involvedObject", "kind") != "Pod" || pick(e, "metadata", "name") == nil {
			t.Errorf("event %s", text(e))
		}
	}
	for _, reason := range []string{"Pulled", "Created", "Started"} {
		if !reasons[reason] {
			t.Errorf("no event %s in %s", reason, text(agent))
		}
	}
	c.refused(400, "InvalidParameter", "DescribeContainerGroupEvents", "EventSource", "Somebody")
	part(t, "50", "time", settings{}, func(c *cloud) {
		var args []string
		for i := range 19 {
			n := strconv.Itoa(i + 2)
			args = append(args, "Container."+n+".Name", "more"+n, "Container."+n+".Image", "nginx:"+n)
		}
		id := c.running(args...)
		c.pass(time.Minute)
		a := c.ok("DescribeContainerGroupEvents", "ContainerGroupIds", idList(id))
		list, _ := pick(a.Data[0], "events").([]any)
		if len(list) != 50 || !strings.Contains(text(list), "more20") {
			t.Errorf("%d events, want the newest 50", len(list))
		}
	})
}
