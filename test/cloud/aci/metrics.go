package aci

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// metricsAPIVersion is the version of Microsoft.Insights that is served.
const metricsAPIVersion = "2021-05-01"

// metric is one of the published metrics of container groups.
type metric struct {
	name, display, unit string
	// value is what the containers used from one time to another; nil is a metric
	// that is not simulated, of the group only.
	value func(before, after sim.Usage, between time.Duration) float64
}

// metrics are the published ones (supported metrics of
// Microsoft.ContainerInstance/containerGroups, Microsoft Learn).
var metrics = []metric{
	{"CpuUsage", "CPU Usage", "Count", func(before, after sim.Usage, between time.Duration) float64 {
		return float64(after.CPU-before.CPU) / float64(between) * 1000 // millicores
	}},
	{"MemoryUsage", "Memory Usage", "Bytes", func(_, after sim.Usage, _ time.Duration) float64 { return float64(after.Memory) }},
	{"NetworkBytesReceivedPerSecond", "Network Bytes Received Per Second", "Bytes", nil},
	{"NetworkBytesTransmittedPerSecond", "Network Bytes Transmitted Per Second", "Bytes", nil},
}

// grains are the published intervals.
var grains = map[string]time.Duration{
	"PT1M": time.Minute, "PT5M": 5 * time.Minute, "PT15M": 15 * time.Minute, "PT30M": 30 * time.Minute,
	"PT1H": time.Hour, "PT6H": 6 * time.Hour, "PT12H": 12 * time.Hour,
}

const (
	// metricsRetention is how long platform metrics are kept (Azure Monitor).
	metricsRetention = 93 * 24 * time.Hour
	// samples is how many measurements make a point.
	samples = 4
)

// metricsQuery is what a request asks for.
type metricsQuery struct {
	metrics      []metric
	start, end   time.Time
	grain        string
	aggregations []string
	// byContainer is whether the filter names the dimension, containers what it
	// selects; empty is all.
	byContainer bool
	containers  []string
	// top is how many series the answer holds at most.
	top int
}

// listMetrics is Metrics_List of Microsoft.Insights on a container group.
func (s *Server) listMetrics(c *call) (reply, *apiError) {
	now := s.clock.Now()
	q, refusal := readMetricsQuery(c, now)
	if refusal != nil {
		return reply{}, refusal
	}
	s.mu.Lock()
	g, ok := s.lookupLocked(c)
	newest := now.Add(-s.settings.metricDelay())
	s.mu.Unlock()
	if !ok {
		return reply{}, errGroupNotFound(c)
	}
	values := []any{}
	for _, m := range q.metrics {
		values = append(values, map[string]any{
			"id": g.id + "/providers/Microsoft.Insights/metrics/" + m.name, "type": "Microsoft.Insights/metrics",
			"name":               map[string]any{"value": m.name, "localizedValue": m.display},
			"displayDescription": m.display, "unit": m.unit, "errorCode": "Success",
			"timeseries": q.series(g.run, m, newest, now),
		})
	}
	return reply{http.StatusOK, map[string]any{
		"cost": 0, "timespan": q.start.UTC().Format(time.RFC3339) + "/" + q.end.UTC().Format(time.RFC3339), "interval": q.grain,
		"namespace": "Microsoft.ContainerInstance/containerGroups", "resourceregion": normalizeLocation(g.def.Location),
		"value": values,
	}}, nil
}

