package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/page"
	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// report is one explanation as -o json and -o yaml give it.
type report struct {
	// Object is what was asked about, KIND/NAME.
	Object    string `json:"object"`
	Namespace string `json:"namespace"`
	// Node is where a live pod is bound.
	Node string `json:"node,omitempty"`
	// Decision is what admission decides.
	Decision   decision     `json:"decision"`
	Considered []considered `json:"considered"`
	Targets    []target     `json:"targets,omitempty"`
	// Limits bind the pod, whoever decides.
	Limits []limit `json:"limits,omitempty"`
	// Diff is what admission writes into the pod, as a diff of YAML.
	Diff string `json:"diff,omitempty"`
	// Recorded is what an earlier decision wrote on a live pod.
	Recorded *decision `json:"recorded,omitempty"`
	// Late is the decision about a live pod that is unschedulable.
	Late  *lateReport `json:"late,omitempty"`
	Notes []string    `json:"notes,omitempty"`
}

type decision struct {
	Action  policy.Action `json:"action,omitempty"`
	Reason  policy.Reason `json:"reason"`
	Message string        `json:"message,omitempty"`
	// Docs is where the documentation explains the reason.
	Docs   string        `json:"docs,omitempty"`
	Policy string        `json:"policy,omitempty"`
	Mode   v1alpha1.Mode `json:"mode,omitempty"`
	Target string        `json:"target,omitempty"`
	// Grant is Admission or Late, empty where the pod may not burst.
	Grant string   `json:"grant,omitempty"`
	Nodes []string `json:"nodes,omitempty"`
	// RetryAfterSeconds is when the controller looks again by itself.
	RetryAfterSeconds float64 `json:"retryAfterSeconds,omitempty"`
}

type considered struct {
	By       string         `json:"by"`
	Mode     v1alpha1.Mode  `json:"mode"`
	Priority *int32         `json:"priority,omitempty"`
	Verdict  policy.Verdict `json:"verdict"`
	Why      string         `json:"why"`
}

type target struct {
	// Name is empty for any virtual node.
	Name   string `json:"name,omitempty"`
	Chosen bool   `json:"chosen"`
	Why    string `json:"why"`
	Nodes  []node `json:"nodes,omitempty"`
}

type node struct {
	Name     string              `json:"name"`
	Verdict  policy.NodeVerdict  `json:"verdict"`
	Why      string              `json:"why"`
	Refusals []burstable.Refusal `json:"refusals,omitempty"`
}

// limit is one of one resource. Used and left are absent while the usage is not
// known.
type limit struct {
	Of       string `json:"of"`
	Resource string `json:"resource"`
	Limit    string `json:"limit"`
	Used     string `json:"used,omitempty"`
	Left     string `json:"left,omitempty"`
	Takes    string `json:"takes"`
	Fits     bool   `json:"fits"`
	Why      string `json:"why"`
}

type lateReport struct {
	Decision decision `json:"decision"`
	Targets  []target `json:"targets,omitempty"`
	Limits   []limit  `json:"limits,omitempty"`
}

func newReport(s subject, e *policy.Explanation) report {
	r := report{
		Object: s.name, Namespace: s.pod.Namespace, Node: s.pod.Spec.NodeName,
		Decision: newDecision(&e.Decision, policy.GrantAdmission), Considered: []considered{}, Targets: newTargets(e.Targets), Limits: newLimits(e.Limits),
		Recorded: recordedOn(s.pod),
	}
	for _, c := range e.Considered {
		row := considered{By: c.By.String(), Mode: c.Mode, Verdict: c.Verdict, Why: c.Why}
		if c.By.Kind == policy.KindPolicy || c.By.Kind == policy.KindClusterPolicy {
			row.Priority = &c.Priority
		}
		r.Considered = append(r.Considered, row)
	}
	return r
}

func newLateReport(e *policy.LateExplanation) *lateReport {
	r := &lateReport{Decision: newDecision(&e.Decision.Decision, policy.GrantLate), Targets: newTargets(e.Targets), Limits: newLimits(e.Limits)}
	r.Decision.RetryAfterSeconds = e.Decision.RequeueAfter.Seconds()
	return r
}

func newDecision(d *policy.Decision, grant string) decision {
	out := decision{
		Action: d.Action, Reason: d.Reason, Message: d.Message, Docs: d.Reason.Anchor(), Mode: d.Mode, Target: d.Target,
	}
	if d.By != (policy.Ref{}) {
		out.Policy = d.By.String()
	}
	if d.Action == policy.Grant {
		out.Grant = grant
	}
	for _, n := range d.Nodes {
		out.Nodes = append(out.Nodes, n.Name)
	}
	return out
}

func newTargets(targets []policy.ExplainedTarget) []target {
	var out []target
	for _, t := range targets {
		row := target{Name: t.Name, Chosen: t.Chosen, Why: t.Why}
		for _, n := range t.Nodes {
			row.Nodes = append(row.Nodes, node{Name: n.Name, Verdict: n.Verdict, Why: n.Why, Refusals: n.Refusals})
		}
		out = append(out, row)
	}
	return out
}

func newLimits(limits []policy.ExplainedLimit) []limit {
	var out []limit
	for _, l := range limits {
		out = append(out, limit{
			Of: l.Account.String(), Resource: l.Resource, Limit: l.Limit, Used: l.Used, Left: l.Left, Takes: l.Takes, Fits: l.Fits, Why: l.Why,
		})
	}
	return out
}

