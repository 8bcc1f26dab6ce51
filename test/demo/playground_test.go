package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/playground/session"
	"github.com/autoburst/autoburst/test/playground/tour"
)

var update = flag.Bool("update", false, "write docs/playground.md anew from what the tour prints")

// output is what a program has printed so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String is the text without what is for the terminal.
func (o *output) String() string { return ansi.Strip(o.raw()) }

func (o *output) raw() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func until(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(t.Context(), timeout, what, condition); err != nil {
		t.Fatal(err)
	}
}

func (o *output) until(t *testing.T, text string) {
	t.Helper()
	until(t, 3*time.Minute, fmt.Sprintf("%q is printed", text), func(context.Context) (bool, error) {
		if got := o.String(); !strings.Contains(got, text) {
			return false, fmt.Errorf("it has printed\n%s", got[max(0, len(got)-3000):])
		}
		return true, nil
	})
}

// The playground as a person uses it: on a terminal, with the tour and with what goes
// wrong. It is killed, and the next one removes what that leaves.
func TestPlayground(t *testing.T) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("building the demo: %v\n%s", err, out)
	}

	first := exec.Command(program, "-playground")
	first.Dir, first.Env = root, append(os.Environ(), "TERM=xterm-256color", "LC_ALL=C.UTF-8")
	terminal, err := pty.StartWithSize(first, &pty.Winsize{Cols: 110, Rows: 34})
	if err != nil {
		t.Fatal(err)
	}
	seen, ended := &output{}, make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(seen, terminal) // it ends with the program
		_ = first.Wait()
	}()
	t.Cleanup(func() {
		_ = first.Process.Kill()
		<-ended
		terminal.Close()
	})
	seen.until(t, "The playground is up after")
	seen.until(t, "q end the playground")

	if out, err := exec.CommandContext(t.Context(), program, "-playground").CombinedOutput(); err == nil ||
		!strings.Contains(string(out), fmt.Sprintf("a playground runs in this checkout already, as process %d", first.Process.Pid)) {
		t.Errorf("a second playground: %v\n%s", err, out)
	}
	running, err := session.Find(root)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("tour", func(t *testing.T) { testTour(t, root, running) })
	// The view has followed it. Of its frames only what changes is drawn, but the title
	// of the window is written whole.
	for _, want := range []string{"local 24  eci 10  aci 0  waiting 6", "local 24  eci 16  aci 4  waiting 0", "ALL BURSTING IS STOPPED"} {
		if !strings.Contains(seen.raw(), want) {
			t.Errorf("the live view did not show %q", want)
		}
	}

	// A container that is a process of this machine outlives the kill -9.
	shell(t, running, `set -e
		kubectl create namespace left
		kubectl annotate namespace left autoburst.io/mode=Always
		kubectl wait --for=jsonpath='{.metadata.labels.autoburst\.io/served}'=true namespace/left --timeout=30s
		kubectl -n left run sleeper --image=busybox --command -- sleep 1000000
		kubectl -n left wait --for=condition=Ready pod/sleeper --timeout=60s`)
	children := childrenOf(t, first.Process.Pid)
	if len(children) < 8 {
		t.Fatalf("the playground has %d processes, want the control plane's, the product's and the container's", len(children))
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	until(t, time.Minute, "what it started is gone with it, but for the container", func(context.Context) (bool, error) {
		if left := alive(children); len(left) != 1 {
			return false, fmt.Errorf("these are left: %v", left)
		}
		return true, nil
	})

	// The next one cleans up; it is started by go run, which is then killed.
	second := exec.Command("go", "run", "./test/demo", "-playground")
	second.Dir = root
	said := &output{}
	second.Stdout, second.Stderr = said, said
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { defer close(waited); _ = second.Wait() }()
	t.Cleanup(func() {
		_ = second.Process.Kill()
		<-waited
	})
	said.until(t, "removing what an earlier one left: 1 processes")
	said.until(t, "Ctrl-C ends it and removes everything.")
	if left := alive(children); len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
	if running, err = session.Find(root); err != nil {
		t.Fatal(err)
	}
	itself, _, err := stat(running.PID)
	if err != nil {
		t.Fatal(err)
	}
	children = append(childrenOf(t, running.PID), itself)
	if err := second.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, time.Minute, "the playground ends with the go run that started it", func(context.Context) (bool, error) {
		if left := alive(children); len(left) > 0 {
			return false, fmt.Errorf("these are left: %v", left)
		}
		if _, err := session.Find(root); !errors.Is(err, session.ErrNone) {
			return false, fmt.Errorf("one is still found: %w", err)
		}
		return true, nil
	})
	if _, err := os.Stat(filepath.Join(root, ".cache", "playground", "run")); !os.IsNotExist(err) {
		t.Errorf("the folder of the playground is left: %v", err)
	}
}

// testTour goes through the tour and compares what it prints with the docs.
func testTour(t *testing.T, root string, running session.Published) {
	said := &output{}
	guide := &tour.Guide{Root: root, Session: running, Out: said}
	begin := time.Now()
	results, err := guide.Run(t.Context(), tour.Steps())
	if err != nil {
		text := said.String()
		t.Fatalf("%v\n%s", err, text[max(0, len(text)-3000):])
	}
	t.Logf("the tour took %s", time.Since(begin).Round(time.Second))
	frame, err := os.ReadFile(filepath.Join(root, "test", "playground", "terminal", "testdata", "plain.txt"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := tour.Page(results, string(frame))
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(root, "docs", "playground.md")
	if *update {
		if err := os.WriteFile(page, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("docs/playground.md says otherwise (-page +tour; 'go test ./test/demo -run TestPlayground -update' writes it anew):\n%s", diff)
	}
}

func shell(t *testing.T, s session.Published, text string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", text)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "PATH="+s.Bin+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// process tells one that has a number from a later one.
type process struct {
	pid     int
	name    string
	started string
}

// stat reads what the kernel says about a process: its parent, too.
func stat(pid int) (p process, parent int, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return p, 0, err
	}
	// The name is in parentheses and may have spaces.
	name, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return p, 0, fmt.Errorf("process %d: %q", pid, text)
	}
	if fields[0] == "Z" {
		return p, 0, syscall.ESRCH // it has ended, and somebody has yet to look
	}
	parent, err = strconv.Atoi(fields[1])
	return process{pid: pid, name: name[strings.Index(name, "(")+1:], started: fields[19]}, parent, err
}

// childrenOf are the processes that a process has started.
func childrenOf(t *testing.T, pid int) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var out []process
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, parent, err := stat(child); err == nil && parent == pid {
			out = append(out, p)
		}
	}
	return out
}

// alive are those that have not ended.
func alive(all []process) []process {
	var out []process
	for _, p := range all {
		if now, _, err := stat(p.pid); err == nil && now.started == p.started {
			out = append(out, p)
		}
	}
	return out
}
