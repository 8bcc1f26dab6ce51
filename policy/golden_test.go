package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// setting is the document of kind Setting in a golden case.
type setting struct {
	Without   []string // objects of base.yaml to leave out, as Kind/name
	Excluded  []string // namespaces that are never touched
	Namespace string   // of the pod; default shop
	// Stopped turns the operator's switch on.
	Stopped bool
	// AdmissionByPolicy lets the API server admit pods by itself.
	AdmissionByPolicy bool
	// ControllerGone: no elected controller is known to be at work.
	ControllerGone bool
	// UnderPressure are the policies whose pressure is open.
	UnderPressure []string
	// NoCapacity are the virtual nodes whose cloud has refused pods for want of room.
	NoCapacity []string
	// Late evaluates a live pod; the time is PendingSeconds after the condition.
	Late bool
	// NodeComing is the autoscaler that said so when the pod became unschedulable.
	NodeComing string
	// Gated evaluates a live pod at our gate.
	Gated          bool
	PendingSeconds int
	// NoShares is a webhook that has no share of limits at hand.
	NoShares bool
	// CopiesOf adds so many virtual nodes like the one named eci.
	Copies int
}

// world is a snapshot and the rest of a golden case.
type world struct {
	setting
	snapshot *Snapshot
	local    []*LocalNode
	pod      *corev1.Pod
	// objects are those that workloads are counted from.
	objects Objects
}

func documents(t testing.TB, file string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Split(b, []byte("\n---\n"))
}

// readWorld reads base.yaml and a case over it. The last pod of the case is the
// one that is decided on; the others are in the cluster.
func readWorld(t testing.TB, file string) world {
	t.Helper()
	w := world{snapshot: &Snapshot{Namespaces: map[string]Namespace{}, Policies: map[string][]*Policy{}, Excluded: map[string]bool{}}}
	type object struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		raw               []byte
	}
	var order []string
	byKey := map[string]object{}
	read := func(raw []byte) {
		var o object
		if err := yaml.Unmarshal(raw, &o); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		o.raw = raw
		if o.Kind == "Setting" {
			if err := yaml.UnmarshalStrict(raw, &struct {
				metav1.TypeMeta
				*setting
			}{setting: &w.setting}); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			return
		}
		key := o.Kind + "/" + o.Name
		if _, ok := byKey[key]; !ok {
			order = append(order, key)
		}
		byKey[key] = o
	}
	for _, d := range documents(t, "testdata/base.yaml") {
		read(d)
	}
	for _, d := range documents(t, file) {
		read(d)
	}
	if w.Namespace == "" {
		w.Namespace = "shop"
	}
	w.snapshot.Stopped, w.snapshot.AdmissionByPolicy, w.snapshot.ControllerLive = w.Stopped, w.AdmissionByPolicy, !w.ControllerGone
	for _, ns := range w.Excluded {
		w.snapshot.Excluded[ns] = true
	}

	var pods []*corev1.Pod
	for _, key := range order {
		if slices.Contains(w.Without, key) {
			continue
		}
		raw := byKey[key].raw
		decode := func(into any) {
			if err := yaml.UnmarshalStrict(raw, into); err != nil {
				t.Fatalf("%s: %s: %v", file, key, err)
			}
		}
		switch byKey[key].Kind {
		case "Namespace":
			var ns corev1.Namespace
			decode(&ns)
			w.snapshot.Namespaces[ns.Name] = Namespace{Labels: ns.Labels, Mode: v1alpha1.Mode(ns.Annotations[v1alpha1.ModeAnnotation])}
		case "BurstPolicy":
			var p v1alpha1.BurstPolicy
			decode(&p)
			w.addPolicy(p.Namespace, Compile(&p), &p.Status)
		case "ClusterBurstPolicy":
			var p v1alpha1.ClusterBurstPolicy
			decode(&p)
			w.addPolicy("", Compile(&p), &p.Status)
		case "Node":
			var n corev1.Node
			decode(&n)
			w.objects.Nodes = append(w.objects.Nodes, &n)
			w.addNode(t, &n)
		case "ReplicaSet":
			var r appsv1.ReplicaSet
			decode(&r)
			w.objects.ReplicaSets = append(w.objects.ReplicaSets, &r)
		case "Pod":
			p := new(corev1.Pod)
			decode(p)
			pods = append(pods, p)
		default:
			t.Fatalf("%s: unknown kind %s", file, key)
		}
	}
	for _, ps := range w.snapshot.Policies {
		slices.SortFunc(ps, func(a, b *Policy) int {
			if Less(a, b) {
				return -1
			}
			return 1
		})
	}
	for i := range w.Copies {
		n := *w.snapshot.VirtualNodes[0]
		n.Name = fmt.Sprintf("eci-%d", i)
		w.snapshot.VirtualNodes = append(w.snapshot.VirtualNodes, &n)
	}
	if len(pods) == 0 {
		t.Fatalf("%s: no pod", file)
	}
	w.pod = pods[len(pods)-1]
	w.objects.Pods = pods
	for _, p := range pods[:len(pods)-1] {
		if p.Spec.Affinity == nil {
			continue
		}
		for _, term := range p.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution {
			s, err := metav1.LabelSelectorAsSelector(term.PodAffinityTerm.LabelSelector)
			if err != nil {
				t.Fatal(err)
			}
			w.snapshot.InterPodTerms = append(w.snapshot.InterPodTerms, InterPodTerm{Namespaces: map[string]bool{p.Namespace: true}, Selector: s})
		}
	}
	return w
}

