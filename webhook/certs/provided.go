package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
)

// Watcher tells that objects have changed.
type Watcher interface {
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// ProvidedSecrets reads and watches the Secrets of one namespace. A client-go
// SecretInterface is one.
type ProvidedSecrets interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error)
	Watcher
}

// WatchedConfigurations are Configurations that are watched too.
type WatchedConfigurations interface {
	Configurations
	Watcher
}

// Certificates reads and watches cert-manager's Certificates of one namespace. A
// CertificateInterface of cert-manager's clientset is one.
type Certificates interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*certmanagerv1.Certificate, error)
	Watcher
}

// Reasons of events.
const (
	ReasonMissing   = "ServingCertificateMissing"
	ReasonUnusable  = "ServingCertificateUnusable"
	ReasonExpired   = "ServingCertificateExpired"
	ReasonUntrusted = "ServingCertificateUntrusted"
	ReasonExpiring  = "ServingCertificateExpiring"
	ReasonNotReady  = "CertificateNotReady"
	ReasonServed    = "ServingCertificateServed"
)

// remindEvery is how often a problem that stays is told again: events are kept
// for an hour.
const remindEvery = time.Hour

// ProvidedOptions say where the certificate is and who is to be told of it.
type ProvidedOptions struct {
	// Secrets of Namespace, in which SecretName is. Required.
	Secrets               ProvidedSecrets
	Namespace, SecretName string
	// Configurations and ConfigurationName are what the API server goes by.
	// Required.
	Configurations    WatchedConfigurations
	ConfigurationName string
	// Announce makes this package write ca.crt of the Secret into the
	// configuration. Otherwise somebody else does: cainjector, or the chart.
	Announce bool
	// Certificates and CertificateName are the Certificate by which cert-manager
	// keeps the Secret; nil where there is none. It is only told about.
	Certificates    Certificates
	CertificateName string

	// Interval is how often everything is checked, beside when something changes,
	// and how long a new authority is in the configuration before a certificate of
	// it is served, for API servers that learn of it late. Defaults to 10 s.
	Interval time.Duration
	// Clock defaults to the real one.
	Clock clock.WithTicker
	// Registerer gets the metrics of this package. Required.
	Registerer prometheus.Registerer
	// Event, unless nil, records an event on an object of Namespace.
	Event func(regarding *corev1.ObjectReference, eventType, reason, message string)
	// Logger; the zero value logs nothing.
	Logger logr.Logger
}

// Provided serves a certificate that somebody else makes and renews in a Secret,
// such as cert-manager. Run Start on every replica and put GetCertificate into the
// server's tls.Config.
type Provided struct {
	o       ProvidedOptions
	metrics *metrics
	served  atomic.Pointer[pair]

	// mu guards what the readiness check tells.
	mu sync.Mutex
	// secretErr is why the Secret cannot be used, trustErr why the API server does
	// not trust what is served, certificateErr what cert-manager says.
	secretErr, trustErr, certificateErr error

	// What follows is used by Start alone.
	next pair // what the Secret holds now
	// trustedSince is when the API server was first seen to trust next.
	trustedSince time.Time
	// announced is the content of ca.crt that is in the configuration, since then.
	announced      string
	announcedSince time.Time
	// seen is what is wrong now, since then; told is the last that was told, at that
	// time.
	seen, told        string
	seenSince, toldAt time.Time
}

// NewProvided checks the options and registers the metrics. Nothing runs before
// Start.
func NewProvided(o ProvidedOptions) (*Provided, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	switch {
	case o.Secrets == nil || o.Configurations == nil || o.Registerer == nil:
		return nil, errors.New("serving certificates: Secrets, Configurations and Registerer are required")
	case o.Namespace == "" || o.SecretName == "" || o.ConfigurationName == "":
		return nil, errors.New("serving certificates: the names of the namespace, the Secret and the configuration are required")
	case (o.Certificates == nil) != (o.CertificateName == ""):
		return nil, errors.New("serving certificates: Certificates and CertificateName belong together")
	}
	p := &Provided{o: o}
	p.metrics = newMetrics(p.Ready)
	err := p.metrics.set.Register(o.Registerer)
	if err == nil && o.Certificates != nil {
		err = p.metrics.ofCertManager.Register(o.Registerer)
	}
	if err != nil {
		return nil, fmt.Errorf("serving certificates: %w", err)
	}
	p.secretErr = fmt.Errorf("Secret %s is not read yet", o.SecretName)
	return p, nil
}

// NeedLeaderElection is false: every replica serves.
func (*Provided) NeedLeaderElection() bool { return false }

