package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// noon is half a minute after the verdict in the files of testdata.
var noon = time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)

type ended struct {
	code        int
	out, errOut string
}

// execute runs the program without a kubeconfig of the machine's.
func execute(t *testing.T, stdin string, args ...string) ended {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var out, errOut bytes.Buffer
	streams := genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &errOut}
	code := run(t.Context(), args, streams, func() time.Time { return noon })
	return ended{code, out.String(), errOut.String()}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got)\n%s", file, diff)
	}
}

func TestExplainOffline(t *testing.T) {
	files, err := filepath.Glob("testdata/explain/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			e := execute(t, "", "explain", "-f", file, "--policies", "testdata/policies")
			if e.code != exitOK || e.errOut != "" {
				t.Fatalf("ended with %d: %s", e.code, e.errOut)
			}
			golden(t, strings.TrimSuffix(file, ".yaml")+".golden", e.out)
		})
	}
}

// TestExplainFormats: json and yaml say the same, and standard input is read.
func TestExplainFormats(t *testing.T) {
	manifest, err := os.ReadFile("testdata/explain/second-target.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var reports [2]report
	for i, format := range []string{"json", "yaml"} {
		e := execute(t, string(manifest), "explain", "-f", "-", "--policies", "testdata/policies/policies.yaml", "--policies", "testdata/policies/nodes.yaml", "-o", format)
		if e.code != exitOK {
			t.Fatalf("%s: ended with %d: %s", format, e.code, e.errOut)
		}
		if isJSON := json.Valid([]byte(e.out)); isJSON != (format == "json") {
			t.Errorf("-o %s gives\n%s", format, e.out)
		}
		if err := yaml.UnmarshalStrict([]byte(e.out), &reports[i]); err != nil {
			t.Fatalf("%s: %v", format, err)
		}
	}
	if diff := cmp.Diff(reports[0], reports[1]); diff != "" {
		t.Errorf("(-json +yaml)\n%s", diff)
	}
	d := reports[0].Decision
	if d.Action != "Wait" || d.Target != "eci" || d.Policy != "BurstPolicy/batch" || d.Grant != "" || d.Docs != "docs/reasons.md#afterpending" {
		t.Errorf("the decision is %+v", d)
	}
	if reports[0].Targets[0].Nodes[0].Refusals[0].Field != "spec.containers[0].volumeMounts[0].subPath" {
		t.Errorf("the targets are %+v", reports[0].Targets)
	}
	if strings.Count(reports[0].Diff, "\n- ") > 0 || !strings.Contains(reports[0].Diff, "autoburst.io/reason: AfterPending") {
		t.Errorf("the diff takes something away, or does not say the reason:\n%s", reports[0].Diff)
	}
}

// TestSimulate: what passes and what fails is told, the code follows.
func TestSimulate(t *testing.T) {
	for suite, want := range map[string]int{"suite": exitOK, "failing": exitFailure} {
		t.Run(suite, func(t *testing.T) {
			e := execute(t, "", "simulate", "--suite", "testdata/"+suite, "--policies", "testdata/policies")
			if e.code != want || e.errOut != "" {
				t.Errorf("ended with %d, want %d: %s", e.code, want, e.errOut)
			}
			golden(t, "testdata/"+suite+".golden", e.out)
		})
	}
}

func TestSimpleCommands(t *testing.T) {
	tests := map[string]struct {
		args []string
		want string
	}{
		"version":          {[]string{"version", "--client"}, version + "\n"},
		"bash completion":  {[]string{"completion", "bash"}, "__start_kubectl-autoburst"},
		"kinds":            {[]string{"__complete", "explain", ""}, "deploy/\n"},
		"kinds of no kind": {[]string{"__complete", "explain", "svc/"}, "deploy/\n"},
		"one namespace":    {[]string{"__complete", "enable", "shop", ""}, ":4\n"},
		"modes":            {[]string{"__complete", "enable", "--mode", ""}, "Overflow\nAlways\nAuto\n:4\n"},
		"dry runs":         {[]string{"__complete", "disable", "--dry-run", ""}, "none\nclient\nserver\n:4\n"},
		"formats of check": {[]string{"__complete", "check", "-o", ""}, "short\njson\n:4\n"},
		"other formats":    {[]string{"__complete", "status", "-o", ""}, "json\nyaml\n:4\n"},
		"no contexts":      {[]string{"__complete", "status", "--context", ""}, ":4\n"},
		"no cluster":       {[]string{"__complete", "drain", ""}, ":4\n"},
		"zsh completion":   {[]string{"completion", "zsh"}, "#compdef kubectl-autoburst"},
		"fish completion":  {[]string{"completion", "fish"}, "complete -c kubectl-autoburst"},
		"in PowerShell":    {[]string{"completion", "powershell"}, "Register-ArgumentCompleter"},
		"help":             {nil, "kubectl autoburst [command]"},
		"help of explain":  {[]string{"explain", "--help"}, "kubectl autoburst explain (pod|deploy|sts|job)/NAME | -f FILE"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := execute(t, "", test.args...)
			if e.code != exitOK || !strings.Contains(e.out, test.want) {
				t.Errorf("ended with %d, want 0 and %q in:\n%s%s", e.code, test.want, e.out, e.errOut)
			}
		})
	}
}