// recordedOn reads what an earlier decision wrote on a pod.
func recordedOn(p *corev1.Pod) *decision {
	reason := policy.Reason(p.Annotations[v1alpha1.ReasonAnnotation])
	if reason == "" {
		return nil
	}
	return &decision{
		Reason: reason, Docs: reason.Anchor(),
		Policy: p.Annotations[v1alpha1.PolicyAnnotation],
		Mode:   v1alpha1.Mode(p.Annotations[v1alpha1.DecidedModeAnnotation]),
		Grant:  p.Annotations[v1alpha1.GrantAnnotation],
	}
}

// printReports writes the reports in a format: json, yaml or, empty, a table. One
// report is an object, several are a list.
func printReports(out io.Writer, format string, reports []report) error {
	if format == "" {
		p := &printer{}
		for i := range reports {
			if i > 0 {
				p.Line("")
				p.Line("---")
				p.Line("")
			}
			p.report(&reports[i])
		}
		_, err := io.WriteString(out, p.String())
		return err
	}
	var v any = reports
	if len(reports) == 1 {
		v = reports[0]
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	b = append(b, '\n')
	if format == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
	}
	_, err = out.Write(b)
	return err
}

// printer writes a report for people.
type printer struct{ page.Page }

func (p *printer) report(r *report) {
	where := ""
	if r.Node != "" {
		where = ", bound to node " + r.Node
	}
	p.Line("%s in namespace %s%s", r.Object, r.Namespace, where)
	if d := r.Recorded; d != nil {
		p.Line("Written on it: %s by %s, mode %s, grant %s", d.Reason, orNone(d.Policy), orNone(string(d.Mode)), orNone(d.Grant))
	}
	p.Line("")
	p.Line("Decision at admission")
	p.decision(&r.Decision)

	p.Line("")
	if len(r.Considered) == 0 {
		p.Line("Policies and annotations: none was considered")
	} else {
		p.Line("Policies and annotations, in the order in which they decide")
		rows := [][]string{{"VERDICT", "BY", "MODE", "PRIORITY", "WHY"}}
		for _, c := range r.Considered {
			priority := "-"
			if c.Priority != nil {
				priority = strconv.Itoa(int(*c.Priority))
			}
			rows = append(rows, []string{string(c.Verdict), c.By, string(c.Mode), priority, c.Why})
		}
		p.Table(rows)
	}
	p.targets("Virtual nodes", r.Targets)
	p.limits("Limits that bind the pod", r.Limits)

	p.Line("")
	switch {
	case r.Diff != "":
		p.Line("What admission writes")
		for l := range strings.Lines(r.Diff) {
			p.WriteString("  " + l)
		}
	case r.Decision.Action == policy.Wait || r.Decision.Action == policy.Grant:
		p.Line("What admission writes: nothing more, the pod has it already")
	default:
		p.Line("What admission writes: nothing")
	}

	if r.Late != nil {
		p.Line("")
		p.Line("Decision now, as the scheduler finds the pod unschedulable")
		p.decision(&r.Late.Decision)
		if s := r.Late.Decision.RetryAfterSeconds; s > 0 {
			p.Line("  The controller looks again in %.0f s.", s)
		}
		if !reflect.DeepEqual(r.Late.Targets, r.Targets) { // they have less room now, or more
			p.targets("Virtual nodes now", r.Late.Targets)
		}
		if !reflect.DeepEqual(r.Late.Limits, r.Limits) {
			p.limits("Limits that bind the pod now", r.Late.Limits)
		}
	}
	for i, n := range r.Notes {
		if i == 0 {
			p.Line("")
		}
		p.Line("Note: %s", n)
	}
}

func (p *printer) decision(d *decision) {
	p.Line("  %s: %s", d.Action, d.Reason)
	p.Line("  %s", d.Message)
	if d.Policy != "" {
		by := "  Decided by " + d.Policy
		if d.Mode != "" {
			by += ", mode " + string(d.Mode)
		}
		if d.Target != "" {
			by += ", target " + d.Target
		}
		p.Line("%s.", by)
	}
	p.Line("  See %s", d.Docs)
}

func (p *printer) targets(title string, targets []target) {
	if len(targets) == 0 {
		return
	}
	p.Line("")
	p.Line("%s", title)
	rows := [][]string{{"TARGET", "NODE", "VERDICT", "WHY"}}
	for _, t := range targets {
		name, verdict := t.Name, "Skipped"
		if name == "" {
			name = "(any)"
		}
		if t.Chosen {
			verdict = "Chosen"
		}
		rows = append(rows, []string{name, "-", verdict, t.Why})
		for _, n := range t.Nodes {
			if len(n.Refusals) == 0 {
				rows = append(rows, []string{"", n.Name, string(n.Verdict), n.Why})
				continue
			}
			name, verdict := n.Name, string(n.Verdict)
			for _, refusal := range n.Refusals {
				rows = append(rows, []string{"", name, verdict, refusal.String()})
				name, verdict = "", ""
			}
		}
	}
	p.Table(rows)
}

func (p *printer) limits(title string, limits []limit) {
	if len(limits) == 0 {
		return
	}
	p.Line("")
	p.Line("%s", title)
	rows := [][]string{{"LIMIT", "RESOURCE", "OF", "USED", "LEFT", "TAKES", "WHY"}}
	for _, l := range limits {
		rows = append(rows, []string{l.Of, l.Resource, l.Limit, cmp.Or(l.Used, "?"), cmp.Or(l.Left, "?"), l.Takes, l.Why})
	}
	p.Table(rows)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
