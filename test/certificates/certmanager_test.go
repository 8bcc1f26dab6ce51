package certificates

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
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
	values := []string{
		"webhook.certManager.enabled=true", "webhook.certManager.duration=1h", "webhook.certManager.renewBefore=59m57s",
		"webhook.certManager.ca.duration=2h", "webhook.certManager.ca.renewBefore=1h59m54s",
	}
	install(t, values, interval)
	mayNot(t, "patch mutatingwebhookconfigurations/autoburst", "update secrets/autoburst-webhook-tls", "get secrets/autoburst-webhook-root",
		"create secrets", "get certificates.cert-manager.io/autoburst-webhook-root", "update certificates.cert-manager.io/autoburst-webhook")
	const ns = "cert-manager-way"
	underLoad(t, ns, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})

	// An issuer that is not there: what is served is still good, and somebody is told.
	if err := upgrade(t, append(values, "webhook.certManager.issuerRef.name=missing")...); err != nil {
		t.Fatal(err)
	}
	for _, c := range system.Controllers() {
		mustEventually(t, 30*time.Second, c.Process.Name+" shows that the Certificate is not ready", func(context.Context) (bool, error) {
			return figure(t, c, "autoburst_webhook_certmanager_certificate_ready", "") == 0, nil
		})
		if ready := figure(t, c, "autoburst_webhook_certificate_ready", ""); ready != 1 {
			t.Errorf("%s shows that its certificate is not good", c.Process.Name)
		}
		if at := figure(t, c, "autoburst_webhook_certmanager_certificate_renewal_timestamp_seconds", ""); at == 0 {
			t.Errorf("%s does not show when the certificate is to be renewed", c.Process.Name)
		}
	}
	mustEventually(t, 20*time.Second, "an event tells what cert-manager says", func(ctx context.Context) (bool, error) {
		events, err := client().CoreV1().Events(playground.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Certificate,involvedObject.name=autoburst-webhook,reason=CertificateNotReady"})
		return err == nil && len(events.Items) > 0 && strings.Contains(events.Items[0].Message, "describe certificate autoburst-webhook"), err
	})
	pod, err := create(t.Context(), ns, "after")
	if err != nil || !decided(pod) {
		t.Errorf("a pod is not decided upon any more: %v", err)
	}
}

// The chart refuses what would be two ways at once.
func TestChartRefusesTwoWays(t *testing.T) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{
		"webhook.certManager.enabled=true,webhook.tls.existingSecret=a":                   "set one of them",
		"webhook.tls.caBundle=-----BEGIN CERTIFICATE-----":                                "set webhook.tls.existingSecret too",
		"webhook.tls.caBundle=ca.crt,webhook.tls.existingSecret=a":                        "caBundle",
		"vnode.rotateServerCertificates=true,vnode.certManager.issuerRef.name=kubelets":   "set one of them",
		"webhook.certManager.enabled=true,webhook.certManager.duration=90d":               "duration",
		"webhook.certManager.enabled=true,webhook.certManager.issuer=company":             "issuer",
		"webhook.certManager.enabled=true,webhook.certManager.issuerRef.name=My Company!": "name",
	} {
		if _, err := system.Helm(t.Context(), "template", playground.Release, root+"/charts/autoburst", "--set", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", set, err, want)
		}
	}
}
