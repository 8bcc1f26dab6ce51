package aci

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestA36Metrics(t *testing.T) {
	s := openLab(t)
	path := s.name(t, "measured")
	s.create(t, path, s.definition(set(list{s.container("one"), s.container("two")}, "properties", "containers")))
	s.lab.Advance(10 * time.Minute)
	read := func(edits ...string) answer {
		query := url.Values{
			"api-version": {"2021-05-01"}, "metricnames": {"CpuUsage,MemoryUsage"}, "interval": {"PT1M"}, "aggregation": {"Average"},
			"$filter":  {"containerName eq '*'"},
			"timespan": {s.lab.Now().Add(-10*time.Minute).Format(time.RFC3339) + "/" + s.lab.Now().Format(time.RFC3339)},
		}
		for i := 0; i+1 < len(edits); i += 2 {
			query.Del(edits[i])
			if edits[i+1] != "" {
				query.Set(edits[i], edits[i+1])
			}
		}
		return s.call(t, http.MethodGet, path+"/providers/Microsoft.Insights/metrics?"+query.Encode(), nil)
	}
	got := read().want(t, "metrics", http.StatusOK, "")
	wantAt(t, got.body, "PT1M", "interval")
	values, _ := at(got.body, "value").(list)
	if len(values) != 2 {
		t.Fatalf("%d metrics, want 2: %s", len(values), got.raw)
	}
	for i, want := range []struct{ name, unit string }{{"CpuUsage", "Count"}, {"MemoryUsage", "Bytes"}} {
		wantAt(t, values[i], want.name, "name", "value")
		wantAt(t, values[i], want.unit, "unit")
		series, _ := at(values[i], "timeseries").(list)
		var names []string
		for _, one := range series {
			if dimension, _ := at(one, "metadatavalues", 0, "name", "value").(string); !strings.EqualFold(dimension, "containerName") {
				t.Errorf("%s has the dimension %q", want.name, dimension)
			}
			name, _ := at(one, "metadatavalues", 0, "value").(string)
			names = append(names, name)
			points, _ := at(one, "data").(list)
			measured, newest := 0, time.Time{}
			for k, point := range points {
				stamp := when(t, at(point, "timeStamp"))
				if k > 0 && stamp.Sub(when(t, at(points[k-1], "timeStamp"))) != time.Minute {
					t.Errorf("%s: points %d and %d are not a minute apart", want.name, k-1, k)
				}
				if _, ok := at(point, "average").(float64); ok {
					measured, newest = measured+1, stamp
				}
			}
			// A minute's value is there one to three minutes after its end.
			if age := s.lab.Now().Sub(newest.Add(time.Minute)); measured < 6 || age < time.Minute || age > 3*time.Minute {
				t.Errorf("%s of %s: %d points, the newest %s old", want.name, name, measured, age)
			}
		}
		if strings.Join(names, " ") != "one two" {
			t.Errorf("%s is told of %v", want.name, names)
		}
	}
	if series, _ := at(read("$filter", "containerName eq 'two'").body, "value", 0, "timeseries").(list); len(series) != 1 {
		t.Errorf("the filter leaves %d series", len(series))
	}
	network := read("metricnames", "NetworkBytesReceivedPerSecond,NetworkBytesTransmittedPerSecond", "$filter", "").want(t, "network", http.StatusOK, "")
	for i := range 2 {
		if series, _ := at(network.body, "value", i, "timeseries").(list); len(series) != 1 {
			t.Errorf("%v has %d series, want one of the group", at(network.body, "value", i, "name", "value"), len(series))
		}
	}
	for name, edits := range map[string][]string{
		"unknown metric":             {"metricnames", "DiskUsage"},
		"unknown interval":           {"interval", "PT7M"},
		"containers of network":      {"metricnames", "NetworkBytesReceivedPerSecond"},
		"filter of another form":     {"$filter", "name"},
		"time span that has no end":  {"timespan", "yesterday"},
		"an aggregation of no sense": {"aggregation", "Median"},
	} {
		if got := read(edits...); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, got.status, got.raw)
		}
	}
	before := remaining(t, read(), "reads")
	if after := remaining(t, read(), "reads"); after != before-1 {
		t.Errorf("%d reads were left before and %d after reading metrics", before, after)
	}
	if got := s.call(t, http.MethodGet, s.groups()+"/none/providers/Microsoft.Insights/metrics?api-version=2021-05-01", nil); got.status != http.StatusNotFound {
		t.Errorf("metrics of nothing: %d %s", got.status, got.raw)
	}
}

