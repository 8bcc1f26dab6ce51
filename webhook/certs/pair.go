package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// pair is a serving certificate with its key and what is to be trusted with it.
type pair struct {
	// certificate is nil in the zero value.
	certificate *tls.Certificate
	// authorities are those of ca.crt.
	authorities []*x509.Certificate
}

// parsePair reads the content of a Secret. Its errors tell no content.
func parsePair(data map[string][]byte) (*pair, error) {
	for _, key := range []string{certificateKey, privateKeyKey} {
		if len(data[key]) == 0 {
			return nil, fmt.Errorf("%s is missing", key)
		}
	}
	certificate, err := tls.X509KeyPair(data[certificateKey], data[privateKeyKey])
	if err != nil {
		// The library's errors name kinds of PEM blocks, which here may be anything.
		return nil, fmt.Errorf("%s and %s are no certificate and its key in PEM form", certificateKey, privateKeyKey)
	}
	return &pair{certificate: &certificate, authorities: decodeCertificates(data[bundleKey])}, nil
}

func (p *pair) leaf() *x509.Certificate { return p.certificate.Leaf }

// equal reports whether both serve the same; what is to be trusted may differ.
func (p *pair) equal(q *pair) bool {
	return p.certificate != nil && q.certificate != nil && slices.EqualFunc(p.certificate.Certificate, q.certificate.Certificate, bytes.Equal)
}

// lastTenth is when a tenth of the certificate's life is left.
func (p *pair) lastTenth() time.Time {
	return p.leaf().NotAfter.Add(-p.leaf().NotAfter.Sub(p.leaf().NotBefore) / 10)
}

// trustedBy checks the certificate as the API server does for each hook, and
// returns why one would not be called. Without a configuration none is.
func (p *pair) trustedBy(c *admissionregistrationv1.MutatingWebhookConfiguration, now time.Time) error {
	if c == nil {
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, der := range p.certificate.Certificate[1:] {
		if i, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(i)
		}
	}
	for i := range c.Webhooks {
		hook := &c.Webhooks[i]
		roots := decodeCertificates(hook.ClientConfig.CABundle)
		if len(roots) == 0 {
			return fmt.Errorf("hook %s of MutatingWebhookConfiguration %s has no caBundle", hook.Name, c.Name)
		}
		options := x509.VerifyOptions{
			Roots: x509.NewCertPool(), Intermediates: intermediates, CurrentTime: now, DNSName: calledBy(hook.ClientConfig),
		}
		for _, r := range roots {
			options.Roots.AddCert(r)
		}
		if _, err := p.leaf().Verify(options); err != nil {
			return fmt.Errorf("hook %s of MutatingWebhookConfiguration %s: %w", hook.Name, c.Name, plain(err))
		}
	}
	return nil
}

// calledBy is the name by which the API server calls a hook.
func calledBy(c admissionregistrationv1.WebhookClientConfig) string {
	switch {
	case c.Service != nil:
		return c.Service.Name + "." + c.Service.Namespace + ".svc"
	case c.URL != nil:
		if u, err := url.Parse(*c.URL); err == nil {
			return u.Hostname()
		}
	}
	return ""
}

// plain is a verification error in the words of an operator, where there are
// better ones.
func plain(err error) error {
	if unknown := (x509.UnknownAuthorityError{}); errors.As(err, &unknown) {
		return errors.New("its caBundle does not hold the authority that signed the certificate")
	}
	return err
}

// authorityIn is the certificate of the first hook's bundle that signed the leaf,
// nil if there is none.
func (p *pair) authorityIn(c *admissionregistrationv1.MutatingWebhookConfiguration) *x509.Certificate {
	if c == nil || len(c.Webhooks) == 0 {
		return nil
	}
	signers := p.certificate.Certificate
	last, err := x509.ParseCertificate(signers[len(signers)-1])
	if err != nil {
		return nil
	}
	for _, root := range decodeCertificates(c.Webhooks[0].ClientConfig.CABundle) {
		if root.Equal(last) || last.CheckSignatureFrom(root) == nil {
			return root
		}
	}
	return nil
}
