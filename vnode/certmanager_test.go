package vnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	certmanagerfake "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned/fake"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const requestName = "agent-1"

// issuerBed is an agent's source of certificates, and an issuer that answers when the
// test says so.
type issuerBed struct {
	*testing.T
	*signedByIssuer
	signer *signer
	log    bytes.Buffer
	stop   func()
}

func newIssuerBed(t *testing.T) *issuerBed {
	t.Helper()
	node := newBedConfig().Node
	b := &issuerBed{T: t, signer: newSigner(t)}
	b.signedByIssuer = &signedByIssuer{
		settings: CertManagerSettings{
			Requests:    certmanagerfake.NewClientset().CertmanagerV1().CertificateRequests("autoburst-system"),
			RequestName: requestName, Issuer: cmmeta.IssuerReference{Kind: "Issuer", Name: "kubelets", Group: "cert-manager.io"}, Duration: time.Hour,
		},
		node: node, clock: clock.RealClock{}, log: slog.New(slog.NewTextHandler(&b.log, nil)), metrics: NewMetrics(nil),
		meanwhile: &renewed{node: node, now: time.Now},
	}
	return b
}

func (b *issuerBed) start() {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { b.run(ctx) })
	b.stop = func() { cancel(); wg.Wait() }
	synctest.Wait()
}

// pending is the request that waits, nil if there is none.
func (b *issuerBed) pending() *certmanagerv1.CertificateRequest {
	b.Helper()
	r, err := b.settings.Requests.Get(b.Context(), requestName, metav1.GetOptions{})
	if err != nil {
		return nil
	}
	return r
}

// answer updates the request that waits.
func (b *issuerBed) answer(certificate []byte, conditions ...certmanagerv1.CertificateRequestCondition) {
	b.Helper()
	r := b.pending()
	if r == nil {
		b.Fatal("no request waits")
	}
	r.Status.Conditions, r.Status.Certificate = conditions, certificate
	client, ok := b.settings.Requests.(interface {
		UpdateStatus(context.Context, *certmanagerv1.CertificateRequest, metav1.UpdateOptions) (*certmanagerv1.CertificateRequest, error)
	})
	if !ok {
		b.Fatal("the requests have no status")
	}
	if _, err := client.UpdateStatus(b.Context(), r, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	synctest.Wait()
}

func says(kind certmanagerv1.CertificateRequestConditionType, status cmmeta.ConditionStatus, reason, message string) certmanagerv1.CertificateRequestCondition {
	return certmanagerv1.CertificateRequestCondition{Type: kind, Status: status, Reason: reason, Message: message}
}

var (
	issued   = says(certmanagerv1.CertificateRequestConditionReady, cmmeta.ConditionTrue, certmanagerv1.CertificateRequestReasonIssued, "signed")
	approved = says(certmanagerv1.CertificateRequestConditionApproved, cmmeta.ConditionTrue, "cert-manager.io", "approved")
)

// sign answers with a certificate of that lifetime for those addresses.
func (b *issuerBed) sign(lifetime time.Duration, addresses ...net.IP) {
	b.Helper()
	r := b.pending()
	if r == nil {
		b.Fatal("no request waits")
	}
	block, _ := pem.Decode(r.Spec.Request)
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		b.Fatal(err)
	}
	if addresses == nil {
		addresses = asked.IPAddresses
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: asked.Subject, DNSNames: asked.DNSNames, IPAddresses: addresses,
		// As some issuers do, for clocks that are behind.
		NotBefore: time.Now().Add(-30 * time.Minute), NotAfter: time.Now().Add(lifetime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, b.signer.root, asked.PublicKey, b.signer.key)
	if err != nil {
		b.Fatal(err)
	}
	b.answer(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), approved, issued)
}

// serves returns the certificate that is served, whose key must be its own.
func (b *issuerBed) serves() *x509.Certificate {
	b.Helper()
	c, err := b.get(nil)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		b.Fatal(err)
	}
	if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(leaf.PublicKey) {
		b.Error("the key is not that of the certificate")
	}
	return leaf
}

func (b *issuerBed) servesItsOwn() bool { return b.serves().Issuer.CommonName == b.node.Name }

