package check

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

// server answers paths with objects, and others as if there were nothing. It is for
// what no real system can be brought to here; all else is checked on one (test/cli).
func server(t *testing.T, objects map[string]any) *installation.Clients {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		o, ok := objects[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			o = metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: r.URL.Path + " not found"}
		}
		_ = json.NewEncoder(w).Encode(o) // a failed write fails the check
	}))
	t.Cleanup(s.Close)
	c, err := installation.Connect(&rest.Config{Host: s.URL}, "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// release is the list of Deployments of an installation.
func release(args ...string) appsv1.DeploymentList {
	list := appsv1.DeploymentList{TypeMeta: metav1.TypeMeta{Kind: "DeploymentList", APIVersion: "apps/v1"}}
	list.Items = []appsv1.Deployment{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "autoburst-system", Name: "autoburst-controller", Labels: map[string]string{
			"app.kubernetes.io/component": "controller", "app.kubernetes.io/instance": "autoburst",
		}},
		Spec: appsv1.DeploymentSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "autoburst:0.1.0", Args: args}}}}},
	}}
	return list
}

const deploymentsPath = "/apis/apps/v1/deployments"

func TestKubernetesVersion(t *testing.T) {
	tests := map[string]struct {
		version string
		args    []string
		outcome Outcome
		want    string
	}{
		"old":               {"v1.29.14", nil, Error, "Kubernetes is v1.29.14; Autoburst needs 1.30 or later"},
		"old enough":        {"v1.30.0", nil, OK, "Kubernetes is v1.30.0"},
		"of a vendor":       {"v1.32.1-aliyun.1", nil, OK, "Kubernetes is v1.32.1-aliyun.1"},
		"newer":             {"v2.0.0", nil, OK, "Kubernetes is v2.0.0"},
		"no version":        {"head", nil, Warning, `calls its version "head"`},
		"old for its way":   {"v1.35.2", []string{"--admission=mutating-admission-policy"}, Error, "admission by MutatingAdmissionPolicy needs 1.36 or later"},
		"new enough for it": {"v1.36.0", []string{"--admission=mutating-admission-policy"}, OK, "Kubernetes is v1.36.0"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newSession(Options{Clients: server(t, map[string]any{"/version": map[string]string{"gitVersion": test.version}, deploymentsPath: release(test.args...)})})
			f, err := kubernetesVersion(t.Context(), s)
			if err != nil || f.outcome != test.outcome || !strings.Contains(f.message, test.want) {
				t.Errorf("it is %+v, %v; want %s with %q", f, err, test.outcome, test.want)
			}
		})
	}
}

// pair is a certificate, and what it is signed with.
type pair struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func (p pair) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw})
}

// newPair makes a certificate that ends in that time, signed by a parent or by itself.
func newPair(t *testing.T, name string, life time.Duration, parent *pair) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(life),
	}
	signer := &pair{template, key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.certificate, key.Public(), signer.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return pair{certificate, key}
}

