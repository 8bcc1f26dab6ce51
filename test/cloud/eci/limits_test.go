package eci

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

func repeat(n int, format ...string) []string {
	var out []string
	for i := 1; i <= n; i++ {
		for _, f := range format {
			if strings.Contains(f, "%") {
				f = fmt.Sprintf(f, i)
			}
			out = append(out, f)
		}
	}
	return out
}

func TestE14Limits(t *testing.T) {
	c := newClient(t)
	file := func(bytes int) []string {
		return []string{
			"Volume.1.Name", "v", "Volume.1.Type", "ConfigFileVolume",
			"Volume.1.ConfigFileVolume.ConfigFileToPath.1.Path", "f",
			"Volume.1.ConfigFileVolume.ConfigFileToPath.1.Content", base64.StdEncoding.EncodeToString(make([]byte, bytes)),
		}
	}
	containers := func(n int) []string {
		return append([]string{"ContainerGroupName", "web"}, repeat(n, "Container.%d.Name", "c%d", "Container.%d.Image", "i")...)
	}
	env := func(key, value string) []string {
		return nginx("Container.1.EnvironmentVar.1.Key", key, "Container.1.EnvironmentVar.1.Value", value)
	}
	tests := []struct {
		name       string
		ok, refuse []string
		code       string // InvalidParameter if empty
	}{
		{"containers", containers(20), containers(21), ""},
		{"structural containers", containers(1), containers(42), ""},
		{"config file", nginx(file(24576)...), nginx(file(33 * 1024)...), ""},
		{"config file encoding", nginx(file(1)...), nginx(append(file(1), "Volume.1.ConfigFileVolume.ConfigFileToPath.1.Content", "not base64!")...), ""},
		{"env value", env("A", strings.Repeat("ü", 256)), env("A", strings.Repeat("a", 257)), ""},
		{"env key", env("_A1", ""), env("1A", ""), ""},
		{"env key characters", env("A", ""), env("A.B", ""), ""},
		{"arguments", nginx(repeat(10, "Container.1.Arg.%d", "a")...), nginx(repeat(11, "Container.1.Arg.%d", "a")...), ""},
		{"tags", nginx(repeat(20, "Tag.%d.Key", "k%d")...), nginx(repeat(21, "Tag.%d.Key", "k%d")...), ""},
		{"tag key", nginx("Tag.1.Key", "k"), nginx("Tag.1.Key", "aliyun-x"), ""},
		{"tag value", nginx("Tag.1.Key", "k", "Tag.1.Value", strings.Repeat("v", 128)), nginx("Tag.1.Key", "k", "Tag.1.Value", strings.Repeat("v", 129)), ""},
		{"volumes", nginx(repeat(20, "Volume.%d.Name", "v%d", "Volume.%d.Type", "EmptyDirVolume")...), nginx(repeat(21, "Volume.%d.Name", "v%d", "Volume.%d.Type", "EmptyDirVolume")...), ""},
		{"volume names", nginx(repeat(2, "Volume.%d.Name", "v%d", "Volume.%d.Type", "EmptyDirVolume")...), nginx(repeat(2, "Volume.%d.Name", "v", "Volume.%d.Type", "EmptyDirVolume")...), "InvalidParameter.DuplicatedVolumeName"},
		{"container names", containers(2), append(containers(2), "Container.2.Name", "c1"), "InvalidParameter.DuplicatedName"},
		{"group name", nginx("ContainerGroupName", "a1"), nginx("ContainerGroupName", "A1"), ""},
		{"group name length", nginx("ContainerGroupName", strings.Repeat("a", 128)), nginx("ContainerGroupName", strings.Repeat("a", 129)), ""},
		{"group name end", nginx("ContainerGroupName", "a-b"), nginx("ContainerGroupName", "a-"), ""},
		{"image", nginx("Container.1.Image", strings.Repeat("i", 255)), nginx("Container.1.Image", strings.Repeat("i", 256)), ""},
		{"mount", nginx(append(file(1), "Container.1.VolumeMount.1.Name", "v", "Container.1.VolumeMount.1.MountPath", "/m")...), nginx("Container.1.VolumeMount.1.Name", "v", "Container.1.VolumeMount.1.MountPath", "/m"), ""},
		{"restart policy", nginx("RestartPolicy", "OnFailure"), nginx("RestartPolicy", "Sometimes"), ""},
		{"pull policy", nginx("Container.1.ImagePullPolicy", "Always"), nginx("Container.1.ImagePullPolicy", "Maybe"), ""},
		{"registry", nginx("ImageRegistryCredential.1.Server", "r.example", "ImageRegistryCredential.1.UserName", "u", "ImageRegistryCredential.1.Password", "p"), nginx("ImageRegistryCredential.1.Server", "https://r.example", "ImageRegistryCredential.1.UserName", "u", "ImageRegistryCredential.1.Password", "p"), ""},
		{"field", nginx("Container.1.EnvironmentVar.1.Key", "IP", "Container.1.EnvironmentVar.1.FieldRef.FieldPath", "status.podIP"), nginx("Container.1.EnvironmentVar.1.Key", "IP", "Container.1.EnvironmentVar.1.FieldRef.FieldPath", "spec.nodeName"), ""},
		{"client token", nginx("ClientToken", strings.Repeat("t", 64)), nginx("ClientToken", strings.Repeat("t", 65)), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.t = t
			c.ok("CreateContainerGroup", tt.ok...)
			if tt.code == "" {
				tt.code = "InvalidParameter"
			}
			c.refused(400, tt.code, "CreateContainerGroup", tt.refuse...)
		})
	}
}

