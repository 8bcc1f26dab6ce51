package eci_test

import (
	"io"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
)

// newShell returns a provider and the ID of a group whose container is a shell.
func newShell(t *testing.T) (*eci.Provider, string) {
	t.Helper()
	p := newCloud(t).provider(t)
	spec := pod("shell")
	spec.Containers[0].Command = []string{"sh", "-c", "sleep 600"}
	id, err := p.Create(within(t), spec)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, p, id, "it runs", running)
	return p, id
}

func TestExec(t *testing.T) {
	p, id := newShell(t)
	for name, test := range map[string]struct {
		command providers.ExecCommand
		input   string
		told    bool
		want    string
	}{
		"arguments":            {providers.ExecCommand{Command: []string{"sh", "-c", `echo "$1 $2"; echo oops >&2; exit 4`, "sh", "a  b", ""}}, "", false, "a  b \noops\n"},
		"input":                {providers.ExecCommand{Command: []string{"head", "-n1"}, Stdin: true}, "a line\n", false, "a line\n"},
		"terminal and its end": {providers.ExecCommand{Command: []string{"cat"}, Stdin: true, TTY: true}, "a line\n", true, "a line\r\na line\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			session, err := p.Exec(within(t), id, "nginx", test.command)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if test.command.Stdin {
				if _, err := io.WriteString(session, test.input); err != nil {
					t.Fatal(err)
				}
				if told, err := session.CloseWrite(); told != test.told || err != nil {
					t.Errorf("the end of the input was passed on: %t, %v, want %t", told, err, test.told)
				}
			}
			out, err := io.ReadAll(session)
			if err != nil || string(out) != test.want {
				t.Errorf("output %q, error %v, want %q", out, err, test.want)
			}
		})
	}
}

func TestExecThatCannotBe(t *testing.T) {
	p, id := newShell(t)
	long := strings.Repeat("é", 257)
	for name, test := range map[string]struct {
		id, container string
		command       []string
		want          providers.ErrorClass
		text          string
	}{
		"a long word":       {id, "nginx", []string{"echo", long}, providers.Unsupported, "word 2 of the command has 257 characters"},
		"many words":        {id, "nginx", make([]string, 21), providers.Unsupported, "21 words"},
		"as long as can be": {id, "nginx", append(make([]string, 18), "", long[2:]), "", ""},
		"no such group":     {"eci-none", "nginx", []string{"ls"}, providers.NotFound, ""},
		"no such container": {id, "other", []string{"ls", "p4ssw0rd"}, providers.Unknown, "does not exist"},
	} {
		session, err := p.Exec(within(t), test.id, test.container, providers.ExecCommand{Command: test.command})
		if got := providers.ClassOf(err); got != test.want || err != nil && !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: error %v, want %s with %q", name, err, test.want, test.text)
		}
		if err == nil {
			_ = session.Close()
		}
	}
	if _, err := p.Attach(within(t), id, "nginx"); providers.ClassOf(err) != providers.Unsupported {
		t.Errorf("attach: %v, want it %s", err, providers.Unsupported)
	}
}
