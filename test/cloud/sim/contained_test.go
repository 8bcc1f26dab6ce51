package sim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// newContained is a fleet whose containers really run.
func newContained(t *testing.T, timing Timing) *Fleet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: containers of the emulated clouds that really run; runc needs root")
	}
	o, err := runc.Programs(t.Context(), "../../../.cache/debian")
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	runtime, err := runc.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f := NewFleet(Config{Timing: timing, Containers: runtime})
	t.Cleanup(func() {
		f.Close()
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 1 {
			t.Errorf("the runtime has %d folders, error %v", len(left), err)
		}
		if err := runtime.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(o.Dir); len(left) > 0 {
			t.Errorf("%v remains, error %v", left, err)
		}
	})
	return f
}

func script(text string) Container {
	return Container{Name: "c", Image: "busybox", Command: []string{"sh", "-c", text}}
}

func with(c Container, change func(*Container)) Container {
	change(&c)
	return c
}

// polite is a process that ends when it is asked to.
const polite = "trap 'echo bye; exit 143' TERM; echo ready; while :; do sleep 0.05; done"

func printed(t *testing.T, g *Group, name string, o LogOptions) string {
	t.Helper()
	lines, err := g.Logs(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return JoinLines(lines, false)
}

// waitLong is waitFor for what starts and ends containers.
func waitLong(t *testing.T, g *Group, what string, ok func(State) bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok(g.Snapshot()) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within a minute: %s; it is %+v", what, g.Snapshot())
		}
	}
}

func phase(p Phase) func(State) bool { return func(s State) bool { return s.Phase == p } }

// The status of a container is how its process ended.
func TestContainedEnds(t *testing.T) {
	f := newContained(t, Timing{})
	const message = "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
	tests := map[string]struct {
		container Container
		want      Status
		log       string
	}{
		"success":    {container: script("echo done"), want: Status{Reason: "Completed"}, log: "done\n"},
		"failure":    {container: script("exit 7"), want: Status{Reason: "Error", ExitCode: 7}},
		"no program": {container: Container{Name: "c", Image: "busybox", Command: []string{"vim"}}, want: Status{Reason: "StartError", ExitCode: 128, Message: message + `runc create failed: unable to start container process: exec: "vim": executable file not found in $PATH: unknown`}},
		"out of memory": {
			container: with(script("tail /dev/zero"), func(c *Container) { c.Setting.Memory = 32 << 20 }),
			want:      Status{Reason: "OOMKilled", ExitCode: 137},
		},
		"a message": {
			container: with(script("echo -n why > /dev/termination-log; exit 1"), func(c *Container) { c.Setting.MessagePath = "/dev/termination-log" }),
			want:      Status{Reason: "Error", ExitCode: 1, Message: "why"},
		},
		"a message from the log": {
			container: with(script("echo one; echo two; exit 1"), func(c *Container) { c.MessageFromLogs = true }),
			want:      Status{Reason: "Error", ExitCode: 1, Message: "one\ntwo\n"}, log: "one\ntwo\n",
		},
		"a terminal":           {container: with(Container{Name: "c", Image: "busybox", Command: []string{"tty"}}, func(c *Container) { c.Setting.Terminal = true }), want: Status{Reason: "Completed"}, log: "/dev/pts/0\r\n"},
		"an ignored exit code": {container: with(script("exit 9"), func(c *Container) { c.IgnoreExitCode = true }), want: Status{Reason: "Completed", Message: `exit code 9, signal 0, reason "": `}},
	}
	groups := map[string]*Group{}
	for name, test := range tests {
		groups[name] = mustStart(t, f, Spec{ID: name, RestartPolicy: Never, Containers: []Container{test.container}})
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := groups[name]
			waitLong(t, g, "it has ended", func(s State) bool { return s.Phase.Ended() })
			got := one(t, g, "c").Current
			if got.StartedAt.IsZero() || got.FinishedAt.Before(got.StartedAt) {
				t.Errorf("it ran from %s to %s", got.StartedAt, got.FinishedAt)
			}
			got.StartedAt, got.FinishedAt = time.Time{}, time.Time{}
			test.want.Run = Terminated
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if log := printed(t, g, "c", LogOptions{}); log != test.log {
				t.Errorf("log %q, want %q", log, test.log)
			}
		})
	}
}