// TestMistakes: each ends with its code and one line that says what to mend.
func TestMistakes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const (
		pod      = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: a, image: b}]}}\n"
		policies = "testdata/policies"
	)
	suite := func(name, content string) string {
		file(name+"/case.yaml", content)
		return filepath.Join(dir, name)
	}
	tests := map[string]struct {
		args []string
		want string
	}{
		"unknown command":          {[]string{"explian"}, `unknown command "explian"; see kubectl autoburst --help`},
		"unknown flag":             {[]string{"explain", "--polices=x"}, "unknown flag: --polices; see kubectl autoburst explain --help"},
		"nothing to explain":       {[]string{"explain"}, "say what to explain"},
		"two objects":              {[]string{"explain", "pod/a", "pod/b"}, `unexpected argument "pod/b"`},
		"object and file":          {[]string{"explain", "pod/a", "-f", "x"}, "explain one or the other"},
		"object and policies":      {[]string{"explain", "pod/a", "--policies=x"}, "--policies goes with -f FILE"},
		"bad output":               {[]string{"explain", "pod/a", "-o", "wide"}, `--output "wide": must be json or yaml`},
		"bad kind":                 {[]string{"explain", "svc/a"}, "only pods, deployments, statefulsets and jobs"},
		"no kind":                  {[]string{"explain", "web"}, `"web": must be pod/NAME`},
		"no name":                  {[]string{"explain", "pod/"}, `"pod/": must be pod/NAME`},
		"no kubeconfig":            {[]string{"explain", "--context=none", "pod/a"}, "reading the kubeconfig"},
		"no file":                  {[]string{"explain", "-f", dir + "/none", "--policies", policies}, "/none: no such file or directory"},
		"no policies":              {[]string{"explain", "-f", file("pod.yaml", pod), "--policies", dir + "/none"}, "/none: no such file or directory"},
		"empty folder":             {[]string{"explain", "-f", t.TempDir(), "--policies", policies}, "has no .yaml, .yml or .json file"},
		"no YAML":                  {[]string{"explain", "-f", file("bad.yaml", "a: [\n"), "--policies", policies}, "bad.yaml"},
		"no kind in file":          {[]string{"explain", "-f", file("kindless.yaml", "a: b\n"), "--policies", policies}, "a document has no kind"},
		"misspelt field":           {[]string{"explain", "-f", file("misspelt.yaml", "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: x}, spec: {prioritty: 1}}"), "--policies", policies}, `unknown field "spec.prioritty"`},
		"newer API":                {[]string{"explain", "-f", file("newer.yaml", "{apiVersion: autoburst.io/v2, kind: BurstPolicy, metadata: {name: x}}"), "--policies", policies}, "BurstPolicy of autoburst.io/v2 is not known to this version"},
		"no pod in file":           {[]string{"explain", "-f", policies + "/policies.yaml", "--policies", policies}, "has no pod without a node and no workload"},
		"simulate without a suite": {[]string{"simulate"}, "say where the cases are: --suite DIR"},
		"simulate with argument":   {[]string{"simulate", "x"}, `unexpected argument "x"`},
		"no suite":                 {[]string{"simulate", "--suite", dir + "/none"}, "no such file or directory"},
		"empty suite":              {[]string{"simulate", "--suite", t.TempDir()}, "has no case"},
		"nothing wanted":           {[]string{"simulate", "--suite", suite("s1", pod)}, "no document says what is wanted"},
		"wanted twice":             {[]string{"simulate", "--suite", suite("s2", pod+"---\nwant: {action: Grant}\n---\nwant: {action: Wait}\n")}, "said twice"},
		"wanted nothing":           {[]string{"simulate", "--suite", suite("s3", pod+"---\nwant: {object: pod/p}\n")}, "nothing is compared"},
		"misspelt want":            {[]string{"simulate", "--suite", suite("s4", pod+"---\nwant: {acton: Grant}\n")}, `unknown field "acton"`},
		"no such reason":           {[]string{"simulate", "--suite", suite("s5", pod+"---\nwant: {reason: Because}\n")}, `want.reason: there is no reason "Because"`},
		"no such late action":      {[]string{"simulate", "--suite", suite("s6", pod+"---\nwant: {late: {action: Granted}}\n")}, `want.late.action: "Granted" is not one of`},
		"no such object":           {[]string{"simulate", "--suite", suite("s7", pod+"---\nwant: {object: pod/q, action: Wait}\n")}, "no pod/q among pod/p"},
		"no object":                {[]string{"simulate", "--suite", suite("s8", "want: {action: Wait}\n")}, "exactly one pod without a node, or workload, is wanted, got none"},
		"bad waiting time":         {[]string{"simulate", "--suite", suite("s9", pod+"---\nwant: {late: {pendingSeconds: -1, action: Wait}}\n")}, "must not be negative"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := execute(t, "", test.args...)
			if e.code != exitUsage {
				t.Errorf("ended with %d, want %d", e.code, exitUsage)
			}
			if !strings.HasPrefix(e.errOut, "error: ") || !strings.Contains(e.errOut, test.want) || strings.Count(e.errOut, "\n") != 1 {
				t.Errorf("said %q, want one line with %q", e.errOut, test.want)
			}
			if e.out != "" {
				t.Errorf("printed %q", e.out)
			}
		})
	}
}

func TestDiffLines(t *testing.T) {
	tests := map[string]struct{ before, after, want string }{
		"additions":  {"a c", "a b c d", "  a\n+ b\n  c\n+ d\n"},
		"removal":    {"a b c", "a c", "  a\n- b\n  c\n"},
		"from none":  {"", "a", "+ a\n"},
		"all anew":   {"a", "b", "- a\n+ b\n"},
		"repetition": {"x y x", "x y x y x", "  x\n  y\n+ x\n+ y\n  x\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := diffLines(strings.Fields(test.before), strings.Fields(test.after))
			kept, made := "", ""
			for l := range strings.Lines(got) {
				if l[0] != '+' {
					kept += l[2:]
				}
				if l[0] != '-' {
					made += l[2:]
				}
			}
			if strings.Join(strings.Fields(kept), " ") != test.before || strings.Join(strings.Fields(made), " ") != test.after {
				t.Errorf("not a diff:\n%s", got)
			}
			if strings.Count(got, "\n") != strings.Count(test.want, "\n") {
				t.Errorf("got\n%swant\n%s", got, test.want)
			}
		})
	}
}
