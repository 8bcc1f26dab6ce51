package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// TestReference holds docs/cli.md, which is generated from the commands, current; make
// generate writes it anew.
func TestReference(t *testing.T) {
	golden(t, "../../docs/cli.md", reference(newRoot(genericiooptions.NewTestIOStreamsDiscard(), time.Now)))
}

// notRun keeps the tests of the documentation from carrying out what follows.
const notRun = "<!-- not run: these are examples -->\n"

// reference is the page of all commands. The flags by which kubectl is told about
// clusters, which most commands have, are listed once.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Command line\n\n" +
		"`kubectl autoburst` is a plugin of kubectl. This page is generated from the program; `kubectl autoburst COMMAND --help`\n" +
		"says the same.\n\n" +
		"```sh\nmake build\n```\n\nmakes `bin/kubectl-autoburst`. Anywhere on the `PATH` it is `kubectl autoburst`:\n\n" +
		notRun + "```sh\nsudo install bin/kubectl-autoburst /usr/local/bin/\nkubectl autoburst version --client\n```\n\n" +
		"It ends with 0 when all is well, with 1 when something failed, and with 2 when the command line, a file or the\n" +
		"kubeconfig is wrong, before anything was changed. Which cluster it speaks to is told as kubectl is told: by `KUBECONFIG`,\n" +
		"which may name several files, by the [flags below](#flags-of-kubectl), or, in a pod, by its ServiceAccount.\n\n" +
		"It is quick on large clusters as well, as pods are never listed all: in one with 101,000 pods, of which 1,000 waited in a\n" +
		"served namespace, `status` took 0.4 s, `check` 0.8 s and `version` 0.13 s, on two cores that were busy with other work\n" +
		"(`make bench`).\n\n" +
		"For names of namespaces, pods and virtual nodes on the Tab key, kubectl looks for a program\n" +
		"`kubectl_complete-autoburst` on the `PATH`:\n\n" +
		notRun + "```sh\nprintf '#!/bin/sh\\nexec kubectl autoburst __complete \"$@\"\\n' | sudo tee /usr/local/bin/kubectl_complete-autoburst\n" +
		"sudo chmod +x /usr/local/bin/kubectl_complete-autoburst\n```\n")
	shared := pflag.NewFlagSet("", pflag.ContinueOnError)
	genericclioptions.NewConfigFlags(true).AddFlags(shared)
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n```\n%s\n```\n", c.Name(), prose(c.Long), strings.TrimSuffix(c.UseLine(), " [flags]")+" [flags]")
		if c.Example != "" {
			fmt.Fprintf(&b, "\n%s```sh\n%s\n```\n", notRun, dedent(c.Example))
		}
		if rows := flags(c.LocalFlags(), func(f *pflag.Flag) bool { return f.Name != "help" && !same(shared.Lookup(f.Name), f) }); rows != "" {
			b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n" + rows)
		}
	}
	b.WriteString("\n## completion\n\nPrint the script by which a shell completes commands and flags of `kubectl-autoburst`: `bash`, `zsh`, `fish` or `powershell`.\n\n" +
		notRun + "```sh\nkubectl-autoburst completion bash > /etc/bash_completion.d/kubectl-autoburst\n```\n")
	b.WriteString("\n## Flags of kubectl\n\nAll commands but `simulate` and `completion` have these; `--namespace` those only that are about one namespace.\n\n| flag | meaning |\n|---|---|\n")
	shared.VisitAll(func(f *pflag.Flag) {
		fmt.Fprintf(&b, "| %s | %s |\n", flagName(f), cell(f.Usage))
	})
	return b.String()
}

func same(a, b *pflag.Flag) bool { return a != nil && a.Usage == b.Usage }

func flags(fs *pflag.FlagSet, show func(*pflag.Flag) bool) string {
	var b strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || !show(f) {
			return
		}
		value := ""
		switch f.DefValue {
		case "", "[]", "false":
		default:
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", flagName(f), value, cell(f.Usage))
	})
	return b.String()
}

func flagName(f *pflag.Flag) string {
	if f.Shorthand != "" {
		return "`-" + f.Shorthand + "`, `--" + f.Name + "`"
	}
	return "`--" + f.Name + "`"
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
}

// prose shows what is indented as code.
func prose(s string) string {
	return regexp.MustCompile(`(?m)(^  .*\n?)+`).ReplaceAllStringFunc(s, func(code string) string {
		return "<!-- in: case -->\n```yaml\n" + strings.TrimRight(dedent(code), "\n") + "\n```\n"
	})
}

func dedent(s string) string { return regexp.MustCompile(`(?m)^  `).ReplaceAllString(s, "") }

// Each command has its section of the reference, and completes its flags.
func TestCommands(t *testing.T) {
	root := newRoot(genericiooptions.NewTestIOStreamsDiscard(), time.Now)
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range root.Commands() {
		if c.Hidden || c.Name() == "help" {
			continue
		}
		if !bytes.Contains(page, []byte("\n## "+c.Name()+"\n")) {
			t.Errorf("docs/cli.md does not tell of %s", c.Name())
		}
		if c.Short == "" || c.Long == "" {
			t.Errorf("%s does not say what it does", c.Name())
		}
		for flag, command := range map[string][]string{"output": {"check", "status", "explain", "version"}, "dry-run": {"enable", "disable"}, "mode": {"enable"}} {
			for _, name := range command {
				if name != c.Name() {
					continue
				}
				if _, found := c.GetFlagCompletionFunc(flag); !found {
					t.Errorf("%s does not complete the values of --%s", name, flag)
				}
			}
		}
	}
}
