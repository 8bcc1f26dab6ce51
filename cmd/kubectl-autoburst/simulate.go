package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/policy"
)

// errCasesFailed is returned when the failures have been printed.
var errCasesFailed = errors.New("cases failed")

const simulateLong = `Decide for the pods of a suite of cases, offline, and compare with what is wanted.

Each YAML file of the suite, and each folder in it, is one case: the objects, and one document with what is wanted.
Files named base.yaml are common to all cases; an object of a case replaces the common one of its kind and name.
The pod or workload that is decided for is the only one without a node, or the one that "object" names.

  want:
    object: deploy/web      # may be left out where there is only one
    action: Grant           # Ignore, StayLocal, Wait or Grant
    reason: LocalFirst      # see docs/reasons.md
    policy: BurstPolicy/web # or ClusterBurstPolicy/NAME, Namespace, Pod
    mode: Overflow
    target: aci
    grant: Admission        # Admission, Late, or "" for none
    late:                   # the same about the live pod, once it is unschedulable
      pendingSeconds: 60    # for so long
      action: Grant

What is left out is not compared. The program ends with 1 when a case fails, and with 2 when one cannot be read.`

// commonFile holds the objects of all cases.
const commonFile = "base.yaml"

type simulateOptions struct {
	streams  genericiooptions.IOStreams
	suite    string
	policies []string
	release  release
}

// wanted is the document of a case that says what is wanted.
type wanted struct {
	Object  string `json:"object,omitempty"`
	outcome `json:",inline"`
	Late    *struct {
		PendingSeconds int `json:"pendingSeconds,omitempty"`
		outcome        `json:",inline"`
	} `json:"late,omitempty"`
}

// outcome is compared where it is not nil.
type outcome struct {
	Action *string `json:"action,omitempty"`
	Reason *string `json:"reason,omitempty"`
	Policy *string `json:"policy,omitempty"`
	Mode   *string `json:"mode,omitempty"`
	Target *string `json:"target,omitempty"`
	Grant  *string `json:"grant,omitempty"`
}

func newSimulate(streams genericiooptions.IOStreams) *cobra.Command {
	o := &simulateOptions{streams: streams}
	cmd := &cobra.Command{
		Use:   "simulate --suite DIR",
		Short: "Test policies against cases, offline",
		Long:  simulateLong,
		Example: `  # In CI: the policies as they are in the repository, against the cases
  kubectl autoburst simulate --suite cases/ --policies policies/`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	cmd.Flags().StringVar(&o.suite, "suite", "", "Folder of the cases.")
	cmd.Flags().StringArrayVar(&o.policies, "policies", nil, "File or folder with more objects that are common to all cases. May be repeated.")
	o.release.addFlags(cmd.Flags())
	return cmd
}

func (o *simulateOptions) run(ctx context.Context) error {
	if o.suite == "" {
		return usagef("say where the cases are: --suite DIR")
	}
	paths, base, err := listCases(o.suite)
	if err != nil {
		return err
	}
	var common []document
	for _, path := range append(slices.Clone(o.policies), base...) {
		documents, err := readDocuments(path, o.streams.In)
		if err != nil {
			return err
		}
		common = append(common, documents...)
	}
	failed := 0
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		differences, err := o.simulate(ctx, path, common)
		if err != nil {
			return err
		}
		if len(differences) == 0 {
			fmt.Fprintf(o.streams.Out, "pass  %s\n", name)
			continue
		}
		failed++
		fmt.Fprintf(o.streams.Out, "FAIL  %s\n", name)
		for _, d := range differences {
			fmt.Fprintf(o.streams.Out, "      %s\n", d)
		}
	}
	fmt.Fprintf(o.streams.Out, "%d of %d cases passed\n", len(paths)-failed, len(paths))
	if failed > 0 {
		return errCasesFailed
	}
	return nil
}

// listCases finds the cases of a suite, and its common files.
func listCases(suite string) (cases, base []string, err error) {
	entries, err := os.ReadDir(suite)
	if err != nil {
		return nil, nil, usagef("--suite %s: %w", suite, cause(err))
	}
	for _, e := range entries {
		path := filepath.Join(suite, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.Name() == commonFile:
			base = append(base, path)
		case e.IsDir() || filepath.Ext(path) == ".yaml" || filepath.Ext(path) == ".yml":
			cases = append(cases, path)
		}
	}
	if len(cases) == 0 {
		return nil, nil, usagef("--suite %s has no case: a YAML file or a folder each", suite)
	}
	return cases, base, nil
}

