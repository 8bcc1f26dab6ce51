// Package status says at a glance what Autoburst does in a cluster: policies and
// what their limits leave, virtual nodes, what is short, and who waits longest.
package status

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Report is what is known of an installation, as -o json and -o yaml give it. Times
// are points in time, so that it changes only when something does.
type Report struct {
	Namespace string `json:"namespace"`
	// Version is that of the controller.
	Version    string     `json:"version,omitempty"`
	Controller Controller `json:"controller"`
	// Bursting is On, Stopped by the switch, or Unknown.
	Bursting string `json:"bursting"`
	// Switch is the ConfigMap that stops it, NAMESPACE/NAME.
	Switch       string        `json:"switch"`
	Policies     []Policy      `json:"policies"`
	Namespaces   []Namespace   `json:"namespaces"`
	VirtualNodes []VirtualNode `json:"virtualNodes"`
	Shortages    []Shortage    `json:"shortages"`
	Waiting      Waiting       `json:"waiting"`
	// Notes say what could not be read.
	Notes []string `json:"notes,omitempty"`
}

// What Report.Bursting may be.
const (
	On      = "On"
	Stopped = "Stopped"
	Unknown = "Unknown"
)

// Controller is the Deployment of the webhook and policy controller.
type Controller struct {
	Replicas int32 `json:"replicas"`
	Ready    int32 `json:"ready"`
	// Leader is the elected replica, empty where there is none.
	Leader string `json:"leader,omitempty"`
	// Admission is Webhook or MutatingAdmissionPolicy.
	Admission string `json:"admission"`
}

// Policy is a BurstPolicy or ClusterBurstPolicy.
type Policy struct {
	Kind      string        `json:"kind"`
	Namespace string        `json:"namespace,omitempty"`
	Name      string        `json:"name"`
	Mode      v1alpha1.Mode `json:"mode"`
	Priority  int32         `json:"priority"`
	Ready     bool          `json:"ready"`
	// Message says why it is not ready.
	Message string             `json:"message,omitempty"`
	Pods    v1alpha1.PodCounts `json:"pods"`
	// Pressure is Open or Closed, and empty without overflow.pressure.
	Pressure string `json:"pressure,omitempty"`
	// Limits are those of the policy and of its targets.
	Limits []Limit `json:"limits,omitempty"`
}

// Limit is one of a policy, or of one of its targets. Used and Left are absent while
// nobody counts.
type Limit struct {
	Target   string             `json:"target,omitempty"`
	Resource string             `json:"resource"`
	Limit    resource.Quantity  `json:"limit"`
	Used     *resource.Quantity `json:"used,omitempty"`
	Left     *resource.Quantity `json:"left,omitempty"`
}

// Namespace is one that its own annotation opts in.
type Namespace struct {
	Name string `json:"name"`
	Mode string `json:"mode"`
}

// VirtualNode is a virtual node, of Autoburst or of others.
type VirtualNode struct {
	Name     string `json:"name"`
	Provider string `json:"provider,omitempty"`
	Region   string `json:"region,omitempty"`
	Zone     string `json:"zone,omitempty"`
	Ready    bool   `json:"ready"`
	// State is Ready, or what keeps pods away.
	State   string `json:"state"`
	Message string `json:"message,omitempty"`
	// Resources are pods, cpu and memory.
	Resources []Resource `json:"resources"`
	// Unsized is how many of its pods do not say yet what the cloud bills; these are in
	// no sum but that of pods.
	Unsized int `json:"unsized,omitempty"`
}

// Resource is what a virtual node offers of one resource, and what is taken. Used and
// Free are absent where the pods could not be read.
type Resource struct {
	Name        string             `json:"name"`
	Allocatable resource.Quantity  `json:"allocatable"`
	Used        *resource.Quantity `json:"used,omitempty"`
	Free        *resource.Quantity `json:"free,omitempty"`
}

// Shortage is a target that is passed over, or a virtual node whose cloud has no room.
type Shortage struct {
	// Of is a target of a policy or a virtual node.
	Of    string       `json:"of"`
	Until *metav1.Time `json:"until,omitempty"`
	// Times is how often in a row.
	Times   int32  `json:"times,omitempty"`
	Message string `json:"message"`
}

// Waiting are the pods of served namespaces that are on no node.
type Waiting struct {
	// Pods is how many, and More tells that there are others which were not read.
	Pods int  `json:"pods"`
	More bool `json:"more,omitempty"`
	// Oldest are those that have waited longest.
	Oldest []WaitingPod `json:"oldest"`
}

// WaitingPod is a pod that is on no node.
type WaitingPod struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	Since     time.Time `json:"since"`
	Policy    string    `json:"policy,omitempty"`
	// Reason is that of the decision at admission, or Granted, or Gated, or empty where
	// nothing was decided.
	Reason string `json:"reason,omitempty"`
	// Message is a sentence about it, Scheduler what the scheduler says.
	Message   string `json:"message,omitempty"`
	Scheduler string `json:"scheduler,omitempty"`
}
