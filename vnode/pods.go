package vnode

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	// sightings is how many complete listings in a row must lack a group before
	// it is asked for directly and believed to be gone.
	sightings = 2
	// recreations is how often a group that vanished before its pod ran is made
	// anew before the pod fails.
	recreations = 3
	// failuresToTell is how often in a row the work on a pod must have failed
	// before the pod says that its group cannot be deleted: a group that is in
	// transition is refused once or twice.
	failuresToTell = 3
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
		after, err = r.missing(ctx, uid, v)
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
	if wait := r.returns.holds(uid, r.clock.Now()); wait > 0 {
		return wait, nil
	}
	if refusals := burstable.Check(v.pod, r.provider.Capabilities()); len(refusals) > 0 {
		fields := make([]string, len(refusals))
		for i, f := range refusals {
			fields[i] = strings.TrimSuffix(f.String(), ".")
		}
		return r.failUnsupported(ctx, uid, v, fmt.Sprintf(
			"Virtual node %s (%s) cannot run this pod: %s. Remove these fields, or keep the pod off virtual nodes.",
			r.cfg.Node.Name, r.provider.Name(), strings.Join(fields, "; ")))
	}

	r.tellRemarks(v.pod)
	if loop, err := r.looped(ctx, uid, v); loop {
		return 0, err
	}
	a := r.applicant(v.pod)
	if h := r.circuit.ask(a, r.clock.Now(), false); h != nil {
		return r.held(ctx, uid, v, h)
	}
	flies := false
	defer func() {
		if !flies { // whoever asked and did not use it must not stand in the way
			r.circuit.leave(uid)
		}
	}()
	if !r.createLane.serves(ctx) {
		flies = true // it asks again when it has its permit
		return 0, &laneError{r.createLane}
	}

	preparing, prepare := r.traced(ctx, v.pod, "prepare container group")
	spec, err := r.resolver.resolve(preparing, v.pod, func(reason, message string) {
		r.events.pod(v.pod, occurrence{warning: true, reason: reason, message: message, key: message})
	})
	endTraced(prepare, err)
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
		return r.failUnsupported(ctx, uid, v, fmt.Sprintf(
			"Virtual node %s (%s) cannot run this pod: %s.", r.cfg.Node.Name, r.provider.Name(), unsupported))
	case err != nil:
		return 0, err
	}

	begun := r.clock.Now()
	if h := r.circuit.ask(a, begun, true); h != nil {
		flies = true
		return r.held(ctx, uid, v, h)
	}
	flies = true
	r.noteAsked(uid, spec.Annotations)
	creating, span := r.traced(ctx, v.pod, "create container group")
	id, err := r.create(creating, a, spec)
	endTraced(span, err)
	now := r.clock.Now()
	if err != nil {
		return r.createFailed(ctx, uid, v, a, err)
	}
	r.log.Info("group created", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "group", id, "took", now.Sub(begun))
	carries := false
	r.change(uid, func(rec *record) {
		rec.failures, rec.notBefore, rec.doubt, rec.busy = 0, time.Time{}, time.Time{}, true
		rec.refusals, rec.held, rec.outage = 0, "", false
		rec.creates++
		r.ledger.created(now, providers.Group{ID: id, Owner: spec.Owner, CreatedAt: now})
		carries = r.ledger.carriesStatus
		rec.course.enter(starting, "", now)
	})
	message := fmt.Sprintf("Container group %s was created on virtual node %s (%s).", id, r.cfg.Node.Name, r.provider.Name())
	if by := v.pod.Annotations[v1alpha1.PolicyAnnotation]; by != "" {
		message += fmt.Sprintf(" That the pod may burst was decided by %s.", by)
	}
	r.events.pod(v.pod, occurrence{reason: "GroupCreated", message: message, key: id})
	if carries {
		// The next look says more than that the group is there. Until then the
		// pod's status is not worth a write: in a burst it would be every second one.
		r.lookSoon()
		return r.cfg.SweepInterval, nil
	}
	return 0, r.writeCreating(ctx, uid, v) // the next look at the group brings it back
}

// create asks the cloud for a group that the circuit has let pass.
func (r *reconciler) create(ctx context.Context, a applicant, spec *providers.GroupSpec) (id string, err error) {
	err = errPanicked // unless it returns
	begun := r.clock.Now()
	defer func() {
		r.heard("Create", r.clock.Since(begun), err)
		r.health.created(a, err)
	}()
	return r.createNoted(ctx, spec)
}

// writeCreating says on a pod that its group exists, and that nothing else is
// known of it.
func (r *reconciler) writeCreating(ctx context.Context, uid types.UID, v view) error {
	return r.writeStatus(ctx, uid, v, waitingStatus(v.pod, "", "", reasonCreating, r.place(), v.started, r.clock.Now()))
}

