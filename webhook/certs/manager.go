package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

// Defaults of Options.
const (
	DefaultAuthorityLife = 365 * 24 * time.Hour
	DefaultLeafLife      = 7 * 24 * time.Hour
	DefaultInterval      = 10 * time.Second
)

// fieldManager names this program in the managedFields of what it writes.
const fieldManager = "autoburst-certs"

// attempts is how often one pass starts anew after a conflict with another
// replica.
const attempts = 5

// Secrets reads and writes the Secrets of one namespace. A client-go
// SecretInterface is one.
type Secrets interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error)
	Create(ctx context.Context, s *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error)
	Update(ctx context.Context, s *corev1.Secret, o metav1.UpdateOptions) (*corev1.Secret, error)
}

// Configurations reads and patches mutating webhook configurations. A client-go
// MutatingWebhookConfigurationInterface is one.
type Configurations interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*admissionregistrationv1.MutatingWebhookConfiguration, error)
	Patch(ctx context.Context, name string, t types.PatchType, data []byte, o metav1.PatchOptions, subresources ...string) (*admissionregistrationv1.MutatingWebhookConfiguration, error)
}

// Options say what to certify and where to keep it.
type Options struct {
	// Secrets of the namespace in which SecretName is. Required.
	Secrets Secrets
	// SecretName is the Secret with the authority. Required.
	SecretName string
	// Configurations and ConfigurationName are where the bundle goes. Required.
	Configurations    Configurations
	ConfigurationName string
	// DNSNames and IPs are what the API server calls the webhook by, such as
	// SERVICE.NAMESPACE.svc. At least one is required.
	DNSNames []string
	IPs      []net.IP

	// AuthorityLife and LeafLife are how long certificates are valid; they are
	// replaced at two thirds. Default to 365 and 7 days. A leaf must live at most
	// a sixth as long as the authority.
	AuthorityLife, LeafLife time.Duration
	// Interval is how often everything is checked. Defaults to 10 s.
	Interval time.Duration
	// Clock defaults to the real one.
	Clock clock.WithTicker
	// Registerer gets the metrics of this package. Required.
	Registerer prometheus.Registerer
	// Logger; the zero value logs nothing.
	Logger logr.Logger
}

// Manager keeps one replica's serving certificate. Run Start on every replica
// and put GetCertificate into the server's tls.Config.
type Manager struct {
	o       Options
	metrics *metrics
	leaf    atomic.Pointer[tls.Certificate]

	// mu guards what the readiness check tells.
	mu sync.Mutex
	// announced is true once the bundle has been seen in, or written to, the
	// configuration, or the configuration has been found missing.
	announced bool
	lastErr   error

	// authority is the last one read. Start alone uses it.
	authority *authority
}

// New checks the options and registers the metrics. Nothing runs before Start.
func New(o Options) (*Manager, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.AuthorityLife <= 0 {
		o.AuthorityLife = DefaultAuthorityLife
	}
	if o.LeafLife <= 0 {
		o.LeafLife = DefaultLeafLife
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	switch {
	case o.Secrets == nil || o.Configurations == nil || o.Registerer == nil:
		return nil, errors.New("serving certificates: Secrets, Configurations and Registerer are required")
	case o.SecretName == "" || o.ConfigurationName == "":
		return nil, errors.New("serving certificates: the names of the Secret and the configuration are required")
	case len(o.DNSNames)+len(o.IPs) == 0:
		return nil, errors.New("serving certificates: a DNS name or an IP address is required")
	case o.LeafLife > o.AuthorityLife/6:
		return nil, fmt.Errorf("serving certificates: a leaf may live at most a sixth of the authority's %v, not %v", o.AuthorityLife, o.LeafLife)
	}
	m := &Manager{o: o}
	m.metrics = newMetrics(m.Ready)
	if err := m.metrics.set.Register(o.Registerer); err != nil {
		return nil, fmt.Errorf("serving certificates: %w", err)
	}
	return m, nil
}

// NeedLeaderElection is false: every replica serves.
func (*Manager) NeedLeaderElection() bool { return false }

// GetCertificate is for tls.Config.
func (m *Manager) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	leaf := m.leaf.Load()
	if leaf == nil {
		return nil, errors.New("the serving certificate of the webhook is not made yet")
	}
	return leaf, nil
}

