package certs

import (
	"context"
	"fmt"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// readCertificate returns what cert-manager says is wrong with the Certificate,
// nil if nothing is or there is none.
func (p *Provided) readCertificate(ctx context.Context) error {
	if p.o.Certificates == nil {
		return nil
	}
	c, err := p.o.Certificates.Get(ctx, p.o.CertificateName, metav1.GetOptions{})
	if err != nil {
		p.metrics.certificateReady.Set(0)
		return fmt.Errorf("reading Certificate %s: %w", p.o.CertificateName, err)
	}
	if t := c.Status.RenewalTime; t != nil {
		p.metrics.renewal.Set(float64(t.Unix()))
	}
	ready := ready(c)
	if ready == nil || ready.Status != cmmeta.ConditionTrue {
		p.metrics.certificateReady.Set(0)
		reason, message := "Pending", "cert-manager has not said anything yet; is it running?"
		if ready != nil {
			reason, message = ready.Reason, ready.Message
		}
		return fmt.Errorf("Certificate %s is not ready: %s: %s (kubectl -n %s describe certificate %s)",
			p.o.CertificateName, reason, message, p.o.Namespace, p.o.CertificateName)
	}
	p.metrics.certificateReady.Set(1)
	return nil
}

func ready(c *certmanagerv1.Certificate) *certmanagerv1.CertificateCondition {
	for i := range c.Status.Conditions {
		if c.Status.Conditions[i].Type == certmanagerv1.CertificateConditionReady {
			return &c.Status.Conditions[i]
		}
	}
	return nil
}

func (p *Provided) certificate() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: certmanagerv1.SchemeGroupVersion.String(), Kind: certmanagerv1.CertificateKind,
		Namespace: p.o.Namespace, Name: p.o.CertificateName,
	}
}
