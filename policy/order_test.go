package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// TestAwaitNode: a grant waits for a node that an autoscaler said is coming, for a
// while, and until it says otherwise.
func TestAwaitNode(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for name, c := range map[string]struct {
		order v1alpha1.NodeAutoscaler
		said  ScaleUp
		want  time.Duration // 0 grants
	}{
		"nothing said":          {v1alpha1.NodeFirst, ScaleUp{}, 0},
		"a node is coming":      {v1alpha1.NodeFirst, ScaleUp{Coming: ago(time.Minute)}, 15 * time.Second},
		"just about":            {v1alpha1.NodeFirst, ScaleUp{Coming: ago(10*time.Minute - time.Second)}, time.Second},
		"it came not":           {v1alpha1.NodeFirst, ScaleUp{Coming: ago(10 * time.Minute)}, 0},
		"a clock ahead of ours": {v1alpha1.NodeFirst, ScaleUp{Coming: now.Add(time.Hour)}, 15 * time.Second},
		"declined":              {v1alpha1.NodeFirst, ScaleUp{Declined: ago(time.Second)}, 0},
		"taken back":            {v1alpha1.NodeFirst, ScaleUp{Coming: ago(time.Minute), Declined: ago(time.Second)}, 0},
		"declined before":       {v1alpha1.NodeFirst, ScaleUp{Coming: ago(time.Second), Declined: ago(time.Minute)}, 15 * time.Second},
		"no order":              {"", ScaleUp{Coming: ago(time.Minute)}, 0},
		"the other order":       {v1alpha1.BurstFirst, ScaleUp{Coming: ago(time.Minute)}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c.said.By = "cluster-autoscaler"
			granted := LateDecision{Decision: Decision{NodeAutoscaler: c.order}.with(Grant, GrantedLate, "")}
			got := AwaitNode(granted, c.said, now)
			if (got.Action == Grant) != (c.want == 0) || got.RequeueAfter != c.want {
				t.Errorf("%s, again after %v; want again after %v", got.Action, got.RequeueAfter, c.want)
			}
			if got.Action != Grant && (got.Reason != NodeComing || !strings.Contains(got.Message, "cluster-autoscaler said so")) {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
	waits := LateDecision{Decision: Decision{NodeAutoscaler: v1alpha1.NodeFirst}.with(Wait, PressureClosed, "")}
	if got := AwaitNode(waits, ScaleUp{Coming: now}, now); got.Reason != PressureClosed {
		t.Errorf("a wait became %s", got.Reason)
	}
}

// TestHear reads events in all the ways in which they are written.
func TestHear(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	old, last := metav1.NewTime(at.Add(-time.Hour)), metav1.NewTime(at)
	for name, c := range map[string]struct {
		event    corev1.Event
		coming   bool
		declined bool
		by       string
	}{
		"cluster-autoscaler": {corev1.Event{Reason: "TriggeredScaleUp", Source: corev1.EventSource{Component: "cluster-autoscaler"}, FirstTimestamp: old, LastTimestamp: last}, true, false, "cluster-autoscaler"},
		"it declines":        {corev1.Event{Reason: "NotTriggerScaleUp", Source: corev1.EventSource{Component: "cluster-autoscaler"}, LastTimestamp: last}, false, true, ""},
		"karpenter":          {corev1.Event{Reason: "Nominated", Source: corev1.EventSource{Component: "karpenter"}, LastTimestamp: last}, true, false, "karpenter"},
		"the newer API":      {corev1.Event{Reason: "Nominated", ReportingController: "karpenter", EventTime: metav1.NewMicroTime(at)}, true, false, "karpenter"},
		"a series": {corev1.Event{Reason: "TriggeredScaleUp", ReportingController: "ca", EventTime: metav1.NewMicroTime(old.Time),
			Series: &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(at)}}, true, false, "ca"},
		"no time but its creation":  {corev1.Event{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: last}, Reason: "TriggeredScaleUp"}, true, false, "An autoscaler"},
		"nominated by another":      {corev1.Event{Reason: "Nominated", Source: corev1.EventSource{Component: "elections"}, LastTimestamp: last}, false, false, ""},
		"something else":            {corev1.Event{Reason: "FailedScheduling", LastTimestamp: last}, false, false, ""},
		"older than what was heard": {corev1.Event{Reason: "TriggeredScaleUp", Source: corev1.EventSource{Component: "late"}, LastTimestamp: metav1.NewTime(time.Unix(0, 0))}, false, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := ScaleUp{Coming: time.Unix(1, 0), Declined: time.Unix(1, 0)}
			got := before.Hear(&c.event)
			if got.Coming.Equal(at) != c.coming || got.Declined.Equal(at) != c.declined || got.By != c.by {
				t.Errorf("got %+v, want coming %t, declined %t, by %q", got, c.coming, c.declined, c.by)
			}
		})
	}
}

