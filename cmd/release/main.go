// Command release builds what a release consists of: static programs for every
// platform, the plugin's archives, what each program was built from (SPDX), and
// checksums. The same sources and the same Go make the same bytes, wherever they
// are built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var r release
	fs := flag.NewFlagSet("release", flag.ContinueOnError)
	fs.StringVar(&r.root, "root", ".", "the checkout")
	fs.StringVar(&r.out, "out", "bin/dist", "the folder to write; what is in it goes")
	fs.StringVar(&r.version, "version", "", "what the programs call themselves, such as v0.1.0")
	only := fs.String("platforms", "", "OS/ARCH separated by commas; all that are released by default")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if !strings.HasPrefix(r.version, "v") {
		return fmt.Errorf("-version is %q: write v and a semantic version, such as v0.1.0", r.version)
	}
	if *only != "" {
		r.only = strings.Split(*only, ",")
	}
	// The time in archives and lists (reproducible-builds.org).
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return errors.New("the variable SOURCE_DATE_EPOCH is not set to seconds since 1970: set it to the time of the commit")
	}
	r.at = time.Unix(seconds, 0).UTC()
	return r.make(ctx)
}
