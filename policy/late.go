package policy

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// LateDecision is the outcome of EvaluateLate for one pending pod. Its
// Tolerations are those that the pod still lacks.
type LateDecision struct {
	// Decision tells with the action Grant that the pod may burst now; with Wait
	// that it may later; with StayLocal or Ignore that it may not while the pod and
	// the snapshot's policies and virtual nodes are as they are.
	Decision
	// WantOfRoom is true of a grant when no ready local node has room for the pod:
	// then bursting helps for sure, and the pod counts for the pressure.
	WantOfRoom bool
	// RequeueAfter is when to look again though nothing has changed; zero means
	// never.
	RequeueAfter time.Duration
	// Budget is how many pods of the pod's revision may burst at once; Unbounded
	// where keepLocal does not say. It is set with the action Grant only.
	Budget int
}

// refit is after how long a pod that fits a local node, but that the scheduler
// has not placed there, is looked at again.
const refit = time.Second

// Unschedulable tells whether the scheduler has found no node for the pod, and
// since when: the time of its first such verdict, as later ones leave the time
// of the condition's last transition alone.
func Unschedulable(pod *corev1.Pod) (since time.Time, ok bool) {
	if c := unschedulable(pod); c != nil {
		return c.LastTransitionTime.Time, true
	}
	return time.Time{}, false
}

func unschedulable(pod *corev1.Pod) *corev1.PodCondition {
	if pod.Spec.NodeName != "" {
		return nil
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled {
			if c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
				return c
			}
			return nil
		}
	}
	return nil
}

// EvaluateLate decides whether a live pod of the namespace may burst now. The
// decider, the mode, the targets and the tolerations are those of Evaluate; on
// top of it the scheduler must have found the pod unschedulable, the wait of the
// policy must be over, no local node may fit in mode Overflow, and a virtual node
// must fit. The local nodes are asked only when all else is settled, and the
// workloads, which may be nil where no policy has keepLocal, last.
func EvaluateLate(s *Snapshot, namespace string, pod *corev1.Pod, local iter.Seq[*LocalNode], workloads Workloads, now time.Time) LateDecision {
	if pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return LateDecision{Decision: Decision{}.with(Ignore, Finished, "")}
	}
	d, p, ok := decide(s, namespace, pod)
	if !ok {
		return LateDecision{Decision: d}
	}
	verdict := unschedulable(pod)
	if verdict == nil {
		return LateDecision{Decision: d.with(Wait, NotUnschedulable, "")}
	}

	f := newFitter(pod)
	d, c := place(s, pod, d, p, f.room)
	if d.Action == StayLocal {
		return LateDecision{Decision: d}
	}
	// Of a pod that was granted before the switch was turned on nothing can be
	// taken back, so it is not said to wait.
	if s.Stopped && !granted(pod, &d) {
		return LateDecision{Decision: d.with(Wait, Stopped, "")}
	}
	overflow := d.Mode == v1alpha1.ModeOverflow
	if overflow {
		// The policy's own waits are told before the state of the nodes is.
		wait := time.Duration(d.AfterPendingSeconds) * time.Second
		if left := wait - now.Sub(verdict.LastTransitionTime.Time); left > 0 {
			reason := AfterPending
			if d.NodeAutoscaler == v1alpha1.NodeFirst {
				reason = NodeFirst
			}
			d = d.with(Wait, reason, fmt.Sprintf("That is in %s.", left.Round(time.Second)))
			return LateDecision{Decision: d, RequeueAfter: left}
		}
		if left, why := p.holds(namespace, pod, now); left > 0 {
			return LateDecision{Decision: d.with(Wait, HeldAfterRepatriation, why), RequeueAfter: left}
		}
		if p != nil && p.HasPressure && !p.PressureOpen {
			return LateDecision{Decision: d.with(Wait, PressureClosed, "")}
		}
	}
	if len(d.Nodes) == 0 {
		return LateDecision{Decision: d.with(Wait, d.Reason, detailOf(&d))}
	}
	if n := opensBeyond(s, pod, &d, p, c.required); n != "" {
		return LateDecision{Decision: d.stay(TolerationTooBroad, fmt.Sprintf(
			"The pod was not seen at admission, so nothing keeps it from %s, which is none of the policy's targets; create it anew.", n))}
	}
	lacks := missing(pod, d.Tolerations)
	if len(lacks) == 0 {
		return LateDecision{Decision: d.with(Wait, AlreadyGranted, "")}
	}
	wantOfRoom := true
	if overflow {
		if n := pod.Status.NominatedNodeName; n != "" && !slices.ContainsFunc(s.VirtualNodes, func(v *VirtualNode) bool { return v.Name == n }) {
			return LateDecision{Decision: d.with(Wait, Nominated, fmt.Sprintf("It is %s, where pods of lower priority are being evicted.", n))}
		}
		room := f.localRoom(local, verdict.Message)
		switch {
		case room.open != "":
			d = d.with(Wait, FitsLocally, fmt.Sprintf("It is %s; the scheduler is expected to place the pod there.", room.open))
			return LateDecision{Decision: d, RequeueAfter: refit}
		case room.skewed && !ignoresTaints(pod):
			d = d.with(Wait, SpreadOnly, fmt.Sprintf("Node %s has room.", room.closed))
			return LateDecision{Decision: d, RequeueAfter: refit}
		}
		// Whether a virtual node is near the pods that the pod must be near is the
		// scheduler's to say.
		wantOfRoom = room.closed == "" && len(requiredNear(pod)) == 0
	}
	budget := Unbounded
	if overflow {
		var why string
		if budget, why = p.keepLocal(pod, workloads); why != "" {
			return LateDecision{Decision: d.with(Wait, KeptLocal, why)}
		}
	}
	d.Tolerations = lacks
	names := make([]string, len(d.Nodes))
	for i, n := range d.Nodes {
		names[i] = n.Name
	}
	d = d.with(Grant, GrantedLate, fmt.Sprintf("It may run on %s.", strings.Join(names, ", ")))
	return LateDecision{Decision: withinLimits(s, namespace, pod, d, c), WantOfRoom: wantOfRoom, Budget: budget}
}

