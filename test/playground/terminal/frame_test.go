package terminal

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/test/playground/live"
)

var update = flag.Bool("update", false, "write the golden frames anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is a moment of a playground.
func recorded(t *testing.T) live.State {
	t.Helper()
	text, err := os.ReadFile("../live/testdata/state.json")
	if err != nil {
		t.Fatal(err)
	}
	var s live.State
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFrame(t *testing.T) {
	look := Look{Width: 100, Height: 32, Notes: []string{"http://127.0.0.1:8080"}, Commands: []string{"export KUBECONFIG=/tmp/config", "kubectl get nodes"}}
	for name, test := range map[string]struct {
		look    func(*Look)
		state   func(*live.State)
		profile colorprofile.Profile
	}{
		"plain":  {},
		"colour": {profile: colorprofile.ANSI256},
		"ascii":  {look: func(l *Look) { l.ASCII = true }},
		"help":   {look: func(l *Look) { l.Help = true }},
		"narrow": {look: func(l *Look) { l.Width, l.Height = 60, 24 }},
		"tiny":   {look: func(l *Look) { l.Width, l.Height = 30, 8 }},
		"wide":   {look: func(l *Look) { l.Width, l.Height = 160, 28 }},
		"begin": {state: func(s *live.State) {
			*s = live.State{Time: s.Time, Since: s.Time, Local: s.Local[:1], Events: []live.Event{}}
		}},
		"not-live": {state: func(s *live.State) { s.Trouble = "kube-apiserver ended: signal: killed; its log ends with:\nmore" }},
		"everything-is-wrong": {state: func(s *live.State) {
			s.Stopped = true
			s.Local[0].Ready, s.Local[0].Running, s.Local[0].Starting = false, 3, 5
			s.Virtual[0].Cordoned, s.Virtual[0].NoCapacity = true, true
			s.Virtual[1].Starting = 90 // more than a bar is wide
		}},
		"many-nodes": {state: func(s *live.State) {
			for i := range 40 {
				s.Local = append(s.Local, live.Node{Name: fmt.Sprintf("another-local-node-%d", i), Ready: true, AllocatableCPU: 3.5, RequestedCPU: 1.25, Running: 2})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, l := recorded(t), look
			if test.look != nil {
				test.look(&l)
			}
			if test.state != nil {
				test.state(&s)
			}
			var got bytes.Buffer
			out := colorprofile.Writer{Forward: &got, Profile: max(test.profile, colorprofile.NoTTY)}
			if _, err := out.WriteString(Frame(s, l) + "\n"); err != nil {
				t.Fatal(err)
			}
			if l.ASCII && strings.ContainsFunc(got.String(), func(r rune) bool { return r > unicode.MaxASCII }) {
				t.Errorf("there is more than ASCII in\n%s", got.String())
			}
			golden(t, filepath.Join("testdata", name+".txt"), got.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, diff)
	}
}

// Whatever is shown on whatever terminal, a frame is neither higher nor wider than
// that, or the terminal would scroll and flicker.
func TestFrameFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.Custom(func(t *rapid.T) live.Node {
			return live.Node{
				Name: rapid.StringMatching("[a-zé節]{0,30}").Draw(t, "name"), Ready: rapid.Bool().Draw(t, "ready"), Cordoned: rapid.Bool().Draw(t, "cordoned"),
				Running: rapid.IntRange(0, 500).Draw(t, "running"), Starting: rapid.IntRange(0, 500).Draw(t, "starting"),
				RequestedCPU: rapid.Float64Range(0, 500).Draw(t, "requested"), AllocatableCPU: rapid.Float64Range(0, 500).Draw(t, "allocatable"),
			}
		})
		s := live.State{
			Time: time.Unix(1_000_000, 0), Since: time.Unix(0, 0), Stopped: rapid.Bool().Draw(t, "stopped"),
			Local: rapid.SliceOfN(node, 0, 30).Draw(t, "local"), Virtual: rapid.SliceOfN(node, 0, 3).Draw(t, "virtual"),
			Waiting: live.Waiting{Pods: rapid.IntRange(0, 2000).Draw(t, "waiting")},
			Limits:  []live.Limit{{Policy: "BurstPolicy a/b", Resource: "pods", Used: "1", Max: "2", Share: rapid.Float64Range(0, 3).Draw(t, "share")}},
			Events:  []live.Event{{Object: "x", Message: rapid.String().Draw(t, "message")}},
		}
		l := Look{
			Width: rapid.IntRange(1, 200).Draw(t, "width"), Height: rapid.IntRange(1, 60).Draw(t, "height"),
			ASCII: rapid.Bool().Draw(t, "ascii"), Help: rapid.Bool().Draw(t, "help"), Commands: []string{"one", "two"},
		}
		lines := strings.Split(Frame(s, l), "\n")
		if len(lines) > l.Height {
			t.Fatalf("%d lines on a terminal of %d", len(lines), l.Height)
		}
		for _, line := range lines {
			if w := ansi.StringWidth(line); w > l.Width {
				t.Fatalf("%d cells on a terminal of %d: %q", w, l.Width, line)
			}
			if strings.ContainsFunc(ansi.Strip(line), unicode.IsControl) {
				t.Fatalf("a control character: %q", line)
			}
		}
	})
}

func TestASCII(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		want        bool
	}{
		"nothing is said":       {},
		"UTF-8":                 {environment: map[string]string{"LANG": "de_DE.UTF-8"}},
		"another way to say it": {environment: map[string]string{"LC_CTYPE": "C.utf8"}},
		"POSIX":                 {environment: map[string]string{"LANG": "POSIX"}, want: true},
		"LC_ALL wins":           {environment: map[string]string{"LC_ALL": "C", "LANG": "en_GB.UTF-8"}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ASCII(func(name string) string { return test.environment[name] }); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// states is a source of states that a test sends.
type states chan live.State

func (s states) Subscribe(ctx context.Context) <-chan live.State {
	out := make(chan live.State)
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case state, ok := <-s:
				if !ok {
					return
				}
				select {
				case out <- state:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return out
}

// screen is what a terminal would show, as far as a test needs it: the text since the
// last time that it was asked for.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) until(t *testing.T, what ...string) string {
	t.Helper()
	timeout := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		raw := s.text.String()
		s.mu.Unlock()
		text, found := ansi.Strip(raw), true
		for _, w := range what {
			found = found && strings.Contains(text, w)
		}
		if found {
			s.mu.Lock()
			s.text.Reset()
			s.mu.Unlock()
			return raw
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("not within 30 s: %q in\n%s", what, text)
		}
	}
}

// The live view on a real terminal: it draws, follows the states and the size of the
// window, takes keys, and leaves the terminal as it was.
func TestShow(t *testing.T) {
	for name, test := range map[string]struct {
		environment map[string]string
		colours     bool
	}{
		"colour":   {environment: map[string]string{"TERM": "xterm-256color", "NO_COLOR": ""}, colours: true},
		"NO_COLOR": {environment: map[string]string{"TERM": "xterm-256color", "NO_COLOR": "1"}},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range test.environment {
				t.Setenv(k, v)
			}
			terminal, tty, err := pty.Open()
			if err != nil {
				t.Fatal(err)
			}
			defer tty.Close()
			size := func(columns, rows uint16) {
				if err := pty.Setsize(terminal, &pty.Winsize{Cols: columns, Rows: rows}); err != nil {
					t.Fatal(err)
				}
			}
			size(100, 32)
			seen := &screen{}
			read := make(chan struct{})
			go func() {
				defer close(read)
				_, _ = io.Copy(seen, terminal) // it ends with an error when the terminal is closed
			}()

			source := make(states, 8)
			s := recorded(t)
			source <- s
			done := make(chan error, 1)
			go func() {
				done <- Show(t.Context(), tty, tty, source, Look{Notes: []string{"http://127.0.0.1:8080"}, Commands: []string{"kubectl get nodes"}})
			}()
			raw := seen.until(t, "local-1", "virtual-eci", "CNY 0.0501", "30 of 30 pods", "http://127.0.0.1:8080")
			if got := strings.Contains(raw, "\x1b[38;"); got != test.colours {
				t.Errorf("colours: %v, want %v", got, test.colours)
			}
			if !strings.Contains(raw, "\x1b[?1049h") {
				t.Error("the view did not take a screen of its own")
			}
			s.Stopped = true
			source <- s
			seen.until(t, "ALL BURSTING IS STOPPED")
			if _, err := terminal.WriteString("h"); err != nil {
				t.Fatal(err)
			}
			seen.until(t, "kubectl get nodes")
			if _, err := terminal.WriteString("q"); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(30 * time.Second):
				t.Fatal("q did not end the view")
			}
			seen.until(t, "") // what was written until now
			tty.Close()
			terminal.Close()
			<-read
		})
	}
}

func TestTell(t *testing.T) {
	source := make(states, 4)
	s := recorded(t)
	s.Events = s.Events[len(s.Events)-3:]
	source <- s
	source <- s // nothing has changed
	s.Time, s.Waiting.Pods = s.Time.Add(time.Second), 0
	source <- s
	close(source)
	var got bytes.Buffer
	Tell(t.Context(), &got, source)
	golden(t, "testdata/lines.txt", got.String())
}