// createFailed says on the pod why it waits, or that it cannot run.
func (r *reconciler) createFailed(ctx context.Context, uid types.UID, v view, a applicant, err error) (time.Duration, error) {
	if providers.Permitted(ctx) != nil {
		return 0, err // the pod is another agent's now, and so is what is said of it
	}
	if _, postponed := quota.Postponed(err); postponed {
		return 0, err // nothing was asked of the cloud
	}
	class := providers.ClassOf(err)
	if providers.Permanent(err) {
		message := fmt.Sprintf("%s refused this pod for good: %s.", r.provider.Name(), clipped(err))
		return r.turnAway(ctx, uid, v, ReasonRefused, message, func() error { return r.refusePod(ctx, uid, v, ReasonRefused, message) })
	}
	if v.gone(err) {
		// It may take a day until the cloud makes another; its owner can replace it now.
		return 0, r.failPod(ctx, uid, v, ReasonVanished, fmt.Sprintf(
			"The pod's container group vanished before it ran, and %s makes no second one: %s.", r.provider.Name(), clipped(err)))
	}
	if providers.ForWantOfRoom(err) {
		r.change(uid, func(rec *record) { rec.failures, rec.notBefore, rec.outage = 0, time.Time{}, false })
		if h := r.circuit.ask(a, r.clock.Now(), false); h != nil {
			return r.held(ctx, uid, v, h)
		}
	}
	if class == providers.Unknown {
		// The group may exist. The next create returns it, a listing that begins
		// after now shows it.
		r.change(uid, func(rec *record) { rec.doubt, rec.absent = r.clock.Now(), 0 })
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
	r.tellLate(uid, v.pod)
	s := v.groups[0]
	now := r.clock.Now()
	status := s.group.Status
	switch {
	case s.missed >= sightings:
		ctx = quota.With(ctx, quota.Confirming)
		g, err := r.read(ctx, uid, s.group.ID)
		switch {
		case err != nil:
			return 0, err
		case g == nil:
			r.confirmGone(uid, s.group.ID)
			return 0, r.vanished(ctx, uid, v)
		}
		status = g.Status
	case s.missed > 0:
		r.sweepSoon()
	}
	if status == nil {
		if v.carries && !hasRun(v.pod) {
			// The next look brings more than that the group is there.
			if wait := s.added.Add(r.cfg.SweepInterval).Sub(now); wait > 0 {
				return wait, nil
			}
			return 0, r.writeCreating(ctx, uid, v)
		}
		// As after a start of the agent: what the pod's own status tells is good
		// enough to wait for the group's turn.
		r.steer(uid, v.pod, &v.pod.Status, s, false)
		return 0, nil
	}

	if status.Phase == providers.GroupFailed && status.Refused != "" && !hasRun(v.pod) {
		return r.refusedLate(ctx, uid, v, status)
	}
	for _, e := range status.Events {
		if !e.Last.After(v.found) {
			continue
		}
		r.events.pod(v.pod, occurrence{
			warning: e.Warning, reason: e.Reason, message: e.Message, container: e.Container, count: e.Count,
			first: metav1.NewTime(e.First), last: metav1.NewTime(e.Last),
			key: fmt.Sprintf("%d %s", e.First.Unix(), e.Message),
		})
	}
	st := runningStatus(v.pod, status, r.place(), v.started, now)
	r.tellRestarts(v.pod, &st)
	r.tellDisplaced(v.pod, &st)
	r.steer(uid, v.pod, &st, s, true)
	if err := r.writeStatus(ctx, uid, v, st); err != nil {
		return 0, err
	}
	r.succeeded(uid)
	return 0, nil // the next look at the group brings it back
}

// tellRestarts says on a pod that is never to be restarted that the cloud did it.
func (r *reconciler) tellRestarts(pod *corev1.Pod, st *corev1.PodStatus) {
	if pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return
	}
	for _, c := range st.ContainerStatuses {
		if c.RestartCount == 0 {
			continue
		}
		r.events.pod(pod, occurrence{warning: true, reason: reasonRestarted, container: c.Name, key: strconv.Itoa(int(c.RestartCount)),
			message: fmt.Sprintf("The cloud restarted container %s although the pod's restartPolicy is Never, for the %d. time. What the container had done may be done twice.", c.Name, c.RestartCount)})
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
	r.change(uid, func(rec *record) { rec.course.enter(unread, "", time.Time{}) })
	gone, after, err := r.removeGroups(ctx, uid, v.groups)
	if err != nil && v.failures >= failuresToTell {
		r.events.pod(v.pod, occurrence{warning: true, reason: reasonNotDeleted, key: string(providers.ClassOf(err)),
			message: "The cloud does not delete the pod's container group, which costs money until it does; it is asked again. " + cut(err.Error(), eventMessageLimit/2)})
	}
	if err != nil || !gone {
		return after, err
	}
	if !v.proven {
		r.sweepSoon()
		return r.cfg.FastInterval, nil
	}
	if !v.known && hasRun(v.pod) && !terminal(v.pod) {
		// Whoever waits for the pod's end must not find it running.
		if g, err := r.seek(ctx, uid, v); err != nil || g != nil {
			return r.cfg.FastInterval, err
		}
	}
	r.change(uid, func(rec *record) { rec.busy = false })
	pod := v.pod
	if !terminal(pod) && endIsAwaited(pod) {
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

// endIsAwaited tells whether anyone can want to know how a pod has ended that is
// being deleted: owners such as Job, which wait for a phase that says so, and
// whoever keeps the pod with a finalizer. A pod that is always restarted has no
// end of its own, and is gone from the API server at once.
func endIsAwaited(pod *corev1.Pod) bool {
	return pod.Spec.RestartPolicy != corev1.RestartPolicyAlways || len(pod.Finalizers) > 0
}

// settle leaves the group of a pod that ended where it is, for its logs, until
// the pod is deleted or the time for logs is over: groups that have ended count
// against the account's quota. A group that still runs although its pod has ended, for
// example because the pod was evicted, is removed.
func (r *reconciler) settle(ctx context.Context, uid types.UID, v view) (time.Duration, error) {
	var logs time.Duration // how long they are kept yet, by this agent's own clock
	r.change(uid, func(rec *record) {
		rec.busy = false
		rec.course.enter(unread, "", time.Time{})
		if now := r.clock.Now(); rec.settled.IsZero() {
			rec.settled = now
		}
		logs = r.cfg.LogRetention - r.clock.Since(rec.settled)
	})
	var live []sighting
	kept := false
	for _, s := range v.groups {
		if ended(s.group.Status) && !s.ending() {
			if wasRefused(v.pod) || logs <= 0 { // a refused pod has no logs
				live = append(live, s)
			} else {
				kept = true
			}
			continue
		}
		if s.group.Status == nil && s.missed < sightings && !s.ending() && sawEnd(&v.pod.Status) {
			// Its end was read from the cloud before the agent was started: to make
			// sure has time.
			r.change(uid, func(rec *record) { rec.course.enter(checking, "", time.Time{}) })
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
	if kept && (after == 0 || logs < after) {
		after = logs
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
	ctx = quota.With(ctx, quota.Confirming)
	var errs []error
	left := 0
	listed := r.lister != nil
	for _, s := range groups {
		id := s.group.ID
		now := r.clock.Now()
		if first := s.deleted.IsZero(); first || now.Sub(s.deleted) >= deleteAgain {
			if !r.deleteLane.serves(ctx) {
				return false, 0, &laneError{r.deleteLane}
			}
			err := ignoreNotFound(r.provider.Delete(ctx, id))
			r.heard("Delete", r.clock.Since(now), err)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			s.deleted = r.clock.Now()
			r.change(uid, func(rec *record) {
				rec.busy = true
				rec.failures, rec.notBefore, rec.outage = 0, time.Time{}, false
				if at, ok := rec.groups[id]; ok {
					at.deleted = s.deleted
				}
			})
			if first && listed {
				// One listing tells of all that are gone.
				r.sweepSoon()
				left, after = left+1, deleteAgain
				continue
			}
		} else if listed {
			left, after = left+1, deleteAgain-now.Sub(s.deleted)
			continue
		}
		g, err := r.read(ctx, uid, id)
		switch {
		case err != nil:
			errs = append(errs, err)
		case g == nil:
			r.confirmGone(uid, id)
		default:
			left++
			after = max(after, within(r.clock.Since(s.deleted)/2, r.cfg.FastInterval, r.cfg.SweepInterval))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return false, 0, err
	}
	return left == 0, after, nil
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
	written, changed, err := patchStatus(ctx, r.client, v.pod, want, r.notes(v))
	switch {
	case apierrors.IsNotFound(err):
		return nil // the watch will say so
	case err != nil:
		// Of a conflict, too: it is another pod by now, as the watch will say, or others
		// wrote at the same time, and nothing else may bring the pod up again.
		r.metrics.writes.WithLabelValues(resultFailed).Inc()
		return err
	case changed:
		r.metrics.writes.WithLabelValues(resultWritten).Inc()
		r.change(uid, func(rec *record) { rec.written = written })
	}
	return nil
}
