package controller

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// failoverMetrics are those of suspended targets and of stamped pods.
type failoverMetrics struct {
	suspensions   *prometheus.CounterVec
	suspended     prometheus.Gauge
	stamped       prometheus.Counter
	stampFailures prometheus.Counter
}

func newFailoverMetrics() failoverMetrics {
	m := failoverMetrics{
		suspensions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_target_suspensions_total",
			Help: "Targets of policies that were suspended because their cloud refused a pod for good, by the pod's reason.",
		}, []string{"reason"}),
		suspended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_suspended_targets",
			Help: "Targets of policies that are suspended now.",
		}),
		stamped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_stamps_repaired_total",
			Help: "Pods on virtual nodes whose annotations were written by the controller, as the webhook had not written them in the request that bound the pod.",
		}),
		stampFailures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_stamp_failures_total",
			Help: "Writes of such annotations that failed. Each is tried again.",
		}),
	}
	for _, reason := range []string{v1alpha1.PodOutOfStock, v1alpha1.PodQuotaExceeded, v1alpha1.PodRefused} {
		m.suspensions.WithLabelValues(reason)
	}
	return m
}

func (m *failoverMetrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.suspensions), r.Register(m.suspended), r.Register(m.stamped), r.Register(m.stampFailures))
}
