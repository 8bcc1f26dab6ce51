package vnode

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	// wantedFor is how long after measurements were last read they are still asked
	// for: some periods of whatever reads them.
	wantedFor = 3 * time.Minute
	// measuring is how many calls for measurements may be under way at once.
	measuring = 4
	// measurePause is the shortest time between two looks at what is due: it goes
	// through all pods.
	measurePause = time.Second
	// measureRefused is for how long the cloud is left alone after it has refused to
	// tell.
	measureRefused = 5 * time.Minute
)

// measurer keeps what the pods' containers use, as far as the cloud tells. It asks
// only while somebody reads it, and nobody who reads waits for the cloud.
//
// The counters that it shows do not go back: a counter that was begun anew has a
// later start.
type measurer struct {
	reader  providers.ConsumptionReader // nil where the cloud tells nothing
	terms   providers.ConsumptionTerms
	pods    func() []measurable
	timeout time.Duration
	clock   clock.WithTicker
	log     *slog.Logger
	metrics *Metrics
	// recovered must be deferred; see [reconciler.recovered].
	recovered func(what, which string, err *error)
	kick      chan struct{}

	mu    sync.Mutex
	begun time.Time // when this term's first measurement was asked for
	read  time.Time // when somebody last read
	known map[types.UID]*podMeasure
	node  counter
	// failed is the error of the last call, rest until when no call is made.
	failed error
	rest   time.Time
}

// measurable is a pod that has a group, and the starts of its containers that run.
type measurable struct {
	pod     *corev1.Pod
	id      string
	started map[string]time.Time
}

// podMeasure is what is known of one pod's group.
type podMeasure struct {
	asked      time.Time // when it was last asked for
	busy       bool
	containers map[string]sample
	total      counter // of all containers, over all their runs
}

// counter is CPU time in nanoseconds that only grows.
type counter struct {
	at    time.Time
	total uint64
	known bool
}

// sample is the last measurement of a container.
type sample struct {
	providers.ContainerConsumption
	// run is when the container's run began that it is of, and since when its counter
	// was zero: a counter may have been begun anew within a run.
	run, since time.Time
}

func newMeasurer(cfg Config, provider providers.Provider, r *reconciler) *measurer {
	m := &measurer{
		pods: r.measurable, timeout: cfg.CallTimeout, clock: r.clock, log: r.log, metrics: r.metrics, recovered: r.recovered,
		kick: make(chan struct{}, 1), known: map[types.UID]*podMeasure{},
	}
	if reader, ok := provider.(providers.ConsumptionReader); ok {
		m.reader, m.terms = reader, reader.ConsumptionTerms()
	}
	return m
}

// measurable are the pods of which a container runs.
func (r *reconciler) measurable() []measurable {
	var list []measurable
	for _, pod := range r.pods.list() {
		pod, id := r.groupOf(pod.UID)
		if pod == nil || id == "" || terminal(pod) {
			continue
		}
		started := map[string]time.Time{}
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, s := range statuses {
				if s.State.Running != nil {
					started[s.Name] = s.State.Running.StartedAt.Time
				}
			}
		}
		if len(started) > 0 {
			list = append(list, measurable{pod, id, started})
		}
	}
	return list
}

