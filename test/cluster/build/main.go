// Command build compiles the control plane that the tests run on, unless it is
// there already.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/autoburst/autoburst/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	path, err := cluster.Build(ctx, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stderr, "control plane:", path)
}
