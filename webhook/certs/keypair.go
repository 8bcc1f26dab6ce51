package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Keys of the Secret. The first two are those of the type kubernetes.io/tls.
const (
	certificateKey = corev1.TLSCertKey
	privateKeyKey  = corev1.TLSPrivateKeyKey
	// bundleKey holds the authority's certificate, followed by those of earlier
	// authorities whose leaves may still be in use.
	bundleKey = "ca.crt"
)

// backdate makes a certificate valid from before its making, for API servers
// whose clock is behind.
const backdate = time.Hour

// maxEarlier is how many earlier authorities a bundle may hold.
const maxEarlier = 4

const (
	certificateBlock = "CERTIFICATE"
	privateKeyBlock  = "PRIVATE KEY"
)

// authority is a CA key pair and the bundle that clients are to trust.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	// bundle is PEM, certificate first.
	bundle []byte
}

// newAuthority makes a key pair that is valid for life; earlier ones stay in the
// bundle.
func newAuthority(now time.Time, life time.Duration, earlier []*x509.Certificate) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the authority's key: %w", err)
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "autoburst webhook authority"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(life),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the authority's certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("making the authority's certificate: %w", err)
	}
	a := &authority{certificate: certificate, key: key}
	a.bundle = encodeCertificates(append([]*x509.Certificate{certificate}, earlier...)...)
	return a, nil
}

// sign creates a certificate with a random serial number.
func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	return x509.CreateCertificate(rand.Reader, template, parent, public, key)
}

// leaf signs a new serving certificate, no longer valid than its authority.
func (a *authority) leaf(now time.Time, life time.Duration, dnsNames []string, ips []net.IP) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the serving key: %w", err)
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: "autoburst webhook"},
		NotBefore:   now.Add(-backdate),
		NotAfter:    earliest(now.Add(life), a.certificate.NotAfter),
		DNSNames:    dnsNames,
		IPAddresses: ips,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := sign(template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("signing the serving certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("signing the serving certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: certificate}, nil
}

// signed reports whether this authority made the leaf.
func (a *authority) signed(leaf *x509.Certificate) bool {
	return leaf.CheckSignatureFrom(a.certificate) == nil
}

// vouches reports whether the bundle holds the authority that made the leaf.
func (a *authority) vouches(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(decodeCertificates(a.bundle), func(c *x509.Certificate) bool {
		return leaf.CheckSignatureFrom(c) == nil
	})
}

// data is the content of the Secret.
func (a *authority) data() (map[string][]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the authority's key: %w", err)
	}
	return map[string][]byte{
		certificateKey: encodeCertificates(a.certificate),
		privateKeyKey:  pem.EncodeToMemory(&pem.Block{Type: privateKeyBlock, Bytes: der}),
		bundleKey:      a.bundle,
	}, nil
}

// parseAuthority reads the Secret's content. Its errors tell no content.
func parseAuthority(data map[string][]byte) (*authority, error) {
	certificates := decodeCertificates(data[certificateKey])
	if len(certificates) != 1 {
		return nil, fmt.Errorf("%s holds %d certificates, not one", certificateKey, len(certificates))
	}
	certificate := certificates[0]
	if !certificate.BasicConstraintsValid || !certificate.IsCA {
		return nil, fmt.Errorf("%s is not the certificate of an authority", certificateKey)
	}
	block, _ := pem.Decode(data[privateKeyKey])
	if block == nil || block.Type != privateKeyBlock {
		return nil, fmt.Errorf("%s is not a private key in PEM", privateKeyKey)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s is not a private key in PKCS #8", privateKeyKey)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s is not an ECDSA key", privateKeyKey)
	}
	if !key.PublicKey.Equal(certificate.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together", certificateKey, privateKeyKey)
	}
	bundle := decodeCertificates(data[bundleKey])
	if len(bundle) == 0 || !bundle[0].Equal(certificate) {
		return nil, errors.New(bundleKey + " does not start with the authority's certificate")
	}
	return &authority{certificate: certificate, key: key, bundle: encodeCertificates(bundle...)}, nil
}

// trusted are all authorities that the content of a Secret names, usable or not,
// without those that have expired.
func trusted(data map[string][]byte, now time.Time) []*x509.Certificate {
	var all []*x509.Certificate
	for _, c := range append(decodeCertificates(data[certificateKey]), decodeCertificates(data[bundleKey])...) {
		if c.IsCA && now.Before(c.NotAfter) && !slices.ContainsFunc(all, c.Equal) {
			all = append(all, c)
		}
	}
	return all[:min(len(all), maxEarlier)]
}

// decodeCertificates returns the certificates of a PEM document, up to the first
// thing that is none.
func decodeCertificates(document []byte) []*x509.Certificate {
	var all []*x509.Certificate
	for {
		var block *pem.Block
		block, document = pem.Decode(document)
		if block == nil || block.Type != certificateBlock {
			return all
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return all
		}
		all = append(all, c)
	}
}

func encodeCertificates(certificates ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certificates {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Raw}))
	}
	return b.Bytes()
}

// made is when this package made a certificate.
func made(c *x509.Certificate) time.Time { return c.NotBefore.Add(backdate) }

// renewal is when a certificate has lived two thirds of its life.
func renewal(c *x509.Certificate) time.Time {
	return made(c).Add(c.NotAfter.Sub(made(c)) / 3 * 2)
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
