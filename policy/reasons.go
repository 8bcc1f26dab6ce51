package policy

import "strings"

// Reason says why a decision is what it is. The list is closed: Reasons holds
// all of them. Users meet them in events, in the annotation autoburst.io/reason
// and in the output of the command line.
type Reason string

// The pod is none of ours.
const (
	NamespaceExcluded Reason = "NamespaceExcluded"
	NamespaceUnknown  Reason = "NamespaceUnknown"
	NotSelected       Reason = "NotSelected"
	DaemonSetPod      Reason = "DaemonSetPod"
	MirrorPod         Reason = "MirrorPod"
	AlreadyBound      Reason = "AlreadyBound"
	Finished          Reason = "Finished"
	OwnToleration     Reason = "OwnToleration"
)

// The pod stays local.
const (
	ModeNever                    Reason = "ModeNever"
	InvalidPodMode               Reason = "InvalidPodMode"
	InvalidNamespaceMode         Reason = "InvalidNamespaceMode"
	NotBurstable                 Reason = "NotBurstable"
	NoHardTaint                  Reason = "NoHardTaint"
	SelectorExcludesVirtualNodes Reason = "SelectorExcludesVirtualNodes"
	TolerationTooBroad           Reason = "TolerationTooBroad"
	NoTopologyLabel              Reason = "NoTopologyLabel"
)

// The pod may burst later. Those from AdmissionByPolicy on withhold the
// toleration at admission because the scheduler's scores alone would not keep
// local nodes first.
const (
	Stopped            Reason = "Stopped"
	NoReadyVirtualNode Reason = "NoReadyVirtualNode"
	NoCapacity         Reason = "NoCapacity"
	PressureClosed     Reason = "PressureClosed"
	PressureUnknown    Reason = "PressureUnknown"
	NodeFirst          Reason = "NodeFirst"
	NodeComing         Reason = "NodeComing"
	AfterPending       Reason = "AfterPending"
	LimitReached       Reason = "LimitReached"
	LimitWithheld      Reason = "LimitWithheld"

	KeptLocal             Reason = "KeptLocal"
	HeldAfterRepatriation Reason = "HeldAfterRepatriation"

	AdmissionByPolicy Reason = "AdmissionByPolicy"

	CustomScheduler       Reason = "CustomScheduler"
	LocalSoftTaint        Reason = "LocalSoftTaint"
	SoftTaintsMissing     Reason = "SoftTaintsMissing"
	SoftTaintTolerated    Reason = "SoftTaintTolerated"
	ScoresTooClose        Reason = "ScoresTooClose"
	ManyVirtualNodes      Reason = "ManyVirtualNodes"
	PreferredNodeAffinity Reason = "PreferredNodeAffinity"
	OwnInterPodTerms      Reason = "OwnInterPodTerms"
	OtherPodsTerms        Reason = "OtherPodsTerms"
	TopologySpread        Reason = "TopologySpread"
	ResourceClaims        Reason = "ResourceClaims"
)

// The pod may burst now.
const (
	LocalFirst       Reason = "LocalFirst"
	VirtualOnly      Reason = "VirtualOnly"
	SchedulerChooses Reason = "SchedulerChooses"
	GrantedLate      Reason = "GrantedLate"
)

// Only EvaluateLate gives these.
const (
	NotUnschedulable  Reason = "NotUnschedulable"
	AlreadyGranted    Reason = "AlreadyGranted"
	FitsLocally       Reason = "FitsLocally"
	Nominated         Reason = "Nominated"
	NoVirtualNodeFits Reason = "NoVirtualNodeFits"
	SpreadOnly        Reason = "SpreadOnly"
)

// Only EvaluateGated gives these.
const (
	OtherGates Reason = "OtherGates"
)

