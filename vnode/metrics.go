package vnode

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// codeOK is the code of a call that succeeded; those of others are the classes of
// their errors.
const codeOK = "OK"

// operations are what the agent asks of a provider.
var operations = []string{
	"Create", "Delete", "List", "Changes", "Get", "Find", "Check", "Usage", "Consumption", "Logs", "Exec", "Attach",
}

// callCodes are how a call may end.
var callCodes = append([]string{codeOK}, metric.Texts(
	providers.NotFound, providers.Throttled, providers.Unavailable, providers.Unknown, providers.Conflict, providers.Unauthorized,
	providers.Misconfigured, providers.AccountSuspended, providers.QuotaExceeded, providers.OutOfStock, providers.NoSuchStock,
	providers.InvalidPod, providers.Unsupported)...)

// phaseUnknown is that of a group that was not read yet.
const phaseUnknown = "Unknown"

// groupPhases, podPhases and conditionTypes are the values of labels.
var (
	groupPhases = append(metric.Texts(
		providers.GroupPending, providers.GroupRunning, providers.GroupSucceeded, providers.GroupFailed), phaseUnknown)
	podPhases      = metric.Texts(corev1.PodPending, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown)
	conditionTypes = metric.Texts(corev1.NodeReady, v1alpha1.CloudReachableCondition, v1alpha1.CapacityAvailableCondition)
)

// The values of label result.
const (
	resultWritten = "written"
	resultCreated = "created"
	resultKnown   = "known"
	resultFailed  = "failed"
	resultDropped = "dropped"
)

// Metrics are the figures of one virtual node.
type Metrics struct {
	requests   *prometheus.CounterVec
	durations  *prometheus.HistogramVec
	groups     *prometheus.GaugeVec
	pods       *prometheus.GaugeVec
	startup    prometheus.Histogram
	cores      prometheus.Gauge
	memory     prometheus.Gauge
	orphans    prometheus.Counter
	vanished   prometheus.Counter
	refused    prometheus.Counter
	sweep      prometheus.Histogram
	sweepTime  prometheus.Gauge
	writes     *prometheus.CounterVec
	events     *prometheus.CounterVec
	panics     prometheus.Counter
	reachable  prometheus.Gauge
	conditions *prometheus.GaugeVec
	unsettled  prometheus.Gauge
	queueDepth prometheus.Gauge
	leads      prometheus.Gauge
	loops      prometheus.Counter
	failingOps *prometheus.GaugeVec
	held       prometheus.Gauge
	clock      prometheus.Gauge

	orphaned, orphanedLong prometheus.Gauge
	certificateExpiry      prometheus.Gauge
	quotas                 *quotaMetrics
}

// NewMetrics makes the figures and adds them to a registry.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m, set := newMetrics()
	if registry != nil {
		if err := set.Register(registry); err != nil {
			panic(err) // as MustRegister does: they are registered already
		}
	}
	return m
}

// Families are the metrics of an agent, for their reference.
func Families() []metric.Family {
	_, set := newMetrics()
	return set.Families()
}

