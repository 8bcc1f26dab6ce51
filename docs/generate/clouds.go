package main

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers/aci"
	"github.com/autoburst/autoburst/providers/eci"
)

// cloud is what the page of one cloud is made of.
type cloud struct {
	name, title string
	// caps is what its groups can run, and elsewhere what they can where only is not
	// so; nil where there is one kind of groups.
	caps      burstable.Capabilities
	elsewhere *burstable.Capabilities
	only      string
	// more is what the table cannot say.
	more string
}

func alibaba() cloud {
	return cloud{name: "eci", title: "Alibaba Cloud ECI", caps: eci.Capabilities(), more: differencesECI}
}

func azure() cloud {
	everywhere := aci.Capabilities(false)
	return cloud{
		name: "aci", title: "Azure Container Instances", caps: aci.Capabilities(true), elsewhere: &everywhere,
		only: "in a subnet only", more: differencesACI,
	}
}

func page(c cloud) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What %s can run\n\n", c.title)
	b.WriteString("Every field of a pod is carried out as this page says, or the pod is refused before it bursts, with the field\n" +
		"named. One table in the code decides, and this page is generated from it.\n\n" +
		"`spec.initContainers` is as `spec.containers` unless it has a line of its own.\n\n" +
		"## Carried out\n\n| field | how |\n|---|---|\n")
	var refused strings.Builder
	for _, r := range joined(burstable.Table()) {
		switch {
		case r.Need != "" && c.caps.Has(r.Need):
			how := r.Need.How(c.name)
			if c.elsewhere != nil && !c.elsewhere.Has(r.Need) {
				how += "; " + c.only
			}
			fmt.Fprintf(&b, "| %s | %s |\n", field(r), how)
		case r.By != "" && !needsAbsent(r.By, c.caps):
			how := strings.Split(r.By, ", with ")[0]
			if remark := burstable.Remark(c.name, r.Field); remark != "" {
				how += ": " + remark
			}
			fmt.Fprintf(&b, "| %s | %s |\n", field(r), how)
		case r.By == "":
			fmt.Fprintf(&refused, "| %s | it %s |\n", field(r), r.Why)
		}
	}
	b.WriteString("\n## Refused\n\n| field | because |\n|---|---|\n" + refused.String())

	b.WriteString("\n## Limits of one pod\n\nA pod beyond one of these is refused too.\n\n| | |\n|---|---|\n")
	for _, row := range limits {
		if text := row.of(&c.caps.Limits); !strings.HasPrefix(text, "–") {
			fmt.Fprintf(&b, "| %s | %s |\n", row.what, text)
		}
	}
	b.WriteString("\n" + sizes(c.caps.Sizes) + "\n" + c.more)
	return b.String()
}

// joined puts rows of one field with the same answer into one line.
func joined(rows []burstable.Row) []burstable.Row {
	var out []burstable.Row
	for _, r := range rows {
		if n := len(out); n > 0 && out[n-1] == r {
			continue
		}
		out = append(out, r)
	}
	return out
}

// needsAbsent tells whether a field is carried out only with a feature that the cloud
// lacks: it is spoken for by the line of that feature.
func needsAbsent(by string, c burstable.Capabilities) bool {
	_, feature, ok := strings.Cut(by, ", with ")
	feature, _, _ = strings.Cut(feature, ":")
	return ok && !c.Has(burstable.Feature(feature))
}

func field(r burstable.Row) string {
	text := "`" + r.Field + "`"
	what := r.Need.Describe()
	if what == "" || strings.HasSuffix(r.Field, strings.Trim(what, "`")) {
		return text
	}
	return text + ": " + what
}

// sizes says what the cloud sells.
func sizes(s *burstable.Sizes) string {
	const published = "The size that a pod got is in its annotation `autoburst.io/size`, such as `{\"cpu\":\"2\",\"memory\":\"4Gi\"}`, and limits of\npolicies count the same size.\n"
	var b strings.Builder
	b.WriteString("## Sizes\n\nWhat the containers ask for is added up as Kubernetes does, a container with the greater of its request and its\n" +
		"limit, and rounded up, never down. " + published + "\n")
	if o := s.Offers; o != nil {
		b.WriteString("| vCPU | GiB of memory |\n|---|---|\n")
		for _, row := range o.Rows {
			var memory []string
			for _, n := range row.MemoryBytes {
				memory = append(memory, strconv.FormatFloat(float64(n)/(1<<30), 'f', -1, 64))
			}
			fmt.Fprintf(&b, "| %s | %s |\n", strconv.FormatFloat(float64(row.MilliCPU)/1000, 'f', -1, 64), strings.Join(memory, ", "))
		}
		fmt.Fprintf(&b, "\nOf the sizes that hold a pod it gets the cheapest; one that asks for nothing gets %s vCPU and %s.\n",
			strconv.FormatFloat(float64(o.Default.MilliCPU)/1000, 'f', -1, 64), size(o.Default.MemoryBytes))
		return b.String()
	}
	b.WriteString("| | in steps of | at least | where no container asks | for a container that asks for nothing beside others |\n|---|---|---|---|---|\n")
	vcpu := func(n int64) string { return quantity(resource.NewMilliQuantity(n, resource.DecimalSI)) }
	fmt.Fprintf(&b, "| CPU | %s | %s | %s | %s |\n", vcpu(s.CPU.Step), vcpu(s.CPU.Minimum), vcpu(s.CPU.Default), vcpu(s.CPU.Container))
	fmt.Fprintf(&b, "| memory | %s | %s | %s | %s |\n", size(s.Memory.Step), size(s.Memory.Minimum), size(s.Memory.Default), size(s.Memory.Container))
	return b.String()
}

// limits are the rows of the table of limits. A limit that a cloud does not have
// is left out.
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
	{"variables of one container, those of `envFrom` and of Services included", func(l *burstable.Limits) string { return count(l.Env) }},
	{"name of an image", func(l *burstable.Limits) string { return bytes(l.ImageBytes) }},
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
		return orDash(strings.Join(l.Capabilities, ", "))
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
