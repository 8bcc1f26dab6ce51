package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// labelRetry is after how long a label that could not be written is tried again.
const labelRetry = 2 * time.Second

// served keeps the label that makes the API server call the pod webhook, on each
// namespace that an annotation or a policy opts in and on no other.
type served struct {
	view   View
	writes client.Writer
	clock  clock.Clock
	bell   bell // rings when namespaces or policies changed
}

// NeedLeaderElection is true: one replica writes labels.
func (s *served) NeedLeaderElection() bool { return true }

// Start keeps the labels until the context ends.
func (s *served) Start(ctx context.Context) error {
	defer s.view.Subscribe(rulesListener{s.bell})()
	logger := log.FromContext(ctx).WithName("served-namespaces")
	ctx = log.IntoContext(ctx, logger)
	for {
		var retry <-chan time.Time
		if failed := s.sweep(ctx, s.view.Snapshot()); failed > 0 {
			retry = s.clock.After(labelRetry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.bell:
		case <-retry:
		}
	}
}

// sweep writes the labels that are missing or too many, and returns how many
// could not be written.
func (s *served) sweep(ctx context.Context, snapshot *policy.Snapshot) (failed int) {
	for name, ns := range snapshot.Namespaces {
		value, labelled := ns.Labels[v1alpha1.ServedLabel]
		want := snapshot.OptedIn(name)
		if want && value == v1alpha1.ServedValue || !want && !labelled {
			continue
		}
		if err := s.label(ctx, name, want); client.IgnoreNotFound(err) != nil {
			log.FromContext(ctx).Error(err, "Labelling a namespace; it is tried again", "namespace", name)
			failed++
		}
	}
	return failed
}

// label sets or removes the label of one namespace.
func (s *served) label(ctx context.Context, name string, on bool) error {
	var value any // null removes
	if on {
		value = v1alpha1.ServedValue
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"labels": map[string]any{v1alpha1.ServedLabel: value}},
	})
	if err != nil {
		return fmt.Errorf("writing the patch of namespace %s: %w", name, err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := s.writes.Patch(ctx, ns, client.RawPatch(types.MergePatchType, patch)); err != nil {
		return fmt.Errorf("setting label %s of namespace %s: %w", v1alpha1.ServedLabel, name, err)
	}
	return nil
}