func (w *world) addPolicy(namespace string, p *Policy, status *v1alpha1.BurstPolicyStatus) {
	p.Suspend(status.Targets)
	p.PressureOpen = slices.Contains(w.UnderPressure, p.Ref.Name)
	w.snapshot.Policies[namespace] = append(w.snapshot.Policies[namespace], p)
	w.snapshot.addUsage(p.Ref, status)
}

func (w *world) addNode(t testing.TB, n *corev1.Node) {
	if n.Labels[v1alpha1.VirtualNodeLabel] != v1alpha1.VirtualNodeValue {
		w.local = append(w.local, &LocalNode{Name: n.Name, Labels: n.Labels, Taints: n.Spec.Taints, Free: n.Status.Allocatable})
		w.snapshot.LocalSoftTaint = w.snapshot.LocalSoftTaint || slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return t.Effect == corev1.TaintEffectPreferNoSchedule
		})
		return
	}
	vn := &VirtualNode{Name: n.Name, Labels: labels.Set(n.Labels), Free: n.Status.Allocatable}
	for _, c := range n.Status.Conditions {
		if slices.Contains(w.NoCapacity, n.Name) {
			vn.NoCapacity = v1alpha1.PodOutOfStock
		}
		vn.Ready = vn.Ready || c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	for _, taint := range n.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			vn.SoftTaints = append(vn.SoftTaints, taint)
		} else {
			vn.HardTaints = append(vn.HardTaints, taint)
		}
	}
	if a := n.Annotations[v1alpha1.CapabilitiesAnnotation]; a != "" {
		c, err := burstable.ParseCapabilities(a)
		if err != nil {
			t.Fatal(err)
		}
		vn.Capabilities = &c
	}
	w.snapshot.VirtualNodes = append(w.snapshot.VirtualNodes, vn)
}

// result is what a golden file holds.
type result struct {
	Action       Action              `json:"action"`
	Reason       Reason              `json:"reason"`
	Message      string              `json:"message"`
	By           string              `json:"by,omitempty"`
	Mode         v1alpha1.Mode       `json:"mode,omitempty"`
	Target       string              `json:"target,omitempty"`
	Nodes        []string            `json:"nodes,omitempty"`
	RequeueAfter string              `json:"requeueAfter,omitempty"`
	Charges      []string            `json:"charges,omitempty"`
	Refusals     []burstable.Refusal `json:"refusals,omitempty"`
	Patch        json.RawMessage     `json:"patch,omitempty"`
	// Pod is the pod as it is then; absent where nothing was written.
	Pod *corev1.Pod `json:"pod,omitempty"`
}

func resultOf(d Decision) result {
	r := result{Action: d.Action, Reason: d.Reason, Message: d.Message, Mode: d.Mode, Target: d.Target, Refusals: d.Refusals}
	if d.By != (Ref{}) {
		r.By = d.By.String()
	}
	for _, n := range d.Nodes {
		if len(r.Nodes) < 3 {
			r.Nodes = append(r.Nodes, n.Name)
		}
	}
	for _, c := range d.Charges {
		r.Charges = append(r.Charges, fmt.Sprintf("%s: pods %d, cpu %s, memory %s", c.Account, c.Amount.Pods, CPU(c.Amount.MilliCPU), Memory(c.Amount.Memory)))
	}
	return r
}

