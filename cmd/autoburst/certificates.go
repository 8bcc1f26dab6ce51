package main

import (
	"crypto/tls"
	"fmt"
	"net/http"

	certmanagerclient "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/typed/certmanager/v1"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/autoburst/autoburst/webhook/certs"
)

// certificate is the serving certificate of the webhook, kept in one of the ways
// of package certs.
type certificate interface {
	manager.Runnable
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Ready(*http.Request) error
}

// recordEvent records an event of this program.
type recordEvent func(regarding *corev1.ObjectReference, eventType, reason, message string)

// newCertificate keeps the webhook's certificate.
func newCertificate(cfg *rest.Config, o options, logger logr.Logger, event recordEvent) (certificate, error) {
	logger = logger.WithName("certs")
	clients, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	configurations := clients.AdmissionregistrationV1().MutatingWebhookConfigurations()
	if o.tlsSecretName == "" {
		return certs.New(certs.Options{
			Secrets: clients.CoreV1().Secrets(o.namespace), SecretName: o.caSecretName,
			Configurations: configurations, ConfigurationName: o.configurationName,
			DNSNames: o.dnsNames, IPs: o.ips,
			AuthorityLife: o.authorityLife, LeafLife: o.leafLife, Interval: o.certInterval,
			Registerer: metrics.Registry, Logger: logger,
		})
	}
	provided := certs.ProvidedOptions{
		Secrets: clients.CoreV1().Secrets(o.namespace), Namespace: o.namespace, SecretName: o.tlsSecretName,
		Configurations: configurations, ConfigurationName: o.configurationName, Announce: o.writeBundle,
		Interval: o.certInterval, Event: event, Registerer: metrics.Registry, Logger: logger,
	}
	if o.certificateName != "" {
		certmanager, err := certmanagerclient.NewForConfig(cfg)
		if err != nil {
			return nil, fmt.Errorf("making a client of cert-manager: %w", err)
		}
		provided.Certificates, provided.CertificateName = certmanager.Certificates(o.namespace), o.certificateName
	}
	return certs.NewProvided(provided)
}
