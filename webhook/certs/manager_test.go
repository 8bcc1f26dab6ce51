package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math"
	mathrand "math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	testclock "k8s.io/utils/clock/testing"
)

const dnsName = "autoburst.autoburst.svc"

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newManager(t *testing.T, a *api, clk *testclock.FakeClock) *Manager {
	t.Helper()
	m, err := New(Options{
		Secrets: secrets{a}, SecretName: secretName,
		Configurations: configurations{a}, ConfigurationName: configurationName,
		DNSNames: []string{dnsName}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)},
		Clock: clk, Registerer: prometheus.NewRegistry(), Logger: testr.New(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// trustedBy checks the leaf of a manager as an API server does.
func trustedBy(m *Manager, bundle []byte, now time.Time, names ...string) error {
	leaf := m.leaf.Load()
	if leaf == nil {
		return errors.New("no leaf")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return errors.New("no certificate in the bundle")
	}
	for _, name := range append(names, dnsName) {
		if _, err := leaf.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			return err
		}
	}
	return nil
}

func mustPass(t *testing.T, managers ...*Manager) {
	t.Helper()
	for _, m := range managers {
		if err := m.pass(t.Context()); err != nil {
			t.Fatalf("pass: %v", err)
		}
	}
}

func mustBeTrusted(t *testing.T, a *api, now time.Time, managers ...*Manager) {
	t.Helper()
	for i, m := range managers {
		for _, bundle := range a.bundles(t) {
			if err := trustedBy(m, bundle, now, "127.0.0.1"); err != nil {
				t.Errorf("replica %d is not trusted: %v", i, err)
			}
		}
	}
}

func TestNewRefuses(t *testing.T) {
	valid := Options{
		Secrets: secrets{newAPI()}, SecretName: "s", Configurations: configurations{newAPI()}, ConfigurationName: "c",
		DNSNames: []string{dnsName}, Registerer: prometheus.NewRegistry(),
	}
	taken := prometheus.NewRegistry()
	if err := newMetrics(nil).set.Register(taken); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"no secrets":        {func(o *Options) { o.Secrets = nil }, "required"},
		"no configurations": {func(o *Options) { o.Configurations = nil }, "required"},
		"no registerer":     {func(o *Options) { o.Registerer = nil }, "required"},
		"no secret name":    {func(o *Options) { o.SecretName = "" }, "names"},
		"no names":          {func(o *Options) { o.DNSNames = nil }, "DNS name"},
		"long leaf":         {func(o *Options) { o.AuthorityLife, o.LeafLife = 5*time.Hour, time.Hour }, "a sixth"},
		"metrics twice":     {func(o *Options) { o.Registerer = taken }, "duplicate"},
	} {
		t.Run(name, func(t *testing.T) {
			o := valid
			tc.change(&o)
			if _, err := New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("New() error = %v, want one with %q", err, tc.want)
			}
		})
	}
	if m, err := New(valid); err != nil || m.NeedLeaderElection() {
		t.Errorf("New() = %v, %v, want a manager that needs no leader", m, err)
	}
}

// content is what a usable Secret holds.
func content(t *testing.T, life time.Duration) map[string][]byte {
	t.Helper()
	a, err := newAuthority(epoch, life, nil)
	if err != nil {
		t.Fatal(err)
	}
	data, err := a.data()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pemKey(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateKeyBlock, Bytes: der})
}

