// Package v1alpha1 is the API group autoburst.io: BurstPolicy and
// ClusterBurstPolicy, and the names that users and components share.
//
// +kubebuilder:object:generate=true
// +groupName=autoburst.io
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Mode says where the pods that a policy selects may run.
// +kubebuilder:validation:Enum=Overflow;Always;Auto;Never
type Mode string

// The modes.
const (
	// ModeOverflow: local first, strictly. A pod bursts only when it fits no
	// ready local node.
	ModeOverflow Mode = "Overflow"
	// ModeAlways: virtual nodes only.
	ModeAlways Mode = "Always"
	// ModeAuto: the scheduler chooses among local and virtual nodes.
	ModeAuto Mode = "Auto"
	// ModeNever: never on a virtual node. It wins over every other mode.
	ModeNever Mode = "Never"
)

// NodeAutoscaler orders bursting against an autoscaler that adds local nodes.
// +kubebuilder:validation:Enum=BurstFirst;NodeFirst
type NodeAutoscaler string

// The orders.
const (
	// BurstFirst: pods burst before an autoscaler adds nodes for them.
	BurstFirst NodeAutoscaler = "BurstFirst"
	// NodeFirst: pods burst only when no autoscaler adds a node for them.
	NodeFirst NodeAutoscaler = "NodeFirst"
)

// ScaleIn says which pods of a ReplicaSet go first when it shrinks.
// +kubebuilder:validation:Enum=BurstFirst;Unordered
type ScaleIn string

// The orders of scaling in.
const (
	// ScaleInBurstFirst: pods on virtual nodes go before local ones.
	ScaleInBurstFirst ScaleIn = "BurstFirst"
	// ScaleInUnordered: nothing is written, Kubernetes chooses.
	ScaleInUnordered ScaleIn = "Unordered"
)

// RepatriationMode says whether running pods are moved back.
// +kubebuilder:validation:Enum=Never;WhenRoom
type RepatriationMode string

// The modes of repatriation.
const (
	// RepatriateNever: pods stay where they run.
	RepatriateNever RepatriationMode = "Never"
	// RepatriateWhenRoom: pods on virtual nodes are evicted when a local node has
	// room for their replacement.
	RepatriateWhenRoom RepatriationMode = "WhenRoom"
)

// BurstPolicySpec is what BurstPolicy and ClusterBurstPolicy share.
// +kubebuilder:validation:XValidation:rule="!has(self.overflow) || !has(self.mode) || self.mode == 'Overflow'",message="overflow is only for mode Overflow: remove spec.overflow or set spec.mode to Overflow",fieldPath=".overflow"
// +kubebuilder:validation:XValidation:rule="!has(self.keepLocal) || !has(self.mode) || self.mode == 'Overflow'",message="keepLocal is only for mode Overflow: remove spec.keepLocal or set spec.mode to Overflow",fieldPath=".keepLocal"
// +kubebuilder:validation:XValidation:rule="!has(self.repatriation) || !has(self.repatriation.mode) || self.repatriation.mode == 'Never' || !has(self.mode) || self.mode == 'Overflow'",message="repatriation is only for mode Overflow: remove spec.repatriation or set spec.mode to Overflow",fieldPath=".repatriation"
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'Never' || !has(self.limits)",message="mode Never has no limits: remove spec.limits or choose another mode",fieldPath=".limits"
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'Never' || !has(self.targets) || size(self.targets) == 0",message="mode Never has no targets: remove spec.targets or choose another mode",fieldPath=".targets"
type BurstPolicySpec struct {
	// priority orders the policies that select the same pod: the highest decides,
	// ties by name. Default 0.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=-1000000
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Priority int32 `json:"priority,omitempty"`

	// podSelector selects pods by their labels. Empty selects every pod.
	// +optional
	PodSelector metav1.LabelSelector `json:"podSelector,omitempty"`

	// mode is Overflow (local first, strictly; the default), Always (virtual
	// nodes only), Auto (the scheduler chooses) or Never.
	// +kubebuilder:default=Overflow
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// overflow tunes mode Overflow.
	// +optional
	Overflow *Overflow `json:"overflow,omitempty"`

	// keepLocal is how many replicas of each workload never burst: a number, or a
	// percentage of the workload's replicas, rounded up. A Deployment counts as one
	// workload across its ReplicaSets, and so does each StatefulSet, each Job, each
	// other owner of pods, and each pod without an owner. Of a rolling update each
	// revision counts by itself. Default 0.
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 0 : self.matches('^(100|[1-9]?[0-9])%$')",message="must be a whole number of at least 0, or a percentage from 0% to 100%"
	// +optional
	KeepLocal *intstr.IntOrString `json:"keepLocal,omitempty"`

	// limits bound what the pods that this policy selects take on virtual nodes,
	// together and whoever decides for them. Unset means no bound.
	// +optional
	Limits *Limits `json:"limits,omitempty"`

	// targets are the virtual nodes that pods may burst to, in order; the first
	// that can take a pod is used. A target is passed over while none of its nodes is
	// ready, has room and can carry out the pod, while its cloud has no capacity, and
	// for a while (from 30 s up to 15 min) after its cloud refused a pod for good.
	// Empty means any virtual node.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	Targets []Target `json:"targets,omitempty"`

	// scaleIn is BurstFirst (when a ReplicaSet shrinks, its pods on virtual nodes go
	// first; the default), which gives them the annotation
	// controller.kubernetes.io/pod-deletion-cost: "-100" unless they have their own, or
	// Unordered (nothing is written into pods for that).
	// +kubebuilder:default=BurstFirst
	// +optional
	ScaleIn ScaleIn `json:"scaleIn,omitempty"`

	// repatriation moves running pods back to local nodes. Unset means never.
	// +optional
	Repatriation *Repatriation `json:"repatriation,omitempty"`
}

