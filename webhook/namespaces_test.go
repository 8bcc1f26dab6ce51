package webhook

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNamespaces(t *testing.T) {
	served := map[string]string{"autoburst.io/served": "true"}
	for name, tc := range map[string]struct {
		object       string
		changes      []func(map[string]any)
		wantLabels   map[string]string
		wantWarnings []string
	}{
		"annotated at creation": {
			object: `{"metadata":{"name":"shop","annotations":{"autoburst.io/mode":"Overflow"}}}`, wantLabels: served,
		},
		"annotated later": {
			object:     `{"metadata":{"name":"shop","labels":{"a/b":"c"},"annotations":{"autoburst.io/mode":"Always","x":"y"},"novel":1},"spec":{"finalizers":["kubernetes"],"novel":{}}}`,
			changes:    []func(map[string]any){set("operation", "UPDATE")},
			wantLabels: map[string]string{"a/b": "c", "autoburst.io/served": "true"},
		},
		"null labels": {
			object: `{"metadata":{"name":"shop","labels":null,"annotations":{"autoburst.io/mode":"Auto"}}}`, wantLabels: served,
		},
		"dry run": {
			object:  `{"metadata":{"name":"shop","annotations":{"autoburst.io/mode":"Auto"}}}`,
			changes: []func(map[string]any){set("dryRun", true)}, wantLabels: served,
		},
		"generateName": {
			object:  `{"metadata":{"generateName":"shop-","annotations":{"autoburst.io/mode":"Auto"}}}`,
			changes: []func(map[string]any){set("name", "")}, wantLabels: served,
		},
		"labelled":           {object: `{"metadata":{"name":"shop","labels":{"autoburst.io/served":"true"},"annotations":{"autoburst.io/mode":"Auto"}}}`, wantLabels: served},
		"labelled otherwise": {object: `{"metadata":{"name":"shop","labels":{"autoburst.io/served":"no"},"annotations":{"autoburst.io/mode":"Auto"}}}`, wantLabels: map[string]string{"autoburst.io/served": "no"}},
		"never":              {object: `{"metadata":{"name":"shop","annotations":{"autoburst.io/mode":"Never"}}}`},
		"never, labelled":    {object: `{"metadata":{"name":"shop","labels":{"autoburst.io/served":"true"},"annotations":{"autoburst.io/mode":"Never"}}}`, wantLabels: served},
		"no annotation":      {object: `{"metadata":{"name":"shop"}}`},
		"misspelt": {
			object:       `{"metadata":{"name":"shop","annotations":{"autoburst.io/mode":"always-and-for-ever-and-ever"}}}`,
			wantWarnings: []string{`autoburst: "always-and-for-ev…" is no mode, so pods of the namespace stay local; use Overflow, Always, Auto or Never`},
		},
		"kube-system":     {object: `{"metadata":{"name":"kube-system","annotations":{"autoburst.io/mode":"Auto"}}}`},
		"kube-node-lease": {object: `{"metadata":{"name":"kube-node-lease","annotations":{"autoburst.io/mode":"Auto"}}}`},
		"release":         {object: `{"metadata":{"name":"autoburst","annotations":{"autoburst.io/mode":"Auto"}}}`},
		"name in the request": {
			object: `{"metadata":{"annotations":{"autoburst.io/mode":"Auto"}}}`, changes: []func(map[string]any){set("name", "kube-system")},
		},
		"terminating": {object: `{"metadata":{"name":"shop","deletionTimestamp":"` + time.Unix(0, 0).UTC().Format(time.RFC3339) + `","annotations":{"autoburst.io/mode":"Auto"}}}`},
		"wrong kind":  {object: plainPod, changes: []func(map[string]any){set("kind", map[string]any{"version": "v1", "kind": "Pod"})}, wantWarnings: []string{failedOpenWarning(hookNamespaces, causeUnexpected)}},
		"deletion":    {object: `{"metadata":{"name":"shop"}}`, changes: []func(map[string]any){set("operation", "DELETE")}, wantWarnings: []string{failedOpenWarning(hookNamespaces, causeUnexpected)}},
		"garbage":     {object: `{"metadata":{"labels":[]}}`, wantWarnings: []string{failedOpenWarning(hookNamespaces, causeUndecodable)}},
	} {
		t.Run(name, func(t *testing.T) {
			// A cold cache does not matter: no policy is asked.
			h, registry := register(t, Options{Snapshots: &facts{unsynced: true}})
			r := post(t, h[NamespacesPath], namespaceReview(tc.object, tc.changes...))
			if diff := cmp.Diff(tc.wantWarnings, r.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			after := patched(t, []byte(tc.object), r)
			if name != "garbage" {
				var ns metav1.PartialObjectMetadata
				if err := json.Unmarshal(after, &ns); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tc.wantLabels, ns.Labels, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("labels (-want +got):\n%s", diff)
				}
			}
			if again := post(t, h[NamespacesPath], namespaceReview(string(after), tc.changes...)); len(again.Patch) > 0 {
				t.Errorf("the second call patches too: %s", again.Patch)
			}
			if n, err := testutil.GatherAndCount(registry, "autoburst_webhook_admissions_total"); err != nil || n != 0 {
				t.Errorf("%d decisions about pods counted, %v", n, err)
			}
		})
	}
}
