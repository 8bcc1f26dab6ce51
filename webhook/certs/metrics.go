package certs

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/autoburst/autoburst/policy/metric"
)

type healthCheck func(*http.Request) error

type metrics struct {
	expiry *prometheus.GaugeVec
	errors prometheus.Counter
	// Of cert-manager's Certificate.
	certificateReady, renewal prometheus.Gauge

	set, ofCertManager metric.Set
}

// The values of label certificate.
const (
	certificateLeaf      = "leaf"
	certificateAuthority = "authority"
)

// Families are the metrics of the webhook's certificates, for their reference.
func Families() []metric.Family {
	m := newMetrics(func(*http.Request) error { return nil })
	return append(m.set.Families(), m.ofCertManager.Families()...)
}

// newMetrics takes the check that passes while this replica can serve.
func newMetrics(check healthCheck) *metrics {
	m := &metrics{}
	m.expiry = m.set.GaugeVec(metric.Family{
		Name: "autoburst_webhook_certificate_expiry_timestamp_seconds", Stability: metric.Beta,
		Help:   "When a certificate of the webhook expires, in Unix seconds: this replica's leaf, and the authority that the API server trusts it by.",
		Labels: []metric.Label{{Name: "certificate", Values: []string{certificateLeaf, certificateAuthority}}},
	})
	m.errors = m.set.Counter(metric.Family{
		Name: "autoburst_webhook_certificate_errors_total", Stability: metric.Beta,
		Help: "Failed passes over the webhook's certificates. Each is tried again.",
	})
	m.set.GaugeFunc(metric.Family{
		Name: "autoburst_webhook_certificate_ready", Stability: metric.Beta,
		Help: "1 while this replica has a serving certificate that is valid now and that the API server has been told to trust; otherwise admission fails open.",
	}, func() float64 {
		if check(nil) != nil {
			return 0
		}
		return 1
	})
	m.certificateReady = m.ofCertManager.Gauge(metric.Family{
		Name: "autoburst_webhook_certmanager_certificate_ready", Stability: metric.Beta,
		Help: "1 while cert-manager says that the webhook's Certificate is ready. Shown where cert-manager makes it.",
	})
	m.renewal = m.ofCertManager.Gauge(metric.Family{
		Name: "autoburst_webhook_certmanager_certificate_renewal_timestamp_seconds", Stability: metric.Alpha,
		Help: "When cert-manager renews the webhook's Certificate, in Unix seconds. Shown where cert-manager makes it.",
	})
	return m
}
