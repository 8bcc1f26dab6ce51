package certs

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	testclock "k8s.io/utils/clock/testing"
)

const tlsName = "autoburst-webhook-tls"

// journal takes events.
type journal struct {
	mu   sync.Mutex
	said []string
}

func (j *journal) record(regarding *corev1.ObjectReference, eventType, reason, message string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.said = append(j.said, fmt.Sprintf("%s %s %s/%s: %s", eventType, reason, regarding.Kind, regarding.Name, message))
}

// reasons are those of the warnings.
func (j *journal) reasons() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []string
	for _, s := range j.said {
		if words := strings.Fields(s); words[0] == corev1.EventTypeWarning {
			all = append(all, words[1])
		}
	}
	return all
}

type providedBed struct {
	*Provided
	events   *journal
	registry *prometheus.Registry
}

func newProvided(t *testing.T, a *api, clk *testclock.FakeClock, change func(*ProvidedOptions)) *providedBed {
	t.Helper()
	b := &providedBed{events: &journal{}, registry: prometheus.NewRegistry()}
	o := ProvidedOptions{
		Secrets: secrets{a}, Namespace: "autoburst", SecretName: tlsName,
		Configurations: configurations{a}, ConfigurationName: configurationName, Announce: true,
		Clock: clk, Registerer: b.registry, Event: b.events.record, Logger: testr.New(t),
	}
	if change != nil {
		change(&o)
	}
	var err error
	if b.Provided, err = NewProvided(o); err != nil {
		t.Fatal(err)
	}
	return b
}

func withoutAnnouncing(o *ProvidedOptions) { o.Announce = false }

// signer is an authority of somebody else's.
func signer(t *testing.T, now time.Time) *authority {
	t.Helper()
	a, err := newAuthority(now, DefaultAuthorityLife, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issued is the content of a Secret with a new leaf of an authority.
func issued(t *testing.T, by *authority, now time.Time, life time.Duration, names ...string) map[string][]byte {
	t.Helper()
	if names == nil {
		names = []string{dnsName}
	}
	leaf, err := by.leaf(now, life, names, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		certificateKey: encodeCertificates(leaf.Leaf), bundleKey: encodeCertificates(by.certificate),
		privateKeyKey: pem.EncodeToMemory(&pem.Block{Type: privateKeyBlock, Bytes: der}),
	}
}

func (a *api) provide(data map[string][]byte) {
	a.change(func() {
		a.secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: tlsName}, Type: corev1.SecretTypeTLS, Data: data}
	})
}

// inject writes the bundle as cainjector does.
func (a *api) inject(bundle []byte) {
	a.change(func() {
		for i := range a.configuration.Webhooks {
			a.configuration.Webhooks[i].ClientConfig.CABundle = bundle
		}
	})
}

func pass(t *testing.T, beds ...*providedBed) {
	t.Helper()
	for _, b := range beds {
		if err := b.pass(t.Context()); err != nil {
			t.Fatalf("pass: %v", err)
		}
	}
}

// servedIsTrusted checks what is served as an API server does.
func servedIsTrusted(b *providedBed, bundle []byte, now time.Time) error {
	c, err := b.GetCertificate(nil)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("no certificate in the bundle")
	}
	_, err = c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: dnsName, CurrentTime: now})
	return err
}

func TestNewProvidedRefuses(t *testing.T) {
	valid := ProvidedOptions{
		Secrets: secrets{newAPI()}, Namespace: "n", SecretName: "s", Configurations: configurations{newAPI()}, ConfigurationName: "c",
		Registerer: prometheus.NewRegistry(),
	}
	taken := prometheus.NewRegistry()
	if err := newMetrics(nil).set.Register(taken); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*ProvidedOptions)
		want   string
	}{
		"no secrets":            {func(o *ProvidedOptions) { o.Secrets = nil }, "required"},
		"no secret name":        {func(o *ProvidedOptions) { o.SecretName = "" }, "names"},
		"certificate unnamed":   {func(o *ProvidedOptions) { o.Certificates = &certificates{} }, "belong together"},
		"certificates not read": {func(o *ProvidedOptions) { o.CertificateName = "c" }, "belong together"},
		"metrics twice":         {func(o *ProvidedOptions) { o.Registerer = taken }, "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid
			tc.change(&o)
			if _, err := NewProvided(o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("NewProvided() error = %v, want one with %q", err, tc.want)
			}
		})
	}
	if p, err := NewProvided(valid); err != nil || p.NeedLeaderElection() {
		t.Errorf("NewProvided() = %v, %v, want one that needs no leader", p, err)
	}
}