func newMetrics() (*Metrics, *metric.Set) {
	set := &metric.Set{}
	operation := metric.Label{Name: "operation", Values: operations}
	m := &Metrics{
		requests: set.CounterVec(metric.Family{
			Name: "autoburst_provider_requests_total", Stability: metric.Beta,
			Help:   "Calls to the cloud, by operation and by code: OK, or the class of the error.",
			Labels: []metric.Label{operation, {Name: "code", Values: callCodes}},
		}),
		durations: set.HistogramVec(metric.Family{
			Name: "autoburst_provider_request_duration_seconds", Stability: metric.Beta,
			Help:   "Time of calls to the cloud, whether they succeed or not, by operation.",
			Labels: []metric.Label{operation}, Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}),
		failingOps: set.GaugeVec(metric.Family{
			Name: "autoburst_vnode_cloud_operation_failing", Stability: metric.Alpha,
			Help:   "1 for each operation of the cloud that keeps failing while the cloud answers others.",
			Labels: []metric.Label{operation},
		}),
		reachable: set.Gauge(metric.Family{
			Name: "autoburst_vnode_cloud_reachable", Stability: metric.Beta,
			Help: "1 while the cloud answers and accepts the credentials; 0 otherwise, and in an agent that stands by.",
		}),
		clock: set.Gauge(metric.Family{
			Name: "autoburst_provider_clock_offset_seconds", Stability: metric.Alpha,
			Help: "How far the cloud's clock is ahead of the agent's, by the date of its last answer, which has a resolution of 1 s.",
		}),
		conditions: set.GaugeVec(metric.Family{
			Name: "autoburst_vnode_node_condition", Stability: metric.Beta,
			Help:   "1 while the leader holds a condition of its virtual node to be true; 0 otherwise, and in an agent that stands by.",
			Labels: []metric.Label{{Name: "condition", Values: conditionTypes}},
		}),
		leads: set.Gauge(metric.Family{
			Name: "autoburst_vnode_leader", Stability: metric.Beta,
			Help: "1 in the replica that leads its virtual node, 0 in those that stand by.",
		}),
		pods: set.GaugeVec(metric.Family{
			Name: "autoburst_vnode_pods", Stability: metric.Beta,
			Help:   "Pods of the virtual node at the last sweep, by phase.",
			Labels: []metric.Label{{Name: "phase", Values: podPhases}},
		}),
		startup: set.Histogram(metric.Family{
			Name: "autoburst_vnode_pod_startup_duration_seconds", Stability: metric.Beta,
			Help:    "Time from a pod's binding to the virtual node until its containers ran and were ready, where the agent has seen both.",
			Buckets: []float64{1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 3600},
		}),
		held: set.Gauge(metric.Family{
			Name: "autoburst_vnode_pods_held", Stability: metric.Alpha,
			Help: "Pods whose group is not asked for now, because the cloud has refused others like it or does not answer.",
		}),
		refused: set.Counter(metric.Family{
			Name: "autoburst_vnode_pods_refused_total", Stability: metric.Alpha,
			Help: "Pods failed because the cloud cannot run them.",
		}),
		groups: set.GaugeVec(metric.Family{
			Name: "autoburst_vnode_groups", Stability: metric.Beta,
			Help:   "Container groups of this node at the last sweep, by phase (" + phaseUnknown + ": not read yet).",
			Labels: []metric.Label{{Name: "phase", Values: groupPhases}},
		}),
		cores: set.Gauge(metric.Family{
			Name: "autoburst_vnode_billed_cpu_cores", Stability: metric.Alpha,
			Help: "vCPUs of the groups that had not ended at the last sweep, in the sizes that the cloud sells.",
		}),
		memory: set.Gauge(metric.Family{
			Name: "autoburst_vnode_billed_memory_bytes", Stability: metric.Alpha,
			Help: "Memory of the groups that had not ended at the last sweep, in the sizes that the cloud sells.",
		}),
		unsettled: set.Gauge(metric.Family{
			Name: "autoburst_vnode_groups_changing", Stability: metric.Alpha,
			Help: "Groups that start, change or end.",
		}),
		orphaned: set.Gauge(metric.Family{
			Name: "autoburst_vnode_groups_without_pod", Stability: metric.Alpha,
			Help: "Container groups of this node at the last sweep that no pod stands for.",
		}),
		orphanedLong: set.Gauge(metric.Family{
			Name: "autoburst_vnode_groups_without_pod_long", Stability: metric.Beta,
			Help: "Container groups of this node for which no pod has stood for more than 10 minutes: they cost money for nothing.",
		}),
		orphans: set.Counter(metric.Family{
			Name: "autoburst_vnode_orphans_removed_total", Stability: metric.Alpha,
			Help: "Container groups removed because their pod is gone from the API server.",
		}),
		vanished: set.Counter(metric.Family{
			Name: "autoburst_vnode_groups_vanished_total", Stability: metric.Alpha,
			Help: "Container groups that ended in the cloud without anyone asking for it through Kubernetes.",
		}),
		loops: set.Counter(metric.Family{
			Name: "autoburst_vnode_create_loops_total", Stability: metric.Alpha,
			Help: "Pods for which no more groups are made because too many were.",
		}),
		sweep: set.Histogram(metric.Family{
			Name: "autoburst_vnode_sweep_duration_seconds", Stability: metric.Alpha,
			Help:    "Time of one comparison of wanted pods with existing groups.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 13),
		}),
		sweepTime: set.Gauge(metric.Family{
			Name: "autoburst_vnode_last_sweep_timestamp_seconds", Stability: metric.Beta,
			Help: "Unix time of the last complete listing of the cloud.",
		}),
		queueDepth: set.Gauge(metric.Family{
			Name: "autoburst_vnode_queue_depth", Stability: metric.Alpha,
			Help: "Pods that wait for a worker.",
		}),
		writes: set.CounterVec(metric.Family{
			Name: "autoburst_vnode_pod_status_writes_total", Stability: metric.Alpha,
			Help: "Writes of pod status, by result.", Labels: []metric.Label{{Name: "result", Values: []string{resultWritten, resultFailed}}},
		}),
		events: set.CounterVec(metric.Family{
			Name: "autoburst_vnode_events_total", Stability: metric.Alpha,
			Help: "Kubernetes events, by result.", Labels: []metric.Label{{Name: "result", Values: []string{resultCreated, resultKnown, resultFailed, resultDropped}}},
		}),
		panics: set.Counter(metric.Family{
			Name: "autoburst_vnode_panics_total", Stability: metric.Beta,
			Help: "Panics in the work on a single pod; the others go on.",
		}),
		certificateExpiry: set.Gauge(metric.Family{
			Name: "autoburst_vnode_serving_certificate_expiry_timestamp_seconds", Stability: metric.Beta,
			Help: "When the certificate of the kubelet API that the cluster's signer or cert-manager has made expires, in Unix seconds; 0 while there is none and the agent signs for itself.",
		}),
		quotas: newQuotaMetrics(set),
	}
	for _, kind := range conditionTypes {
		m.conditions.WithLabelValues(kind)
	}
	return m, set
}