// sentences keeps the order in which the documentation lists the reasons.
var sentences = []struct {
	reason   Reason
	sentence string
}{
	{NamespaceExcluded, "Pods of this namespace are never touched."},
	{NamespaceUnknown, "The namespace is not known yet."},
	{NotSelected, "No policy and no annotation selects the pod."},
	{DaemonSetPod, "Pods of DaemonSets are never touched."},
	{MirrorPod, "Mirror pods of static pods are never touched."},
	{AlreadyBound, "The pod is bound to a node already."},
	{Finished, "The pod is finished or being deleted."},
	{OwnToleration, "The owner of the pod wrote a toleration of a virtual node by hand, so where it runs is left to the owner."},

	{ModeNever, "Mode Never keeps the pod on local nodes."},
	{InvalidPodMode, "The annotation autoburst.io/mode of the pod is not a mode, so the pod stays on local nodes."},
	{InvalidNamespaceMode, "The annotation autoburst.io/mode of the namespace is not a mode, so the pod stays on local nodes."},
	{NotBurstable, "No virtual node that the pod may burst to can carry out all fields of the pod."},
	{NoHardTaint, "The virtual nodes bear no taint of effect NoSchedule or NoExecute, so mode Overflow cannot hold pods back from them."},
	{SelectorExcludesVirtualNodes, "The node selector or the required node affinity of the pod matches no virtual node that it may burst to."},
	{TolerationTooBroad, "The toleration would also let the pod onto a virtual node where it must not run."},

	{NoTopologyLabel, "The pod must be spread over, or near other pods within, a topology to which no virtual node belongs that it may burst to."},

	{Stopped, "An operator has stopped all bursting, so the pod may burst once that is lifted."},
	{NoReadyVirtualNode, "No virtual node that the pod may burst to is ready."},
	{NoCapacity, "Every cloud that the pod may burst to has refused pods lately, so the pod may burst once one of them is tried again."},
	{PressureClosed, "The policy lets pods burst under pressure only, and there is none."},
	{PressureUnknown, "The policy lets pods burst under pressure only, and no controller is known to be at work that measures it."},
	{NodeFirst, "The policy lets autoscalers add a node first, so the pod may burst once none does."},
	{NodeComing, "An autoscaler adds a node for the pod, so the pod may burst if that node does not come."},
	{AfterPending, "The policy lets the pod burst only after it has been unschedulable for some time."},

	{LimitReached, "A limit leaves no room for the pod, so it stays a candidate for local nodes and waits for room."},
	{LimitWithheld, "A limit binds the pod and room under it is not at hand, so the controller grants the pod in its turn once it is unschedulable."},
	{KeptLocal, "The policy keeps replicas of each workload on local nodes, and counts those that burst."},
	{HeldAfterRepatriation, "A pod of the same workload was moved back to local nodes, where its replacement is to run, so no pod of it may burst for a while."},

	{AdmissionByPolicy, "The API server admits pods by itself and sees no other pods, so the pod may burst once it is unschedulable."},

	{CustomScheduler, "The pod has a scheduler of its own, so it may burst once that scheduler finds it unschedulable."},
	{LocalSoftTaint, "A local node bears a taint of effect PreferNoSchedule, so the pod may burst once it is unschedulable."},
	{SoftTaintsMissing, "A virtual node lacks the taints that put it last, so the pod may burst once it is unschedulable."},
	{SoftTaintTolerated, "The pod tolerates a taint that puts virtual nodes last, so it may burst once it is unschedulable."},
	{ScoresTooClose, "The scheduler's scores might put a virtual node before a local one, so the pod may burst once it is unschedulable."},
	{ManyVirtualNodes, "The scheduler might look at virtual nodes only, so the pod may burst once it is unschedulable."},
	{PreferredNodeAffinity, "The pod prefers nodes by itself, so it may burst once it is unschedulable."},
	{OwnInterPodTerms, "The pod is drawn to or from other pods, so it may burst once it is unschedulable."},
	{OtherPodsTerms, "Other pods draw or push the pod by their affinity, so it may burst once it is unschedulable."},
	{TopologySpread, "The pod must be spread evenly, so it may burst once it is unschedulable."},
	{ResourceClaims, "The pod claims devices, so it may burst once it is unschedulable."},

	{LocalFirst, "The pod may burst, and the scheduler puts local nodes first."},
	{VirtualOnly, "Mode Always sends the pod to virtual nodes."},
	{SchedulerChooses, "Mode Auto lets the scheduler choose among local and virtual nodes."},
	{GrantedLate, "The pod fits no local node and may burst now."},

	{NotUnschedulable, "The scheduler has not found the pod unschedulable."},
	{AlreadyGranted, "The pod may burst already."},
	{FitsLocally, "The pod fits a ready local node."},
	{Nominated, "The scheduler is making room for the pod on a local node."},
	{NoVirtualNodeFits, "The pod fits no ready virtual node that it may burst to."},
	{SpreadOnly, "Local nodes have room for the pod, and only its own topology spread constraints keep it from them."},
	{OtherGates, "The pod bears another scheduling gate, so it is decided once that is gone."},
}

// Reasons are all reasons, in the order of the documentation.
func Reasons() []Reason {
	rs := make([]Reason, len(sentences))
	for i := range sentences {
		rs[i] = sentences[i].reason
	}
	return rs
}

// Sentence says what the reason means, without the names of a case. It is empty
// for a reason that is not in the list.
func (r Reason) Sentence() string {
	for i := range sentences {
		if sentences[i].reason == r {
			return sentences[i].sentence
		}
	}
	return ""
}

// Anchor is where the documentation explains the reason, relative to the root
// of the repository.
func (r Reason) Anchor() string {
	return "docs/reasons.md#" + strings.ToLower(string(r))
}
