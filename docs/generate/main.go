// Command generate writes the reference pages that follow from the code:
// docs/reasons.md and docs/reference/support.md.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
)

func main() {
	for path, text := range map[string]string{
		"docs/reasons.md": reasons(),
		"docs/reference/support.md": support(),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
}

func reasons() string {
	var b strings.Builder
	b.WriteString(`# Reasons

Every decision about a pod has one of these reasons. They stand in the annotation ` + "`autoburst.io/reason`" + `, in events
and in metrics. This page is generated from the code.
`)
	for _, r := range policy.Reasons() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", r, r.Sentence())
	}
	return b.String()
}

func support() string {
	clouds := []burstable.Capabilities{eci.Capabilities(), aci.Capabilities()}
	var b strings.Builder
	b.WriteString(`# What each cloud can run

A pod that asks for something a cloud cannot do is refused before it bursts, with the field named. What is not
listed here as optional is either carried out on both clouds (containers, init containers, environment, volumes of
ConfigMaps, Secrets, downward API, tokens and emptyDir, image pull secrets, ports, requests) or refused on both
(host namespaces, hostPath, persistent volumes, privileged containers, sidecars, gRPC and startup probes, devices).
This page is generated from the code.

| pod field | ECI | ACI |
|---|---|---|
`)
	for _, f := range burstable.Features {
		fmt.Fprintf(&b, "| %s |", f.Describe())
		for _, c := range clouds {
			if slices.Contains(c.Features, f) {
				b.WriteString(" yes |")
			} else {
				b.WriteString(" no |")
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}
