package sim

import (
	"errors"
	"testing"
	"time"
)

func TestEvict(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{RestartPolicy: Never, InitContainers: []Container{{Name: "setup", Image: "busybox"}}})
	if err := g.Evict(time.Minute); !errors.Is(err, ErrPhase) {
		t.Errorf("evict while it is scheduled: %v, want ErrPhase", err)
	}
	clk.Step(time.Minute)
	if err := g.Evict(time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{0, time.Minute, 500 * time.Millisecond} {
		clk.Step(at)
		c := one(t, g, "web")
		if s := g.Snapshot(); s.Phase != Evicted || !s.Repairing || c.Current.Run != Waiting || c.Ready {
			t.Errorf("%s after the eviction: %s, repairing %t, container %+v", at, s.Phase, s.Repairing, c)
		}
		if p := c.Previous; p == nil || p.Run != Terminated || p.ExitCode != 137 || p.Signal != 9 {
			t.Errorf("previous state %+v, want one that was killed", p)
		}
	}
	clk.Step(500 * time.Millisecond)
	if s := g.Snapshot(); s.Phase != Pending || !s.Repairing {
		t.Errorf("on another machine: %s, repairing %t", s.Phase, s.Repairing)
	}
	clk.Step(time.Minute)
	if s := g.Snapshot(); s.Phase != Running || s.Repairing || one(t, g, "web").RestartCount != 1 || one(t, g, "setup").RestartCount != 1 {
		t.Errorf("after the return: %s, repairing %t, containers %+v", s.Phase, s.Repairing, s.Containers)
	}
	bills := f.Record().Entries
	if len(bills) != 2 || !bills[0].To.Equal(epoch.Add(time.Minute)) || !bills[1].From.Equal(epoch.Add(2*time.Minute+time.Second)) || bills[1].To != nil {
		t.Errorf("billed %+v", bills)
	}
}

func TestEvictedGroupsCanGo(t *testing.T) {
	for name, end := range map[string]func(*Group) error{
		"stop":   func(g *Group) error { return g.Stop(time.Second) },
		"delete": func(g *Group) error { return g.Delete(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			f, clk := testFleet(t, Config{})
			g := mustStart(t, f, Spec{})
			clk.Step(time.Minute)
			if err := errors.Join(g.Evict(time.Minute), end(g)); err != nil {
				t.Fatal(err)
			}
			clk.Step(time.Hour)
			if p := g.Phase(); !p.Ended() {
				t.Errorf("an hour later it is %s", p)
			}
			if bills := f.Record().Entries; len(bills) != 1 || bills[0].Duration(clk.Now()) != 59*time.Second {
				t.Errorf("billed %+v", bills)
			}
		})
	}
}

// Real processes end with their machine, and what they still print is not taken
// for the output of the next run.
func TestInterruptHostProcess(t *testing.T) {
	f := NewFleet(Config{HostCommands: true, TempDir: t.TempDir()})
	t.Cleanup(f.Close)
	g := mustStart(t, f, Spec{Containers: []Container{{Name: "web", Image: "busybox", Command: []string{"sh", "-c", "echo run; sleep 60"}}}})
	for i := range 20 {
		if err := g.Interrupt(Termination{ExitCode: 7147}); err != nil {
			t.Fatal(err)
		}
		if c := one(t, g, "web"); c.RestartCount != i+1 || c.Current.Run != Processing || c.Previous.ExitCode != 7147 {
			t.Fatalf("after %d interruptions: %+v", i+1, c)
		}
	}
	waitFor(t, "the last run to print", func() bool {
		lines, err := g.Logs("web", LogOptions{})
		return err == nil && len(lines) == 1
	})
}

func TestInterrupt(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{RestartPolicy: Never})
	clk.Step(time.Minute)
	if err := g.Interrupt(Termination{ExitCode: 7147}); err != nil {
		t.Fatal(err)
	}
	c := one(t, g, "web")
	if s := g.Snapshot(); s.Phase != Pending || !s.Repairing || c.Current.Run != Waiting || c.Previous.ExitCode != 7147 {
		t.Errorf("interrupted: %s, repairing %t, container %+v", s.Phase, s.Repairing, c)
	}
	clk.Step(time.Minute)
	c = one(t, g, "web")
	if s := g.Snapshot(); s.Phase != Running || s.Repairing || c.Current.Run != Processing || c.RestartCount != 1 {
		t.Errorf("afterwards: %s, repairing %t, container %+v", s.Phase, s.Repairing, c)
	}
	if bills := f.Record().Entries; len(bills) != 1 || bills[0].To != nil {
		t.Errorf("billed %+v", bills)
	}
	if err := errors.Join(g.Exit("web", 0), g.Interrupt(Termination{ExitCode: 7147})); !errors.Is(err, ErrPhase) {
		t.Errorf("an ended group was interrupted: %v", err)
	}
}
