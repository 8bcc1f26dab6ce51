package policy

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// ScaleUpDelayAnnotation is read by cluster-autoscaler: it leaves a pod alone
	// until it is older than this (its FAQ, "How can I modify Cluster Autoscaler
	// reaction time?"). The value is a Go duration.
	ScaleUpDelayAnnotation = "cluster-autoscaler.kubernetes.io/pod-scale-up-delay"

	// burstHeadStart is how long, beyond the policy's own waits, an autoscaler
	// leaves a pod to us that is expected to burst. After it, a pod that could not
	// gets its node.
	burstHeadStart = 5 * time.Minute
	// pressureHeadStart is the same for a pod that waits for pressure, which may
	// well not come.
	pressureHeadStart = time.Minute

	// defaultNodeFirstSeconds is how long a pod under NodeFirst waits where the policy
	// names no time: three scans of cluster-autoscaler (10 s by default), after which
	// its verdict on the pod is there.
	defaultNodeFirstSeconds = 30
	// nodeStart is for how long an autoscaler's word that a node is coming is
	// believed.
	nodeStart = 10 * time.Minute
	// nodePoll is after how long a pod for which a node is coming is looked at
	// again, in case that the autoscaler takes its word back.
	nodePoll = 15 * time.Second
	// pressurePoll is after how long a pod is looked at again while the pressure is not
	// measured yet.
	pressurePoll = 500 * time.Millisecond
)

// besides adds to a decision at admission what is written for the order against
// autoscalers and for the spread of the pod.
func besides(s *Snapshot, pod *corev1.Pod, p *Policy, d Decision) Decision {
	if d.Mode != v1alpha1.ModeOverflow {
		return d
	}
	d.HonorTaints = (d.Action == Wait || d.Action == StayLocal) && seesTainted(pod)
	if d.Action != Wait || p == nil || p.NodeAutoscaler != v1alpha1.BurstFirst {
		return d
	}
	waits := time.Duration(d.AfterPendingSeconds) * time.Second
	switch d.Reason {
	case PressureClosed:
		d.ScaleUpDelay = waits + time.Duration(p.PressureForSeconds)*time.Second + pressureHeadStart
	case AfterPending:
		d.ScaleUpDelay = waits + burstHeadStart
	case AdmissionByPolicy:
		// The API server knows of no controller that would open a gate.
		d.ScaleUpDelay = burstHeadStart
	case CustomScheduler:
		// Only kube-scheduler is known to wait at gates.
		d.ScaleUpDelay = burstHeadStart
	default:
		if untrusted[d.Reason] {
			d.ScaleUpDelay = burstHeadStart
			d.Gate = s.ControllerLive
		}
	}
	return d
}

// untrusted are the reasons for which the toleration is withheld at admission
// though nothing but the scheduler's scores stands in the way.
var untrusted = map[Reason]bool{
	CustomScheduler: true, LocalSoftTaint: true, SoftTaintsMissing: true, SoftTaintTolerated: true,
	ScoresTooClose: true, ManyVirtualNodes: true, PreferredNodeAffinity: true, OwnInterPodTerms: true,
	OtherPodsTerms: true, TopologySpread: true, ResourceClaims: true,
}

// scaleUpDelay is the value of ScaleUpDelayAnnotation.
func scaleUpDelay(d time.Duration) string {
	return strconv.Itoa(int(d/time.Second)) + "s"
}

// AwaitPressure turns a grant into a wait while a new controller has yet to measure
// the pressure.
func AwaitPressure(d LateDecision) LateDecision {
	return LateDecision{
		Decision:   d.with(Wait, PressureUnknown, "A controller has just begun to measure it."),
		WantOfRoom: d.WantOfRoom, RequeueAfter: pressurePoll,
	}
}

// ScaleUp is what autoscalers have said of one pod. Times are zero for what was
// not said.
type ScaleUp struct {
	// Coming is when one last said that it adds a node for the pod, By its name.
	Coming time.Time
	By     string
	// Declined is when one last said that it adds none.
	Declined time.Time
}

// Reasons of the events that autoscalers write on pods.
const (
	// cluster-autoscaler, processors/status/eventing_scale_up_processor.go: a pod for
	// which it adds a node, and one for which it adds none.
	eventScaleUp   = "TriggeredScaleUp"
	eventNoScaleUp = "NotTriggerScaleUp"
	// Karpenter, pkg/controllers/provisioning/scheduling/events: a pod that it means
	// to place on a node that is there or coming. It writes 5 of these per second at
	// most, and drops the others.
	eventNominated = "Nominated"
	karpenter      = "karpenter"
)

// ScaleUpEvents are the reasons of the events that Hear understands.
var ScaleUpEvents = []string{eventScaleUp, eventNoScaleUp, eventNominated}

// Hear takes in an event about the pod.
func (s ScaleUp) Hear(e *corev1.Event) ScaleUp {
	by, at := cmp.Or(e.Source.Component, e.ReportingController, "An autoscaler"), lastSeen(e)
	switch {
	case e.Reason == eventNoScaleUp && at.After(s.Declined):
		s.Declined = at
	case (e.Reason == eventScaleUp || e.Reason == eventNominated && by == karpenter) && at.After(s.Coming):
		s.Coming, s.By = at, by
	}
	return s
}

// lastSeen is when an event was last observed, in any of the ways in which
// recorders have written that.
func lastSeen(e *corev1.Event) time.Time {
	last := e.CreationTimestamp.Time
	times := []time.Time{e.FirstTimestamp.Time, e.LastTimestamp.Time, e.EventTime.Time}
	if e.Series != nil {
		times = append(times, e.Series.LastObservedTime.Time)
	}
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// AwaitNode turns a grant under the order NodeFirst into a wait while a node is
// coming for the pod. Other decisions stay as they are.
//
// An autoscaler that says nothing of a pod does nothing for it, as far as is
// known. One that said that a node is coming is believed for 10 min, or until it
// says otherwise.
func AwaitNode(d LateDecision, said ScaleUp, now time.Time) LateDecision {
	if d.Action != Grant || d.NodeAutoscaler != v1alpha1.NodeFirst || said.Coming.IsZero() || said.Declined.After(said.Coming) {
		return d
	}
	since := max(0, now.Sub(said.Coming)) // its clock may be ahead of ours
	if since >= nodeStart {
		return d
	}
	return LateDecision{
		Decision: d.with(Wait, NodeComing, fmt.Sprintf("%s said so %s ago, which is believed for %s.",
			said.By, since.Round(time.Second), nodeStart)),
		RequeueAfter: min(nodePoll, nodeStart-since),
	}
}

// AwaitWord is AwaitNode while it is not known what autoscalers have said.
func AwaitWord(d LateDecision) LateDecision {
	return LateDecision{
		Decision:     d.with(Wait, NodeFirst, "The events of autoscalers cannot be read; see the log of the controller."),
		RequeueAfter: nodePoll,
	}
}
