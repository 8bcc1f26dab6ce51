package aci_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/aci"
	emulator "github.com/autoburst/autoburst/test/cloud/aci"
)

// newShell returns a cloud, its provider and the ID of a group whose container is a
// shell.
func newShell(t *testing.T) (*emulator.Server, *aci.Provider, string) {
	t.Helper()
	server := newCloud(t, func(o *emulator.Options) { o.Sim.HostCommands, o.Sim.TempDir = true, t.TempDir() })
	p := newProvider(t, server)
	spec := podSpec("shell")
	spec.Containers[0].Command = []string{"sh", "-c", "sleep 600"}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); ; {
		g, err := p.Get(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if g.Status.Phase == providers.GroupRunning {
			return server, p, id
		}
		<-tick.C
	}
}

func TestExec(t *testing.T) {
	_, p, id := newShell(t)
	for name, test := range map[string]struct {
		command providers.ExecCommand
		input   string
		want    string
	}{
		"plain words":              {providers.ExecCommand{Command: []string{"echo", "a", "b=c,d:e@f/g.h-i_j%k+l"}}, "", "a b=c,d:e@f/g.h-i_j%k+l\n"},
		"for a terminal":           {providers.ExecCommand{Command: []string{"stty", "size"}, TTY: true, Size: providers.TerminalSize{Rows: 33, Columns: 77}}, "", "33 77\r\n"},
		"input and its end":        {providers.ExecCommand{Command: []string{"cat"}, Stdin: true}, "a line\n", "a line\na line\n"},
		"input without a line end": {providers.ExecCommand{Command: []string{"cat"}, Stdin: true}, "no end", "no endno end"},
		"no input at all":          {providers.ExecCommand{Command: []string{"cat"}, Stdin: true}, "", ""},
		"text of all languages":    {providers.ExecCommand{Command: []string{"cat"}, Stdin: true}, "\ttab, é, 漢字\n", "\ttab, é, 漢字\n"},
		"long lines":               {providers.ExecCommand{Command: []string{"cat"}, Stdin: true}, strings.Repeat("x", 4095) + "\n" + strings.Repeat("y", 4095), strings.Repeat("y", 4095)},
		"keys of a terminal":       {providers.ExecCommand{Command: []string{"cat"}, Stdin: true, TTY: true}, "kept\nlost\x15", "kept\r\n"},
		"returns of a program":     {providers.ExecCommand{Command: []string{"sh"}, Stdin: true}, "stty -echo; printf 'a\\rb\\r\\nc\\n'; exit\n", "a\rb\r\nc\n"},
	} {
		t.Run(name, func(t *testing.T) {
			session, err := p.Exec(within(t), id, "app", test.command)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if test.command.Stdin {
				if _, err := io.WriteString(session, test.input); err != nil {
					t.Fatal(err)
				}
				if told, err := session.CloseWrite(); !told || err != nil {
					t.Errorf("the end of the input was passed on: %t, %v", told, err)
				}
			}
			out, err := io.ReadAll(session)
			if err != nil || !strings.HasSuffix(string(out), test.want) {
				t.Errorf("output %q, error %v, want %q", out, err, test.want)
			}
		})
	}
}

// Input that the service's terminal would change is refused, and the command ends.
func TestExecInputThatCannotBe(t *testing.T) {
	_, p, id := newShell(t)
	for name, test := range map[string]struct {
		pieces []string
		want   string
	}{
		"an interrupt":         {[]string{"a\x03b"}, "the byte 0x03"},
		"a carriage return":    {[]string{"dos\r\n"}, "the byte 0x0d"},
		"an archive":           {[]string{"file", "\x00\x00"}, "the byte 0x00"},
		"a long line":          {[]string{strings.Repeat("x", 4096)}, "a line of the input has more than 4095 bytes"},
		"a long line in parts": {[]string{"a\n" + strings.Repeat("x", 4000), strings.Repeat("x", 96)}, "a line of the input has more than 4095 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			session, err := p.Exec(within(t), id, "app", providers.ExecCommand{Command: []string{"cat"}, Stdin: true})
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			for i, piece := range test.pieces {
				_, err = io.WriteString(session, piece)
				if last := i == len(test.pieces)-1; (err != nil) != last {
					t.Errorf("writing piece %d: %v", i, err)
				}
			}
			if providers.ClassOf(err) != providers.Unsupported || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
			if _, err := io.ReadAll(session); providers.ClassOf(err) != providers.Unsupported || !strings.Contains(err.Error(), test.want) {
				t.Errorf("the output ended with %v, want %s", err, test.want)
			}
		})
	}
}

// A reader with a small buffer gets the same.
func TestExecInSmallPieces(t *testing.T) {
	_, p, id := newShell(t)
	for _, size := range []int{2, 3, 5} {
		session, err := p.Exec(within(t), id, "app", providers.ExecCommand{Command: []string{"seq", "20"}})
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if _, err := io.CopyBuffer(struct{ io.Writer }{&out}, struct{ io.Reader }{session}, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		want := "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15\n16\n17\n18\n19\n20\n"
		if out.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, out.String(), want)
		}
		_ = session.Close()
	}
}

func TestExecThatCannotBe(t *testing.T) {
	_, p, id := newShell(t)
	for name, test := range map[string]struct {
		id, container string
		command       []string
		want          providers.ErrorClass
		text          string
	}{
		"a word with a space": {id, "app", []string{"sh", "-c", "echo a"}, providers.Unsupported, "word 3 cannot be passed on"},
		"an empty word":       {id, "app", []string{"echo", ""}, providers.Unsupported, "word 2 cannot be passed on"},
		"a variable":          {id, "app", []string{"echo", "$HOME"}, providers.Unsupported, "word 2 cannot be passed on"},
		"quotes":              {id, "app", []string{"echo", `'a'`}, providers.Unsupported, "word 2 cannot be passed on"},
		"a name with a space": {id, "app", []string{"my program"}, providers.Unsupported, "word 1 cannot be passed on"},
		"no such group":       {"ab-none", "app", []string{"ls"}, providers.NotFound, ""},
		"no such container":   {id, "other", []string{"ls"}, providers.NotFound, "other"},
		"a container that is": {id, "app", []string{"true"}, "", ""},
	} {
		session, err := p.Exec(within(t), test.id, test.container, providers.ExecCommand{Command: test.command})
		if got := providers.ClassOf(err); got != test.want || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: error %v, want %s with %q", name, err, test.want, test.text)
		}
		if err == nil {
			_ = session.Close()
		}
	}
}

func TestAttach(t *testing.T) {
	server, p, id := newShell(t)
	session, err := p.Attach(within(t), id, "app")
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if _, err := io.WriteString(session, "dropped"); err != nil {
		t.Error(err)
	}
	group := server.Fleet().Groups()[0]
	if err := group.Print("app", "a line"); err != nil {
		t.Fatal(err)
	}
	if err := group.Exit("app", 0); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(session); err != nil || string(out) != "a line\n" {
		t.Errorf("output %q, error %v", out, err)
	}
}
