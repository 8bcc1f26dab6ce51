package session

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sweepTime bounds how long processes that were killed may take to end.
const sweepTime = 10 * time.Second

// sweep ends the processes of the emulated containers of a session, and removes its
// folder. The caller holds the lock, so the session was killed: the kernel has ended
// its programs with it, but not what its containers ran.
func sweep(folder string, out io.Writer) error {
	containers := filepath.Join(folder, "containers")
	left := inside(containers)
	for _, pid := range left {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
	}
	deadline := time.NewTimer(sweepTime)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for len(inside(containers)) > 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("processes %v of an earlier playground do not end: kill them, then try again", inside(containers))
		}
	}
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		return nil
	}
	if out != nil {
		fmt.Fprintf(out, "playground: removing what an earlier one left: %d processes, and %s\n", len(left), folder)
	}
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("removing what an earlier playground left: %w", err)
	}
	return nil
}

// inside are the processes whose working folder is in a folder.
func inside(folder string) []int {
	real, err := filepath.EvalSymlinks(folder)
	if err != nil {
		real = folder
	}
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil { // the pattern is right
		panic(err)
	}
	var out []int
	for _, link := range links {
		cwd, err := os.Readlink(link)
		if err != nil {
			continue // it has ended, or belongs to somebody else
		}
		cwd = strings.TrimSuffix(cwd, " (deleted)")
		if cwd != real && !strings.HasPrefix(cwd, real+string(filepath.Separator)) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out
}
