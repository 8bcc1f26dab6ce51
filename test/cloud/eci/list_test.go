package eci

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

func TestE27Paging(t *testing.T) {
	c := newClient(t)
	var ids []string
	for range 45 {
		ids = append(ids, c.create())
		c.clock.Step(time.Millisecond)
	}
	var got []string
	for token, pages := "", 1; ; pages++ {
		r := c.ok("DescribeContainerGroups", "NextToken", token)
		if r.body.TotalCount != 45 {
			t.Errorf("TotalCount %d", r.body.TotalCount)
		}
		for _, g := range r.body.ContainerGroups {
			got = append(got, g.ContainerGroupID)
		}
		if token = r.body.NextToken; token == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if !slices.Equal(got, ids) {
		t.Error("paging lost, doubled or mixed groups")
	}
	asJSON := func(ids []string) string {
		text, err := json.Marshal(ids)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	r := c.ok("DescribeContainerGroups", "ContainerGroupIds", asJSON([]string{ids[3], "eci-missing", ids[1]}))
	if len(r.body.ContainerGroups) != 2 || r.body.TotalCount != 2 {
		t.Errorf("missing ids must be absent: %s", r.raw)
	}
	c.ok("DescribeContainerGroups", "ContainerGroupIds", asJSON(ids[:20]))
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", asJSON(ids[:21]))
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "ContainerGroupIds", ids[0])
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "Limit", "21")
	c.refused(400, "InvalidParameter", "DescribeContainerGroups", "NextToken", "!")
	if r := c.ok("DescribeContainerGroups", "Limit", "7"); len(r.body.ContainerGroups) != 7 || r.body.NextToken == "" {
		t.Errorf("Limit 7: %d groups", len(r.body.ContainerGroups))
	}
	if r := c.ok("DescribeContainerGroups", "RegionId", "ap-southeast-1"); r.body.TotalCount != 0 {
		t.Errorf("another region shows %d groups", r.body.TotalCount)
	}
	c.refused(404, "InvalidRegionId.NotFound", "DescribeContainerGroups", "RegionId", "mars-1")
}

func TestE28Filters(t *testing.T) {
	c := newClient(t)
	a := c.create("Tag.1.Key", "app", "Tag.1.Value", "shop", "Tag.2.Key", "env", "Tag.2.Value", "prod", "ResourceGroupId", "rg-1")
	c.clock.Step(time.Minute)
	b := c.create("ContainerGroupName", "other", "VSwitchId", "vsw-i", "Tag.1.Key", "app", "Tag.1.Value", "shop")
	tests := []struct {
		args []string
		want []string
	}{
		{nil, []string{a, b}},
		{[]string{"Status", "Running"}, []string{a}},
		{[]string{"Status", "Scheduling"}, []string{b}},
		{[]string{"Status", "Failed"}, nil},
		{[]string{"Tag.1.Key", "app", "Tag.1.Value", "shop"}, []string{a, b}},
		{[]string{"Tag.1.Key", "app"}, []string{a, b}},
		{[]string{"Tag.1.Key", "app", "Tag.1.Value", "shop", "Tag.2.Key", "env", "Tag.2.Value", "prod"}, []string{a}},
		{[]string{"Tag.1.Key", "app", "Tag.1.Value", "bar"}, nil},
		{[]string{"ContainerGroupName", "other"}, []string{b}},
		{[]string{"ZoneId", "cn-hangzhou-h"}, []string{a}},
		{[]string{"VSwitchId", "vsw-i"}, []string{b}},
		{[]string{"ResourceGroupId", "rg-1"}, []string{a}},
	}
	for _, tt := range tests {
		var got []string
		for _, g := range c.ok("DescribeContainerGroups", tt.args...).body.ContainerGroups {
			got = append(got, g.ContainerGroupID)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.args, got, tt.want)
		}
	}
}

func TestE29WithEvent(t *testing.T) {
	c := newClient(t)
	id := c.create()
	for i := range 60 {
		c.live(id).AddEvent(sim.Normal, "Test", fmt.Sprint("event ", i))
	}
	if n := len(c.describe(id).Events); n != 50 {
		t.Errorf("%d events, want 50", n)
	}
	if n := len(c.ok("DescribeContainerGroups").body.ContainerGroups[0].Events); n != 0 {
		t.Errorf("%d events unasked for", n)
	}
}

