// Command generate writes the reference pages that follow from the code:
// docs/reasons.md, those of docs/providers, docs/eci-annotations.md,
// docs/waivers.md, docs/metrics.md, docs/permissions.md, docs/flags.md, and the
// values in the chart's README. Run it at the root of the repository.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/test/rights"
)

func main() {
	readme, err := readmeWithValues()
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	rules, err := permissions(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	flags, err := flags(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
	for path, text := range map[string]string{
		"docs/reasons.md":         reasons(),
		"docs/providers/eci.md":   page(alibaba()),
		"docs/providers/aci.md":   page(azure()),
		"docs/eci-annotations.md": eciAnnotations(),
		"docs/waivers.md":         waivers(),
		chartReadme:               readme,
		"docs/metrics.md":         metrics(),
		"docs/permissions.md":     rules,
		"docs/flags.md":           flags,
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}

func permissions(ctx context.Context) (string, error) {
	chart, err := rights.Open(ctx, ".")
	if err != nil {
		return "", err
	}
	return chart.Page(ctx)
}

func reasons() string {
	var b strings.Builder
	b.WriteString("# Reasons\n\n" +
		"Every decision about a pod has one of these reasons. They stand in the annotation `autoburst.io/reason`, in\n" +
		"events and in metrics. This page is generated from the code.\n")
	for _, r := range policy.Reasons() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", r, r.Sentence())
	}
	return b.String()
}