func TestE15Sizes(t *testing.T) {
	tests := []struct {
		cpu, memory         string
		wantCPU, wantMemory float64 // zero: refused
	}{
		{"2", "4", 2, 4},
		{"0.25", "0.5", 0.25, 0.5},
		{"0.3", "0.5", 0.5, 1},
		{"7", "13", 8, 16},
		{"2", "1", 2, 1},
		{"1", "-", 1, 2},
		{"-", "16", 0.25, 0}, // no vCPU given: the smallest has at most 1 GiB
		{"0.25", "64", 0, 0},
		{"65", "128", 0, 0},
		{"64", "513", 0, 0},
		{"-1", "1", 0, 0},
	}
	c := newClient(t)
	for _, tt := range tests {
		args := nginx("Cpu", tt.cpu, "Memory", tt.memory)
		if tt.wantMemory == 0 {
			c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", args...)
			continue
		}
		g := c.describe(c.ok("CreateContainerGroup", args...).body.ContainerGroupID)
		if g.CPU != tt.wantCPU || g.Memory != tt.wantMemory {
			t.Errorf("%s/%s: %v/%v, want %v/%v", tt.cpu, tt.memory, g.CPU, g.Memory, tt.wantCPU, tt.wantMemory)
		}
	}
	sum := c.describe(c.create("Container.1.Cpu", "0.5", "Container.1.Memory", "0.5", "Container.2.Name", "b", "Container.2.Image", "b", "Container.2.Cpu", "0.5", "Container.2.Memory", "1"))
	if sum.CPU != 1 || sum.Memory != 2 {
		t.Errorf("the containers' sum: %v/%v, want 1/2", sum.CPU, sum.Memory)
	}
	c.refused(400, "InvalidParameter.CPU.Memory", "CreateContainerGroup", nginx("Cpu", "1", "Memory", "2", "Container.1.Cpu", "2")...)
}

func TestE16DefaultAndSpotSizes(t *testing.T) {
	c := newClient(t)
	if g := c.describe(c.create()); g.CPU != 2 || g.Memory != 4 || g.SpotStrategy != "NoSpot" {
		t.Errorf("default %v/%v %s", g.CPU, g.Memory, g.SpotStrategy)
	}
	c.refused(400, "InvalidSpotCpuMemorySpec", "CreateContainerGroup", nginx("SpotStrategy", "SpotAsPriceGo", "Cpu", "1", "Memory", "2")...)
	if g := c.describe(c.create("SpotStrategy", "SpotAsPriceGo", "Cpu", "2", "Memory", "1")); g.Memory != 2 || g.SpotStrategy != "SpotAsPriceGo" {
		t.Errorf("spot %v/%v %s", g.CPU, g.Memory, g.SpotStrategy)
	}
	c.refused(400, "MissingSpotPriceLimit", "CreateContainerGroup", nginx("SpotStrategy", "SpotWithPriceLimit")...)
}
