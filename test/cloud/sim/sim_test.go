package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testFleet(t *testing.T, cfg Config) (*Fleet, *clocktesting.FakeClock) {
	t.Helper()
	clk := clocktesting.NewFakeClock(epoch)
	cfg.Clock = clk
	if cfg.Timing == (Timing{}) {
		cfg.Timing = DefaultTiming()
	}
	f := NewFleet(cfg)
	t.Cleanup(f.Close)
	return f, clk
}

func mustStart(t *testing.T, f *Fleet, s Spec) *Group {
	t.Helper()
	if s.ID == "" {
		s.ID = "g-1"
	}
	if s.Containers == nil {
		s.Containers = []Container{{Name: "web", Image: "nginx:1"}}
	}
	g, err := f.Start(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func one(t *testing.T, g *Group, name string) ContainerState {
	t.Helper()
	c, ok := g.Snapshot().Container(name)
	if !ok {
		t.Fatalf("no container %s", name)
	}
	return c
}

func reasons(s State) []string {
	var out []string
	for _, e := range s.Events {
		out = append(out, e.Reason)
	}
	return out
}

func TestGroupLife(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{Cloud: "x", Name: "a", CPU: 2, MemoryGiB: 4})
	steps := []struct {
		step time.Duration
		want Phase
	}{
		{0, Scheduling},
		{time.Second, Pending},
		{8 * time.Second, Pending},
		{time.Second, Running},
		{time.Hour, Running},
	}
	for i, s := range steps {
		clk.Step(s.step)
		if got := g.Phase(); got != s.want {
			t.Fatalf("step %d: phase %s, want %s", i, got, s.want)
		}
	}
	s := g.Snapshot()
	if diff := cmp.Diff([]string{"Scheduled", "Pulling", "Pulled", "Created", "Started"}, reasons(s)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if want := epoch.Add(10 * time.Second); !s.Containers[0].Current.StartedAt.Equal(want) || !s.Containers[0].Ready {
		t.Errorf("container %+v, want ready since %s", s.Containers[0], want)
	}
	if err := g.Delete(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	if err := g.Delete(0); !errors.Is(err, ErrBusy) {
		t.Errorf("second delete: %v, want ErrBusy", err)
	}
	if got := g.Phase(); got != Terminating {
		t.Errorf("phase %s, want Terminating", got)
	}
	clk.Step(2 * time.Second)
	if got := g.Phase(); got != Deleted {
		t.Errorf("phase %s, want Deleted", got)
	}
	<-g.Done()
	if n := len(f.Groups()); n != 0 {
		t.Errorf("%d groups left", n)
	}
	to := epoch.Add(10*time.Second + time.Hour + 2*time.Second)
	want := []BillingEntry{{Cloud: "x", GroupID: "g-1", Name: "a", CPU: 2, MemoryGiB: 4, From: epoch.Add(time.Second), To: &to}}
	if diff := cmp.Diff(want, f.Record().Entries); diff != "" {
		t.Errorf("billing (-want +got):\n%s", diff)
	}
}

// One step of the clock over many due things gives each its own time.
func TestOneLongStep(t *testing.T) {
	f, clk := testFleet(t, Config{Plan: func(Spec, Container, int) (Plan, bool) {
		return Plan{Exits: true, RunFor: 5 * time.Second, ExitCode: 3}, true
	}})
	g := mustStart(t, f, Spec{})
	clk.Step(2 * time.Minute)
	// Runs at 10–15, 16–21, 32–37, 58–63, 104–109, and waits 80 s.
	c := one(t, g, "web")
	want := ContainerState{
		Name: "web", Image: "nginx:1", RestartCount: 4,
		Current: Status{Run: Waiting, Reason: "CrashLoopBackOff", Message: "back-off 1m20s restarting failed container=web pod="},
		Previous: &Status{
			Run: Terminated, Reason: "Error", ExitCode: 3,
			StartedAt: epoch.Add(104 * time.Second), FinishedAt: epoch.Add(109 * time.Second),
		},
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := g.Phase(); got != Running {
		t.Errorf("a crash loop is %s, want Running", got)
	}
}

func TestRestartPolicies(t *testing.T) {
	two := []Container{{Name: "a", Image: "i"}, {Name: "b", Image: "i"}}
	tests := []struct {
		policy       RestartPolicy
		codes        [2]int
		want         Phase
		wantRestarts int
	}{
		{Always, [2]int{0, 1}, Running, 2},
		{"", [2]int{0, 0}, Running, 2},
		{OnFailure, [2]int{0, 0}, Succeeded, 0},
		{OnFailure, [2]int{0, 1}, Running, 1},
		{Never, [2]int{0, 0}, Succeeded, 0},
		{Never, [2]int{0, 2}, Failed, 0},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s%v", tt.policy, tt.codes), func(t *testing.T) {
			f, clk := testFleet(t, Config{})
			g := mustStart(t, f, Spec{Containers: two, RestartPolicy: tt.policy})
			clk.Step(10 * time.Second)
			for i, name := range []string{"a", "b"} {
				if err := g.Exit(name, tt.codes[i]); err != nil {
					t.Fatal(err)
				}
			}
			clk.Step(5 * time.Second)
			s := g.Snapshot()
			restarts := s.Containers[0].RestartCount + s.Containers[1].RestartCount
			if s.Phase != tt.want || restarts != tt.wantRestarts {
				t.Errorf("phase %s with %d restarts, want %s with %d", s.Phase, restarts, tt.want, tt.wantRestarts)
			}
			if ended := tt.want != Running; ended != (len(f.Record().Open()) == 0) {
				t.Errorf("open bills: %v", f.Record().Open())
			}
		})
	}
}

func TestInitContainers(t *testing.T) {
	code := 0
	f, clk := testFleet(t, Config{Plan: func(_ Spec, c Container, _ int) (Plan, bool) {
		return Plan{Exits: true, RunFor: time.Second, ExitCode: code}, strings.HasPrefix(c.Name, "i")
	}})
	inits := []Container{{Name: "i1", Image: "x"}, {Name: "i2", Image: "x"}}
	g := mustStart(t, f, Spec{InitContainers: inits})
	clk.Step(10 * time.Second)
	if r1, r2, w := one(t, g, "i1"), one(t, g, "i2"), one(t, g, "web"); r1.Current.Run != Processing || r2.Current.Run != Waiting || w.Current.Reason != "PodInitializing" {
		t.Errorf("i1 %v, i2 %v, web %v", r1.Current, r2.Current, w.Current)
	}
	clk.Step(3 * time.Second)
	if r1, r2 := one(t, g, "i1"), one(t, g, "i2"); r1.Current.Run != Terminated || r2.Current.Run != Terminated {
		t.Errorf("i1 %v, i2 %v", r1.Current, r2.Current)
	}
	clk.Step(10 * time.Second)
	if got := g.Phase(); got != Running {
		t.Errorf("phase %s, want Running", got)
	}

	code = 1
	failing := mustStart(t, f, Spec{ID: "g-2", InitContainers: inits, RestartPolicy: Never})
	clk.Step(time.Minute)
	if got := failing.Phase(); got != Failed {
		t.Errorf("a failed init container under Never: %s, want Failed", got)
	}
	looping := mustStart(t, f, Spec{ID: "g-3", InitContainers: inits, RestartPolicy: OnFailure})
	clk.Step(15 * time.Second)
	if got := looping.Phase(); got != Pending {
		t.Errorf("a failing init container under OnFailure: %s, want Pending", got)
	}
}

func TestBadImage(t *testing.T) {
	f, clk := testFleet(t, Config{Images: func(string) ImageVerdict { return ImageNotFound }})
	g := mustStart(t, f, Spec{RestartPolicy: Never})
	clk.Step(9 * time.Second)
	if got := one(t, g, "web").Current.Reason; got != "ErrImagePull" {
		t.Errorf("reason %s, want ErrImagePull", got)
	}
	clk.Step(time.Second)
	if got := one(t, g, "web").Current.Reason; got != "ImagePullBackOff" {
		t.Errorf("reason %s, want ImagePullBackOff", got)
	}
	clk.Step(time.Hour)
	s := g.Snapshot()
	if s.Phase != Pending || len(f.Record().Open()) != 1 {
		t.Errorf("phase %s, open bills %d; want Pending and billed", s.Phase, len(f.Record().Open()))
	}
	for _, e := range s.Events {
		if e.Reason == "BackOff" && e.Count < 5 {
			t.Errorf("back-off counted %d times in an hour", e.Count)
		}
	}
}

func TestStopStartRestartReplace(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{})
	if err := g.Restart(0); !errors.Is(err, ErrPhase) {
		t.Errorf("restart while Scheduling: %v, want ErrPhase", err)
	}
	clk.Step(10 * time.Second)
	if err := g.Restart(time.Second); err != nil {
		t.Fatal(err)
	}
	if got := g.Phase(); got != Restarting {
		t.Errorf("phase %s, want Restarting", got)
	}
	clk.Step(2 * time.Second)
	if c := one(t, g, "web"); c.RestartCount != 1 || c.Previous == nil || c.Previous.Signal != 15 || g.Phase() != Running {
		t.Errorf("after restart: %s %+v", g.Phase(), c)
	}
	if err := g.Stop(time.Second); err != nil {
		t.Fatal(err)
	}
	clk.Step(2 * time.Second)
	if got := g.Phase(); got != Stopped || len(f.Record().Open()) != 0 {
		t.Errorf("after stop: %s, open bills %v", got, f.Record().Open())
	}
	if ok, err := g.Start(); !ok || err != nil {
		t.Errorf("start: %v, %v", ok, err)
	}
	clk.Step(10 * time.Second)
	if ok, err := g.Start(); ok || err != nil {
		t.Errorf("start of a running group: %v, %v; want false", ok, err)
	}
	if err := g.Replace(Spec{ID: "g-1", Containers: []Container{{Name: "web", Image: "nginx:2"}}}, 0); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Minute)
	if c := one(t, g, "web"); c.Image != "nginx:2" || c.Current.Run != Processing {
		t.Errorf("after replace: %+v", c)
	}
	if n := len(f.Record().Entries); n != 2 {
		t.Errorf("%d bills, want 2: one per deployment", n)
	}
	g.Remove()
	if _, ok := f.Group("g-1"); ok {
		t.Error("the group is still there")
	}
}