// Limits bound pods on virtual nodes. Pods count from the moment that they are
// allowed to burst until they are gone; CPU and memory as the cloud sells them
// where the virtual node tells its sizes, else as the pods request them.
type Limits struct {
	// pods on virtual nodes at once.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	// +optional
	Pods *int32 `json:"pods,omitempty"`
	// cpu of all of them together, in cores, such as "1000".
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity('0'))",message="must not be negative"
	// +optional
	CPU *resource.Quantity `json:"cpu,omitempty"`
	// memory of all of them together, in bytes, such as 2Ti.
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity('0'))",message="must not be negative"
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`
}

// Repatriation moves running pods from virtual nodes back to local ones.
type Repatriation struct {
	// mode is Never (the default) or WhenRoom: a pod of a ReplicaSet is evicted from
	// a virtual node when a local node has room for its replacement. Disruption
	// budgets are honoured. Pods of Jobs and StatefulSets and pods without an owner
	// stay.
	// +kubebuilder:default=Never
	// +optional
	Mode RepatriationMode `json:"mode,omitempty"`
	// minBurstSeconds is how long a pod runs on a virtual node at least before it is
	// moved. In seconds; default 600.
	// +kubebuilder:default=600
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	// +optional
	MinBurstSeconds *int32 `json:"minBurstSeconds,omitempty"`
	// holdSeconds is for how long, after a pod of a workload was moved, no pod of that
	// workload is moved and none of its new pods bursts. In seconds; default 300.
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	HoldSeconds *int32 `json:"holdSeconds,omitempty"`
	// maxConcurrent is how many pods of this policy are on the move at once. Default 1.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +optional
	MaxConcurrent *int32 `json:"maxConcurrent,omitempty"`
}

// Overflow tunes mode Overflow.
type Overflow struct {
	// afterPendingSeconds is how long a pod waits, from the scheduler's first
	// Unschedulable verdict, before it may burst. In seconds; default 0, at once.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	AfterPendingSeconds int32 `json:"afterPendingSeconds,omitempty"`

	// pressure lets pods burst only while many are waiting. Unset means always.
	// +optional
	Pressure *Pressure `json:"pressure,omitempty"`

	// nodeAutoscaler orders bursting against an autoscaler that adds local nodes
	// (cluster-autoscaler, Karpenter): BurstFirst or NodeFirst. With NodeFirst, where
	// afterPendingSeconds is 0, a pod waits for 30 s, and for up to 10 min more while
	// an autoscaler says that a node is coming. Unset leaves both to act at once.
	// +optional
	NodeAutoscaler NodeAutoscaler `json:"nodeAutoscaler,omitempty"`
}

// Pressure opens and closes a policy by how many of its pods wait, with
// hysteresis.
type Pressure struct {
	// unschedulablePods is how many selected pods must be unschedulable for want
	// of room to open the policy. Default 1.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +optional
	UnschedulablePods int32 `json:"unschedulablePods,omitempty"`

	// forSeconds is for how long there must be so many before the policy opens.
	// In seconds; default 0.
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	ForSeconds int32 `json:"forSeconds,omitempty"`

	// cooldownSeconds is for how long there must be fewer before the policy
	// closes again. In seconds; default 60.
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +optional
	CooldownSeconds *int32 `json:"cooldownSeconds,omitempty"`
}

// Target is a set of virtual nodes.
type Target struct {
	// name of the target, unique within the policy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`

	// nodeSelector selects virtual nodes by their labels, such as
	// autoburst.io/provider: eci. Empty selects every virtual node.
	// +optional
	NodeSelector metav1.LabelSelector `json:"nodeSelector,omitempty"`

	// limits bound what the pods that this policy selects take on this target's
	// virtual nodes. Unset means no bound.
	// +optional
	Limits *Limits `json:"limits,omitempty"`

	// podMetadata is stamped on the pods that run here, when they are bound. A change
	// does not reach pods that are bound already.
	// +optional
	PodMetadata *PodMetadata `json:"podMetadata,omitempty"`
}

