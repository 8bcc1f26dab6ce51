package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// failoverMetrics are those of suspended targets and of stamped pods.
type failoverMetrics struct {
	suspensions   *prometheus.CounterVec
	suspended     prometheus.Gauge
	stamped       prometheus.Counter
	stampFailures prometheus.Counter
}

func newFailoverMetrics(set *metric.Set) failoverMetrics {
	reasons := []string{v1alpha1.PodOutOfStock, v1alpha1.PodQuotaExceeded, v1alpha1.PodRefused}
	m := failoverMetrics{
		suspensions: set.CounterVec(metric.Family{
			Name: "autoburst_target_suspensions_total", Stability: metric.Beta,
			Help:   "Targets of policies that were suspended because their cloud refused a pod for good, by the pod's reason.",
			Labels: []metric.Label{{Name: "reason", Values: reasons}},
		}),
		suspended: set.Gauge(metric.Family{
			Name: "autoburst_suspended_targets", Stability: metric.Beta,
			Help: "Targets of policies that are suspended now.",
		}),
		stamped: set.Counter(metric.Family{
			Name: "autoburst_stamps_repaired_total", Stability: metric.Alpha,
			Help: "Pods on virtual nodes whose annotations were written by the controller, as the webhook had not written them in the request that bound the pod.",
		}),
		stampFailures: set.Counter(metric.Family{
			Name: "autoburst_stamp_failures_total", Stability: metric.Alpha,
			Help: "Writes of annotations of pods on virtual nodes in the webhook's stead that failed. Each is tried again.",
		}),
	}
	for _, reason := range reasons {
		m.suspensions.WithLabelValues(reason)
	}
	return m
}