// What the Secret holds decides what is served, what the readiness check says and
// which event there is.
func TestProvidedSecret(t *testing.T) {
	company := signer(t, epoch)
	good := issued(t, company, epoch, DefaultLeafLife)
	with := func(key string, value []byte) map[string][]byte {
		data := maps.Clone(good)
		data[key] = value
		return data
	}
	for name, tc := range map[string]struct {
		data map[string][]byte
		// wantReady is part of what the readiness check says, empty if it passes.
		wantReady string
		// wantEvent is the reason of the warning, empty for none.
		wantEvent string
		// wantServed is whether anything is.
		wantServed bool
	}{
		"good":                  {good, "", "", true},
		"no Secret":             {nil, "reading Secret autoburst-webhook-tls", ReasonMissing, false},
		"empty":                 {map[string][]byte{}, "tls.crt is missing", ReasonUnusable, false},
		"no key":                {with(privateKeyKey, nil), "tls.key is missing", ReasonUnusable, false},
		"key of another":        {with(privateKeyKey, issued(t, company, epoch, DefaultLeafLife)[privateKeyKey]), "no certificate and its key", ReasonUnusable, false},
		"garbage":               {with(certificateKey, []byte("garbage")), "no certificate and its key", ReasonUnusable, false},
		"no authority":          {with(bundleKey, nil), "ca.crt holds no certificate to trust; add the authority's, or set webhook.tls.caBundle", ReasonUnusable, false},
		"of another authority":  {with(bundleKey, encodeCertificates(signer(t, epoch).certificate)), "its caBundle does not hold the authority that signed the certificate", ReasonUntrusted, true},
		"for another name":      {issued(t, company, epoch, DefaultLeafLife, "other.autoburst.svc"), "not autoburst.autoburst.svc", ReasonUntrusted, true},
		"expired":               {issued(t, company, epoch.Add(-2*time.Hour), time.Hour), "has expired at 2026-03-01T11:00:00Z: renew it, pods are admitted unchanged until then", ReasonExpired, true},
		"not valid yet":         {issued(t, company, epoch.Add(2*time.Hour), time.Hour), "is not yet valid", ReasonUntrusted, true},
		"in the last tenth":     {issued(t, company, epoch.Add(-9*time.Hour), 10*time.Hour), "", ReasonExpiring, true},
		"signed by itself":      {with(bundleKey, good[certificateKey]), "", "", true},
		"several authorities":   {with(bundleKey, slices.Concat(encodeCertificates(signer(t, epoch).certificate), good[bundleKey])), "", "", true},
		"authority with a tail": {with(bundleKey, append(slices.Clone(good[bundleKey]), "garbage"...)), "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI()
			if tc.data != nil {
				a.provide(tc.data)
			}
			clk := testclock.NewFakeClock(epoch)
			b := newProvided(t, a, clk, nil)
			for range 3 { // the bundle that a pass writes is seen in the next
				_ = b.pass(t.Context()) // the readiness check tells
				clk.Step(DefaultInterval)
			}
			if err := b.Ready(nil); (err == nil) != (tc.wantReady == "") || err != nil && !strings.Contains(err.Error(), tc.wantReady) {
				t.Errorf("Ready() = %v, want %q", err, tc.wantReady)
			}
			if _, err := b.GetCertificate(nil); (err == nil) != tc.wantServed {
				t.Errorf("GetCertificate() = %v, want one: %t", err, tc.wantServed)
			}
			if got := strings.Join(b.events.reasons(), " "); got != tc.wantEvent {
				t.Errorf("warnings %q, want %q: %v", got, tc.wantEvent, b.events.said)
			}
			written := a.written()
			_ = b.pass(t.Context())
			if a.written() != written {
				t.Error("a pass with nothing to do writes")
			}
			if a.writes["secret"] > 0 {
				t.Error("the Secret was written")
			}
		})
	}
}

