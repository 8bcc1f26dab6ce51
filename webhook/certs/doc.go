// Package certs keeps the serving certificate of the webhook: no volume, no
// restart, no certificate that is rendered by a chart and expires a year later.
//
// A Manager needs nobody's help. Provided serves what somebody else, such as
// cert-manager, keeps in a Secret; it watches the Secret and the configuration, and
// looks at both as the API server does.
//
// In a Manager an authority (CA key pair) lives in one Secret that any replica makes when it
// is missing or unusable, and replaces in the last third of its life. Each
// replica signs a leaf of its own in memory, and writes the authority's
// certificates into clientConfig.caBundle of the hooks of one
// MutatingWebhookConfiguration. It changes nothing else of that object.
//
// Replicas do not elect anyone and do not fight. Every write is guarded by the
// resourceVersion that was read, and the configuration is read before the Secret,
// so that a bundle is never replaced by an older one. What is written follows
// from the Secret alone.
//
// In both ways a new authority is trusted before it is used: a replica changes to a
// leaf of the new authority only after it has seen the new bundle in the
// configuration, and the old authority stays in the bundle for as long as a leaf of
// it can be in use, if the bundle is this package's to write.
//
// Deleting a Manager's Secret is the way to distrust the old authority at once; admission
// fails open for the moment until the replicas have a new one.
package certs
