package chart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// manifest are the objects of the release, as Helm has rendered them, each with where
// it is.
func manifest(t *testing.T) map[*unstructured.Unstructured]dynamic.ResourceInterface {
	t.Helper()
	client, err := dynamic.NewForConfig(system.Config())
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(system.Client().Discovery()))
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(helm(t, "get", "manifest", release)), 4096)
	all := map[*unstructured.Unstructured]dynamic.ResourceInterface{}
	for {
		object := &unstructured.Unstructured{}
		if err := decoder.Decode(object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if object.Object == nil {
			continue
		}
		kind := object.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			t.Fatal(err)
		}
		if mapping.Scope.Name() == meta.RESTScopeNameRoot {
			all[object] = client.Resource(mapping.Resource)
		} else {
			all[object] = client.Resource(mapping.Resource).Namespace(object.GetNamespace())
		}
	}
	if len(all) < 10 {
		t.Fatalf("the manifest has %d objects", len(all))
	}
	return all
}

func name(o *unstructured.Unstructured) string {
	return strings.TrimSpace(o.GetKind() + " " + o.GetName() + " " + o.GetNamespace())
}

// versions are the generations of the objects of the release, and the resource
// versions of those that have none: what changes when somebody writes into them.
func versions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for rendered, where := range manifest(t) {
		live, err := where.Get(t.Context(), rendered.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		// A status that changes is no drift.
		all[name(rendered)] = fmt.Sprint(live.GetGeneration())
		if live.GetGeneration() == 0 {
			all[name(rendered)] = live.GetResourceVersion()
		}
	}
	return all
}

func changed(before, after map[string]string) []string {
	var all []string
	for name, version := range after {
		if before[name] != version {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// noDrift applies every object of the release once more, as a tool of GitOps does to
// see what differs, without force: nobody may own a field that the chart renders, and
// nothing may come out differently. What the program adds is only the caBundle, which
// the chart does not render.
func noDrift(t *testing.T) {
	t.Helper()
	for rendered, where := range manifest(t) {
		live, err := where.Get(t.Context(), rendered.GetName(), metav1.GetOptions{})
		if err != nil {
			t.Errorf("%s: %v", name(rendered), err)
			continue
		}
		applied, err := where.Apply(t.Context(), rendered.GetName(), rendered, metav1.ApplyOptions{FieldManager: "gitops", DryRun: []string{metav1.DryRunAll}})
		switch {
		case apierrors.IsConflict(err):
			t.Errorf("%s: somebody else owns what the chart renders: %v", name(rendered), err)
			continue
		case err != nil:
			t.Errorf("%s: %v", name(rendered), err)
			continue
		}
		for _, o := range []*unstructured.Unstructured{live, applied} {
			o.SetManagedFields(nil)
			o.SetResourceVersion("")
			unstructured.RemoveNestedField(o.Object, "status")
		}
		if diff := cmp.Diff(live.Object, applied.Object); diff != "" {
			t.Errorf("%s drifts (-live +rendered):\n%s", name(rendered), diff)
		}
	}
	config, err := system.Client().AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), release, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range config.ManagedFields {
		if m.Manager == "helm" {
			if strings.Contains(string(m.FieldsV1.Raw), "caBundle") {
				t.Error("Helm owns the caBundle")
			}
			continue
		}
		for _, field := range []string{"f:rules", "f:namespaceSelector", "f:failurePolicy", "f:annotations", "f:labels", "f:service"} {
			if strings.Contains(string(m.FieldsV1.Raw), field) {
				t.Errorf("%s owns %s of the webhook configuration", m.Manager, field)
			}
		}
	}
}

// enforceAdmissions plays AKS' admissions enforcer for a while: it adds its own
// conditions to the namespaceSelector of every webhook whose configuration does not
// opt out.
func enforceAdmissions(t *testing.T) {
	t.Helper()
	configurations := system.Client().AdmissionregistrationV1().MutatingWebhookConfigurations()
	ignore, none := admissionregistrationv1.Ignore, admissionregistrationv1.SideEffectClassNone
	url := "https://127.0.0.1:1/"
	foreign := &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "foreign"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "foreign.example.com", FailurePolicy: &ignore, SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url},
		}},
	}
	if _, err := configurations.Create(t.Context(), foreign, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := configurations.Delete(context.WithoutCancel(t.Context()), foreign.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	own := metav1.LabelSelectorRequirement{Key: "kubernetes.azure.com/managedby", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"aks"}}
	has := func(w admissionregistrationv1.MutatingWebhook) bool {
		return w.NamespaceSelector != nil && slices.ContainsFunc(w.NamespaceSelector.MatchExpressions, func(e metav1.LabelSelectorRequirement) bool { return e.Key == own.Key })
	}
	writes := map[string]int{}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		list, err := configurations.List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			c := &list.Items[i]
			if c.Annotations["admissions.enforcer/disabled"] == "true" {
				continue
			}
			write := false
			for j := range c.Webhooks {
				if w := &c.Webhooks[j]; !has(*w) {
					if w.NamespaceSelector == nil {
						w.NamespaceSelector = &metav1.LabelSelector{}
					}
					w.NamespaceSelector.MatchExpressions = append(w.NamespaceSelector.MatchExpressions, own)
					write = true
				}
			}
			if !write {
				continue
			}
			writes[c.Name]++
			if _, err := configurations.Update(t.Context(), c, metav1.UpdateOptions{FieldManager: "admissionsenforcer"}); err != nil && !apierrors.IsConflict(err) {
				t.Fatal(err)
			}
		}
		<-tick.C
	}
	if writes["foreign"] == 0 || writes[release] != 0 {
		t.Errorf("the enforcer wrote %v, want only foreign", writes)
	}
}
