package vnode

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	resourcehelper "k8s.io/component-helpers/resource"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	// createsPerPod is how many groups are made for one pod before it is taken for a
	// loop; a pod whose groups vanish before it ran has fewer.
	createsPerPod = 10
	// reasonCreateLoop is why such a pod gets no more.
	reasonCreateLoop = "CreateLoop"
)

func (r *reconciler) applicant(pod *corev1.Pod) applicant {
	caps := r.provider.Capabilities()
	return applicant{
		uid: pod.UID, priority: ptr.Deref(pod.Spec.Priority, 0), created: pod.CreationTimestamp.Time,
		size: burstable.SoldTo(pod, &caps),
	}
}

// held says on the pod why its group is not asked for now. A pod that others stand
// for is refused with them.
func (r *reconciler) held(ctx context.Context, uid types.UID, v view, h *delay) (time.Duration, error) {
	if h.wantOfRoom() {
		if ended, err := r.giveUp(ctx, uid, v, h.err, h.refusals); ended {
			return 0, err
		}
	}
	reason := v1alpha1.PodWaitingPrefix + string(h.class)
	episode := reason + h.since.String()
	told := false
	r.change(uid, func(rec *record) {
		told = rec.held == episode
		rec.held = episode
	})
	if told {
		return h.wait, nil
	}
	text := r.waitText(h)
	r.events.pod(v.pod, occurrence{warning: true, reason: reason, key: string(h.class), message: text})
	if err := r.writeStatus(ctx, uid, v, waitingStatus(v.pod, reason, text, reason, r.place(), v.started, r.clock.Now())); err != nil {
		r.change(uid, func(rec *record) { rec.held = "" })
		return h.wait, err
	}
	return h.wait, nil
}

// waitText stays true as time passes, so that the pod's status is written once.
func (r *reconciler) waitText(h *delay) string {
	name := r.provider.Name()
	switch {
	case h.down:
		return fmt.Sprintf("%s cannot be used since %s: %s. The pod starts when it can; see condition %s of node %s.",
			name, clockTime(h.since), clipped(h.err), v1alpha1.CloudReachableCondition, r.cfg.Node.Name)
	case h.wantOfRoom():
		return fmt.Sprintf("%s has no room for this pod since %s: %s. Not before %s one waiting pod at a time is tried, every %s at the latest, until there is room; see condition %s of node %s.",
			name, clockTime(h.since), clipped(h.err), clockTime(h.until), r.circuit.most, v1alpha1.CapacityAvailableCondition, r.cfg.Node.Name)
	}
	return fmt.Sprintf("%s refuses every create since %s: %s. Not before %s one waiting pod at a time is tried, every %s at the latest, until it takes one; see condition %s of node %s.",
		name, clockTime(h.since), clipped(h.err), clockTime(h.until), r.circuit.most, v1alpha1.CapacityAvailableCondition, r.cfg.Node.Name)
}

// looped tells whether so many groups were made for the pod that something must be
// wrong with the agent or the cloud, and says so. Each may be charged for.
func (r *reconciler) looped(ctx context.Context, uid types.UID, v view) (bool, error) {
	creates, told := 0, false
	r.change(uid, func(rec *record) {
		if creates = rec.creates; creates >= createsPerPod {
			told, rec.held = rec.held == reasonCreateLoop, reasonCreateLoop
		}
	})
	switch {
	case creates < createsPerPod:
		return false, nil
	case told:
		return true, nil
	}
	text := fmt.Sprintf("%d container groups were made for this pod and none stayed; no more are made, as each may be charged for. Look for them in %s, report this with the agent's log, and delete the pod to have it replaced.",
		creates, r.provider.Name())
	r.metrics.loops.Inc()
	r.events.pod(v.pod, occurrence{warning: true, reason: reasonCreateLoop, message: text})
	r.log.Error("a pod's groups are made over and over; no more are made", "pod", v.pod.Namespace+"/"+v.pod.Name, "uid", uid, "creates", creates)
	return true, r.writeStatus(ctx, uid, v, waitingStatus(v.pod, reasonCreateLoop, text, reasonCreateLoop, r.place(), v.started, r.clock.Now()))
}

// wake has a pod looked at now.
func (r *reconciler) wake(uid types.UID) {
	if !r.adopted.Load() {
		return // the first sweep enqueues all
	}
	r.ledger.mu.Lock()
	if rec := r.ledger.records[uid]; rec != nil && rec.outage {
		rec.notBefore, rec.failures = time.Time{}, 0
	}
	r.ledger.mu.Unlock()
	r.queue.Add(uid)
}

// cloudIsBack has every pod looked at whose calls failed because the cloud did not
// work: what was asked for meanwhile does not wait out its back-off.
func (r *reconciler) cloudIsBack() {
	if !r.adopted.Load() {
		return
	}
	var uids []types.UID
	r.ledger.mu.Lock()
	for uid, rec := range r.ledger.records {
		if rec.outage {
			uids = append(uids, uid)
		}
		rec.course.failures, rec.course.notBefore = 0, time.Time{}
	}
	r.ledger.mu.Unlock()
	for _, uid := range uids {
		r.wake(uid)
	}
	r.readSoon()
	r.sweepSoon()
}

// heard notes how a call to the cloud has ended.
func (r *reconciler) heard(operation string, took time.Duration, err error) {
	if _, postponed := quota.Postponed(err); postponed {
		return // no call was made
	}
	r.metrics.call(operation, took, err)
	if r.pulse.heard(operation, err, r.clock.Now()) {
		r.cloudIsBack()
	}
}

// ofOutage tells whether a call failed because the cloud did not work, and the cloud
// did not say for how long.
func ofOutage(err error) bool { return trouble(providers.ClassOf(err)) && retryAfter(err) == 0 }

// holding is what the node's pods hold now; it is known once the cloud was listed.
func (r *reconciler) holding() (h holding, known bool) {
	r.ledger.mu.Lock()
	uids := make([]types.UID, 0, len(r.ledger.records))
	for uid, rec := range r.ledger.records {
		if s := rec.primary(); s != nil && !ended(s.group.Status) {
			uids = append(uids, uid)
		}
	}
	r.ledger.mu.Unlock()
	caps := r.provider.Capabilities()
	for _, uid := range uids {
		pod := r.pods.byUID(uid)
		if pod == nil || terminal(pod) {
			continue
		}
		requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
		h.pods++
		h.milliCPU += requests.Cpu().MilliValue()
		h.memory += requests.Memory().Value()
		h.soldCPU += burstable.SoldTo(pod, &caps).MilliCPU
	}
	return h, r.adopted.Load()
}