// failing shows the operations that keep failing.
func (m *Metrics) failing(operations []string) {
	m.failingOps.Reset()
	for _, op := range operations {
		m.failingOps.WithLabelValues(op).Set(1)
	}
}

// condition shows one of the node's conditions.
func (m *Metrics) condition(kind corev1.NodeConditionType, c condition) {
	value := 0.0
	if c.ok {
		value = 1
	}
	m.conditions.WithLabelValues(string(kind)).Set(value)
}

// standBy takes back all that only a leader knows.
func (m *Metrics) standBy() {
	for _, g := range []prometheus.Gauge{
		m.leads, m.reachable, m.cores, m.memory, m.unsettled, m.queueDepth, m.held, m.orphaned, m.orphanedLong,
	} {
		g.Set(0)
	}
	for _, v := range []*prometheus.GaugeVec{m.groups, m.pods, m.failingOps} {
		v.Reset()
	}
	for _, kind := range conditionTypes {
		m.conditions.WithLabelValues(kind).Set(0)
	}
}

func (m *Metrics) call(operation string, took time.Duration, err error) {
	if _, postponed := quota.Postponed(err); postponed {
		return // no call was made
	}
	code := codeOK
	if err != nil {
		code = string(providers.ClassOf(err))
	}
	m.requests.WithLabelValues(operation, code).Inc()
	m.durations.WithLabelValues(operation).Observe(took.Seconds())
}
