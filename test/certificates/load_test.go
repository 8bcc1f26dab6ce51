package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	// rate is how many pods are created in a second.
	rate = 200
	// loadTime is for how long; longer, to longestLoad, while too few certificates
	// have been served.
	loadTime, longestLoad = 15 * time.Second, time.Minute
	// fewestLeaves and fewestAuthorities are what must have been served.
	fewestLeaves, fewestAuthorities = 4, 2
)

// underLoad creates pods in a served namespace at the rate while rotations run, and
// fails for every pod that was admitted without the webhook. Pods bear a gate, so
// that what is measured is admission and not the scheduler.
func underLoad(t *testing.T, namespace string, rotations func(context.Context) error) {
	t.Helper()
	if err := system.CreateNamespace(t.Context(), namespace, map[string]string{v1alpha1.ModeAnnotation: "Overflow"}); err != nil {
		t.Fatal(err)
	}
	mustEventually(t, 30*time.Second, "pods of namespace "+namespace+" are decided upon", func(ctx context.Context) (bool, error) {
		pod, err := create(ctx, namespace, "first")
		if err != nil {
			return false, err
		}
		if err := system.Client().CoreV1().Pods(namespace).Delete(ctx, "first", metav1.DeleteOptions{}); err != nil {
			return false, err
		}
		return decided(pod), nil
	})
	open := failedOpen(t)
	ctx, stop := context.WithTimeout(t.Context(), longestLoad)
	defer stop()
	begun := time.Now()
	var work sync.WaitGroup
	var seen serials
	work.Go(func() {
		defer stop()
		shakeHands(ctx, t, &seen, func() bool {
			return time.Since(begun) >= loadTime && len(seen.leaves) >= fewestLeaves && len(seen.issuers) >= fewestAuthorities
		})
	})
	work.Go(func() {
		if err := rotations(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("replacing the certificate: %v", err)
		}
	})
	var next, created, lost atomic.Int64
	for range 30 {
		work.Go(func() {
			for {
				i := next.Add(1)
				due := time.NewTimer(time.Until(begun.Add(time.Duration(i) * time.Second / rate)))
				select {
				case <-ctx.Done():
					due.Stop()
					return
				case <-due.C:
				}
				// A pod that is under way at the end is seen through.
				pod, err := create(t.Context(), namespace, fmt.Sprintf("pod-%d", i))
				if err != nil {
					t.Errorf("creating a pod: %v", err)
					return
				}
				created.Add(1)
				if !decided(pod) {
					lost.Add(1)
				}
			}
		})
	}
	work.Wait()
	took := time.Since(begun)
	t.Logf("%d pods in %.1fs, %.0f/s; %d certificates of %d authorities served in %d handshakes", created.Load(), took.Seconds(),
		float64(created.Load())/took.Seconds(), len(seen.leaves), len(seen.issuers), seen.handshakes)
	if n := lost.Load(); n > 0 {
		t.Errorf("%d of %d pods were admitted without the webhook, want none", n, created.Load())
	}
	if n := failedOpen(t) - open; n != 0 {
		t.Errorf("the API server failed open %v times, want 0", n)
	}
	if len(seen.leaves) < fewestLeaves || len(seen.issuers) < fewestAuthorities {
		t.Errorf("%d certificates of %d authorities were served, want %d of %d or more", len(seen.leaves), len(seen.issuers), fewestLeaves, fewestAuthorities)
	}
	if err := system.Client().CoreV1().Pods(namespace).DeleteCollection(t.Context(),
		metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{}); err != nil {
		t.Error(err)
	}
}

func create(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return client().CoreV1().Pods(namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			SchedulingGates: []corev1.PodSchedulingGate{{Name: "autoburst.test/held"}},
			Containers:      []corev1.Container{{Name: "main", Image: "registry.example.com/pause:1"}},
		},
	}, metav1.CreateOptions{})
}

var client = sync.OnceValue(func() kubernetesClient { return system.Client() })

// decided tells whether the webhook has seen a pod.
func decided(pod *corev1.Pod) bool { return pod.Annotations[v1alpha1.ReasonAnnotation] != "" }

// failedOpen is how often the API server has admitted something without the webhook.
func failedOpen(t *testing.T) float64 {
	t.Helper()
	text := kubectl(t, "", "get", "--raw", "/metrics")
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, m := range families["apiserver_admission_webhook_fail_open_count"].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "name" && strings.HasSuffix(l.GetValue(), ".autoburst.io") {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return sum
}

// serials are what certificates were seen.
type serials struct {
	leaves, issuers map[string]bool
	handshakes      int
}

// shakeHands connects to every replica again and again with the CA bundle that the
// API server has: what fails here would lose an admission whenever the API server
// needs another connection. It ends when enough is seen, or with ctx.
func shakeHands(ctx context.Context, t *testing.T, seen *serials, enough func() bool) {
	seen.leaves, seen.issuers = map[string]bool{}, map[string]bool{}
	every := time.NewTicker(25 * time.Millisecond)
	defer every.Stop()
	failures := 0
	for !enough() {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		c, err := client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, playground.Release, metav1.GetOptions{})
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("reading the webhook configuration: %v", err)
			}
			return
		}
		for _, replica := range system.Controllers() {
			leaf, err := handshake(ctx, replica.Webhook, c.Webhooks[0].ClientConfig.CABundle)
			if ctx.Err() != nil {
				return
			}
			seen.handshakes++
			if err != nil {
				if failures++; failures <= 5 {
					t.Errorf("%s is not trusted: %v", replica.Process.Name, err)
				}
				continue
			}
			seen.leaves[leaf.SerialNumber.String()] = true
			seen.issuers[string(leaf.AuthorityKeyId)] = true
		}
	}
}

// handshake connects as the API server does and returns the certificate.
func handshake(ctx context.Context, address string, bundle []byte) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, errors.New("the CA bundle is empty")
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0], nil //nolint:errcheck // of a TLS dialer
}