func TestE30StatusDelta(t *testing.T) {
	c := newClient(t)
	old := c.create()
	c.clock.Step(10 * time.Minute)
	fresh := c.create()
	changed := func() []any {
		var ids []any
		for _, d := range c.ok("DescribeContainerGroupStatus", "SinceSecond", "60").body.Data {
			ids = append(ids, d["containerGroupId"])
		}
		return ids
	}
	if got := changed(); !slices.Equal(got, []any{fresh}) {
		t.Errorf("changed %v, want %s", got, fresh)
	}
	if err := c.live(old).Exit("nginx", 1); err != nil {
		t.Fatal(err)
	}
	if got := changed(); !slices.Equal(got, []any{old, fresh}) {
		t.Errorf("changed %v, want both", got)
	}
	for _, bad := range []string{"59", "3601", "x"} {
		c.refused(400, "InvalidParameter", "DescribeContainerGroupStatus", "SinceSecond", bad)
	}
	c.refused(400, "InvalidParameter", "DescribeContainerGroupStatus", "Limit", "201")
	r := c.ok("DescribeContainerGroupStatus", "Limit", "1")
	if len(r.body.Data) != 1 || r.body.NextToken == "" || r.body.TotalCount != 2 {
		t.Errorf("page %s", r.raw)
	}
	if r = c.ok("DescribeContainerGroupStatus", "Limit", "1", "NextToken", r.body.NextToken); len(r.body.Data) != 1 || r.body.NextToken != "" {
		t.Errorf("last page %s", r.raw)
	}
}

func TestE31StatusSpellings(t *testing.T) {
	for _, inMetadataCase := range []bool{false, true} {
		c := newClient(t, func(o *Options) { o.StatusInMetadataCase = inMetadataCase })
		c.create()
		c.clock.Step(time.Minute)
		raw := string(c.ok("DescribeContainerGroupStatus").raw)
		want := []string{`"podStatus":`, `"containerStatuses":`, `"restartCount":0`, `"state":{"running":{"startedAt":"2026-03-01T12:00:10Z"}}`, `"podIP":"10.0.0.1"`}
		if inMetadataCase {
			want = []string{`"PodStatus":`, `"ContainerStatuses":`, `"RestartCount":0`, `"State":{"Running":{"StartedAtstartedAt":"2026-03-01T12:00:10Z"}}`, `"PodIp":"10.0.0.1"`, `"uuid":`, `"lastTransitionTime":`}
		}
		for _, w := range want {
			if !strings.Contains(raw, w) {
				t.Errorf("no %s in %s", w, raw)
			}
		}
	}
}

func TestE32Events(t *testing.T) {
	c := newClient(t)
	c.create()
	c.clock.Step(time.Minute)
	for source, want := range map[string]int{"": 5, "K8sAgent": 4, "EciService": 1} {
		args := []string{"EventSource", source}
		if source == "" {
			args = nil
		}
		data := c.ok("DescribeContainerGroupEvents", args...).body.Data
		if got := len(data[0]["events"].([]any)); got != want {
			t.Errorf("source %q: %d events, want %d", source, got, want)
		}
	}
	c.refused(400, "InvalidParameter", "DescribeContainerGroupEvents", "EventSource", "Other")
}

func TestE43Logs(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Sim.Plan = func(_ sim.Spec, _ sim.Container, n int) (sim.Plan, bool) {
			return sim.Plan{Log: []string{fmt.Sprint("run ", n)}}, true
		}
	})
	id := c.create()
	log := func(args ...string) string {
		t.Helper()
		return c.ok("DescribeContainerLog", append([]string{"ContainerGroupId", id, "ContainerName", "nginx"}, args...)...).body.Content
	}
	if got := log(); got != "" {
		t.Errorf("log before the start: %q", got)
	}
	c.clock.Step(10 * time.Second)
	c.clock.Step(50 * time.Second)
	lines := make([]string, 3000)
	for i := range lines {
		lines[i] = fmt.Sprint("line ", i)
	}
	if err := c.live(id).Print("nginx", lines...); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args  []string
		lines int
		first string
	}{
		{nil, 500, "line 2500"},
		{[]string{"Tail", "2000"}, 2000, "line 1000"},
		{[]string{"Tail", "1", "Timestamps", "true"}, 1, "2026-03-01T12:01:00Z line 2999"},
		{[]string{"Tail", "2", "LimitBytes", "4"}, 1, "line"},
		{[]string{"SinceSeconds", "10", "Tail", "2000"}, 2000, "line 1000"},
		{[]string{"StartTime", "2026-03-01T12:00:59Z"}, 500, "line 2500"},
		{[]string{"StartTime", "2026-03-01T12:01:01Z"}, 1, ""},
		{[]string{"LastTime", "true"}, 1, ""},
	} {
		got := strings.Split(strings.TrimSuffix(log(tt.args...), "\n"), "\n")
		if len(got) != tt.lines || got[0] != tt.first {
			t.Errorf("%v: %d lines from %q, want %d from %q", tt.args, len(got), got[0], tt.lines, tt.first)
		}
	}
	for _, bad := range [][]string{{"Tail", "2001"}, {"Tail", "0"}, {"LimitBytes", "1048577"}, {"SinceSeconds", "0"}, {"StartTime", "yesterday"}, {"ContainerName", "other"}} {
		c.refused(400, "InvalidParameter", "DescribeContainerLog", append([]string{"ContainerGroupId", id, "ContainerName", "nginx"}, bad...)...)
	}
	if err := c.live(id).Print("nginx", slices.Repeat([]string{strings.Repeat("x", 9999)}, 200)...); err != nil {
		t.Fatal(err)
	}
	if got := len(log()); got != 1<<20 {
		t.Errorf("%d bytes, want 1 MiB", got)
	}
	if err := c.live(id).Exit("nginx", 1); err != nil {
		t.Fatal(err)
	}
	c.clock.Step(time.Minute)
	if got := log("LastTime", "true", "Tail", "1"); !strings.HasPrefix(got, "xxx") {
		t.Errorf("previous run %.20q", got)
	}
	if got := log(); got != "run 1\n" {
		t.Errorf("present run %q", got)
	}
}