// Init containers run one after another, and hand over what they write to volumes.
func TestContainedOrder(t *testing.T) {
	f := newContained(t, Timing{})
	writes := func(name string) Container {
		return with(script("echo "+name+" >> /shared/order; cat /files/text"), func(c *Container) {
			c.Name, c.Setting.Mounts = name, []runc.Mount{{Volume: "shared", Path: "/shared"}, {Volume: "files", Path: "/files"}}
		})
	}
	spec := Spec{
		RestartPolicy:  Always,
		InitContainers: []Container{writes("one"), writes("two")},
		Containers: []Container{with(writes("c"), func(c *Container) {
			c.Command[2] += "; cat /shared/order; test $(wc -l < /shared/order) -ge 4 || exit 1; " + polite
		})},
		Machine: runc.Machine{Hostname: "x", Volumes: []runc.Volume{{Name: "shared"}, {Name: "files", Files: []runc.File{{Path: "text", Content: []byte("old\n"), Mode: 0o444}}}}},
	}
	g := mustStart(t, f, spec)
	waitLong(t, g, "the container runs again", func(s State) bool {
		return s.Containers[0].RestartCount == 1 && strings.Contains(printed(t, g, "c", LogOptions{}), "ready")
	})
	if got := printed(t, g, "c", LogOptions{Previous: true}); got != "old\none\ntwo\nc\n" {
		t.Errorf("the first run printed %q", got)
	}
	if got := printed(t, g, "c", LogOptions{}); got != "old\none\ntwo\nc\nc\nready\n" {
		t.Errorf("the second run printed %q", got)
	}

	// A new definition has new files, and an empty volume is empty again.
	spec = spec.clone()
	spec.ID = g.ID()
	spec.Machine.Volumes = []runc.Volume{{Name: "shared"}, {Name: "files", Files: []runc.File{{Path: "text", Content: []byte("new\n"), Mode: 0o444}}}}
	if err := g.Update(spec, time.Minute); err != nil {
		t.Fatal(err)
	}
	waitLong(t, g, "the container runs anew", func(s State) bool {
		return s.Phase == Running && printed(t, g, "c", LogOptions{}) == "new\none\ntwo\nc\nc\nready\n"
	})

	// So it is on another machine.
	if err := g.Evict(0); err != nil {
		t.Fatal(err)
	}
	waitLong(t, g, "the container runs elsewhere", func(s State) bool {
		return s.Phase == Running && printed(t, g, "c", LogOptions{}) == "new\none\ntwo\nc\nc\nready\n"
	})
	if err := g.Delete(time.Minute); err != nil {
		t.Fatal(err)
	}
	await(t, g)
	if got := printed(t, g, "c", LogOptions{}); !strings.HasSuffix(got, "ready\nbye\n") {
		t.Errorf("it printed %q", got)
	}
}

func await(t *testing.T, g *Group) {
	t.Helper()
	select {
	case <-g.Done():
	case <-time.After(time.Minute):
		t.Fatalf("the group is not gone: %+v", g.Snapshot())
	}
}

