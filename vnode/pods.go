package vnode

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

const (
	// sightings is how many complete listings in a row must lack a group before
	// it is asked for directly and believed to be gone.
	sightings = 2
	// recreations is how often a group that vanished before its pod ran is made
	// anew before the pod fails.
	recreations = 3
	// deleteAgain is when an accepted deletion that shows no effect is repeated.
	deleteAgain = 30 * time.Second
)

// runPod makes a pod run: it creates the group, or follows the one that is.
func (r *reconciler) runPod(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	now := r.clock.Now()
	untilDeadline := time.Duration(0)
	if d := v.pod.Spec.ActiveDeadlineSeconds; d != nil && v.pod.Status.StartTime != nil {
		untilDeadline = v.pod.Status.StartTime.Add(time.Duration(*d) * time.Second).Sub(now)
		if untilDeadline <= 0 {
			return 0, r.failPod(ctx, uid, v, ReasonDeadline,
				fmt.Sprintf("The pod was active longer than its activeDeadlineSeconds, %d s.", *d))
		}
	}

	var after time.Duration
	var err error
	switch {
	case len(v.groups) > 0:
		after, err = r.followGroup(ctx, uid, v)
	case hasRun(v.pod):
		if v.absent < sightings {
			r.sweepSoon()
			return r.cfg.FastInterval, nil
		}
		return 0, r.vanished(ctx, uid, v)
	default:
		after, err = r.createGroup(ctx, uid, v)
	}
	if untilDeadline > 0 && (after == 0 || untilDeadline < after) {
		after = untilDeadline
	}
	return after, err
}

// createGroup resolves the pod and asks the cloud for its group. No error of a
// passing kind changes more than the reason why the pod is Pending.
func (r *reconciler) createGroup(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	if refusals := burstable.Check(v.pod, r.provider.Capabilities()); len(refusals) > 0 {
		fields := make([]string, len(refusals))
		for i, f := range refusals {
			fields[i] = strings.TrimSuffix(f.String(), ".")
		}
		r.metrics.refused.Inc()
		return 0, r.failPod(ctx, uid, v, ReasonUnsupported, fmt.Sprintf(
			"Virtual node %s (%s) cannot run this pod: %s. Remove these fields, or keep the pod off virtual nodes.",
			r.cfg.Node.Name, r.provider.Name(), strings.Join(fields, "; ")))
	}

	spec, err := r.resolver.resolve(ctx, v.pod, func(reason, message string) {
		r.events.pod(v.pod, occurrence{warning: true, reason: reason, message: message, key: message})
	})
	var missing *missingError
	var unsupported *unsupportedError
	switch {
	case errors.As(err, &missing):
		r.events.pod(v.pod, occurrence{warning: true, reason: missing.reason, message: missing.Error(), key: missing.Error()})
		if err := r.writeStatus(ctx, uid, v, waitingStatus(v.pod, "", "", missing.containerReason(), r.place(), v.started, r.clock.Now())); err != nil {
			return 0, err
		}
		return r.cfg.MissingInterval, nil
	case errors.As(err, &unsupported):
		r.metrics.refused.Inc()
		return 0, r.failPod(ctx, uid, v, ReasonUnsupported, fmt.Sprintf(
			"Virtual node %s (%s) cannot run this pod: %s.", r.cfg.Node.Name, r.provider.Name(), unsupported))
	case err != nil:
		return 0, err
	}

	begun := r.clock.Now()
	id, err := r.createNoted(ctx, spec)
	now := r.clock.Now()
	r.metrics.call("Create", now.Sub(begun), err)
	r.health.created(err)
	if err != nil {
		return r.createFailed(ctx, uid, v, err)
	}
	r.log.Info("group created", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "group", id, "took", now.Sub(begun))
	carries := false
	r.change(uid, func(rec *record) {
		rec.failures, rec.notBefore, rec.doubt, rec.busy = 0, time.Time{}, time.Time{}, true
		rec.refusals = 0
		if _, known := rec.groups[id]; !known {
			rec.see(providers.Group{ID: id, Owner: spec.Owner, CreatedAt: now}, now)
		}
		carries = r.ledger.carriesStatus
	})
	message := fmt.Sprintf("Container group %s was created on virtual node %s (%s).", id, r.cfg.Node.Name, r.provider.Name())
	if by := v.pod.Annotations[v1alpha1.PolicyAnnotation]; by != "" {
		message += fmt.Sprintf(" That the pod may burst was decided by %s.", by)
	}
	r.events.pod(v.pod, occurrence{reason: "GroupCreated", message: message, key: id})
	if err := r.writeStatus(ctx, uid, v, waitingStatus(v.pod, "", "", reasonCreating, r.place(), v.started, now)); err != nil {
		return 0, err
	}
	if carries {
		r.sweepSoon()
		return 0, nil
	}
	return r.interval(true), nil
}