// simulate decides one case and says what is other than wanted.
func (o *simulateOptions) simulate(ctx context.Context, path string, common []document) ([]string, error) {
	documents, err := readDocuments(path, o.streams.In)
	if err != nil {
		return nil, err
	}
	f := files{namespace: metav1.NamespaceDefault, release: o.release}
	f.Excluded = []string{o.release.namespace}
	var want *wanted
	own := make(map[string]bool, len(documents))
	for _, d := range documents {
		if d.kind.Kind != "" {
			own[d.key()] = true
			err = f.add(d)
		} else if want != nil {
			err = usagef("reading %s: what is wanted is said twice", d.file)
		} else {
			want, err = readWanted(d)
		}
		if err != nil {
			return nil, err
		}
	}
	if want == nil {
		return nil, usagef("reading %s: no document says what is wanted; see kubectl autoburst simulate --help", path)
	}
	s, err := f.subject(path, want.Object)
	if err != nil {
		return nil, err
	}
	for _, d := range common {
		if d.kind.Kind == "" || own[d.key()] {
			continue
		}
		if err := f.add(d); err != nil {
			return nil, err
		}
	}

	w := f.world([]subject{s})
	e, _, err := w.admission(ctx, s.pod)
	if err != nil {
		return nil, err
	}
	differences := want.compare("", newDecision(&e.Decision, policy.GrantAdmission))
	if want.Late == nil {
		return differences, nil
	}
	live, now := unschedulableFor(policy.Inject(s.pod, e.Decision), want.Late.PendingSeconds)
	late, err := w.late(ctx, live, now)
	if err != nil {
		return nil, err
	}
	return append(differences, want.Late.compare("late.", newDecision(&late.Decision.Decision, policy.GrantLate))...), nil
}

// readWanted reads what a case wants. Misspelt members are errors.
func readWanted(d document) (*wanted, error) {
	var doc struct {
		Want wanted `json:"want"`
	}
	dec := json.NewDecoder(bytes.NewReader(d.raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return nil, usagef("reading %s: want: %w", d.file, err)
	}
	w := &doc.Want
	outcomes := map[string]*outcome{"want": &w.outcome}
	if w.Late != nil {
		outcomes["want.late"] = &w.Late.outcome
		if w.Late.PendingSeconds < 0 {
			return nil, usagef("reading %s: want.late.pendingSeconds must not be negative", d.file)
		}
	}
	compared := 0
	for field, o := range outcomes {
		for _, m := range o.members() {
			if m.want != nil {
				compared++
			}
		}
		// A reason that does not exist would make a case fail for ever.
		if r := o.Reason; r != nil && policy.Reason(*r).Sentence() == "" {
			return nil, usagef("reading %s: %s.reason: there is no reason %q; see docs/reasons.md", d.file, field, *r)
		}
		actions := []policy.Action{policy.Ignore, policy.StayLocal, policy.Wait, policy.Grant}
		if a := o.Action; a != nil && !slices.Contains(actions, policy.Action(*a)) {
			return nil, usagef("reading %s: %s.action: %q is not one of Ignore, StayLocal, Wait, Grant", d.file, field, *a)
		}
	}
	if compared == 0 {
		return nil, usagef("reading %s: want: nothing is compared; name at least the action", d.file)
	}
	return w, nil
}

// subject is the one that the case is about.
func (f *files) subject(path, name string) (subject, error) {
	for _, s := range f.subjects {
		if s.name == name || name == "" && len(f.subjects) == 1 {
			return s, nil
		}
	}
	if name != "" {
		return subject{}, usagef("reading %s: want.object: no %s among %s", path, name, f.names())
	}
	return subject{}, usagef("reading %s: exactly one pod without a node, or workload, is wanted, got %s; name one as want.object", path, f.names())
}

type member struct {
	name string
	want *string
}

func (o *outcome) members() []member {
	return []member{
		{name: "action", want: o.Action}, {name: "reason", want: o.Reason}, {name: "policy", want: o.Policy},
		{name: "mode", want: o.Mode}, {name: "target", want: o.Target}, {name: "grant", want: o.Grant},
	}
}

// compare says what is other than wanted, and why it is so.
func (o *outcome) compare(prefix string, d decision) []string {
	got := []string{string(d.Action), string(d.Reason), d.Policy, string(d.Mode), d.Target, d.Grant}
	var out []string
	for i, m := range o.members() {
		if m.want != nil && *m.want != got[i] {
			out = append(out, fmt.Sprintf("%s%s: want %s, got %s", prefix, m.name, quoted(*m.want), quoted(got[i])))
		}
	}
	if len(out) > 0 {
		out = append(out, d.Message)
	}
	return out
}

func quoted(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

// unschedulableFor is the pod as the scheduler leaves it when it finds no node,
// and a time so many seconds after that.
func unschedulableFor(pod *corev1.Pod, seconds int) (*corev1.Pod, time.Time) {
	since, ok := policy.Unschedulable(pod)
	if !ok {
		since = time.Unix(0, 0)
		pod = pod.DeepCopy()
		pod.Status.Phase = corev1.PodPending
		pod.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			LastTransitionTime: metav1.NewTime(since),
		}}
	}
	return pod, since.Add(time.Duration(seconds) * time.Second)
}