// PodMetadata is stamped on pods when they are bound to a virtual node.
type PodMetadata struct {
	// annotations to set. A pod's own annotation of the same name stays. At most 32,
	// and 32 KiB of names and values together; none of autoburst.io.
	// +kubebuilder:validation:MaxProperties=32
	// +optional
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Condition types of a policy.
const (
	// ConditionReady: the policy is valid and in force.
	ConditionReady = "Ready"
	// ConditionUnderPressure: pods may burst (only with overflow.pressure).
	ConditionUnderPressure = "UnderPressure"
	// ConditionTargetsAvailable: at least one target has a ready virtual node.
	ConditionTargetsAvailable = "TargetsAvailable"
	// ConditionWithinLimits: every limit leaves room (only with limits).
	ConditionWithinLimits = "WithinLimits"
)

// BurstPolicyStatus is what the controller observed.
type BurstPolicyStatus struct {
	// conditions: Ready, TargetsAvailable, UnderPressure where overflow.pressure is
	// set, and WithinLimits where limits are.
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	// +optional
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that was last looked at.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// pods counts the pods that this policy decides for.
	// +optional
	Pods PodCounts `json:"pods,omitzero"`

	// usage is what counts against the limits: the pods on virtual nodes that the
	// policy selects, and those that may yet be bound there. Absent without limits.
	// +optional
	Usage *Usage `json:"usage,omitempty"`

	// targets shows each target of the spec.
	// +kubebuilder:validation:MaxItems=8
	// +listType=map
	// +listMapKey=name
	// +optional
	Targets []TargetStatus `json:"targets,omitempty"`

	// moves are the workloads of which a pod was moved back to a local node lately,
	// or is about to be. It is the controller's memory and must not be edited.
	// +kubebuilder:validation:MaxItems=100
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=namespace
	// +listMapKey=name
	// +optional
	Moves []Move `json:"moves,omitempty"`
}

// Move is the last pod of a workload that was moved back to a local node.
type Move struct {
	// kind of the workload, such as Deployment.
	Kind string `json:"kind"`
	// namespace of the workload.
	Namespace string `json:"namespace"`
	// name of the workload.
	Name string `json:"name"`
	// pod that was moved, by name.
	Pod string `json:"pod"`
	// uid of that pod.
	UID types.UID `json:"uid"`
	// time when this was written down; the pod is evicted right after.
	Time metav1.Time `json:"time"`
	// heldUntil is until when no pod of the workload bursts. Absent once that is
	// over.
	// +optional
	HeldUntil *metav1.Time `json:"heldUntil,omitempty"`
	// next is when a pod of the workload may be moved again at the earliest.
	Next metav1.Time `json:"next"`
	// bounced counts how often in a row pods of the workload burst again after one
	// was moved. Each time doubles the pause.
	// +optional
	Bounced int32 `json:"bounced,omitempty"`
}

// MaxMoves is how many workloads a policy remembers as moved. While there are as
// many, none of its pods is moved.
const MaxMoves = 100

// PodCounts counts pods that are not finished.
type PodCounts struct {
	// selected is how many pods this policy decides for.
	Selected int32 `json:"selected"`
	// local is how many of them are bound to local nodes.
	Local int32 `json:"local"`
	// burst is how many of them are bound to virtual nodes.
	Burst int32 `json:"burst"`
	// waiting is how many of them are not bound.
	Waiting int32 `json:"waiting"`
}

// Usage is what counts against limits.
type Usage struct {
	// pods on virtual nodes, or allowed to go there.
	Pods int64 `json:"pods"`
	// cpu of them together.
	CPU resource.Quantity `json:"cpu"`
	// memory of them together.
	Memory resource.Quantity `json:"memory"`
}

// TargetStatus is the state of one target.
type TargetStatus struct {
	// name of the target.
	Name string `json:"name"`
	// readyNodes is how many of its virtual nodes are ready.
	ReadyNodes int32 `json:"readyNodes"`
	// pods is how many of the policy's pods are bound to its nodes.
	Pods int32 `json:"pods"`
	// usage is what counts against the target's limits. Absent without limits.
	// +optional
	Usage *Usage `json:"usage,omitempty"`
	// suspendedUntil is when the target is tried again after its cloud has refused
	// pods. Absent while it is not suspended.
	// +optional
	SuspendedUntil *metav1.Time `json:"suspendedUntil,omitempty"`
	// suspensions is how often it was suspended in a row; each lasts twice as long as
	// the one before, from 30 seconds to 15 minutes. Absent once its cloud has taken
	// a pod.
	// +optional
	Suspensions int32 `json:"suspensions,omitempty"`
	// reason why the target is not used, empty while it can be.
	// +kubebuilder:validation:MaxLength=256
	// +optional
	Reason string `json:"reason,omitempty"`
}

// BurstPolicy lets pods of its namespace burst to virtual nodes.
// +kubebuilder:object:root=true
// +kubebuilder:resource:shortName=bp,categories=autoburst
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Local",type=integer,JSONPath=`.status.pods.local`
// +kubebuilder:printcolumn:name="Burst",type=integer,JSONPath=`.status.pods.burst`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.pods.waiting`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`,priority=1
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BurstPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the owner of the namespace wants.
	Spec BurstPolicySpec `json:"spec,omitzero"`
	// status is what the controller observed.
	// +optional
	Status BurstPolicyStatus `json:"status,omitzero"`
}