// Whatever order replicas and passes come in, what each serves is trusted by the
// bundle as it is and as it was a moment ago, while authorities and certificates
// change.
func TestProvidedRotation(t *testing.T) {
	for name, change := range map[string]func(*ProvidedOptions){"announced": nil, "injected": withoutAnnouncing} {
		t.Run(name, func(t *testing.T) {
			a, clk := newAPI(), testclock.NewFakeClock(epoch)
			beds := []*providedBed{newProvided(t, a, clk, change), newProvided(t, a, clk, change), newProvided(t, a, clk, change)}
			random := mathrand.New(mathrand.NewPCG(1, 2))
			var by *authority
			var bundle []byte
			served := map[string]bool{}
			for round := range 7 {
				if round%3 == 0 {
					by = signer(t, clk.Now())
				}
				a.provide(issued(t, by, clk.Now(), DefaultLeafLife))
				injectAt := random.IntN(2) // cainjector comes when it does
				for step := range 5 {
					if a.bundles(t)[0] != nil && change != nil && step == injectAt || round == 0 {
						bundle = slices.Concat(bundle, encodeCertificates(by.certificate)) // it merges
						if change != nil {
							a.inject(bundle)
						}
					}
					for _, i := range random.Perm(len(beds)) {
						before := a.bundles(t)[0]
						pass(t, beds[i])
						if round == 0 {
							continue
						}
						for j, b := range beds {
							for when, bundle := range map[string][]byte{"now": a.bundles(t)[0], "before": before} {
								if err := servedIsTrusted(b, bundle, clk.Now()); err != nil {
									t.Fatalf("round %d: after a pass of replica %d, replica %d is not trusted by the bundle of %s: %v", round, i, j, when, err)
								}
							}
							c, _ := b.GetCertificate(nil)
							served[c.Leaf.SerialNumber.String()] = true
						}
					}
					clk.Step(DefaultInterval)
				}
				for i, b := range beds {
					if c, _ := b.GetCertificate(nil); string(encodeCertificates(c.Leaf)) != string(a.secret.Data[certificateKey]) {
						t.Errorf("round %d: replica %d does not serve what the Secret holds", round, i)
					}
					if err := b.Ready(nil); err != nil {
						t.Errorf("round %d: replica %d: %v", round, i, err)
					}
				}
			}
			if len(served) < 6 {
				t.Errorf("%d certificates were served, want 6 or more", len(served))
			}
		})
	}
}

// A bundle that was replaced, as older injectors do, is followed at once.
func TestProvidedBundleReplaced(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	old, next := signer(t, epoch), signer(t, epoch)
	a.provide(issued(t, old, epoch, DefaultLeafLife))
	a.inject(encodeCertificates(old.certificate))
	b := newProvided(t, a, clk, withoutAnnouncing)
	pass(t, b)
	a.provide(issued(t, next, epoch, DefaultLeafLife))
	pass(t, b)
	if err := servedIsTrusted(b, encodeCertificates(old.certificate), epoch); err != nil {
		t.Errorf("the new certificate is served before anybody trusts it: %v", err)
	}
	a.inject(encodeCertificates(next.certificate))
	pass(t, b)
	if err := servedIsTrusted(b, encodeCertificates(next.certificate), epoch); err != nil {
		t.Errorf("the old certificate is served when nobody trusts it any more: %v", err)
	}
	if a.writes["configuration"] > 0 {
		t.Error("the bundle was written")
	}
}

// Earlier authorities leave the bundle an hour after.
func TestProvidedOverlapEnds(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	first, second := signer(t, epoch), signer(t, epoch)
	a.provide(issued(t, first, epoch, DefaultLeafLife))
	b := newProvided(t, a, clk, nil)
	pass(t, b, b)
	a.provide(issued(t, second, epoch, DefaultLeafLife))
	pass(t, b)
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 2}, {overlap - time.Minute, 2}, {overlap, 1}} {
		clk.SetTime(epoch.Add(step.after))
		pass(t, b, b)
		if n := len(decodeCertificates(a.bundles(t)[0])); n != step.want {
			t.Errorf("after %v %d authorities are trusted, want %d", step.after, n, step.want)
		}
	}
	if err := servedIsTrusted(b, a.bundles(t)[0], clk.Now()); err != nil {
		t.Error(err)
	}
}

