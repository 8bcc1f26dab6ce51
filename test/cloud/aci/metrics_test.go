package aci

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// metrics asks for a group's metrics; args are name, value.
func (c *testCloud) metrics(group string, args ...string) answer {
	c.t.Helper()
	query := url.Values{"api-version": {"2021-05-01"}}
	for i := 0; i+1 < len(args); i += 2 {
		query.Set(args[i], args[i+1])
	}
	return c.arm(http.MethodGet, c.path(group)+"/providers/Microsoft.Insights/metrics?"+query.Encode(), nil)
}

func span(from, to time.Time) string {
	return from.Format(time.RFC3339) + "/" + to.Format(time.RFC3339)
}

// averages are the points of a series, by the minute since testStart.
func averages(t *testing.T, series any) map[int]float64 {
	t.Helper()
	got := map[int]float64{}
	list, _ := at(series, "data").([]any)
	for _, p := range list {
		when, err := time.Parse(time.RFC3339, at(p, "timeStamp").(string))
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := at(p, "average").(float64); ok {
			got[int(when.Sub(testStart)/time.Minute)] = v
		}
	}
	return got
}

func TestA36Metrics(t *testing.T) {
	c := newTestCloud(t)
	c.put("web", http.StatusCreated, with([]any{
		map[string]any{"name": "app", "properties": map[string]any{"image": "nginx", "resources": map[string]any{"requests": map[string]any{"cpu": 1.0, "memoryInGB": 1.5}}}},
		map[string]any{"name": "side", "properties": map[string]any{"image": "side", "resources": map[string]any{"requests": map[string]any{"cpu": 1.0, "memoryInGB": 1.5}}}},
	}, "properties", "containers"))
	load := func(cpu float64) {
		c.server.Fleet().SetLoad(func(_ sim.Spec, ct sim.Container) bool { return ct.Name == "app" }, sim.Load{CPU: cpu, Memory: 32 << 20})
	}
	load(0.25)
	c.clock.Step(3 * time.Minute)
	load(1)
	c.clock.Step(3*time.Minute + 30*time.Second)
	now := c.clock.Now()
	c.token = c.login()

	got := c.metrics("web", "metricnames", "CpuUsage,MemoryUsage", "interval", "PT1M", "aggregation", "Average", "timespan", span(testStart, now), "$filter", "containerName eq '*'")
	if got.status != http.StatusOK {
		t.Fatalf("metrics: %d %s", got.status, got.raw)
	}
	wantAt(t, got.body, "CpuUsage", "value", 0, "name", "value")
	wantAt(t, got.body, "Count", "value", 0, "unit")
	wantAt(t, got.body, "Bytes", "value", 1, "unit")
	wantAt(t, got.body, "PT1M", "interval")
	wantAt(t, got.body, "containername", "value", 0, "timeseries", 0, "metadatavalues", 0, "name", "value")
	wantAt(t, got.body, "app", "value", 0, "timeseries", 0, "metadatavalues", 0, "value")
	wantAt(t, got.body, "side", "value", 0, "timeseries", 1, "metadatavalues", 0, "value")
	// The last minutes are not there yet, but their times are.
	if diff := cmp.Diff(map[int]float64{0: 250, 1: 250, 2: 250, 3: 1000}, averages(t, at(got.body, "value", 0, "timeseries", 0))); diff != "" {
		t.Errorf("CPU of app (-want +got):\n%s", diff)
	}
	if points, _ := at(got.body, "value", 0, "timeseries", 0, "data").([]any); len(points) != 7 {
		t.Errorf("%d points, want one for each minute of the span", len(points))
	}
	if diff := cmp.Diff(map[int]float64{0: 32 << 20, 1: 32 << 20, 2: 32 << 20, 3: 32 << 20}, averages(t, at(got.body, "value", 1, "timeseries", 0))); diff != "" {
		t.Errorf("memory of app (-want +got):\n%s", diff)
	}

	one := c.metrics("web", "timespan", span(testStart, now), "$filter", "containerName eq 'side' or containerName eq 'none'", "aggregation", "Average,Maximum,Total")
	wantAt(t, one.body, "side", "value", 0, "timeseries", 0, "metadatavalues", 0, "value")
	if series, _ := at(one.body, "value", 0, "timeseries").([]any); len(series) != 1 {
		t.Errorf("%d series of one container", len(series))
	}
	wantAt(t, one.body, map[string]any{"timeStamp": "2026-03-01T12:00:00Z", "average": 1.0, "maximum": 1.0}, "value", 0, "timeseries", 0, "data", 0)
	top := c.metrics("web", "timespan", span(testStart, now), "$filter", "containerName eq '*'", "top", "1")
	if series, _ := at(top.body, "value", 0, "timeseries").([]any); len(series) != 1 {
		t.Errorf("%d series of the top one", len(series))
	}
	whole := c.metrics("web", "metricnames", "CpuUsage", "timespan", span(testStart, now), "interval", "PT5M", "aggregation", "average,minimum,maximum")
	wantAt(t, whole.body, []any{}, "value", 0, "timeseries")
	network := c.metrics("web", "metricnames", "NetworkBytesReceivedPerSecond,NetworkBytesTransmittedPerSecond", "timespan", span(testStart, now))
	wantAt(t, network.body, "NetworkBytesTransmittedPerSecond", "value", 1, "name", "value")

	for name, test := range map[string]struct {
		args   []string
		status int
		code   string
	}{
		"unknown metric":              {[]string{"metricnames", "DiskUsage"}, 400, "BadRequest"},
		"another grain":               {[]string{"interval", "PT30S"}, 400, "BadRequest"},
		"no span":                     {[]string{"timespan", "yesterday"}, 400, "BadRequest"},
		"the end first":               {[]string{"timespan", span(now, testStart)}, 400, "BadRequest"},
		"before the retention":        {[]string{"timespan", span(testStart.AddDate(-1, 0, 0), now)}, 400, "BadRequest"},
		"another dimension":           {[]string{"$filter", "image eq '*'"}, 400, "BadRequest"},
		"no dimension of the network": {[]string{"metricnames", "NetworkBytesReceivedPerSecond", "$filter", "containerName eq '*'"}, 400, "BadRequest"},
		"another aggregation":         {[]string{"aggregation", "Median"}, 400, "BadRequest"},
		"no top":                      {[]string{"top", "0"}, 400, "BadRequest"},
		"another version":             {[]string{"api-version", APIVersion}, 400, "NoRegisteredProviderFound"},
	} {
		t.Run(name, func(t *testing.T) {
			c.t = t
			if got := c.metrics("web", test.args...); got.status != test.status || got.code() != test.code {
				t.Errorf("answer %d %s, want %d %s", got.status, got.raw, test.status, test.code)
			}
		})
	}
	c.t = t
	if got := c.metrics("none"); got.status != http.StatusNotFound || got.code() != "ResourceNotFound" {
		t.Errorf("metrics of no group: %d %s", got.status, got.raw)
	}
}

