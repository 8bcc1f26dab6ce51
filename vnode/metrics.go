package vnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/providers"
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
	}
	if registry != nil {
		registry.MustRegister(m.calls, m.errors, m.groups, m.orphans, m.vanished, m.refused, m.sweep,
			m.sweepTime, m.writes, m.events, m.panics, m.reachable, m.unsettled, m.queueDepth, m.leads)
	}
	return m
}

func (m *Metrics) call(operation string, took time.Duration, err error) {
	class := string(providers.ClassOf(err))
	m.calls.WithLabelValues(operation, class).Observe(took.Seconds())
	if err != nil {
		m.errors.WithLabelValues(operation, class).Inc()
	}
}
