package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	testclock "k8s.io/utils/clock/testing"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// told is an OutcomeListener that writes down what it hears of pods on nodes.
type told struct {
	Listener
	lines []string
}

func (l *told) PodPending(*corev1.Pod)         {}
func (l *told) PodSettled(*corev1.Pod, string) {}
func (l *told) PodRefused(p *corev1.Pod, at time.Time) {
	l.lines = append(l.lines, fmt.Sprintf("%s %s on %s at %s by %s", p.Name, p.Status.Reason, p.Spec.NodeName,
		at.UTC().Format(time.TimeOnly), p.Annotations[v1alpha1.PolicyAnnotation]))
}

func (l *told) PodRan(p *corev1.Pod, bound time.Time, retried bool) {
	at := "?"
	if !bound.IsZero() {
		at = bound.UTC().Format(time.TimeOnly)
	}
	l.lines = append(l.lines, fmt.Sprintf("%s ran on %s, bound at %s, retried %t", p.Name, p.Spec.NodeName, at, retried))
}

func TestOutcomes(t *testing.T) {
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	state := func(node string, phase corev1.PodPhase, reason string) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u", Annotations: map[string]string{
				v1alpha1.PolicyAnnotation: "BurstPolicy/p", v1alpha1.GrantAnnotation: "Late",
			}},
			Spec:   corev1.PodSpec{NodeName: node, Tolerations: []corev1.Toleration{{Key: v1alpha1.ProviderTaintKey}}},
			Status: corev1.PodStatus{Phase: phase, Reason: reason, Message: "x"},
		}
		if phase == corev1.PodFailed && v1alpha1.IsRefusal(reason) {
			p.Status.Conditions = []corev1.PodCondition{
				{Type: corev1.PodReady, Status: corev1.ConditionFalse},
				{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(time.Hour))},
			}
		}
		return p
	}
	const pending, running, failed, succeeded = corev1.PodPending, corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded
	for name, c := range map[string]struct {
		states []*corev1.Pod
		want   []string
	}{
		"runs":                {[]*corev1.Pod{state("", pending, ""), state("eci", pending, ""), state("eci", running, ""), state("eci", running, "")}, []string{"web ran on eci, bound at 12:00:00, retried false"}},
		"ran before it began": {[]*corev1.Pod{state("eci", running, ""), state("eci", running, "")}, nil},
		"bound before it began": {
			[]*corev1.Pod{state("eci", pending, ""), state("eci", running, "")}, []string{"web ran on eci, bound at ?, retried false"},
		},
		"runs after refusals": {
			[]*corev1.Pod{state("eci", pending, "CloudOutOfStock"), state("eci", running, "")}, []string{"web ran on eci, bound at ?, retried true"},
		},
		"runs after other trouble": {
			[]*corev1.Pod{state("eci", pending, "CloudThrottled"), state("eci", running, "")}, []string{"web ran on eci, bound at ?, retried false"},
		},
		"ends at once": {[]*corev1.Pod{state("eci", pending, ""), state("eci", succeeded, "")}, []string{"web ran on eci, bound at ?, retried false"}},
		"fails":        {[]*corev1.Pod{state("eci", pending, ""), state("eci", failed, "GroupVanished")}, nil},
		"refused": {
			[]*corev1.Pod{state("", pending, ""), state("eci", pending, "CloudOutOfStock"), state("eci", failed, "OutOfStock")},
			[]string{"web OutOfStock on eci at 13:00:00 by BurstPolicy/p"},
		},
		"refused before it began": {[]*corev1.Pod{state("eci", failed, "QuotaExceeded")}, []string{"web QuotaExceeded on eci at 13:00:00 by BurstPolicy/p"}},
		"refused as it is":        {[]*corev1.Pod{state("eci", failed, "RefusedByCloud")}, []string{"web RefusedByCloud on eci at 13:00:00 by BurstPolicy/p"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Options{Clock: testclock.NewFakeClock(noon)})
			l := &told{}
			s.Subscribe(l)
			for _, p := range c.states {
				TrimPod(p)
				s.setPod(p)
			}
			if diff := cmp.Diff(c.want, l.lines); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// What a node says of its cloud's capacity and what a policy's status says of its
// targets reach the rules.
func TestSnapshotShowsRefusals(t *testing.T) {
	s := New(Options{})
	full := eci()
	full.Status.Conditions = append(full.Status.Conditions, corev1.NodeCondition{
		Type: v1alpha1.CapacityAvailableCondition, Status: corev1.ConditionFalse, Reason: "OutOfStock", Message: "x", LastHeartbeatTime: metav1.Now(),
	})
	TrimNode(full)
	s.setNode(full)
	p := &v1alpha1.BurstPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", UID: "1", Generation: 1}}
	p.Spec.Targets = []v1alpha1.Target{{Name: "eci"}}
	set := func() {
		s.setPolicy(p, &p.Status, func() *policy.Policy { return policy.Compile(p) })
		s.rebuild(0)
	}
	set()
	if got := s.Snapshot().VirtualNodes[0].NoCapacity; got != "OutOfStock" {
		t.Errorf("NoCapacity is %q", got)
	}
	h := listenTo(s)
	p.Status.Targets = []v1alpha1.TargetStatus{{Name: "eci", SuspendedUntil: &metav1.Time{Time: time.Unix(1, 0)}, Reason: "Because."}}
	set()
	if got := s.Snapshot().Policies["shop"][0].Targets[0].Suspended; got == "" {
		t.Error("the target is not suspended")
	}
	p.Status.Targets[0].SuspendedUntil = nil
	set()
	if got := s.Snapshot().Policies["shop"][0].Targets[0].Suspended; got != "" {
		t.Errorf("the target is still suspended: %s", got)
	}
	if h.rules != 2 {
		t.Errorf("the rules changed %d times, want 2", h.rules)
	}
	p.Status.Targets[0].Pods = 7
	set()
	full = full.DeepCopy()
	full.Status.Conditions = full.Status.Conditions[:1]
	s.setNode(full)
	s.rebuild(0)
	if got := s.Snapshot().VirtualNodes[0].NoCapacity; got != "" || h.rules != 3 {
		t.Errorf("NoCapacity is %q after %d changes of the rules, want none after 3", got, h.rules)
	}
}