func TestGrace(t *testing.T) {
	tests := []struct {
		name     string
		preStop  []string
		stops    time.Duration // what the process takes after SIGTERM
		grace    time.Duration
		wantGone time.Duration // after the delete, Timing.Stop included
	}{
		{"at once", nil, 0, 30 * time.Second, 2 * time.Second},
		{"killed", nil, time.Hour, 30 * time.Second, 32 * time.Second},
		{"no grace", nil, time.Hour, 0, 2 * time.Second},
		{"preStop", []string{"sh", "-c", "sleep 7"}, time.Second, 30 * time.Second, 10 * time.Second},
		{"preStop longer than grace", []string{"sleep", "70"}, 0, 5 * time.Second, 7 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, clk := testFleet(t, Config{Plan: func(Spec, Container, int) (Plan, bool) {
				return Plan{StopAfter: tt.stops}, true
			}})
			g := mustStart(t, f, Spec{Containers: []Container{{Name: "c", Image: "i", PreStop: &Action{Exec: tt.preStop}}}})
			clk.Step(10 * time.Second)
			if err := g.Delete(tt.grace); err != nil {
				t.Fatal(err)
			}
			clk.Step(tt.wantGone - time.Millisecond)
			if got := g.Phase(); got != Terminating {
				t.Errorf("just before: %s, want Terminating", got)
			}
			clk.Step(time.Millisecond)
			if got := g.Phase(); got != Deleted {
				t.Errorf("phase %s, want Deleted", got)
			}
		})
	}
}