// Hooks run, and who minds no SIGTERM is killed.
func TestContainedTermination(t *testing.T) {
	f := newContained(t, Timing{})
	say := func(words string) *Action {
		return &Action{Exec: []string{"sh", "-c", "echo " + words + " > /proc/1/fd/1"}}
	}
	deaf := mustStart(t, f, Spec{ID: "deaf", Containers: []Container{with(script("trap 'echo deaf' TERM; while :; do sleep 0.05; done"), func(c *Container) {
		c.PostStart, c.PreStop = say("started"), say("stopping")
	})}})
	ill := mustStart(t, f, Spec{ID: "ill", RestartPolicy: Never, Containers: []Container{with(script(polite), func(c *Container) {
		c.PostStart = &Action{Exec: []string{"sh", "-c", "echo no luck; exit 1"}}
	})}})
	stubborn := mustStart(t, f, Spec{ID: "stubborn", Containers: []Container{with(script(polite), func(c *Container) {
		c.PreStop = &Action{Exec: []string{"sleep", "600"}}
	})}})
	waitLong(t, deaf, "the hook has run", func(State) bool { return printed(t, deaf, "c", LogOptions{}) == "started\n" })
	const grace = 6 * time.Second
	waitLong(t, stubborn, "it runs", phase(Running))
	begun := time.Now()
	for _, g := range []*Group{deaf, stubborn} {
		if err := g.Delete(grace); err != nil {
			t.Fatal(err)
		}
	}
	await(t, deaf)
	if took := time.Since(begun); took < grace {
		t.Errorf("it was gone after %s", took)
	}
	if got := printed(t, deaf, "c", LogOptions{}); got != "started\nstopping\ndeaf\n" {
		t.Errorf("it printed %q", got)
	}
	await(t, stubborn)
	for _, g := range []*Group{deaf, stubborn} {
		if c := one(t, g, "c").Current; c.ExitCode != 137 {
			t.Errorf("%s ended with %+v", g.ID(), c)
		}
	}
	waitLong(t, ill, "the hook that fails has ended it", phase(Failed))
	if s := ill.Snapshot(); !slices.ContainsFunc(s.Events, func(e Event) bool {
		return e.Reason == "FailedPostStartHook" && strings.Contains(e.Message, "no luck")
	}) {
		t.Errorf("the events are %+v", s.Events)
	}
}

// Probes ask the container: its programs, its web server, its ports.
func TestContainedProbes(t *testing.T) {
	f := newContained(t, Timing{})
	quick := func(a Action) *Probe {
		return &Probe{Action: a, Period: 50 * time.Millisecond, Timeout: 5 * time.Second, FailureThreshold: 1}
	}
	patient := quick(Action{TCPPort: 80})
	patient.FailureThreshold = 1000 // until the server listens
	web := mustStart(t, f, Spec{
		ID: "web", Machine: runc.Machine{Hostname: "web", Address: "10.0.0.7"},
		Containers: []Container{{
			Name: "c", Image: "nginx:1.27", Liveness: patient,
			Readiness: quick(Action{HTTP: &HTTPAction{Port: 80, Path: "/ready"}}),
		}},
	})
	waitLong(t, web, "the server is not ready", func(s State) bool {
		return !s.Containers[0].Ready && slices.ContainsFunc(s.Events, func(e Event) bool {
			return e.Message == "Readiness probe failed: HTTP probe failed with statuscode: 404"
		})
	})
	run := func(args ...string) {
		t.Helper()
		s, err := web.Exec("c", ExecOptions{Command: args})
		if err != nil {
			t.Fatal(err)
		}
		out, err := io.ReadAll(s)
		if err != nil || len(out) > 0 {
			t.Fatalf("%q: %q, %v", args, out, err)
		}
		<-s.Ended()
		_ = s.Close()
	}
	run("touch", "/usr/share/nginx/html/ready")
	waitLong(t, web, "the server is ready", func(s State) bool { return s.Containers[0].Ready })
	run("rm", "/usr/share/nginx/html/ready")
	waitLong(t, web, "the server is not ready any more", func(s State) bool { return !s.Containers[0].Ready })

	ill := mustStart(t, f, Spec{ID: "ill", Containers: []Container{with(script("trap 'exit 143' TERM; touch /tmp/well /tmp/trap; while :; do sleep 0.05; done"), func(c *Container) {
		c.Liveness = quick(Action{Exec: []string{"sh", "-c", "test ! -f /tmp/trap || rm /tmp/well"}}) // well once only
	})}})
	waitLong(t, ill, "it was restarted", func(s State) bool { return s.Containers[0].RestartCount > 0 })
	s := ill.Snapshot()
	if p := s.Containers[0].Previous; p == nil || p.ExitCode != 143 {
		t.Errorf("it ended with %+v", p)
	}
	if !slices.ContainsFunc(s.Events, func(e Event) bool { return strings.Contains(e.Message, "No such file or directory") }) {
		t.Errorf("the events are %+v", s.Events)
	}
}

