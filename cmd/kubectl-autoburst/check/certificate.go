package check

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

const (
	// injectAnnotation is by which cert-manager is asked for a CA bundle,
	// NAMESPACE/CERTIFICATE.
	injectAnnotation = "cert-manager.io/inject-ca-from"
	// soon is how long before its end an authority must have been replaced, whoever
	// does so.
	soon = 7 * 24 * time.Hour
)

// webhookCertificate looks whether the API server trusts what the webhook serves. It
// does not see that itself; admission-answers does.
func webhookCertificate(ctx context.Context, s *session) (finding, error) {
	r, err := s.release.get(ctx)
	if err != nil {
		return finding{}, err
	}
	w, err := s.webhook.get(ctx)
	if apierrors.IsNotFound(err) {
		return finding{}, errDoesNotApply
	}
	if err != nil {
		return finding{}, err
	}
	outcome := Warning
	var problems []string
	say := func(o Outcome, format string, args ...any) {
		outcome = worse(outcome, o)
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	var bundle []byte
	for i := range w.Webhooks {
		h := &w.Webhooks[i]
		switch {
		case len(h.ClientConfig.CABundle) == 0:
			say(Error, "webhook %s of MutatingWebhookConfiguration %s has no caBundle yet, so that the API server does not trust the webhook", h.Name, w.Name)
		case bundle == nil:
			bundle = h.ClientConfig.CABundle
		case !bytes.Equal(bundle, h.ClientConfig.CABundle):
			say(Error, "the webhooks of MutatingWebhookConfiguration %s have different caBundles", w.Name)
		}
	}
	trusted := certificates(bundle)
	now := s.Now()
	last := lastEnd(trusted)
	switch {
	case bundle == nil:
	case len(trusted) == 0:
		say(Error, "the caBundle of MutatingWebhookConfiguration %s has no certificate", w.Name)
	case !now.Before(last):
		say(Error, "the caBundle of MutatingWebhookConfiguration %s has expired on %s", w.Name, date(last))
	case last.Sub(now) < soon:
		say(Warning, "the caBundle of MutatingWebhookConfiguration %s expires on %s, and should have been renewed", w.Name, date(last))
	}
	source, err := s.source(ctx, r, w.Annotations[injectAnnotation])
	if err != nil {
		return finding{}, err
	}
	problems = append(problems, source.problems...)
	if len(source.problems) > 0 {
		outcome = worse(outcome, source.outcome)
	}
	if len(source.chain) > 0 && len(trusted) > 0 {
		switch c := source.chain[0]; {
		case !now.Before(c.NotAfter):
			say(Error, "the certificate in %s has expired on %s", source.secret, date(c.NotAfter))
		case !vouches(trusted, source.chain, now):
			say(Error, "the caBundle of MutatingWebhookConfiguration %s does not vouch for the certificate in %s", w.Name, source.secret)
		}
	}
	well := ok("the webhook's certificate is kept by %s; the caBundle is valid until %s", source.keeper, date(last))
	if source.unread != "" {
		well = ok("the webhook's certificate is kept by %s; the caBundle is valid until %s, and whether it vouches for the certificate is not checked: %s", source.keeper, date(last), source.unread)
	}
	return of(outcome, problems, "things are wrong with the webhook's certificate", well), nil
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// source is where the webhook's certificate comes from.
type source struct {
	keeper, secret string
	// chain is the certificate, and those that lead to its authority.
	chain    []*x509.Certificate
	outcome  Outcome
	problems []string
	// unread says why the Secret was not read.
	unread string
}

// source tells the three ways apart by their objects.
func (s *session) source(ctx context.Context, r *installation.Release, inject string) (source, error) {
	out := source{keeper: "Autoburst itself", outcome: Error}
	name := r.CASecretName
	if given := r.Argument("tls-secret-name"); given != "" {
		out.keeper, name = "whoever keeps Secret "+r.Namespace+"/"+given, given
	}
	if inject != "" {
		out.keeper = "cert-manager (Certificate " + inject + ")"
		c, err := s.certificate(ctx, inject)
		switch {
		case apierrors.IsNotFound(err):
			out.problems = append(out.problems, fmt.Sprintf("Certificate %s, from which cert-manager is to take the caBundle, is missing", inject))
			return out, nil
		case apierrors.IsForbidden(err):
			out.unread = fmt.Sprintf("you may not read Certificate %s", inject)
			return out, nil
		case err != nil:
			return out, fmt.Errorf("reading Certificate %s: %w", inject, err)
		}
		for _, condition := range c.Status.Conditions {
			if condition.Type == "Ready" && condition.Status != metav1.ConditionTrue {
				out.problems = append(out.problems, fmt.Sprintf("Certificate %s is not ready: %s: %s", inject, condition.Reason, condition.Message))
			}
		}
		name = c.Spec.SecretName
	}
	out.secret = "Secret " + r.Namespace + "/" + name
	secret, err := s.Kube.CoreV1().Secrets(r.Namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		out.unread = "you may not read " + out.secret
		return out, nil
	case apierrors.IsNotFound(err):
		out.problems = append(out.problems, out.secret+" with the webhook's certificate is missing")
		return out, nil
	case err != nil:
		return out, fmt.Errorf("reading %s: %w", out.secret, err)
	}
	if out.chain = certificates(secret.Data[corev1.TLSCertKey]); len(out.chain) == 0 {
		out.problems = append(out.problems, out.secret+" has no certificate under "+corev1.TLSCertKey)
	}
	return out, nil
}

// certificate is what is read of a Certificate of cert-manager.
type certificate struct {
	Spec struct {
		SecretName string `json:"secretName"`
	} `json:"spec"`
	Status struct {
		Conditions []metav1.Condition `json:"conditions"`
	} `json:"status"`
}

func (s *session) certificate(ctx context.Context, of string) (*certificate, error) {
	namespace, name, _ := strings.Cut(of, "/")
	b, err := s.Kube.Discovery().RESTClient().Get().
		AbsPath("/apis/cert-manager.io/v1/namespaces/"+namespace+"/certificates/"+name).
		SetHeader("Accept", "application/json").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	c := &certificate{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	return c, nil
}

// certificates are those of a PEM document.
func certificates(document []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		block, document = pem.Decode(document)
		if block == nil {
			return out
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, c)
		}
	}
}

func lastEnd(list []*x509.Certificate) time.Time {
	var last time.Time
	for _, c := range list {
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	return last
}

// vouches tells whether the first of a chain is trusted.
func vouches(trusted, chain []*x509.Certificate, now time.Time) bool {
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range trusted {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}
