package runc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cgroupRoot is where every system mounts its control groups, and parent the
// group that all containers of this package are below.
const (
	cgroupRoot = "/sys/fs/cgroup"
	parent     = "autoburst-containers"
)

// cgroups are the hierarchies of control groups of this machine.
type cgroups struct {
	// unified is whether there is one hierarchy only, version 2.
	unified bool
	// mounts are the mount points by controller; of version 2 there is one, "".
	mounts map[string]string
}

// findCgroups tells which version is there, as runc does: by what is mounted at
// the usual place.
func findCgroups() (cgroups, error) {
	var at unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &at); err != nil {
		return cgroups{}, fmt.Errorf("there are no control groups at %s: %w", cgroupRoot, err)
	}
	if at.Type == unix.CGROUP2_SUPER_MAGIC {
		return cgroups{unified: true, mounts: map[string]string{"": cgroupRoot}}, nil
	}
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return cgroups{}, err
	}
	defer table.Close()
	c := cgroups{mounts: hierarchies(table)}
	for _, needed := range []string{"memory", "cpuacct"} {
		if c.mounts[needed] == "" {
			return cgroups{}, fmt.Errorf("no control group hierarchy with the controller %s is mounted", needed)
		}
	}
	return c, nil
}

// hierarchies are the mount points of version 1 by controller, from the text of
// proc_pid_mountinfo(5).
func hierarchies(table io.Reader) map[string]string {
	found := map[string]string{}
	for lines := bufio.NewScanner(table); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(kind) < 3 || kind[0] != "cgroup" {
			continue
		}
		for option := range strings.SplitSeq(kind[2], ",") {
			if option != "rw" && option != "ro" {
				found[option] = mount[4]
			}
		}
	}
	return found
}

// folders are those of a control group in all hierarchies.
func (c cgroups) folders(path string) []string {
	var all []string
	for _, mount := range c.mounts {
		if at := filepath.Join(mount, path); !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all
}

func (c cgroups) file(controller, path, name string) string {
	if c.unified {
		controller = ""
	}
	return filepath.Join(c.mounts[controller], path, name)
}

// usage is what the processes of a control group have used of CPUs, and use of
// memory: without the cache of files that could be dropped, as the kubelet counts.
// A group that has gone uses nothing.
func (c cgroups) usage(path string) (cpu time.Duration, memory int64) {
	if c.unified {
		cpu = time.Duration(number(field(c.file("", path, "cpu.stat"), "usage_usec"))) * time.Microsecond
		memory = number(content(c.file("", path, "memory.current"))) - number(field(c.file("", path, "memory.stat"), "inactive_file"))
		return cpu, max(memory, 0)
	}
	cpu = time.Duration(number(content(c.file("cpuacct", path, "cpuacct.usage"))))
	memory = number(content(c.file("memory", path, "memory.usage_in_bytes"))) - number(field(c.file("memory", path, "memory.stat"), "total_inactive_file"))
	return cpu, max(memory, 0)
}

// outOfMemory is how many processes of the control group were killed because it
// had used up its memory.
func (c cgroups) outOfMemory(path string) int64 {
	if c.unified {
		return number(field(c.file("", path, "memory.events"), "oom_kill"))
	}
	return number(field(c.file("memory", path, "memory.oom_control"), "oom_kill"))
}

func content(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "" // it has gone
	}
	return strings.TrimSpace(string(text))
}

// field is the value of a line "name value".
func field(file, name string) string {
	for line := range strings.Lines(content(file)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			return value
		}
	}
	return ""
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64) // what is not there is nothing
	return n
}

// end kills all that runs in a control group and below it, and removes it.
func (c cgroups) end(path string) error {
	deadline := time.NewTimer(endTime)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.tryEnd(path)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("ending the containers of %s: %w", path, err)
		}
	}
}

// endTime bounds how long killed processes may take to go.
const endTime = 20 * time.Second

func (c cgroups) tryEnd(path string) error {
	var errs []error
	for _, top := range c.folders(path) {
		var below []string
		err := filepath.WalkDir(top, func(at string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				below = append(below, at)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		errs = append(errs, err)
		for _, at := range slices.Backward(below) { // the inner ones first
			for _, pid := range processes(at) {
				// It may have gone meanwhile.
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// processes are those of a control group, not of the ones below it.
func processes(folder string) []int {
	text, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
	if err != nil {
		return nil // it has gone
	}
	var pids []int
	for word := range bytes.FieldsSeq(text) {
		if pid := number(string(word)); pid > 0 { // 0 is one that is not of our namespace
			pids = append(pids, int(pid))
		}
	}
	return pids
}
