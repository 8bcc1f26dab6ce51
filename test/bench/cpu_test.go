package bench

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

// cpuTimes is how much processor time each program of the system has used so
// far, by name. The benchmark's own process holds the clients, the clouds and
// the balancer.
func cpuTimes() map[string]time.Duration {
	pids := map[string]int{"bench": os.Getpid()}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		if p := system.Process(name); p != nil {
			pids[name] = p.PID()
		}
	}
	for i, c := range system.Controllers() {
		pids[fmt.Sprint("autoburst-", i+1)] = c.Process.PID()
	}
	for _, node := range []string{"virtual-eci", "virtual-aci"} {
		if a := system.Agent(node); a != nil {
			pids[node] = a.Process.PID()
		}
	}
	times := make(map[string]time.Duration, len(pids))
	for name, pid := range pids {
		times[name] = cpuTime(pid)
	}
	return times
}

// machineTime is how much processor time all programs of the machine have used,
// and what a hypervisor has given to other machines, since it started.
func machineTime() time.Duration {
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

// strangers is the share of the machine's processors, from 0 to 1, that programs
// other than the system took while f ran.
func strangers(f func()) float64 {
	began, machine, own := time.Now(), machineTime(), cpuTimes()
	f()
	all := machineTime() - machine
	for name, t := range cpuTimes() {
		all -= t - own[name]
	}
	return max(0, all.Seconds()/(time.Since(began).Seconds()*float64(runtime.NumCPU())))
}

// tick is the unit of /proc/PID/stat, USER_HZ, which Linux fixes at 100 for
// every architecture that Go runs on (proc(5)).
const tick = 10 * time.Millisecond

// cpuTime is utime and stime of a process, zero where /proc does not tell.
func cpuTime(pid int) time.Duration {
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

// addCPU adds what was used between two readings.
func addCPU(sum, before, after map[string]time.Duration) {
	for name, t := range after {
		sum[name] += t - before[name]
	}
}

// describeCPU is a line of milliseconds by program, the busiest first.
func describeCPU(sum map[string]time.Duration, runs int) string {
	names := slices.SortedFunc(maps.Keys(sum), func(a, b string) int { return int(sum[b] - sum[a]) })
	var b strings.Builder
	var total time.Duration
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%d", name, (sum[name] / time.Duration(runs)).Milliseconds())
		total += sum[name]
	}
	return fmt.Sprintf("total=%d%s (ms a run)", (total / time.Duration(runs)).Milliseconds(), b.String())
}
