package sim

import (
	"container/heap"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// The errors of operations on a group; test with errors.Is.
var (
	// ErrPhase says that the group's phase does not allow the operation.
	ErrPhase = errors.New("not allowed in the group's phase")
	// ErrBusy says that an earlier operation on the group is still at work.
	ErrBusy = errors.New("an earlier operation is still at work")
	// ErrNoContainer says that the group has no such container.
	ErrNoContainer = errors.New("no such container")
	// ErrNotRunning says that the container has no process.
	ErrNotRunning = errors.New("container is not running")
)

// Group is one container group. It is safe for concurrent use.
type Group struct {
	fleet   *Fleet
	id      string
	created time.Time
	done    chan struct{} // closed when deleted

	mu        sync.Mutex
	abandoned bool // the fleet is closed: nothing happens any more
	spec      Spec
	phase     Phase
	reason    string
	message   string
	scheduled time.Time
	started   time.Time
	finished  time.Time
	changed   time.Time
	restarts  int
	inits     []*container
	apps      []*container
	events    []Event
	pulled    map[string]bool // images that the machine has
	bill      *BillingEntry
	stopped   func(now time.Time) // called once no process is left, while stopping
	grace     time.Duration       // of each process, while stopping
	repairing bool                // lost its machine and does not run again yet
	machine   *runc.Sandbox       // of containers that really run; nil without any
	era       int                 // changes when what is planned is dropped

	queue    taskQueue
	sequence int
	reminded time.Time // the driver will come at this time; zero if not
}

func newGroup(f *Fleet, s Spec) *Group {
	now := f.clock.Now()
	g := &Group{
		fleet: f, id: s.ID, created: now, done: make(chan struct{}),
		spec: s, phase: Scheduling, changed: now, pulled: s.onMachine(),
	}
	g.makeContainers()
	return g
}

func (g *Group) makeContainers() {
	g.inits = newContainers(g.spec.InitContainers, true, "PodInitializing")
	waiting := "ContainerCreating"
	if len(g.inits) > 0 {
		waiting = "PodInitializing"
	}
	g.apps = newContainers(g.spec.Containers, false, waiting)
}

// ID is the group's id.
func (g *Group) ID() string { return g.id }

// Created is when the group was accepted.
func (g *Group) Created() time.Time { return g.created }

// Done is closed when the group is deleted.
func (g *Group) Done() <-chan struct{} { return g.done }

// Phase is the group's present phase.
func (g *Group) Phase() Phase {
	g.lock()
	defer g.unlock()
	return g.phase
}

// Progress is the present phase, the time of the last change, and the time at
// which an ended phase was reached (zero before). It is a cheap part of Snapshot.
func (g *Group) Progress() (p Phase, changed, finished time.Time) {
	g.lock()
	defer g.unlock()
	return g.phase, g.changed, g.finished
}

// Snapshot is the group's present state, sharing nothing with it.
func (g *Group) Snapshot() State {
	g.lock()
	defer g.unlock()
	return State{
		Spec: g.spec.clone(), Phase: g.phase, Reason: g.reason, Message: g.message,
		Created: g.created, Scheduled: g.scheduled, Started: g.started,
		Finished: g.finished, Changed: g.changed, Restarts: g.restarts, Repairing: g.repairing,
		InitContainers: containerStates(g.inits), Containers: containerStates(g.apps),
		Events: slices.Clone(g.events),
	}
}

// Tags are the tags of the group.
func (g *Group) Tags() map[string]string {
	g.lock()
	defer g.unlock()
	return maps.Clone(g.spec.Tags)
}

// SetTags replaces the group's tags. The billing record keeps the old ones.
func (g *Group) SetTags(tags map[string]string) {
	g.lock()
	defer g.unlock()
	g.spec.Tags = maps.Clone(tags)
	g.touch(g.fleet.clock.Now())
}

// Exit ends the process of a running container with an exit code, as if it had
// ended by itself.
func (g *Group) Exit(name string, code int) error {
	return g.End(name, Termination{ExitCode: code})
}

// Termination is how a process ended.
type Termination struct {
	ExitCode, Signal int
	// Reason is empty for Completed or Error by the exit code; OOMKilled is another.
	Reason, Message string
}

// End ends the process of a running container in the given way.
func (g *Group) End(name string, t Termination) error {
	g.lock()
	defer g.unlock()
	c, err := g.container(name)
	if err != nil {
		return err
	}
	if c.current.Run != Processing {
		return fmt.Errorf("end container %s of %s: %w", name, g.id, ErrNotRunning)
	}
	g.exited(g.fleet.clock.Now(), c, t)
	return nil
}

// Restart stops all processes, waiting up to grace for each, and starts the
// group's containers again in place, init containers first. It needs a Pending
// or Running group.
func (g *Group) Restart(grace time.Duration) error {
	g.lock()
	defer g.unlock()
	if g.phase == Restarting || g.phase == Stopping || g.phase == Terminating {
		return fmt.Errorf("restart %s, which is %s: %w", g.id, g.phase, ErrBusy)
	}
	if g.phase != Pending && g.phase != Running {
		return fmt.Errorf("restart %s, which is %s: %w", g.id, g.phase, ErrPhase)
	}
	g.restart(grace, nil)
	return nil
}

// Replace gives the group another definition of the same id. The containers of
// a living group are restarted in place as by Restart; an ended or stopped
// group is deployed anew.
func (g *Group) Replace(s Spec, grace time.Duration) error { return g.replace(s, grace, true) }

// Update is Replace for a living group only. An ended one stays as it is.
func (g *Group) Update(s Spec, grace time.Duration) error { return g.replace(s, grace, false) }

func (g *Group) replace(s Spec, grace time.Duration, ended bool) error {
	if err := s.validate(); err != nil {
		return err
	}
	if s.ID != g.id {
		return fmt.Errorf("replace container group %s by %s: the ids differ", g.id, s.ID)
	}
	s = s.clone()
	g.lock()
	defer g.unlock()
	switch {
	case g.phase == Deleted, g.phase.Ended() && !ended:
		return fmt.Errorf("replace %s, which is %s: %w", g.id, g.phase, ErrPhase)
	case g.phase.Ended():
		g.spec = s
		g.deploy(g.fleet.clock.Now())
	case g.phase == Pending || g.phase == Running:
		g.restart(grace, &s)
	default:
		return fmt.Errorf("replace %s, which is %s: %w", g.id, g.phase, ErrBusy)
	}
	return nil
}

// Stop stops all processes, waiting up to grace for each; the group becomes
// Stopped and is not billed any more. Stopping an ended group only changes its
// phase.
func (g *Group) Stop(grace time.Duration) error {
	g.lock()
	defer g.unlock()
	switch g.phase {
	case Stopped:
		return nil
	case Stopping, Restarting, Terminating:
		return fmt.Errorf("stop %s, which is %s: %w", g.id, g.phase, ErrBusy)
	case Deleted:
		return fmt.Errorf("stop %s, which is %s: %w", g.id, g.phase, ErrPhase)
	}
	g.wind(g.fleet.clock.Now(), Stopping, grace, func(now time.Time) {
		g.after(now, g.fleet.cfg.Timing.Stop, func(now time.Time) { g.finish(now, Stopped) })
	})
	return nil
}

// Start deploys a stopped or ended group anew. Starting a living group does
// nothing and reports false.
func (g *Group) Start() (bool, error) {
	g.lock()
	defer g.unlock()
	switch {
	case g.phase == Stopping || g.phase == Terminating:
		return false, fmt.Errorf("start %s, which is %s: %w", g.id, g.phase, ErrBusy)
	case g.phase == Deleted:
		return false, fmt.Errorf("start %s, which is %s: %w", g.id, g.phase, ErrPhase)
	case !g.phase.Ended():
		return false, nil
	}
	g.deploy(g.fleet.clock.Now())
	return true, nil
}

// Delete stops all processes, waiting up to grace for each, and removes the
// group. It returns at once; Done says when it is gone. Without grace the
// processes are killed.
func (g *Group) Delete(grace time.Duration) error {
	g.lock()
	defer g.unlock()
	switch g.phase {
	case Terminating, Stopping, Restarting:
		return fmt.Errorf("delete %s, which is %s: %w", g.id, g.phase, ErrBusy)
	case Deleted:
		return fmt.Errorf("delete %s, which is %s: %w", g.id, g.phase, ErrPhase)
	}
	g.wind(g.fleet.clock.Now(), Terminating, grace, func(now time.Time) {
		g.after(now, g.fleet.cfg.Timing.Stop, g.remove)
	})
	return nil
}

// Remove makes the group vanish at once, as a record that is no longer kept
// does. Processes are killed.
func (g *Group) Remove() {
	g.lock()
	defer g.unlock()
	if g.phase == Deleted {
		return
	}
	g.remove(g.fleet.clock.Now())
}

// Expire takes the group's machine away, as the end of a spot instance or an
// overdue payment does.
func (g *Group) Expire(reason, message string) error {
	g.lock()
	defer g.unlock()
	if g.phase.Ended() || g.phase == Terminating {
		return fmt.Errorf("expire %s, which is %s: %w", g.id, g.phase, ErrPhase)
	}
	g.terminateAs(g.fleet.clock.Now(), Expired, reason, message)
	return nil
}

// AddEvent records an event of the service, such as SpotToBeReleased.
func (g *Group) AddEvent(kind, reason, message string) {
	g.lock()
	defer g.unlock()
	g.event(g.fleet.clock.Now(), kind, reason, message, "")
}

// begin starts the group's life.
func (g *Group) begin() {
	g.lock()
	defer g.unlock()
	g.schedule(g.created)
}

// abandon freezes the group and kills its real processes.
func (g *Group) abandon() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.abandoned {
		return
	}
	g.abandoned = true
	g.queue = nil
	for _, c := range g.all() {
		c.logs.detachAll()
		if c.process != nil {
			c.process.kill()
		}
	}
	g.leaveMachine()
}

