package eci

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// metricAnswer has the members of both actions, as the metadata spells them.
type metricAnswer struct {
	ContainerGroupID string `json:"ContainerGroupId"`
	Records          []metricRecord
	MonitorDatas     []struct {
		ContainerGroupID string `json:"ContainerGroupId"`
		Records          []metricRecord
	}
}

type metricRecord struct {
	Timestamp  string
	CPU        metricCPU
	Memory     struct{ UsageBytes, WorkingSet, Rss, AvailableBytes, Cache int64 }
	Disk       []map[string]any
	Filesystem []map[string]any
	Network    struct{ Interfaces []map[string]any }
	Containers []struct {
		Name   string
		CPU    metricCPU
		Memory struct{ WorkingSet int64 }
	}
}

type metricCPU struct{ UsageNanoCores, UsageCoreNanoSeconds, Limit, Load int64 }

func (c *client) metrics(action string, args ...string) metricAnswer {
	c.t.Helper()
	r := c.ok(action, args...)
	var a metricAnswer
	if err := json.Unmarshal(r.raw, &a); err != nil {
		c.t.Fatalf("%v in %s", err, r.raw)
	}
	return a
}

// loaded is a client with a running group whose containers have a load.
func loaded(t *testing.T) (c *client, id string) {
	t.Helper()
	c = newClient(t, func(o *Options) { o.Sim.Timing = sim.Timing{} })
	id = c.create("Container.2.Name", "side", "Container.2.Image", "side:1", "Container.2.Cpu", "0.5", "Container.2.Memory", "1", "Container.1.Cpu", "1.5", "Container.1.Memory", "3")
	c.server.Fleet().SetLoad(func(_ sim.Spec, ct sim.Container) bool { return ct.Name == "nginx" }, sim.Load{CPU: 0.75, Memory: 64 << 20})
	return c, id
}