// admit is what a webhook decides that may have no share of limits at hand.
func (w *world) admit(pod *corev1.Pod) Decision {
	d := Evaluate(w.snapshot, w.Namespace, pod)
	if w.NoShares && len(d.Charges) > 0 && d.Action == Grant {
		return d.Withheld()
	}
	return d
}

func (w *world) run(t *testing.T) result {
	if w.Late {
		since, _ := Unschedulable(w.pod)
		d := EvaluateLate(w.snapshot, w.Namespace, w.pod, slices.Values(w.local), NewWorkloads(w.objects), since.Add(time.Duration(w.PendingSeconds)*time.Second))
		if w.NodeComing != "" {
			d = AwaitNode(d, ScaleUp{Coming: since, By: w.NodeComing}, since.Add(time.Duration(w.PendingSeconds)*time.Second))
		}
		r := resultOf(d.Decision)
		if d.RequeueAfter != 0 {
			r.RequeueAfter = d.RequeueAfter.String()
		}
		if d.Action == Grant {
			patch, err := GrantPatch(w.pod, d)
			if err != nil {
				t.Fatal(err)
			}
			r.Patch, r.Pod = patch, apply(t, w.pod, patch)
			again := EvaluateLate(w.snapshot, w.Namespace, r.Pod, slices.Values(w.local), NewWorkloads(w.objects), since.Add(time.Hour))
			if again.Reason != AlreadyGranted {
				t.Errorf("after the grant the decision is %s (%s), want AlreadyGranted", again.Action, again.Message)
			}
		}
		return r
	}
	if w.Gated {
		return w.atGate(t)
	}
	d := w.admit(w.pod)
	r := resultOf(d)
	if out := Inject(w.pod, d); out != w.pod {
		r.Pod = out
		d2 := w.admit(out)
		if d2.Action != d.Action || d2.Reason != d.Reason {
			t.Errorf("a second call decides %s (%s), the first %s (%s)", d2.Action, d2.Message, d.Action, d.Message)
		}
		if diff := cmp.Diff(out, Inject(out, d2)); diff != "" {
			t.Errorf("a second call changes the pod (-once +twice):\n%s", diff)
		}
	}
	return r
}

// atGate decides about a pod at our gate and carries that out.
func (w *world) atGate(t *testing.T) result {
	d := EvaluateGated(w.snapshot, w.Namespace, w.pod, slices.Values(w.local), NewWorkloads(w.objects), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	r := resultOf(d.Decision)
	patch, err := GrantPatch(w.pod, d)
	switch {
	case d.Reason == OtherGates:
		return r
	case d.Action != Grant:
		patch, err = ReleasePatch(w.pod)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.Patch, r.Pod = patch, apply(t, w.pod, patch)
	if Gated(r.Pod) {
		t.Error("the gate is still there")
	}
	return r
}

func apply(t testing.TB, pod *corev1.Pod, patch []byte) *corev1.Pod {
	t.Helper()
	before, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(patch)
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.Apply(before)
	if err != nil {
		t.Fatalf("applying %s: %v", patch, err)
	}
	out := new(corev1.Pod)
	if err := json.Unmarshal(after, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func goldenCases(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/golden/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases: %v", err)
	}
	return files
}

func TestGolden(t *testing.T) {
	seen := map[Reason]bool{}
	for _, file := range goldenCases(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			w := readWorld(t, file)
			before := w.pod.DeepCopy()
			r := w.run(t)
			seen[r.Reason] = true
			if diff := cmp.Diff(before, w.pod); diff != "" {
				t.Errorf("the pod that was handed in has changed:\n%s", diff)
			}
			got, err := yaml.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if t.Failed() {
		return
	}
	for _, r := range Reasons() {
		if !seen[r] {
			t.Errorf("no golden case gives the reason %s", r)
		}
		delete(seen, r)
	}
	if len(seen) > 0 {
		t.Errorf("reasons that are not in the list: %v", slices.Sorted(maps.Keys(seen)))
	}
}
