package certs

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// overlap is how long earlier authorities stay in the bundle after another has
// come into the Secret: by then every replica serves a certificate of the new one.
const overlap = time.Hour

// announce makes every hook trust the authorities of the Secret. Those that a hook
// trusted before stay for the overlap, so that replicas, which change to the new
// certificate one after another, are trusted all the while.
func (p *Provided) announce(ctx context.Context, c *admissionregistrationv1.MutatingWebhookConfiguration) error {
	now := p.o.Clock.Now()
	wanted := string(encodeCertificates(p.next.authorities...))
	if p.announced != wanted {
		p.announced, p.announcedSince = wanted, now
	}
	over := now.Sub(p.announcedSince) >= overlap
	bundles := map[int][]byte{}
	for i := range c.Webhooks {
		present := decodeCertificates(c.Webhooks[i].ClientConfig.CABundle)
		missing := slices.ContainsFunc(p.next.authorities, func(a *x509.Certificate) bool { return !slices.ContainsFunc(present, a.Equal) })
		earlier := slices.DeleteFunc(slices.Clone(present), func(e *x509.Certificate) bool {
			return !now.Before(e.NotAfter) || slices.ContainsFunc(p.next.authorities, e.Equal)
		})
		if over {
			earlier = nil
		}
		earlier = earlier[:min(len(earlier), maxEarlier)]
		if missing || len(earlier)+len(p.next.authorities) < len(present) {
			bundles[i] = encodeCertificates(slices.Concat(p.next.authorities, earlier)...)
		}
	}
	return writeBundles(ctx, p.o.Configurations, p.o.Logger, c, bundles)
}