// createFailed says on the pod why it waits, or that it cannot run.
func (r *reconciler) createFailed(ctx context.Context, uid types.UID, v view, err error) (time.Duration, error) {
	if providers.Permitted(ctx) != nil {
		return 0, err // the pod is another agent's now, and so is what is said of it
	}
	class := providers.ClassOf(err)
	if providers.Permanent(err) {
		return 0, r.refusePod(ctx, uid, v, ReasonRefused, fmt.Sprintf(
			"%s refused this pod for good: %s.", r.provider.Name(), clipped(err)))
	}
	if providers.ForWantOfRoom(err) {
		if ended, err := r.giveUp(ctx, uid, v, err); ended {
			return 0, err
		}
	}
	if class == providers.Unknown {
		// The group may exist. The next create returns it, a listing that begins
		// after now shows it.
		r.change(uid, func(rec *record) { rec.doubt = r.clock.Now() })
		r.sweepSoon()
	}
	reason := v1alpha1.PodWaitingPrefix + string(class)
	message := cut(err.Error(), eventMessageLimit/2)
	r.events.pod(v.pod, occurrence{warning: true, reason: reason, key: string(class),
		message: "The cloud did not start the pod's container group; it is tried again until it does. " + message})
	message = cut(stable(err).Error(), eventMessageLimit/2)
	if err := r.writeStatus(ctx, uid, v, waitingStatus(v.pod, reason, message, reason, r.place(), v.started, r.clock.Now())); err != nil {
		r.log.Info("status not written", "pod", v.pod.Namespace+"/"+v.pod.Name, "error", err)
	}
	return 0, err
}

// stable is an error without the request's ID, which differs in each try: it stays
// out of what would otherwise be written each time.
func stable(err error) error {
	var e *providers.Error
	if !errors.As(err, &e) {
		return err
	}
	same := *e
	same.RequestID = ""
	return &same
}

// followGroup brings the pod's status up to what the cloud says of its group.
func (r *reconciler) followGroup(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	if extra := v.groups[1:]; len(extra) > 0 {
		r.log.Warn("a pod has more than one group; all but the oldest are removed", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "extra", len(extra))
		if _, _, err := r.removeGroups(ctx, uid, extra); err != nil {
			return 0, err
		}
	}
	s := v.groups[0]
	now := r.clock.Now()
	busy := true
	if s.group.Status != nil {
		st := runningStatus(v.pod, s.group.Status, r.place(), v.started, now)
		busy = !settled(&st)
	}
	r.ledger.mu.Lock()
	carries := r.ledger.carriesStatus
	r.ledger.mu.Unlock()

	status := s.group.Status
	if s.missed >= sightings || !carries && (status == nil || now.Sub(s.statusAt) >= r.interval(busy)*9/10) {
		g, err := r.read(ctx, uid, s.group.ID)
		switch {
		case err != nil:
			return 0, err
		case g == nil && s.missed >= sightings:
			r.confirmGone(uid, s.group.ID)
			return 0, r.vanished(ctx, uid, v)
		case g == nil:
			r.sweepSoon()
			return r.cfg.FastInterval, nil
		}
		status = g.Status
	}
	if status == nil {
		if carries {
			return 0, nil // the next listing brings it
		}
		return r.interval(true), nil
	}

	if status.Phase == providers.GroupFailed && status.Refused != "" && !hasRun(v.pod) {
		return r.refusedLate(ctx, uid, v, status)
	}
	for _, e := range status.Events {
		r.events.pod(v.pod, occurrence{
			warning: e.Warning, reason: e.Reason, message: e.Message, container: e.Container, count: e.Count,
			first: metav1.NewTime(e.First), last: metav1.NewTime(e.Last),
			key: fmt.Sprintf("%d %s", e.First.Unix(), e.Message),
		})
	}
	st := runningStatus(v.pod, status, r.place(), v.started, now)
	busy = !settled(&st) && st.Phase != corev1.PodSucceeded && st.Phase != corev1.PodFailed
	r.change(uid, func(rec *record) { rec.busy = busy })
	if err := r.writeStatus(ctx, uid, v, st); err != nil {
		return 0, err
	}
	r.succeeded(uid)
	switch {
	case st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed, carries:
		return 0, nil
	default:
		return r.interval(busy), nil
	}
}

