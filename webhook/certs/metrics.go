package certs

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	expiry *prometheus.GaugeVec
	errors prometheus.Counter
}

func newMetrics() *metrics {
	return &metrics{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "autoburst_webhook_certificate_expiry_timestamp_seconds",
			Help: "When a certificate of the webhook expires, in Unix seconds: this replica's leaf, and the authority that all replicas share.",
		}, []string{"certificate"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "autoburst_webhook_certificate_errors_total",
			Help: "Failed passes over the webhook's certificates. Each is tried again.",
		}),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	return errors.Join(r.Register(m.expiry), r.Register(m.errors))
}