// BurstPolicyList is a list of BurstPolicy.
// +kubebuilder:object:root=true
type BurstPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BurstPolicy `json:"items"`
}

// ClusterBurstPolicySpec is a BurstPolicySpec and the namespaces it is for.
type ClusterBurstPolicySpec struct {
	BurstPolicySpec `json:",inline"`

	// namespaceSelector selects namespaces by their labels. Empty selects every
	// namespace. kube-system, kube-node-lease and the release namespace are never
	// selected.
	NamespaceSelector metav1.LabelSelector `json:"namespaceSelector"`
}

// ClusterBurstPolicy lets pods of the selected namespaces burst to virtual
// nodes.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=cbp,categories=autoburst
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Local",type=integer,JSONPath=`.status.pods.local`
// +kubebuilder:printcolumn:name="Burst",type=integer,JSONPath=`.status.pods.burst`
// +kubebuilder:printcolumn:name="Waiting",type=integer,JSONPath=`.status.pods.waiting`
// +kubebuilder:printcolumn:name="Priority",type=integer,JSONPath=`.spec.priority`,priority=1
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterBurstPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the administrator wants.
	Spec ClusterBurstPolicySpec `json:"spec,omitzero"`
	// status is what the controller observed.
	// +optional
	Status BurstPolicyStatus `json:"status,omitzero"`
}

// ClusterBurstPolicyList is a list of ClusterBurstPolicy.
// +kubebuilder:object:root=true
type ClusterBurstPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterBurstPolicy `json:"items"`
}
