package vnode

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// returns paces the failing of pods that this cloud can never run. Whoever owns such
// a pod makes another at once, and where no policy sends that one elsewhere it comes
// straight back: unpaced, as fast as the API server can make pods. A pod that was
// there before its owner's last failure is failed at once; one that came after waits.
type returns struct {
	base, most time.Duration

	mu     sync.Mutex
	owners map[types.UID]*returning
	// held is until when a pod that waits need not be looked at.
	held map[types.UID]time.Time
}

// returning is one owner whose pods fail.
type returning struct {
	pause time.Duration
	last  time.Time // when one was failed
}

func newReturns(cfg Config) *returns {
	return &returns{base: cfg.RetryBase, most: 5 * cfg.RetryMax, owners: map[types.UID]*returning{}, held: map[types.UID]time.Time{}}
}

// wait is how long a pod that the agent took on at started is not to be failed yet.
func (r *returns) wait(pod *corev1.Pod, started, now time.Time) time.Duration {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o, ok := r.owners[owner.UID]
	if !ok || started.Before(o.last) {
		return 0
	}
	until := o.last.Add(o.pause)
	if !until.After(now) {
		delete(r.held, pod.UID)
		return 0
	}
	r.held[pod.UID] = until
	return until.Sub(now)
}

// holds is how long a pod waits yet; the cloud is not to be asked again before.
func (r *returns) holds(uid types.UID, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return max(0, r.held[uid].Sub(now))
}

// failed notes that a pod which the agent took on at started is being failed.
func (r *returns) failed(pod *corev1.Pod, started, now time.Time) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for uid, o := range r.owners {
		if now.Sub(o.last) > 2*r.most {
			delete(r.owners, uid)
		}
	}
	for uid, until := range r.held {
		if now.Sub(until) > r.most { // deleted while it waited
			delete(r.held, uid)
		}
	}
	o, ok := r.owners[owner.UID]
	switch {
	case !ok:
		o = &returning{pause: r.base}
		r.owners[owner.UID] = o
	case !started.Before(o.last):
		o.pause = min(2*o.pause, r.most)
	default:
		return // one of those that were there before
	}
	o.last = now
}

// turnAway fails a pod that this cloud can never run, by fail, when its turn has
// come. Until then the pod says why.
func (r *reconciler) turnAway(ctx context.Context, uid types.UID, v view, reason, message string, fail func() error) (time.Duration, error) {
	now := r.clock.Now()
	if wait := r.returns.wait(v.pod, v.started, now); wait > 0 {
		st := waitingStatus(v.pod, reason, cut(message, eventMessageLimit), reason, r.place(), v.started, now)
		return wait, r.writeStatus(ctx, uid, v, st)
	}
	r.returns.failed(v.pod, v.started, now)
	return 0, fail()
}

// failUnsupported fails a pod that asks for what the cloud cannot carry out, when its
// turn has come.
func (r *reconciler) failUnsupported(ctx context.Context, uid types.UID, v view, message string) (time.Duration, error) {
	return r.turnAway(ctx, uid, v, ReasonUnsupported, message, func() error {
		r.metrics.refused.Inc()
		return r.failPod(ctx, uid, v, ReasonUnsupported, message)
	})
}
