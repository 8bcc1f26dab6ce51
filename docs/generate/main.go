// Command generate writes the reference pages that follow from the code:
// docs/reasons.md, docs/reference/support.md, docs/eci-annotations.md and
// docs/waivers.md. Run it at the root of the repository.
package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
)

func main() {
	for path, text := range map[string]string{
		"docs/reasons.md":           reasons(),
		"docs/reference/support.md": support(),
		"docs/eci-annotations.md":   eciAnnotations(),
		"docs/waivers.md":           waivers(),
	} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "generate:", err)
			os.Exit(1)
		}
	}
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

func support() string {
	alibaba, azure, subnet := eci.Capabilities(), aci.Capabilities(false), aci.Capabilities(true)
	var b strings.Builder
	b.WriteString(`# What each cloud can run

A pod that asks for something a cloud cannot do is refused before it bursts, with the field named. This page is
generated from the code that decides.

Carried out on both clouds: containers and init containers, environment, volumes of ConfigMaps, Secrets, the downward
API, ServiceAccount tokens and emptyDir, image pull secrets, ports, requests and limits of CPU and memory, and every
field that the scheduler reads.

Refused on both: the host's network, processes, IPC, ports and paths, persistent volumes and devices, privileged
containers, ephemeral containers, startup and gRPC probes, fsGroup and SELinux labels.

## Optional pod fields

| pod field | ECI | ACI |
|---|---|---|
`)
	for _, f := range burstable.Features {
		inACI := "no"
		switch {
		case azure.Has(f):
			inACI = "yes"
		case subnet.Has(f):
			inACI = "in a subnet"
		}
		inECI := "no"
		if alibaba.Has(f) {
			inECI = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", f.Describe(), inECI, inACI)
	}
	b.WriteString(`
## Limits of one pod

A dash means that the cloud publishes no such limit, or cannot do it at all.

| | ECI | ACI |
|---|---|---|
`)
	for _, row := range limits {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row.what, row.of(&alibaba.Limits), row.of(&azure.Limits))
	}
	return b.String()
}

// limits are the rows of the second table. A limit that a cloud does not have
// is shown as a dash.
var limits = []struct {
	what string
	of   func(*burstable.Limits) string
}{
	{"containers", func(l *burstable.Limits) string { return count(l.Containers) }},
	{"init containers", func(l *burstable.Limits) string { return count(l.InitContainers) }},
	{"containers and init containers together", func(l *burstable.Limits) string { return count(l.AllContainers) }},
	{"volumes", func(l *burstable.Limits) string { return count(l.Volumes) }},
	{"CPU", func(l *burstable.Limits) string {
		return quantity(resource.NewMilliQuantity(l.MilliCPU, resource.DecimalSI)) + " vCPU"
	}},
	{"memory", func(l *burstable.Limits) string { return size(l.MemoryBytes) }},
	{"ephemeral storage", func(l *burstable.Limits) string { return size(l.EphemeralStorageBytes) }},
	{"ports of all containers", func(l *burstable.Limits) string { return count(l.Ports) }},
	{"reserved ports", func(l *burstable.Limits) string {
		var names []string
		for _, r := range l.ReservedPortRanges {
			names = append(names, r.String())
		}
		return orDash(strings.Join(names, ", "))
	}},
	{"items of `command`", func(l *burstable.Limits) string { return count(l.Command) }},
	{"items of `args`", func(l *burstable.Limits) string { return count(l.Args) }},
	{"items of the command of an exec probe", func(l *burstable.Limits) string { return count(l.ProbeCommand) }},
	{"name of an environment variable", func(l *burstable.Limits) string { return bytes(l.EnvNameBytes) }},
	{"value of an environment variable", func(l *burstable.Limits) string { return bytes(l.EnvValueBytes) }},
	{"file of a ConfigMap, Secret, the downward API or a token", func(l *burstable.Limits) string { return size(int64(l.FileBytes)) }},
	{"values of `capabilities.add`", func(l *burstable.Limits) string {
		if len(l.Capabilities) == 0 {
			return "any"
		}
		return strings.Join(l.Capabilities, ", ")
	}},
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func count(n int) string {
	if n == 0 {
		return "–"
	}
	return strconv.Itoa(n)
}

func bytes(n int) string {
	if n == 0 {
		return "–"
	}
	return strconv.Itoa(n) + " bytes"
}

// size is written with the kind of prefix that needs fewer digits.
func size(n int64) string {
	binary, decimal := resource.NewQuantity(n, resource.BinarySI), resource.NewQuantity(n, resource.DecimalSI)
	if len(decimal.String()) < len(binary.String()) {
		return quantity(decimal)
	}
	return quantity(binary)
}

func quantity(q *resource.Quantity) string {
	if q.IsZero() {
		return "–"
	}
	return q.String()
}
