package playground

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Suite is the tests of one package, on a playground of their own that they share.
type Suite struct {
	// Name is the package's, for messages.
	Name string
	// Options are those of Start. Progress goes to standard error.
	Options Options
	// Before prepares the system for the tests. May be nil.
	Before func(context.Context) error
	// After are checks of what tests that passed have left, in their order.
	After []func(context.Context) error
}

// Run starts the playground, runs the tests and stops it. Each problem is told on
// standard error, and the logs are kept where there was one. The result is the code to
// exit with.
func (s Suite) Run(tests interface{ Run() int }, system **Playground) int {
	ctx := context.Background()
	code := 0
	failed := func(what string, err error) bool {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %s%v\n", s.Name, what, err)
			code = max(code, 1)
		}
		return err != nil
	}
	s.Options.Progress = os.Stderr
	p, err := Start(ctx, s.Options)
	if failed("starting the system: ", err) {
		return code
	}
	*system = p
	if s.Before == nil || !failed("", s.Before(ctx)) {
		if code = tests.Run(); code == 0 {
			for _, check := range s.After {
				failed("", check(ctx))
			}
		}
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, p.Logs(15))
		p.KeepLogs()
		fmt.Fprintf(os.Stderr, "%s: logs are kept in %s\n", s.Name, p.Dir)
	}
	failed("stopping the system: ", p.Stop())
	return code
}

// CheckLogs fails for what no log of Autoburst's programs may contain: a data race, a
// panic, a request that the chart's Roles forbid, a credential of the playground, or
// one of the given texts.
func (p *Playground) CheckLogs(more ...string) error {
	logs, err := filepath.Glob(filepath.Join(p.Dir, "autoburst*.log"))
	if err != nil {
		return err
	}
	bad := append([]string{"DATA RACE", "panic:", "is forbidden: User", ECISecretKey, ACIClientPassword}, more...)
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, text := range bad {
			if i := strings.Index(string(b), text); i >= 0 {
				return fmt.Errorf("%s contains %q: …%s", filepath.Base(name), text, b[max(0, i-200):min(len(b), i+400)])
			}
		}
	}
	return nil
}
