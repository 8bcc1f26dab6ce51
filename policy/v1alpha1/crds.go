package v1alpha1

import "embed"

// CRDs holds the CustomResourceDefinitions of this API, generated from its
// types, in the folder crds.
//
//go:embed crds/*.yaml
var CRDs embed.FS
