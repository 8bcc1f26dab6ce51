package webhook

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy"
)

// metrics of the handlers. Labels come from closed lists only: no name of a
// namespace, pod or policy is ever one.
type metrics struct {
	duration   *prometheus.HistogramVec
	decisions  *prometheus.CounterVec
	failedOpen *prometheus.CounterVec
	refusals   prometheus.Counter
}

func newMetrics() *metrics {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "autoburst_webhook_duration_seconds",
			Help: "Time from receiving an admission request to having its answer, by hook.",
			// The target is a p99 of 2 ms; the API server gives up after 2 s.
			Buckets: []float64{.0001, .00025, .0005, .001, .0015, .002, .003, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		}, []string{"hook"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_webhook_decisions_total",
			Help: "Pods decided at admission, by action, reason, and the kind of what decided. Dry runs are not counted.",
		}, []string{"action", "reason", "policy_kind"}),
		failedOpen: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_webhook_failed_open_total",
			Help: "Admission requests whose object was admitted unchanged because something went wrong, by hook and cause.",
		}, []string{"hook", "cause"}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_share_refusals_total",
			Help: "Grants at admission that were left to the controller because this replica's share of a limit did not suffice.",
		}),
	}
	// A series that is there from the start lets an alert see the first failure.
	for _, hook := range hookNames {
		m.duration.WithLabelValues(string(hook))
		for c := range sentences {
			m.failedOpen.WithLabelValues(string(hook), string(c))
		}
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.duration), r.Register(m.decisions), r.Register(m.failedOpen), r.Register(m.refusals))
}

func (m *metrics) observe(hook hookName, d time.Duration) {
	m.duration.WithLabelValues(string(hook)).Observe(d.Seconds())
}

func (m *metrics) countFailure(hook hookName, c cause) {
	m.failedOpen.WithLabelValues(string(hook), string(c)).Inc()
}

func (m *metrics) countDecision(d policy.Decision) {
	m.decisions.WithLabelValues(string(d.Action), string(d.Reason), d.By.Kind).Inc()
}
