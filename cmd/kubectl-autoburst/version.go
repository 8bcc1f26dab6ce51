package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

type versionOptions struct {
	streams          genericiooptions.IOStreams
	config           *genericclioptions.ConfigFlags
	output           string
	client           bool
	releaseNamespace string
}

func newVersion(streams genericiooptions.IOStreams) *cobra.Command {
	o := &versionOptions{streams: streams, config: genericclioptions.NewConfigFlags(true)}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of this program, the controller, the agents and the chart",
		Long: "Print the versions of this program and of what is installed in the cluster: the chart, the controller, the agents,\n" +
			"Kubernetes; and say which differ.",
		Example: "  kubectl autoburst version\n\n  # Without a cluster\n  kubectl autoburst version --client",
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.config.Namespace = nil // it is about the whole cluster
	o.config.AddFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.client, "client", false, "Print the version of this program only, and ask no cluster.")
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "json; lines for people by default.")
	addReleaseNamespace(cmd.Flags(), &o.releaseNamespace)
	completeFlags(cmd, o.config, map[string][]string{"output": {"json"}})
	return cmd
}

func (o *versionOptions) run(ctx context.Context) error {
	if o.output != "" && o.output != "json" {
		return usagef("--output %q: must be json, or left out for lines", o.output)
	}
	v := &installation.Versions{Client: version}
	var missing error // what is installed could not be read
	if !o.client {
		c, err := connect(o.config)
		if err != nil {
			return fmt.Errorf("%w; for this program alone, add --client", err)
		}
		r, err := c.Find(ctx, o.releaseNamespace)
		switch {
		case errors.Is(err, installation.ErrNotInstalled):
			missing = err
		case err != nil:
			return err
		default:
			if v, err = c.Versions(ctx, r, version); err != nil {
				return err
			}
		}
	}
	if o.output == "json" {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return fmt.Errorf("writing the versions: %w", err)
		}
		fmt.Fprintf(o.streams.Out, "%s\n", b)
		return nil
	}
	o.print(v, missing)
	return nil
}

func (o *versionOptions) print(v *installation.Versions, missing error) {
	line := func(what, version string) {
		if version != "" {
			fmt.Fprintf(o.streams.Out, "%-12s %s\n", what, version)
		}
	}
	line("client", v.Client)
	line("controller", v.Controller)
	for _, node := range slices.Sorted(maps.Keys(v.Agents)) {
		line("agent", v.Agents[node]+" ("+node+")")
	}
	line("chart", v.Chart)
	line("kubernetes", v.Server)
	for _, s := range v.Skew {
		fmt.Fprintf(o.streams.ErrOut, "warning: %s\n", s)
	}
	if missing != nil {
		fmt.Fprintf(o.streams.ErrOut, "warning: %v\n", missing)
	}
}
