package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/autoburst/autoburst/policy/controller"
	"github.com/autoburst/autoburst/policy/metric"
	"github.com/autoburst/autoburst/vnode"
	"github.com/autoburst/autoburst/webhook"
	"github.com/autoburst/autoburst/webhook/certs"
)

// program is what one program shows.
type program struct {
	title, text string
	families    []metric.Family
}

func programs() []program {
	build := metric.BuildInfo("").Families()
	sorted := func(parts ...[]metric.Family) []metric.Family {
		all := slices.Concat(parts...)
		slices.SortFunc(all, func(a, b metric.Family) int { return cmp.Compare(a.Name, b.Name) })
		return all
	}
	return []program{
		{
			title: "Webhook and policy controller",
			text: "Served by `autoburst` on port 8080 (`controller.metricsPort`), on every replica. Figures of the webhook are of the replica; those\n" +
				"about pods, policies and grants come from the elected replica alone, so sum or take the maximum over replicas.",
			families: sorted(build, webhook.Families(), certs.Families(), controller.Families()),
		},
		{
			title: "Agents of virtual nodes",
			text: "Served by `autoburst-vnode` on port 10255 (`vnode.metricsPort`), on every replica. All bear the labels `" + metric.LabelVirtualNode + "`, the name of the\n" +
				"Node, and `" + metric.LabelProvider + "`, `eci` or `aci`. What only the leader of a virtual node knows is 0 or absent in the replicas that stand by:\n" +
				"`max by (" + metric.LabelVirtualNode + ")` is the leader's.",
			families: sorted(build, vnode.Families()),
		},
	}
}

// metrics is the reference of all metrics.
func metrics() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n" +
		"Everything that the programs tell Prometheus under names of their own. No metric has a label with the name of a pod, a namespace\n" +
		"or a policy, so the number of series does not grow with the cluster. This page is generated from the code; the\n" +
		"[alerts](alerts.md) and the dashboard of the chart are made of these.\n\n" +
		"Stability is as in Kubernetes: `ALPHA` metrics may change in any release, `BETA` ones keep name and type and are given up with notice\n" +
		"of one release, `STABLE` ones keep their labels too.\n\n" +
		"Beside them, both programs serve those of the Go runtime and the process (`go_…`, `process_…`), and `autoburst` those of\n" +
		"controller-runtime and client-go (`controller_runtime_…`, `workqueue_…`, `rest_client_…`, `leader_election_…`, `certwatcher_…`).\n")
	for _, p := range programs() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| metric | type | unit | stability | what it tells | labels |\n|---|---|---|---|---|---|\n", p.title, p.text)
		for _, f := range p.families {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", f.Name, f.Type, unit(f), f.Stability, f.Help, labels(f.Labels))
		}
	}
	return b.String()
}

// unit is what the name ends in, by the conventions of Prometheus.
func unit(f metric.Family) string {
	name := strings.TrimSuffix(f.Name, "_total")
	for _, u := range []struct{ suffix, unit string }{
		{"_timestamp_seconds", "Unix time in seconds"}, {"_per_second", "per second"}, {"_seconds", "seconds"}, {"_bytes", "bytes"},
		{"_cores", "vCPUs"}, {"_ratio", "0 to 1"}, {"_info", "1"},
	} {
		if strings.HasSuffix(name, u.suffix) {
			return u.unit
		}
	}
	return "count"
}

func labels(all []metric.Label) string {
	var texts []string
	for _, l := range all {
		values := l.See
		if values == "" {
			var quoted []string
			for _, v := range l.Values {
				if v == "" {
					quoted = append(quoted, "empty")
				} else {
					quoted = append(quoted, "`"+v+"`")
				}
			}
			values = strings.Join(quoted, ", ")
		}
		texts = append(texts, "`"+l.Name+"`: "+values)
	}
	return strings.Join(texts, "; ")
}
