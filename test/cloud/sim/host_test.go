package sim

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestHostCommands(t *testing.T) {
	dir := t.TempDir()
	f := NewFleet(Config{HostCommands: true, TempDir: dir})
	defer f.Close()
	g := mustStart(t, f, Spec{RestartPolicy: Never, Containers: []Container{
		{
			Name: "a", Image: "busybox", Command: []string{"sh", "-c"}, Args: []string{`echo "$GREETING"; echo oops >&2; env | cut -d= -f1 | sort | tr '\n' ' '; exit 7`},
			Env: []EnvVar{{"GREETING", "hello world"}},
		},
		{Name: "b", Image: "busybox", Command: []string{"sh", "-c", "sleep 600 & echo $!; wait"}},
	}})
	waitFor(t, "a ends and b prints", func() bool {
		lines, err := g.Logs("b", LogOptions{})
		return one(t, g, "a").Current.Run == Terminated && err == nil && len(lines) == 1
	})
	if got := one(t, g, "a").Current.ExitCode; got != 7 {
		t.Errorf("exit code %d, want 7", got)
	}
	lines, err := g.Logs("a", LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := JoinLines(lines, false); !strings.HasPrefix(got, "hello world\noops\n") || strings.Contains(got, "HOME") {
		t.Errorf("log %q", got)
	}
	var child int
	lines, _ = g.Logs("b", LogOptions{})
	if _, err := fmt.Sscan(lines[0].Text, &child); err != nil {
		t.Fatal(err)
	}
	if err := g.Delete(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	<-g.Done()
	waitFor(t, "the background child is gone", func() bool { return !alive(child) })
	f.Close()
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestHostProcessIgnoringTerm(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := mustStart(t, f, Spec{Containers: []Container{
		{Name: "c", Image: "busybox", Command: []string{"bash", "-c", "trap '' TERM; echo $$; while :; do sleep 0.01; done"}},
	}})
	var lines []LogLine
	waitFor(t, "output", func() bool { lines, _ = g.Logs("c", LogOptions{}); return len(lines) == 1 })
	var pid int
	if _, err := fmt.Sscan(lines[0].Text, &pid); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := g.Stop(200 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "stopped", func() bool { return g.Phase() == Stopped })
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("killed after %s, before its grace was over", took)
	}
	if c := one(t, g, "c").Current; c.ExitCode != 137 || c.Signal != 9 {
		t.Errorf("status %+v, want killed", c)
	}
	waitFor(t, "the process is gone", func() bool { return !alive(pid) })
}

func TestCloseKillsHostProcesses(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	g := mustStart(t, f, Spec{Containers: []Container{{Name: "c", Image: "b", Command: []string{"sh", "-c", "echo $$; sleep 600"}}}})
	var lines []LogLine
	waitFor(t, "output", func() bool { lines, _ = g.Logs("c", LogOptions{}); return len(lines) == 1 })
	var pid int
	if _, err := fmt.Sscan(lines[0].Text, &pid); err != nil {
		t.Fatal(err)
	}
	f.Close()
	f.Close()
	if alive(pid) {
		t.Error("the process outlives Close")
	}
	if _, err := f.Start(Spec{ID: "x", Containers: []Container{{Name: "c"}}}); err == nil {
		t.Error("a closed fleet accepted a group")
	}
}

// alive reports whether a process exists and is no zombie of another parent.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
