package sim

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// talking is a group whose one container is a shell that waits.
func talking(t *testing.T, f *Fleet) *Group {
	t.Helper()
	g := mustStart(t, f, Spec{RestartPolicy: Never, Containers: []Container{
		{Name: "c", Image: "busybox", Command: []string{"sh", "-c", "sleep 600"}, Env: []EnvVar{{"GREETING", "hello"}}},
		{Name: "simulated", Image: "nginx"},
	}})
	waitFor(t, "the container runs", func() bool { return one(t, g, "c").Current.Run == Processing })
	return g
}

func mustExec(t *testing.T, g *Group, o ExecOptions) *Session {
	t.Helper()
	s, err := g.Exec("c", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestExec(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := talking(t, f)
	for name, test := range map[string]struct {
		options ExecOptions
		input   string
		want    string
	}{
		"environment and both outputs": {ExecOptions{Command: []string{"sh", "-c", `echo "$GREETING"; echo oops >&2; exit 3`}}, "", "hello\noops\n"},
		"no input":                     {ExecOptions{Command: []string{"cat"}}, "dropped", ""},
		"input":                        {ExecOptions{Command: []string{"head", "-n1"}, Stdin: true}, "a line\n", "a line\n"},
		"no terminal":                  {ExecOptions{Command: []string{"tty"}}, "", "not a tty\n"},
		"terminal":                     {ExecOptions{Command: []string{"stty", "size"}, Terminal: &TerminalSize{Rows: 33, Columns: 77}}, "", "33 77\r\n"},
		"end of a terminal's input":    {ExecOptions{Command: []string{"cat"}, Terminal: &TerminalSize{Rows: 1, Columns: 1}}, "x\n\x04", "x\r\nx\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mustExec(t, g, test.options)
			if _, err := io.WriteString(s, test.input); err != nil {
				t.Fatal(err)
			}
			out, err := io.ReadAll(s)
			if err != nil || string(out) != test.want {
				t.Errorf("output %q, error %v, want %q", out, err, test.want)
			}
			<-s.Ended()
		})
	}
}

func TestExecThatCannotBe(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := talking(t, f)
	for name, test := range map[string]struct {
		container, program string
		want               error
	}{
		"a program that the image lacks": {"c", "vim", ErrNoProgram},
		"a simulated container":          {"simulated", "sh", ErrNoProgram},
		"no such container":              {"other", "sh", ErrNoContainer},
	} {
		if _, err := g.Exec(test.container, ExecOptions{Command: []string{test.program}}); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	if err := g.Exit("simulated", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Exec("simulated", ExecOptions{Command: []string{"sh"}}); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a container that has ended: %v, want %v", err, ErrNotRunning)
	}
}

// A command does not outlive its container, whatever it does about signals.
func TestExecEndsWithItsContainer(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := talking(t, f)
	for _, terminal := range []*TerminalSize{nil, {Rows: 10, Columns: 10}} {
		s := mustExec(t, g, ExecOptions{Command: []string{"bash", "-c", "trap '' TERM HUP; echo $$; while :; do sleep 0.1; done"}, Terminal: terminal})
		var pid int
		if _, err := fmt.Fscan(s, &pid); err != nil {
			t.Fatal(err)
		}
		defer waitFor(t, "the command is gone", func() bool { return !alive(pid) })
		defer func() { <-s.Ended() }()
	}
	if err := g.Delete(time.Second); err != nil {
		t.Fatal(err)
	}
	<-g.Done()
}

func TestAttach(t *testing.T) {
	f := NewFleet(Config{HostCommands: true})
	defer f.Close()
	g := mustStart(t, f, Spec{RestartPolicy: Never, Containers: []Container{{Name: "c", Image: "nginx"}}})
	waitFor(t, "the container runs", func() bool { return one(t, g, "c").Current.Run == Processing })
	a, err := g.Attach("c")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := g.Print("c", "one", "two"); err != nil {
		t.Fatal(err)
	}
	if err := g.Exit("c", 0); err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(a)
	if err != nil || string(out) != "one\ntwo\n" || strings.Contains(string(out), "starting") {
		t.Errorf("output %q, error %v: want what came after the attaching", out, err)
	}
	if _, err := g.Attach("c"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("attaching to an ended container: %v, want %v", err, ErrNotRunning)
	}
}