func TestA37RealtimeStatistics(t *testing.T) {
	s := openLab(t)
	inside := s.lab.Network(t)
	group := func(name, kind string, extensions list) (ip string) {
		t.Helper()
		path := s.name(t, name)
		address := set(object{"type": kind, "ports": list{object{"port": 8080}}}, "properties", "ipAddress")
		subnet := set(list{object{"id": "/subscriptions/" + s.subscription + "/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/net/subnets/groups"}}, "properties", "subnetIds")
		edits := []func(object){address, set(list{s.container("one"), s.container("two")}, "properties", "containers"), set(extensions, "properties", "extensions")}
		if kind == "Private" {
			edits = append(edits, subnet)
		}
		s.create(t, path, s.definition(edits...))
		ip, _ = at(s.awaitState(t, path, "Running"), "properties", "ipAddress", "ip").(string)
		if ip == "" {
			t.Fatalf("%s has no address", name)
		}
		return ip
	}
	read := func(address string) answer {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := inside.Do(request)
		if err != nil {
			return answer{} // nothing listens
		}
		got, err := readAnswer(response)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	extension := func(kind, version string) list {
		return list{object{"name": "metrics", "properties": object{"extensionType": kind, "version": version, "settings": object{}, "protectedSettings": object{}}}}
	}
	with := group("with", "Private", extension("realtime-metrics", "1.0"))
	first := read(with + ":18899/v1/stats")
	began := s.lab.Now()
	wantAt(t, first.status, http.StatusOK)
	s.lab.Advance(time.Minute)
	second := read(with + ":18899/v1/stats")
	if stamp, _ := at(second.body, "timestamp").(float64); int64(stamp)/int64(time.Second) != began.Add(time.Minute).Unix() {
		t.Errorf("timestamp %v, want nanoseconds of %s", at(second.body, "timestamp"), began.Add(time.Minute))
	}
	for i, name := range []string{"one", "two"} {
		wantAt(t, second.body, name, "containers", i, "name")
		before, _ := at(first.body, "containers", i, "cpu", "usageCoreNanoSeconds").(float64)
		after, _ := at(second.body, "containers", i, "cpu", "usageCoreNanoSeconds").(float64)
		if after <= before {
			t.Errorf("%s had used %g ns and then %g ns", name, before, after)
		}
		for _, member := range []string{"usageBytes", "workingSetBytes", "rssBytes"} {
			if bytes, ok := at(second.body, "containers", i, "memory", member).(float64); !ok || bytes < 0 {
				t.Errorf("%s of %s is %v", member, name, at(second.body, "containers", i, "memory", member))
			}
		}
	}
	if name, _ := at(second.body, "network", "interfaces", 0, "name").(string); name == "" {
		t.Errorf("there is no interface: %s", second.raw)
	}
	for name, address := range map[string]string{
		"no extension":           group("without", "Private", list{}) + ":18899/v1/stats",
		"another extension":      group("other", "Private", extension("kube-proxy", "1.0")) + ":18899/v1/stats",
		"outside of the network": group("public", "Public", extension("realtime-metrics", "1.0")) + ":18899/v1/stats",
		"another port":           with + ":18898/v1/stats",
		"another path":           with + ":18899/v2",
		"an address of no group": "10.255.255.254:18899/v1/stats",
	} {
		if got := read(address); got.status == http.StatusOK {
			t.Errorf("%s: statistics are served: %s", name, got.raw)
		}
	}
}
