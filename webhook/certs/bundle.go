package certs

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// jsonPatch is one operation of RFC 6902.
type jsonPatch struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// writeBundles gives the hooks of those indices another bundle. The
// resourceVersion in the patch makes it fail with a conflict if anyone wrote in
// between.
func writeBundles(ctx context.Context, to Configurations, log logr.Logger, c *admissionregistrationv1.MutatingWebhookConfiguration, bundles map[int][]byte) error {
	if len(bundles) == 0 {
		return nil
	}
	patch := []jsonPatch{{"add", "/metadata/resourceVersion", c.ResourceVersion}}
	for _, i := range slices.Sorted(maps.Keys(bundles)) {
		patch = append(patch, jsonPatch{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundles[i]})
	}
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding the CA bundle: %w", err)
	}
	if _, err := to.Patch(ctx, c.Name, types.JSONPatchType, data, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("writing the CA bundle to MutatingWebhookConfiguration %s: %w", c.Name, err)
	}
	log.Info("Wrote the CA bundle", "configuration", c.Name, "webhooks", len(bundles))
	return nil
}