// Ready is a readiness check. It fails until this replica has a certificate that
// is valid now and the API server has been told to trust it. Where there is no
// webhook configuration, nobody needs to be told.
func (m *Manager) Ready(*http.Request) error {
	leaf := m.leaf.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Clock.Now()
	switch {
	case leaf == nil:
		return m.notReady("the serving certificate is not made yet")
	case !now.Before(leaf.Leaf.NotAfter):
		return m.notReady("the serving certificate has expired")
	case !m.announced:
		return m.notReady("the webhook configuration does not have the CA bundle yet")
	}
	return nil
}

func (m *Manager) notReady(what string) error {
	if m.lastErr != nil {
		return fmt.Errorf("%s: %w", what, m.lastErr)
	}
	return errors.New(what)
}

// Start checks at once and then at every interval, until ctx is done. It goes by
// the wall clock, which unlike a timer of two days also counts the time for which
// the machine was suspended. Errors are logged, counted and tried again, so it
// only ever returns nil.
func (m *Manager) Start(ctx context.Context) error {
	ticker := m.o.Clock.NewTicker(m.o.Interval)
	defer ticker.Stop()
	for {
		err := m.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		m.mu.Lock()
		m.lastErr = err
		m.mu.Unlock()
		if err != nil {
			m.metrics.errors.Inc()
			m.o.Logger.Error(err, "Keeping the webhook's certificates; trying again", "after", m.o.Interval.String())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
	}
}

// pass does everything that is due once, and starts anew after a conflict.
func (m *Manager) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(m.o.Interval, time.Second))
	defer cancel()
	var err error
	for range attempts {
		if err = m.once(ctx); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			break
		}
	}
	return err
}

func (m *Manager) once(ctx context.Context) error {
	// The configuration first: see the package comment.
	configuration, err := m.o.Configurations.Get(ctx, m.o.ConfigurationName, metav1.GetOptions{})
	missing := apierrors.IsNotFound(err)
	if missing {
		configuration, err = nil, nil
	}
	if err != nil {
		err = fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", m.o.ConfigurationName, err)
	}
	readErr := err

	err = m.readAuthority(ctx)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return err
	}
	if m.authority == nil {
		return errors.Join(readErr, err)
	}
	secretErr := err

	// While the Secret cannot be read, the authority in memory may be outdated:
	// good enough to sign with, but not to overwrite a bundle.
	var writeErr error
	alreadyTrusted := missing
	if configuration != nil && secretErr == nil {
		alreadyTrusted, writeErr = m.announce(ctx, configuration)
		if apierrors.IsConflict(writeErr) {
			return writeErr
		}
	}
	if secretErr == nil && readErr == nil && writeErr == nil {
		m.mu.Lock()
		m.announced = true
		m.mu.Unlock()
	}
	return errors.Join(readErr, secretErr, writeErr, m.renewLeaf(alreadyTrusted))
}

// readAuthority reads the authority from the Secret, and makes or replaces it
// where that is due. After an error the last known one stays.
func (m *Manager) readAuthority(ctx context.Context) error {
	now := m.o.Clock.Now()
	secret, err := m.o.Secrets.Get(ctx, m.o.SecretName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return m.createAuthority(ctx, now)
	}
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", m.o.SecretName, err)
	}
	current, err := parseAuthority(secret.Data)
	switch {
	case err != nil:
		m.o.Logger.Info("Replacing the webhook's authority, which is unusable", "secret", m.o.SecretName, "reason", err.Error())
		return m.replaceAuthority(ctx, secret, now)
	case !now.Before(renewal(current.certificate)):
		m.o.Logger.Info("Replacing the webhook's authority, which is in the last third of its life",
			"secret", m.o.SecretName, "expires", current.certificate.NotAfter)
		return m.replaceAuthority(ctx, secret, now)
	case len(decodeCertificates(current.bundle)) > 1 && !now.Before(m.retirement(current)):
		current.bundle = encodeCertificates(current.certificate)
		m.o.Logger.Info("Removing earlier authorities from the bundle: no certificate of theirs is in use", "secret", m.o.SecretName)
		return m.updateAuthority(ctx, secret, current)
	}
	m.keep(current)
	return nil
}

