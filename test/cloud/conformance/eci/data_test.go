package eci

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The published facts of the service; see the README of the directory.
const metadata = "../../eci/metadata"

type actions struct {
	// Published maps every action to its HTTP methods.
	Published map[string][]string
	// Served are the shapes of the actions that this suite knows.
	Served map[string]struct {
		Request []member
		Errors  []struct {
			Status int `json:"http_status"`
			Code   string
		}
	}
}

// member is the published shape of a request member: its path has .N for the
// elements of lists.
type member struct {
	Path, Type, Format string
	Required           bool
	MaxItems           int
	Maximum, Minimum   string
	Enum               []string
}

type facts struct {
	Sizes  struct{ Table map[string][]float64 } `json:"spec_vcpu_gib"`
	Spot   struct{ Table map[string][]float64 } `json:"spec_spot_vcpu_gib"`
	Limits struct {
		Containers int `json:"containers_per_group"`
		Volumes    int `json:"volumes_per_group"`
		Tags       int
		TagKey     int `json:"tag_key_chars"`
		TagValue   int `json:"tag_value_chars"`
		ConfigFile int `json:"config_file_base64_bytes"`
		EnvName    int `json:"env_name_chars"`
		EnvValue   int `json:"env_value_chars"`
		Args       int
		VSwitches  int `json:"vswitch_ids"`
		Token      int `json:"client_token_ascii_chars"`
		Events     int `json:"events_per_group"`
	}
}

var readData = sync.OnceValues(func() (data struct {
	actions actions
	facts   facts
}, err error) {
	for name, to := range map[string]any{"actions.json": &data.actions, "facts.json": &data.facts} {
		text, err := os.ReadFile(filepath.Join(metadata, name))
		if err != nil {
			return data, err
		}
		if err := json.Unmarshal(text, to); err != nil {
			return data, err
		}
	}
	return data, nil
})

func published(t *testing.T) actions {
	t.Helper()
	data, err := readData()
	if err != nil {
		t.Fatal(err)
	}
	return data.actions
}

func knownFacts(t *testing.T) facts {
	t.Helper()
	data, err := readData()
	if err != nil {
		t.Fatal(err)
	}
	return data.facts
}

// first is the wire name of a member in the first elements of all lists.
func (m member) first() string { return firstOf(m.Path) }

// list is the wire name of a list without the index.
func (m member) list() string { return firstOf(strings.TrimSuffix(m.Path, ".N")) }

// firstOf puts the index 1 in for every N of a path.
func firstOf(path string) string {
	parts := strings.Split(path, ".")
	for i := range parts {
		if parts[i] == "N" {
			parts[i] = "1"
		}
	}
	return strings.Join(parts, ".")
}

// top is the name of the top-level member that a member is part of.
func (m member) top() string {
	name, _, _ := strings.Cut(m.Path, ".")
	return name
}

// elements are the members below a list of structures.
func (m member) elements(all []member) []member {
	var out []member
	for _, o := range all {
		if strings.HasPrefix(o.Path, m.Path+".") {
			out = append(out, o)
		}
	}
	return out
}

// tooMany are one more element than a list may have.
func (m member) tooMany(all []member) []string {
	below := ""
	for _, e := range m.elements(all) {
		if e.Type == "string" {
			below = firstOf(strings.TrimPrefix(e.Path, m.Path))
			break
		}
	}
	var out []string
	for i := range m.MaxItems + 1 {
		out = append(out, m.list()+"."+strconv.Itoa(i+1)+below, "x"+strconv.Itoa(i))
	}
	return out
}

// required are the members without which a call of an action is refused for what
// it lacks.
func (c *cloud) required(action string) []string {
	args := map[string][]string{
		"CreateContainerGroup":      c.small(),
		"UpdateContainerGroup":      {"ContainerGroupId", "eci-none"},
		"DeleteContainerGroup":      {"ContainerGroupId", "eci-none"},
		"RestartContainerGroup":     {"ContainerGroupId", "eci-none"},
		"DescribeContainerLog":      {"ContainerGroupId", "eci-none", "ContainerName", "main"},
		"ExecContainerCommand":      {"ContainerGroupId", "eci-none", "ContainerName", "main", "Command", `["true"]`},
		"DescribeAvailableResource": {"DestinationResource.Category", "InstanceType", "DestinationResource.Value", "ecs.c6.large"},
		"CreateImageCache":          {"ImageCacheName", "conformance", "Image.1", *image},
		"UpdateImageCache":          {"ImageCacheId", "imc-none"},
		"DeleteImageCache":          {"ImageCacheId", "imc-none"},
		"TagResources":              {"ResourceType", "ContainerGroup", "ResourceId.1", "eci-none", "Tag.1.Key", "k"},
		"UntagResources":            {"ResourceType", "ContainerGroup", "ResourceId.1", "eci-none"},
		"ListTagResources":          {"ResourceType", "ContainerGroup"},

		"DescribeContainerGroupMetric":      {"ContainerGroupId", "eci-none"},
		"DescribeMultiContainerGroupMetric": {"ContainerGroupIds", `["eci-none"]`},
	}
	return args[action]
}

// without leaves out what was to be sent at or below a member.
func without(args []string, name string) []string {
	var out []string
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] != name && !strings.HasPrefix(args[i], name+".") {
			out = append(out, args[i], args[i+1])
		}
	}
	return out
}

// wireTimes finds the times of an answer by the names of their members.
var wireTimes = regexp.MustCompile(`"([A-Za-z]*(?:Time|Timestamp|At|startTime))":\s*"([^"]*)"`)

// checkTimes fails the test for each time that is not in UTC with seconds and Z,
// and returns how many times there are. A time that has not come is empty.
func checkTimes(t *testing.T, raw string) int {
	t.Helper()
	n := 0
	for _, m := range wireTimes.FindAllStringSubmatch(raw, -1) {
		if m[2] == "" {
			continue
		}
		n++
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`).MatchString(m[2]) {
			t.Errorf("%s is %q, want UTC with seconds and Z", m[1], m[2])
		}
	}
	return n
}