// granted is true when the pod has every toleration of a decision that has any.
func granted(pod *corev1.Pod, d *Decision) bool {
	return len(d.Tolerations) > 0 && len(missing(pod, d.Tolerations)) == 0
}

// detailOf is the message without the reason's sentence.
func detailOf(d *Decision) string {
	return strings.TrimSpace(strings.TrimPrefix(d.Message, d.Reason.Sentence()))
}

// opensBeyond names a virtual node outside the policy's targets that the
// tolerations would let the pod onto. At admission the required node affinity
// sees to that; a pod that did not pass the webhook has none.
func opensBeyond(s *Snapshot, pod *corev1.Pod, d *Decision, p *Policy, r required) string {
	if p == nil || len(p.Targets) == 0 {
		return ""
	}
	for _, n := range s.VirtualNodes {
		if !inTargets(p.Targets, n) && opens(pod, d, n, r) {
			return n.Name
		}
	}
	return ""
}

// localRoom is what local nodes are to a pod that the scheduler found
// unschedulable.
type localRoom struct {
	// open is a node that the pod fits and that the scheduler has not said to be
	// closed to it.
	open string
	// closed is a node that the pod fits, but that constraints account for which the
	// fitter does not model.
	closed string
	// skewed is true when topology spread alone is what closes it, as no node that the
	// pod may run on lacks room.
	skewed bool
}

// localRoom asks the local nodes. When at most as many of them fit as the
// scheduler counted to be closed by constraints that the fitter does not model,
// then those account for them.
func (f *fitter) localRoom(local iter.Seq[*LocalNode], verdict string) localRoom {
	total, spread := closedNodes(verdict)
	var first string
	fit, full := 0, false
	for n := range local {
		switch o := f.local(n); o.kind {
		case 0:
			if first == "" {
				first = n.Name
			}
			if fit++; fit > total {
				return localRoom{open: first}
			}
		case insufficient:
			full = full || f.required.matches(n.Name, n.Labels)
		}
	}
	return localRoom{closed: first, skewed: fit > total-spread && !full}
}

// unmodelled are the scheduler's words for constraints that Fits leaves out
// (k8s.io/kubernetes v1.36.3, the ErrReason constants in
// pkg/scheduler/framework/plugins/{interpodaffinity,podtopologyspread,nodeports}).
// In a verdict each is preceded by a count of nodes.
var unmodelled = []string{
	"node(s) didn't match pod affinity rules",
	"node(s) didn't match pod anti-affinity rules",
	"node(s) didn't satisfy existing pods anti-affinity rules",
	unmodelledSpread,
	"node(s) didn't have free ports for the requested pod ports",
}

const unmodelledSpread = "node(s) didn't match pod topology spread constraints"

// closedNodes counts the nodes that a verdict such as "0/4 nodes are available:
// 1 Insufficient cpu, 3 node(s) didn't match pod anti-affinity rules." says are
// closed by constraints that Fits does not model, and how many of them by topology
// spread.
func closedNodes(verdict string) (total, spread int) {
	verdict, _, _ = strings.Cut(verdict, "preemption:") // counts the same nodes again
	_, reasons, _ := strings.Cut(verdict, ":")
	for reason := range strings.SplitSeq(reasons, ",") {
		count, text, _ := strings.Cut(strings.TrimSpace(reason), " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			continue
		}
		for _, u := range unmodelled {
			if strings.HasPrefix(text, u) {
				total += n
			}
		}
		if strings.HasPrefix(text, unmodelledSpread) {
			spread += n
		}
	}
	return total, spread
}