// Conflicts with another replica, and a Secret or an API server that cannot be read,
// change nothing of what is served.
func TestProvidedThroughTrouble(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	company := signer(t, epoch)
	good := issued(t, company, epoch, DefaultLeafLife)
	a.provide(good)
	b, other := newProvided(t, a, clk, nil), newProvided(t, a, clk, nil)
	a.beforePatch = func() { pass(t, other) }
	pass(t, b, b)
	if a.writes["configuration"] != 1 {
		t.Errorf("%d writes for one bundle, want 1", a.writes["configuration"])
	}
	for name, tc := range map[string]struct {
		begin func()
		end   func()
		want  string
	}{
		"API server down": {func() { a.down = true }, func() { a.down = false }, ReasonUnusable},
		"Secret deleted":  {func() { a.secret = nil }, nil, ReasonUnusable},
		"Secret emptied":  {func() { a.secret.Data = map[string][]byte{certificateKey: []byte("x"), privateKeyKey: []byte("y")} }, nil, ReasonUnusable},
	} {
		t.Run(name, func(t *testing.T) {
			b.events.said = nil
			a.change(tc.begin)
			if err := b.pass(t.Context()); err == nil {
				t.Error("no error")
			}
			if err := b.Ready(nil); err != nil {
				t.Errorf("Ready() = %v while a good certificate is served", err)
			}
			if n := len(b.events.reasons()); n > 0 {
				t.Errorf("%d warnings of what may be over in a moment", n)
			}
			clk.Step(DefaultInterval)
			_ = b.pass(t.Context())
			if got := strings.Join(b.events.reasons(), " "); got != tc.want {
				t.Errorf("warnings %q, want %q", got, tc.want)
			}
			_ = b.pass(t.Context())
			if n := len(b.events.reasons()); n != 1 {
				t.Errorf("%d warnings for one thing", n)
			}
			clk.Step(remindEvery)
			_ = b.pass(t.Context())
			if n := len(b.events.reasons()); n != 2 {
				t.Errorf("%d warnings an hour later, want 2", n)
			}
			if tc.end != nil {
				a.change(tc.end)
			}
			a.provide(good)
			pass(t, b)
		})
	}
}

