package v1alpha1

// Names that users, the chart, the agent and the policy side share. They are
// API: a change is a breaking change.
const (
	// GroupName is the API group.
	GroupName = "autoburst.io"

	// ModeAnnotation is set by users on a namespace, which opts it in, or on a
	// pod of a namespace that is opted in. Its value is a Mode.
	ModeAnnotation = "autoburst.io/mode"

	// ServedLabel is kept by the controller on each namespace that an annotation
	// or a policy opts in. The API server calls the pod webhook for these only.
	ServedLabel = "autoburst.io/served"
	// ServedValue is the value of ServedLabel.
	ServedValue = "true"

	// PolicyAnnotation on a pod names what decided for it: "BurstPolicy/NAME",
	// "ClusterBurstPolicy/NAME", "Namespace" or "Pod".
	PolicyAnnotation = "autoburst.io/policy"
	// DecidedModeAnnotation on a pod is the mode that was decided.
	DecidedModeAnnotation = "autoburst.io/decided-mode"
	// ReasonAnnotation on a pod is the reason of the decision at admission.
	ReasonAnnotation = "autoburst.io/reason"
	// GrantAnnotation on a pod says when it was allowed onto a virtual node:
	// "Admission" or "Late". It is absent while the pod waits.
	GrantAnnotation = "autoburst.io/grant"
	// StampedAnnotation on a pod says when the target's podMetadata and the pod's
	// deletion cost were written: "Binding", in the request that bound it, or
	// "Later". It is absent while nothing was.
	StampedAnnotation = "autoburst.io/stamped"

	// DecisionGate is the scheduling gate of a pod for which the controller has yet
	// to decide. Only pods of policies with nodeAutoscaler BurstFirst get it.
	DecisionGate = "autoburst.io/decision"

	// RepatriateAnnotation is set by users, to "Never", on a pod that is not to be
	// moved back to a local node.
	RepatriateAnnotation = "autoburst.io/repatriate"

	// ShareAnnotation on a pod says from which shares of limits it was granted at
	// admission, so that it is not counted twice.
	ShareAnnotation = "autoburst.io/share"

	// SizeAnnotation is set by the agent on a pod of its virtual node: the size that
	// the cloud sells and bills for the pod, which is what the pod asks for rounded up
	// to the cloud's sizes. It is a ResourceList as JSON, such as
	// {"cpu":"2","memory":"4Gi"}. Limits of policies count the same size.
	SizeAnnotation = "autoburst.io/size"
	// TraceparentAnnotation is the trace of the pod's admission (W3C Trace Context),
	// in which its grant and its start on a virtual node go on. It is written only
	// where that trace is recorded.
	TraceparentAnnotation = "autoburst.io/traceparent"
)

// BurstDeletionCost is the pod deletion cost (annotation
// controller.kubernetes.io/pod-deletion-cost) of pods on virtual nodes. Pods
// without one cost 0, and the cheapest go first.
const BurstDeletionCost = "-100"

// Reasons in the status of a pod that its virtual node ended because the cloud
// refused it for good. Its owner may replace it elsewhere.
const (
	// PodOutOfStock: the cloud has no machine of the pod's size.
	PodOutOfStock = "OutOfStock"
	// PodQuotaExceeded: the account's quota is used up.
	PodQuotaExceeded = "QuotaExceeded"
	// PodRefused: the cloud refuses the pod as it is.
	PodRefused = "RefusedByCloud"
	// PodWaitingPrefix comes before the first two while the pod is still tried
	// again in place.
	PodWaitingPrefix = "Cloud"
)

// IsRefusal tells whether a reason in the status of a failed pod says that the
// cloud refused it.
func IsRefusal(reason string) bool {
	return reason == PodRefused || ForWantOfRoom(reason)
}

// ForWantOfRoom tells whether it says that the cloud had no room.
func ForWantOfRoom(reason string) bool {
	return reason == PodOutOfStock || reason == PodQuotaExceeded
}

// AgentLabel is the virtual node of what belongs to its agents: their Deployment,
// their pods, the Lease by which they elect one.
const AgentLabel = "autoburst.io/virtual-node"

// Names on the Node objects of virtual nodes: the contract with the agent.
const (
	// VirtualNodeLabel and VirtualNodeValue mark a virtual node. They are the
	// names that virtual-kubelet has always used.
	VirtualNodeLabel = "type"
	VirtualNodeValue = "virtual-kubelet"
	// ProviderLabel is the cloud of a virtual node: "eci" or "aci".
	ProviderLabel = "autoburst.io/provider"
	// ProviderTaintKey is the default key of the hard taint.
	ProviderTaintKey = "virtual-kubelet.io/provider"
	// SoftTaintPrefix, with 1 to SoftTaints appended, are the keys of the
	// PreferNoSchedule taints that let local nodes win the scheduler's scores.
	SoftTaintPrefix = "autoburst.io/last-resort-"
	// SoftTaints is how many of them a virtual node bears.
	SoftTaints = 4
	// CloudUnreachableTaintKey is the key of the NoSchedule taint that a virtual
	// node bears while its cloud does not answer. The node stays Ready and keeps
	// its pods. No toleration of it is ever injected.
	CloudUnreachableTaintKey = "autoburst.io/cloud-unreachable"
	// CountGroupsAnnotation asks the agent of a cordoned node how many container groups
	// of the node its cloud holds; its value tells one question from another.
	// GroupCountAnnotation is the agent's answer, a [GroupCount].
	CountGroupsAnnotation = "autoburst.io/count-groups"
	GroupCountAnnotation  = "autoburst.io/group-count"
	// NoCapacityTaintKey is the key of the NoSchedule taint that a virtual node bears
	// while its cloud would start nothing: no quota is left, no machines, or every
	// create is refused. No toleration of it is ever injected.
	NoCapacityTaintKey = "autoburst.io/no-capacity"
	// CapabilitiesAnnotation is a burstable.Capabilities as JSON.
	CapabilitiesAnnotation = "autoburst.io/capabilities"
	// CloudReachableCondition and CapacityAvailableCondition are conditions of a
	// virtual node beside Ready.
	CloudReachableCondition    = "CloudReachable"
	CapacityAvailableCondition = "CapacityAvailable"
)