// vanished ends a pod whose group is gone although nobody asked for it through
// Kubernetes. It never counts as success. A pod that had not run yet is started
// anew, a few times.
func (r *reconciler) vanished(ctx context.Context, uid types.UID, v view) error {
	r.metrics.vanished.Inc()
	if !hasRun(v.pod) && v.lost < recreations {
		r.change(uid, func(rec *record) {
			rec.lost++
			rec.busy = false
		})
		return fmt.Errorf("the group of pod %s/%s vanished before it ran", v.pod.Namespace, v.pod.Name)
	}
	return r.failPod(ctx, uid, v, ReasonVanished, fmt.Sprintf(
		"The pod's container group is gone from %s although it was not deleted through Kubernetes. Whether the containers had finished is unknown.",
		r.provider.Name()))
}

// endPod removes the group of a pod that is being deleted, and the pod from the
// API server once the cloud has confirmed that the group is gone.
func (r *reconciler) endPod(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	gone, after, err := r.removeGroups(ctx, uid, v.groups)
	if err != nil || !gone {
		return after, err
	}
	if !v.proven {
		r.sweepSoon()
		return r.cfg.FastInterval, nil
	}
	r.change(uid, func(rec *record) { rec.busy = false })
	pod := v.pod
	if !terminal(pod) {
		// Owners such as Job wait for a phase that says the pod has ended.
		st := failedStatus(pod, "", "", r.place(), v.started, r.clock.Now())
		if err := r.writeStatus(ctx, uid, v, st); err != nil {
			return 0, err
		}
	}
	// The API server takes the grace away and removes the pod in two steps. Whoever
	// breaks off its request in between leaves a pod that nobody else removes.
	if ptr.Deref(pod.DeletionGracePeriodSeconds, 1) == 0 && len(pod.Finalizers) > 0 {
		return 0, nil // only finalizers of others keep it
	}
	err = r.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr.To[int64](0),
		Preconditions:      &metav1.Preconditions{UID: &pod.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return 0, fmt.Errorf("removing pod %s/%s, whose group is gone: %w", pod.Namespace, pod.Name, err)
	}
	r.succeeded(uid)
	return 0, nil
}

// settle leaves the group of a pod that ended where it is, for its logs, until
// the pod is deleted. A group that still runs although its pod has ended, for
// example because the pod was evicted, is removed.
func (r *reconciler) settle(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	r.change(uid, func(rec *record) { rec.busy = false })
	var live []sighting
	for _, s := range v.groups {
		if ended(s.group.Status) && !s.ending() {
			if wasRefused(v.pod) {
				live = append(live, s) // it has no logs
			}
			continue
		}
		g, err := r.read(ctx, uid, s.group.ID)
		switch {
		case err != nil:
			return 0, err
		case g == nil:
			r.confirmGone(uid, s.group.ID)
		case !ended(g.Status) || g.Deleting:
			live = append(live, s)
		}
	}
	gone, after, err := r.removeGroups(ctx, uid, live)
	if err == nil && gone {
		r.succeeded(uid)
	}
	return after, err
}

