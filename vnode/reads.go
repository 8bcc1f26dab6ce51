package vnode

import (
	"cmp"
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/providers"
)

const (
	// readers is how many planned reads may be under way at once.
	readers = 16
	// readBurst is how much of the planned reads may be saved for a rush.
	readBurst = 5 * time.Second
	// readPause is the shortest time between two looks at what is due: it goes
	// through all groups.
	readPause = 250 * time.Millisecond
)

// steer notes, from the status that the pod is given, how soon its group is read
// again. fresh is whether that status comes from the group.
func (r *reconciler) steer(uid types.UID, pod *corev1.Pod, st *corev1.PodStatus, s sighting, fresh bool) {
	now := r.clock.Now()
	done := st.Phase == corev1.PodSucceeded || st.Phase == corev1.PodFailed
	next := unread
	switch {
	case done:
	case !settled(st):
		next = starting
	case pod.Spec.RestartPolicy == corev1.RestartPolicyAlways:
		next = serving
	default:
		next = finishing
	}
	r.ledger.mu.Lock()
	rec := r.ledger.get(uid, now)
	rec.busy = next == starting
	c := &rec.course
	changed := lastChange(st)
	if fresh {
		switch {
		case c.stage == starting && (next == serving || next == finishing) && s.group.CreatedAt.After(rec.since):
			r.ledger.spans.learn(startOf, changed.Sub(s.group.CreatedAt))
		case c.stage == finishing && done:
			r.ledger.spans.learn(c.owner, ranFor(st))
		}
	}
	if pod.Status.Phase == corev1.PodPending && c.stage != serving && c.stage != finishing {
		rec.young = true
	}
	bound := boundAt(pod)
	began := next != starting && rec.young && !done && !bound.IsZero()
	rec.young = rec.young && next == starting
	restarted := slices.ContainsFunc(st.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.RestartCount > 0 })
	owner := ""
	if next == finishing {
		owner = kin(pod)
	}
	c.enter(next, owner, changed)
	c.restarted = restarted
	carries := r.ledger.carriesStatus
	r.ledger.mu.Unlock()
	if began {
		r.metrics.startup.Observe(max(0, changed.Sub(bound)).Seconds())
		r.traceStart(pod, s.group.ID, bound, changed)
	}
	if !carries {
		r.readSoon()
	}
}