// Commands run inside; what a container uses is what the kernel counts.
func TestContainedExec(t *testing.T) {
	f := newContained(t, Timing{})
	g := mustStart(t, f, Spec{Containers: []Container{
		with(script(polite), func(c *Container) { c.Env, c.Setting.User = []EnvVar{{"GREETING", "hello"}}, 1000 }),
		{Name: "other", Image: "example.com/unknown"},
	}})
	waitLong(t, g, "both run", func(s State) bool {
		return s.Containers[0].Current.Run == Processing && s.Containers[1].Current.Run == Processing
	})
	for name, test := range map[string]struct {
		options ExecOptions
		input   string
		want    string
	}{
		"environment and user": {ExecOptions{Command: []string{"sh", "-c", `echo "$GREETING $1"; id -u`, "sh", "a  b"}}, "", "hello a  b\n1000\n"},
		"input":                {ExecOptions{Command: []string{"head", "-n1"}, Stdin: true}, "a line\n", "a line\n"},
		"terminal":             {ExecOptions{Command: []string{"sh", "-c", "tty; stty size; echo $TERM"}, Terminal: &TerminalSize{Rows: 33, Columns: 77}}, "", "/dev/pts/0\r\n33 77\r\nxterm\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustExec(t, g, test.options)
			if _, err := io.WriteString(s, test.input); err != nil {
				t.Fatal(err)
			}
			if out, err := io.ReadAll(s); err != nil || string(out) != test.want {
				t.Errorf("output %q, error %v, want %q", out, err, test.want)
			}
			<-s.Ended()
		})
	}
	_, err := g.Exec("c", ExecOptions{Command: []string{"vim"}})
	const why = "OCI runtime exec failed: exec failed: unable to start container process: exec: \"vim\": executable file not found in $PATH: unknown\r\n"
	if !errors.Is(err, ErrNoProgram) || NotStarted([]string{"vim"}, err) != why {
		t.Errorf("a program that is not there: %v", err)
	}
	if _, err := g.Exec("other", ExecOptions{Command: []string{"vim"}}); NotStarted([]string{"vim"}, err) != why {
		t.Errorf("in a container that is simulated: %v", err)
	}
	waitLong(t, g, "its use is known", func(State) bool {
		for _, u := range g.UsageAt(f.Now())[0] {
			if u.Container == "c" && u.CPU > 0 && u.Memory > 50<<10 && u.Memory != idle.Memory {
				return true
			}
		}
		return false
	})
	s := mustExec(t, g, ExecOptions{Command: []string{"sleep", "600"}})
	if err := g.Delete(time.Minute); err != nil {
		t.Fatal(err)
	}
	<-s.Ended()
	await(t, g)
}

// A container that is told to go before it has come does not come.
func TestContainedStartsInVain(t *testing.T) {
	f := newContained(t, Timing{})
	for i := range 10 {
		g := mustStart(t, f, Spec{ID: fmt.Sprint(i), Containers: []Container{script("sleep 600")}})
		switch i % 3 {
		case 0:
			g.Remove()
		case 1:
			if err := g.Delete(0); err != nil {
				t.Fatal(err)
			}
			await(t, g)
		}
	}
	root := mustStart(t, f, Spec{ID: "root", Containers: []Container{with(script("true"), func(c *Container) { c.NonRoot = true })}})
	waitLong(t, root, "it may not run as root", func(s State) bool {
		return s.Containers[0].Current.Reason == "CreateContainerConfigError"
	})
}