func TestE46NewestMetrics(t *testing.T) {
	c, id := loaded(t)
	other := c.create()
	if a := c.metrics("DescribeMultiContainerGroupMetric", "ContainerGroupIds", `["`+id+`"]`); len(a.MonitorDatas) != 1 {
		t.Errorf("at the start: %+v, want the record of this moment", a)
	}
	c.clock.Step(40 * time.Second)
	a := c.metrics("DescribeMultiContainerGroupMetric", "ContainerGroupIds", `["`+id+`","eci-none"]`, "MetricType", "summary")
	if len(a.MonitorDatas) != 1 || a.MonitorDatas[0].ContainerGroupID != id || len(a.MonitorDatas[0].Records) != 1 {
		t.Fatalf("answer %+v, want one record of %s only", a, id)
	}
	r := a.MonitorDatas[0].Records[0]
	if r.Timestamp != "2026-03-01T12:00:30Z" {
		t.Errorf("timestamp %s, want that of the last whole period", r.Timestamp)
	}
	if len(r.Containers) != 2 || r.Containers[0].Name != "nginx" || r.Containers[0].Memory.WorkingSet != 64<<20 {
		t.Fatalf("containers %+v", r.Containers)
	}
	if diff := cmp.Diff(metricCPU{UsageNanoCores: 750e6, UsageCoreNanoSeconds: 22.5e9, Limit: 1500}, r.Containers[0].CPU); diff != "" {
		t.Errorf("CPU of nginx (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(metricCPU{UsageNanoCores: 751e6, UsageCoreNanoSeconds: 22.53e9, Limit: 2000}, r.CPU); diff != "" {
		t.Errorf("CPU of the group (-want +got):\n%s", diff)
	}
	if r.Memory.WorkingSet != 80<<20 || r.Memory.AvailableBytes != 4<<30-80<<20 {
		t.Errorf("memory %+v", r.Memory)
	}
	if _, ok := r.Disk[0]["WriteIo"]; !ok || len(r.Network.Interfaces) != 1 || r.Filesystem[0]["FsName"] != "/dev/root" {
		t.Errorf("disk %v, network %v, file system %v", r.Disk, r.Network, r.Filesystem)
	}

	if err := c.live(other).Exit("nginx", 0); err != nil {
		t.Fatal(err)
	}
	ids := func(n int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf(`"eci-%d"`, i)
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	c.ok("DescribeMultiContainerGroupMetric", "ContainerGroupIds", ids(20))
	c.refused(400, "InvalidParameter", "DescribeMultiContainerGroupMetric", "ContainerGroupIds", ids(21))
	c.refused(400, "InvalidParameter", "DescribeMultiContainerGroupMetric", "ContainerGroupIds", "eci-1")
	c.refused(400, "InvalidParameter", "DescribeMultiContainerGroupMetric", "ContainerGroupIds", ids(1), "MetricType", "all")
	c.refused(400, "MissingContainerGroupIds", "DescribeMultiContainerGroupMetric")
}

func TestE46MetricHistory(t *testing.T) {
	c, id := loaded(t)
	c.clock.Step(30 * time.Minute)
	at := func(d time.Duration) string { return epoch.Add(d).Format("2006-01-02T15:04:05.000Z") }
	const minute = time.Minute
	for name, test := range map[string]struct {
		args        []string
		records     int
		first, last string
	}{
		"neither time": {nil, 20, "2026-03-01T12:25:15Z", "2026-03-01T12:30:00Z"},
		// The period is ignored then.
		"neither time, a period":     {[]string{"Period", "600"}, 20, "2026-03-01T12:25:15Z", "2026-03-01T12:30:00Z"},
		"an end":                     {[]string{"EndTime", at(20 * minute)}, 5, "2026-03-01T12:16:00Z", "2026-03-01T12:20:00Z"},
		"a start":                    {[]string{"StartTime", at(28 * minute)}, 2, "2026-03-01T12:29:00Z", "2026-03-01T12:30:00Z"},
		"both, of another time zone": {[]string{"StartTime", "2026-03-01T20:00:00.000+08:00", "EndTime", at(30 * minute), "Period", "600"}, 3, "2026-03-01T12:10:00Z", "2026-03-01T12:30:00Z"},
		"50 records":                 {[]string{"StartTime", at(0), "EndTime", at(25 * minute), "Period", "30"}, 50, "2026-03-01T12:00:30Z", "2026-03-01T12:25:00Z"},
		"before the group":           {[]string{"StartTime", at(-9 * minute), "EndTime", at(-4 * minute)}, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			a := c.metrics("DescribeContainerGroupMetric", append([]string{"ContainerGroupId", id}, test.args...)...)
			if a.ContainerGroupID != id || len(a.Records) != test.records {
				t.Fatalf("%s: %d records, want %d", a.ContainerGroupID, len(a.Records), test.records)
			}
			if test.records == 0 {
				return
			}
			if first, last := a.Records[0].Timestamp, a.Records[test.records-1].Timestamp; first != test.first || last != test.last {
				t.Errorf("from %s to %s, want from %s to %s", first, last, test.first, test.last)
			}
			for _, r := range a.Records {
				if _, ok := r.Disk[0]["WriteIO"]; !ok || r.Filesystem[0]["Category"] != "System" || r.CPU.UsageNanoCores != 751e6 {
					t.Errorf("record %+v", r)
				}
			}
		})
	}
	c.t = t
	for name, args := range map[string][]string{
		"51 records":         {"StartTime", at(0), "EndTime", at(25*minute + 30*time.Second), "Period", "30"},
		"another period":     {"StartTime", at(0), "Period", "45"},
		"no period":          {"StartTime", at(29 * minute), "Period", "x"},
		"the end first":      {"StartTime", at(10 * minute), "EndTime", at(5 * minute)},
		"no time":            {"StartTime", "yesterday"},
		"more than 30 days":  {"StartTime", at(-31 * 24 * time.Hour), "EndTime", at(-31*24*time.Hour + 5*minute)},
		"a group that isn't": {"ContainerGroupId", "eci-none"},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			c.refused(400, "InvalidParameter", "DescribeContainerGroupMetric", append([]string{"ContainerGroupId", id}, args...)...)
		})
	}
}