// Metrics draw from the same bucket as other reads.
func TestA36MetricsCountAsReads(t *testing.T) {
	c := newTestCloud(t, settings(Settings{ARM: ARMLimits{Reads: Bucket{Size: 3, RefillPerSecond: 1}}}))
	c.put("web", http.StatusCreated)
	for range 2 {
		if got := c.metrics("web"); got.status != http.StatusOK {
			t.Fatalf("metrics: %d %s", got.status, got.raw)
		}
	}
	c.get("web")
	if got := c.metrics("web"); got.status != http.StatusTooManyRequests || got.code() != "SubscriptionRequestsThrottled" {
		t.Errorf("metrics beyond the bucket: %d %s", got.status, got.raw)
	}
}

func TestMetricDelay(t *testing.T) {
	for name, test := range map[string]struct {
		delay time.Duration
		want  int
	}{"by default": {0, 3}, "none": {-1, 5}, "set": {4 * time.Minute, 1}} {
		t.Run(name, func(t *testing.T) {
			c := newTestCloud(t, settings(Settings{MetricDelay: test.delay}))
			c.put("web", http.StatusCreated)
			c.clock.Step(5 * time.Minute)
			got := c.metrics("web", "timespan", span(testStart, c.clock.Now()))
			if n := len(averages(t, at(got.body, "value", 0, "timeseries", 0))); n != test.want {
				t.Errorf("%d points, want %d: %s", n, test.want, got.raw)
			}
		})
	}
}