// TestWebhookCertificate: the three ways of keeping it, and what may be wrong with each.
func TestWebhookCertificate(t *testing.T) {
	const year = 365 * 24 * time.Hour
	root := newPair(t, "root", year, nil)
	between := newPair(t, "between", year, &root)
	leaf := newPair(t, "leaf", year, &between)
	lapsed := newPair(t, "lapsed", -time.Hour, &root)
	ending, other := newPair(t, "ending", 24*time.Hour, nil), newPair(t, "other", year, nil)
	chain := func(pairs ...pair) []byte {
		var b bytes.Buffer
		for _, p := range pairs {
			b.Write(p.pem())
		}
		return b.Bytes()
	}
	certificate := func(status string) any {
		return map[string]any{
			"spec":   map[string]any{"secretName": "served"},
			"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": status, "reason": "DoesNotExist", "message": "Issuing certificate as Secret does not exist"}}},
		}
	}
	tests := map[string]struct {
		args    []string
		inject  string
		bundles [][]byte
		secret  map[string][]byte // by name
		more    any               // the Certificate
		outcome Outcome
		want    []string
	}{
		"by Autoburst itself":      {nil, "", [][]byte{chain(root), chain(root)}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, OK, []string{"is kept by Autoburst itself; the caBundle is valid until"}},
		"while it is replaced":     {nil, "", [][]byte{chain(other, root)}, map[string][]byte{"autoburst-webhook-ca": chain(other)}, nil, OK, nil},
		"with a chain":             {[]string{"--tls-secret-name=served"}, "", [][]byte{chain(root)}, map[string][]byte{"served": chain(leaf, between)}, nil, OK, []string{"by whoever keeps Secret autoburst-system/served"}},
		"with a broken chain":      {[]string{"--tls-secret-name=served"}, "", [][]byte{chain(root)}, map[string][]byte{"served": chain(leaf)}, nil, Error, []string{"does not vouch for the certificate in Secret autoburst-system/served"}},
		"an expired one":           {[]string{"--tls-secret-name=served"}, "", [][]byte{chain(root)}, map[string][]byte{"served": chain(lapsed)}, nil, Error, []string{"the certificate in Secret autoburst-system/served has expired on"}},
		"an empty Secret":          {[]string{"--tls-secret-name=served"}, "", [][]byte{chain(root)}, map[string][]byte{"served": nil}, nil, Error, []string{"has no certificate under tls.crt"}},
		"by cert-manager":          {[]string{"--tls-secret-name=served"}, "autoburst-system/webhook", [][]byte{chain(root)}, map[string][]byte{"served": chain(leaf, between)}, certificate("True"), OK, []string{"by cert-manager (Certificate autoburst-system/webhook)"}},
		"one that is not ready":    {[]string{"--tls-secret-name=served"}, "autoburst-system/webhook", [][]byte{nil}, nil, certificate("False"), Error, []string{"has no caBundle yet", "Certificate autoburst-system/webhook is not ready: DoesNotExist", "Secret autoburst-system/served with the webhook's certificate is missing"}},
		"one that is not there":    {[]string{"--tls-secret-name=served"}, "autoburst-system/webhook", [][]byte{chain(root)}, nil, nil, Error, []string{"Certificate autoburst-system/webhook, from which cert-manager is to take the caBundle, is missing"}},
		"hooks that differ":        {nil, "", [][]byte{chain(root), chain(root, other)}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, Error, []string{"have different caBundles"}},
		"one hook without":         {nil, "", [][]byte{chain(root), nil}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, Error, []string{"webhook hook-1 of MutatingWebhookConfiguration autoburst has no caBundle yet"}},
		"a bundle of nothing":      {nil, "", [][]byte{[]byte("none")}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, Error, []string{"has no certificate"}},
		"a bundle that is ending":  {nil, "", [][]byte{chain(ending)}, map[string][]byte{"autoburst-webhook-ca": chain(ending)}, nil, Warning, []string{"expires on", "should have been renewed"}},
		"a bundle that has ended":  {nil, "", [][]byte{chain(lapsed)}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, Error, []string{"the caBundle of MutatingWebhookConfiguration autoburst has expired on"}},
		"a bundle of someone else": {nil, "", [][]byte{chain(other)}, map[string][]byte{"autoburst-webhook-ca": chain(root)}, nil, Error, []string{"does not vouch for the certificate in Secret autoburst-system/autoburst-webhook-ca"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := admissionregistrationv1.MutatingWebhookConfiguration{
				TypeMeta:   metav1.TypeMeta{Kind: "MutatingWebhookConfiguration", APIVersion: "admissionregistration.k8s.io/v1"},
				ObjectMeta: metav1.ObjectMeta{Name: "autoburst", Annotations: map[string]string{}},
			}
			if test.inject != "" {
				w.Annotations[injectAnnotation] = test.inject
			}
			for i, b := range test.bundles {
				w.Webhooks = append(w.Webhooks, admissionregistrationv1.MutatingWebhook{Name: fmt.Sprintf("hook-%d", i), ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: b}})
			}
			objects := map[string]any{
				deploymentsPath: release(test.args...),
				"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/autoburst": w,
			}
			for name, pem := range test.secret {
				objects["/api/v1/namespaces/autoburst-system/secrets/"+name] = corev1.Secret{
					TypeMeta: metav1.TypeMeta{Kind: "Secret", APIVersion: "v1"}, Data: map[string][]byte{corev1.TLSCertKey: pem, corev1.TLSPrivateKeyKey: []byte("confidential")},
				}
			}
			if test.more != nil {
				objects["/apis/cert-manager.io/v1/namespaces/autoburst-system/certificates/webhook"] = test.more
			}
			f, err := webhookCertificate(t.Context(), newSession(Options{Clients: server(t, objects)}))
			if err != nil || f.outcome != test.outcome {
				t.Fatalf("it is %+v, %v; want %s", f, err, test.outcome)
			}
			said := strings.Join(append([]string{f.message}, f.details...), "\n")
			for _, want := range test.want {
				if !strings.Contains(said, want) {
					t.Errorf("it says %q, want %q", said, want)
				}
			}
			if strings.Contains(said, "confidential") {
				t.Errorf("it tells a key: %s", said)
			}
		})
	}
}