// Whatever an answer holds is published for it.
func TestAnswersHoldPublishedMembersOnly(t *testing.T) {
	c := newClient(t, func(o *Options) { o.StatusInMetadataCase = true })
	c.create("RestartPolicy", "OnFailure", "InitContainer.1.Name", "i", "InitContainer.1.Image", "i", "InitContainer.1.Command.1", "c",
		"Container.1.Command.1", "c", "Container.1.Arg.1", "a", "Container.1.Port.1.Port", "80",
		"Container.1.EnvironmentVar.1.Key", "IP", "Container.1.EnvironmentVar.1.FieldRef.FieldPath", "status.podIP",
		"Container.1.ReadinessProbe.HttpGet.Port", "80", "Container.1.LivenessProbe.TcpSocket.Port", "80",
		"Volume.1.Name", "v", "Volume.1.Type", "EmptyDirVolume", "Volume.1.EmptyDirVolume.Medium", "Memory", "Volume.1.EmptyDirVolume.SizeLimit", "1Gi",
		"Volume.2.Name", "f", "Volume.2.Type", "ConfigFileVolume", "Volume.2.ConfigFileVolume.ConfigFileToPath.1.Path", "p",
		"Container.1.VolumeMount.1.Name", "v", "Container.1.VolumeMount.1.MountPath", "/v", "Container.1.VolumeMount.1.ReadOnly", "true",
		"Tag.1.Key", "k", "HostAliase.1.Ip", "10.0.0.9", "HostAliase.1.Hostname.1", "h", "DnsPolicy", "None",
		"DnsConfig.NameServer.1", "10.0.0.2", "DnsConfig.Search.1", "s", "DnsConfig.Option.1.Name", "ndots",
		"SecurityContext.Sysctl.1.Name", "n", "SecurityContext.Sysctl.1.Value", "1", "EphemeralStorage", "20", "ResourceGroupId", "rg-1",
		"RamRoleName", "r", "SpotStrategy", "SpotWithPriceLimit", "SpotPriceLimit", "0.5")
	c.clock.Step(20 * time.Second)
	for _, g := range c.server.Fleet().Groups() {
		if err := g.Exit("nginx", 1); err != nil {
			t.Fatal(err)
		}
	}
	c.clock.Step(10 * time.Second)
	var meta struct {
		Served map[string]struct{ Response []string }
	}
	if err := json.Unmarshal(actionsJSON, &meta); err != nil {
		t.Fatal(err)
	}
	for action, args := range map[string][]string{
		"DescribeContainerGroups": {"WithEvent", "true"}, "DescribeContainerGroupStatus": nil,
		"DescribeContainerGroupEvents": nil, "DescribeRegions": nil,
	} {
		known := map[string]bool{}
		for _, path := range meta.Served[action].Response {
			path = strings.ReplaceAll(path, "[]", "")
			for ; path != ""; path, _, _ = cutLast(path) {
				known[path] = true
			}
		}
		var body any
		if err := json.Unmarshal(c.ok(action, args...).raw, &body); err != nil {
			t.Fatal(err)
		}
		walk("", body, func(path string) {
			if !known[path] {
				t.Errorf("%s answers %s, which is not published", action, path)
			}
		})
	}
}

func cutLast(path string) (before, after string, found bool) {
	if i := strings.LastIndex(path, "."); i >= 0 {
		return path[:i], path[i+1:], true
	}
	return "", path, false
}

func walk(path string, v any, visit func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			child := strings.TrimPrefix(path+"."+name, ".")
			visit(child)
			walk(child, value, visit)
		}
	case []any:
		for _, value := range v {
			walk(path, value, visit)
		}
	}
}