// retirement is when no leaf of an earlier authority can be in use any more: the
// last was made before its replica saw this authority, by a clock that may differ
// from ours.
func (m *Manager) retirement(a *authority) time.Time {
	return made(a.certificate).Add(m.o.LeafLife + m.o.Interval + backdate)
}

func (m *Manager) createAuthority(ctx context.Context, now time.Time) error {
	a, err := newAuthority(now, m.o.AuthorityLife, nil)
	if err != nil {
		return err
	}
	data, err := a.data()
	if err != nil {
		return err
	}
	_, err = m.o.Secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:   m.o.SecretName,
			Labels: map[string]string{"app.kubernetes.io/managed-by": fieldManager},
		},
		Type: corev1.SecretTypeTLS,
		Data: data,
	}, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("creating Secret %s: %w", m.o.SecretName, err)
	}
	m.o.Logger.Info("Made an authority for the webhook", "secret", m.o.SecretName, "expires", a.certificate.NotAfter)
	m.keep(a)
	return nil
}

func (m *Manager) replaceAuthority(ctx context.Context, secret *corev1.Secret, now time.Time) error {
	a, err := newAuthority(now, m.o.AuthorityLife, trusted(secret.Data, now))
	if err != nil {
		return err
	}
	return m.updateAuthority(ctx, secret, a)
}

func (m *Manager) updateAuthority(ctx context.Context, secret *corev1.Secret, a *authority) error {
	data, err := a.data()
	if err != nil {
		return err
	}
	secret = secret.DeepCopy()
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	maps.Copy(secret.Data, data)
	if _, err := m.o.Secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("updating Secret %s: %w", m.o.SecretName, err)
	}
	m.keep(a)
	return nil
}

func (m *Manager) keep(a *authority) {
	m.authority = a
	m.metrics.expiry.WithLabelValues(certificateAuthority).Set(float64(a.certificate.NotAfter.Unix()))
}

// announce writes the bundle where it is not, and reports whether it was already
// everywhere.
func (m *Manager) announce(ctx context.Context, c *admissionregistrationv1.MutatingWebhookConfiguration) (bool, error) {
	bundles := map[int][]byte{}
	for i := range c.Webhooks {
		if !bytes.Equal(c.Webhooks[i].ClientConfig.CABundle, m.authority.bundle) {
			bundles[i] = m.authority.bundle
		}
	}
	return len(bundles) == 0, writeBundles(ctx, m.o.Configurations, m.o.Logger, c, bundles)
}

// renewLeaf makes a serving certificate when one is due.
func (m *Manager) renewLeaf(trusted bool) error {
	now := m.o.Clock.Now()
	if old := m.leaf.Load(); old != nil && m.good(old.Leaf, now, trusted) {
		return nil
	}
	leaf, err := m.authority.leaf(now, m.o.LeafLife, m.o.DNSNames, m.o.IPs)
	if err != nil {
		return err
	}
	m.leaf.Store(leaf)
	m.metrics.expiry.WithLabelValues(certificateLeaf).Set(float64(leaf.Leaf.NotAfter.Unix()))
	m.o.Logger.Info("Made a serving certificate for the webhook",
		"expires", leaf.Leaf.NotAfter, "dnsNames", m.o.DNSNames, "ips", m.o.IPs)
	return nil
}

// good reports whether a leaf is to be served on. One of an earlier authority is
// kept, if need be almost to its end, until the API server has been seen to trust
// the present authority; but not when the bundle does not vouch for it any more.
func (m *Manager) good(leaf *x509.Certificate, now time.Time, trusted bool) bool {
	if now.Before(leaf.NotBefore) {
		return false
	}
	if m.authority.signed(leaf) {
		return now.Before(renewal(leaf))
	}
	return !trusted && m.authority.vouches(leaf) && now.Before(leaf.NotAfter.Add(-2*m.o.Interval))
}
