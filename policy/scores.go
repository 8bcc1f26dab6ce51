package policy

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// What the default profile of kube-scheduler 1.36 counts. Each plugin scores a
// node from 0 to 100, times its weight (k8s.io/kubernetes v1.36.3,
// pkg/scheduler/apis/config/v1/default_plugins.go; a plugin without a weight
// there has 1, but the only such scorer, VolumeBinding, scores nothing while the
// gate StorageCapacityScoring is off, which is its default).
//
// For a local node, when the virtual ones bear soft taints that the pod does not
// tolerate and local nodes bear none:
//
//	TaintToleration 3 × 100: the score falls with the count of untolerated soft
//	    taints, scaled so that the node with the most gets 0 and one with none
//	    gets 100
//	NodeAffinity    2 × 100: the only preferred term is ours; nodes that match
//	    it get 100, the others 0
//	                                                                   sum 500
//
// Against it, at the very most, if the virtual node got 100 and the local 0:
//
//	PodTopologySpread               2 × 100: ScheduleAnyway and the defaults
//	NodeResourcesFit                1 × 100: LeastAllocated likes empty nodes
//	NodeResourcesBalancedAllocation 1 × 100
//	                                                                   sum 400
//	ImageLocality                   1 × 100: nothing for a virtual node of ours,
//	    which reports no images; a node of another maker might
//
// Two more would overturn it, so pods that they look at are left to the late
// grant: InterPodAffinity (2 × 100, spans 0 to 100 over any difference however
// small) and DynamicResources (2 × 100).
//
// Four soft taints rather than one keep the score far from 0 where a local node
// gets a soft taint between this decision and the scheduler's.
const (
	maxNodeScore          = 100
	taintTolerationWeight = 3
	nodeAffinityWeight    = 2
	spreadWeight          = 2
	resourcesFitWeight    = 1
	balancedWeight        = 1
	imageLocalityWeight   = 1

	// feasibleNodes is how many feasible nodes the scheduler finds at least before
	// it stops looking (minFeasibleNodesToFind in pkg/scheduler/schedule_one.go).
	// With fewer virtual nodes than that a feasible local node, where there is
	// one, is always among the scored.
	feasibleNodes = 100
)

// localFirst is LocalFirst when the scheduler's scores provably put each local
// node before each virtual node that the decision's tolerations open; otherwise
// the reason why that is not known.
func localFirst(s *Snapshot, namespace string, pod *corev1.Pod, d *Decision, c *candidates) (Reason, string) {
	spec := &pod.Spec
	if spec.SchedulerName != "" && spec.SchedulerName != corev1.DefaultSchedulerName {
		return CustomScheduler, fmt.Sprintf("It is named %s.", spec.SchedulerName)
	}
	if s.LocalSoftTaint {
		return LocalSoftTaint, ""
	}
	if a := spec.Affinity; a != nil {
		if a.NodeAffinity != nil {
			terms := a.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution
			for i := range terms {
				if !isPreferLocal(&terms[i]) {
					return PreferredNodeAffinity, ""
				}
			}
		}
		if a.PodAffinity != nil && (len(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 ||
			len(a.PodAffinity.RequiredDuringSchedulingIgnoredDuringExecution) > 0) ||
			a.PodAntiAffinity != nil && len(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution) > 0 {
			return OwnInterPodTerms, ""
		}
	}
	for i := range spec.TopologySpreadConstraints {
		// A filter, not a score: an empty virtual node may be the only domain where
		// such a pod is allowed, however much room there is elsewhere.
		if tsc := &spec.TopologySpreadConstraints[i]; tsc.WhenUnsatisfiable != corev1.ScheduleAnyway {
			return TopologySpread, fmt.Sprintf("The constraint is over %s.", tsc.TopologyKey)
		}
	}
	if len(spec.ResourceClaims) > 0 {
		return ResourceClaims, ""
	}
	if r, detail := softTaints(s, pod, d, c); r != LocalFirst {
		return r, detail
	}
	for i := range s.InterPodTerms {
		t := &s.InterPodTerms[i]
		if (t.All || t.Namespaces[namespace]) && t.Selector.Matches(labels.Set(pod.Labels)) {
			return OtherPodsTerms, ""
		}
	}
	return LocalFirst, ""
}

// softTaints looks at each virtual node that the tolerations open, ready or not:
// one that is not may be when the scheduler looks.
func softTaints(s *Snapshot, pod *corev1.Pod, d *Decision, c *candidates) (Reason, string) {
	var opened, images, least, most int
	for _, n := range s.VirtualNodes {
		if !inTargets(c.targets, n) || !opens(pod, d, n, c.required) {
			continue
		}
		if !bearsLastResort(n) {
			return SoftTaintsMissing, fmt.Sprintf("It is %s; %d taints %s1 to %[2]d of effect PreferNoSchedule are wanted.",
				n.Name, v1alpha1.SoftTaints, v1alpha1.SoftTaintPrefix)
		}
		for i := range n.SoftTaints {
			if tolerated(pod.Spec.Tolerations, &n.SoftTaints[i]) {
				return SoftTaintTolerated, fmt.Sprintf("It is %s of %s.", describe(&n.SoftTaints[i]), n.Name)
			}
		}
		if n.Capabilities == nil {
			images = 1
		}
		if opened == 0 || len(n.SoftTaints) < least {
			least = len(n.SoftTaints)
		}
		most = max(most, len(n.SoftTaints))
		opened++
	}
	if opened >= feasibleNodes {
		return ManyVirtualNodes, fmt.Sprintf("There are %d virtual nodes; fewer than %d are wanted.", opened, feasibleNodes)
	}
	if opened == 0 { // each node of the decision is open, and it has one
		return NoReadyVirtualNode, ""
	}
	// The score of the node with the fewest soft taints, divided as the scheduler
	// divides (DefaultNormalizeScore).
	virtual := maxNodeScore - maxNodeScore*least/most
	lead := taintTolerationWeight*(maxNodeScore-virtual) + nodeAffinityWeight*maxNodeScore
	against := (spreadWeight + resourcesFitWeight + balancedWeight + images*imageLocalityWeight) * maxNodeScore
	if lead <= against {
		return ScoresTooClose, fmt.Sprintf("Local nodes lead by %d points of which %d can be lost.", lead, against)
	}
	return LocalFirst, ""
}

// bearsLastResort is true when the node has all of our soft taints.
func bearsLastResort(n *VirtualNode) bool {
	var seen [v1alpha1.SoftTaints]bool
	for i := range n.SoftTaints {
		suffix, ok := strings.CutPrefix(n.SoftTaints[i].Key, v1alpha1.SoftTaintPrefix)
		if ok && len(suffix) == 1 && suffix[0] >= '1' && suffix[0] < '1'+v1alpha1.SoftTaints {
			seen[suffix[0]-'1'] = true
		}
	}
	for _, ok := range seen {
		if !ok {
			return false
		}
	}
	return true
}
