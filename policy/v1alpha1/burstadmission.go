package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BurstAdmission is what the API server knows of policies and virtual nodes where
// a MutatingAdmissionPolicy takes the place of the webhook. The controller writes
// it; changes by hand do not last.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=autoburst
// +kubebuilder:printcolumn:name="Stopped",type=boolean,JSONPath=`.spec.stopped`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BurstAdmission struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the controller compiled.
	Spec BurstAdmissionSpec `json:"spec,omitzero"`
}

// BurstAdmissionList is a list of BurstAdmission.
// +kubebuilder:object:root=true
type BurstAdmissionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BurstAdmission `json:"items"`
}

// BurstAdmissionSpec holds facts that are referred to by their place in a list.
type BurstAdmissionSpec struct {
	// stopped withholds every toleration while the operator's switch is on.
	// +optional
	Stopped bool `json:"stopped,omitempty"`
	// namespaces are those that are served, by name. Each has the rules that may
	// select its pods, in the order in which they decide.
	// +optional
	Namespaces map[string][]int32 `json:"namespaces,omitempty"`
	// podRules decide for pods with the annotation autoburst.io/mode.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	PodRules []int32 `json:"podRules,omitempty"`
	// rules are policies and annotations.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10000
	Rules []AdmissionRule `json:"rules,omitempty"`
	// nodes are the virtual nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Nodes []AdmissionNode `json:"nodes,omitempty"`
	// tolerations open the taints of the virtual nodes, one each.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
}

// AdmissionRule is a policy or an annotation.
type AdmissionRule struct {
	// by is the value of the annotation autoburst.io/policy.
	// +kubebuilder:validation:MaxLength=300
	By string `json:"by"`
	// mode is absent for the annotation of a namespace that is no mode.
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// podSelector lists what the labels of a pod must fulfil; empty selects every
	// pod.
	// +optional
	// +listType=atomic
	PodSelector []metav1.LabelSelectorRequirement `json:"podSelector,omitempty"`
	// limited withholds the toleration until the controller has counted.
	// +optional
	Limited bool `json:"limited,omitempty"`
	// reason is why the pod is granted the toleration, or in mode Overflow why not
	// yet.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// scaleUpDelay is how long autoscalers are asked to leave a pod alone that waits
	// for this reason, as a Go duration.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ScaleUpDelay string `json:"scaleUpDelay,omitempty"`
	// local is the alternative to the targets that keeps local nodes open.
	// +optional
	// +listType=atomic
	Local []corev1.NodeSelectorRequirement `json:"local,omitempty"`
	// preferred are terms of preferred node affinity.
	// +optional
	// +listType=atomic
	Preferred []corev1.PreferredSchedulingTerm `json:"preferred,omitempty"`
	// targets are in order; a rule that names none has one with all virtual nodes.
	// +optional
	// +listType=atomic
	Targets []AdmissionTarget `json:"targets,omitempty"`
}

// AdmissionTarget is a set of virtual nodes.
type AdmissionTarget struct {
	// nodes are places in spec.nodes.
	// +optional
	// +listType=atomic
	Nodes []int32 `json:"nodes,omitempty"`
	// suspended tells that the target is not used for a while.
	// +optional
	Suspended bool `json:"suspended,omitempty"`
	// requires is the alternative of required node affinity that means these nodes.
	// +optional
	// +listType=atomic
	Requires []corev1.NodeSelectorRequirement `json:"requires,omitempty"`
}

// AdmissionNode is a virtual node.
type AdmissionNode struct {
	// name of the Node.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// labels of the Node.
	Labels map[string]string `json:"labels"`
	// ready tells that pods can be placed there now.
	// +optional
	Ready bool `json:"ready,omitempty"`
	// noCapacity tells that the cloud has refused pods for want of room lately.
	// +optional
	NoCapacity bool `json:"noCapacity,omitempty"`
	// hard and soft are places in spec.tolerations: those of the taints that keep
	// pods away, and of the taints of effect PreferNoSchedule.
	// +optional
	// +listType=atomic
	Hard []int32 `json:"hard,omitempty"`
	// +optional
	// +listType=atomic
	Soft []int32 `json:"soft,omitempty"`
	// capabilities is absent for a node that publishes none.
	// +optional
	Capabilities *AdmissionCapabilities `json:"capabilities,omitempty"`
}

// AdmissionCapabilities is what a virtual node publishes of its cloud.
type AdmissionCapabilities struct {
	// features are the optional pod fields that the cloud carries out.
	// +optional
	// +listType=atomic
	Features []string `json:"features,omitempty"`
	// limits are the bounds of one pod, by name.
	// +optional
	Limits map[string]int64 `json:"limits,omitempty"`
	// reservedPorts are those that no container may declare.
	// +optional
	// +listType=atomic
	ReservedPorts []PortRange `json:"reservedPorts,omitempty"`
	// linuxCapabilities are those that can be added to a container; absent where
	// any can.
	// +optional
	// +listType=atomic
	LinuxCapabilities []string `json:"linuxCapabilities,omitempty"`
}

// PortRange is the ports from first to last, both included.
type PortRange struct {
	First int32 `json:"first"`
	Last  int32 `json:"last"`
}
