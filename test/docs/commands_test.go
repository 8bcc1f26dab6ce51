package docs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/test/cluster"
)

func TestCommandsOf(t *testing.T) {
	got, err := commandsOf(`for n in $(kubectl get nodes -o 'name'); do
  kubectl drain "$n" --delete-node || break # a remark
done
helm uninstall autoburst \
  -n x | grep -v "a b"`)
	if err != nil {
		t.Fatal(err)
	}
	want := []command{
		{"kubectl", "get", "nodes", "-o", "name"},
		{"kubectl", "drain", `"$n"`, "--delete-node"}, {"break"},
		{"helm", "uninstall", "autoburst", "-n", "x"}, {"grep", "-v", "a b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read otherwise (-want +got):\n%s", diff)
	}
}

// Every command of the documentation runs, or its flags are at least known.
func TestCommands(t *testing.T) {
	all, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	shell := newShell(t)
	ran := 0
	for _, p := range all {
		t.Run(p.path, func(t *testing.T) {
			for _, b := range p.blocks {
				if b.language != "sh" {
					continue
				}
				commands, err := commandsOf(b.text)
				if err != nil {
					t.Errorf("%s: %v", b, err)
					continue
				}
				if commands[0][0] == "make" {
					for _, c := range commands {
						if err := shell.checkTarget(t.Context(), c); err != nil {
							t.Errorf("%s: %v", b, err)
						}
					}
					continue
				}
				if _, not := b.remarks["not run"]; not {
					for _, c := range commands {
						if err := shell.checkFlags(t.Context(), c); err != nil {
							t.Errorf("%s: %v", b, err)
						}
					}
					continue
				}
				ran++
				if out, err := shell.run(t.Context(), b.remarks["before"]+"\n"+b.text); err != nil {
					t.Errorf("%s: %v\n%s\nwas printed by\n%s", b, err, out, b.text)
				}
			}
		})
	}
	t.Logf("%d pieces of shell were carried out", ran)
}

// The checks find what they are for.
func TestWrongCommandsAreFound(t *testing.T) {
	shell := newShell(t)
	ctx := t.Context()
	for name, text := range map[string]string{
		"flag":       "kubectl autoburst drain virtual-eci --nonsense",
		"subcommand": "kubectl autoburst nonsense",
		"helm flag":  "helm uninstall autoburst --nonsense",
	} {
		commands, err := commandsOf(text)
		if err != nil {
			t.Fatal(err)
		}
		if shell.checkFlags(ctx, commands[0]) == nil {
			t.Errorf("%s: %s passes", name, text)
		}
	}
	if shell.checkTarget(ctx, command{"make", "nonsense"}) == nil {
		t.Error("make nonsense passes")
	}
	if _, err := shell.run(ctx, "kubectl get nonsense\ntrue"); err == nil {
		t.Error("a command that fails passes")
	}
}

// A shell runs commands as a reader of the documentation would, at the root of a
// checkout.
type shell struct {
	// dir holds what the root of a checkout holds; what commands write stays in it.
	dir string
	env []string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	root, err := cluster.RepositoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name, text := range map[string]string{
		"kubectl": fmt.Sprintf("if [ \"$1\" = autoburst ]; then shift; exec %s \"$@\"; fi\nexec %s kubectl \"$@\"\n", system.Plugin(), system.Binary),
		"helm":    fmt.Sprintf("exec %s \"$@\"\n", system.HelmProgram()),
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir, home := t.TempDir(), t.TempDir()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(root, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return &shell{dir: dir, env: append(os.Environ(),
		"PATH="+bin+":"+os.Getenv("PATH"), "KUBECONFIG="+system.Kubeconfig, "KUBECACHEDIR="+home,
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)}
}

// run carries out a piece of shell that stops at the first failure.
func (s *shell) run(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = s.dir, s.env
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *shell) checkTarget(ctx context.Context, c command) error {
	out, err := s.run(ctx, strings.Join(slices.Concat(command{"make", "--dry-run"}, c[1:]), " "))
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c, " "), err, out)
	}
	return nil
}

func (s *shell) checkFlags(ctx context.Context, c command) error {
	help, ok := c.help()
	if !ok {
		return nil
	}
	if len(help) > 2 && help[1] == "autoburst" {
		out, err := s.run(ctx, "kubectl autoburst --help")
		if err != nil {
			return err
		}
		if !strings.Contains(out, "\n  "+help[2]+" ") {
			return errors.New("kubectl autoburst has no command " + help[2])
		}
	}
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `"$0" "$@"`}, help...)...)
	cmd.Dir, cmd.Env = s.dir, s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(help, " "), err, out)
	}
	return nil
}