func TestFirstPass(t *testing.T) {
	good, other := content(t, DefaultAuthorityLife), content(t, DefaultAuthorityLife)
	otherKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := parseAuthority(good)
	if err != nil {
		t.Fatal(err)
	}
	noCA, err := issuer.leaf(epoch, DefaultLeafLife, []string{dnsName}, nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(key string, value []byte) map[string][]byte {
		data := maps.Clone(good)
		data[key] = value
		return data
	}
	for name, tc := range map[string]struct {
		data map[string][]byte
		// wantKept is true where the authority of the Secret is to be used.
		wantKept bool
		// wantBundle is how many authorities are to be trusted.
		wantBundle int
	}{
		"no secret":               {nil, false, 1},
		"usable":                  {good, true, 1},
		"empty":                   {map[string][]byte{}, false, 1},
		"certificate missing":     {with(certificateKey, nil), false, 2},
		"certificate garbage":     {with(certificateKey, []byte("garbage")), false, 2},
		"certificate cut":         {with(certificateKey, good[certificateKey][:200]), false, 2},
		"certificate not of a CA": {with(certificateKey, encodeCertificates(noCA.Leaf)), false, 2},
		"two certificates":        {with(certificateKey, append(append([]byte{}, good[certificateKey]...), other[certificateKey]...)), false, 3},
		"key missing":             {with(privateKeyKey, nil), false, 2},
		"key garbage":             {with(privateKeyKey, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")), false, 2},
		"key of another":          {with(privateKeyKey, pemKey(t, otherKey)), false, 2},
		"key of another kind":     {with(privateKeyKey, pemKey(t, rsaKey)), false, 2},
		"bundle missing":          {with(bundleKey, nil), false, 2},
		"bundle of another":       {with(bundleKey, other[bundleKey]), false, 3},
		"bundle with a tail":      {with(bundleKey, append(append([]byte{}, good[bundleKey]...), "garbage"...)), true, 1},
		"last third":              {content(t, time.Nanosecond), false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI()
			if tc.data != nil {
				a.secret = &corev1.Secret{Type: corev1.SecretTypeTLS, Data: maps.Clone(tc.data)}
				a.secret.Name, a.secret.ResourceVersion = secretName, "1"
				a.secret.Data["note"] = []byte("of the administrator")
			}
			before := a.configuration.DeepCopy()
			m := newManager(t, a, testclock.NewFakeClock(epoch))
			mustPass(t, m)

			mustBeTrusted(t, a, epoch, m)
			if got := len(decodeCertificates(a.bundles(t)[0])); got != tc.wantBundle {
				t.Errorf("the bundle holds %d authorities, want %d", got, tc.wantBundle)
			}
			if kept := string(a.secret.Data[certificateKey]) == string(tc.data[certificateKey]); kept != tc.wantKept {
				t.Errorf("the authority was kept: %t, want %t", kept, tc.wantKept)
			}
			if tc.data != nil && string(a.secret.Data["note"]) != "of the administrator" {
				t.Error("a foreign key of the Secret is lost")
			}
			if _, err := parseAuthority(a.secret.Data); err != nil {
				t.Errorf("the Secret is not usable: %v", err)
			}
			ignored := cmp.Options{
				cmpopts.IgnoreFields(admissionregistrationv1.WebhookClientConfig{}, "CABundle"),
				cmpopts.IgnoreFields(admissionregistrationv1.MutatingWebhookConfiguration{}, "ObjectMeta.ResourceVersion"),
			}
			if diff := cmp.Diff(before, a.configuration, ignored); diff != "" {
				t.Errorf("more than the bundle was changed (-before +after):\n%s", diff)
			}
			if err := m.Ready(nil); err != nil {
				t.Errorf("Ready() = %v", err)
			}
			written := a.written()
			mustPass(t, m, m)
			if a.written() != written {
				t.Errorf("%d writes with nothing to do", a.written()-written)
			}
		})
	}
}

func TestOthersWriteToTheConfiguration(t *testing.T) {
	for name, edit := range map[string]func(*api){
		"bundle overwritten": func(a *api) { a.configuration.Webhooks[0].ClientConfig.CABundle = []byte("Cg==") },
		"bundle emptied":     func(a *api) { a.configuration.Webhooks[1].ClientConfig.CABundle = nil },
		"hook added": func(a *api) {
			a.configuration.Webhooks = append(a.configuration.Webhooks, hook("x.autoburst.io", "/x"))
		},
		"hooks swapped": func(a *api) {
			w := a.configuration.Webhooks
			w[0], w[1] = w[1], w[0]
			w[0].ClientConfig.CABundle = nil
		},
		"made anew": func(a *api) { a.configuration = newAPI().configuration },
	} {
		t.Run(name, func(t *testing.T) {
			a, clk := newAPI(), testclock.NewFakeClock(epoch)
			m, n := newManager(t, a, clk), newManager(t, a, clk)
			mustPass(t, m, n)
			leaf := m.leaf.Load()
			a.change(func() { edit(a) })
			written := a.written()
			mustPass(t, m, n)
			mustBeTrusted(t, a, epoch, m, n)
			if got := a.written() - written; got != 1 {
				t.Errorf("%d writes to mend the bundle, want 1", got)
			}
			if m.leaf.Load() != leaf {
				t.Error("a new leaf was made for nothing")
			}
		})
	}
}

func TestSecretDeletedOrCorrupted(t *testing.T) {
	for name, edit := range map[string]func(*api){
		"deleted":   func(a *api) { a.secret = nil },
		"corrupted": func(a *api) { a.secret.Data[privateKeyKey] = []byte("garbage") },
	} {
		t.Run(name, func(t *testing.T) {
			a, clk := newAPI(), testclock.NewFakeClock(epoch)
			m, n := newManager(t, a, clk), newManager(t, a, clk)
			mustPass(t, m, n)
			a.change(func() { edit(a) })
			mustPass(t, m, n)
			mustBeTrusted(t, a, epoch, m, n)
			// With one pass more each, both have left the old authority.
			mustPass(t, m, n)
			current, err := parseAuthority(a.secret.Data)
			if err != nil {
				t.Fatal(err)
			}
			for i, r := range []*Manager{m, n} {
				if !current.signed(r.leaf.Load().Leaf) {
					t.Errorf("replica %d has a leaf of the old authority", i)
				}
			}
		})
	}
}

// TestRotation runs three replicas through four authorities. After every pass of
// any replica the leaf of each is trusted by the configuration as it is, and as it
// was before that pass, for an API server may see a change a moment later.
func TestRotation(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	const life = 90 * 24 * time.Hour
	managers := []*Manager{newManager(t, a, clk), newManager(t, a, clk), newManager(t, a, clk)}
	for _, m := range managers {
		m.o.AuthorityLife = life
	}
	mustPass(t, managers...)
	mustPass(t, managers...)
	authorities := map[string]bool{}
	most, least := 0, maxEarlier
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for clk.Now().Before(epoch.Add(4 * life * 2 / 3)) {
		clk.Step(24 * time.Hour)
		for range 3 { // three intervals a day
			for _, i := range random.Perm(len(managers)) {
				before := a.bundles(t)[0]
				mustPass(t, managers[i])
				now := a.bundles(t)[0]
				for j, m := range managers {
					for when, bundle := range map[string][]byte{"now": now, "before": before} {
						if err := trustedBy(m, bundle, clk.Now()); err != nil {
							t.Fatalf("%v: after a pass of replica %d, replica %d is not trusted by the bundle of %s: %v", clk.Now(), i, j, when, err)
						}
					}
				}
				bundle := decodeCertificates(now)
				authorities[string(bundle[0].Raw)] = true
				most, least = max(most, len(bundle)), min(least, len(bundle))
			}
			clk.Step(DefaultInterval)
		}
	}
	if len(authorities) < 4 || most != 2 || least != 1 {
		t.Errorf("%d authorities, from %d to %d of them at once; want 4 or more, 1 to 2 at once", len(authorities), least, most)
	}
}

// TestOlderBundleDoesNotWin lets a replica rotate the authority in the moment
// between another one's reading and writing.
func TestOlderBundleDoesNotWin(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	slow, fast := newManager(t, a, clk), newManager(t, a, clk)
	mustPass(t, slow, fast)
	a.change(func() { a.configuration.Webhooks[0].ClientConfig.CABundle = nil })
	a.beforePatch = func() {
		a.change(func() { a.secret.Data[privateKeyKey] = nil })
		mustPass(t, fast, fast)
	}
	mustPass(t, slow)
	current, err := parseAuthority(a.secret.Data)
	if err != nil {
		t.Fatal(err)
	}
	for i, bundle := range a.bundles(t) {
		if string(bundle) != string(current.bundle) {
			t.Errorf("hook %d has the bundle of before the rotation", i)
		}
	}
	if !current.signed(fast.leaf.Load().Leaf) {
		t.Error("the fast replica does not serve a leaf of the new authority")
	}
	mustBeTrusted(t, a, epoch, slow, fast)
}

func TestClockJumps(t *testing.T) {
	const day = 24 * time.Hour
	for name, tc := range map[string]struct {
		jump         time.Duration
		wantNewLeaf  bool
		wantNewAuthy bool
	}{
		"a second":                  {time.Second, false, false},
		"half of the leaf's life":   {DefaultLeafLife / 2, false, false},
		"two thirds":                {DefaultLeafLife*2/3 + time.Minute, true, false},
		"past the leaf's life":      {DefaultLeafLife + time.Hour, true, false},
		"past the authority's life": {DefaultAuthorityLife + day, true, true},
		"a little back":             {-time.Minute, false, false},
		"far back":                  {-2 * day, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			a, clk := newAPI(), testclock.NewFakeClock(epoch)
			m, n := newManager(t, a, clk), newManager(t, a, clk)
			mustPass(t, m, n)
			leaf, authority := m.leaf.Load(), m.authority.certificate
			clk.SetTime(epoch.Add(tc.jump))
			mustPass(t, m, n, m, n)
			if got := m.leaf.Load() != leaf; got != tc.wantNewLeaf {
				t.Errorf("new leaf: %t, want %t", got, tc.wantNewLeaf)
			}
			if got := !m.authority.certificate.Equal(authority); got != tc.wantNewAuthy {
				t.Errorf("new authority: %t, want %t", got, tc.wantNewAuthy)
			}
			if tc.jump > -day { // before that, the authority is not valid yet
				mustBeTrusted(t, a, clk.Now(), m, n)
			}
			written := a.written()
			mustPass(t, m, n, m, n)
			if a.written() != written {
				t.Error("the replicas go on writing")
			}
		})
	}
}

// TestClocksApart has two replicas whose clocks are a year and more apart. They
// must come to rest, and whose clock is right must be trusted.
func TestClocksApart(t *testing.T) {
	for _, ahead := range []time.Duration{time.Minute, 2 * time.Hour, DefaultAuthorityLife, 3 * DefaultAuthorityLife} {
		t.Run(ahead.String(), func(t *testing.T) {
			a := newAPI()
			right, wrong := testclock.NewFakeClock(epoch), testclock.NewFakeClock(epoch.Add(ahead))
			m, n := newManager(t, a, right), newManager(t, a, wrong)
			for range 3 {
				mustPass(t, m, n)
			}
			written := a.written()
			mustPass(t, m, n, m, n)
			if a.written() != written {
				t.Error("the replicas fight")
			}
		})
	}
}

func TestAPIServerDown(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	m := newManager(t, a, clk)
	a.down = true
	if err := m.pass(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("pass() = %v, want %v", err, errDown)
	}
	if _, err := m.GetCertificate(nil); err == nil {
		t.Error("a certificate out of nothing")
	}
	if err := m.Ready(nil); err == nil {
		t.Error("ready without a certificate")
	}
	a.down = false
	mustPass(t, m)
	first := m.leaf.Load()

	// The leaf is renewed even though nothing can be read.
	a.down = true
	clk.Step(DefaultLeafLife * 3 / 4)
	if err := m.pass(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("pass() = %v, want %v", err, errDown)
	}
	if m.leaf.Load() == first {
		t.Error("the leaf was not renewed")
	}
	mustBeTrusted(t, a, clk.Now(), m)
	if err := m.Ready(nil); err != nil {
		t.Errorf("Ready() = %v", err)
	}

	// What is in memory may be outdated, so it must not overwrite a bundle.
	a.down, a.denied = false, true
	a.change(func() { a.configuration.Webhooks[0].ClientConfig.CABundle = []byte("of a newer authority") })
	if err := m.pass(t.Context()); !errors.Is(err, errDown) {
		t.Errorf("pass() = %v, want %v", err, errDown)
	}
	if got := string(a.bundles(t)[0]); got != "of a newer authority" {
		t.Errorf("an authority from memory replaced the bundle by %q", got)
	}
	clk.Step(DefaultLeafLife + time.Hour)
	if err := m.Ready(nil); err == nil {
		t.Error("ready with an expired certificate")
	}
}

func TestNoConfiguration(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	configuration := a.configuration
	a.configuration = nil
	m := newManager(t, a, clk)
	mustPass(t, m)
	if err := m.Ready(nil); err != nil {
		t.Errorf("Ready() = %v", err)
	}
	a.change(func() { a.configuration = configuration })
	mustPass(t, m)
	mustBeTrusted(t, a, epoch, m)
}

func TestExpiryMetric(t *testing.T) {
	a, clk := newAPI(), testclock.NewFakeClock(epoch)
	m := newManager(t, a, clk)
	mustPass(t, m)
	for certificate, want := range map[string]time.Time{
		"leaf":      epoch.Add(DefaultLeafLife),
		"authority": epoch.Add(DefaultAuthorityLife),
	} {
		got := testutil.ToFloat64(m.metrics.expiry.WithLabelValues(certificate))
		if math.Abs(got-float64(want.Unix())) > 1 {
			t.Errorf("expiry of the %s is %v, want %v", certificate, got, want.Unix())
		}
	}
}

// TestErrorsTellNoKey reads Secrets with a marker in place of the key.
func TestErrorsTellNoKey(t *testing.T) {
	const marker = "bm90LWZvci1sb2dz"
	for _, value := range []string{marker, "-----BEGIN PRIVATE KEY-----\n" + marker + "\n-----END PRIVATE KEY-----\n"} {
		for _, key := range []string{certificateKey, privateKeyKey, bundleKey} {
			data := content(t, DefaultAuthorityLife)
			data[key] = []byte(value)
			if _, err := parseAuthority(data); err == nil || strings.Contains(fmt.Sprint(err), marker) {
				t.Errorf("%s: error = %v, want one without the content", key, err)
			}
		}
	}
}
