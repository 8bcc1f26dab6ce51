package metric

import (
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
)

// BuildInfo is a set of one metric, which tells what a program is built from.
func BuildInfo(version string) *Set {
	s := &Set{}
	s.GaugeVec(Family{
		Name: "autoburst_build_info", Stability: Beta,
		Help:   "1, with what the program is built from in its labels.",
		Labels: []Label{{Name: "version", See: "the release"}, {Name: "goversion", See: "the Go release"}},
	}).WithLabelValues(version, runtime.Version()).Set(1)
	return s
}

// OfAgent are the labels that every metric of an agent bears beside its own. They
// name its virtual node, of which there are few.
func OfAgent(virtualNode, provider string) prometheus.Labels {
	return prometheus.Labels{LabelVirtualNode: virtualNode, LabelProvider: provider}
}

// The labels that tell the agents of virtual nodes apart.
const (
	LabelVirtualNode = "virtual_node"
	LabelProvider    = "provider"
)