func readMetricsQuery(c *call, now time.Time) (metricsQuery, *apiError) {
	q := metricsQuery{start: now.Add(-time.Hour), end: now, grain: "PT1M", aggregations: []string{"average"}, top: 10}
	bad := func(format string, args ...any) (metricsQuery, *apiError) {
		return metricsQuery{}, badRequest("BadRequest", fmt.Sprintf(format, args...))
	}
	if text := c.query.Get("timespan"); text != "" {
		from, to, _ := strings.Cut(text, "/")
		var errFrom, errTo error
		q.start, errFrom = time.Parse(time.RFC3339, from)
		q.end, errTo = time.Parse(time.RFC3339, to)
		if errFrom != nil || errTo != nil || !q.start.Before(q.end) {
			return bad("Detected invalid time interval input: %s", text)
		}
	}
	if now.Sub(q.start) > metricsRetention {
		return bad("The start time of the query is before the retention of metrics, 93 days.")
	}
	if text := c.query.Get("interval"); text != "" {
		if grains[text] == 0 {
			return bad("Detected invalid time grain input: %s", text)
		}
		q.grain = text
	}
	if text := c.query.Get("aggregation"); text != "" {
		q.aggregations = strings.Split(strings.ToLower(text), ",")
		for _, a := range q.aggregations {
			if !slices.Contains([]string{"average", "minimum", "maximum", "total", "count", "none"}, a) {
				return bad("Detected invalid aggregation type input: %s", a)
			}
		}
	}
	if text := c.query.Get("top"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return bad("The value of top is invalid: %s", text)
		}
		q.top = n
	}
	names := c.query.Get("metricnames")
	if names == "" {
		q.metrics = metrics[:1]
	}
	for name := range strings.SplitSeq(names, ",") {
		if name == "" {
			continue
		}
		i := slices.IndexFunc(metrics, func(m metric) bool { return strings.EqualFold(m.name, name) })
		if i < 0 {
			return bad("Failed to find metric configuration for provider: Microsoft.ContainerInstance, resource Type: containerGroups, metric: %s", name)
		}
		q.metrics = append(q.metrics, metrics[i])
	}
	if filter := c.query.Get("$filter"); filter != "" {
		q.byContainer = true
		for term := range strings.SplitSeq(filter, " or ") {
			name := filterTerm.FindStringSubmatch(strings.TrimSpace(term))
			if name == nil {
				return bad("Invalid filter: %s", filter)
			}
			if name[1] != "*" {
				q.containers = append(q.containers, name[1])
			}
		}
		for _, m := range q.metrics {
			if m.value == nil {
				return bad("Metric: %s does not support requested dimension combination: containername", m.name)
			}
		}
	}
	return q, nil
}

var filterTerm = regexp.MustCompile(`^(?i:containerName) (?i:eq) '([^']*)'$`)

// series are the time series of a metric: one for each container where the filter
// asks for that, else one. A point whose time is not over, or not measured yet, or
// in which nothing ran, has no values.
func (q metricsQuery) series(run *sim.Group, m metric, newest, now time.Time) []any {
	grain := grains[q.grain]
	step := grain / samples
	var starts, times []time.Time
	for at := q.start.Truncate(grain); at.Before(q.end) && at.Before(now); at = at.Add(grain) {
		starts = append(starts, at)
		for i := range samples + 1 {
			times = append(times, at.Add(time.Duration(i)*step))
		}
	}
	usage := run.UsageAt(times...)
	byContainer := map[string][][]float64{} // name → start → samples
	var names []string
	for i, start := range starts {
		if start.Add(grain).After(newest) {
			break
		}
		for k := range samples {
			at := i*(samples+1) + k
			for _, after := range usage[at+1] {
				if len(q.containers) > 0 && !slices.Contains(q.containers, after.Container) {
					continue
				}
				before, between := sim.Usage{}, step
				for _, b := range usage[at] {
					if b.Container == after.Container && b.Started.Equal(after.Started) {
						before = b
					}
				}
				if before.Started.IsZero() { // it started since
					between = max(1, times[at+1].Sub(after.Started))
				}
				key := ""
				if q.byContainer {
					key = after.Container
				}
				if byContainer[key] == nil {
					byContainer[key], names = make([][]float64, len(starts)), append(names, key)
				}
				value := 0.0
				if m.value != nil {
					value = m.value(before, after, between)
				}
				byContainer[key][i] = append(byContainer[key][i], value)
			}
		}
	}
	slices.Sort(names)
	result := []any{}
	for _, name := range names[:min(q.top, len(names))] {
		labels := []any{}
		if q.byContainer {
			// The service answers the names of dimensions in lower case.
			labels = append(labels, map[string]any{"name": map[string]any{"value": "containername", "localizedValue": "containername"}, "value": name})
		}
		data := []any{}
		for i, start := range starts {
			data = append(data, q.point(start, byContainer[name][i]))
		}
		result = append(result, map[string]any{"metadatavalues": labels, "data": data})
	}
	return result
}

func (q metricsQuery) point(start time.Time, values []float64) map[string]any {
	point := map[string]any{"timeStamp": start.UTC().Format(time.RFC3339)}
	if len(values) == 0 {
		return point
	}
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	for _, a := range q.aggregations {
		switch a { // the metrics have no others
		case "average":
			point[a] = sum / float64(len(values))
		case "minimum":
			point[a] = slices.Min(values)
		case "maximum":
			point[a] = slices.Max(values)
		}
	}
	return point
}
