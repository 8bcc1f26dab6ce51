package vnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// Metrics are the figures of one virtual node.
type Metrics struct {
	calls      *prometheus.HistogramVec
	errors     *prometheus.CounterVec
	groups     *prometheus.GaugeVec
	orphans    prometheus.Counter
	vanished   prometheus.Counter
	refused    prometheus.Counter
	sweep      prometheus.Histogram
	sweepTime  prometheus.Gauge
	writes     *prometheus.CounterVec
	events     *prometheus.CounterVec
	panics     prometheus.Counter
	reachable  prometheus.Gauge
	unsettled  prometheus.Gauge
	queueDepth prometheus.Gauge
	leads      prometheus.Gauge
	loops      prometheus.Counter
	failingOps *prometheus.GaugeVec
	held       prometheus.Gauge

	orphaned, orphanedLong prometheus.Gauge
	certificateExpiry      prometheus.Gauge
	quotas                 *quotaMetrics
}

// NewMetrics makes the figures and adds them to a registry.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "autoburst_vnode_cloud_call_seconds", Help: "Time of calls to the cloud, by operation and class of error (empty: none).",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}, []string{"operation", "class"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_vnode_cloud_errors_total", Help: "Failed calls to the cloud, by operation and class.",
		}, []string{"operation", "class"}),
		groups: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "autoburst_vnode_groups", Help: "Container groups of this node at the last sweep, by phase (Unknown: not read yet).",
		}, []string{"phase"}),
		orphans: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_vnode_orphans_removed_total", Help: "Container groups removed because their pod is gone from the API server.",
		}),
		vanished: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_vnode_groups_vanished_total", Help: "Container groups that ended in the cloud without anyone asking for it through Kubernetes.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_vnode_pods_refused_total", Help: "Pods failed because the cloud cannot run them.",
		}),
		sweep: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "autoburst_vnode_sweep_seconds", Help: "Time of one comparison of wanted pods with existing groups.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}),
		sweepTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_vnode_last_sweep_timestamp_seconds", Help: "Unix time of the last complete listing of the cloud.",
		}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_vnode_pod_status_writes_total", Help: "Writes of pod status, by result.",
		}, []string{"result"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "autoburst_vnode_events_total", Help: "Kubernetes events, by result: created, known, failed, dropped.",
		}, []string{"result"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_vnode_panics_total", Help: "Panics in the work on a single pod; the others go on.",
		}),
		reachable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_vnode_cloud_reachable", Help: "1 while the cloud answers and accepts the credentials.",
		}),
		unsettled: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_vnode_groups_changing", Help: "Groups that start, change or end.",
		}),
		queueDepth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_vnode_queue_depth", Help: "Pods that wait for a worker.",
		}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_vnode_leader", Help: "1 in the replica that leads its virtual node, 0 in those that stand by.",
		}),
		quotas: newQuotaMetrics(),
	}
	m.loops = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "autoburst_vnode_create_loops_total", Help: "Pods for which no more groups are made because too many were.",
	})
	m.failingOps = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "autoburst_vnode_cloud_operation_failing", Help: "1 for each operation of the cloud that keeps failing while the cloud answers others.",
	}, []string{"operation"})
	m.held = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "autoburst_vnode_pods_held", Help: "Pods whose group is not asked for now, because the cloud has refused others like it or does not answer.",
	})
	m.orphaned = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "autoburst_vnode_groups_without_pod", Help: "Container groups of this node at the last sweep that no pod stands for.",
	})
	m.orphanedLong = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "autoburst_vnode_groups_without_pod_long", Help: "Those of them that have been so for more than 10 minutes: they cost money for nothing.",
	})
	m.certificateExpiry = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "autoburst_vnode_serving_certificate_expiry_timestamp_seconds",
		Help: "When the certificate of the kubelet API that the cluster's signer or cert-manager has made expires, in Unix seconds; 0 while there is none and the agent signs for itself.",
	})
	if registry != nil {
		registry.MustRegister(m.calls, m.errors, m.groups, m.orphans, m.vanished, m.refused, m.sweep,
			m.sweepTime, m.writes, m.events, m.panics, m.reachable, m.unsettled, m.queueDepth, m.leads,
			m.loops, m.failingOps, m.held, m.orphaned, m.orphanedLong, m.certificateExpiry)
		registry.MustRegister(m.quotas.collectors()...)
	}
	return m
}

// failing shows the operations that keep failing.
func (m *Metrics) failing(operations []string) {
	m.failingOps.Reset()
	for _, op := range operations {
		m.failingOps.WithLabelValues(op).Set(1)
	}
}

func (m *Metrics) call(operation string, took time.Duration, err error) {
	if _, postponed := quota.Postponed(err); postponed {
		return // no call was made
	}
	class := string(providers.ClassOf(err))
	m.calls.WithLabelValues(operation, class).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(operation, class).Inc()
	}
}
