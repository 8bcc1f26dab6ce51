package policy

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// Action is what is to be done with a pod.
type Action string

// The actions.
const (
	// Ignore: the pod is none of ours; nothing is written.
	Ignore Action = "Ignore"
	// StayLocal: the pod stays on local nodes; nothing is written but HonorTaints.
	StayLocal Action = "StayLocal"
	// Wait: the pod may burst later. Affinity is written at admission, the
	// toleration is withheld until the controller grants it.
	Wait Action = "Wait"
	// Grant: affinity and toleration are written at once.
	Grant Action = "Grant"
)

// Actions are all actions.
func Actions() []Action { return []Action{Ignore, StayLocal, Wait, Grant} }

// Decision is the outcome of Evaluate for one pod.
type Decision struct {
	Action Action
	Reason Reason
	// Message is the reason's sentence with the names of this case.
	Message string
	// By names what decided; zero for Ignore.
	By   Ref
	Mode v1alpha1.Mode
	// Target is the name of the chosen target, "" for any virtual node.
	Target string
	// Nodes are the ready virtual nodes that the pod may burst to now.
	Nodes []*VirtualNode
	// Tolerations open exactly the taints of Nodes; in modes Always and Auto, where
	// none is ready, those of the nodes that may come back. Inject writes them with
	// the action Grant only.
	Tolerations []corev1.Toleration
	// NodeSelector is what is ANDed into the pod's required node affinity: each
	// inner list is an alternative. Empty adds nothing.
	NodeSelector [][]corev1.NodeSelectorRequirement
	// PreferLocal asks for the preferred node affinity that keeps local nodes
	// first in the scheduler's scores.
	PreferLocal bool
	// AfterPendingSeconds is how long the late grant waits from the first
	// Unschedulable verdict.
	AfterPendingSeconds int32
	// NodeAutoscaler is the policy's order against autoscalers, "" for none.
	NodeAutoscaler v1alpha1.NodeAutoscaler
	// Gate asks for our scheduling gate, at admission only.
	Gate bool
	// ScaleUpDelay is for how long cluster-autoscaler is to leave the pod alone, from
	// its creation; zero writes nothing. At admission only.
	ScaleUpDelay time.Duration
	// HonorTaints makes nodes that the pod does not tolerate no domains of its
	// topology spread constraints, at admission only.
	HonorTaints bool
	// Charges are what a grant takes of the limits that bind the pod; none where no
	// limit does. It must be taken before the grant is written.
	Charges []Charge
	// Shares says from which shares the charges were taken; Inject writes it on the
	// pod.
	Shares string
	// Refusals name the fields that no candidate node can carry out.
	Refusals []burstable.Refusal
}