// boundAt is when a pod was bound to its node, zero if nobody has said so.
func boundAt(pod *corev1.Pod) time.Time {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionTrue {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// readSoon has the plan of reads looked at.
func (r *reconciler) readSoon() {
	select {
	case r.readKick <- struct{}{}:
	default:
	}
}

// readLoop reads groups whose status the listing does not carry, as soon as they
// are due and within the planned reads per second, until ctx ends.
func (r *reconciler) readLoop(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, readers)
	budget := &allowance{rate: r.cfg.ReadsPerSecond, saved: readBurst}
	turn := 0
	for {
		now := r.clock.Now()
		due, wait := r.due(now)
		for _, d := range inTurns(due, turn) {
			if !budget.take(now) {
				wait = min(wait, budget.next(now))
				break
			}
			turn++
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			r.reading(d.uid, true)
			wg.Go(func() {
				// A read changes nothing: it ends when the agent does.
				call, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
				err := r.readPlanned(call, d)
				cancel()
				if err != nil {
					r.putOff(d.uid, time.Time{}, r.cfg.RetryBase)
				}
				budget.failed(r.clock.Now(), err)
				<-free
				r.readSoon()
			})
		}
		timer := r.clock.NewTimer(max(wait, readPause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
			continue
		case <-r.readKick:
			timer.Stop()
		}
		timer = r.clock.NewTimer(readPause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}

// dueRead is a group whose read is due; late is by how much, in terms of how long
// it was to wait.
type dueRead struct {
	uid    types.UID
	id     string
	late   float64
	starts bool
}

// inTurns puts the groups in the order in which they are read. Those that start,
// and were not seen to change, leave one turn in eight to all others, so that a
// burst of thousands does not hide what happens to those that run. turn is how
// many were read before.
func inTurns(due []dueRead, turn int) []dueRead {
	next := func(from int, starts bool) int {
		for from < len(due) && due[from].starts != starts {
			from++
		}
		return from
	}
	order := make([]dueRead, 0, len(due))
	starting, other := next(0, true), next(0, false)
	for ; len(order) < len(due); turn++ {
		if starting < len(due) && (other == len(due) || turn%8 != 0 && due[other].late < due[starting].late) {
			order = append(order, due[starting])
			starting = next(starting+1, true)
		} else {
			order = append(order, due[other])
			other = next(other+1, false)
		}
	}
	return order
}

// due returns the groups to be read now, the latest first, and how long it takes
// until the next one is.
func (r *reconciler) due(now time.Time) ([]dueRead, time.Duration) {
	wait := time.Minute
	if !r.adopted.Load() {
		return nil, min(wait, r.cfg.FastInterval)
	}
	l := r.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.carriesStatus {
		return nil, wait
	}
	var list []dueRead
	for uid, rec := range l.records {
		c := &rec.course
		if c.stage == unread || c.reading || len(rec.groups) == 0 {
			continue
		}
		s := rec.primary()
		w := c.wait(r.cfg.FastInterval, l.spans)
		last := c.readAt
		if last.IsZero() {
			// Not read yet by this run of the agent.
			switch last = later(s.added, rec.since); c.stage {
			case starting:
				if s.group.CreatedAt.Before(rec.since) {
					last = last.Add(-w) // it is an earlier run's: at once
				}
			case serving, finishing, checking:
				last = last.Add(-share(uid, w)) // not all at once
			}
		}
		at := last.Add(w)
		if c.hurry {
			at = now
		}
		if at.Before(c.notBefore) {
			at = c.notBefore
		}
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			continue
		}
		late := float64(now.Sub(last)) / float64(w)
		if c.hurry {
			late += 1e6
		}
		list = append(list, dueRead{uid, s.group.ID, late, c.stage == starting && !c.hurry})
	}
	slices.SortFunc(list, func(a, b dueRead) int {
		return cmp.Compare(b.late, a.late)
	})
	return list, wait
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// share is a part of d that is the same for a UID each time.
func share(uid types.UID, d time.Duration) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(uid))
	return time.Duration(float64(h.Sum32()) / (1 << 32) * float64(d))
}

func (r *reconciler) reading(uid types.UID, is bool) {
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	if rec, ok := r.ledger.records[uid]; ok {
		rec.course.reading = is
		if is {
			rec.course.hurry = false
		}
	}
}

// readPlanned reads one group and has its pod looked at if that tells something
// new.
func (r *reconciler) readPlanned(ctx context.Context, d dueRead) (err error) {
	defer r.reading(d.uid, false)
	defer r.recovered("the cloud's answer", string(d.uid), &err)
	begun := r.clock.Now()
	g, err := r.provider.Get(ctx, d.id)
	now := r.clock.Now()
	r.heard("Get", now.Sub(begun), ignoreNotFound(err))
	switch {
	case providers.ClassOf(err) == providers.NotFound:
		// One answer is no proof: a listing is asked, and then the group again.
		r.putOff(d.uid, begun, 0)
		r.sweepSoon()
		return nil
	case err != nil:
		return err
	case !r.owns(*g) || g.Owner.PodUID != string(d.uid):
		r.putOff(d.uid, time.Time{}, r.cfg.RetryMax)
		r.log.Warn("the cloud answered with another pod's group", "group", d.id, "uid", d.uid)
		return nil
	}
	r.putOff(d.uid, begun, 0)
	for _, uid := range r.ledger.take(begun, now, *g) {
		r.queue.Add(uid)
	}
	return nil
}

// putOff notes that a read was answered at a time, or that it failed and waits
// ever longer.
func (r *reconciler) putOff(uid types.UID, readAt time.Time, base time.Duration) {
	now := r.clock.Now()
	r.ledger.mu.Lock()
	defer r.ledger.mu.Unlock()
	rec, ok := r.ledger.records[uid]
	if !ok {
		return
	}
	c := &rec.course
	if base == 0 {
		c.failures, c.notBefore = 0, time.Time{}
		if readAt.After(c.readAt) {
			c.readAt = readAt
		}
		return
	}
	c.notBefore = now.Add(min(r.cfg.RetryMax, base<<min(c.failures, 10)))
	c.failures++
}

// allowance is a number of calls per second, of which some may be saved.
type allowance struct {
	rate  float64
	saved time.Duration

	mu   sync.Mutex
	left float64
	at   time.Time // for which left is right; nothing is added before
}

func (a *allowance) fill(now time.Time) {
	most := max(1, a.rate*a.saved.Seconds())
	switch {
	case a.at.IsZero():
		a.left = most
	case now.After(a.at):
		a.left = min(most, a.left+now.Sub(a.at).Seconds()*a.rate)
	default:
		return
	}
	a.at = now
}

// take takes one call, if one is left.
func (a *allowance) take(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fill(now); a.left < 1 {
		return false
	}
	a.left--
	return true
}

// next is how long it takes until one is left.
func (a *allowance) next(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.at.Add(time.Duration((1 - a.left) / a.rate * float64(time.Second))).Sub(now)
}

// failed heeds the wait that a cloud asks for.
func (a *allowance) failed(now time.Time, err error) {
	var e *providers.Error
	if !errors.As(err, &e) || e.Class != providers.Throttled {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left, a.at = 0, later(a.at, now.Add(max(e.RetryAfter, time.Second)))
}
