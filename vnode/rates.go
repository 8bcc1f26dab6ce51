package vnode

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// accountOf is the account whose quotas a provider keeps to, or nil.
func accountOf(p providers.Provider) *quota.Account {
	if q, ok := p.(interface{ Quota() *quota.Account }); ok {
		return q.Quota()
	}
	return nil
}

// quotaMetrics are the figures of the account's request quotas, by operation.
type quotaMetrics struct {
	documented, believed, share, waiting, closed *prometheus.GaugeVec
	throttled                                    *prometheus.CounterVec

	counted map[string]int // throttled answers that the counter knows
}

func newQuotaMetrics(set *metric.Set) *quotaMetrics {
	labels := []metric.Label{{Name: "operation", See: "operations of the account's quotas, see [rates](rates.md)"}}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return set.GaugeVec(metric.Family{Name: "autoburst_vnode_quota_" + name, Stability: metric.Alpha, Help: help, Labels: labels})
	}
	return &quotaMetrics{
		documented: gauge("documented_per_second", "Calls per second in the long run that the cloud's vendor, or the operator, says the account may make; 0 is no bound."),
		believed:   gauge("believed_per_second", "Calls per second in the long run that the cloud has been found to grant the account."),
		share:      gauge("share_ratio", "Part of the account's request quota that this agent may use, from 0 to 1."),
		waiting:    gauge("waiting_calls", "Calls, and pods that want one, that wait for the account's request quota."),
		closed:     gauge("closed_seconds", "For how long no call is made because the cloud has throttled."),
		throttled: set.CounterVec(metric.Family{
			Name: "autoburst_vnode_quota_throttled_total", Stability: metric.Beta,
			Help: "Calls that the cloud refused because of the account's request quota.", Labels: labels,
		}),
		counted: map[string]int{},
	}
}

// show sets the figures. It is called by one goroutine.
func (m *quotaMetrics) show(states []quota.State) {
	for _, s := range states {
		m.documented.WithLabelValues(s.Operation).Set(s.Documented)
		m.believed.WithLabelValues(s.Operation).Set(s.Believed)
		m.share.WithLabelValues(s.Operation).Set(s.Share)
		m.waiting.WithLabelValues(s.Operation).Set(float64(s.Waiting))
		m.closed.WithLabelValues(s.Operation).Set(s.Closed.Seconds())
		m.throttled.WithLabelValues(s.Operation).Add(float64(s.Throttled - m.counted[s.Operation]))
		m.counted[s.Operation] = s.Throttled
	}
}
