package aci

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/autoburst/autoburst/providers"
)

const (
	// metricsVersion is the api-version of Microsoft.Insights.
	metricsVersion = "2021-05-01"
	// metricsGrain is the shortest interval that the service has metrics for.
	metricsGrain = time.Minute
	// metricsSpan is how far back is asked for: what is newer than it is may take
	// some minutes to appear.
	metricsSpan = 10 * time.Minute
	// maxMetrics bounds what is read of one answer.
	maxMetrics = 4 << 20
)

// The metrics in use (supported metrics of
// Microsoft.ContainerInstance/containerGroups, Microsoft Learn): thousandths of a
// core, and bytes.
const (
	metricCPU    = "CpuUsage"
	metricMemory = "MemoryUsage"
)

var _ providers.ConsumptionReader = (*Provider)(nil)

// ConsumptionTerms are those of Azure Monitor: one read for each group, which counts
// against the 25 reads a second that Azure Resource Manager refills. There is a point
// for each minute.
func (p *Provider) ConsumptionTerms() providers.ConsumptionTerms {
	return providers.ConsumptionTerms{Batch: 1, Every: metricsGrain, PerSecond: 4, Fresh: metricsSpan}
}

// Consumption reads the metrics of the last minutes of each group (Metrics_List of
// Microsoft.Insights, with the right Microsoft.Insights/metrics/read). The service
// tells averages; the CPU time is their sum since this process first saw the container
// or a minute was missing.
func (p *Provider) Consumption(ctx context.Context, ids []string) (map[string][]providers.ContainerConsumption, error) {
	told := make(map[string][]providers.ContainerConsumption, len(ids))
	for _, id := range ids {
		now := p.config.Clock.Now()
		var points map[string]minutes
		err := p.do(ctx, opMetrics, nil, func(ctx context.Context, s *session) (err error) {
			points, err = p.metrics(ctx, s, id, now)
			return err
		})
		if err != nil {
			return told, err
		}
		told[id] = p.integrals.add(id, points, now)
	}
	return told, nil
}

// minutes are the points of one container that are known, by the start of their
// minute.
type minutes map[time.Time]*minute

// minute is the average of a minute; nil is not told.
type minute struct{ milliCPU, memory *float64 }

type metricsAnswer struct {
	Value []struct {
		Name       struct{ Value string }
		Timeseries []struct {
			MetadataValues []struct {
				Name  struct{ Value string }
				Value string
			}
			Data []struct {
				TimeStamp time.Time
				Average   *float64
			}
		}
	}
}

// metrics asks for the metrics of a group up to now.
func (p *Provider) metrics(ctx context.Context, s *session, id string, now time.Time) (map[string]minutes, error) {
	query := url.Values{
		"api-version": {metricsVersion}, "metricnames": {metricCPU + "," + metricMemory}, "aggregation": {"Average"}, "interval": {"PT1M"},
		"timespan": {now.Add(-metricsSpan).UTC().Format(time.RFC3339) + "/" + now.UTC().Format(time.RFC3339)},
		"$filter":  {"containerName eq '*'"}, "top": {strconv.Itoa(maxContainers)}, // ten by default
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, runtime.JoinPaths(s.manager.Endpoint(), fmt.Sprintf(
		"/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerInstance/containerGroups/%s/providers/Microsoft.Insights/metrics?%s",
		url.PathEscape(p.config.SubscriptionID), url.PathEscape(p.config.ResourceGroup), url.PathEscape(id), query.Encode())))
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	runtime.SkipBodyDownload(req)
	resp, err := s.manager.Pipeline().Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read, or is given up
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return nil, runtime.NewResponseError(resp)
	}
	var answer metricsAnswer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMetrics)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading the metrics: %w", err)
	}
	return answer.points(now), nil
}

