package controller

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func TestServedLabel(t *testing.T) {
	all := &v1alpha1.ClusterBurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "gold"},
		Spec: v1alpha1.ClusterBurstPolicySpec{
			BurstPolicySpec:   v1alpha1.BurstPolicySpec{Mode: v1alpha1.ModeOverflow},
			NamespaceSelector: metav1.LabelSelector{MatchLabels: map[string]string{"tier": "gold"}},
		},
	}
	bronze := all.DeepCopy()
	bronze.Name, bronze.Spec.Mode = "bronze", v1alpha1.ModeNever
	bronze.Spec.NamespaceSelector.MatchLabels = map[string]string{"tier": "bronze"}

	for name, c := range map[string]struct {
		mode     v1alpha1.Mode
		labels   map[string]string
		excluded bool
		own      *v1alpha1.BurstPolicy
		want     map[string]string
	}{
		"nothing opts it in":        {want: nil},
		"annotated":                 {mode: v1alpha1.ModeOverflow, want: map[string]string{"autoburst.io/served": "true"}},
		"annotated Never":           {mode: v1alpha1.ModeNever, labels: map[string]string{"autoburst.io/served": "true"}},
		"annotated with no mode":    {mode: "Sometimes", labels: map[string]string{"autoburst.io/served": "true"}},
		"no longer annotated":       {labels: map[string]string{"a": "b", "autoburst.io/served": "true"}, want: map[string]string{"a": "b"}},
		"other value of the label":  {mode: v1alpha1.ModeAuto, labels: map[string]string{"autoburst.io/served": "no"}, want: map[string]string{"autoburst.io/served": "true"}},
		"a policy of its own":       {own: burstPolicy("p", nil), want: map[string]string{"autoburst.io/served": "true"}},
		"a policy of mode Never":    {own: burstPolicy("p", func(s *v1alpha1.BurstPolicySpec) { s.Mode = v1alpha1.ModeNever })},
		"selected by the cluster's": {labels: map[string]string{"tier": "gold"}, want: map[string]string{"tier": "gold", "autoburst.io/served": "true"}},
		"the cluster's says Never":  {labels: map[string]string{"tier": "bronze"}, want: map[string]string{"tier": "bronze"}},
		"excluded":                  {mode: v1alpha1.ModeOverflow, excluded: true},
		"excluded but labelled":     {mode: v1alpha1.ModeOverflow, excluded: true, labels: map[string]string{"autoburst.io/served": "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: c.labels}})
			f.rules(func(s *policy.Snapshot) {
				s.Namespaces = map[string]policy.Namespace{"shop": {Labels: c.labels, Mode: c.mode}, "gone": {Mode: v1alpha1.ModeOverflow}}
				s.Excluded = map[string]bool{"shop": c.excluded}
				s.Policies = map[string][]*policy.Policy{"": {policy.Compile(all), policy.Compile(bronze)}}
				if c.own != nil {
					s.Policies["shop"] = []*policy.Policy{policy.Compile(c.own)}
				}
			})
			if failed := f.served.sweep(t.Context(), f.view.Snapshot()); failed != 0 {
				t.Errorf("%d labels could not be written; a namespace that is gone needs none", failed)
			}
			got := new(corev1.Namespace)
			if err := f.client.Get(t.Context(), client.ObjectKey{Name: "shop"}, got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Labels); diff != "" {
				t.Errorf("labels (-want +got):\n%s", diff)
			}
		})
	}
}

// failingOnce refuses the first write.
type failingOnce struct {
	client.Writer
	failed chan struct{}
	once   bool
}

func (w *failingOnce) Patch(ctx context.Context, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
	if !w.once {
		w.once = true
		close(w.failed)
		return errors.New("etcdserver: request timed out")
	}
	return w.Writer.Patch(ctx, obj, p, opts...)
}

// TestServedLabelRetry checks that a label which could not be written is tried
// again though nothing changes.
func TestServedLabelRetry(t *testing.T) {
	f := newFixture(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
	w := &failingOnce{Writer: f.client, failed: make(chan struct{})}
	f.served.writes = w
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.served.Start(ctx) }()
	<-w.failed
	eventually(t, "the label is there", func() bool {
		f.clock.Step(labelRetry)
		got := new(corev1.Namespace)
		if err := f.client.Get(t.Context(), client.ObjectKey{Name: "shop"}, got); err != nil {
			t.Fatal(err)
		}
		return got.Labels[v1alpha1.ServedLabel] == v1alpha1.ServedValue
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Start returned %v", err)
	}
}
