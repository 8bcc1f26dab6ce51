package vnode

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/autoburst/autoburst/providers"
)

// sweepLoop compares wanted with existing until ctx ends.
func (r *reconciler) sweepLoop(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), r.pods.synced) {
		return
	}
	failures := 0
	for {
		begun := r.clock.Now()
		err := r.sweep(ctx)
		took := r.clock.Since(begun)
		wait := r.nextSweep(took)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// Unknown is not absent: nothing changes until a listing is complete.
			failures++
			wait = min(r.cfg.SweepInterval, r.cfg.RetryBase<<min(failures-1, 10))
			r.log.Warn("the cloud's groups cannot be listed; nothing is changed until they can", "attempts", failures, "again", wait, "error", err)
		} else {
			failures = 0
		}
		timer := r.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-r.kick:
			timer.Stop()
		case <-timer.C():
			continue
		}
		// A sweep that was asked for waits a moment for others to ask as well.
		timer = r.clock.NewTimer(min(r.cfg.FastInterval, wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// sweepSoon asks for a sweep before its time.
func (r *reconciler) sweepSoon() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// nextSweep is sooner while groups change, where the listing carries their
// status, and never takes more than a tenth of the time.
func (r *reconciler) nextSweep(took time.Duration) time.Duration {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	if r.ledger.carriesStatus && r.ledger.busy > 0 {
		return min(r.cfg.SweepInterval, max(r.cfg.FastInterval, 10*took))
	}
	return r.cfg.SweepInterval
}

// sweep lists the cloud and has every pod and every group looked at.
func (r *reconciler) sweep(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	begun := r.clock.Now()
	listed, err := r.provider.List(call)
	now := r.clock.Now()
	r.metrics.call("List", now.Sub(begun), err)
	if err != nil {
		return err
	}
	groups := make([]providers.Group, 0, len(listed))
	phases := map[string]int{"Unknown": 0}
	for _, g := range listed {
		if !r.owns(g) {
			r.log.Warn("a listed group is not this node's and is left alone", "group", g.ID)
			continue
		}
		groups = append(groups, g)
	}
	uids := r.ledger.observe(begun, now, groups)
	r.adopted.Store(true)

	queued := make(map[types.UID]bool, len(uids))
	for _, uid := range uids {
		queued[uid] = true
		r.queue.Add(uid)
	}
	for _, pod := range r.pods.list() {
		if !queued[pod.UID] {
			r.queue.Add(pod.UID)
		}
	}

	r.ledger.mu.Lock()
	for _, rec := range r.ledger.records {
		for _, s := range rec.groups {
			phase := "Unknown"
			if s.group.Status != nil {
				phase = string(s.group.Status.Phase)
			}
			phases[phase]++
		}
	}
	r.metrics.unsettled.Set(float64(r.ledger.busy))
	r.ledger.mu.Unlock()
	r.metrics.groups.Reset()
	for phase, n := range phases {
		r.metrics.groups.WithLabelValues(phase).Set(float64(n))
	}
	r.metrics.sweep.Observe(r.clock.Since(begun).Seconds())
	r.metrics.sweepTime.Set(float64(now.Unix()))
	return nil
}
