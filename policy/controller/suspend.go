package controller

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// outcomes remembers what became of the pods that policies sent to virtual nodes,
// and which targets are suspended because of it. It hears of pods from the store.
type outcomes struct {
	clock   clock.PassiveClock
	changed bell
	metrics *metrics

	mu      sync.Mutex
	started time.Time
	byPlace map[place]outcome
	// targets are the suspensions of each policy, by the target's name.
	targets map[types.UID]map[string]policy.Suspension
}

// place is a virtual node to which a policy sends pods.
type place struct {
	by   policy.Ref
	node string
}

// outcome is when the cloud refused a pod for good, why, and when a pod ran that
// shows that it takes pods again; the last of each.
type outcome struct {
	refused, ran time.Time
	reason       string
}

func newOutcomes(c clock.PassiveClock, changed bell, m *metrics) *outcomes {
	return &outcomes{
		clock: c, changed: changed, metrics: m, started: c.Now(),
		byPlace: make(map[place]outcome), targets: make(map[types.UID]map[string]policy.Suspension),
	}
}

// The other events of the store.
func (*outcomes) PodPending(*corev1.Pod)         {}
func (*outcomes) PodSettled(*corev1.Pod, string) {}
func (*outcomes) RoomShrank(string)              {}
func (o *outcomes) RulesChanged()                { o.changed.ring() }

// PodRefused implements store.OutcomeListener.
func (o *outcomes) PodRefused(p *corev1.Pod, at time.Time) {
	o.note(p, func(known outcome) (outcome, bool) {
		if !at.After(known.refused) {
			return known, false
		}
		known.refused, known.reason = at, p.Status.Reason
		return known, true
	})
}

// PodRan implements store.OutcomeListener. A pod whose group was made before the
// cloud ran short may begin to run long after, and shows nothing: only one counts
// that was bound since the last refusal, or that the cloud itself had refused.
func (o *outcomes) PodRan(p *corev1.Pod, bound time.Time, retried bool) {
	o.note(p, func(known outcome) (outcome, bool) {
		since := o.started
		if known.refused.After(since) {
			since = known.refused
		}
		if !retried && !bound.After(since) {
			return known, false
		}
		known.ran = o.clock.Now()
		return known, true
	})
}

// note changes what is known of the place of a pod that a policy granted.
func (o *outcomes) note(p *corev1.Pod, change func(outcome) (outcome, bool)) {
	if p.Annotations[v1alpha1.GrantAnnotation] == "" {
		return
	}
	by := policy.RefOf(p)
	if by.Kind != policy.KindPolicy && by.Kind != policy.KindClusterPolicy {
		return
	}
	at := place{by, p.Spec.NodeName}
	o.mu.Lock()
	defer o.mu.Unlock()
	next, changed := change(o.byPlace[at])
	if changed {
		o.byPlace[at] = next
		o.changed.ring()
	}
}

// begin forgets everything: the replica is elected now.
func (o *outcomes) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.started = o.clock.Now()
	clear(o.byPlace)
	clear(o.targets)
}

// suspensions brings the suspensions of a policy's targets up to date and tells
// after which time one of them ends, zero for none. After a start, the status
// tells where they were left.
func (o *outcomes) suspensions(uid types.UID, p *policy.Policy, status []v1alpha1.TargetStatus, nodes []*policy.VirtualNode, now time.Time) (byTarget map[string]policy.Suspension, next time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, before := o.targets[uid], make(map[string]v1alpha1.TargetStatus, len(status))
	for _, t := range status {
		before[t.Name] = t
	}
	byTarget = make(map[string]policy.Suspension, len(p.Targets))
	for _, t := range p.Targets {
		s, ok := known[t.Name]
		if !ok {
			s = policy.Resume(before[t.Name], o.started)
		}
		var last outcome
		for _, n := range nodes {
			if !t.Selector.Matches(n.Labels) {
				continue
			}
			at := o.byPlace[place{p.Ref, n.Name}]
			if at.refused.After(last.refused) {
				last.refused, last.reason = at.refused, at.reason
			}
			if at.ran.After(last.ran) {
				last.ran = at.ran
			}
		}
		was := s.Until
		s = s.Observe(last.refused, last.reason, last.ran, now)
		if s.Until.After(was) {
			o.metrics.suspensions.WithLabelValues(last.reason).Inc()
		}
		if s.Active(now) && (next == 0 || s.Until.Sub(now) < next) {
			next = s.Until.Sub(now)
		}
		byTarget[t.Name] = s
	}
	o.targets[uid] = byTarget
	return byTarget, next
}

// keep forgets the policies that are gone.
func (o *outcomes) keep(policies map[policy.Ref]types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	uids := make(map[types.UID]bool, len(policies))
	for _, uid := range policies {
		uids[uid] = true
	}
	for uid := range o.targets {
		if !uids[uid] {
			delete(o.targets, uid)
		}
	}
	for at := range o.byPlace {
		if _, ok := policies[at.by]; !ok {
			delete(o.byPlace, at)
		}
	}
}

// targetChanges are the events that tell of targets that are suspended or used
// again.
func targetChanges(before, after []v1alpha1.TargetStatus) []change {
	var out []change
	was := make(map[string]v1alpha1.TargetStatus, len(before))
	for _, t := range before {
		was[t.Name] = t
	}
	for _, now := range after {
		before := was[now.Name]
		switch {
		case now.SuspendedUntil != nil && !now.SuspendedUntil.Equal(before.SuspendedUntil):
			out = append(out, change{
				warning: true, reason: EventTargetSuspended, action: actionObserve,
				note: "Target " + now.Name + ": " + now.Reason + " It is tried again at " + now.SuspendedUntil.UTC().Format(time.RFC3339) +
					"; until then pods meet the next target, or wait where there is none.",
			})
		case now.SuspendedUntil == nil && before.SuspendedUntil != nil:
			why := "its suspension is over"
			if now.Suspensions == 0 {
				why = "its cloud has taken a pod"
			}
			out = append(out, change{
				reason: EventTargetResumed, action: actionObserve,
				note: "Target " + now.Name + " is used again: " + why + ".",
			})
		}
	}
	return out
}

// suspendedTargets counts the suspended targets of a policy.
func suspendedTargets(status v1alpha1.BurstPolicyStatus) int {
	n := 0
	for _, t := range status.Targets {
		if t.SuspendedUntil != nil {
			n++
		}
	}
	return n
}

// firstBarred says why the first node that is ready, of a target or of all if it is
// nil, is not used; "" where no node is ready.
func firstBarred(nodes []*policy.VirtualNode, t *policy.Target) string {
	if t != nil && t.Suspended != "" {
		return "Target " + t.Name + ": " + t.Suspended
	}
	for _, n := range nodes {
		if n.Ready && n.NoCapacity != "" && (t == nil || t.Selector.Matches(n.Labels)) {
			return fmt.Sprintf("The cloud of virtual node %s has refused a pod for want of room lately (%s); see its condition %s.",
				n.Name, n.NoCapacity, v1alpha1.CapacityAvailableCondition)
		}
	}
	return ""
}
