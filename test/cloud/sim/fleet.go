package sim

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// ImageVerdict is what the emulated registries know of an image.
type ImageVerdict int

// The verdicts.
const (
	ImageOK       ImageVerdict = iota // pulled in Timing.Pull
	ImageSlow                         // pulled in Timing.SlowPull
	ImageNotFound                     // the registry does not know it
	ImageDenied                       // the registry refuses the credentials
)

// Plan is what a simulated process does.
type Plan struct {
	// Log is printed at the start, one entry a line. Nil prints lines that
	// suit the image.
	Log []string
	// Exits says that the process ends by itself RunFor after its start, with
	// ExitCode.
	Exits    bool
	RunFor   time.Duration
	ExitCode int
	// StopAfter is how long the process takes to end after SIGTERM.
	StopAfter time.Duration
}

// Config sets up a Fleet. The zero value is a real clock, no delays, every
// image known and no host processes.
type Config struct {
	// Clock drives everything; nil is the real clock.
	Clock clock.Clock
	// Timing says how long things take.
	Timing Timing
	// Images judges an image at each pull; nil knows all. It is called with
	// locks held and must not call into the Fleet.
	Images func(image string) ImageVerdict
	// Plan says what a simulated process does, for the attempt-th start (from
	// 0) of a container; nil, and false, are the default: init containers end
	// with 0 after Timing.Init, containers run for ever. It is called with
	// locks held and must not call into the Fleet.
	Plan func(s Spec, c Container, attempt int) (Plan, bool)
	// HostCommands runs a container whose command is one of a few harmless
	// programs (see hostPrograms) as a real process of this host, with the
	// container's environment and PATH only, in a temporary directory.
	HostCommands bool
	// Containers runs the containers of the images that it knows, each in a container of
	// its own, with its network, volumes, rights, probes and hooks; others are
	// simulated, or processes of this host. It is not closed with the Fleet, and may
	// serve several. It takes real time, whatever the clock.
	Containers *runc.Runtime
	// TempDir holds the directories of host processes; empty is the system's.
	TempDir string
	// MaxLogBytes bounds the kept log of one run of a container; the oldest
	// lines go first. Zero is 4 MiB.
	MaxLogBytes int
}

// Fleet is all container groups of one emulated cloud. It is safe for
// concurrent use. Close it.
type Fleet struct {
	cfg    Config
	clock  clock.Clock
	ledger Ledger
	host   host

	mu     sync.Mutex
	groups map[string]*Group
	loads  []loadRule
	due    dueHeap
	closed bool

	wake chan struct{}
	stop chan struct{}
	wg   sync.WaitGroup // the driver and the waiters of real processes
}

// NewFleet returns an empty Fleet. One goroutine drives all its groups.
func NewFleet(cfg Config) *Fleet {
	f := &Fleet{
		cfg:    cfg,
		clock:  cfg.Clock,
		groups: map[string]*Group{},
		wake:   make(chan struct{}, 1),
		stop:   make(chan struct{}),
	}
	if f.clock == nil {
		f.clock = clock.RealClock{}
	}
	if f.cfg.MaxLogBytes == 0 {
		f.cfg.MaxLogBytes = 4 << 20
	}
	f.wg.Add(1)
	go f.drive()
	return f
}

// Ledger is the fleet's billing record.
func (f *Fleet) Ledger() *Ledger { return &f.ledger }

// Clock is the fleet's clock.
func (f *Fleet) Clock() clock.Clock { return f.clock }

// Now is the fleet's time.
func (f *Fleet) Now() time.Time { return f.clock.Now() }

// Start accepts a group and begins its life. It fails if the spec is
// impossible, the id is taken or the fleet is closed.
func (f *Fleet) Start(s Spec) (*Group, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	g := newGroup(f, s.clone())
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return nil, fmt.Errorf("start container group %s: the fleet is closed", s.ID)
	}
	if _, ok := f.groups[s.ID]; ok {
		f.mu.Unlock()
		return nil, fmt.Errorf("start container group %s: the id is taken", s.ID)
	}
	f.groups[s.ID] = g
	f.mu.Unlock()
	g.begin()
	return g, nil
}

// Group returns the group of that id, unless it was never started or is deleted.
func (f *Fleet) Group(id string) (*Group, bool) {
	f.mu.Lock()
	g, ok := f.groups[id]
	f.mu.Unlock()
	if !ok || g.Phase() == Deleted {
		return nil, false
	}
	return g, true
}

// Groups returns all groups that are not deleted, oldest first, groups of the
// same time by id.
func (f *Fleet) Groups() []*Group {
	f.mu.Lock()
	all := make([]*Group, 0, len(f.groups))
	for _, g := range f.groups {
		all = append(all, g)
	}
	f.mu.Unlock()
	all = slices.DeleteFunc(all, func(g *Group) bool { return g.Phase() == Deleted })
	slices.SortFunc(all, func(a, b *Group) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// Record brings every group up to the present and returns the billing record.
func (f *Fleet) Record() Record {
	f.Groups()
	return f.ledger.Record()
}

// ServeBilling serves Record as JSON. With ?open=true only entries that are
// still billed, and no calls.
func (f *Fleet) ServeBilling(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the billing record is read-only", http.StatusMethodNotAllowed)
		return
	}
	rec := f.Record()
	if r.URL.Query().Get("open") == "true" {
		rec = Record{Entries: rec.Open(), Calls: []Call{}}
	}
	w.Header().Set("Content-Type", "application/json")
	// A failed write means that the reader has gone; there is no one to tell.
	_ = json.NewEncoder(w).Encode(rec)
}

// Close ends every real process, waits for all goroutines and leaves the
// record readable. Groups stay as they were. Close may be called twice.
func (f *Fleet) Close() {
	f.mu.Lock()
	already := f.closed
	f.closed = true
	all := make([]*Group, 0, len(f.groups))
	for _, g := range f.groups {
		all = append(all, g)
	}
	f.mu.Unlock()
	if !already {
		close(f.stop)
	}
	for _, g := range all {
		g.abandon()
	}
	f.wg.Wait()
}

// forget drops a deleted group.
func (f *Fleet) forget(g *Group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.groups[g.id] == g {
		delete(f.groups, g.id)
	}
}

// remind makes the driver call g.advance at the given time.
func (f *Fleet) remind(g *Group, at time.Time) {
	f.mu.Lock()
	heap.Push(&f.due, dueGroup{at: at, group: g})
	first := f.due[0].at.Equal(at)
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// drive advances groups when they are due. Reads advance a group too, so this
// only has to happen eventually.
func (f *Fleet) drive() {
	defer f.wg.Done()
	for {
		f.mu.Lock()
		now := f.clock.Now()
		var ready []*Group
		for len(f.due) > 0 && !f.due[0].at.After(now) {
			ready = append(ready, heap.Pop(&f.due).(dueGroup).group)
		}
		wait := time.Duration(-1)
		if len(f.due) > 0 {
			wait = f.due[0].at.Sub(now)
		}
		f.mu.Unlock()

		for _, g := range ready {
			g.Phase()
		}
		if len(ready) > 0 {
			continue
		}

		var fired <-chan time.Time
		var timer clock.Timer
		if wait >= 0 {
			timer = f.clock.NewTimer(wait)
			fired = timer.C()
		}
		select {
		case <-fired:
		case <-f.wake:
		case <-f.stop:
		}
		if timer != nil {
			timer.Stop()
		}
		select {
		case <-f.stop:
			return
		default:
		}
	}
}

type dueGroup struct {
	at    time.Time
	group *Group
}

type dueHeap []dueGroup

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(dueGroup)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
