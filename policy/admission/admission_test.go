package admission

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// setting is the document of kind Setting in a golden case of package policy.
type setting struct {
	Without, Excluded, UnderPressure []string
	Namespace                        string
	Stopped, Late, AdmissionByPolicy bool
	PendingSeconds, Copies           int
}

// world is a golden case of package policy.
type world struct {
	setting
	snapshot *policy.Snapshot
	pod      *corev1.Pod
}

func readWorld(t testing.TB, file string) world {
	t.Helper()
	var documents [][]byte
	for _, f := range []string{"../testdata/base.yaml", file} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, bytes.Split(b, []byte("\n---\n"))...)
	}
	var w world
	var order []string
	byKey := map[string][]byte{}
	for _, d := range documents {
		var o metav1.PartialObjectMetadata
		decode(t, file, d, &o)
		if o.Kind == "Setting" {
			decode(t, file, d, &w.setting)
			continue
		}
		key := o.Kind + "/" + o.Name
		if _, known := byKey[key]; !known {
			order = append(order, key)
		}
		byKey[key] = d
	}
	var objects policy.Objects
	pressure := func(name string, conditions *[]metav1.Condition) {
		if slices.Contains(w.UnderPressure, name) {
			apimeta.SetStatusCondition(conditions, metav1.Condition{Type: v1alpha1.ConditionUnderPressure, Status: metav1.ConditionTrue})
		}
	}
	for _, key := range order {
		if slices.Contains(w.Without, key) {
			continue
		}
		d := byKey[key]
		switch kind, _, _ := strings.Cut(key, "/"); kind { // others matter to late decisions only
		case "Namespace":
			objects.Namespaces = append(objects.Namespaces, decode(t, file, d, new(corev1.Namespace)))
		case "BurstPolicy":
			p := decode(t, file, d, new(v1alpha1.BurstPolicy))
			pressure(p.Name, &p.Status.Conditions)
			objects.Policies = append(objects.Policies, p)
		case "ClusterBurstPolicy":
			p := decode(t, file, d, new(v1alpha1.ClusterBurstPolicy))
			pressure(p.Name, &p.Status.Conditions)
			objects.ClusterPolicies = append(objects.ClusterPolicies, p)
		case "Node":
			objects.Nodes = append(objects.Nodes, decode(t, file, d, new(corev1.Node)))
		case "Pod":
			w.pod = decode(t, file, d, new(corev1.Pod))
		}
	}
	if w.Namespace == "" {
		w.Namespace = "shop"
	}
	objects.Excluded = w.Excluded
	w.snapshot, _ = policy.NewSnapshot(objects)
	w.snapshot.Stopped, w.snapshot.AdmissionByPolicy = w.Stopped, true
	return w
}

func decode[T any](t testing.TB, file string, d []byte, into T) T {
	t.Helper()
	if err := yaml.Unmarshal(d, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return into
}

// inject is what the webhook would write.
func inject(s *policy.Snapshot, namespace string, pod *corev1.Pod) (*corev1.Pod, policy.Decision) {
	d := policy.Evaluate(s, namespace, pod)
	return policy.Inject(pod, d), d
}

// Every golden case of package policy comes out of the API server as it comes out
// of the webhook.
func TestEqualsTheWebhook(t *testing.T) {
	server, schema := newAPIServer(t), newSchema(t)
	files, err := filepath.Glob("../testdata/golden/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	written := map[policy.Reason]bool{}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			w := readWorld(t, file)
			params := policy.Params(w.snapshot)
			valid(t, schema, params)
			got, err := server.admit(t.Context(), params, w.Namespace, w.pod)
			if err != nil {
				t.Fatal(err)
			}
			want, d := inject(w.snapshot, w.Namespace, w.pod)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("decided %s (-webhook +API server):\n%s", d.Message, diff)
			}
			again, err := server.admit(t.Context(), params, w.Namespace, got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("a second call changes the pod (-once +twice):\n%s", diff)
			}
			if want != w.pod {
				written[d.Reason] = true
			}
		})
	}
	for _, r := range []policy.Reason{
		policy.AdmissionByPolicy, policy.Stopped, policy.NoReadyVirtualNode, policy.PressureClosed, policy.AfterPending,
		policy.VirtualOnly, policy.SchedulerChooses,
	} {
		if !written[r] && !t.Failed() {
			t.Errorf("no golden case writes the reason %s", r)
		}
	}
}