// An expired certificate is replaced without a restart.
func TestProvidedRecovers(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	a.provide(issued(t, signer(t, epoch), epoch, time.Hour))
	b := newProvided(t, a, clk, nil)
	pass(t, b, b)
	ready := func() float64 {
		all, err := b.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			if f.GetName() == "autoburst_webhook_certificate_ready" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	if ready() != 1 {
		t.Errorf("metric %v, want 1", ready())
	}
	if got, want := testutil.ToFloat64(b.metrics.expiry.WithLabelValues("leaf")), float64(epoch.Add(time.Hour).Unix()); got != want {
		t.Errorf("expiry %v, want %v", got, want)
	}
	if got, want := testutil.ToFloat64(b.metrics.expiry.WithLabelValues("authority")), float64(epoch.Add(DefaultAuthorityLife).Unix()); got != want {
		t.Errorf("expiry of the authority %v, want %v", got, want)
	}
	clk.Step(time.Hour + time.Second)
	pass(t, b)
	if b.Ready(nil) == nil || ready() != 0 {
		t.Error("ready with an expired certificate")
	}
	a.provide(issued(t, signer(t, clk.Now()), clk.Now(), time.Hour))
	pass(t, b, b)
	if err := b.Ready(nil); err != nil || ready() != 1 {
		t.Errorf("Ready() = %v, metric %v after another certificate has come", err, ready())
	}
	if err := servedIsTrusted(b, a.bundles(t)[0], clk.Now()); err != nil {
		t.Error(err)
	}
}

func TestProvidedWithoutConfiguration(t *testing.T) {
	a := newAPI()
	a.configuration = nil
	a.provide(issued(t, signer(t, epoch), epoch, time.Hour))
	b := newProvided(t, a, testclock.NewFakeClock(epoch), nil)
	pass(t, b)
	if err := b.Ready(nil); err != nil {
		t.Errorf("Ready() = %v", err)
	}
}

// certificates is one Certificate of cert-manager.
type certificates struct {
	*api
	certificate *certmanagerv1.Certificate
}

func (c *certificates) Get(_ context.Context, name string, _ metav1.GetOptions) (*certmanagerv1.Certificate, error) {
	if c.certificate == nil {
		return nil, apierrors.NewNotFound(schema.GroupResource{Group: "cert-manager.io", Resource: "certificates"}, name)
	}
	return c.certificate, nil
}

// What cert-manager says of the Certificate is told.
func TestProvidedByCertManager(t *testing.T) {
	saying := func(status cmmeta.ConditionStatus, reason, message string) *certmanagerv1.Certificate {
		renewal := metav1.NewTime(epoch.Add(40 * time.Minute))
		return &certmanagerv1.Certificate{Status: certmanagerv1.CertificateStatus{
			RenewalTime: &renewal,
			Conditions: []certmanagerv1.CertificateCondition{
				{Type: certmanagerv1.CertificateConditionIssuing, Status: cmmeta.ConditionTrue, Reason: "Renewing"},
				{Type: certmanagerv1.CertificateConditionReady, Status: status, Reason: reason, Message: message},
			},
		}}
	}
	for name, tc := range map[string]struct {
		certificate *certmanagerv1.Certificate
		secret      bool
		wantReady   string
		wantEvent   string
		wantMetric  float64
	}{
		"ready":                {saying(cmmeta.ConditionTrue, "Ready", ""), true, "", "", 1},
		"not renewed":          {saying(cmmeta.ConditionFalse, "IncorrectIssuer", "Issuing certificate"), true, "", ReasonNotReady, 0},
		"none":                 {nil, true, "", ReasonNotReady, 0},
		"nothing said yet":     {&certmanagerv1.Certificate{}, false, "is it running?", ReasonMissing, 0},
		"issuer is missing":    {saying(cmmeta.ConditionFalse, "DoesNotExist", "Issuing certificate as Secret does not exist"), false, "DoesNotExist: Issuing certificate as Secret does not exist (kubectl -n autoburst describe certificate webhook)", ReasonMissing, 0},
		"ready without Secret": {saying(cmmeta.ConditionTrue, "Ready", ""), false, "reading Secret", ReasonMissing, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI()
			company := signer(t, epoch)
			a.inject(encodeCertificates(company.certificate))
			if tc.secret {
				a.provide(issued(t, company, epoch, time.Hour))
			}
			clk := testclock.NewFakeClock(epoch)
			b := newProvided(t, a, clk, func(o *ProvidedOptions) {
				o.Announce = false
				o.Certificates, o.CertificateName = &certificates{a, tc.certificate}, "webhook"
			})
			for range 2 {
				_ = b.pass(t.Context()) // the readiness check tells
				clk.Step(DefaultInterval)
			}
			if err := b.Ready(nil); (err == nil) != (tc.wantReady == "") || err != nil && !strings.Contains(err.Error(), tc.wantReady) {
				t.Errorf("Ready() = %v, want %q", err, tc.wantReady)
			}
			if got := strings.Join(b.events.reasons(), " "); got != tc.wantEvent {
				t.Errorf("warnings %q, want %q", got, tc.wantEvent)
			}
			if got := testutil.ToFloat64(b.metrics.certificateReady); got != tc.wantMetric {
				t.Errorf("metric %v, want %v", got, tc.wantMetric)
			}
			if tc.certificate != nil && tc.certificate.Status.RenewalTime != nil {
				if diff := cmp.Diff(float64(epoch.Add(40*time.Minute).Unix()), testutil.ToFloat64(b.metrics.renewal)); diff != "" {
					t.Errorf("time of renewal (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// A change is seen before the interval is over, and nothing runs on after the end.
func TestProvidedWatches(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	b := newProvided(t, a, clk, func(o *ProvidedOptions) {
		o.Certificates, o.CertificateName = &certificates{api: a}, "webhook"
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Start(ctx); err != nil {
			t.Errorf("Start() = %v", err)
		}
	})
	defer wg.Wait()
	defer cancel()
	eventually(t, "three objects are watched", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.watches) == 3
	})
	a.provide(issued(t, signer(t, epoch), epoch, time.Hour))
	eventually(t, "the certificate is served and trusted", func() bool { return b.Ready(nil) == nil })
}

// TestProvidedTellsNoKey reads Secrets with a marker in place of their content.
func TestProvidedTellsNoKey(t *testing.T) {
	const marker = "bm90LWZvci1sb2dz"
	for _, value := range []string{marker, "-----BEGIN " + marker + "-----\n" + marker + "\n-----END " + marker + "-----\n"} {
		for _, key := range []string{certificateKey, privateKeyKey} {
			data := issued(t, signer(t, epoch), epoch, time.Hour)
			data[key] = []byte(value)
			if _, err := parsePair(data); err == nil || strings.Contains(err.Error(), marker) {
				t.Errorf("%s: error = %v, want one without the content", key, err)
			}
		}
	}
}