func TestScheduleFailureAndExpiry(t *testing.T) {
	f, clk := testFleet(t, Config{})
	g := mustStart(t, f, Spec{ScheduleFailure: &ScheduleFailure{"NoStock", "sold out"}})
	clk.Step(time.Second)
	if s := g.Snapshot(); s.Phase != ScheduleFailed || s.Reason != "NoStock" || len(f.Record().Entries) != 0 {
		t.Errorf("%s %s, bills %v", s.Phase, s.Reason, f.Record().Entries)
	}
	spot := mustStart(t, f, Spec{ID: "spot"})
	clk.Step(time.Minute)
	if err := spot.Expire("SpotToBeReleased", "reclaimed"); err != nil {
		t.Fatal(err)
	}
	if got := spot.Phase(); got != Expired || len(f.Record().Open()) != 0 {
		t.Errorf("phase %s, open bills %v", got, f.Record().Open())
	}
}

func TestLogs(t *testing.T) {
	f, clk := testFleet(t, Config{MaxLogBytes: 20, Plan: func(_ Spec, _ Container, n int) (Plan, bool) {
		return Plan{Log: []string{fmt.Sprintf("run %d", n)}}, true
	}})
	g := mustStart(t, f, Spec{})
	if lines, err := g.Logs("web", LogOptions{}); err != nil || lines != nil {
		t.Errorf("before the start: %v, %v", lines, err)
	}
	clk.Step(10 * time.Second)
	clk.Step(time.Second)
	if err := g.Print("web", "one", "two"); err != nil {
		t.Fatal(err)
	}
	if err := g.Exit("web", 1); err != nil {
		t.Fatal(err)
	}
	clk.Step(time.Second)
	tests := []struct {
		opts LogOptions
		want string
	}{
		{LogOptions{}, "run 1\n"},
		{LogOptions{Previous: true}, "run 0\none\ntwo\n"},
		{LogOptions{Previous: true, Tail: 1}, "two\n"},
		{LogOptions{Previous: true, Since: epoch.Add(11 * time.Second)}, "one\ntwo\n"},
	}
	for _, tt := range tests {
		lines, err := g.Logs("web", tt.opts)
		if got := JoinLines(lines, false); err != nil || got != tt.want {
			t.Errorf("%+v: %q, %v; want %q", tt.opts, got, err, tt.want)
		}
	}
	if err := g.Print("web", "a long line that fills it"); err != nil {
		t.Fatal(err)
	}
	if lines, _ := g.Logs("web", LogOptions{}); len(lines) != 1 {
		t.Errorf("kept %v, want the newest line only", lines)
	}
	if _, err := g.Logs("nope", LogOptions{}); !errors.Is(err, ErrNoContainer) {
		t.Errorf("unknown container: %v", err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

// The driver advances groups without anyone reading them.
func TestDriverOnRealClock(t *testing.T) {
	f := NewFleet(Config{Timing: DefaultTiming().Scaled(0.002)})
	defer f.Close()
	const groups = 2000
	for i := range groups {
		mustStart(t, f, Spec{ID: fmt.Sprint("g-", i), RestartPolicy: Never})
	}
	waitFor(t, "all billed", func() bool { return len(f.ledger.Record().Entries) == groups })
	for _, g := range f.Groups() {
		if err := g.Delete(0); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "no open bill", func() bool { return len(f.ledger.Record().Open()) == 0 })
}

func TestStartRefusals(t *testing.T) {
	f, _ := testFleet(t, Config{})
	mustStart(t, f, Spec{ID: "taken"})
	c := Container{Name: "c"}
	for name, s := range map[string]Spec{
		"no id":        {Containers: []Container{c}},
		"no container": {ID: "a"},
		"no name":      {ID: "a", Containers: []Container{{}}},
		"same name":    {ID: "a", InitContainers: []Container{c}, Containers: []Container{c}},
		"id taken":     {ID: "taken", Containers: []Container{c}},
	} {
		if _, err := f.Start(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
