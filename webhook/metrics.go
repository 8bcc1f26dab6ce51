package webhook

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/metric"
)

// metrics of the handlers. Labels come from closed lists only: no name of a
// namespace, pod or policy is ever one.
type metrics struct {
	duration   *prometheus.HistogramVec
	admissions *prometheus.CounterVec
	failedOpen *prometheus.CounterVec
	refusals   prometheus.Counter

	set metric.Set
}

// Families are the metrics of the webhook, for their reference.
func Families() []metric.Family { return newMetrics().set.Families() }

func newMetrics() *metrics {
	m := &metrics{}
	hook := metric.Label{Name: "hook", Values: metric.Texts(hookNames[:]...)}
	causes := make([]string, 0, len(sentences))
	for c := range sentences {
		causes = append(causes, string(c))
	}
	slices.Sort(causes)
	m.duration = m.set.HistogramVec(metric.Family{
		Name: "autoburst_webhook_duration_seconds", Stability: metric.Beta,
		Help: "Time from receiving an admission request to having its answer, by hook.",
		// The target is a p99 of 2 ms; the API server gives up after 2 s.
		Buckets: []float64{.0001, .00025, .0005, .001, .0015, .002, .003, .005, .01, .025, .05, .1, .25, .5, 1, 2},
		Labels:  []metric.Label{hook},
	})
	m.admissions = m.set.CounterVec(metric.Family{
		Name: "autoburst_webhook_admissions_total", Stability: metric.Beta,
		Help:   "Pods decided at admission, by action, reason, and the kind of what decided. Dry runs are not counted.",
		Labels: metric.Decision(policy.Actions(), policy.Reasons(), policy.Kinds()),
	})
	m.failedOpen = m.set.CounterVec(metric.Family{
		Name: "autoburst_webhook_failed_open_total", Stability: metric.Beta,
		Help:   "Admission requests whose object was admitted unchanged because something went wrong, by hook and cause.",
		Labels: []metric.Label{hook, {Name: "cause", Values: causes}},
	})
	m.refusals = m.set.Counter(metric.Family{
		Name: "autoburst_webhook_share_refusals_total", Stability: metric.Alpha,
		Help: "Grants at admission that were left to the controller because this replica's share of a limit did not suffice.",
	})
	// A series that is there from the start lets an alert see the first failure.
	for _, hook := range hookNames {
		m.duration.WithLabelValues(string(hook))
		for _, c := range causes {
			m.failedOpen.WithLabelValues(string(hook), c)
		}
	}
	return m
}

func (m *metrics) observe(hook hookName, d time.Duration) {
	m.duration.WithLabelValues(string(hook)).Observe(d.Seconds())
}

func (m *metrics) countFailure(hook hookName, c cause) {
	m.failedOpen.WithLabelValues(string(hook), string(c)).Inc()
}

func (m *metrics) countDecision(d policy.Decision) {
	m.admissions.WithLabelValues(string(d.Action), string(d.Reason), d.By.Kind).Inc()
}
