package policy

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// moved is a pod of a Deployment that has run on a virtual node for ten minutes.
func moved() (pod *corev1.Pod, w Workload, now time.Time) {
	now = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	pod = podWith("web-7d4b9-x", ownedBy("apps/v1", "ReplicaSet", "web-7d4b9", "r1"))
	pod.Annotations = map[string]string{v1alpha1.PolicyAnnotation: "BurstPolicy/web", v1alpha1.GrantAnnotation: GrantLate}
	pod.Spec.NodeName = "eci"
	pod.Status.Phase = corev1.PodRunning
	pod.Status.StartTime = ptr.To(metav1.NewTime(now.Add(-10 * time.Minute)))
	return pod, Workload{Replicas: 3, Steady: true}, now
}

func TestStaysBurst(t *testing.T) {
	p := &Policy{Repatriation: &Repatriation{MinBurst: 10 * time.Minute}}
	for name, c := range map[string]struct {
		change func(*corev1.Pod, *Workload)
		want   string
	}{
		"may be moved":        {},
		"pending":             {func(p *corev1.Pod, _ *Workload) { p.Status.Phase = corev1.PodPending }, "it is not running"},
		"being deleted":       {func(p *corev1.Pod, _ *Workload) { p.DeletionTimestamp = ptr.To(metav1.Now()) }, "it is not running"},
		"bare":                {func(p *corev1.Pod, _ *Workload) { p.OwnerReferences = nil }, "its owner is not a ReplicaSet"},
		"of a Job":            {func(p *corev1.Pod, _ *Workload) { ownedBy("batch/v1", "Job", "j", "j")(p) }, "its owner is not a ReplicaSet"},
		"of a set":            {func(p *corev1.Pod, _ *Workload) { ownedBy("apps/v1", "StatefulSet", "s", "s")(p) }, "its owner is not a ReplicaSet"},
		"rolled out":          {func(_ *corev1.Pod, w *Workload) { w.Steady = false }, "its workload is being rolled out, scaled in or deleted"},
		"by hand":             {func(p *corev1.Pod, _ *Workload) { p.Annotations = nil }, "it was not granted by a policy"},
		"opted out":           {func(p *corev1.Pod, _ *Workload) { p.Annotations[v1alpha1.RepatriateAnnotation] = "Never" }, "its annotation autoburst.io/repatriate says so"},
		"opted out, misspelt": {func(p *corev1.Pod, _ *Workload) { p.Annotations[v1alpha1.RepatriateAnnotation] = "nver" }, "its annotation autoburst.io/repatriate says so"},
		"not safe to evict":   {func(p *corev1.Pod, _ *Workload) { p.Annotations[safeToEvict] = "false" }, "its annotation cluster-autoscaler.kubernetes.io/safe-to-evict says so"},
		"safe to evict":       {func(p *corev1.Pod, _ *Workload) { p.Annotations[safeToEvict] = "true" }, ""},
		"too young":           {func(p *corev1.Pod, _ *Workload) { p.Status.StartTime.Time = p.Status.StartTime.Add(time.Second) }, "it has not run for long enough"},
		"of unknown age":      {func(p *corev1.Pod, _ *Workload) { p.Status.StartTime = nil }, "it has not run for long enough"},
		"by the time of its binding": {func(p *corev1.Pod, _ *Workload) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(p.Status.StartTime.Add(time.Second))}}
		}, "it has not run for long enough"},
		"volume": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}}}
		}, "it uses volumes that may not be where the room is"},
		"config": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.Volumes = []corev1.Volume{{VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{}}}}
		}, ""},
		"host port": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{HostPort: 80}}}}
		}, "it uses ports of its node"},
		"devices": {func(p *corev1.Pod, _ *Workload) { p.Spec.ResourceClaims = make([]corev1.PodResourceClaim, 1) }, "it claims devices"},
		"spread": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{WhenUnsatisfiable: corev1.DoNotSchedule}}
		}, "it must be spread evenly"},
		"anti-affinity": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: make([]corev1.PodAffinityTerm, 1)}}
		}, "it requires an affinity to other pods"},
		"preferred anti-affinity": {func(p *corev1.Pod, _ *Workload) {
			p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: make([]corev1.WeightedPodAffinityTerm, 1)}}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod, w, now := moved()
			if c.change != nil {
				c.change(pod, &w)
			}
			if got := StaysBurst(p, pod, w, now); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestRepatriates(t *testing.T) {
	for name, c := range map[string]struct {
		policy func(*Policy)
		pod    func(*corev1.Pod)
		want   bool
	}{
		"the policy says so": {want: true},
		"it does not":        {policy: func(p *Policy) { p.Repatriation = nil }},
		"mode Never":         {policy: func(p *Policy) { p.Mode = v1alpha1.ModeNever }},
		"invalid":            {policy: func(p *Policy) { p.Invalid = "spec.mode" }},
		"another decides":    {pod: func(p *corev1.Pod) { p.Annotations[v1alpha1.ModeAnnotation] = "Overflow" }},
		"granted by hand": {pod: func(p *corev1.Pod) {
			p.Annotations = nil
			p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := policyOf(v1alpha1.ModeOverflow, "web")
			p.Repatriation = &Repatriation{}
			if c.policy != nil {
				c.policy(p)
			}
			s := shop()
			s.Policies["shop"] = []*Policy{p}
			pod, _, _ := moved()
			pod.Labels = map[string]string{"app": "web"}
			if c.pod != nil {
				c.pod(pod)
			}
			if got := Repatriates(s, pod); (got == p) != c.want {
				t.Errorf("got %v, want it: %v", got, c.want)
			}
			if pod.Spec.NodeName != "eci" {
				t.Error("the pod was changed")
			}
		})
	}
}

