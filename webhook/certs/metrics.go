package certs

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

type healthCheck func(*http.Request) error

type metrics struct {
	expiry *prometheus.GaugeVec
	errors prometheus.Counter
	// Of cert-manager's Certificate.
	certificateReady, renewal prometheus.Gauge
}

func newMetrics() *metrics {
	return &metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "autoburst_webhook_certificate_expiry_timestamp_seconds",
			Help: "When a certificate of the webhook expires, in Unix seconds: this replica's leaf, and the authority that the API server trusts it by.",
		}, []string{"certificate"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_webhook_certificate_errors_total",
			Help: "Failed passes over the webhook's certificates. Each is tried again.",
		}),
		certificateReady: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_webhook_certmanager_certificate_ready",
			Help: "1 while cert-manager says that the webhook's Certificate is ready.",
		}),
		renewal: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "autoburst_webhook_certmanager_certificate_renewal_timestamp_seconds",
			Help: "When cert-manager renews the webhook's Certificate, in Unix seconds.",
		}),
	}
}

// readiness is 1 while the check passes.
func (*metrics) readiness(check healthCheck) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "autoburst_webhook_certificate_ready",
		Help: "1 while this replica has a serving certificate that is valid now and that the API server has been told to trust; otherwise admission fails open.",
	}, func() float64 {
		if check(nil) != nil {
			return 0
		}
		return 1
	})
}

func (m *metrics) registerCertificate(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.certificateReady), r.Register(m.renewal))
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.expiry), r.Register(m.errors))
}
