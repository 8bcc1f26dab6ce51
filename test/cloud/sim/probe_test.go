package sim

import (
	"strings"
	"testing"
	"time"
)

func TestLiveness(t *testing.T) {
	for name, test := range map[string]struct {
		policy RestartPolicy
		want   Phase
	}{"restarted": {Always, Running}, "never restarted": {Never, Failed}} {
		t.Run(name, func(t *testing.T) {
			f, clk := testFleet(t, Config{})
			g := mustStart(t, f, Spec{RestartPolicy: test.policy, Containers: []Container{{
				Name: "web", Image: "nginx", Liveness: &Probe{InitialDelay: 20 * time.Second, FailureThreshold: 2},
			}}})
			clk.Step(time.Minute)
			if err := g.SetHealth("web", false, true); err != nil {
				t.Fatal(err)
			}
			// It runs from 10 s on; it is asked at 30, 40, … 60, 70, 80.
			for clk.Since(epoch) < 79*time.Second {
				clk.Step(time.Second)
				if c := one(t, g, "web"); c.Current.Run != Processing || c.RestartCount != 0 {
					t.Fatalf("%s: %+v", clk.Since(epoch), c)
				}
			}
			clk.Step(2 * time.Second)
			s := g.Snapshot()
			if s.Phase != test.want {
				t.Errorf("phase %s, want %s", s.Phase, test.want)
			}
			if got := strings.Join(reasons(s), " "); !strings.Contains(got, "Unhealthy Killing") {
				t.Errorf("events %s", got)
			}
		})
	}
}

func TestReadiness(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{Containers: []Container{{
		Name: "web", Image: "nginx", Readiness: &Probe{Period: 5 * time.Second, FailureThreshold: 2, SuccessThreshold: 3},
	}}})
	clk.Step(10 * time.Second) // started and asked for the first time
	for _, step := range []struct {
		healthy bool
		after   time.Duration
		ready   bool
	}{
		{true, 9 * time.Second, false}, {true, time.Second, true}, {false, 9 * time.Second, true}, {false, time.Second, false},
		{true, 14 * time.Second, false}, {true, time.Second, true},
	} {
		if err := g.SetHealth("web", true, step.healthy); err != nil {
			t.Fatal(err)
		}
		clk.Step(step.after)
		if c := one(t, g, "web"); c.Ready != step.ready || c.RestartCount != 0 {
			t.Errorf("%s: %+v, want ready %t", clk.Since(epoch), c, step.ready)
		}
	}
}

// Probes of real processes run in the container's directory and environment.
func TestHostProbes(t *testing.T) {
	f := NewFleet(Config{HostCommands: true, TempDir: t.TempDir()})
	t.Cleanup(f.Close)
	exec := func(command ...string) *Probe {
		return &Probe{Action: Action{Exec: command}, Period: 10 * time.Millisecond, FailureThreshold: 1}
	}
	g := mustStart(t, f, Spec{Containers: []Container{
		{Name: "sees", Image: "busybox", Command: []string{"sh", "-c", "echo yes > mark; sleep 60"}, Env: []EnvVar{{"MARK", "mark"}},
			Readiness: exec("sh", "-c", "cat $MARK")},
		{Name: "blind", Image: "busybox", Command: []string{"sleep", "60"}, Readiness: exec("cat", "mark")},
		{Name: "hangs", Image: "busybox", Command: []string{"sleep", "60"},
			Liveness: &Probe{Action: Action{Exec: []string{"sleep", "60"}}, Timeout: 10 * time.Millisecond, FailureThreshold: 1}},
	}})
	waitFor(t, "the container with the file to be ready", func() bool { return one(t, g, "sees").Ready })
	waitFor(t, "the container that hangs to be restarted", func() bool { return one(t, g, "hangs").RestartCount > 0 })
	waitFor(t, "word of the missing file", func() bool {
		for _, e := range g.Snapshot().Events {
			if e.Container == "blind" && e.Reason == "Unhealthy" && strings.Contains(e.Message, "mark") {
				return true
			}
		}
		return false
	})
	if c := one(t, g, "blind"); c.Ready || c.RestartCount != 0 {
		t.Errorf("the container without the file: %+v", c)
	}
}
