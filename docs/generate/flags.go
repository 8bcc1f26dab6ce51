package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// flags is docs/flags.md: what the programs' own help says, with no variables set.
func flags(ctx context.Context) (string, error) {
	var b strings.Builder
	b.WriteString("# Flags\n\n" +
		"The settings of the two programs that run in the cluster, as `--help` shows them. The chart sets them; what it has no\n" +
		"value for goes into `controller.extraArgs` and `vnode.extraArgs`. A name in capital letters is a variable that\n" +
		"gives the default. Times are written with a unit, such as `90s` or `1h30m`. This page is generated from the programs.\n\n" +
		"A setting that is wrong ends the program before it has changed anything, with one line that names it: with code 2 where\n" +
		"a flag is wrong by itself, with 1 where a file, a port, a variable of the cloud or the API server is. An API server that does\n" +
		"not answer has 10 seconds to.\n")
	for _, program := range []string{"autoburst", "autoburst-vnode"} {
		// Without any variable, as variables are defaults of flags.
		cmd := exec.CommandContext(ctx, "go", "run", "-exec", "env -i", "./cmd/"+program, "--help")
		help, err := cmd.Output()
		if err != nil {
			return "", fmt.Errorf("asking %s for its help: %w", program, err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n```text\n%s```\n", program, help)
	}
	return b.String(), nil
}
