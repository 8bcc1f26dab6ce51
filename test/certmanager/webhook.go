package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	ctrlwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/cert-manager/cert-manager/internal/webhook"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/webhook/admission"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"
)

// runWebhook serves cert-manager's admission on loopback until ctx is done, by a
// certificate of its own authority.
func runWebhook(ctx context.Context, s settings) error {
	configuration, err := options.NewWebhookConfiguration()
	if err != nil {
		return err
	}
	configuration.KubeConfig = s.kubeconfig
	own := &configuration.TLSConfig.Dynamic
	own.SecretNamespace, own.SecretName, own.DNSNames, own.LeafDuration = s.namespace, "cert-manager-webhook-ca", []string{"localhost"}, 24*time.Hour
	server, err := webhook.NewCertManagerWebhookServer(logf.FromContext(ctx), *configuration)
	if err != nil {
		return err
	}
	manager, err := ctrl.NewManager(&rest.Config{}, ctrl.Options{ // it asks the API server nothing
		Scheme:  server.ResourceScheme,
		Metrics: metricsserver.Options{BindAddress: "0"},
		WebhookServer: ctrlwebhook.NewServer(ctrlwebhook.Options{
			Host: "127.0.0.1", Port: s.port,
			TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.GetCertificate = server.CertificateSource.GetCertificate }},
		}),
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := manager.Add(server.CertificateSource); err != nil {
		return err
	}
	manager.GetWebhookServer().Register("/mutate", admission.NewCustomMutationWebhook(server.MutationWebhook))
	manager.GetWebhookServer().Register("/validate", admission.NewCustomValidationWebhook(manager.GetScheme(), server.ValidationWebhook))
	return manager.Start(ctx)
}
