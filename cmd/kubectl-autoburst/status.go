package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/status"
)

const statusExamples = `  # What bursts, what is left of limits, what is short, who waits
  kubectl autoburst status

  # Go on showing it
  kubectl autoburst status --watch

  # How many pods burst now
  kubectl autoburst status -o json | jq '[.policies[].pods.burst] | add'`

type statusOptions struct {
	streams          genericiooptions.IOStreams
	config           *genericclioptions.ConfigFlags
	watch            bool
	output           string
	releaseNamespace string
}

func newStatus(streams genericiooptions.IOStreams) *cobra.Command {
	o := &statusOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what bursts, what limits leave, what is short and who waits",
		Long: "Say what Autoburst does: policies and what their limits leave, virtual nodes and what they hold, targets that are\n" +
			"passed over, and the pods of served namespaces that have waited longest. Nothing is changed.\n\n" +
			"Counts are those that the controller keeps; of all pods only those are read that are on no node, and of those on\n" +
			"virtual nodes only the metadata, so that it is quick on large clusters as well.",
		Example: statusExamples,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.config.Namespace = nil // it is about the whole cluster
	o.config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "Go on, and show it anew when it changes, until Ctrl-C.")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "json or yaml; a table for people by default.")
	addReleaseNamespace(cmd.Flags(), &o.releaseNamespace)
	completeFlags(cmd, o.config, map[string][]string{"output": status.Formats[1:]})
	return cmd
}

func (o *statusOptions) run(ctx context.Context) error {
	if o.output != "" && !slices.Contains(status.Formats, o.output) {
		return usagef("--output %q: must be json or yaml, or left out for a table", o.output)
	}
	c, err := connect(o.config)
	if err != nil {
		return err
	}
	r, err := c.Find(ctx, o.releaseNamespace)
	if err != nil {
		return err
	}
	if !o.watch {
		report, err := status.Read(ctx, c, r)
		if err != nil {
			return err
		}
		return status.Print(o.streams.Out, o.output, report, c.Now())
	}
	return o.follow(ctx, c, r)
}

// follow shows the status until the context ends. What fails meanwhile, such as a lost
// connection, is shown and tried again.
func (o *statusOptions) follow(ctx context.Context, c *installation.Clients, r *installation.Release) error {
	between := "---\n"
	if o.output == "json" {
		between = "" // so that it is a stream of documents
	}
	screen := status.NewScreen(o.streams.Out, between)
	last := ""
	err := status.Watch(ctx, c, r, status.DefaultPace(), func(ctx context.Context) error {
		fresh, err := c.Find(ctx, r.Namespace)
		var report *status.Report
		if err == nil {
			report, err = status.Read(ctx, c, fresh)
		}
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // told to stop
		case err != nil && (last == "" || !screen.Terminal()):
			fmt.Fprintf(o.streams.ErrOut, "error: %v; trying again\n", err)
			return nil
		case err != nil:
			return screen.Show("", fmt.Sprintf("%s\nNot up to date: %v\n", last, err))
		}
		key, err := json.Marshal(report)
		if err != nil {
			return fmt.Errorf("writing the status: %w", err)
		}
		var text strings.Builder
		if err := status.Print(&text, o.output, report, c.Now()); err != nil {
			return err
		}
		last = text.String()
		return screen.Show(string(key), last)
	})
	return errors.Join(err, screen.Close())
}
