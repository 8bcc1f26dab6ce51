package eci

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestE08RequiredMembers(t *testing.T) {
	c := row(t)
	checked := 0
	for action, shape := range published(t).Served {
		for _, m := range shape.Request {
			// Elements are only asked for where there are any.
			if !m.Required {
				continue
			}
			checked++
			args := append([]string{"RegionId", c.region}, c.required(action)...)
			args = append(without(args, m.list()), "Unused", "x")
			if m.Path == "RegionId" {
				args = append(args, "RegionId", "-")
			}
			a := c.do(action, args...)
			if a.status != 400 || !strings.HasPrefix(a.Code, "Missing") || !a.names(strings.TrimSuffix(m.list(), ".1")) {
				t.Errorf("%s without %s: answer %d %s, want 400 Missing… that names it", action, m.Path, a.status, a.raw)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d required members are known", checked)
	}
	a := c.do("CreateContainerGroup", append(c.small(), "Container.2.Name", "second")...)
	if a.status != 400 || !strings.HasPrefix(a.Code, "Missing") || !a.names("Container.2.Image") {
		t.Errorf("a second container without an image: answer %d %s", a.status, a.raw)
	}
}

func TestE12RepeatedMembers(t *testing.T) {
	c := row(t)
	var args []string
	for i := range 12 {
		n := strconv.Itoa(i + 1)
		args = append(args, "Container.1.EnvironmentVar."+n+".Key", "V"+n, "Container.1.EnvironmentVar."+n+".Value", n)
	}
	args = append(args, "Container.2.Name", "second", "Container.2.Image", *image, "Container.2.EnvironmentVar.1.Key", "W",
		"Container.2.EnvironmentVar.1.Value", "w", "Container.2.Command.1", "sleep", "Container.2.Command.2", "9")
	g := c.describe(c.create(args...))
	if len(g.Containers) != 2 || g.Containers[0].Name != "main" || g.Containers[1].Name != "second" {
		t.Fatalf("containers %+v", g.Containers)
	}
	for i, v := range g.Containers[0].EnvironmentVars {
		if n := strconv.Itoa(i + 1); v.Key != "V"+n || v.Value != n {
			t.Errorf("variable %d is %+v", i+1, v)
		}
	}
	if len(g.Containers[0].EnvironmentVars) != 12 || len(g.Containers[1].EnvironmentVars) != 1 || !slices.Equal(g.Containers[1].Commands, []string{"sleep", "9"}) {
		t.Errorf("containers %+v", g.Containers)
	}
	for name, args := range map[string][]string{
		"from zero":     {"Container.1.Arg.0", "a"},
		"from two":      {"Container.1.Arg.2", "a"},
		"a gap":         {"Container.1.Arg.1", "a", "Container.1.Arg.3", "b"},
		"a nested gap":  {"Container.1.EnvironmentVar.1.Key", "A", "Container.1.EnvironmentVar.3.Key", "B"},
		"a zero before": {"Container.1.Arg.01", "a"},
		"no index":      {"Container.1.Arg", "a"},
		"no number":     {"Container.1.Arg.first", "a"},
		"a value":       {"Container.1", "a"},
		"below a value": {"ContainerGroupName.First", "a"},
	} {
		c.each(name, func(c *cloud) { c.refused(400, "InvalidParameter", "CreateContainerGroup", c.small(args...)...) })
	}
}

func TestE13EmptyValues(t *testing.T) {
	c := row(t)
	g := c.describe(c.create("Container.1.EnvironmentVar.1.Key", "NONE", "Container.1.EnvironmentVar.2.Key", "EMPTY",
		"Container.1.EnvironmentVar.2.Value", "", "Container.1.EnvironmentVar.3.Key", "FULL", "Container.1.EnvironmentVar.3.Value", "x"))
	got := fmt.Sprint(g.Containers[0].EnvironmentVars)
	if want := "[{NONE } {EMPTY } {FULL x}]"; got != want {
		t.Errorf("variables %s, want %s", got, want)
	}
}

// TestE14Limits tries the published shape of every action, and the documented
// limits at and beyond their bounds. DryRun creates nothing.
func TestE14Limits(t *testing.T) {
	c := row(t)
	for action, shape := range published(t).Served {
		c.each(action, func(c *cloud) {
			for _, m := range shape.Request {
				for what, args := range m.violations(shape.Request) {
					base := c.required(action)
					if action == "CreateContainerGroup" {
						base = append(base, "DryRun", "true")
					}
					a := c.do(action, append(base, args...)...)
					if a.status != 400 || !strings.HasPrefix(a.Code, "InvalidParameter") && a.Code != "NumberExceed.Tags" {
						c.t.Errorf("%s %s: answer %d %s, want 400 InvalidParameter", m.Path, what, a.status, a.raw)
					} else if a.Code == "InvalidParameter" && !a.names(m.top()) {
						c.t.Errorf("%s %s: message %q does not name it", m.Path, what, a.Message)
					}
				}
			}
		})
	}
	c.each("documented", documentedLimits)
}

// violations are requests that break the published shape of a member.
func (m member) violations(all []member) map[string][]string {
	out := map[string][]string{}
	name := m.first()
	if m.MaxItems > 0 {
		out[fmt.Sprintf("with %d elements", m.MaxItems+1)] = m.tooMany(all)
	}
	switch m.Type {
	case "integer":
		for _, text := range []string{"x", "1.5", "1e2", "99999999999999999999"} {
			out["as "+text] = []string{name, text}
		}
		if m.Format == "int32" {
			out["over 32 bits"] = []string{name, "2147483648"}
		}
	case "number":
		out["as x"] = []string{name, "x"}
	case "boolean":
		for _, text := range []string{"yes", "1", "True"} {
			out["as "+text] = []string{name, text}
		}
	}
	if len(m.Enum) > 0 {
		out["of no value"] = []string{name, "none-of-these"}
	}
	for bound, by := range map[string]int{m.Maximum: 1, m.Minimum: -1} {
		limit, err := strconv.ParseInt(bound, 10, 64)
		if err != nil || (by > 0 && limit == 1<<63-1) || (m.Type == "string" && by < 0) {
			continue
		}
		text := strconv.FormatInt(limit+int64(by), 10)
		if m.Type == "string" || m.Type == "array" {
			text = strings.Repeat("x", int(limit)+by)
		}
		out[fmt.Sprintf("beyond %d", limit)] = []string{name, text}
	}
	return out
}

// documentedLimits are bounds that the documentation states beyond the shape.
func documentedLimits(c *cloud) {
	l := knownFacts(c.t).Limits
	numbered := func(n int, each ...string) []string {
		var out []string
		for i := range n {
			for _, text := range each {
				out = append(out, strings.ReplaceAll(text, "#", strconv.Itoa(i+1)))
			}
		}
		return out
	}
	env := func(key, value string) []string {
		return []string{"Container.1.EnvironmentVar.1.Key", key, "Container.1.EnvironmentVar.1.Value", value}
	}
	file := func(bytes int) []string {
		return []string{"Volume.1.Name", "files", "Volume.1.Type", "ConfigFileVolume", "Volume.1.ConfigFileVolume.ConfigFileToPath.1.Path", "f",
			"Volume.1.ConfigFileVolume.ConfigFileToPath.1.Content", strings.Repeat("QUJD", bytes/4)}
	}
	tagged := func(key, value string) []string { return []string{"Tag.1.Key", key, "Tag.1.Value", value} }
	named := func(name string) []string { return []string{"ContainerGroupName", name} }
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, tt := range []struct {
		name string
		good bool
		args []string
	}{
		{"20 containers", true, numbered(l.Containers, "Container.#.Name", "c#", "Container.#.Image", *image)},
		{"21 containers", false, numbered(l.Containers+1, "Container.#.Name", "c#", "Container.#.Image", *image)},
		{"20 volumes", true, numbered(l.Volumes, "Volume.#.Name", "v#", "Volume.#.Type", "EmptyDirVolume")},
		{"21 volumes", false, numbered(l.Volumes+1, "Volume.#.Name", "v#", "Volume.#.Type", "EmptyDirVolume")},
		{"20 tags", true, numbered(l.Tags, "Tag.#.Key", "k#")},
		{"21 tags", false, numbered(l.Tags+1, "Tag.#.Key", "k#")},
		{"10 arguments", true, numbered(l.Args, "Container.1.Arg.#", "#")},
		{"11 arguments", false, numbered(l.Args+1, "Container.1.Arg.#", "#")},
		{"a file of 32 KB", true, file(l.ConfigFile)},
		{"a file of 33 KB", false, file(33 << 10)},
		{"a file that is not base64", false, append(file(4), "Volume.1.ConfigFileVolume.ConfigFileToPath.1.Content", "not base64!")},
		{"a variable of 256 characters", true, env("A", long(l.EnvValue))},
		{"a variable of 257 characters", false, env("A", long(l.EnvValue+1))},
		{"a variable of 256 wide characters", true, env("A", strings.Repeat("ü", l.EnvValue))},
		{"a key of 128 characters", true, env(long(l.EnvName), "")},
		{"a key of 129 characters", false, env(long(l.EnvName+1), "")},
		{"a key with a digit first", false, env("1A", "")},
		{"a key with a dot", false, env("a.b", "")},
		{"a key with _", true, env("_a_1", "")},
		{"a tag key of 64 characters", true, tagged(long(l.TagKey), long(l.TagValue))},
		{"a tag key of 65 characters", false, tagged(long(l.TagKey+1), "")},
		{"a tag value of 129 characters", false, tagged("k", long(l.TagValue+1))},
		{"a tag key of aliyun", false, tagged("aliyun-x", "")},
		{"a tag key of acs:", false, tagged("acs:x", "")},
		{"a tag key with http://", false, tagged("x-http://y", "")},
		{"a tag key with https://", false, tagged("https://y", "")},
		{"a name of 2 characters", true, named("ab")},
		{"a name of 1 character", false, named("a")},
		{"a name of 128 characters", true, named(long(128))},
		{"a name of 129 characters", false, named(long(129))},
		{"a name with a capital", false, named("aB")},
		{"a name with a hyphen first", false, named("-ab")},
		{"a name with a hyphen last", false, named("ab-")},
		{"a name with a dot", false, named("a.b")},
		{"a name with a hyphen within", true, named("a-b")},
		{"an image of 255 characters", true, []string{"Container.1.Image", long(255)}},
		{"11 vSwitches", false, []string{"VSwitchId", strings.TrimSuffix(strings.Repeat("vsw-x,", l.VSwitches+1), ",")}},
		{"5000 GiB of storage", true, []string{"EphemeralStorage", "5000"}},
		{"a token of 64 characters", true, []string{"ClientToken", nonce() + nonce()}},
		{"a token of 65 characters", false, []string{"ClientToken", long(l.Token + 1)}},
		{"a token of wide characters", false, []string{"ClientToken", "ü"}},
		{"no such restart policy", false, []string{"RestartPolicy", "Sometimes"}},
		{"no such DNS policy", false, []string{"DnsPolicy", "ClusterFirst"}},
		{"no such capability", false, []string{"Container.1.SecurityContext.Capability.Add.1", "SYS_ADMIN"}},
		{"the capability NET_ADMIN", true, []string{"Container.1.SecurityContext.Capability.Add.1", "NET_ADMIN"}},
		{"a success threshold of 2", false, []string{"Container.1.LivenessProbe.TcpSocket.Port", "1", "Container.1.LivenessProbe.SuccessThreshold", "2"}},
		{"a success threshold of 1", true, []string{"Container.1.LivenessProbe.TcpSocket.Port", "1", "Container.1.LivenessProbe.SuccessThreshold", "1"}},
		{"no such volume type", false, []string{"Volume.1.Name", "v", "Volume.1.Type", "Secret"}},
		{"no such medium", false, []string{"Volume.1.Name", "v", "Volume.1.Type", "EmptyDirVolume", "Volume.1.EmptyDirVolume.Medium", "Disk"}},
		{"a mount of no volume", false, []string{"Container.1.VolumeMount.1.Name", "v", "Container.1.VolumeMount.1.MountPath", "/v"}},
		{"a registry with a scheme", false, []string{"ImageRegistryCredential.1.Server", "https://r", "ImageRegistryCredential.1.UserName", "u",
			"ImageRegistryCredential.1.Password", "p"}},
		{"a spot duration of 2", false, []string{"SpotStrategy", "SpotAsPriceGo", "SpotDuration", "2"}},
		{"no such spot strategy", false, []string{"SpotStrategy", "Cheap"}},
		{"no such order of vSwitches", false, []string{"ScheduleStrategy", "Best"}},
		{"port 0", false, []string{"Container.1.Port.1.Port", "0"}},
		{"port 65536", false, []string{"Container.1.Port.1.Port", "65536"}},
	} {
		a := c.do("CreateContainerGroup", append(c.small(tt.args...), "DryRun", "true")...)
		switch {
		case tt.good && (a.status != 400 || a.Code != "DryRunOperation"):
			c.t.Errorf("%s: answer %d %s, want that it passes", tt.name, a.status, a.raw)
		case !tt.good && (a.status != 400 || !strings.HasPrefix(a.Code, "InvalidParameter")):
			c.t.Errorf("%s: answer %d %s, want 400 InvalidParameter", tt.name, a.status, a.raw)
		}
	}
	twice := c.small("Container.2.Name", "main", "Container.2.Image", *image)
	c.refused(400, "InvalidParameter.DuplicatedName", "CreateContainerGroup", twice...)
	c.refused(400, "InvalidParameter.DuplicatedVolumeName", "CreateContainerGroup",
		c.small("Volume.1.Name", "v", "Volume.1.Type", "EmptyDirVolume", "Volume.2.Name", "v", "Volume.2.Type", "EmptyDirVolume")...)
	c.refused(400, "MissingSpotPriceLimit", "CreateContainerGroup", c.small("SpotStrategy", "SpotWithPriceLimit")...)
}

func TestE15Sizes(t *testing.T) {
	c := row(t)
	made := func(cpu, gib float64, args ...string) {
		t.Helper()
		id := c.create(args...)
		if g := c.describe(id); g.CPU != cpu || g.Memory != gib {
			t.Errorf("%v gave %g vCPU %g GiB, want %g and %g", args, g.CPU, g.Memory, cpu, gib)
		}
		c.ok("DeleteContainerGroup", "ContainerGroupId", id, "Force", "true")
	}
	text := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	sized := func(cpu, gib float64) []string { return []string{"Cpu", text(cpu), "Memory", text(gib)} }

	table := knownFacts(t).Sizes.Table
	number := func(s string) float64 { f, _ := strconv.ParseFloat(s, 64); return f }
	for _, cpu := range slices.SortedFunc(maps.Keys(table), func(a, b string) int { return cmp.Compare(number(a), number(b)) }) {
		for _, gib := range table[cpu] {
			made(number(cpu), gib, sized(number(cpu), gib)...)
		}
	}
	for _, tt := range []struct{ cpu, gib, wantCPU, wantGiB float64 }{
		{7, 13, 8, 16}, {0.1, 0.1, 0.25, 0.5}, {0.3, 0.5, 0.5, 1}, {1, 1, 1, 2}, {1, 2.5, 1, 4}, {2, 3, 2, 4}, {3, 5, 4, 8},
		{9, 10, 12, 12}, {33, 64, 52, 96}, {60, 200, 64, 256},
	} {
		made(tt.wantCPU, tt.wantGiB, sized(tt.cpu, tt.gib)...)
	}
	// Without a size of its own, a group has that of its containers.
	made(2, 4, "Container.1.Cpu", "1.5", "Container.1.Memory", "3", "Container.2.Name", "second", "Container.2.Image", *image,
		"Container.2.Cpu", "0.25", "Container.2.Memory", "0.5")
	for _, bad := range [][]string{
		sized(0.25, 64), sized(64.5, 128), sized(64, 513), sized(1, 16), sized(-1, 2), sized(0, 2), sized(2, -4),
		{"Cpu", "2", "Memory", "4", "Container.1.Cpu", "4"}, {"Cpu", "2", "Memory", "4", "Container.1.Memory", "5"},
		{"Container.1.Cpu", "65"}, {"Container.1.Cpu", "-1"},
	} {
		c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", c.small(bad...)...)
	}
}

func TestE16DefaultSizeAndSpotSizes(t *testing.T) {
	c := row(t)
	if g := c.describe(c.create()); g.CPU != 2 || g.Memory != 4 {
		t.Errorf("a group of no size has %g vCPU %g GiB, want 2 and 4", g.CPU, g.Memory)
	}
	for _, size := range [][2]string{{"0.25", "0.5"}, {"0.5", "1"}, {"1", "2"}, {"1", "8"}, {"2", "32"}} {
		c.refused(400, "InvalidSpotCpuMemorySpec", "CreateContainerGroup",
			c.small("SpotStrategy", "SpotAsPriceGo", "Cpu", size[0], "Memory", size[1])...)
	}
	g := c.describe(c.create("SpotStrategy", "SpotAsPriceGo", "Cpu", "2", "Memory", "1"))
	if g.CPU != 2 || g.Memory != 2 || g.SpotStrategy != "SpotAsPriceGo" {
		t.Errorf("spot group %+v, want 2 vCPU and 2 GiB, for 1 GiB is not offered with spot", g)
	}
	// The default size is large enough for spot.
	c.create("SpotStrategy", "SpotAsPriceGo")
}
