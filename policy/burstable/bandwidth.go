package burstable

import (
	"math"
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// ingressBandwidth and egressBandwidth are Kubernetes' annotations for the traffic of a
// pod. With Kubernetes' own network plugins they are bits in a second, as quantities from
// 1k to 1P (k8s.io/kubernetes, pkg/util/bandwidth). ACK, on its nodes and on ECI, reads
// bytes in a second, with units from B to TB ("Limit the inbound and outbound bandwidth
// of pods", 2026-04).
const (
	ingressBandwidth = "kubernetes.io/ingress-bandwidth"
	egressBandwidth  = "kubernetes.io/egress-bandwidth"
)

const unboundTraffic = "does not bound the traffic of a pod"

// isBandwidth tells whether an annotation bounds the traffic of a pod.
func isBandwidth(key string) bool { return key == ingressBandwidth || key == egressBandwidth }

// bandwidth refuses bounds of the traffic where the cloud has none.
func (c *checker) bandwidth(pod *corev1.Pod) {
	if len(pod.Annotations) == 0 || c.caps.Has(Bandwidth) {
		return
	}
	metadata := path{name: "metadata", index: -1}
	for _, key := range []string{egressBandwidth, ingressBandwidth} {
		if _, asks := pod.Annotations[key]; asks {
			c.lacks(&metadata, "annotations["+key+"]", unboundTraffic)
		}
	}
}

// ackBandwidth is a number of bytes in a second as ACK documents it.
var ackBandwidth = regexp.MustCompile(`^(\d+(?:\.\d+)?)([KMGT]?)B?$`)

// bytesPerSecond reads a bound of the traffic: a Kubernetes quantity of bits in a second,
// rounded up to whole bytes, or, with inBytes set, a number of bytes as ACK has it.
func bytesPerSecond(v string, inBytes bool) (n int64, problem string) {
	if inBytes {
		m := ackBandwidth.FindStringSubmatch(v)
		if m == nil {
			return 0, "write bytes in a second, such as 10M or 10MB"
		}
		f, err := strconv.ParseFloat(m[1], 64)
		for unit := "KMGT"; err == nil && m[2] != "" && unit != ""; unit = unit[1:] {
			if f *= 1000; unit[:1] == m[2] {
				break
			}
		}
		if err != nil || f < 1 || f > 1e15 {
			return 0, "write 1B to 1000T bytes in a second"
		}
		return int64(math.Ceil(f)), ""
	}
	q, err := resource.ParseQuantity(v)
	if err != nil {
		return 0, "write bits in a second as a quantity, such as 10M"
	}
	if q.Cmp(leastBandwidth) < 0 || q.Cmp(mostBandwidth) > 0 {
		return 0, "write 1k to 1P bits in a second"
	}
	return (q.Value() + 7) / 8, ""
}

var leastBandwidth, mostBandwidth = resource.MustParse("1k"), resource.MustParse("1P")

// bandwidthRow reads one direction. Where the node is not known, a value that any node
// takes is right.
func bandwidthRow(key, example, effect string, set func(*ECISettings, int64)) eciRow {
	read := func(s *ECISettings, v string, node *ECINode) string {
		n, problem := bytesPerSecond(v, node != nil && node.BandwidthInBytes)
		if problem != "" && node == nil {
			if in, wrong := bytesPerSecond(v, true); wrong == "" {
				n, problem = in, ""
			}
		}
		set(s, n)
		return problem
	}
	return eciRow{ECIAnnotation: ECIAnnotation{key, example, effect}, readFor: read}
}