func TestRoomForReplacement(t *testing.T) {
	s := shop()
	taint := s.VirtualNodes[0].HardTaints[0]
	pod, _, _ := moved()
	mine := corev1.Toleration{Key: "dedicated", Operator: corev1.TolerationOpExists}
	pod.Spec.Tolerations = []corev1.Toleration{mine, {Key: taint.Key, Value: taint.Value, Effect: taint.Effect}}
	pod.Spec.NodeSelector = map[string]string{"disk": "ssd"}
	pod.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}}}
	r := Replacement(s, pod)
	if r.Spec.NodeName != "" || len(r.Spec.Tolerations) != 1 || r.Spec.Tolerations[0] != mine {
		t.Errorf("the replacement is on %q and tolerates %v", r.Spec.NodeName, r.Spec.Tolerations)
	}
	if pod.Spec.NodeName != "eci" || len(pod.Spec.Tolerations) != 2 {
		t.Errorf("the pod was changed: it is on %q and tolerates %v", pod.Spec.NodeName, pod.Spec.Tolerations)
	}
	ssd := labels.Set{"disk": "ssd"}
	for name, c := range map[string]struct {
		node LocalNode
		want string
	}{
		"room":            {LocalNode{Labels: ssd, Free: free("2", "1Gi", "1")}, "n"},
		"too small":       {LocalNode{Labels: ssd, Free: free("1", "1Gi", "1")}, ""},
		"not selected":    {LocalNode{Free: free("2", "1Gi", "1")}, ""},
		"another's taint": {LocalNode{Labels: ssd, Free: free("2", "1Gi", "1"), Taints: []corev1.Taint{taint}}, ""},
		"own taint":       {LocalNode{Labels: ssd, Free: free("2", "1Gi", "1"), Taints: []corev1.Taint{{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule}}}, "n"},
		"leaving":         {LocalNode{Labels: ssd, Free: free("2", "1Gi", "1"), Taints: []corev1.Taint{{Key: leavingTaint, Effect: corev1.TaintEffectPreferNoSchedule}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.node.Name = "n"
			if got := RoomFor(r, []*LocalNode{&c.node}); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWantsRoom(t *testing.T) {
	node := &LocalNode{Name: "n", Free: free("0", "0", "0"), Allocatable: free("4", "8Gi", "110")}
	asks := func(cpu string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}}
		}
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want bool
	}{
		"waits for a full node": {podWith("p", asks("4")), true},
		"fits no node ever":     {podWith("p", asks("5")), false},
		"asks for what there is not": {podWith("p", func(p *corev1.Pod) {
			asks("1")(p)
			p.Spec.Containers[0].Resources.Requests["example.com/gpu"] = resource.MustParse("1")
		}), false},
		"may not run there": {podWith("p", asks("1"), func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), false},
		"gated":             {podWith("p", asks("1"), func(p *corev1.Pod) { p.Spec.SchedulingGates = make([]corev1.PodSchedulingGate, 1) }), false},
		"being deleted":     {podWith("p", asks("1"), func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.Now()) }), false},
		"bound":             {podWith("p", asks("1"), func(p *corev1.Pod) { p.Spec.NodeName = "n" }), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := WantsRoom(c.pod, []*LocalNode{node}); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestPause: each bounce doubles the pause, up to an hour, and it is never less
// than the hold.
func TestPause(t *testing.T) {
	for name, c := range map[string]struct {
		hold    time.Duration
		bounced int
		want    time.Duration
	}{
		"first":           {5 * time.Minute, 0, 5 * time.Minute},
		"once":            {5 * time.Minute, 1, 10 * time.Minute},
		"thrice":          {5 * time.Minute, 3, 40 * time.Minute},
		"at most an hour": {5 * time.Minute, 4, time.Hour},
		"a longer hold":   {2 * time.Hour, 7, 2 * time.Hour},
		"none":            {0, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (&Repatriation{Hold: c.hold}).Pause(c.bounced); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
	rapid.Check(t, func(t *rapid.T) {
		r := &Repatriation{Hold: time.Duration(rapid.IntRange(0, 86400).Draw(t, "hold")) * time.Second}
		n := rapid.IntRange(0, 1<<20).Draw(t, "bounced")
		if got, next := r.Pause(n), r.Pause(n+1); got < r.Hold || next < got || got > max(MaxPause, r.Hold) {
			t.Fatalf("after %d bounces %v, after one more %v", n, got, next)
		}
	})
}
