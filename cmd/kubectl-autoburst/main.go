// Command kubectl-autoburst is the plugin "kubectl autoburst": it checks an
// installation and shows what it does, says why pods burst or do not, tests policies,
// lets namespaces burst, and drains virtual nodes. All but enable, disable and drain
// only read.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/autoburst/autoburst/cmd/kubectl-autoburst/installation"
)

// version is set when the program is built.
var version = "v0.0.0-dev"

// The codes with which the program ends.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr}
	code := run(ctx, os.Args[1:], streams, time.Now)
	stop()
	os.Exit(code)
}

// run is the program; the result is the code with which it ends.
func run(ctx context.Context, args []string, streams genericiooptions.IOStreams, now func() time.Time) int {
	root := newRoot(streams, now)
	root.SetArgs(append([]string{}, args...)) // nil would mean those of the process
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errCasesFailed), errors.Is(err, errChecksFailed): // they are printed
		return exitFailure
	case errors.As(err, &usage):
		fmt.Fprintf(streams.ErrOut, "error: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(streams.ErrOut, "error: %v\n", installation.Explain(err))
	return exitFailure
}

func newRoot(streams genericiooptions.IOStreams, now func() time.Time) *cobra.Command {
	root := &cobra.Command{
		Use:   "kubectl-autoburst",
		Short: "Check Autoburst, show what it does, say why pods burst or do not, drain virtual nodes",
		Long: "Check whether Autoburst works, show what it does, say why pods burst or do not, test burst policies, let\n" +
			"namespaces burst, and drain virtual nodes.\n\n" +
			"enable, disable and drain change the cluster, and all others only read. For explain and simulate the rules that\n" +
			"the webhook and the controller follow are run on this machine, over objects from the cluster or from files.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl autoburst"},
		Args:          subcommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; see %s --help", err, cmd.CommandPath())
	})
	root.AddCommand(
		newCheck(streams), newStatus(streams), newExplain(streams, now), newSimulate(streams),
		newEnable(streams), newDisable(streams), newDrain(streams), newLeftOut(streams), newVersion(streams),
	)
	// What cobra adds by itself takes any word for a shell.
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Args, completion.RunE = subcommand, func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	return root
}

// usageError is a command line or an input that cannot be worked with.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unexpected argument %q; see %s --help", args[0], cmd.CommandPath())
	}
	return nil
}

func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("unknown command %q; see %s --help", args[0], cmd.CommandPath())
	}
	return nil
}
