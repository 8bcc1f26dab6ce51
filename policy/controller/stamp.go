package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// stampPause is the least time between two looks for pods to stamp.
	stampPause = time.Second
	// stampEvery is the longest.
	stampEvery = time.Minute
	// stampRetry is after how long a stamp that could not be written is tried
	// again; doubled each time, up to stampEvery.
	stampRetry = 2 * time.Second
)

// stamper writes onto pods on virtual nodes what the webhook would have written in
// the request that bound them: the webhook was away, or the API server does not
// call it for that node. One write per pod.
type stamper struct {
	view    View
	live    client.Reader
	writes  client.Writer
	metrics *metrics
	clock   clock.Clock
	bell    bell // rings when such a pod was bound
	// done are pods that have all they are to get, though the view does not show it:
	// their new state has not arrived yet, or they had it all of their own.
	done map[types.UID]bool
}

// NeedLeaderElection is true: one replica writes.
func (s *stamper) NeedLeaderElection() bool { return true }

// The events of the store.
func (*stamper) PodPending(*corev1.Pod) {}
func (*stamper) RoomShrank(string)      {}
func (*stamper) RulesChanged()          {}

// PodSettled implements store.Listener.
func (s *stamper) PodSettled(p *corev1.Pod, node string) {
	if node != "" && p.Annotations[v1alpha1.GrantAnnotation] != "" && p.Annotations[v1alpha1.StampedAnnotation] == "" {
		s.bell.ring()
	}
}

// Start stamps until the context ends.
func (s *stamper) Start(ctx context.Context) error {
	defer s.view.Subscribe(s)()
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("pod-stamps"))
	failing := 0
	for {
		next := stampEvery
		if s.sweep(ctx) > 0 {
			next = min(stampRetry<<min(failing, 8), stampEvery)
			failing++
		} else {
			failing = 0
		}
		if _, live := s.bell.await(ctx, s.clock, stampPause, next); !live {
			return nil
		}
	}
}

// sweep stamps every pod that lacks it, and returns how many could not be written.
func (s *stamper) sweep(ctx context.Context) (failed int) {
	snapshot := s.view.Snapshot()
	done := make(map[types.UID]bool)
	for namespace := range snapshot.Namespaces {
		if snapshot.Excluded[namespace] {
			continue
		}
		for _, pod := range s.view.Pods(namespace) {
			if pod.Spec.NodeName == "" || pod.DeletionTimestamp != nil {
				continue
			}
			switch {
			case policy.Stamp(snapshot, pod, pod.Spec.NodeName, policy.StampedLater) == nil:
			case s.done[pod.UID]:
				done[pod.UID] = true
			case ctx.Err() != nil:
				return failed
			default:
				if err := s.stamp(ctx, snapshot, pod); err != nil {
					s.metrics.stampFailures.Inc()
					log.FromContext(ctx).Info("Stamping a pod on a virtual node; it is tried again",
						"namespace", namespace, "pod", pod.Name, "error", err.Error())
					failed++
					continue
				}
				done[pod.UID] = true
			}
		}
	}
	s.done = done
	return failed
}

// stamp writes the annotations that the pod lacks. What it has already is known to
// the API server alone, as the view keeps no annotations of users.
func (s *stamper) stamp(ctx context.Context, snapshot *policy.Snapshot, seen *corev1.Pod) error {
	pod := new(corev1.Pod)
	err := s.live.Get(ctx, client.ObjectKeyFromObject(seen), pod)
	switch {
	case apierrors.IsNotFound(err) || err == nil && pod.UID != seen.UID:
		return nil
	case err != nil:
		return fmt.Errorf("reading pod %s/%s: %w", seen.Namespace, seen.Name, err)
	}
	stamp := policy.Stamp(snapshot, pod, pod.Spec.NodeName, policy.StampedLater)
	if stamp == nil {
		return nil
	}
	patch, err := policy.StampPatch(pod, stamp)
	if err != nil {
		return err
	}
	target := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
	err = s.writes.Patch(ctx, target, client.RawPatch(types.JSONPatchType, patch))
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return fmt.Errorf("writing the annotations of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	s.metrics.stamped.Inc()
	return nil
}
