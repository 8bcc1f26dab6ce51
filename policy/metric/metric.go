// Package metric declares the metrics of a program in a form that can be both
// registered and told of: docs/metrics.md is generated from it, and tests compare
// with it what the programs show.
package metric

import (
	"errors"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// Stability says what may change of a metric in which release, in the words of
// Kubernetes' own components. It stands first in the metric's help.
type Stability string

// The stabilities.
const (
	// Alpha metrics may change or go in any release.
	Alpha Stability = "ALPHA"
	// Beta metrics keep their name and type; labels may be added, and a metric that
	// goes is announced one release before.
	Beta Stability = "BETA"
	// Stable metrics keep their name, type and labels.
	Stable Stability = "STABLE"
)

// Family declares one metric.
type Family struct {
	Name string
	// Help says what it tells, without its stability.
	Help      string
	Stability Stability
	// Labels in the order in which their values are given.
	Labels []Label
	// Buckets are those of a histogram, in the unit of the metric.
	Buckets []float64

	// Type is counter, gauge or histogram; a Set fills it in.
	Type string
}

// Label is one label of a family. Its values are a closed list.
type Label struct {
	Name string
	// Values are all that it may have.
	Values []string
	// See says in Markdown where the values are explained, in place of the list.
	See string
}

// Set collects the metrics of one part of a program.
type Set struct {
	families   []Family
	collectors []prometheus.Collector
}

func add[C prometheus.Collector](s *Set, kind string, f Family, c C) C {
	f.Type = kind
	s.families = append(s.families, f)
	s.collectors = append(s.collectors, c)
	return c
}

// Counter adds a counter without labels.
func (s *Set) Counter(f Family) prometheus.Counter {
	return add(s, "counter", f, prometheus.NewCounter(prometheus.CounterOpts{Name: f.Name, Help: f.help()}))
}

// CounterVec adds a counter with labels.
func (s *Set) CounterVec(f Family) *prometheus.CounterVec {
	return add(s, "counter", f, prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.help()}, f.labels()))
}

// Gauge adds a gauge without labels.
func (s *Set) Gauge(f Family) prometheus.Gauge {
	return add(s, "gauge", f, prometheus.NewGauge(prometheus.GaugeOpts{Name: f.Name, Help: f.help()}))
}

// GaugeFunc adds a gauge whose value is asked for when it is read.
func (s *Set) GaugeFunc(f Family, value func() float64) prometheus.GaugeFunc {
	return add(s, "gauge", f, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: f.Name, Help: f.help()}, value))
}

// GaugeVec adds a gauge with labels.
func (s *Set) GaugeVec(f Family) *prometheus.GaugeVec {
	return add(s, "gauge", f, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.help()}, f.labels()))
}

// Gauges adds a gauge with one label whose values are asked for, by label, when it
// is read. Labels that are not among them are not shown.
func (s *Set) Gauges(f Family, values func() map[string]float64) prometheus.Collector {
	return add(s, "gauge", f, prometheus.Collector(&gauges{desc: prometheus.NewDesc(f.Name, f.help(), f.labels(), nil), values: values}))
}

// Histogram adds a histogram without labels.
func (s *Set) Histogram(f Family) prometheus.Histogram {
	return add(s, "histogram", f, prometheus.NewHistogram(prometheus.HistogramOpts{Name: f.Name, Help: f.help(), Buckets: f.Buckets}))
}

// HistogramVec adds a histogram with labels.
func (s *Set) HistogramVec(f Family) *prometheus.HistogramVec {
	return add(s, "histogram", f, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.help(), Buckets: f.Buckets}, f.labels()))
}

// Register registers all metrics of the set.
func (s *Set) Register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range s.collectors {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// Families are the metrics of the set, in the order in which they were added.
func (s *Set) Families() []Family { return slices.Clone(s.families) }

func (f Family) help() string { return "[" + string(f.Stability) + "] " + f.Help }

func (f Family) labels() []string {
	names := make([]string, len(f.Labels))
	for i, l := range f.Labels {
		names[i] = l.Name
	}
	return names
}

// gauges asks for its values when it is read.
type gauges struct {
	desc   *prometheus.Desc
	values func() map[string]float64
}

func (g *gauges) Describe(ch chan<- *prometheus.Desc) { ch <- g.desc }

func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	for label, value := range g.values() {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, label)
	}
}

// Texts are the values of a closed list of texts, for [Label.Values].
func Texts[T ~string](values ...T) []string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return texts
}
