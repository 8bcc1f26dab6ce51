package live

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

var (
	now   = time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	since = now.Add(-time.Minute)
)

func node(name, provider string, edit ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")},
			Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
	if provider != "" {
		n.Labels = map[string]string{v1alpha1.VirtualNodeLabel: v1alpha1.VirtualNodeValue, v1alpha1.ProviderLabel: provider}
	}
	for _, e := range edit {
		e(n)
	}
	return n
}

func pod(on string, phase corev1.PodPhase, edit ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-90 * time.Second))},
		Spec: corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m")}},
		}}},
		Status: corev1.PodStatus{Phase: phase},
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func event(at time.Time, name, reason, kind, object string, edit ...func(*corev1.Event)) *corev1.Event {
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Reason: reason, Message: reason + "\n  because", Type: corev1.EventTypeNormal,
		InvolvedObject: corev1.ObjectReference{Kind: kind, Namespace: "shop", Name: object}, LastTimestamp: metav1.NewTime(at),
	}
	for _, f := range edit {
		f(e)
	}
	return e
}

func TestBuild(t *testing.T) {
	empty := State{Time: now, Since: since, Local: []Node{}, Virtual: []Node{}, Limits: []Limit{}, Events: []Event{}}
	price := &sim.Price{Currency: "CNY", CPU: 0.0001, MemoryGiB: 0.00002}
	for name, test := range map[string]struct {
		objects Objects
		want    func(*State)
	}{
		"nothing": {want: func(*State) {}},
		"local nodes by name, and what runs on them": {
			objects: Objects{
				Nodes: []*corev1.Node{node("b", ""), node("a", "", func(n *corev1.Node) {
					n.Status.Conditions[0].Status = corev1.ConditionUnknown
					n.Spec.Unschedulable = true
				})},
				Pods: []*corev1.Pod{
					pod("b", corev1.PodRunning), pod("b", corev1.PodPending),
					pod("b", corev1.PodRunning, func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }),
					pod("b", corev1.PodSucceeded), pod("b", corev1.PodFailed), pod("gone", corev1.PodRunning),
				},
			},
			want: func(s *State) {
				s.Local = []Node{
					{Name: "a", Cordoned: true, AllocatableCPU: 4},
					{Name: "b", Ready: true, Running: 1, Starting: 2, RequestedCPU: 1.5, AllocatableCPU: 4},
				}
			},
		},
		"a virtual node, its bill and its trouble": {
			objects: Objects{
				Nodes: []*corev1.Node{node("v", "eci", func(n *corev1.Node) {
					n.Spec.Taints = []corev1.Taint{{Key: v1alpha1.NoCapacityTaintKey, Effect: corev1.TaintEffectNoSchedule}}
				})},
				Pods: []*corev1.Pod{pod("v", corev1.PodRunning)},
				Bills: map[string]sim.Record{"v": {Entries: []sim.BillingEntry{
					{CPU: 2, MemoryGiB: 4, Price: price, From: now.Add(-10 * time.Second)},
					{CPU: 1, MemoryGiB: 0, Price: price, From: now.Add(-30 * time.Second), To: ptr.To(now.Add(-10 * time.Second))},
					{CPU: 9, MemoryGiB: 9, From: now.Add(-time.Hour)}, // its price is not known
				}}},
			},
			want: func(s *State) {
				s.Virtual = []Node{{
					Name: "v", Provider: "eci", Ready: true, NoCapacity: true, Running: 1, RequestedCPU: 0.5, AllocatableCPU: 4,
					Bill: &Bill{Currency: "CNY", Groups: 1, Spent: 0.0028 + 0.002, PerHour: 1.008},
				}}
			},
		},
		"what waits, and for how long": {
			objects: Objects{Pods: []*corev1.Pod{
				pod("", corev1.PodPending), pod("", corev1.PodPending, func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(time.Second)) }),
			}},
			want: func(s *State) { s.Waiting = Waiting{Pods: 2, OldestSeconds: 90} },
		},
		"limits, those of targets and those that are not counted yet": {
			objects: Objects{Stopped: true, Policies: []Policy{
				{Name: "BurstPolicy shop/b", Spec: v1alpha1.BurstPolicySpec{Limits: &v1alpha1.Limits{Pods: ptr.To[int32](0)}}},
				{
					Name: "BurstPolicy shop/a",
					Spec: v1alpha1.BurstPolicySpec{
						Limits:  &v1alpha1.Limits{CPU: ptr.To(resource.MustParse("8")), Memory: ptr.To(resource.MustParse("16Gi"))},
						Targets: []v1alpha1.Target{{Name: "eci", Limits: &v1alpha1.Limits{Pods: ptr.To[int32](10)}}, {Name: "aci"}},
					},
					Status: v1alpha1.BurstPolicyStatus{
						Usage:   &v1alpha1.Usage{Pods: 4, CPU: resource.MustParse("2"), Memory: resource.MustParse("4Gi")},
						Targets: []v1alpha1.TargetStatus{{Name: "eci", Usage: &v1alpha1.Usage{Pods: 5}}},
					},
				},
			}},
			want: func(s *State) {
				s.Stopped = true
				s.Limits = []Limit{
					{Policy: "BurstPolicy shop/a", Resource: "cpu", Used: "2", Max: "8", Share: 0.25},
					{Policy: "BurstPolicy shop/a", Resource: "memory", Used: "4Gi", Max: "16Gi", Share: 0.25},
					{Policy: "BurstPolicy shop/a", Target: "eci", Resource: "pods", Used: "5", Max: "10", Share: 0.5},
					{Policy: "BurstPolicy shop/b", Resource: "pods", Used: "0", Max: "0", Share: 1},
				}
			},
		},
		"events that are alike are one": {
			objects: Objects{
				Events: []*corev1.Event{
					event(now, "3", "BurstGranted", "Pod", "web-2"), event(now, "2", "BurstGranted", "Pod", "web-1"),
					event(now, "1", "Pulled", "Pod", "web-1"), // comes with every pod
					event(now, "4", "LimitReached", "BurstPolicy", "web", func(e *corev1.Event) { e.Type = corev1.EventTypeWarning }),
					event(now.Add(-time.Minute), "5", "BurstGranted", "Pod", "web-0", func(e *corev1.Event) {
						e.Series = &corev1.EventSeries{LastObservedTime: metav1.NewMicroTime(now.Add(time.Second))}
					}),
				},
				Moves: []Move{
					{Time: now.Add(2 * time.Second), Namespace: "shop", Node: "v", Provider: "eci"}, {Time: now.Add(2 * time.Second), Namespace: "shop", Node: "v", Provider: "eci"},
					{Time: now.Add(2 * time.Second), Namespace: "shop", Node: "a", Left: true},
				},
			},
			want: func(s *State) {
				s.Events = []Event{
					{Time: now, Object: "2 pods of shop", Message: "BurstGranted: BurstGranted because"},
					{Time: now, Warning: true, Object: "BurstPolicy shop/web", Message: "LimitReached: LimitReached because"},
					{Time: now.Add(time.Second), Object: "shop/web-0", Message: "BurstGranted: BurstGranted because"},
					{Time: now.Add(2 * time.Second), Place: "eci", Object: "2 pods of shop", Message: "went to v"},
					{Time: now.Add(2 * time.Second), Place: "local", Object: "1 pod of shop", Message: "left a"},
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := empty
			test.want(&want)
			near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })
			if diff := cmp.Diff(want, Build(now, since, test.objects), near); diff != "" {
				t.Errorf("state (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEventsAreTheNewest(t *testing.T) {
	var o Objects
	for i := range 3 * MaxEvents {
		o.Events = append(o.Events, event(now.Add(time.Duration(i)*time.Second), fmt.Sprint(i), "Reason", "Pod", fmt.Sprint(i)))
	}
	got := Build(now, since, o).Events
	if len(got) != MaxEvents || got[len(got)-1].Object != fmt.Sprintf("shop/%d", 3*MaxEvents-1) {
		t.Errorf("%d events, the last %v, want the newest %d", len(got), got[len(got)-1], MaxEvents)
	}
}

func TestSample(t *testing.T) {
	s := State{
		Time: now, Waiting: Waiting{Pods: 3}, Local: []Node{{Running: 2}, {Starting: 1}},
		Virtual: []Node{
			{Provider: "eci", Running: 4, Bill: &Bill{Currency: "CNY", PerHour: 1, Spent: 2, Groups: 1}},
			{Provider: "eci", Running: 1, Bill: &Bill{Currency: "CNY", PerHour: 2, Spent: 3, Groups: 2}},
			{Provider: "aci", Starting: 5, Bill: &Bill{}},
		},
	}
	want := Sample{Time: now, Places: Places{Local: 3, ECI: 5, ACI: 5, Waiting: 3}, PerHour: map[string]float64{"CNY": 3}}
	if diff := cmp.Diff(want, s.Sample()); diff != "" {
		t.Errorf("sample (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]Bill{"CNY": {Currency: "CNY", Groups: 3, Spent: 5, PerHour: 3}}, s.Bills()); diff != "" {
		t.Errorf("bills (-want +got):\n%s", diff)
	}
}