// An issuer signs, and again in time; the agent signs for itself before the first and
// after the last.
func TestCertificateOfAnIssuer(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newIssuerBed(t)
		b.start()
		if !b.servesItsOwn() {
			t.Error("a certificate of somebody else is served before there is one")
		}
		r := b.pending()
		if r == nil {
			t.Fatal("no request waits")
		}
		block, _ := pem.Decode(r.Spec.Request)
		asked, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprintf("%v %v %v %v %s %v", asked.Subject, asked.DNSNames, asked.IPAddresses, r.Spec.IssuerRef, r.Spec.Duration.Duration, r.Spec.Usages),
			"CN=virtual-kubelet [virtual-kubelet] [192.0.2.1] {kubelets Issuer cert-manager.io} 1h0m0s [digital signature server auth]"; got != want {
			t.Errorf("the request is for %s, want %s", got, want)
		}
		if r.Labels[v1alpha1.AgentLabel] != b.node.Name || r.Spec.IsCA {
			t.Errorf("the request has labels %v, isCA %t", r.Labels, r.Spec.IsCA)
		}
		const lifetime = 30 * time.Minute
		seen := map[string]bool{}
		for range 3 {
			b.sign(lifetime)
			leaf := b.serves()
			if leaf.Issuer.CommonName != "cluster" || seen[leaf.SerialNumber.String()] {
				t.Errorf("certificate %s of %s is served, want a new one of the issuer", leaf.SerialNumber, leaf.Issuer)
			}
			seen[leaf.SerialNumber.String()] = true
			if got := testutil.ToFloat64(b.metrics.certificateExpiry); got != float64(leaf.NotAfter.Unix()) {
				t.Errorf("the metric says %v, want %d", got, leaf.NotAfter.Unix())
			}
			if b.pending() != nil {
				t.Error("the request stays after it was answered")
			}
			<-time.After(lifetime*2/3 - time.Second)
			synctest.Wait()
			if b.pending() != nil {
				t.Error("the next is asked for before two thirds of its life are over")
			}
			<-time.After(2 * time.Second)
			synctest.Wait()
			if b.serves().SerialNumber.Cmp(leaf.SerialNumber) != 0 {
				t.Error("the certificate is not served while its successor is not signed")
			}
		}
		// Nobody signs any more.
		<-time.After(lifetime)
		if !b.servesItsOwn() {
			t.Error("a certificate is served after its end")
		}
		b.sign(lifetime)
		if b.servesItsOwn() {
			t.Error("the agent goes on with its own when there is another")
		}
		b.stop()
		if strings.Contains(b.log.String(), "PRIVATE KEY") {
			t.Error("the log holds a key")
		}
	})
}

// What is refused is asked for again, later each time.
func TestCertificateRefused(t *testing.T) {
	otherPair := func(t *testing.T) []byte {
		c, err := selfSigned(newBedConfig().Node, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	}
	for name, tc := range map[string]struct {
		answer func(b *issuerBed)
		want   string
	}{
		"denied": {func(b *issuerBed) {
			b.answer(nil, says(certmanagerv1.CertificateRequestConditionDenied, cmmeta.ConditionTrue, "policy.cert-manager.io", "no policy allows it"))
		}, "policy.cert-manager.io: no policy allows it"},
		"invalid": {func(b *issuerBed) {
			b.answer(nil, approved, says(certmanagerv1.CertificateRequestConditionInvalidRequest, cmmeta.ConditionTrue, "Invalid", "no such usage"))
		}, "Invalid: no such usage"},
		"failed": {func(b *issuerBed) {
			b.answer(nil, approved, says(certmanagerv1.CertificateRequestConditionReady, cmmeta.ConditionFalse, certmanagerv1.CertificateRequestReasonFailed, "the CA is gone"))
		}, "Failed: the CA is gone"},
		"key of another":  {func(b *issuerBed) { b.answer(otherPair(b.T), approved, issued) }, "private key does not match"},
		"no certificate":  {func(b *issuerBed) { b.answer([]byte("garbage"), approved, issued) }, "the signed certificate"},
		"another address": {func(b *issuerBed) { b.sign(time.Hour, net.IPv4(203, 0, 113, 9)) }, "not for the agent's address"},
		"expired":         {func(b *issuerBed) { b.sign(-time.Minute) }, "has expired at"},
		"deleted": {func(b *issuerBed) {
			if err := b.settings.Requests.Delete(b.Context(), requestName, metav1.DeleteOptions{}); err != nil {
				b.Fatal(err)
			}
			synctest.Wait()
		}, "was deleted by somebody else"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				b := newIssuerBed(t)
				b.start()
				for _, pause := range []time.Duration{firstRequestPause, 2 * firstRequestPause, 4 * firstRequestPause} {
					tc.answer(b)
					if b.pending() != nil || !b.servesItsOwn() {
						t.Error("the agent does not go on with its own and without a request")
					}
					<-time.After(pause - time.Millisecond)
					synctest.Wait()
					if b.pending() != nil {
						t.Errorf("another request in less than %s", pause)
					}
					<-time.After(pause/10 + 2*time.Millisecond) // with jitter
					synctest.Wait()
					if b.pending() == nil {
						t.Errorf("no other request after %s", pause)
					}
				}
				if !strings.Contains(b.log.String(), tc.want) {
					t.Errorf("the log does not say %q:\n%s", tc.want, b.log.String())
				}
				b.sign(time.Hour)
				if b.servesItsOwn() {
					t.Error("the issuer's certificate is not served")
				}
				b.stop()
			})
		})
	}
}

// A request of a former life is replaced, what waits is told, and none is left behind.
func TestCertificateRequestLeftBehind(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newIssuerBed(t)
		old := &certmanagerv1.CertificateRequest{ObjectMeta: metav1.ObjectMeta{Name: requestName}}
		if _, err := b.settings.Requests.Create(t.Context(), old, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		b.start()
		if r := b.pending(); r == nil || len(r.Spec.Request) == 0 {
			t.Error("the request of a former life was not replaced")
		}
		b.answer(nil, says(certmanagerv1.CertificateRequestConditionReady, cmmeta.ConditionFalse, certmanagerv1.CertificateRequestReasonPending, "Referenced Issuer not found"))
		for _, want := range []string{"waiting for cert-manager", "approval;", "Referenced Issuer not found"} {
			if !strings.Contains(b.log.String(), want) {
				t.Errorf("the log does not say %q:\n%s", want, b.log.String())
			}
		}
		b.stop()
		if b.pending() != nil {
			t.Error("the request stays when the agent ends")
		}
	})
}
