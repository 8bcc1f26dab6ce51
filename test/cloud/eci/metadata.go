package eci

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

//go:embed metadata/actions.json
var actionsJSON []byte

//go:embed metadata/facts.json
var factsJSON []byte

// apiVersion is the only version of the service.
const apiVersion = "2018-08-08"

// metadata is what the vendor publishes about the service.
type metadata struct {
	// published maps every action of the service to its HTTP methods.
	published map[string][]string
	// served holds the actions that this package answers.
	served map[string]*actionMeta
	facts  facts
}

type actionMeta struct {
	root   *memberMeta // a struct of the request members
	errors []publishedError
}

type publishedError struct {
	Status  int    `json:"http_status"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// memberMeta is the published shape of one request member.
type memberMeta struct {
	Path     string   `json:"path"`
	Type     string   `json:"type"` // string, integer, number, boolean, array, object; "" for a struct
	Format   string   `json:"format"`
	Required bool     `json:"required"`
	MaxItems int      `json:"maxItems"`
	Maximum  string   `json:"maximum"` // of the value, or of a string's length
	Minimum  string   `json:"minimum"`
	Enum     []string `json:"enum"`

	fields map[string]*memberMeta // of a struct
	order  []string               // names of fields as published
	item   *memberMeta            // of an array
}

type facts struct {
	FlowControl struct {
		WindowSeconds int            `json:"window_seconds"`
		Actions       map[string]int `json:"actions"`
	} `json:"rate_limits_flow_control"`
	TokenBucket map[string]json.RawMessage    `json:"rate_limits_token_bucket"`
	Sizes       struct{ Table sizeTableJSON } `json:"spec_vcpu_gib"`
	SpotSizes   struct{ Table sizeTableJSON } `json:"spec_spot_vcpu_gib"`
	Default     struct{ VCPU, GiB float64 }   `json:"default_spec"`
	Prices      struct {
		CNY struct {
			VCPU float64 `json:"vcpu_second"`
			GiB  float64 `json:"gib_second"`
		}
	} `json:"prices"`
	Limits struct {
		Containers       int `json:"containers_per_group"`
		Volumes          int `json:"volumes_per_group"`
		Tags             int `json:"tags"`
		TagKey           int `json:"tag_key_chars"`
		TagValue         int `json:"tag_value_chars"`
		ConfigFileBase64 int `json:"config_file_base64_bytes"`
		EnvName          int `json:"env_name_chars"`
		EnvValue         int `json:"env_value_chars"`
		Args             int `json:"args"`
		VSwitchIDs       int `json:"vswitch_ids"`
		ClientToken      int `json:"client_token_ascii_chars"`
		DescribeIDs      int `json:"describe_ids_max"`
		DescribeLimit    int `json:"describe_groups_limit_max"`
		Events           int `json:"events_per_group"`
		LogTailDefault   int `json:"log_tail_default"`
		LogTailMax       int `json:"log_tail_max"`
		ExecItems        int `json:"exec_command_items"`
		ExecItemChars    int `json:"exec_command_item_chars"`
		ExecURLSeconds   int `json:"exec_http_url_valid_seconds"`

		MetricRecords int   `json:"metric_records"`
		MetricPeriods []int `json:"metric_periods"`
	} `json:"limits"`
}

// published is the metadata, read once. The files are part of this package, so
// a mistake in them is a mistake in the program.
var published = sync.OnceValue(func() *metadata {
	m, err := readMetadata()
	if err != nil {
		panic(fmt.Sprintf("metadata of package eci: %v", err))
	}
	return m
})

func readMetadata() (*metadata, error) {
	var file struct {
		Published map[string][]string
		Served    map[string]struct {
			Request []*memberMeta
			Errors  []publishedError
		}
	}
	if err := json.Unmarshal(actionsJSON, &file); err != nil {
		return nil, fmt.Errorf("actions: %w", err)
	}
	m := &metadata{published: file.Published, served: map[string]*actionMeta{}}
	if err := json.Unmarshal(factsJSON, &m.facts); err != nil {
		return nil, fmt.Errorf("facts: %w", err)
	}
	for name, a := range file.Served {
		root := &memberMeta{}
		for _, member := range a.Request {
			if err := root.add(member); err != nil {
				return nil, fmt.Errorf("action %s: %w", name, err)
			}
		}
		m.served[name] = &actionMeta{root: root, errors: a.Errors}
	}
	return m, nil
}

// add puts a member at its dotted path. The path of an array ends in .N, and
// .N inside a path is an element.
func (m *memberMeta) add(member *memberMeta) error {
	at := m
	for _, part := range strings.Split(strings.TrimSuffix(member.Path, ".N"), ".") {
		if part == "N" {
			if at.item == nil {
				at.item = &memberMeta{Path: at.Path}
			}
			at = at.item
			continue
		}
		if at.fields == nil {
			at.fields = map[string]*memberMeta{}
		}
		next := at.fields[part]
		if next == nil {
			path := part
			if at.Path != "" {
				path = at.Path + "." + part
			}
			next = &memberMeta{Path: path}
			at.fields[part] = next
			at.order = append(at.order, part)
		}
		at = next
	}
	if member.Type == "array" != strings.HasSuffix(member.Path, ".N") {
		return fmt.Errorf("member %s is of type %s", member.Path, member.Type)
	}
	at.Path, at.Type, at.Format, at.Required = member.Path, member.Type, member.Format, member.Required
	if at.Type == "object" {
		at.Type = ""
	}
	at.MaxItems, at.Maximum, at.Minimum, at.Enum = member.MaxItems, member.Maximum, member.Minimum, member.Enum
	if at.Type == "array" && at.item == nil {
		at.item = &memberMeta{Path: member.Path}
	}
	return nil
}

// bound parses a published bound; ok is false if there is none.
func bound(text string) (v float64, ok bool) {
	v, err := strconv.ParseFloat(text, 64)
	return v, err == nil
}
