package eci

import (
	"slices"
	"strconv"
	"time"
)

// Bounds that are published in the text of DescribeContainerGroupMetric.
const (
	metricWindow  = 5 * time.Minute // without StartTime
	metricHistory = 30 * 24 * time.Hour
)

// describeMetric is DescribeContainerGroupMetric.
func (s *Server) describeMetric(c *call) (map[string]any, *apiError) {
	req, limits := c.members, published().facts.Limits
	g, refusal := s.find(c)
	if refusal != nil {
		return nil, refusal
	}
	now := s.fleet.Now()
	period, end := time.Minute, now
	if text := req.str("Period"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || !slices.Contains(limits.MetricPeriods, n) {
			return nil, invalidParameter("Period must be one of %v.", limits.MetricPeriods)
		}
		period = time.Duration(n) * time.Second
	}
	if !req.has("StartTime") && !req.has("EndTime") {
		period = time.Duration(limits.MetricPeriods[0]) * time.Second
	}
	if refusal := readTime(req, "EndTime", &end); refusal != nil {
		return nil, refusal
	}
	start := end.Add(-metricWindow)
	if refusal := readTime(req, "StartTime", &start); refusal != nil {
		return nil, refusal
	}
	switch {
	case now.Sub(start) > metricHistory:
		return nil, invalidParameter("StartTime must be within the last 30 days.")
	case !start.Before(end):
		return nil, invalidParameter("StartTime must be before EndTime.")
	case int(end.Sub(start)/period) > limits.MetricRecords:
		return nil, invalidParameter("From StartTime to EndTime there are %d records of %s; at most %d are allowed.", int(end.Sub(start)/period), period, limits.MetricRecords)
	}
	var times []time.Time
	newest := now.Add(-s.opts.MetricDelay)
	for at := start.Truncate(period).Add(period); !at.After(end) && !at.After(newest); at = at.Add(period) {
		times = append(times, at)
	}
	records := []object{}
	for _, r := range s.records(g, period, times...) {
		r["Disk"] = []object{{"Device": "/dev/vda", "ReadBytes": 0, "WriteBytes": 0, "ReadIO": 0, "WriteIO": 0}}
		r["Filesystem"].([]object)[0]["Category"] = "System"
		records = append(records, r)
	}
	return map[string]any{"ContainerGroupId": g.id, "Records": records}, nil
}

func readTime(req *member, name string, into *time.Time) *apiError {
	text := req.str(name)
	if text == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return invalidParameter("%s must be an RFC 3339 time, such as 2019-03-12T01:00:00.000Z.", name)
	}
	*into = at
	return nil
}

// describeMetrics is DescribeMultiContainerGroupMetric: the newest record of each
// group. Groups of which there is none are absent.
func (s *Server) describeMetrics(c *call) (map[string]any, *apiError) {
	if kind := c.members.str("MetricType"); kind != "" && kind != "summary" {
		return nil, invalidParameter("MetricType must be summary.")
	}
	groups, refusal := s.filter(c.members)
	if refusal != nil {
		return nil, refusal
	}
	at := s.fleet.Now().Add(-s.opts.MetricDelay).Truncate(s.opts.MetricPeriod)
	data := []object{}
	for _, g := range groups {
		records := s.records(g, s.opts.MetricPeriod, at)
		if len(records) == 0 {
			continue
		}
		// The metadata spells these two otherwise than in the single action.
		records[0]["Disk"] = []object{{"Device": "/dev/vda", "ReadBytes": 0, "WriteBytes": 0, "ReadIo": 0, "WriteIo": 0}}
		data = append(data, object{"ContainerGroupId": g.id, "Records": records})
	}
	return map[string]any{"MonitorDatas": data}, nil
}

// records are the measurements of a group at the given times, without its disks.
// There is none for a time at which no container ran. Network and file system are
// not simulated.
func (s *Server) records(g *group, period time.Duration, times ...time.Time) []object {
	asked := make([]time.Time, 0, 2*len(times))
	for _, at := range times {
		asked = append(asked, at.Add(-period), at)
	}
	usage := g.live.UsageAt(asked...)
	var records []object
	for i, at := range times {
		before, now := usage[2*i], usage[2*i+1]
		if len(now) == 0 {
			continue
		}
		total := measured{limit: g.size.cpu, memoryLimit: int64(g.size.gib * (1 << 30))}
		containers := []object{}
		for _, u := range now {
			used := u.CPU
			for _, b := range before {
				if b.Container == u.Container && b.Started.Equal(u.Started) {
					used -= b.CPU
				}
			}
			m := measured{cpu: u.CPU, rate: float64(used) / period.Seconds(), memory: u.Memory, limit: g.size.cpu, memoryLimit: total.memoryLimit}
			for _, c := range g.req.list("Container") {
				if c.str("Name") == u.Container && c.number("Cpu") > 0 {
					m.limit = c.number("Cpu")
				}
			}
			containers = append(containers, object{"Name": u.Container, "CPU": m.cpuRecord(), "Memory": m.memoryRecord()})
			total.cpu += m.cpu
			total.rate += m.rate
			total.memory += m.memory
		}
		records = append(records, object{
			"Timestamp": wireTime(at), "CPU": total.cpuRecord(), "Memory": total.memoryRecord(), "Containers": containers,
			"Network": object{"Interfaces": []object{{
				"Name": "eth0", "RxBytes": 0, "RxPackets": 0, "RxErrors": 0, "RxDrops": 0, "TxBytes": 0, "TxPackets": 0, "TxErrors": 0, "TxDrops": 0,
			}}},
			"Filesystem": []object{{"FsName": "/dev/root", "Capacity": ephemeralBytes, "Usage": 0, "Available": ephemeralBytes}},
		})
	}
	return records
}

// ephemeralBytes is the storage that comes with a group.
const ephemeralBytes = 30 << 30

// measured is the usage of a group or of a container.
type measured struct {
	cpu                 time.Duration // since the start
	rate                float64       // nanoseconds in a second, over the last period
	memory, memoryLimit int64
	limit               float64 // vCPU
}

func (m measured) cpuRecord() object {
	return object{"UsageNanoCores": int64(m.rate), "UsageCoreNanoSeconds": int64(m.cpu), "Limit": int64(m.limit * 1000), "Load": 0}
}

func (m measured) memoryRecord() object {
	return object{"UsageBytes": m.memory, "WorkingSet": m.memory, "Rss": m.memory, "Cache": 0, "AvailableBytes": max(0, m.memoryLimit-m.memory)}
}
