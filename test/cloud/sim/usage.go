package sim

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Load is what a simulated process uses. A real process uses what it does.
type Load struct {
	// CPU is in vCPU, Memory in bytes.
	CPU    float64
	Memory int64
}

// idle is the load of a simulated process unless SetLoad says otherwise: one that
// is ready, and waits.
var idle = Load{CPU: 0.001, Memory: 16 << 20}

// Usage is what a container had used at a time.
type Usage struct {
	Container string
	// Started is when the process started that ran then, CPU what it had used since.
	Started time.Time
	CPU     time.Duration
	// Memory is in bytes.
	Memory int64
}

// loadRule is a load for the containers that it matches.
type loadRule struct {
	match func(Spec, Container) bool
	load  Load
}

// SetLoad changes the load of the simulated processes of the containers that
// match, those that start later included. Of several calls, the last that matches
// counts. match is called with locks held and must not call into the Fleet.
func (f *Fleet) SetLoad(match func(Spec, Container) bool, load Load) {
	f.mu.Lock()
	f.loads = append(f.loads, loadRule{match, load})
	f.mu.Unlock()
	for _, g := range f.Groups() {
		g.lock()
		now := f.clock.Now()
		for _, c := range g.all() {
			if c.current.Run == Processing && c.process == nil {
				c.trace.set(now, g.load(c))
			}
		}
		g.unlock()
	}
}

// load is the load of a container's process. The group's lock is held.
func (g *Group) load(c *container) Load {
	g.fleet.mu.Lock()
	defer g.fleet.mu.Unlock()
	load := idle
	for _, r := range g.fleet.loads {
		if r.match(g.spec, c.spec) {
			load = r.load
		}
	}
	return load
}

// UsageAt tells what the containers had used by each of the given times, those
// only whose process ran at it. What a real process had used between two
// calls is interpolated.
func (g *Group) UsageAt(times ...time.Time) [][]Usage {
	g.lock()
	defer g.unlock()
	now := g.fleet.clock.Now()
	for _, c := range g.all() {
		if c.process != nil {
			cpu, memory := c.process.usage()
			c.trace.measured(now, cpu, memory)
		}
	}
	all := make([][]Usage, len(times))
	for i, at := range times {
		for _, c := range g.all() {
			if u, ok := c.trace.at(at); ok {
				u.Container = c.spec.Name
				all[i] = append(all[i], u)
			}
		}
	}
	return all
}

// maxMarks bounds what is kept of one container.
const maxMarks = 1024

// trace is what a container has used, over all its runs.
type trace []mark

// mark is the usage at a time, from which on it grows by the load.
type mark struct {
	at      time.Time
	started time.Time // zero: nothing runs from here on
	cpu     time.Duration
	load    Load
}

func (t *trace) add(m mark) {
	if len(*t) >= maxMarks {
		*t = append(trace(nil), (*t)[maxMarks/2:]...)
	}
	*t = append(*t, m)
}

// begin is the start of a process.
func (t *trace) begin(now time.Time, load Load) { t.add(mark{at: now, started: now, load: load}) }

// end is the end of the process, if there is one.
func (t *trace) end(now time.Time) {
	if n := len(*t); n > 0 && !(*t)[n-1].started.IsZero() {
		t.add(mark{at: now})
	}
}

// set changes the load of the process.
func (t *trace) set(now time.Time, load Load) {
	if u, ok := t.at(now); ok {
		t.add(mark{at: now, started: u.Started, cpu: u.CPU, load: load})
	}
}

// measured notes what a real process has used.
func (t *trace) measured(now time.Time, cpu time.Duration, memory int64) {
	u, ok := t.at(now)
	if !ok {
		return
	}
	// What an orphan had used is lost with it.
	t.add(mark{at: now, started: u.Started, cpu: max(cpu, u.CPU), load: Load{Memory: memory}})
}

// at is the usage at a time, if a process ran then.
func (t *trace) at(when time.Time) (Usage, bool) {
	i := len(*t) - 1
	for i >= 0 && (*t)[i].at.After(when) {
		i--
	}
	if i < 0 || (*t)[i].started.IsZero() {
		return Usage{}, false
	}
	m := (*t)[i]
	u := Usage{Started: m.started, CPU: m.cpu, Memory: m.load.Memory}
	past := when.Sub(m.at)
	if i+1 < len(*t) && (*t)[i+1].started.Equal(m.started) {
		next := (*t)[i+1]
		u.CPU += time.Duration(math.Round(float64(next.cpu-m.cpu) * past.Seconds() / max(next.at.Sub(m.at).Seconds(), 1e-9)))
		if m.load.Memory == 0 {
			u.Memory = next.load.Memory
		}
	} else {
		u.CPU += time.Duration(math.Round(m.load.CPU * float64(past)))
	}
	return u, true
}

// host is the processes of this host, as /proc shows them.
type host struct {
	mu     sync.Mutex
	read   time.Time
	groups map[int]hostUsage // by process group
}

type hostUsage struct {
	cpu    time.Duration
	memory int64
}

// hostFresh is for how long one look at /proc serves all containers.
const hostFresh = 250 * time.Millisecond

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on but alpha.
const clockTick = 10 * time.Millisecond

// usage is what the processes of a group use, with the children that they have
// waited for.
func (h *host) usage(group int) (cpu time.Duration, memory int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.read) >= hostFresh || h.groups == nil {
		h.read, h.groups = now, readProcesses("/proc")
	}
	u := h.groups[group]
	return u.cpu, u.memory
}

// readProcesses adds up the stat files below a folder by process group (proc(5)).
// What cannot be read has gone, or is none of ours.
func readProcesses(proc string) map[int]hostUsage {
	files, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	groups := map[int]hostUsage{}
	if err != nil { // only a bad pattern is an error
		return groups
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// The name of the program, in parentheses, may contain anything.
		fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
		// Numbered from the state, the third field, on.
		const pgrp, utime, cstime, rss = 2, 11, 14, 21
		if len(fields) <= rss {
			continue
		}
		number := func(i int) int64 {
			n, _ := strconv.ParseInt(fields[i], 10, 64) // numbers by proc(5)
			return n
		}
		u := groups[int(number(pgrp))]
		for i := utime; i <= cstime; i++ {
			u.cpu += time.Duration(number(i)) * clockTick
		}
		u.memory += number(rss) * int64(os.Getpagesize())
		groups[int(number(pgrp))] = u
	}
	return groups
}
