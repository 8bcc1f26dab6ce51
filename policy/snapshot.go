// Package policy holds the rules: which policy decides for a pod, what it may
// do, and what is written into the pod. It is pure. Time, counts and the state
// of the cluster come in as arguments, so that the webhook, the controller and
// the command line reach the same decision from the same facts.
package policy

import (
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Snapshot is what Evaluate knows of the cluster at one moment. It is never
// changed once made; many goroutines read it.
type Snapshot struct {
	// Namespaces by name; a pod of a namespace that is not here is not touched.
	Namespaces map[string]Namespace
	// Policies by namespace, "" for the ClusterBurstPolicies, each list in the
	// order in which policies decide (Less).
	Policies map[string][]*Policy
	// Index is over Policies and Namespaces. Without it, which is right but slow,
	// every question makes one.
	Index *Index
	// VirtualNodes are all virtual nodes, ready or not, by name.
	VirtualNodes []*VirtualNode
	// LocalSoftTaint is true when a ready local node bears a PreferNoSchedule
	// taint: then the scheduler's scores do not always keep local nodes first.
	LocalSoftTaint bool
	// InterPodTerms are the inter-pod affinity terms of pods in the cluster that
	// pull or push other pods in the scheduler's scores: preferred terms, and
	// required affinity terms.
	InterPodTerms []InterPodTerm
	// Usage is what counts against limits, where it is known. A grant is withheld by
	// it, but takes room elsewhere: see Decision.Charges.
	Usage map[Account]Amount
	// Stopped is true while the operator's switch is on: nobody is granted
	// anything, whatever the mode.
	Stopped bool
	// AdmissionByPolicy tells that the API server itself admits pods, by the
	// expressions of package policy/admission. It sees neither local nodes nor other
	// pods, so whatever depends on them is granted late.
	AdmissionByPolicy bool
	// ControllerLive is true while an elected controller is known to be at work.
	// Without one nobody measures pressure and nobody opens a gate.
	ControllerLive bool
	// Excluded are the namespaces that are never touched: kube-system,
	// kube-node-lease and the release namespace.
	Excluded map[string]bool
}

// Namespace is what Evaluate needs of a namespace.
type Namespace struct {
	Labels labels.Set
	// Mode is the value of the mode annotation, "" where it is absent. It may be
	// invalid.
	Mode v1alpha1.Mode
}

// Policy is a BurstPolicy or ClusterBurstPolicy with its selectors compiled.
type Policy struct {
	Ref      Ref
	Priority int32
	Mode     v1alpha1.Mode
	// PodSelector, and for a ClusterBurstPolicy NamespaceSelector.
	PodSelector       labels.Selector
	NamespaceSelector labels.Selector

	AfterPendingSeconds int32
	// HasPressure tells that overflow.pressure is set, PressureOpen that it lets
	// pods burst now.
	HasPressure, PressureOpen bool
	// PressureForSeconds is how long enough pods must wait before it opens.
	PressureForSeconds int32

	// NodeAutoscaler is "" where the policy sets no order.
	NodeAutoscaler v1alpha1.NodeAutoscaler

	// KeepLocal is nil where no replica is kept.
	KeepLocal *intstr.IntOrString
	// Limits bound the pods that the policy selects, on all virtual nodes.
	Limits Limits

	Targets []Target

	ScaleIn v1alpha1.ScaleIn
	// Repatriation is nil where pods are not moved back.
	Repatriation *Repatriation
	// Moves are the workloads of which a pod was moved back, by workload.
	Moves map[WorkloadRef]Move

	// Invalid says, with the field, why the policy cannot be carried out; such a
	// policy selects nothing but still forbids bursting where its mode is Never.
	Invalid string
}

// Ref names what decided: a policy, or an annotation.
type Ref struct {
	// Kind is BurstPolicy, ClusterBurstPolicy, Namespace or Pod.
	Kind string
	// Namespace and Name of the object; Namespace is empty for cluster scope.
	Namespace, Name string
}

// Target is a set of virtual nodes that a policy names.
type Target struct {
	Name     string
	Selector labels.Selector
	// Requirements are the selector in the form of node affinity.
	Requirements []corev1.NodeSelectorRequirement
	// Limits bound the pods that the policy selects, on this target's nodes.
	Limits Limits
	// Annotations are stamped on pods that are bound to this target's nodes.
	Annotations map[string]string
	// Suspended says in sentences why the target is not used for a while, and until
	// when, "" while it is used.
	Suspended string
}

// Repatriation moves running pods back to local nodes.
type Repatriation struct {
	// MinBurst is how long a pod runs on a virtual node before, Hold for how long its
	// workload is left alone, and kept local, after.
	MinBurst, Hold time.Duration
	MaxConcurrent  int
}

// Amount is a size or a sum of sizes of pods.
type Amount struct {
	Pods     int64 `json:"pods,omitempty"`
	MilliCPU int64 `json:"milliCPU,omitempty"`
	// Memory is in bytes.
	Memory int64 `json:"memory,omitempty"`
}

// Unlimited is the bound of a resource that has none.
const Unlimited = math.MaxInt64

// Limits are bounds; a resource without one is Unlimited.
type Limits Amount

// NoLimits bound nothing.
var NoLimits = Limits{Unlimited, Unlimited, Unlimited}

// VirtualNode is what Evaluate needs of a virtual node, of our agent or of
// another maker.
type VirtualNode struct {
	Name   string
	Labels labels.Set
	// HardTaints are its taints of effect NoSchedule or NoExecute, without those
	// that only tell a passing condition of the node (node.kubernetes.io/…).
	HardTaints []corev1.Taint
	// SoftTaints are its taints of effect PreferNoSchedule.
	SoftTaints []corev1.Taint
	// Ready is true when pods can be placed there now: condition Ready, not
	// cordoned, and no NoSchedule taint for a passing condition.
	Ready bool
	// NoCapacity is why its cloud has refused pods for want of room lately, such as
	// OutOfStock; "" where it has not, or where nobody tells.
	NoCapacity string
	// Capabilities is nil where the node publishes none (other makers').
	Capabilities *burstable.Capabilities
	// Free is what is left of its allocatable resources.
	Free corev1.ResourceList
}

// InterPodTerm is one term of an existing pod's affinity.
type InterPodTerm struct {
	// Namespaces that the term looks at; All means every one.
	Namespaces map[string]bool
	All        bool
	Selector   labels.Selector
}
