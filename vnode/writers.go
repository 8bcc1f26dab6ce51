package vnode

import (
	"context"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	// noticeAfter is how long a pod waits for the account's quota before its
	// status says so, if it will wait for noticeLeft at least from then on.
	noticeAfter = 30 * time.Second
	noticeLeft  = 15 * time.Second
	// noticeEvery and notices bound how many such statuses are written.
	noticeEvery = 5 * time.Second
	notices     = 50
)

// laneError ends the work on a pod that needs a write to the cloud: it goes on in
// the lane, with a permit.
type laneError struct{ lane *lane }

func (e *laneError) Error() string { return "waits for a permit of " + e.lane.operation }

type laneKey struct{}

// serves tells whether the work of ctx is done by a worker of the lane, which
// has a permit.
func (l *lane) serves(ctx context.Context) bool { return ctx.Value(laneKey{}) == l }

// serve works on the pods of a lane until it is closed; no more begins when ctx
// has ended.
func (r *reconciler) serve(ctx, lead context.Context, l *lane) {
	for l.await() {
		permit, err := l.permit(ctx)
		uid, found := l.pop()
		if err == nil && found && ctx.Err() == nil {
			r.attempt(context.WithValue(quota.Carry(lead, permit), laneKey{}, l), uid)
		}
		if err == nil {
			permit.Cancel() // if the pod did not need it after all
		}
	}
}

// enter puts a pod into a lane.
func (r *reconciler) enter(l *lane, uid types.UID) {
	s := standing{uid: uid, since: r.clock.Now()}
	if pod := r.pods.byUID(uid); pod != nil && l == r.createLane {
		s.priority, s.created = ptr.Deref(pod.Spec.Priority, 0), pod.CreationTimestamp.Time
	}
	l.push(s)
}

// watchQuota shows the account's quotas, and writes into the status of pods that
// wait long for them why they do, until ctx ends.
func (r *reconciler) watchQuota(ctx context.Context) {
	if r.createLane.account == nil {
		return
	}
	ticker := r.clock.NewTicker(noticeEvery)
	defer ticker.Stop()
	for {
		r.reportDemand()
		r.metrics.quotas.show(r.createLane.account.States())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		left := notices
		for uid, n := range r.createLane.waiting(r.clock.Now().Add(-noticeAfter)) {
			wait := r.createLane.account.Delay(r.createLane.operation, n)
			if wait < noticeLeft || left == 0 {
				continue
			}
			left--
			r.tell(ctx, uid, n, wait)
		}
	}
}

// reportDemand has the account know how many writes are wanted.
func (r *reconciler) reportDemand() {
	r.createLane.depth()
	r.deleteLane.depth()
}

// tell writes into a pod's status that it waits for the quota.
func (r *reconciler) tell(ctx context.Context, uid types.UID, n int, wait time.Duration) {
	if !r.claims.take(uid) {
		return
	}
	defer func() {
		if r.claims.release(uid) {
			r.queue.Add(uid)
		}
	}()
	v := r.look(uid)
	if v.pod == nil || v.pod.DeletionTimestamp != nil || len(v.groups) > 0 || !r.createLane.tell(uid) {
		return
	}
	call, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	reason := v1alpha1.PodWaitingPrefix + string(providers.Throttled)
	message := fmt.Sprintf("The request quota of the cloud account (%s) is used up; %d pods with a higher priority or age are before this one. It is started in about %s. See autoburst_vnode_quota_believed_per_second, and docs/rates.md for how to raise it.",
		r.createLane.operation, n-1, wait.Round(time.Second))
	r.events.pod(v.pod, occurrence{reason: reason, message: message, key: "quota"})
	if err := r.writeStatus(call, uid, v, waitingStatus(v.pod, reason, message, reason, r.place(), v.started, r.clock.Now())); err != nil {
		r.log.Info("status not written", "pod", v.pod.Namespace+"/"+v.pod.Name, "error", err)
	}
}

// claims keep two workers from one pod.
type claims struct {
	mu   sync.Mutex
	held map[types.UID]bool // whether another worker has come meanwhile
}

// take claims a pod; false means that another worker has it, and looks at it
// once more.
func (c *claims) take(uid types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, held := c.held[uid]; held {
		c.held[uid] = true
		return false
	}
	if c.held == nil {
		c.held = map[types.UID]bool{}
	}
	c.held[uid] = false
	return true
}

// release ends a claim and tells whether another worker has come meanwhile.
func (c *claims) release(uid types.UID) (again bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	again = c.held[uid]
	delete(c.held, uid)
	return again
}