// removeOrphan removes groups whose pod is not in the cache, after the API
// server itself has said that the pod is gone.
func (r *reconciler) removeOrphan(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	asked := false
	for _, s := range v.groups {
		asked = asked || !s.deleted.IsZero()
	}
	if !asked {
		owner := v.groups[0].group.Owner
		live, err := r.client.CoreV1().Pods(owner.Namespace).Get(ctx, owner.PodName, metav1.GetOptions{})
		switch {
		case err != nil && !apierrors.IsNotFound(err):
			return 0, fmt.Errorf("asking for pod %s/%s before its group is removed: %w", owner.Namespace, owner.PodName, err)
		case err == nil && live.UID == uid:
			return r.cfg.FastInterval, nil // the watch lags behind
		}
		r.metrics.orphans.Inc()
		r.log.Info("the pod of a group is gone; the group is removed", "pod", owner.Namespace+"/"+owner.PodName, "uid", uid, "group", v.groups[0].group.ID)
	}
	gone, after, err := r.removeGroups(ctx, uid, v.groups)
	if err != nil || !gone {
		return after, err
	}
	r.ledger.forget(uid)
	r.events.forget(uid)
	return 0, nil
}

// removeGroups asks the cloud to delete groups, as often as it takes, and tells
// whether it has confirmed that they are gone.
func (r *reconciler) removeGroups(ctx context.Context, uid types.UID, groups []sighting) (gone bool, after time.Duration, err error) {
	var errs []error
	left := 0
	for _, s := range groups {
		id := s.group.ID
		now := r.clock.Now()
		if s.deleted.IsZero() || now.Sub(s.deleted) >= deleteAgain {
			err := ignoreNotFound(r.provider.Delete(ctx, id))
			r.metrics.call("Delete", r.clock.Since(now), err)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			r.change(uid, func(rec *record) {
				rec.busy = true
				rec.failures, rec.notBefore = 0, time.Time{}
				if at, ok := rec.groups[id]; ok {
					at.deleted = r.clock.Now()
				}
			})
		}
		g, err := r.read(ctx, uid, id)
		switch {
		case err != nil:
			errs = append(errs, err)
		case g == nil:
			r.confirmGone(uid, id)
		default:
			left++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return false, 0, err
	}
	if left > 0 {
		return false, r.interval(true), nil
	}
	return true, 0, nil
}

// failPod ends a pod for good, so that its owner can replace it elsewhere.
func (r *reconciler) failPod(ctx context.Context, uid types.UID, v view, reason, message string) error {
	r.events.pod(v.pod, occurrence{warning: true, reason: reason, message: message})
	r.log.Info("pod failed", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "reason", reason, "message", message)
	return r.writeFailed(ctx, uid, v, failedStatus(v.pod, reason, message, r.place(), v.started, r.clock.Now()))
}

// writeFailed writes the last status of a pod that has failed.
func (r *reconciler) writeFailed(ctx context.Context, uid types.UID, v view, st corev1.PodStatus) error {
	if err := r.writeStatus(ctx, uid, v, st); err != nil {
		return err
	}
	r.succeeded(uid)
	if len(v.groups) > 0 {
		r.queue.Add(uid) // its group is removed by the next pass
	}
	return nil
}

func (r *reconciler) place() place { return place{hostIP: r.cfg.Node.InternalIP} }

// writeStatus writes a pod's status if it differs, and remembers what the API
// server made of it until the watch delivers it.
func (r *reconciler) writeStatus(ctx context.Context, uid types.UID, v view, want corev1.PodStatus) error {
	written, changed, err := patchStatus(ctx, r.client, v.pod, want)
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		return nil // the pod is gone or another one; the watch will say so
	case err != nil:
		r.metrics.writes.WithLabelValues("failed").Inc()
		return err
	case changed:
		r.metrics.writes.WithLabelValues("written").Inc()
		r.change(uid, func(rec *record) { rec.written = written })
	}
	return nil
}
