package sim

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUsageOfSimulatedProcesses(t *testing.T) {
	f, clk := testFleet(t, Config{Timing: Timing{Restart: time.Second}})
	f.SetLoad(func(s Spec, _ Container) bool { return s.Name == "a" }, Load{CPU: 2, Memory: 100})
	a := mustStart(t, f, Spec{ID: "a", Name: "a"})
	b := mustStart(t, f, Spec{ID: "b", Name: "b", Containers: []Container{{Name: "x", Image: "x"}, {Name: "y", Image: "y"}}})
	clk.Step(10 * time.Second)
	f.SetLoad(func(s Spec, c Container) bool { return s.Name == "a" || c.Name == "y" }, Load{CPU: 0.5, Memory: 40})
	clk.Step(10 * time.Second)
	if err := a.Exit("web", 1); err != nil { // it is started again at once
		t.Fatal(err)
	}
	clk.Step(10 * time.Second)
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	usage := func(name string, started int, cpu time.Duration, memory int64) Usage {
		return Usage{Container: name, Started: at(started), CPU: cpu, Memory: memory}
	}
	want := [][]Usage{
		nil,
		{usage("web", 0, 10*time.Second, 100)},
		{usage("web", 0, 20*time.Second, 40)},
		{usage("web", 0, 22500*time.Millisecond, 40)},
		{usage("web", 20, 5*time.Second, 40)},
	}
	if diff := cmp.Diff(want, a.UsageAt(at(-1), at(5), at(10), at(15), at(30))); diff != "" {
		t.Errorf("usage of a container whose load falls and that restarts (-want +got):\n%s", diff)
	}
	want = [][]Usage{{usage("x", 0, 30*time.Millisecond, idle.Memory), usage("y", 0, 10*time.Second+10*time.Millisecond, 40)}}
	if diff := cmp.Diff(want, b.UsageAt(at(30))); diff != "" {
		t.Errorf("usage of two containers (-want +got):\n%s", diff)
	}
	if err := a.Stop(0); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Second)
	if got := a.UsageAt(at(29), at(31)); len(got[0]) != 1 || len(got[1]) != 0 {
		t.Errorf("usage of a stopped group: %v, want none any more", got)
	}
}

// A process of this host uses what it does: one that counts uses a processor, one
// that sleeps hardly any.
func TestUsageOfHostProcesses(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := mustStart(t, f, Spec{Containers: []Container{
		{Name: "busy", Image: "busybox", Command: []string{"sh", "-c", "(while :; do :; done)"}},
		{Name: "calm", Image: "busybox", Command: []string{"sleep", "600"}},
	}})
	var busy, calm Usage
	waitFor(t, "the one that counts has used CPU time", func() bool {
		got := g.UsageAt(time.Now())[0]
		if len(got) != 2 {
			return false
		}
		busy, calm = got[0], got[1]
		return busy.CPU >= 50*time.Millisecond
	})
	if calm.CPU >= busy.CPU || busy.Memory <= 0 || calm.Memory <= 0 {
		t.Errorf("busy %+v, calm %+v", busy, calm)
	}
}

func TestReadProcesses(t *testing.T) {
	proc := t.TempDir()
	for pid, stat := range map[string]string{
		"10": "10 (sh) S 1 10 10 0 -1 0 0 0 0 0 7 3 20 5 20 0 1 0 100 4096 2 0 0",
		"11": "11 (a) b) (c) R 10 10 10 0 -1 0 0 0 0 0 100 0 0 0 20 0 1 0 100 4096 3 0 0",
		"12": "12 (other) R 1 12 12 0 -1 0 0 0 0 0 1 0 0 0 20 0 1 0 100 4096 1 0 0",
		"13": "13 (short) R 1",
	} {
		if err := os.MkdirAll(filepath.Join(proc, pid), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	page := int64(os.Getpagesize())
	want := map[int]hostUsage{10: {cpu: 1350 * time.Millisecond, memory: 5 * page}, 12: {cpu: 10 * time.Millisecond, memory: page}}
	if diff := cmp.Diff(want, readProcesses(proc), cmp.AllowUnexported(hostUsage{})); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}