// GetCertificate is for tls.Config. A certificate that has expired is served all
// the same: the API server's log then says what is wrong.
func (p *Provided) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	served := p.served.Load()
	if served == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		return nil, fmt.Errorf("there is no serving certificate: %w", p.secretErr)
	}
	return served.certificate, nil
}

// Ready is a readiness check. It fails while this replica has no certificate that
// is valid now and that the API server trusts, as far as the webhook configuration
// tells. Where there is no configuration, nobody needs to trust it.
func (p *Provided) Ready(*http.Request) error {
	served := p.served.Load()
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case served == nil:
		return p.because(fmt.Errorf("there is no serving certificate: %w", p.secretErr))
	case !now.Before(served.leaf().NotAfter):
		return p.because(p.expired(served))
	case p.trustErr != nil:
		return p.because(fmt.Errorf("the API server does not trust the serving certificate of Secret %s: %w", p.o.SecretName, p.trustErr))
	}
	return nil
}

// because adds what cert-manager says. The lock is held.
func (p *Provided) because(err error) error {
	if p.certificateErr != nil {
		return fmt.Errorf("%w; %w", err, p.certificateErr)
	}
	return err
}

func (p *Provided) expired(served *pair) error {
	return fmt.Errorf("the serving certificate of Secret %s has expired at %s: renew it, pods are admitted unchanged until then",
		p.o.SecretName, served.leaf().NotAfter.UTC().Format(time.RFC3339))
}

// Start checks at once, whenever something changes and at every interval, until
// ctx is done. Errors are logged, counted and tried again, so it only ever returns
// nil.
func (p *Provided) Start(ctx context.Context) error {
	changed := make(chan struct{}, 1)
	var watches sync.WaitGroup
	defer watches.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watches.Go(func() { p.watch(ctx, p.o.Secrets, p.o.SecretName, changed) })
	watches.Go(func() { p.watch(ctx, p.o.Configurations, p.o.ConfigurationName, changed) })
	if p.o.Certificates != nil {
		watches.Go(func() { p.watch(ctx, p.o.Certificates, p.o.CertificateName, changed) })
	}
	ticker := p.o.Clock.NewTicker(p.o.Interval)
	defer ticker.Stop()
	var last string
	for {
		err := p.pass(ctx)
		if ctx.Err() != nil {
			return nil
		}
		problem := ""
		if err != nil {
			problem = err.Error()
			p.metrics.errors.Inc()
		}
		if problem != last && problem != "" {
			p.o.Logger.Error(err, "Keeping the webhook's certificate; trying again", "after", p.o.Interval.String())
		}
		last = problem
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		case <-changed:
		}
	}
}

// watch tells of every change of an object. It is no more than a hint: what a
// watch misses is found at the next interval.
func (p *Provided) watch(ctx context.Context, w Watcher, name string, changed chan<- struct{}) {
	for ctx.Err() == nil {
		events, err := w.Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
		if err == nil {
			for range events.ResultChan() {
				select {
				case changed <- struct{}{}:
				default:
				}
			}
			events.Stop()
		}
		again := p.o.Clock.NewTimer(p.o.Interval)
		select {
		case <-ctx.Done():
		case <-again.C():
		}
		again.Stop()
	}
}

// pass does everything that is due once, and starts anew after a conflict.
func (p *Provided) pass(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, max(p.o.Interval, time.Second))
	defer cancel()
	var err error
	for range attempts {
		if err = p.once(ctx); !apierrors.IsConflict(err) {
			break
		}
	}
	return err
}

func (p *Provided) once(ctx context.Context) error {
	// The configuration first: see the package comment.
	configuration, err := p.o.Configurations.Get(ctx, p.o.ConfigurationName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		configuration, err = nil, nil
	}
	known := err == nil
	if err != nil {
		err = fmt.Errorf("reading MutatingWebhookConfiguration %s: %w", p.o.ConfigurationName, err)
	}
	secretErr := p.readSecret(ctx)
	certificateErr := p.readCertificate(ctx)
	var writeErr error
	if configuration != nil && secretErr == nil && p.o.Announce {
		if writeErr = p.announce(ctx, configuration); apierrors.IsConflict(writeErr) {
			return writeErr
		}
	}
	if known {
		p.choose(configuration)
	}
	p.mu.Lock()
	p.secretErr, p.certificateErr = secretErr, certificateErr
	p.mu.Unlock()
	p.tell()
	return errors.Join(err, secretErr, writeErr)
}

