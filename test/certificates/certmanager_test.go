package certificates

import (
	"context"
	"testing"

	"github.com/autoburst/autoburst/test/playground"
)

// certManager is installed by the first test that needs it.
var certManager *playground.CertManager

func needCertManager(t *testing.T) {
	t.Helper()
	if certManager == nil {
		var err error
		if certManager, err = system.InstallCertManager(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// cert-manager renews the certificate every few seconds and its authority less often,
// and cainjector tells the API server.
func TestCertManagerUnderLoad(t *testing.T) {
	needCertManager(t)
	install(t, []string{
		"webhook.certManager.enabled=true", "webhook.certManager.duration=1h", "webhook.certManager.renewBefore=59m57s",
		"webhook.certManager.ca.duration=2h", "webhook.certManager.ca.renewBefore=1h59m54s",
	}, interval)
	underLoad(t, "cert-manager-way", func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}
