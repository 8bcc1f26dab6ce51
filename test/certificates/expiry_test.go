package certificates

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/playground"
)

// A certificate that nobody renews expires: pods are admitted unchanged at once, the
// replicas say so in every way that they have, and go on by themselves when there is
// another certificate.
func TestExpiredCertificate(t *testing.T) {
	const name, ns = "webhook-of-ours", "expiry"
	company := mustAuthority(t, "company")
	keep(t, name, company.secret(t, time.Hour, company))
	install(t, []string{"webhook.tls.existingSecret=" + name}, interval)
	if err := system.CreateNamespace(t.Context(), ns, map[string]string{v1alpha1.ModeAnnotation: "Overflow"}); err != nil {
		t.Fatal(err)
	}
	n := 0
	admitted := func(ctx context.Context) (mutated bool, took time.Duration, err error) {
		n++
		begun := time.Now()
		pod, err := create(ctx, ns, fmt.Sprintf("pod-%d", n))
		if err != nil {
			return false, 0, err
		}
		return decided(pod), time.Since(begun), nil
	}
	mustEventually(t, 30*time.Second, "pods are decided upon", func(ctx context.Context) (bool, error) {
		mutated, _, err := admitted(ctx)
		return mutated, err
	})

	const life = 4 * time.Second
	end := time.Now().Add(life).Truncate(time.Second) // as certificates have it
	keep(t, name, company.secret(t, life, company))
	mustEventually(t, 30*time.Second, "both replicas say that the certificate has expired", func(ctx context.Context) (bool, error) {
		return all(ctx, func(c *playground.Controller) error {
			body, err := get(ctx, "http://"+c.Health+"/readyz/certificate")
			if err == nil && !strings.Contains(body, "has expired at") {
				err = fmt.Errorf("%s says %q", c.Process.Name, body)
			}
			return err
		})
	})
	if time.Now().Before(end) {
		t.Errorf("it has expired before its end")
	}
	for _, c := range system.Controllers() {
		if ready, until := figure(t, c, "autoburst_webhook_certificate_ready", ""), figure(t, c, "autoburst_webhook_certificate_expiry_timestamp_seconds", "leaf"); ready != 0 || until < float64(end.Add(-5*time.Second).Unix()) || until > float64(end.Add(5*time.Second).Unix()) {
			t.Errorf("metrics of %s: ready %v, expires %v, want 0 and %d", c.Process.Name, ready, until, end.Unix())
		}
	}
	mustEventually(t, 20*time.Second, "an event tells it", func(ctx context.Context) (bool, error) {
		events, err := client().CoreV1().Events(playground.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Secret,involvedObject.name=" + name})
		if err != nil {
			return false, err
		}
		for _, e := range events.Items {
			if e.Reason == "ServingCertificateExpired" && e.Type == "Warning" && strings.Contains(e.Message, "renew it") {
				return true, nil
			}
		}
		return false, nil
	})

	// The API server verifies again when it connects anew, as it does for another CA
	// bundle. No pod waits for that.
	other := mustAuthority(t, "other")
	expired := company.secret(t, -time.Second, company, other)
	keep(t, name, expired)
	mustEventually(t, 20*time.Second, "pods are admitted unchanged", func(ctx context.Context) (bool, error) {
		mutated, took, err := admitted(ctx)
		if took > 5*time.Second { // half of what the API server waits for an answer
			t.Errorf("a pod waited for %s", took)
		}
		return !mutated, err
	})
	if failedOpen(t) == 0 {
		t.Error("the API server has not failed open")
	}

	processes := fmt.Sprint(system.Controllers()[0].Process.PID(), system.Controllers()[1].Process.PID())
	keep(t, name, other.secret(t, time.Hour, other))
	mustEventually(t, 20*time.Second, "pods are decided upon again", func(ctx context.Context) (bool, error) {
		mutated, _, err := admitted(ctx)
		return mutated, err
	})
	mustEventually(t, 20*time.Second, "both replicas are ready", func(ctx context.Context) (bool, error) {
		return all(ctx, func(c *playground.Controller) error {
			body, err := get(ctx, "http://"+c.Health+"/readyz")
			if err == nil && body != "ok" {
				err = fmt.Errorf("%s says %q", c.Process.Name, body)
			}
			return err
		})
	})
	if now := fmt.Sprint(system.Controllers()[0].Process.PID(), system.Controllers()[1].Process.PID()); now != processes {
		t.Errorf("processes %s, want %s: the same", now, processes)
	}
}

// The chart renders the authority of an administrator's certificate, and the program
// has no right to.
func TestExistingSecretWithBundle(t *testing.T) {
	company := mustAuthority(t, "company")
	keep(t, "webhook-of-ours", company.secret(t, time.Hour))
	values := []string{"webhook.tls.existingSecret=webhook-of-ours", "webhook.tls.caBundle=" + string(company.pem())}
	// The bundle is the program's so far; docs/certificates.md says what to do.
	if err := upgrade(t, values...); err == nil || !strings.Contains(err.Error(), "caBundle") {
		t.Errorf("Helm takes the bundle over by itself: %v", err)
	}
	kubectl(t, "", "delete", "mutatingwebhookconfiguration", playground.Release)
	install(t, values, interval)
	c, err := client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), playground.Release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, hook := range c.Webhooks {
		if string(hook.ClientConfig.CABundle) != string(company.pem()) {
			t.Errorf("hook %s trusts\n%swant\n%s", hook.Name, hook.ClientConfig.CABundle, company.pem())
		}
	}
	mayNot(t, "patch mutatingwebhookconfigurations/autoburst", "update secrets/webhook-of-ours", "get secrets/autoburst-webhook-ca", "create secrets")
}

// mayNot fails for rights of the program that it does not need.
func mayNot(t *testing.T, rights ...string) {
	t.Helper()
	account := "--as=system:serviceaccount:" + playground.Namespace + ":autoburst-controller"
	for _, right := range rights {
		args := append([]string{"auth", "can-i", account, "--namespace=" + playground.Namespace}, strings.Fields(right)...)
		if out, err := system.Kubectl(t.Context(), "", args...); err == nil {
			t.Errorf("the program may %s: %s", right, out)
		}
	}
}

func all(_ context.Context, check func(*playground.Controller) error) (bool, error) {
	for _, c := range system.Controllers() {
		if err := check(c); err != nil {
			return false, err
		}
	}
	return true, nil
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// figure is a gauge of a replica, with the label certificate if that is not empty.
func figure(t *testing.T, c *playground.Controller, name, certificate string) float64 {
	t.Helper()
	text, err := get(t.Context(), "http://"+c.Metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range families[name].GetMetric() {
		if certificate == "" || m.GetLabel()[0].GetValue() == certificate {
			return m.GetGauge().GetValue()
		}
	}
	t.Fatalf("%s has no metric %s", c.Process.Name, name)
	return 0
}
