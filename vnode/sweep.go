package vnode

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

const (
	// overlap is how much further back than the last answer a look at the changes
	// goes: a cloud may learn of a change a little later than it happened.
	overlap = 30 * time.Second
	// fullPass is how often every pod is looked at although nothing changed.
	fullPass = 5 * time.Minute
	// listShare is how far apart complete listings are for each group there is,
	// where changes are told: with 200 groups a page, half a call a second.
	listShare = 10 * time.Millisecond
	// lookShare is how far apart looks at the changes are for each group there is,
	// while few of them change: with 1,000 groups, one in four seconds.
	lookShare = 4 * time.Millisecond
)

// sweepLoop compares wanted with existing until ctx ends.
func (r *reconciler) sweepLoop(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), r.pods.synced) {
		return
	}
	failures := 0
	for {
		begun := r.clock.Now()
		err := r.lookOnce(ctx, begun)
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
		timer = r.clock.NewTimer(min(r.nextLook(took), wait))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// sweepSoon asks for a complete listing before its time.
func (r *reconciler) sweepSoon() {
	r.whole.Store(true)
	r.lookSoon()
}

// lookSoon asks for a look at the cloud before its time, at the changes if that
// is enough.
func (r *reconciler) lookSoon() {
	if r.lister == nil {
		r.whole.Store(true)
	}
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// lookOnce lists the cloud, or asks what has changed where the cloud tells and
// nothing needs a complete listing.
func (r *reconciler) lookOnce(ctx context.Context, begun time.Time) (err error) {
	asked := r.whole.Swap(false)
	defer func() {
		if err != nil && asked {
			r.whole.Store(true)
		}
	}()
	defer r.recovered("the cloud's answer", "", &err)
	if r.lister != nil && r.adopted.Load() && !asked && !r.listDue(begun) {
		return r.catchUp(ctx, begun)
	}
	return r.sweep(ctx)
}

// listDue tells whether a complete listing is due where changes are told. Only
// that shows what is gone, so it is sooner while groups are being deleted.
func (r *reconciler) listDue(now time.Time) bool {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	most := max(2*r.cfg.SweepInterval, time.Duration(l.known)*listShare)
	switch {
	case l.ending*10 >= l.known && l.ending > 0:
		most = r.cfg.FastInterval
	case l.ending > 0:
		most = max(r.cfg.FastInterval, time.Duration(l.known)*listShare/2)
	}
	return now.Sub(l.listed) >= most
}

// nextSweep is sooner while groups change, and never takes more than a tenth of
// the time.
func (r *reconciler) nextSweep(took time.Duration) time.Duration {
	fast := r.nextLook(took)
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.carriesStatus && l.lively+l.ending > 0:
		return fast
	case r.lister != nil:
		return max(fast, r.cfg.SweepInterval/2)
	case !l.carriesStatus && l.lively > fewStarting:
		// One listing shows which of them have come up.
		return fast
	}
	return max(r.cfg.SweepInterval, min(10*took, fullPass))
}

// nextLook is the time to the next look at the cloud while groups change. Where
// changes are told and few of many groups change, each look finds one or two, which
// then must be read: a little patience finds more at the same price.
func (r *reconciler) nextLook(took time.Duration) time.Duration {
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(r.clock.Now())
	fast := max(r.cfg.FastInterval, 10*took)
	if r.lister != nil && (l.lively+l.ending)*10 < l.known {
		fast = max(fast, time.Duration(l.known)*lookShare)
	}
	return min(r.cfg.SweepInterval, fast)
}

// fewStarting is how many groups may start without a listing being the cheaper way
// to follow them.
const fewStarting = 4

// catchUp takes in what has changed since the last answer.
func (r *reconciler) catchUp(ctx context.Context, begun time.Time) error {
	call, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	told, err := r.lister.Changes(call, begun.Sub(r.covered)+overlap)
	now := r.clock.Now()
	r.heard("Changes", now.Sub(begun), err)
	if err != nil {
		return err // the next look goes as much further back
	}
	for _, uid := range r.ledger.take(begun, now, r.owned(told)...) {
		r.queue.Add(uid)
	}
	r.covered = begun
	return nil
}

// sweep lists the cloud and has every pod looked at whose group differs from what
// was known; from time to time, every pod.
func (r *reconciler) sweep(ctx context.Context) error {
	call, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	begun := r.clock.Now()
	listed, err := r.provider.List(call)
	now := r.clock.Now()
	r.heard("List", now.Sub(begun), err)
	if err != nil {
		return err
	}
	changed := r.ledger.observe(begun, now, r.owned(listed))
	r.covered = begun
	first := !r.adopted.Swap(true)
	for _, uid := range changed {
		r.queue.Add(uid)
	}
	if first || now.Sub(r.full) >= fullPass {
		r.full = now
		r.lookAtAll(first)
	}
	r.readSoon()
	r.measure(begun, now)
	return nil
}

// lookAtAll queues every pod and every group, bit by bit unless at once.
func (r *reconciler) lookAtAll(atOnce bool) {
	queued := map[types.UID]bool{}
	for _, uid := range r.ledger.all() {
		queued[uid] = true
	}
	for _, pod := range r.pods.list() {
		queued[pod.UID] = true
	}
	for uid := range queued {
		if atOnce {
			r.queue.Add(uid)
		} else {
			r.queue.AddAfter(uid, share(uid, fullPass/2))
		}
	}
}

// owned leaves out what is not this node's.
func (r *reconciler) owned(listed []providers.Group) []providers.Group {
	groups := make([]providers.Group, 0, len(listed))
	for _, g := range listed {
		if !r.owns(g) {
			r.log.Warn("a listed group is not this node's and is left alone", "group", g.ID)
			continue
		}
		groups = append(groups, g)
	}
	return groups
}

// measure sets the figures of a sweep.
func (r *reconciler) measure(begun, now time.Time) {
	caps := r.provider.Capabilities()
	groups := map[string]int{}
	var sold burstable.Size
	r.ledger.mu.Lock()
	for uid, rec := range r.ledger.records {
		for _, s := range rec.groups {
			phase := phaseUnknown
			var size burstable.Size
			if told := s.group.Status; told != nil {
				phase = string(told.Phase)
				size.MilliCPU, size.MemoryBytes = told.CPUMillis, told.MemoryBytes
			}
			groups[phase]++
			if phase == string(providers.GroupSucceeded) || phase == string(providers.GroupFailed) {
				continue // it is charged for no more
			}
			if pod := r.pods.byUID(uid); pod != nil && (size.MilliCPU == 0 || size.MemoryBytes == 0) {
				size = burstable.SoldSize(&pod.Spec, &caps)
			}
			sold.MilliCPU += size.MilliCPU
			sold.MemoryBytes += size.MemoryBytes
		}
	}
	r.metrics.unsettled.Set(float64(r.ledger.busy))
	r.ledger.mu.Unlock()
	pods := map[string]int{}
	for _, pod := range r.pods.list() {
		pods[string(pod.Status.Phase)]++
	}
	show(r.metrics.groups, groupPhases, groups)
	show(r.metrics.pods, podPhases, pods)
	r.metrics.cores.Set(float64(sold.MilliCPU) / 1000)
	r.metrics.memory.Set(float64(sold.MemoryBytes))
	r.countOrphans()
	r.metrics.sweep.Observe(r.clock.Since(begun).Seconds())
	r.metrics.sweepTime.Set(float64(now.Unix()))
}

// show sets a gauge for each of the labels to its count.
func show(gauge *prometheus.GaugeVec, labels []string, counts map[string]int) {
	for _, label := range labels {
		gauge.WithLabelValues(label).Set(float64(counts[label]))
	}
}
