package controller

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy"
)

// Causes for which a grant could not be written.
const (
	causeChanged  = "changed"  // the pod changed meanwhile; it is looked at again
	causeRejected = "rejected" // the API server refuses the toleration
	causeError    = "error"    // anything else, tried again
)

// Results of moving a pod back.
const (
	moveEvicted = "evicted"
	moveRefused = "refused" // by a disruption budget
	moveFailed  = "failed"  // anything else, tried again
)

// Results of writes of the ledger of limits.
const (
	resultWritten  = "written"
	resultConflict = "conflict" // another has written it meanwhile
	resultFailed   = "failed"   // anything else, tried again
)

// metrics of the controller. Labels come from closed lists only: no name of a
// namespace, pod or policy is ever one.
type metrics struct {
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	failures  *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	recount   prometheus.Histogram
	stopped   prometheus.GaugeFunc
	failoverMetrics
	live  prometheus.GaugeFunc
	gates *prometheus.CounterVec
	// repatriations are evictions to local nodes.
	repatriations *prometheus.CounterVec
	// ledgerWrites counts writes of the ledger of limits, by result.
	ledgerWrites *prometheus.CounterVec
}

// What became of pods at our gate.
const (
	gateGranted  = "granted"  // they may burst
	gateReleased = "released" // they are left to the scheduler
)

// newMetrics takes what tells whether bursting is stopped and whether a controller
// is live. Every replica shows its own view of that, as every replica answers the
// webhook by it.
func newMetrics(stopped, live func() bool) *metrics {
	gauge := func(is func() bool) func() float64 {
		return func() float64 {
			if is() {
				return 1
			}
			return 0
		}
	}
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_late_decisions_total",
			Help: "Unschedulable pods decided, by action, reason, and the kind of what decided. A pod counts once for each reason.",
		}, []string{"action", "reason", "policy_kind"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "autoburst_late_grant_duration_seconds",
			Help: "Time from seeing that a pod may burst to having written its toleration.",
			// The target is a p50 of 25 ms and a p99 of 150 ms.
			Buckets: []float64{.001, .0025, .005, .01, .015, .025, .05, .075, .1, .15, .25, .5, 1, 2.5, 5},
		}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_late_grant_failures_total",
			Help: "Tolerations that could not be written, by cause. Each is tried again.",
		}, []string{"cause"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "autoburst_waiting_pods",
			Help: "Unschedulable pods that do not burst yet, by reason.",
		}, []string{"reason"}),
		recount: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "autoburst_status_recount_duration_seconds",
			Help:    "Time to count the pods of all policies for their status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
		repatriations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_repatriations_total",
			Help: "Pods that were to be moved back to local nodes, by what came of it.",
		}, []string{"result"}),
		stopped: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "autoburst_stopped",
			Help: "1 while this replica sees that an operator has stopped all bursting, 0 otherwise.",
		}, gauge(stopped)),
		live: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "autoburst_controller_live",
			Help: "1 while this replica sees that an elected controller is at work, 0 otherwise.",
		}, gauge(live)),
		gates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_gates_opened_total",
			Help: "Scheduling gates that were opened, by whether the pod was granted a virtual node with it or released to the scheduler.",
		}, []string{"outcome"}),
	}
	m.failoverMetrics = newFailoverMetrics()
	m.ledgerWrites = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "autoburst_ledger_writes_total",
		Help: "Writes of the ledger of limits by the elected replica, by result.",
	}, []string{"result"})
	for _, result := range []string{resultWritten, resultConflict, resultFailed} {
		m.ledgerWrites.WithLabelValues(result)
	}
	// A series that is there from the start lets an alert see the first failure.
	for _, cause := range []string{causeChanged, causeRejected, causeError} {
		m.failures.WithLabelValues(cause)
	}
	for _, result := range []string{moveEvicted, moveRefused, moveFailed} {
		m.repatriations.WithLabelValues(result)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(
		r.Register(m.decisions), r.Register(m.latency), r.Register(m.failures),
		r.Register(m.waiting), r.Register(m.recount), r.Register(m.stopped), r.Register(m.ledgerWrites),
		r.Register(m.live), r.Register(m.gates), r.Register(m.repatriations), m.failoverMetrics.register(r))
}

func (m *metrics) countDecision(d policy.Decision) {
	m.decisions.WithLabelValues(string(d.Action), string(d.Reason), d.By.Kind).Inc()
}

func (m *metrics) granted(after time.Duration) { m.latency.Observe(after.Seconds()) }
