package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/json"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

func free(cpu, memory, pods string) corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory), corev1.ResourcePods: resource.MustParse(pods),
	}
}

func TestFits(t *testing.T) {
	gib := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")}}
	roomy := free("4", "8Gi", "10")
	always := corev1.ContainerRestartPolicyAlways
	for name, c := range map[string]struct {
		pod  func(*corev1.PodSpec)
		node LocalNode
		want string // "" fits
	}{
		"fits":    {node: LocalNode{Free: roomy}},
		"exactly": {node: LocalNode{Free: free("1", "1Gi", "1")}},
		"cpu":     {node: LocalNode{Free: free("999m", "8Gi", "10")}, want: "Node n has too little cpu left."},
		"memory":  {node: LocalNode{Free: free("4", "1023Mi", "10")}, want: "Node n has too little memory left."},
		"pods":    {node: LocalNode{Free: free("4", "8Gi", "0")}, want: "Node n has too little pods left."},
		"unknown resource": {pod: func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("1")
		}, node: LocalNode{Free: roomy}, want: "Node n has too little example.com/gpu left."},
		"unknown resource zero": {pod: func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("0")
		}, node: LocalNode{Free: roomy}},
		"overhead": {pod: func(s *corev1.PodSpec) {
			s.Overhead = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4")}
		}, node: LocalNode{Free: roomy}, want: "Node n has too little cpu left."},
		"init container": {pod: func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("5")}}}}
		}, node: LocalNode{Free: roomy}, want: "Node n has too little cpu left."},
		"sidecar": {pod: func(s *corev1.PodSpec) {
			s.InitContainers = []corev1.Container{{RestartPolicy: &always, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3500m")}}}}
		}, node: LocalNode{Free: roomy}, want: "Node n has too little cpu left."},
		"taint":           {node: LocalNode{Free: roomy, Taints: []corev1.Taint{{Key: "a", Value: "b", Effect: corev1.TaintEffectNoSchedule}}}, want: "Node n bears the taint a=b:NoSchedule."},
		"taint NoExecute": {node: LocalNode{Free: roomy, Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoExecute}}}, want: "Node n bears the taint a:NoExecute."},
		"soft taint":      {node: LocalNode{Free: roomy, Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectPreferNoSchedule}}}},
		"tolerated taint": {pod: func(s *corev1.PodSpec) {
			s.Tolerations = []corev1.Toleration{{Key: "a", Operator: corev1.TolerationOpExists}}
		}, node: LocalNode{Free: roomy, Taints: []corev1.Taint{{Key: "a", Value: "b", Effect: corev1.TaintEffectNoSchedule}}}},
		"node selector":       {pod: func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }, node: LocalNode{Free: roomy}, want: "Node n does not match the node selector or the required node affinity of the pod."},
		"node selector match": {pod: func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }, node: LocalNode{Free: roomy, Labels: labels.Set{"disk": "ssd"}}},
		"field selector": {pod: func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{requirement("metadata.name", corev1.NodeSelectorOpIn, "other")}}},
			}}}
		}, node: LocalNode{Free: roomy}, want: "Node n does not match the node selector or the required node affinity of the pod."},
	} {
		t.Run(name, func(t *testing.T) {
			pod := web()
			pod.Spec.Containers[0].Resources = *gib.DeepCopy()
			if c.pod != nil {
				c.pod(&pod.Spec)
			}
			c.node.Name = "n"
			ok, why := Fits(pod, &c.node)
			if why != c.want || ok != (c.want == "") {
				t.Errorf("got %v, %q; want %q", ok, why, c.want)
			}
		})
	}
}

