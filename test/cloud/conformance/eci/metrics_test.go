package eci

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// recordMembers are published of every record of usage.
var recordMembers = []string{
	"CPU.UsageNanoCores", "CPU.UsageCoreNanoSeconds", "CPU.Limit", "CPU.Load",
	"Memory.UsageBytes", "Memory.WorkingSet", "Memory.Rss", "Memory.Cache", "Memory.AvailableBytes",
}

func TestE46Metrics(t *testing.T) {
	c := row(t)
	id := c.running("Cpu", "2", "Memory", "4")
	began := c.now()
	c.pass(6 * time.Minute)
	read := func(args ...string) answer {
		t.Helper()
		return c.do("DescribeContainerGroupMetric", append([]string{"ContainerGroupId", id}, args...)...)
	}
	rfc := func(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }
	times := func(a answer) []time.Time {
		t.Helper()
		var out []time.Time
		for _, r := range c.mustSucceed(a).Records {
			at, err := time.Parse(time.RFC3339, r.Timestamp)
			if err != nil {
				t.Errorf("time %q: %v", r.Timestamp, err)
			}
			out = append(out, at)
		}
		return out
	}
	// spaced fails the test unless records are a period apart within a stretch.
	spaced := func(a answer, period time.Duration, from, to time.Time, least int) {
		t.Helper()
		list := times(a)
		if len(list) < least || len(list) > 50 {
			t.Errorf("%d records from %s to %s of %s, want %d at least", len(list), from, to, period, least)
		}
		for i, at := range list {
			if at.Before(from) || at.After(to) || (i > 0 && at.Sub(list[i-1]) != period) {
				t.Errorf("record %d is of %s; from %s to %s, each %s", i, at, from, to, period)
			}
		}
	}
	now := c.now()
	spaced(read(), 15*time.Second, now.Add(-5*time.Minute), now, 10)
	spaced(read("Period", "60"), 15*time.Second, now.Add(-5*time.Minute), now, 10) // ignored without a time
	for _, seconds := range []int{15, 30, 60} {
		period := time.Duration(seconds) * time.Second
		from := now.Add(-4 * time.Minute)
		spaced(read("Period", strconv.Itoa(seconds), "StartTime", rfc(from), "EndTime", rfc(now)), period, from, now, 240/seconds-3)
	}
	spaced(read("StartTime", rfc(now.Add(-5*time.Minute)), "EndTime", rfc(now)), time.Minute, now.Add(-5*time.Minute), now, 2)
	spaced(read("EndTime", rfc(now.Add(-time.Minute))), time.Minute, now.Add(-6*time.Minute), now.Add(-time.Minute), 2)
	c.mustSucceed(read("Period", "600", "StartTime", rfc(now.Add(-time.Hour)), "EndTime", rfc(now)))

	c.mustSucceed(read("StartTime", rfc(now.Add(-50*time.Minute)), "EndTime", rfc(now)))
	for name, args := range map[string][]string{
		"51 points":       {"StartTime", rfc(now.Add(-51 * time.Minute)), "EndTime", rfc(now)},
		"51 short points": {"Period", "15", "StartTime", rfc(now.Add(-765 * time.Second)), "EndTime", rfc(now)},
		"31 days ago":     {"Period", "600", "StartTime", rfc(now.Add(-31 * 24 * time.Hour)), "EndTime", rfc(now.Add(-31*24*time.Hour + time.Hour))},
		"backwards":       {"StartTime", rfc(now), "EndTime", rfc(now.Add(-time.Minute))},
		"a period of 45":  {"Period", "45", "StartTime", rfc(now.Add(-time.Minute))},
		"no time":         {"StartTime", "yesterday"},
	} {
		c.each(name, func(c *cloud) { c.wantRefusal(read(args...), 400, "InvalidParameter") })
	}
	if a := read("ContainerGroupId", "eci-none"); a.status/100 != 4 {
		t.Errorf("a missing group: answer %d %s", a.status, a.raw)
	}

	a := c.mustSucceed(read())
	if a.ContainerGroupID != id {
		t.Errorf("records of %s", a.ContainerGroupID)
	}
	c.checkRecords(a.raw, began)
	for _, spelling := range []string{`"ReadIO":`, `"WriteIO":`, `"Category":`} {
		if !strings.Contains(a.raw, spelling) {
			t.Errorf("no %s in %s", spelling, a.raw)
		}
	}

	other := c.running("Cpu", "1", "Memory", "2")
	c.pass(time.Minute)
	multi := func(ids string, args ...string) answer {
		t.Helper()
		return c.do("DescribeMultiContainerGroupMetric", append([]string{"ContainerGroupIds", ids}, args...)...)
	}
	a = c.mustSucceed(multi(idList(id, "eci-none", other), "MetricType", "summary"))
	found := map[string]int{}
	for _, d := range a.MonitorDatas {
		found[d.ContainerGroupID] = len(d.Records)
		if at, err := time.Parse(time.RFC3339, d.Records[0].Timestamp); err != nil || c.now().Sub(at) > 5*time.Minute || at.After(c.now()) {
			t.Errorf("newest record of %q, now %s", d.Records[0].Timestamp, c.now())
		}
		want := map[string]float64{id: 2000, other: 1000}[d.ContainerGroupID]
		if d.Records[0].CPU.Limit != want {
			t.Errorf("limit %g of %s, want 1000 for each vCPU", d.Records[0].CPU.Limit, d.ContainerGroupID)
		}
	}
	if len(found) != 2 || found[id] != 1 || found[other] != 1 {
		t.Errorf("records of %v, want the newest of each", found)
	}
	for _, spelling := range []string{`"ReadIo":`, `"WriteIo":`} {
		if !strings.Contains(a.raw, spelling) {
			t.Errorf("no %s in %s", spelling, a.raw)
		}
	}
	many := make([]string, 21)
	for i := range many {
		many[i] = "eci-none" + strconv.Itoa(i)
	}
	c.mustSucceed(multi(idList(many[:20]...)))
	c.wantRefusal(multi(idList(many...)), 400, "InvalidParameter")
	c.wantRefusal(multi(id), 400, "InvalidParameter")
	c.wantRefusal(multi(idList(id), "MetricType", "details"), 400, "InvalidParameter")
}

// checkRecords looks at the published members of all records of the single action.
func (c *cloud) checkRecords(raw string, began time.Time) {
	c.t.Helper()
	records := decode(c.t, raw)["Records"]
	used := 0.
	for i := 0; at(records, i) != nil; i++ {
		r := at(records, i)
		containers, _ := pick(r, "Containers").([]any)
		if len(containers) != 1 || pick(containers[0], "Name") != "main" || pick(at(pick(r, "Network", "Interfaces"), 0), "RxBytes") == nil ||
			pick(at(pick(r, "Disk"), 0), "ReadBytes") == nil || pick(at(pick(r, "Filesystem"), 0), "Capacity") == nil {
			c.t.Errorf("record %s", text(r))
			continue
		}
		for _, m := range recordMembers {
			for _, of := range []any{r, containers[0]} {
				if n, ok := pick(of, strings.Split(m, ".")...).(float64); !ok || n < 0 {
					c.t.Errorf("%s is missing in %s", m, text(of))
				}
			}
		}
		now, _ := pick(r, "CPU", "UsageCoreNanoSeconds").(float64)
		if now < used || now > 2e9*c.now().Sub(began).Seconds()+60e9 {
			c.t.Errorf("%g ns of CPU after %g", now, used)
		}
		used = now
	}
}
