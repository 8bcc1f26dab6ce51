package playground

import (
	"context"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"
)

// values are the chart values of the playground: what a user would write, and
// the endpoints of the emulated clouds.
func (p *Playground) values() string {
	return fmt.Sprintf(`
controller: {replicas: 0}
vnode: {replicas: 0}
removal: {onUninstall: Abandon} # no kubelet runs the pods of hooks
settings: {logFormat: text}
webhook: {url: "https://%s"}
virtualNodes:
- name: %s
  provider: eci
  taint: {key: alibabacloud.com/eci} # as in the articles that the classic providers are known by
  eci: {region: %s, vSwitch: %s, securityGroup: %s, endpoint: "%s"}
  credentials: {existingSecret: eci-credentials}
  env: {ECI_CA_FILE: "%s", CLOUD_QUOTA: unlimited} # as the emulated account is, unless a test limits both
- name: %s
  provider: aci
  aci: {region: %s, resourceGroup: %s, subscriptionId: %s, tenantId: %s, authorityHost: "%s", endpoint: "%[13]s"}
  credentials: {existingSecret: aci-credentials}
  env: {ACI_CA_FILE: "%s", CLOUD_QUOTA: unlimited}
`, p.balancer.Address(),
		ECINode, ECIRegion, ECIVSwitch, ECISecurityGroup, p.ECI.Address, p.ECI.CAFile,
		ACINode, ACIRegion, ACIResourceGroup, ACISubscription, ACITenant, p.ACI.URL(), p.ACI.CAFile) + p.extraNodes()
}

// makeCredentials makes the Secrets that the chart refers to.
func (p *Playground) makeCredentials(ctx context.Context) error {
	if err := p.CreateNamespace(ctx, Namespace, nil); err != nil {
		return err
	}
	for name, data := range map[string]map[string]string{
		"eci-credentials": {"ECI_ACCESS_KEY": ECIAccessKey, "ECI_SECRET_KEY": ECISecretKey},
		"aci-credentials": {"AZURE_CLIENT_ID": ACIClient, "AZURE_CLIENT_SECRET": ACIClientPassword},
	} {
		secret := corev1apply.Secret(name, Namespace).WithStringData(data)
		if _, err := p.Client().CoreV1().Secrets(Namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: "playground"}); err != nil {
			return fmt.Errorf("making the Secret %s: %w", name, err)
		}
	}
	return nil
}

// WaitWebhook waits until every running replica is ready and the API server
// trusts the webhook or, where it admits pods by itself, knows the rules.
func (p *Playground) WaitWebhook(ctx context.Context) error {
	client := p.Client()
	return Poll(ctx, time.Minute, "the webhook is ready", func(ctx context.Context) (bool, error) {
		for _, c := range p.Controllers() {
			if err := c.Process.Err(); err != nil {
				return false, err
			}
			if err := ready(ctx, c.Health); err != nil {
				return false, err
			}
		}
		_, err := client.AdmissionregistrationV1().MutatingAdmissionPolicies().Get(ctx, Release, metav1.GetOptions{})
		if err == nil {
			_, err := p.Kubectl(ctx, "", "get", "burstadmission", Release)
			return err == nil, err
		}
		config, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, Release, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, w := range config.Webhooks {
			if len(w.ClientConfig.CABundle) == 0 {
				return false, fmt.Errorf("webhook %s has no caBundle yet", w.Name)
			}
		}
		return true, nil
	})
}

func ready(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s/readyz answers %s", address, resp.Status)
	}
	return nil
}