func TestClosedNodes(t *testing.T) {
	type counts struct{ total, spread int }
	for name, c := range map[string]struct {
		verdict string
		want    counts
	}{
		"empty":         {"", counts{}},
		"resources":     {"0/4 nodes are available: 3 Insufficient cpu, 1 node(s) had untolerated taint(s).", counts{}},
		"anti-affinity": {"0/4 nodes are available: 1 Insufficient cpu, 3 node(s) didn't match pod anti-affinity rules.", counts{3, 0}},
		"several":       {"0/9 nodes are available: 2 node(s) didn't match pod topology spread constraints, 1 node(s) didn't match pod topology spread constraints (missing required label), 4 node(s) didn't have free ports for the requested pod ports, 2 Insufficient memory.", counts{7, 3}},
		"preemption":    {"0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules. preemption: 0/2 nodes are available: 2 node(s) didn't satisfy existing pods anti-affinity rules.", counts{2, 0}},
		"no counts":     {"running PreFilter plugin: node(s) didn't match pod affinity rules", counts{}},
	} {
		t.Run(name, func(t *testing.T) {
			var got counts
			if got.total, got.spread = closedNodes(c.verdict); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

// pending is a pod that the scheduler has found unschedulable.
func pending() *corev1.Pod {
	pod := web()
	pod.UID, pod.ResourceVersion, pod.Namespace = "u", "17", "shop"
	pod.Status.Conditions = []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		LastTransitionTime: metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
	}}
	return pod
}

func TestUnschedulable(t *testing.T) {
	since := pending().Status.Conditions[0].LastTransitionTime.Time
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"unschedulable":  {func(*corev1.Pod) {}, true},
		"no condition":   {func(p *corev1.Pod) { p.Status.Conditions = nil }, false},
		"other":          {func(p *corev1.Pod) { p.Status.Conditions[0].Type = corev1.PodReady }, false},
		"scheduled":      {func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionTrue }, false},
		"gated":          {func(p *corev1.Pod) { p.Status.Conditions[0].Reason = corev1.PodReasonSchedulingGated }, false},
		"bound meantime": {func(p *corev1.Pod) { p.Spec.NodeName = "local" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := pending()
			c.change(pod)
			got, ok := Unschedulable(pod)
			if ok != c.want || ok && !got.Equal(since) {
				t.Errorf("got %v, %v; want %v", got, ok, c.want)
			}
		})
	}
}

