// Package meter reads what programs cost from /proc: processor time and memory.
// Figures taken on a machine that does other things as well come with what those
// others took.
package meter

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat, USER_HZ, which Linux fixes at 100 for
// every architecture that Go runs on (proc(5)).
const tick = 10 * time.Millisecond

// CPU is the processor time that a process has used so far, in user and kernel
// mode; zero where /proc does not tell.
func CPU(pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The second field is the command in parentheses and may hold spaces.
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0
	}
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// Memory is the resident memory of a process in bytes: now, and the most that it
// ever was.
func Memory(pid int) (now, peak int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kibibytes, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		var into *int64
		switch name {
		case "VmRSS":
			into = &now
		case "VmHWM":
			into = &peak
		default:
			continue
		}
		n, err := strconv.ParseInt(kibibytes, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s of process %d: %w", name, pid, err)
		}
		*into = n << 10
	}
	return now, peak, nil
}

// machine is how much processor time all programs of the machine have used, and
// what a hypervisor has given to other machines, since it started.
func machine() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0
	}
	var ticks int
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return 0
		}
		ticks += n
	}
	return time.Duration(ticks) * tick
}

// Usage is processor time by program.
type Usage map[string]time.Duration

// Programs are the process IDs of a system's programs, by name.
type Programs map[string]int

// Usage is how much processor time each program has used so far.
func (p Programs) Usage() Usage {
	u := make(Usage, len(p))
	for name, pid := range p {
		u[name] = CPU(pid)
	}
	return u
}

// Measure runs f and returns what each program used meanwhile, and the share of
// the machine's processors, from 0 to 1, that strangers took: programs that are
// not in the list. f may add the programs that it starts to the list.
func (p Programs) Measure(f func()) (used Usage, strangers float64) {
	began, all, before := time.Now(), machine(), p.Usage()
	f()
	used, others := Usage{}, machine()-all
	for name, t := range p.Usage() {
		used[name] = t - before[name]
		others -= used[name]
	}
	return used, max(0, others.Seconds()/(time.Since(began).Seconds()*float64(runtime.NumCPU())))
}

// Add adds what was used in another run.
func (u Usage) Add(more Usage) {
	for name, t := range more {
		u[name] += t
	}
}

// Describe is a line of milliseconds by program and run, the busiest first.
func (u Usage) Describe(runs int) string {
	names := slices.SortedFunc(maps.Keys(u), func(a, b string) int { return int(u[b] - u[a]) })
	var b strings.Builder
	var total time.Duration
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%d", name, (u[name] / time.Duration(runs)).Milliseconds())
		total += u[name]
	}
	return fmt.Sprintf("total=%d%s (ms a run)", (total / time.Duration(runs)).Milliseconds(), b.String())
}
