package vnode

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// CertificateRequests makes and reads requests to cert-manager in one namespace. A
// CertificateRequestInterface of cert-manager's clientset is one.
type CertificateRequests interface {
	Create(ctx context.Context, r *certmanagerv1.CertificateRequest, o metav1.CreateOptions) (*certmanagerv1.CertificateRequest, error)
	Get(ctx context.Context, name string, o metav1.GetOptions) (*certmanagerv1.CertificateRequest, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
	Delete(ctx context.Context, name string, o metav1.DeleteOptions) error
}

// CertManagerSettings say who at cert-manager signs the serving certificate.
type CertManagerSettings struct {
	// Requests are those of the agent's namespace; nil asks cert-manager for nothing.
	Requests CertificateRequests
	// RequestName is the name of the agent's request: no other agent may have it.
	RequestName string
	// Issuer signs.
	Issuer cmmeta.IssuerReference
	// Duration is how long the certificate is to be valid; the issuer may decide
	// otherwise.
	Duration time.Duration
}

// After a failure the next request is made between these times later, each twice as
// long as the one before.
const (
	firstRequestPause = 10 * time.Second
	lastRequestPause  = 10 * time.Minute
)

// signedByIssuer holds a serving certificate that an issuer of cert-manager has
// signed, and asks for the next one when two thirds of its life are over. The keys
// are in memory only. Until there is a certificate, and if one ends without a
// successor, the agent signs for itself.
type signedByIssuer struct {
	settings  CertManagerSettings
	node      NodeSettings
	clock     clock.WithTicker
	log       *slog.Logger
	metrics   *Metrics
	meanwhile *renewed

	present atomic.Pointer[tls.Certificate]
	// renewAt is when two thirds of what was left of its life when it came are over;
	// run alone uses it.
	renewAt time.Time
}

func (s *signedByIssuer) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.present.Load(); c != nil && s.clock.Now().Before(c.Leaf.NotAfter) {
		return c, nil
	}
	return s.meanwhile.get(hello)
}

// run asks for certificates until ctx ends.
func (s *signedByIssuer) run(ctx context.Context) {
	s.log.Info("asking cert-manager for a serving certificate of the kubelet API; until there is one, the API shows one that the agent has signed itself",
		"issuer", s.issuer(), "request", s.settings.RequestName)
	pause := firstRequestPause
	for {
		if !s.sleep(ctx, max(0, s.renewAt.Sub(s.clock.Now()))) {
			return
		}
		err := s.renew(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			pause = firstRequestPause
			continue
		}
		until := "none: the agent signs for itself"
		if c := s.present.Load(); c != nil && s.clock.Now().Before(c.Leaf.NotAfter) {
			until = c.Leaf.NotAfter.UTC().Format(time.RFC3339)
		}
		s.log.Warn("cert-manager has given no serving certificate for the kubelet API", "issuer", s.issuer(),
			"again", pause, "certificate until", until, "error", err)
		if !s.sleep(ctx, jittered(pause)) {
			return
		}
		pause = min(2*pause, lastRequestPause)
	}
}

func (s *signedByIssuer) sleep(ctx context.Context, d time.Duration) bool {
	timer := s.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C():
		return true
	}
}

func (s *signedByIssuer) issuer() string {
	return s.settings.Issuer.Kind + "/" + s.settings.Issuer.Name
}

// renew makes one request and waits for what becomes of it.
func (s *signedByIssuer) renew(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a serving key: %w", err)
	}
	made, err := s.request(ctx, key)
	if err != nil {
		return err
	}
	defer s.remove(ctx, made)
	chain, err := s.await(ctx, made)
	if err != nil {
		return err
	}
	certificate, err := s.accept(chain, key)
	if err != nil {
		return fmt.Errorf("CertificateRequest %s: %w", made.Name, err)
	}
	now := s.clock.Now()
	s.renewAt = now.Add(certificate.Leaf.NotAfter.Sub(now) / 3 * 2)
	s.present.Store(certificate)
	s.metrics.certificateExpiry.Set(float64(certificate.Leaf.NotAfter.Unix()))
	s.log.Info("serving certificate received from cert-manager", "issuer", s.issuer(), "serial", certificate.Leaf.SerialNumber.String(), "until", certificate.Leaf.NotAfter)
	return nil
}

