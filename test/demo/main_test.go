package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// waits is set in the environment of a process that waits to be interrupted.
const waits = "DEMO_TEST_WAITS"

func TestMain(m *testing.M) {
	if os.Getenv(waits) != "" {
		ctx, stop := interruptible(context.Background(), os.Stderr)
		defer stop()
		fmt.Fprintln(os.Stderr, "waiting")
		<-ctx.Done()
		fmt.Fprintln(os.Stderr, "stops:", context.Cause(ctx))
		select {} // something hangs
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		args string
		want options
		err  string
	}{
		"the scenario":            {},
		"a playground":            {args: "-playground -port=8080 -lines", want: options{playground: true, port: 8080, lines: true}},
		"a tour":                  {args: "--tour --yes", want: options{tour: true, yes: true}},
		"an unknown flag":         {args: "-playgruond", err: "flag provided but not defined: -playgruond (see -help)"},
		"an argument":             {args: "playground", err: `the argument "playground" is not understood: there are flags only (see -help)`},
		"two commands":            {args: "-tour -playground", err: "two commands"},
		"yes to nothing":          {args: "-yes", err: "-yes is for -tour"},
		"lines of nothing":        {args: "-lines -tour", err: "-lines is for -playground"},
		"a port of nothing":       {args: "-port=80", err: "-port is for"},
		"a port that is none":     {args: "-playground -port=65536", err: "-port=65536 is no port"},
		"a port below":            {args: "-playground -port=-1", err: "-port=-1 is no port"},
		"a port that is a word":   {args: "-playground -port=http", err: `invalid value "http" for flag -port`},
		"a flag without a value":  {args: "-playground -port", err: "flag needs an argument: -port"},
		"a value that is no bool": {args: "-tour=perhaps", err: `invalid boolean value "perhaps" for -tour`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := parse(strings.Fields(test.args), &out)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "\n") || out.Len() > 0 {
					t.Errorf("error %v and output %q, want one line with %q", err, out.String(), test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(options{})); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
	var out bytes.Buffer
	if _, err := parse([]string{"-help"}, &out); !errors.Is(err, flag.ErrHelp) || !strings.Contains(out.String(), "-playground") {
		t.Errorf("-help: %v, %q", err, out.String())
	}
}

func TestPreflightFinds(t *testing.T) {
	dir := t.TempDir()
	memory := filepath.Join(dir, "meminfo")
	if err := os.WriteFile(memory, []byte("MemTotal:  16000000 kB\nMemAvailable:  1048576 kB\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"a full disk":       {checkRoom("the checkout", dir, math.MaxUint64), "the disk of the checkout (" + dir + ") has "},
		"room":              {checkRoom("the checkout", dir, 1), ""},
		"a folder to make":  {checkRoom("the compiler's cache", filepath.Join(dir, "to", "be", "made"), 1), ""},
		"too little memory": {checkMemory(memory, 2*gibibyte), "1.0 GiB of memory are available, and 2.0 GiB are needed: end other programs"},
		"enough memory":     {checkMemory(memory, gibibyte/2), ""},
		"another system":    {checkMemory(filepath.Join(dir, "nothing"), math.MaxUint64), ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if test.err != nil {
				got = test.err.Error()
			}
			if got != test.want && (test.want == "" || !strings.HasPrefix(got, test.want)) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}

	// All that is wrong is told at once.
	t.Setenv("PATH", dir)
	t.Setenv("TMPDIR", filepath.Join(memory, "under a file"))
	err := preflight(t.Context(), dir, &screen{out: &bytes.Buffer{}})
	if err == nil || !strings.Contains(err.Error(), "nothing was started") || !strings.Contains(err.Error(), "the go command is not on the PATH") ||
		!strings.Contains(err.Error(), "the disk of temporary files") {
		t.Errorf("got %v, want both that go is missing and that there is no room for temporary files", err)
	}
}

// The first Ctrl-C ends the playground in good order, the second one at once.
func TestInterrupt(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), waits+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(stderr)
	expect := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), want) {
				return
			}
		}
		t.Fatalf("the process did not say %q", want)
	}
	interrupt := func() {
		t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	}
	expect("waiting")
	interrupt()
	expect("Ctrl-C once more ends it at once")
	expect("stops: ended by interrupt")
	interrupt()
	expect("ended at once")
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 130 {
			t.Errorf("the process ended with %v, want code 130", err)
		}
	case <-time.After(time.Minute):
		t.Error("the second Ctrl-C did not end the process")
	}
}
