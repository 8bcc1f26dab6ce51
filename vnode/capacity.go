package vnode

import (
	"context"
	"fmt"
	"time"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// shownPause is the least time between two changes of what the node offers.
const shownPause = 10 * time.Second

// created hears how a create ended; see [capacityObserver].
func (k *nodeKeeper) created(a applicant, err error) {
	k.circuit.done(a, err, k.clock.Now())
	k.noteCreate(err)
}

// refusedLate hears of a group for which no room was found after it was accepted.
func (k *nodeKeeper) refusedLate(size burstable.Size, err error) {
	k.circuit.refusedLate(size, err, k.clock.Now())
	k.noteCreate(err)
}

func (k *nodeKeeper) noteCreate(err error) {
	class := providers.ClassOf(err)
	now := k.clock.Now()
	var held holding
	if class == providers.QuotaExceeded {
		held, _ = k.holding()
	}
	k.mu.Lock()
	changed := false
	switch class {
	case providers.QuotaExceeded, providers.OutOfStock:
		k.scarce, k.left = now, false
		if class == providers.QuotaExceeded {
			k.held = held
			k.room.refused(held, now)
			k.askFor = usagePause
		}
		changed = k.health.capacity.set(false, string(class), cut(fmt.Sprintf(
			"The cloud has refused a pod for want of room: %s.", clipped(err)), eventMessageLimit), now)
	case "":
		k.taken, k.left = now, false
		k.room.grow(now)
	}
	changed = k.assess(now) || changed
	k.mu.Unlock()
	if changed {
		k.look()
	}
}

// swept hears that the cloud's groups are known.
func (k *nodeKeeper) swept() {
	k.mu.Lock()
	first := k.asked.IsZero()
	k.mu.Unlock()
	if first {
		k.look()
	}
}

// measure reads the account's quota, where it is time, and tells whether what the
// node says of its capacity has changed. Until the cloud's groups are known, the node
// offers what it offered before.
func (k *nodeKeeper) measure(ctx context.Context) (changed bool) {
	k.readUsage(ctx)
	now := k.clock.Now()
	k.circuit.expire(now)
	k.metrics.held.Set(float64(k.circuit.waits()))
	held, known := k.holding()
	k.mu.Lock()
	defer k.mu.Unlock()
	if !known {
		return k.assess(now)
	}
	if b := k.room.bound; b != nil && now.Sub(b.at) >= k.cfg.CapacityPause {
		k.room.grow(now)
	}
	k.held = held
	changed = k.assess(now)
	next := k.room.allocatable(held)
	if now.Sub(k.shownAt) >= shownPause && worthShowing(k.health.allocatable, next, held) {
		k.health.allocatable, k.shownAt, changed = next, now, true
	}
	return changed
}

// readUsage asks for the quota once a minute, and soon after it was refused or is
// nearly used up.
func (k *nodeKeeper) readUsage(ctx context.Context) {
	reader, ok := k.provider.(providers.UsageReader)
	held, known := k.holding()
	now := k.clock.Now()
	k.mu.Lock()
	due := ok && known && k.reached && k.failed == 0 && (k.asked.IsZero() || now.Sub(k.asked) >= k.askFor)
	if due {
		k.asked = now
	}
	k.mu.Unlock()
	if !due {
		return
	}
	call, cancel := context.WithTimeout(ctx, k.cfg.CheckInterval)
	defer cancel()
	usage, err := reader.Usage(call)
	if ctx.Err() != nil {
		return
	}
	begun := now
	now = k.clock.Now()
	k.metrics.call("Usage", now.Sub(begun), err)

	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.askFor = usageInterval
		class := providers.ClassOf(err)
		refused := class == providers.Unauthorized || class == providers.Misconfigured
		if refused {
			k.askFor = usageRefused
		}
		if first := k.room.at.IsZero(); first || k.room.usage != nil && (refused || now.Sub(k.room.at) >= usageStale) {
			k.log.Warn("the account's quota cannot be read; the node's capacity follows what the cloud refuses", "again", k.askFor, "error", err)
			k.room.usage, k.room.at = nil, now
		}
		return
	}
	k.room.read(usage, held, now)
	k.askFor = usageInterval
	if k.room.exhausted(held) != "" {
		k.askFor = usagePause
	}
	k.circuit.relax(now, func(o *outage) bool {
		gone := o.class == providers.QuotaExceeded && k.room.knows() && o.misread < misreadings && o.last.Before(k.asked) && k.room.fits(o.size, held)
		if gone {
			o.misread++ // unless it is over now
		}
		return gone
	})
}

// assess says whether there is room in the cloud, and whether anything can start.
// The lock is held.
func (k *nodeKeeper) assess(now time.Time) (changed bool) {
	full := k.left
	set := func(reason, message string) {
		full, k.scarce = true, now
		changed = k.health.capacity.set(false, reason, cut(message, eventMessageLimit), now)
	}
	outages := k.circuit.state()
	var worst *outage
	if len(outages) > 0 && outages[0].window <= 1 {
		worst = &outages[0]
	}
	switch used := k.room.exhausted(k.held); {
	case worst != nil && !worst.wantOfRoom():
		set(string(worst.class), fmt.Sprintf("The cloud refuses every create since %s: %s. One pod at a time is tried, every %s at the latest.",
			clockTime(worst.since), clipped(worst.err), k.circuit.most))
	case used != "":
		set(string(providers.QuotaExceeded), used)
	default:
		full = full || worst != nil && k.stops(worst)
		changed = k.settleCapacity(len(outages) > 0, now)
	}
	if k.health.capacity.ok {
		k.left, full = false, false
	}
	if full != k.health.full {
		k.health.full, changed = full, true
	}
	return changed
}

// stops tells whether an outage for want of room stops every pod: not only those of
// larger sizes, nor where the account's quota is known to have some left.
func (k *nodeKeeper) stops(o *outage) bool {
	if o.class == providers.QuotaExceeded && k.room.knows() && o.misread < misreadings {
		return false
	}
	return atMost(o.size, k.room.usual)
}

// settleCapacity says that the cloud has room again when it has refused no pod for
// some time. A pod that it accepts makes that shorter but not nil: a shortage of one
// size of machines lets the others pass, and the node's word is not to change with
// each pod; and so does a quota that is seen to have some left. refuses tells of pods
// that still meet a refusal. The lock is held.
func (k *nodeKeeper) settleCapacity(refuses bool, now time.Time) (changed bool) {
	if k.health.capacity.ok {
		return false
	}
	quiet := now.Sub(k.scarce)
	switch {
	case quiet >= k.cfg.CapacityPause:
		return k.health.capacity.set(true, "NoRefusal", "The cloud has refused no pod for want of room lately.", now)
	case k.taken.After(k.scarce) && quiet >= k.cfg.CapacityPause/4:
		return k.health.capacity.set(true, "NoRefusal", "The cloud has accepted the last pod.", now)
	case !refuses && k.health.capacity.reason == string(providers.QuotaExceeded) && k.room.usage != nil && quiet >= k.cfg.CapacityPause/4:
		return k.health.capacity.set(true, "QuotaLeft", "The account has quota left.", now)
	}
	return false
}