// wanted notes that somebody reads the measurements.
func (m *measurer) wanted() {
	now := m.clock.Now()
	m.mu.Lock()
	m.read = now
	if m.begun.IsZero() {
		m.begun = now
	}
	m.mu.Unlock()
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// run asks for measurements until ctx ends.
func (m *measurer) run(ctx context.Context) {
	if m.reader == nil {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	free := make(chan struct{}, measuring)
	budget := &allowance{rate: m.terms.PerSecond, saved: readBurst}
	for {
		now := m.clock.Now()
		batches, wait := m.due(now)
		for _, batch := range batches {
			if !budget.take(now) {
				wait = max(budget.next(now), measurePause)
				break
			}
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				return
			}
			m.asking(batch, now)
			wg.Go(func() {
				// A read changes nothing: it ends when the agent does.
				call, cancel := context.WithTimeout(ctx, m.timeout)
				err := m.ask(call, batch)
				cancel()
				if ctx.Err() == nil {
					budget.failed(m.clock.Now(), err)
				}
				<-free
			})
		}
		// While nobody reads, there is nothing to wait for but a reader.
		var alarm <-chan time.Time
		stop := func() bool { return true }
		if wait > 0 {
			timer := m.clock.NewTimer(max(wait, measurePause))
			alarm, stop = timer.C(), timer.Stop
		}
		select {
		case <-ctx.Done():
		case <-alarm:
		case <-m.kick:
		}
		stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// due returns the groups to be asked for now, by calls, the longest known first, and
// how long it takes until there are others; zero while nobody reads.
func (m *measurer) due(now time.Time) (batches [][]measurable, wait time.Duration) {
	m.mu.Lock()
	reads := !m.read.IsZero() && now.Sub(m.read) < wantedFor
	rest := m.rest.Sub(now)
	m.mu.Unlock()
	if !reads {
		return nil, 0
	}
	if rest > 0 {
		return nil, rest
	}
	pods := m.pods()
	m.mu.Lock()
	defer m.mu.Unlock()
	present := make(map[types.UID]bool, len(pods))
	for _, p := range pods {
		present[p.pod.UID] = true
		if m.known[p.pod.UID] == nil {
			m.known[p.pod.UID] = &podMeasure{containers: map[string]sample{}}
		}
	}
	for uid := range m.known {
		if !present[uid] {
			delete(m.known, uid)
		}
	}
	wait = m.terms.Every
	// Calls that tell of many groups are kept full: whoever is due soon goes along.
	soon, late := m.terms.Every, false
	if m.terms.Batch > 1 {
		soon = m.terms.Every * 2 / 3
	}
	pods = slices.DeleteFunc(pods, func(p measurable) bool {
		k := m.known[p.pod.UID]
		if k.busy {
			return true
		}
		since := now.Sub(k.asked)
		late = late || since >= m.terms.Every
		if since < m.terms.Every {
			wait = min(wait, m.terms.Every-since)
		}
		return since < soon
	})
	if !late {
		return nil, wait
	}
	slices.SortFunc(pods, func(a, b measurable) int {
		return cmp.Or(m.known[a.pod.UID].asked.Compare(m.known[b.pod.UID].asked), cmp.Compare(a.id, b.id))
	})
	return slices.Collect(slices.Chunk(pods, m.terms.Batch)), wait
}

func (m *measurer) asking(batch []measurable, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range batch {
		if k := m.known[p.pod.UID]; k != nil {
			k.asked, k.busy = now, true
		}
	}
}

// ask makes one call.
func (m *measurer) ask(ctx context.Context, batch []measurable) (err error) {
	defer m.recovered("a measurement", batch[0].id, &err)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		for _, p := range batch {
			if k := m.known[p.pod.UID]; k != nil {
				k.busy = false
			}
		}
	}()
	ids := make([]string, len(batch))
	for i, p := range batch {
		ids[i] = p.id
	}
	begun := m.clock.Now()
	told, err := m.reader.Consumption(ctx, ids)
	now := m.clock.Now()
	if ctx.Err() == nil {
		m.metrics.call("Consumption", now.Sub(begun), ignoreNotFound(err))
		m.note(err, now)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range batch {
		if k := m.known[p.pod.UID]; k != nil {
			m.take(k, p.started, told[p.id])
		}
	}
	return err
}

// note follows how the calls end, and tells of it when that changes.
func (m *measurer) note(err error, now time.Time) {
	if _, postponed := quota.Postponed(err); postponed {
		return // no call was made
	}
	if providers.ClassOf(err) == providers.NotFound {
		err = nil // a group that has just gone
	}
	m.mu.Lock()
	before := m.failed
	m.failed = err
	class := providers.ClassOf(err)
	if class == providers.Unauthorized || class == providers.Misconfigured {
		m.rest = now.Add(measureRefused)
	}
	m.mu.Unlock()
	switch {
	case err != nil && class != providers.ClassOf(before):
		m.log.Warn("the cloud does not tell what containers use; metrics of pods are missing or get old", "error", err)
	case err == nil && before != nil:
		m.log.Info("the cloud tells what containers use again")
	}
}

// take takes in what the cloud tells of a pod's containers. The lock is held.
func (m *measurer) take(k *podMeasure, started map[string]time.Time, told []providers.ContainerConsumption) {
	for _, c := range told {
		run, runs := started[c.Name]
		last, seen := k.containers[c.Name]
		if !runs || c.At.Before(run) || seen && !c.At.After(last.At) {
			continue // of an earlier run, or known
		}
		s := sample{ContainerConsumption: c, run: run, since: c.Since}
		if s.since.IsZero() {
			s.since = run
		}
		if seen && last.run.Equal(run) {
			s.since = later(s.since, last.since)
			if decreased(last.CPUNanoseconds, c.CPUNanoseconds) && s.since.Equal(last.since) {
				// It was restarted after that, and nobody knows yet.
				s.since = last.At.Add(time.Millisecond)
			}
		}
		k.containers[c.Name] = s
		if c.CPUNanoseconds == nil {
			continue
		}
		grown := *c.CPUNanoseconds
		if seen && last.CPUNanoseconds != nil && s.since.Equal(last.since) {
			grown -= *last.CPUNanoseconds
		}
		k.total.add(c.At, grown)
		// What a container used that was not looked at then, is none of what the node
		// used since.
		if !seen && m.node.known && s.since.Before(m.begun) {
			grown = 0
		}
		m.node.add(c.At, grown)
	}
}

func decreased(before, after *uint64) bool {
	return before != nil && after != nil && *after < *before
}

func (c *counter) add(at time.Time, grown uint64) {
	c.at, c.total, c.known = later(c.at, at), c.total+grown, true
}

// measured is a pod with what is known of it at one time.
type measured struct {
	measurable
	// containers are the measurements of those that run, not older than the terms
	// allow; told names those of whose present run there ever was one.
	containers map[string]sample
	told       map[string]bool
	// total is of the pod as a whole, and whole whether there ever was a measurement
	// of each container that runs.
	total counter
	whole bool
}

// snapshot is what is known of all pods and of the node, and since when.
func (m *measurer) snapshot() (pods []measured, node counter, begun time.Time) {
	now := m.clock.Now()
	running := m.pods()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range running {
		view := measured{measurable: p, containers: map[string]sample{}, told: map[string]bool{}}
		if k := m.known[p.pod.UID]; k != nil {
			view.total, view.whole = k.total, now.Sub(k.total.at) <= m.terms.Fresh
			for name, run := range p.started {
				s, seen := k.containers[name]
				view.whole = view.whole && seen && s.CPUNanoseconds != nil
				if seen && s.run.Equal(run) {
					view.told[name] = true
					if now.Sub(s.At) <= m.terms.Fresh {
						view.containers[name] = s
					}
				}
			}
		}
		pods = append(pods, view)
	}
	slices.SortFunc(pods, func(a, b measured) int {
		return cmp.Or(cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	node = m.node
	node.known = node.known && now.Sub(node.at) <= m.terms.Fresh
	return pods, node, m.begun
}