// TestGrantPatchLosesNothing applies a patch to pods that have changed since it
// was made.
func TestGrantPatchLosesNothing(t *testing.T) {
	s := shop()
	s.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
	mine := corev1.Toleration{Key: "mine", Operator: corev1.TolerationOpExists}
	for name, c := range map[string]struct {
		seen    func(*corev1.Pod)
		changed func(*corev1.Pod)
		fails   bool
	}{
		"nothing":                   {},
		"status":                    {seen: full, changed: func(p *corev1.Pod) { p.ResourceVersion = "18"; p.Status.Message = "new" }},
		"another pod":               {changed: func(p *corev1.Pod) { p.UID = "v" }, fails: true},
		"tolerations came up":       {changed: func(p *corev1.Pod) { p.ResourceVersion = "18"; p.Spec.Tolerations = []corev1.Toleration{mine} }, fails: true},
		"annotations came up":       {changed: func(p *corev1.Pod) { p.ResourceVersion = "18"; p.Annotations = map[string]string{"mine": "kept"} }, fails: true},
		"tolerations were appended": {seen: full, changed: func(p *corev1.Pod) { p.Spec.Tolerations = append(p.Spec.Tolerations, mine) }, fails: true},
		"annotation was added":      {seen: full, changed: func(p *corev1.Pod) { p.ResourceVersion = "18"; p.Annotations["new"] = "kept" }},
	} {
		t.Run(name, func(t *testing.T) {
			pod := pending()
			if c.seen != nil {
				c.seen(pod)
			}
			d := EvaluateLate(s, "shop", pod, slices.Values([]*LocalNode(nil)), nil, time.Now())
			patch, err := GrantPatch(pod, d)
			if err != nil {
				t.Fatal(err)
			}
			now := pod.DeepCopy()
			if c.changed != nil {
				c.changed(now)
			}
			b, err := json.Marshal(now)
			if err != nil {
				t.Fatal(err)
			}
			p, err := jsonpatch.DecodePatch(patch)
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.Apply(b)
			if (err != nil) != c.fails {
				t.Fatalf("applying it: %v; want a failure: %v", err, c.fails)
			}
			if err != nil {
				return
			}
			got := new(corev1.Pod)
			if err := json.Unmarshal(out, got); err != nil {
				t.Fatal(err)
			}
			want := now.DeepCopy()
			want.Spec.Tolerations = append(want.Spec.Tolerations, d.Tolerations...)
			if want.Annotations == nil {
				want.Annotations = map[string]string{}
			}
			want.Annotations[v1alpha1.PolicyAnnotation] = "Namespace"
			want.Annotations[v1alpha1.DecidedModeAnnotation] = "Overflow"
			want.Annotations[v1alpha1.ReasonAnnotation] = "GrantedLate"
			want.Annotations[v1alpha1.GrantAnnotation] = "Late"
			want.Status.Conditions[0].LastTransitionTime = got.Status.Conditions[0].LastTransitionTime // its zone
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// full gives the pod a toleration and an annotation, as live pods have them.
func full(p *corev1.Pod) {
	p.Spec.Tolerations = []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}
	p.Annotations = map[string]string{"a": "b"}
}

func TestGrantPatchOfNoGrant(t *testing.T) {
	_, err := GrantPatch(pending(), LateDecision{Decision: Decision{}.with(Wait, PressureClosed, "")})
	if err == nil || !strings.Contains(err.Error(), "shop/web-1") || !strings.Contains(err.Error(), "PressureClosed") {
		t.Errorf("got %v", err)
	}
}

func TestEvaluateLateAsksLocalNodesLast(t *testing.T) {
	s := shop()
	s.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
	for _, n := range s.VirtualNodes {
		n.Ready = false
	}
	d := EvaluateLate(s, "shop", pending(), func(func(*LocalNode) bool) { t.Error("the local nodes were asked for") }, nil, time.Now())
	if d.Reason != NoReadyVirtualNode {
		t.Errorf("%s: %s", d.Action, d.Message)
	}
}

// TestLateGrantIsStrict: a late grant in mode Overflow means that no local node
// fits, and no grant lets the pod onto a virtual node outside its policy's
// targets or one that cannot run it.
func TestLateGrantIsStrict(t *testing.T) {
	now := pending().Status.Conditions[0].LastTransitionTime.Add(time.Hour)
	rapid.Check(t, func(t *rapid.T) {
		s, pod := genSnapshot(t), genPod(t)
		pod.Status = pending().Status
		pod.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}
		if rapid.Bool().Draw(t, "seen at admission") {
			pod = Inject(pod, Evaluate(s, "shop", pod))
		}
		for _, n := range s.VirtualNodes { // a while later
			n.Ready = rapid.Bool().Draw(t, n.Name+" ready later")
			n.Free = free(rapid.SampledFrom([]string{"500m", "8"}).Draw(t, n.Name+" cpu"), "8Gi", "10")
		}
		s.Stopped = false
		var local []*LocalNode
		for i := range rapid.IntRange(0, 3).Draw(t, "local nodes") {
			n := &LocalNode{Name: fmt.Sprintf("local-%d", i), Labels: labels.Set{}, Free: free(rapid.SampledFrom([]string{"500m", "1"}).Draw(t, "cpu"), "8Gi", "10")}
			if rapid.Bool().Draw(t, "ssd") {
				n.Labels["disk"] = "ssd"
			}
			if rapid.Bool().Draw(t, "dedicated") {
				n.Taints = []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}
			}
			local = append(local, n)
		}
		d := EvaluateLate(s, "shop", pod, slices.Values(local), nil, now)
		if d.Action != Grant {
			return
		}
		for _, n := range local {
			if ok, _ := Fits(pod, n); ok && d.Mode == v1alpha1.ModeOverflow {
				t.Fatalf("granted although the pod fits %s", n.Name)
			}
		}
		var targets []Target
		for _, p := range slices.Concat(s.Policies["shop"], s.Policies[""]) {
			if p.Ref == d.By && slices.Equal(alternativeKeys(alternatives(d.Mode, p.Targets)), alternativeKeys(d.NodeSelector)) {
				targets = p.Targets
			}
		}
		granted := slices.Concat(pod.Spec.Tolerations, d.Tolerations)
		for _, n := range s.VirtualNodes {
			if !toleratesAll(granted, nil, n.HardTaints) || !requiredOf(pod).matches(n.Name, n.Labels) {
				if slices.Contains(d.Nodes, n) {
					t.Fatalf("node %s of the decision is not open", n.Name)
				}
				continue
			}
			if !inTargets(targets, n) || len(refusalsOf(pod, n)) > 0 {
				t.Fatalf("%s opens node %s, which is not meant", d.Reason, n.Name)
			}
		}
		if len(d.Tolerations) == 0 {
			t.Fatalf("a grant of nothing")
		}
	})
}

func alternativeKeys(alts [][]corev1.NodeSelectorRequirement) []string {
	var keys []string
	for _, a := range alts {
		keys = append(keys, fmt.Sprint(a))
	}
	return keys
}

func BenchmarkEvaluateLate(b *testing.B) {
	s := shop()
	s.Namespaces["shop"] = Namespace{Mode: v1alpha1.ModeOverflow}
	pod := pending()
	pod.Spec.Containers[0].Resources.Requests = free("1", "1Gi", "0")
	delete(pod.Spec.Containers[0].Resources.Requests, corev1.ResourcePods)
	for _, n := range []int{10, 1000} {
		var local []*LocalNode
		for i := range n {
			local = append(local, &LocalNode{Name: fmt.Sprintf("local-%d", i), Free: free("100m", "8Gi", "10")})
		}
		b.Run(fmt.Sprintf("%d full nodes", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := EvaluateLate(s, "shop", pod, slices.Values(local), nil, time.Now()); d.Action != Grant {
					b.Fatalf("%s: %s", d.Action, d.Message)
				}
			}
		})
	}
}
