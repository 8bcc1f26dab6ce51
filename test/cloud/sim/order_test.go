package sim

import (
	"testing"
	"time"
)

func TestLaunchAndExitOrder(t *testing.T) {
	f, clk := testFleet(t, Config{Timing: Timing{Start: time.Second}})
	g := mustStart(t, f, Spec{RestartPolicy: Never, Containers: []Container{
		{Name: "app"},
		{Name: "proxy", LaunchPriority: 1000, ExitPriority: -2, ReadyAfter: 5 * time.Second, Sidecar: true, IgnoreExitCode: true},
		{Name: "logs", LaunchPriority: 999, ExitPriority: -1, Sidecar: true, IgnoreExitCode: true},
	}})
	clk.Step(time.Minute)
	start := func(name string) time.Time {
		t.Helper()
		c, _ := g.Snapshot().Container(name)
		if c.Current.Run != Processing {
			t.Fatalf("%s is %+v, want it to run", name, c.Current)
		}
		return c.Current.StartedAt
	}
	proxy, logs, app := start("proxy"), start("logs"), start("app")
	if d := logs.Sub(proxy); d != 6*time.Second {
		t.Errorf("logs started %s after proxy, want 6 s: 5 until it is ready, 1 to start", d)
	}
	if d := app.Sub(logs); d != time.Second {
		t.Errorf("app started %s after logs, want 1 s", d)
	}
	if err := g.Exit("app", 3); err != nil {
		t.Fatal(err)
	}
	st := g.Snapshot()
	if st.Phase != Failed {
		t.Errorf("phase %s, want %s by the exit code of app", st.Phase, Failed)
	}
	for _, name := range []string{"proxy", "logs"} {
		if c, _ := st.Container(name); c.Current.Run != Terminated || c.Current.ExitCode != 0 || c.Current.Message == "" {
			t.Errorf("%s is %+v, want it ended with a success that tells what it was", name, c.Current)
		}
	}
}

func TestExitOrderOfADeletion(t *testing.T) {
	f, clk := testFleet(t, Config{
		Timing: Timing{Start: time.Second},
		Plan:   func(Spec, Container, int) (Plan, bool) { return Plan{StopAfter: 2 * time.Second}, true },
	})
	g := mustStart(t, f, Spec{Containers: []Container{{Name: "app"}, {Name: "proxy", ExitPriority: -1}}})
	clk.Step(time.Minute)
	if err := g.Delete(time.Minute); err != nil {
		t.Fatal(err)
	}
	clk.Step(3 * time.Second)
	st := g.Snapshot()
	app, _ := st.Container("app")
	proxy, _ := st.Container("proxy")
	if app.Current.Run != Terminated || proxy.Current.Run != Processing {
		t.Errorf("after 3 s app is %s and proxy %s, want the one ended and the other not", app.Current.Run, proxy.Current.Run)
	}
	clk.Step(time.Second)
	if p := g.Phase(); p != Deleted {
		t.Errorf("after 4 s the group is %s, want it gone", p)
	}
}
