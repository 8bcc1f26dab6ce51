package vnode

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// signer signs requests as the controller manager does, once they are approved.
type signer struct {
	*testing.T
	client *fake.Clientset
	root   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "cluster"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	s := &signer{T: t, client: fakeClient(), root: root, key: key}
	s.client.PrependReactor("create", "certificatesigningrequests", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if r, ok := a.(clienttesting.CreateAction).GetObject().(*certificatesv1.CertificateSigningRequest); ok {
			r.Name = r.GenerateName + rand.Text() // as the API server does
		}
		return false, nil, nil
	})
	return s
}

// pending are the requests that nobody has approved.
func (s *signer) pending() []certificatesv1.CertificateSigningRequest {
	s.Helper()
	list, err := s.client.CertificatesV1().CertificateSigningRequests().List(s.Context(), metav1.ListOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return slices.DeleteFunc(list.Items, func(r certificatesv1.CertificateSigningRequest) bool { return len(r.Status.Conditions) > 0 })
}

// sign approves a request and signs a certificate of that lifetime.
func (s *signer) sign(r certificatesv1.CertificateSigningRequest, lifetime time.Duration) {
	s.Helper()
	block, _ := pem.Decode(r.Spec.Request)
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		s.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: asked.Subject, DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses,
		NotBefore: time.Now(), NotAfter: time.Now().Add(lifetime), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, s.root, asked.PublicKey, s.key)
	if err != nil {
		s.Fatal(err)
	}
	r.Status.Conditions = []certificatesv1.CertificateSigningRequestCondition{{Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue}}
	r.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if _, err := s.client.CertificatesV1().CertificateSigningRequests().Update(s.Context(), &r, metav1.UpdateOptions{}); err != nil {
		s.Fatal(err)
	}
}

// The serving certificate comes from the cluster, and the next one in time, without
// a break and without a key that anybody else sees.
func TestCertificateFromTheCluster(t *testing.T) {
	withoutErrorHandlers(t)
	bubble(t, "", func(t *testing.T) {
		s := newSigner(t)
		node := newBedConfig().Node
		var log bytes.Buffer
		own := &renewed{node: node, now: time.Now}
		ctx, stop := context.WithCancel(t.Context())
		signed, err := newSignedByCluster(ctx, s.client, node, own, slog.New(slog.NewTextHandler(&log, nil)), NewMetrics(nil))
		if err != nil {
			t.Fatal(err)
		}
		serves := func() *x509.Certificate {
			t.Helper()
			c, err := signed.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := x509.ParseCertificate(c.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(leaf.PublicKey) {
				t.Error("the key is not that of the certificate")
			}
			return leaf
		}
		synctest.Wait()
		if leaf := serves(); leaf.Issuer.CommonName != node.Name {
			t.Errorf("before a request is approved, a certificate of %s is served, want the agent's own", leaf.Issuer)
		}
		const lifetime = 10 * time.Minute
		seen := map[string]bool{}
		for range 3 {
			pending := s.pending()
			if len(pending) != 1 {
				t.Fatalf("%d requests wait, want 1", len(pending))
			}
			r := pending[0]
			block, _ := pem.Decode(r.Spec.Request)
			asked, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			// The conditions of the signer kubernetes.io/kubelet-serving.
			if got := fmt.Sprintf("%v %v %v %s %v", asked.Subject, asked.DNSNames, asked.IPAddresses, r.Spec.SignerName, r.Spec.Usages); got !=
				"CN=system:node:virtual-kubelet,O=system:nodes [virtual-kubelet] [192.0.2.1] kubernetes.io/kubelet-serving [digital signature server auth]" {
				t.Errorf("the request is for %s", got)
			}
			s.sign(r, lifetime)
			synctest.Wait()
			leaf := serves()
			if leaf.Issuer.CommonName != "cluster" || seen[leaf.SerialNumber.String()] {
				t.Errorf("certificate %s of %s is served, want a new one of the cluster", leaf.SerialNumber, leaf.Issuer)
			}
			seen[leaf.SerialNumber.String()] = true
			// The fake API server has no selectors of fields: what is done would be in the way.
			if err := s.client.CertificatesV1().CertificateSigningRequests().Delete(t.Context(), r.Name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			// Until nine tenths of its life are over, the next is asked for.
			<-time.After(lifetime * 9 / 10)
			synctest.Wait()
			if got := serves(); got.SerialNumber.Cmp(leaf.SerialNumber) != 0 || time.Now().After(got.NotAfter) {
				t.Errorf("certificate %s is served while its successor is not signed, want %s", got.SerialNumber, leaf.SerialNumber)
			}
		}
		// Nobody approves any more: the agent goes on with one of its own.
		<-time.After(lifetime)
		if leaf := serves(); leaf.Issuer.CommonName != node.Name {
			t.Errorf("a certificate of %s is served after its end", leaf.Issuer)
		}
		stop()
		<-time.After(lifetime) // the manager looks up from its sleep
		if bytes.Contains(log.Bytes(), []byte("PRIVATE KEY")) {
			t.Error("the log holds a key")
		}
	})
}
