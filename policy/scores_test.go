package policy

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// scoreOf counts as kube-scheduler does, the plugins at their worst for local
// nodes except those that softTaints knows. It is written from the scheduler's
// source rather than from scores.go.
func scoreOf(soft, most int, local, images bool) int {
	total := 0
	if most > 0 {
		total += 3 * (100 - 100*soft/most) // TaintToleration, DefaultNormalizeScore reversed
	} else {
		total += 3 * 100
	}
	if local {
		total += 2 * 100 // NodeAffinity
		return total
	}
	total += 2*100 + 100 + 100 // PodTopologySpread, NodeResourcesFit, NodeResourcesBalancedAllocation
	if images {
		total += 100
	}
	return total
}

// TestSoftTaintsAgainstTheScheduler: wherever softTaints grants, a local node
// outscores each virtual node.
func TestSoftTaintsAgainstTheScheduler(t *testing.T) {
	granted, withheld := 0, 0
	for a := range 12 {
		for b := range 12 {
			for _, images := range []bool{false, true} {
				s := shop()
				s.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
				counts := [...]int{a, b}
				for i, n := range s.VirtualNodes {
					for len(n.SoftTaints) < counts[i] {
						n.SoftTaints = append(n.SoftTaints, corev1.Taint{Key: string(rune('a' + len(n.SoftTaints))), Effect: corev1.TaintEffectPreferNoSchedule})
					}
					n.SoftTaints = n.SoftTaints[:counts[i]]
					if images {
						n.Capabilities = nil
					}
				}
				d := Evaluate(s, "shop", web())
				if d.Action != Grant {
					withheld++
					continue
				}
				granted++
				most := max(a, b)
				for _, n := range counts {
					if local, virtual := scoreOf(0, most, true, false), scoreOf(n, most, false, images); local <= virtual {
						t.Errorf("%d and %d soft taints, images %v: a local node scores %d, a virtual one %d", a, b, images, local, virtual)
					}
				}
			}
		}
	}
	if granted == 0 || withheld == 0 {
		t.Errorf("granted %d, withheld %d", granted, withheld)
	}
}
