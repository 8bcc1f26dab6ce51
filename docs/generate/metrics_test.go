package main

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/autoburst/autoburst/policy/metric"
)

// Names, types and labels follow the conventions of Prometheus, and no label grows
// with the cluster.
func TestMetricsKeepTheConventions(t *testing.T) {
	types := map[string]dto.MetricType{"counter": dto.MetricType_COUNTER, "gauge": dto.MetricType_GAUGE, "histogram": dto.MetricType_HISTOGRAM}
	stabilities := []metric.Stability{metric.Alpha, metric.Beta, metric.Stable}
	for _, p := range programs() {
		seen := map[string]bool{}
		for _, f := range p.families {
			kind, ok := types[f.Type]
			if !ok || seen[f.Name] || !slices.Contains(stabilities, f.Stability) || f.Help == "" {
				t.Errorf("%s: type %q, stability %q, help %q, declared before: %t", f.Name, f.Type, f.Stability, f.Help, seen[f.Name])
				continue
			}
			seen[f.Name] = true
			shown := &dto.Metric{Counter: &dto.Counter{}, Gauge: &dto.Gauge{}, Histogram: &dto.Histogram{}}
			for _, l := range f.Labels {
				if len(l.Values) == 0 && l.See == "" {
					t.Errorf("%s: nothing bounds the values of label %s", f.Name, l.Name)
				}
				if slices.Contains([]string{"pod", "namespace", "policy", "group", "node", "container", "image"}, l.Name) {
					t.Errorf("%s has the label %s", f.Name, l.Name)
				}
				shown.Label = append(shown.Label, &dto.LabelPair{Name: &l.Name, Value: new(string)})
			}
			problems, err := promlint.NewWithMetricFamilies([]*dto.MetricFamily{{Name: &f.Name, Help: &f.Help, Type: &kind, Metric: []*dto.Metric{shown}}}).Lint()
			if err != nil {
				t.Fatal(err)
			}
			for _, problem := range problems {
				t.Errorf("%s: %s", problem.Metric, problem.Text)
			}
		}
	}
}