// TestWantOfRoom: only pods for which no ready local node has room count for the
// pressure.
func TestWantOfRoom(t *testing.T) {
	const taints = ", 2 node(s) had untolerated taint(s)."
	near := &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: "type"}}}}
	honor, ignore := corev1.NodeInclusionPolicyHonor, corev1.NodeInclusionPolicyIgnore
	spread := func(policies ...*corev1.NodeInclusionPolicy) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for _, taints := range policies {
				p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
					TopologyKey: "type", WhenUnsatisfiable: corev1.DoNotSchedule, NodeTaintsPolicy: taints,
				})
			}
		}
	}
	full, empty := &LocalNode{Name: "full", Free: free("100m", "8Gi", "10")}, &LocalNode{Name: "empty", Free: free("4", "8Gi", "10")}
	other := &LocalNode{Name: "other", Free: free("100m", "8Gi", "10"), Labels: map[string]string{"disk": "hdd"}}
	for name, c := range map[string]struct {
		verdict string
		local   []*LocalNode
		pod     func(*corev1.Pod)
		want    Reason
		counts  bool
	}{
		"full":                          {"1 Insufficient cpu", []*LocalNode{full}, nil, GrantedLate, true},
		"anti-affinity":                 {"1 node(s) didn't match pod anti-affinity rules", []*LocalNode{empty}, nil, GrantedLate, false},
		"anti-affinity and a full node": {"1 Insufficient cpu, 1 node(s) didn't match pod anti-affinity rules", []*LocalNode{full, empty}, nil, GrantedLate, false},
		"ports":                         {"1 node(s) didn't have free ports for the requested pod ports", []*LocalNode{empty}, nil, GrantedLate, false},
		"must be near others":           {"1 Insufficient cpu", []*LocalNode{full}, func(p *corev1.Pod) { p.Spec.Affinity = near }, GrantedLate, false},
		"nominated":                     {"1 Insufficient cpu", []*LocalNode{full}, func(p *corev1.Pod) { p.Status.NominatedNodeName = "full" }, Nominated, false},
		"spread":                        {"1 node(s) didn't match pod topology spread constraints", []*LocalNode{empty}, spread(&honor), SpreadOnly, false},
		"spread, and a full node that is allowed": {"1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints", []*LocalNode{full, empty}, spread(&honor), GrantedLate, false},
		"spread, and a full node that is not allowed": {"1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't match pod topology spread constraints", []*LocalNode{other, empty}, func(p *corev1.Pod) {
			spread(&honor)(p)
			p.Spec.NodeSelector = map[string]string{"disk": "ssd"}
		}, SpreadOnly, false},
		"spread, full":                     {"1 Insufficient cpu", []*LocalNode{full}, spread(&honor), GrantedLate, true},
		"spread over tainted nodes":        {"1 node(s) didn't match pod topology spread constraints", []*LocalNode{empty}, spread(&ignore), GrantedLate, false},
		"spread that admission missed":     {"1 node(s) didn't match pod topology spread constraints", []*LocalNode{empty}, spread(nil), GrantedLate, false},
		"two spreads, one over tainted":    {"1 node(s) didn't match pod topology spread constraints", []*LocalNode{empty}, spread(&honor, &ignore), GrantedLate, false},
		"spread on one, apart on the next": {"1 node(s) didn't match pod anti-affinity rules, 1 node(s) didn't match pod topology spread constraints", []*LocalNode{empty, empty}, spread(&honor), SpreadOnly, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop()
			s.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
			for _, n := range s.VirtualNodes {
				n.Labels["disk"] = "ssd"
			}
			empty.Labels = map[string]string{"disk": "ssd"}
			pod := pending()
			pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
			pod.Status.Conditions[0].Message = "0/3 nodes are available: " + c.verdict + taints
			if c.pod != nil {
				c.pod(pod)
			}
			got := EvaluateLate(s, "shop", pod, slices.Values(c.local), nil, time.Now())
			if got.Reason != c.want || got.WantOfRoom != c.counts {
				t.Errorf("%s (%s), counts %t; want %s, %t", got.Reason, got.Message, got.WantOfRoom, c.want, c.counts)
			}
		})
	}
}