// TestPrint: short leaves out what is well, and the last line counts.
func TestPrint(t *testing.T) {
	r := Report{Result: Error, Categories: []Category{
		{Name: "all-well", Results: []Result{{ID: "a", Outcome: OK, Message: "it is well"}}},
		{Name: "broken", Results: []Result{
			{ID: "b", Outcome: OK, Message: "this too"},
			{ID: "c", Outcome: Warning, Message: "it should be otherwise", Hint: docs + "c"},
			{ID: "d", Outcome: Error, Message: "2 things are wrong", Details: []string{"one", "another"}, Hint: docs + "d"},
		}},
	}}
	const broken = "‼ it should be otherwise\n    see " + docs + "c\n× 2 things are wrong\n    one\n    another\n    see " + docs + "d\n\n1 of 4 checks failed, 1 with warnings\n"
	for format, want := range map[string]string{
		"":      "all-well\n--------\n√ it is well\n\nbroken\n------\n√ this too\n" + broken,
		"short": "broken\n------\n" + broken,
	} {
		var b strings.Builder
		if err := Print(&b, format, r); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("-o %q is\n%s\nwant\n%s", format, b.String(), want)
		}
	}
	var b strings.Builder
	if err := Print(&b, "short", Report{Result: OK, Categories: r.Categories[:1]}); err != nil || b.String() != "all 1 checks are well\n" {
		t.Errorf("all is well: %q, %v", b.String(), err)
	}
	if failed := r.Failed(); len(failed) != 1 || failed[0].ID != "d" {
		t.Errorf("failed have %+v", failed)
	}
}

// TestWait looks again until nothing fails, the time is up or it is told to end.
func TestWait(t *testing.T) {
	o := Options{Clients: server(t, map[string]any{"/version": map[string]string{"gitVersion": "v1.36.3"}})}
	fails := func(failed []Result) {
		if !slices.ContainsFunc(failed, func(r Result) bool { return r.ID == "crds-installed" }) {
			t.Errorf("failed have %+v", failed)
		}
	}
	if r, err := Wait(t.Context(), o, 0, time.Hour, fails); err != nil || r.Result != Error {
		t.Errorf("without time it is %s, %v", r.Result, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	looks := 0
	r, err := Wait(ctx, o, time.Hour, time.Millisecond, func(failed []Result) {
		fails(failed)
		if looks++; looks == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || r.Result != Error || looks != 2 {
		t.Errorf("after %d looks it is %s, %v", looks, r.Result, err)
	}
}