// points are what the answer tells of minutes that are over, by container.
func (a *metricsAnswer) points(now time.Time) map[string]minutes {
	points := map[string]minutes{}
	for _, metric := range a.Value {
		for _, series := range metric.Timeseries {
			container := ""
			for _, d := range series.MetadataValues {
				if strings.EqualFold(d.Name.Value, "containerName") {
					container = d.Value
				}
			}
			if container == "" {
				continue
			}
			if points[container] == nil {
				points[container] = minutes{}
			}
			for _, d := range series.Data {
				if d.Average == nil || *d.Average < 0 || d.TimeStamp.Add(metricsGrain).After(now) {
					continue
				}
				at := d.TimeStamp.UTC()
				m := points[container][at]
				if m == nil {
					m = &minute{}
					points[container][at] = m
				}
				switch metric.Name.Value {
				case metricCPU:
					m.milliCPU = d.Average
				case metricMemory:
					m.memory = d.Average
				}
			}
		}
	}
	return points
}

// integrals add up averages, so that they become counters.
type integrals struct {
	mu     sync.Mutex
	known  map[string]map[string]*integral // by group and container
	pruned time.Time
}

// integral is the CPU time of a container from one minute to another.
type integral struct {
	since, until time.Time
	nanoseconds  float64
	read         time.Time
}

// add takes in what was read of a group's containers, and returns how they stand.
func (s *integrals) add(group string, points map[string]minutes, now time.Time) []providers.ContainerConsumption {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prune(now)
	if s.known[group] == nil {
		s.known[group] = map[string]*integral{}
	}
	list := make([]providers.ContainerConsumption, 0, len(points))
	for container, m := range points {
		i := s.known[group][container]
		if i == nil {
			i = &integral{}
			s.known[group][container] = i
		}
		i.read = now
		i.extend(m)
		if c, ok := i.consumption(container, m); ok {
			list = append(list, c)
		}
	}
	return list
}

// extend adds the minutes that follow what is known. After a gap, of which nothing
// can be told, it begins anew.
func (i *integral) extend(m minutes) {
	newest := time.Time{}
	for at, p := range m {
		if p.milliCPU != nil && at.After(newest) {
			newest = at
		}
	}
	if newest.IsZero() || newest.Before(i.until) {
		return
	}
	from := newest
	for {
		before := from.Add(-metricsGrain)
		if p := m[before]; p == nil || p.milliCPU == nil || before.Before(i.until) {
			break
		}
		from = before
	}
	if !from.Equal(i.until) {
		// The first minutes of a container that was not known are not of interest: a
		// counter is best begun where an earlier process ended, with the newest.
		from = newest
		*i = integral{since: from, until: from, read: i.read}
	}
	for at := from; !at.After(newest); at = at.Add(metricsGrain) {
		i.nanoseconds += *m[at].milliCPU * 1e6 * metricsGrain.Seconds()
	}
	i.until = newest.Add(metricsGrain)
}

// consumption is the container at the end of the last minute that was added.
func (i *integral) consumption(container string, m minutes) (providers.ContainerConsumption, bool) {
	last := m[i.until.Add(-metricsGrain)]
	if i.until.IsZero() || last == nil || last.milliCPU == nil {
		return providers.ContainerConsumption{}, false
	}
	total, rate := uint64(math.Round(i.nanoseconds)), uint64(math.Round(*last.milliCPU*1e6))
	c := providers.ContainerConsumption{Name: container, At: i.until, Since: i.since, CPUNanoseconds: &total, CPUNanoCores: &rate}
	if last.memory != nil {
		// The service does not tell one from the other.
		used := uint64(*last.memory)
		c.WorkingSetBytes, c.UsageBytes = &used, &used
	}
	return c, true
}

// prune forgets what was not read for so long that it would begin anew anyway.
func (s *integrals) prune(now time.Time) {
	if now.Sub(s.pruned) < metricsSpan {
		return
	}
	s.pruned = now
	for group, containers := range s.known {
		for name, i := range containers {
			if now.Sub(i.read) > 2*metricsSpan {
				delete(containers, name)
			}
		}
		if len(containers) == 0 {
			delete(s.known, group)
		}
	}
}