// request asks for a certificate of the node's name and address.
func (s *signedByIssuer) request(ctx context.Context, key *ecdsa.PrivateKey) (*certmanagerv1.CertificateRequest, error) {
	template := &x509.CertificateRequest{DNSNames: []string{s.node.Name}, IPAddresses: []net.IP{net.ParseIP(s.node.InternalIP)}}
	if len(s.node.Name) <= 64 { // of RFC 5280
		template.Subject = pkix.Name{CommonName: s.node.Name}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	r := &certmanagerv1.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Name: s.settings.RequestName, Labels: map[string]string{v1alpha1.AgentLabel: s.node.Name}},
		Spec: certmanagerv1.CertificateRequestSpec{
			Request:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}),
			IssuerRef: s.settings.Issuer, Duration: &metav1.Duration{Duration: s.settings.Duration},
			Usages: []certmanagerv1.KeyUsage{certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageServerAuth},
		},
	}
	made, err := s.settings.Requests.Create(ctx, r, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		// Of this agent before it was started again: its key is lost.
		if err = s.settings.Requests.Delete(ctx, r.Name, metav1.DeleteOptions{}); err == nil || apierrors.IsNotFound(err) {
			made, err = s.settings.Requests.Create(ctx, r, metav1.CreateOptions{})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("creating CertificateRequest %s: %w", r.Name, err)
	}
	return made, nil
}

// remove deletes a request that was answered, or that nobody waits for any more.
func (s *signedByIssuer) remove(ctx context.Context, r *certmanagerv1.CertificateRequest) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.settings.Requests.Delete(ctx, r.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &r.UID}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		s.log.Warn("a CertificateRequest could not be deleted", "request", r.Name, "error", err)
	}
}

// await returns the certificate, with its chain in PEM form, once there is one. An
// error says that there will be none.
func (s *signedByIssuer) await(ctx context.Context, made *certmanagerv1.CertificateRequest) ([]byte, error) {
	said := ""
	for {
		changes, err := s.settings.Requests.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: made.Name}))
		if err == nil {
			var chain []byte
			chain, err = s.follow(ctx, made, changes, &said)
			changes.Stop()
			if len(chain) > 0 || errors.Is(err, errNoCertificate) {
				return chain, err
			}
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("a CertificateRequest could not be read; trying again", "request", made.Name, "error", err)
		}
		if !s.sleep(ctx, time.Second) {
			return nil, ctx.Err()
		}
	}
}

// errNoCertificate is why a request will not be answered with a certificate.
var errNoCertificate = errors.New("no certificate")

// follow looks at a request as it is now and then at its changes, until it is
// decided or the watch ends.
func (s *signedByIssuer) follow(ctx context.Context, made *certmanagerv1.CertificateRequest, changes watch.Interface, said *string) ([]byte, error) {
	for {
		r, err := s.settings.Requests.Get(ctx, made.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err) || err == nil && r.UID != made.UID:
			return nil, fmt.Errorf("CertificateRequest %s was deleted by somebody else: %w", made.Name, errNoCertificate)
		case err != nil:
			return nil, err
		}
		chain, waits, err := outcome(r)
		if err != nil || len(chain) > 0 {
			return chain, err
		}
		if waits != *said {
			*said = waits
			s.log.Info("waiting for cert-manager", "request", r.Name, "issuer", s.issuer(), "for", waits)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case _, open := <-changes.ResultChan():
			if !open {
				return nil, nil
			}
		}
	}
}

// outcome is what became of a request: a certificate, an error, or what it waits for.
func outcome(r *certmanagerv1.CertificateRequest) (chain []byte, waits string, err error) {
	waits = "approval; where cert-manager's own approver is turned off, another must approve it"
	for _, c := range r.Status.Conditions {
		refused := c.Status == cmmeta.ConditionTrue &&
			(c.Type == certmanagerv1.CertificateRequestConditionDenied || c.Type == certmanagerv1.CertificateRequestConditionInvalidRequest) ||
			c.Type == certmanagerv1.CertificateRequestConditionReady && c.Reason == certmanagerv1.CertificateRequestReasonFailed
		switch {
		case refused:
			return nil, "", fmt.Errorf("CertificateRequest %s: %s: %s: %w", r.Name, c.Reason, c.Message, errNoCertificate)
		case c.Type == certmanagerv1.CertificateRequestConditionReady && c.Status == cmmeta.ConditionTrue:
			return r.Status.Certificate, "the certificate", nil
		case c.Type == certmanagerv1.CertificateRequestConditionReady && c.Message != "":
			waits = c.Message
		}
	}
	return nil, waits, nil
}

// accept takes a certificate if the API server can reach the agent by it.
func (s *signedByIssuer) accept(chain []byte, key *ecdsa.PrivateKey) (*tls.Certificate, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the serving key: %w", err)
	}
	c, err := tls.X509KeyPair(chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err != nil {
		return nil, fmt.Errorf("the signed certificate: %w", err)
	}
	if err := c.Leaf.VerifyHostname(s.node.InternalIP); err != nil {
		return nil, fmt.Errorf("the signed certificate is not for the agent's address: %w", err)
	}
	if now := s.clock.Now(); !now.Before(c.Leaf.NotAfter) {
		return nil, fmt.Errorf("the signed certificate has expired at %s, and it is %s here",
			c.Leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return &c, nil
}
