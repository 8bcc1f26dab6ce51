package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/check"
)

// errChecksFailed is returned when the failures have been printed.
var errChecksFailed = errors.New("checks failed")

// checkAgain is the pause between two looks of check --wait.
const checkAgain = 2 * time.Second

const checkExamples = `  # Does Autoburst work in this cluster?
  kubectl autoburst check

  # Can it be installed in this cluster, into namespace autoburst-system?
  kubectl autoburst check --pre

  # After helm install: wait until all is well, and show only what is not
  kubectl autoburst check --wait=2m -o short`

type checkOptions struct {
	streams          genericiooptions.IOStreams
	config           *genericclioptions.ConfigFlags
	pre              bool
	output           string
	wait             time.Duration
	releaseNamespace string
}

func newCheck(streams genericiooptions.IOStreams) *cobra.Command {
	o := &checkOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check whether Autoburst works, or can be installed",
		Long: "Check whether Autoburst works in this cluster, or with --pre whether it can be installed. It asks the API server and\n" +
			"nothing else, and changes nothing; whether pods are admitted is tried by a dry run. Each check that is not well\n" +
			"names the section of the documentation that says what to do.\n\n" +
			"It ends with 1 when a check fails, and with 0 when all are well or there are only warnings.",
		Example: checkExamples,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.config.Namespace = nil // it is about the whole cluster
	o.config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.pre, "pre", false, "Check whether Autoburst can be installed.")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "short, with only what is not well, or json; a table of all checks by default.")
	cmd.Flags().DurationVar(&o.wait, "wait", 0, "Look again until no check fails, for as long as this.")
	addReleaseNamespace(cmd.Flags(), &o.releaseNamespace)
	completeFlags(cmd, o.config, map[string][]string{"output": check.Formats[1:]})
	return cmd
}

func (o *checkOptions) run(ctx context.Context) error {
	switch {
	case o.output != "" && !slices.Contains(check.Formats, o.output):
		return usagef("--output %q: must be short or json, or left out for a table", o.output)
	case o.wait < 0:
		return usagef("--wait is %s: must not be negative", o.wait)
	}
	c, err := connect(o.config)
	if err != nil {
		return err
	}
	last := ""
	report, err := check.Wait(ctx, check.Options{Clients: c, Namespace: o.releaseNamespace, Version: version, Pre: o.pre}, o.wait, checkAgain,
		func(failed []check.Result) {
			if o.wait == 0 {
				return
			}
			var names []string
			for _, r := range failed {
				names = append(names, r.ID)
			}
			if now := strings.Join(names, ", "); now != last {
				last = now
				fmt.Fprintf(o.streams.ErrOut, "waiting for %s\n", now)
			}
		})
	if err != nil {
		return err
	}
	if err := check.Print(o.streams.Out, o.output, report); err != nil {
		return err
	}
	if report.Result == check.Error {
		return errChecksFailed
	}
	return nil
}
