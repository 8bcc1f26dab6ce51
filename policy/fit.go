package policy

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/labels"
	podresource "k8s.io/component-helpers/resource"
)

// LocalNode is what Fits needs of a node that is no virtual node, is Ready and
// is not cordoned. Other nodes have no LocalNode: no pod fits them.
type LocalNode struct {
	Name   string
	Labels labels.Set
	// Taints are all taints of the node.
	Taints []corev1.Taint
	// Free is what its allocatable resources leave beside the requests of the
	// pods that are bound to it, and with pods the number of pods it still takes.
	Free corev1.ResourceList
	// Allocatable is what it has in all.
	Allocatable corev1.ResourceList
}

// Fits is true when the node has room for the pod and the pod may run there, by
// node selector, required node affinity, taints and resources. Otherwise it says
// what is in the way.
//
// Host ports, volumes, devices and constraints against other pods are not
// looked at: a pod that only those keep from a node fits it here. Of host ports
// and other pods EvaluateLate learns from the scheduler's verdict; a pod that
// only its volumes or devices keep from local nodes does not burst.
func Fits(pod *corev1.Pod, n *LocalNode) (ok bool, why string) {
	f := newFitter(pod)
	if o := f.local(n); o != (obstacle{}) {
		return false, o.String()
	}
	return true, ""
}

// fitter holds what is worked out once per pod and asked of many nodes.
type fitter struct {
	pod      *corev1.Pod
	required required
	requests []request
}

type request struct {
	name   corev1.ResourceName
	amount resource.Quantity
}

func newFitter(pod *corev1.Pod) *fitter {
	f := &fitter{pod: pod, required: requiredOf(pod)}
	for name, amount := range podresource.PodRequests(pod, podresource.PodResourcesOptions{}) {
		if !amount.IsZero() {
			f.requests = append(f.requests, request{name, amount})
		}
	}
	f.requests = append(f.requests, request{corev1.ResourcePods, *resource.NewQuantity(1, resource.DecimalSI)})
	slices.SortFunc(f.requests, func(a, b request) int { return cmp.Compare(a.name, b.name) })
	return f
}

// obstacle is the first thing that keeps a pod from a node; zero is none.
type obstacle struct {
	kind  obstacleKind
	node  string
	what  string
	taint corev1.Taint
}

type obstacleKind int

const (
	notSelected obstacleKind = iota + 1
	untolerated
	insufficient
)

func (o obstacle) String() string {
	switch o.kind {
	case notSelected:
		return fmt.Sprintf("Node %s does not match the node selector or the required node affinity of the pod.", o.node)
	case untolerated:
		return fmt.Sprintf("Node %s bears the taint %s.", o.node, describe(&o.taint))
	case insufficient:
		return fmt.Sprintf("Node %s has too little %s left.", o.node, o.what)
	}
	return ""
}

func (f *fitter) local(n *LocalNode) obstacle {
	for i := range n.Taints {
		t := &n.Taints[i]
		if t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerated(f.pod.Spec.Tolerations, t) {
			return obstacle{kind: untolerated, node: n.Name, taint: *t}
		}
	}
	if o := f.resources(n.Name, n.Free); o != (obstacle{}) {
		return o
	}
	if !f.required.matches(n.Name, n.Labels) {
		return obstacle{kind: notSelected, node: n.Name}
	}
	return obstacle{}
}

// room says what of a virtual node is too small for the pod. A node that says
// nothing of its resources has room.
func (f *fitter) room(n *VirtualNode) string {
	if len(n.Free) == 0 {
		return ""
	}
	return f.resources(n.Name, n.Free).String()
}

// HasRoom tells whether a virtual node has room for the pod's requests. A node that
// says nothing of its resources has.
func HasRoom(pod *corev1.Pod, n *VirtualNode) bool { return newFitter(pod).room(n) == "" }

func (f *fitter) resources(node string, free corev1.ResourceList) obstacle {
	for i := range f.requests {
		left := free[f.requests[i].name]
		if left.Cmp(f.requests[i].amount) < 0 {
			return obstacle{kind: insufficient, node: node, what: string(f.requests[i].name)}
		}
	}
	return obstacle{}
}
