package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/policy/v1alpha1"
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

// Where pods that a policy decides for are.
const (
	locatedLocal   = "local"
	locatedVirtual = "virtual"
	locatedNowhere = "waiting"
)

// The values of label ready.
const (
	isReady    = "true"
	isNotReady = "false"
)

// metrics of the controller. Labels come from closed lists only: no name of a
// namespace, pod or policy is ever one.
type metrics struct {
	decisions *prometheus.CounterVec
	latency   prometheus.Histogram
	failures  *prometheus.CounterVec
	waiting   *prometheus.GaugeVec
	pods      *prometheus.GaugeVec
	recount   prometheus.Histogram
	failoverMetrics
	gates *prometheus.CounterVec
	// repatriations are evictions to local nodes.
	repatriations *prometheus.CounterVec
	// ledgerWrites counts writes of the ledger of limits, by result.
	ledgerWrites *prometheus.CounterVec
	// oldest and nodes are what the ages of waiting pods, and the virtual nodes by
	// readiness, are asked of.
	oldest, nodes func() map[string]float64

	set metric.Set
}

// What became of pods at our gate.
const (
	gateGranted  = "granted"  // they may burst
	gateReleased = "released" // they are left to the scheduler
)

// Families are the metrics of the policy controller, for their reference.
func Families() []metric.Family {
	never := func() bool { return false }
	return newMetrics(never, never).set.Families()
}

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
	none := func() map[string]float64 { return nil }
	m := &metrics{oldest: none, nodes: none}
	s := &m.set
	m.decisions = s.CounterVec(metric.Family{
		Name: "autoburst_late_decisions_total", Stability: metric.Beta,
		Help:   "Unschedulable pods decided, by action, reason, and the kind of what decided. A pod counts once for each reason.",
		Labels: metric.Decision(policy.Actions(), policy.Reasons(), policy.Kinds()),
	})
	m.latency = s.Histogram(metric.Family{
		Name: "autoburst_late_grant_duration_seconds", Stability: metric.Beta,
		Help: "Time from seeing that a pod may burst to having written its toleration.",
		// The target is a p50 of 25 ms and a p99 of 150 ms.
		Buckets: []float64{.001, .0025, .005, .01, .015, .025, .05, .075, .1, .15, .25, .5, 1, 2.5, 5},
	})
	causes := []string{causeChanged, causeRejected, causeError}
	m.failures = s.CounterVec(metric.Family{
		Name: "autoburst_late_grant_failures_total", Stability: metric.Beta,
		Help:   "Tolerations that could not be written, by cause. Each is tried again.",
		Labels: []metric.Label{{Name: "cause", Values: causes}},
	})
	reason := metric.Reason(policy.Reasons())
	m.waiting = s.GaugeVec(metric.Family{
		Name: "autoburst_waiting_pods", Stability: metric.Beta,
		Help: "Unschedulable pods that do not burst yet, by reason.", Labels: []metric.Label{reason},
	})
	s.Gauges(metric.Family{
		Name: "autoburst_waiting_pod_oldest_seconds", Stability: metric.Beta,
		Help:   "For how long the scheduler has found the oldest waiting pod unschedulable, by reason; " + string(policy.AlreadyGranted) + " for those that may burst and have no node yet.",
		Labels: []metric.Label{reason},
	}, func() map[string]float64 { return m.oldest() })
	m.pods = s.GaugeVec(metric.Family{
		Name: "autoburst_policy_pods", Stability: metric.Beta,
		Help: "Pods that something decides for, by the kind of that and by where they are: on local nodes, on virtual nodes, or waiting for a node.",
		Labels: []metric.Label{
			{Name: "policy_kind", Values: policy.Kinds()}, {Name: "location", Values: []string{locatedLocal, locatedVirtual, locatedNowhere}},
		},
	})
	m.recount = s.Histogram(metric.Family{
		Name: "autoburst_status_recount_duration_seconds", Stability: metric.Alpha,
		Help:    "Time to count the pods of all policies for their status.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
	})
	moves := []string{moveEvicted, moveRefused, moveFailed}
	m.repatriations = s.CounterVec(metric.Family{
		Name: "autoburst_repatriations_total", Stability: metric.Alpha,
		Help:   "Pods that were to be moved back to local nodes, by what came of it.",
		Labels: []metric.Label{{Name: "result", Values: moves}},
	})
	s.GaugeFunc(metric.Family{
		Name: "autoburst_stopped", Stability: metric.Beta,
		Help: "1 while this replica sees that an operator has stopped all bursting, 0 otherwise.",
	}, gauge(stopped))
	s.GaugeFunc(metric.Family{
		Name: "autoburst_controller_live", Stability: metric.Beta,
		Help: "1 while this replica sees that an elected controller is at work, 0 otherwise.",
	}, gauge(live))
	s.Gauges(metric.Family{
		Name: "autoburst_virtual_nodes", Stability: metric.Beta,
		Help:   "Virtual nodes that this replica sees, of whichever maker, by whether pods can be placed there: Ready, not cordoned, and without a taint such as not-ready.",
		Labels: []metric.Label{{Name: "ready", Values: []string{isReady, isNotReady}}},
	}, func() map[string]float64 { return m.nodes() })
	outcomes := []string{gateGranted, gateReleased}
	m.gates = s.CounterVec(metric.Family{
		Name: "autoburst_gates_opened_total", Stability: metric.Alpha,
		Help:   "Scheduling gates that were opened, by whether the pod was granted a virtual node with it or released to the scheduler.",
		Labels: []metric.Label{{Name: "outcome", Values: outcomes}},
	})
	m.failoverMetrics = newFailoverMetrics(s)
	results := []string{resultWritten, resultConflict, resultFailed}
	m.ledgerWrites = s.CounterVec(metric.Family{
		Name: "autoburst_ledger_writes_total", Stability: metric.Alpha,
		Help:   "Writes of the ledger of limits by the elected replica, by result.",
		Labels: []metric.Label{{Name: "result", Values: results}},
	})
	// A series that is there from the start lets an alert see the first failure.
	for _, result := range results {
		m.ledgerWrites.WithLabelValues(result)
	}
	for _, outcome := range outcomes {
		m.gates.WithLabelValues(outcome)
	}
	for _, cause := range causes {
		m.failures.WithLabelValues(cause)
	}
	for _, result := range moves {
		m.repatriations.WithLabelValues(result)
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error { return m.set.Register(r) }

func (m *metrics) countDecision(d policy.Decision) {
	m.decisions.WithLabelValues(string(d.Action), string(d.Reason), d.By.Kind).Inc()
}

func (m *metrics) granted(after time.Duration) { m.latency.Observe(after.Seconds()) }

// readiness counts virtual nodes by whether they are ready.
func readiness(nodes []*policy.VirtualNode) map[string]float64 {
	by := map[string]float64{isReady: 0, isNotReady: 0}
	for _, n := range nodes {
		if n.Ready {
			by[isReady]++
		} else {
			by[isNotReady]++
		}
	}
	return by
}

// counted shows the pods of all policies.
func (m *metrics) counted(by map[policy.Ref]counts) {
	kinds := map[string]v1alpha1.PodCounts{}
	for ref, c := range by {
		sum := kinds[ref.Kind]
		sum.Local += c.Local
		sum.Burst += c.Burst
		sum.Waiting += c.Waiting
		kinds[ref.Kind] = sum
	}
	for _, kind := range policy.Kinds() {
		for location, n := range map[string]int32{
			locatedLocal: kinds[kind].Local, locatedVirtual: kinds[kind].Burst, locatedNowhere: kinds[kind].Waiting,
		} {
			m.pods.WithLabelValues(kind, location).Set(float64(n))
		}
	}
}