// readSecret reads the Secret into next. After an error the last known one stays.
func (p *Provided) readSecret(ctx context.Context) error {
	secret, err := p.o.Secrets.Get(ctx, p.o.SecretName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("reading Secret %s: %w", p.o.SecretName, err)
	}
	next, err := parsePair(secret.Data)
	if err != nil {
		return fmt.Errorf("Secret %s is unusable: %w", p.o.SecretName, err)
	}
	if p.o.Announce && len(next.authorities) == 0 {
		return fmt.Errorf("Secret %s is unusable: %s holds no certificate to trust; add the authority's, or set webhook.tls.caBundle", p.o.SecretName, bundleKey)
	}
	if !next.equal(&p.next) {
		p.trustedSince = time.Time{}
	}
	p.next = *next
	return nil
}

// choose serves what the Secret holds, once the API server is known to trust it,
// or does not trust what was served so far. Configuration is nil where there is
// none.
func (p *Provided) choose(configuration *admissionregistrationv1.MutatingWebhookConfiguration) {
	now := p.o.Clock.Now()
	served := p.served.Load()
	if p.next.certificate != nil {
		if p.next.trustedBy(configuration, now) != nil {
			p.trustedSince = time.Time{}
		} else if p.trustedSince.IsZero() {
			p.trustedSince = now
		}
		settled := !p.trustedSince.IsZero() && now.Sub(p.trustedSince) >= p.o.Interval
		if served == nil || !served.equal(&p.next) && (settled || served.trustedBy(configuration, now) != nil) {
			next := p.next
			served = &next
			p.served.Store(served)
			p.metrics.expiry.WithLabelValues(certificateLeaf).Set(float64(served.leaf().NotAfter.Unix()))
			p.o.Logger.Info("Serving another certificate", "secret", p.o.SecretName, "serial", served.leaf().SerialNumber.String(),
				"expires", served.leaf().NotAfter, "dnsNames", served.leaf().DNSNames)
			p.event(p.secret(), corev1.EventTypeNormal, ReasonServed, fmt.Sprintf("The webhook serves a certificate that is valid until %s",
				served.leaf().NotAfter.UTC().Format(time.RFC3339)))
		}
	}
	if served == nil {
		return
	}
	trustErr := served.trustedBy(configuration, now)
	if authority := served.authorityIn(configuration); authority != nil {
		p.metrics.expiry.WithLabelValues(certificateAuthority).Set(float64(authority.NotAfter.Unix()))
	}
	p.mu.Lock()
	p.trustErr = trustErr
	p.mu.Unlock()
}

// tell alarms of what keeps, or soon will keep, the webhook from being called, once
// and then every hour. What is over within an interval, as at an installation, is
// nothing to alarm of.
func (p *Provided) tell() {
	regarding, reason, err := p.problem()
	now := p.o.Clock.Now()
	if reason != p.seen {
		p.seen, p.seenSince = reason, now
	}
	if reason != "" && now.Sub(p.seenSince) < p.o.Interval || reason == p.told && (reason == "" || now.Sub(p.toldAt) < remindEvery) {
		return
	}
	p.told, p.toldAt = reason, now
	if reason == "" {
		p.o.Logger.Info("The webhook's certificate is in order", "secret", p.o.SecretName)
		return
	}
	p.o.Logger.Error(err, "The webhook's certificate needs attention", "reason", reason)
	p.event(regarding, corev1.EventTypeWarning, reason, err.Error())
}

func (p *Provided) problem() (regarding *corev1.ObjectReference, reason string, err error) {
	notReady := p.Ready(nil)
	served := p.served.Load()
	now := p.o.Clock.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case served == nil && apierrors.IsNotFound(p.secretErr):
		return p.secret(), ReasonMissing, notReady
	case served == nil:
		return p.secret(), ReasonUnusable, notReady
	case !now.Before(served.leaf().NotAfter):
		return p.secret(), ReasonExpired, notReady
	case notReady != nil:
		return p.secret(), ReasonUntrusted, notReady
	case p.secretErr != nil:
		return p.secret(), ReasonUnusable, fmt.Errorf("%w; the webhook goes on with the certificate that it has, until %s",
			p.secretErr, served.leaf().NotAfter.UTC().Format(time.RFC3339))
	case !now.Before(served.lastTenth()):
		return p.secret(), ReasonExpiring, p.because(fmt.Errorf("the serving certificate of Secret %s expires at %s and has not been renewed",
			p.o.SecretName, served.leaf().NotAfter.UTC().Format(time.RFC3339)))
	case p.certificateErr != nil:
		return p.certificate(), ReasonNotReady, p.certificateErr
	}
	return nil, "", nil
}

func (p *Provided) event(regarding *corev1.ObjectReference, eventType, reason, message string) {
	if p.o.Event != nil {
		p.o.Event(regarding, eventType, reason, message)
	}
}

func (p *Provided) secret() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Secret", Namespace: p.o.Namespace, Name: p.o.SecretName}
}
