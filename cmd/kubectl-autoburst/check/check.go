// Package check looks for what is wrong with an installation of Autoburst, or with a
// cluster that is to get one. It asks the API server and nothing else, and changes
// nothing.
package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

// Outcome is what has come of a check.
type Outcome string

// The outcomes.
const (
	OK Outcome = "ok"
	// Warning: it works, and should be otherwise; or it could not be checked.
	Warning Outcome = "warning"
	// Error: something does not work.
	Error Outcome = "error"
)

// docs is the page with a section for each check.
const docs = "https://github.com/autoburst/autoburst/blob/main/docs/checks.md#"

// Result is a check that was made.
type Result struct {
	// ID is the name of the check, and the anchor of its section in docs/checks.md.
	ID      string  `json:"id"`
	Outcome Outcome `json:"result"`
	// Message is one line about what was found.
	Message string `json:"message"`
	// Details name what Message counts.
	Details []string `json:"details,omitempty"`
	// Hint is where the documentation says what to do, empty where all is well.
	Hint string `json:"hint,omitempty"`
}

// Category is a group of checks.
type Category struct {
	Name    string   `json:"name"`
	Results []Result `json:"checks"`
}

// Report is all that was found.
type Report struct {
	// Result is the worst of all outcomes.
	Result     Outcome    `json:"result"`
	Categories []Category `json:"categories"`
}

// finding is what a check returns.
type finding struct {
	outcome Outcome
	message string
	details []string
}

func ok(format string, args ...any) finding {
	return finding{outcome: OK, message: fmt.Sprintf(format, args...)}
}

func warning(format string, args ...any) finding {
	return finding{outcome: Warning, message: fmt.Sprintf(format, args...)}
}

func failure(format string, args ...any) finding {
	return finding{outcome: Error, message: fmt.Sprintf(format, args...)}
}

// of makes a finding of its problems: well where there are none. What is said of
// several comes before them.
func of(outcome Outcome, problems []string, several string, well finding) finding {
	switch len(problems) {
	case 0:
		return well
	case 1:
		return finding{outcome: outcome, message: problems[0]}
	}
	slices.Sort(problems)
	return finding{outcome: outcome, message: fmt.Sprintf("%d %s", len(problems), several), details: problems}
}

// check is one of them. Those after a fatal one need what it looks for, and are not made
// when it fails.
type check struct {
	id    string
	fatal bool
	run   func(context.Context, *session) (finding, error)
}

type category struct {
	name   string
	checks []check
}

// Options say what is checked.
type Options struct {
	// Clients of the cluster.
	Clients *installation.Clients
	// Namespace is where Autoburst is, or is to be installed; empty is wherever it is
	// found, or installation.DefaultNamespace.
	Namespace string
	// Version is that of this program.
	Version string
	// Pre checks whether Autoburst can be installed, in place of whether it works.
	Pre bool
}

// Run makes the checks once.
func Run(ctx context.Context, o Options) (Report, error) {
	s := newSession(o)
	list := installed
	if o.Pre {
		list = pre
	}
	report := Report{Result: OK}
	for _, c := range list {
		shown := Category{Name: c.name, Results: []Result{}}
		stop := false
		for _, one := range c.checks {
			r, applies := one.make(ctx, s)
			if ctx.Err() != nil {
				return report, ctx.Err()
			}
			if !applies {
				continue
			}
			shown.Results = append(shown.Results, r)
			report.Result = worse(report.Result, r.Outcome)
			if stop = one.fatal && r.Outcome == Error; stop {
				break
			}
		}
		if len(shown.Results) > 0 {
			report.Categories = append(report.Categories, shown)
		}
		if stop {
			break
		}
	}
	return report, nil
}

// errDoesNotApply is returned by a check of something that this installation has not.
var errDoesNotApply = errors.New("does not apply")

// make runs a check, if it applies. What the user may not read is not checked, which is
// no failure of the installation.
func (c check) make(ctx context.Context, s *session) (r Result, applies bool) {
	f, err := c.run(ctx, s)
	switch {
	case errors.Is(err, errDoesNotApply):
		return Result{}, false
	case apierrors.IsForbidden(err):
		f = warning("not checked: %v", err)
	case err != nil:
		f = failure("%v", installation.Explain(err))
	}
	r = Result{ID: c.id, Outcome: f.outcome, Message: oneLine(f.message)}
	for _, d := range f.details {
		r.Details = append(r.Details, oneLine(d))
	}
	if r.Outcome != OK {
		r.Hint = docs + c.id
	}
	return r, true
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func worse(a, b Outcome) Outcome {
	if rank := []Outcome{OK, Warning, Error}; slices.Index(rank, b) > slices.Index(rank, a) {
		return b
	}
	return a
}

// Failed are the results that are errors.
func (r Report) Failed() []Result {
	var out []Result
	for _, c := range r.Categories {
		for _, v := range c.Results {
			if v.Outcome == Error {
				out = append(out, v)
			}
		}
	}
	return out
}

// Wait makes the checks until none fails, every pause, and for no longer than a limit;
// the last report is returned. Failing is told what failed each time.
func Wait(ctx context.Context, o Options, limit, pause time.Duration, failing func([]Result)) (Report, error) {
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		report, err := Run(ctx, o)
		if err != nil || report.Result != Error {
			return report, err
		}
		failing(report.Failed())
		again := time.NewTimer(pause)
		select {
		case <-again.C:
		case <-deadline.C:
			again.Stop()
			return report, nil
		case <-ctx.Done():
			again.Stop()
			return report, ctx.Err()
		}
	}
}

// IDs are the names of all checks, in the order in which they are made.
func IDs() []string {
	var all []string
	for _, c := range slices.Concat(installed, pre) {
		for _, one := range c.checks {
			if !slices.Contains(all, one.id) {
				all = append(all, one.id)
			}
		}
	}
	return all
}
