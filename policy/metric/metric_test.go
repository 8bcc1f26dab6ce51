package metric

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestSet(t *testing.T) {
	var s Set
	requests := s.CounterVec(Family{Name: "requests_total", Help: "Requests, by code.", Stability: Beta, Labels: []Label{{Name: "code", Values: []string{"OK", "Bad"}}}})
	s.Gauge(Family{Name: "depth", Help: "How deep.", Stability: Alpha}).Set(3)
	s.GaugeFunc(Family{Name: "level", Help: "How high.", Stability: Stable}, func() float64 { return 4 })
	s.Gauges(Family{Name: "age_seconds", Help: "How old.", Stability: Alpha, Labels: []Label{{Name: "reason"}}}, func() map[string]float64 {
		return map[string]float64{"a": 1, "b": 2}
	})
	requests.WithLabelValues("OK").Inc()
	registry := prometheus.NewPedanticRegistry()
	if err := s.Register(registry); err != nil {
		t.Fatal(err)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP age_seconds [ALPHA] How old.
# TYPE age_seconds gauge
age_seconds{reason="a"} 1
age_seconds{reason="b"} 2
# HELP depth [ALPHA] How deep.
# TYPE depth gauge
depth 3
# HELP level [STABLE] How high.
# TYPE level gauge
level 4
# HELP requests_total [BETA] Requests, by code.
# TYPE requests_total counter
requests_total{code="OK"} 1
`)); err != nil {
		t.Error(err)
	}
	var told []string
	for _, f := range s.Families() {
		told = append(told, f.Name+" "+f.Type)
	}
	if diff := cmp.Diff([]string{"requests_total counter", "depth gauge", "level gauge", "age_seconds gauge"}, told); diff != "" {
		t.Errorf("families (-want +got):\n%s", diff)
	}
	if err := s.Register(registry); err == nil {
		t.Error("the set is registered twice")
	}
}

func TestBuildInfo(t *testing.T) {
	registry := prometheus.NewRegistry()
	if err := BuildInfo("v1.2.3").Register(prometheus.WrapRegistererWith(OfAgent("virtual-eci", "eci"), registry)); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, l := range families[0].GetMetric()[0].GetLabel() {
		labels[l.GetName()] = l.GetValue()
	}
	if labels["version"] != "v1.2.3" || !strings.HasPrefix(labels["goversion"], "go") || labels[LabelVirtualNode] != "virtual-eci" || labels[LabelProvider] != "eci" {
		t.Errorf("labels %v", labels)
	}
}