func (g *Group) all() []*container { return slices.Concat(g.inits, g.apps) }

// container finds a container by name. Callers hold the lock.
func (g *Group) container(name string) (*container, error) {
	for _, c := range g.all() {
		if c.spec.Name == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("container %q of %s: %w", name, g.id, ErrNoContainer)
}

// lock takes the lock and carries out everything that is due.
func (g *Group) lock() {
	g.mu.Lock()
	g.advance(g.fleet.clock.Now())
}

// unlock carries out what has no delay and asks the driver to come when the
// next thing is due.
func (g *Group) unlock() {
	g.advance(g.fleet.clock.Now())
	if len(g.queue) > 0 && !g.abandoned {
		if next := g.queue[0].at; g.reminded.IsZero() || next.Before(g.reminded) {
			g.reminded = next
			g.fleet.remind(g, next)
		}
	}
	g.mu.Unlock()
}

// advance carries out every task that is due, each at its own time.
func (g *Group) advance(now time.Time) {
	if !g.reminded.After(now) {
		g.reminded = time.Time{}
	}
	for len(g.queue) > 0 && !g.queue[0].at.After(now) && !g.abandoned {
		t := heap.Pop(&g.queue).(task)
		t.do(t.at)
	}
}

// after queues do for a time relative to now.
func (g *Group) after(now time.Time, d time.Duration, do func(now time.Time)) {
	g.sequence++
	heap.Push(&g.queue, task{at: now.Add(d), sequence: g.sequence, do: do})
}

// dropPlans forgets what the group would do next, but no alarm.
func (g *Group) dropPlans() {
	g.era++
	g.queue = slices.DeleteFunc(g.queue, func(t task) bool { return !t.alarm })
	heap.Init(&g.queue)
}

func (g *Group) touch(now time.Time) { g.changed = now }

func (g *Group) setPhase(now time.Time, p Phase) {
	if g.phase != p {
		g.phase = p
		g.touch(now)
		if p == Running || p.Ended() {
			g.repairing = false
		}
	}
}

func (g *Group) event(now time.Time, kind, reason, message, container string) {
	g.touch(now)
	for i := range g.events {
		e := &g.events[i]
		if e.Type == kind && e.Reason == reason && e.Message == message && e.Container == container {
			e.Count++
			e.Last = now
			return
		}
	}
	g.events = append(g.events, Event{kind, reason, message, container, 1, now, now})
}

// task is something that a group does at a time.
type task struct {
	at       time.Time
	sequence int // keeps the order of tasks of the same time
	do       func(now time.Time)
	alarm    bool // of Group.Alarm: it outlives a stop of the processes
}

type taskQueue []task

func (q taskQueue) Len() int { return len(q) }
func (q taskQueue) Less(i, j int) bool {
	if c := q[i].at.Compare(q[j].at); c != 0 {
		return c < 0
	}
	return q[i].sequence < q[j].sequence
}
func (q taskQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *taskQueue) Push(x any)   { *q = append(*q, x.(task)) }
func (q *taskQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = task{}
	*q = old[:len(old)-1]
	return x
}
