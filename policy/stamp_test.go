package policy

import (
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// stampPolicy has a target for each of shop's virtual nodes.
func stampPolicy(scaleIn v1alpha1.ScaleIn) *Policy {
	target := func(name string, annotations map[string]string) v1alpha1.Target {
		return v1alpha1.Target{
			Name: name, NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.ProviderLabel: name}},
			PodMetadata: &v1alpha1.PodMetadata{Annotations: annotations},
		}
	}
	return Compile(&v1alpha1.BurstPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "own", Namespace: "shop"},
		Spec: v1alpha1.BurstPolicySpec{ScaleIn: scaleIn, Targets: []v1alpha1.Target{
			target("eci", map[string]string{"example.com/a": "1", "example.com/b": "2"}),
			target("aci", nil),
		}},
	})
}

func burstPod(by, owner string, more map[string]string) *corev1.Pod {
	p := web()
	p.Namespace = "shop"
	p.Annotations = map[string]string{v1alpha1.PolicyAnnotation: by, v1alpha1.GrantAnnotation: GrantLate}
	for k, v := range more {
		p.Annotations[k] = v
	}
	if owner != "" {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: owner, Name: "x", Controller: ptr.To(true)}}
	}
	return p
}

func TestStamp(t *testing.T) {
	const cost = corev1.PodDeletionCost
	all := map[string]string{"example.com/a": "1", "example.com/b": "2", cost: "-100", v1alpha1.StampedAnnotation: "Binding"}
	bare := map[string]string{"example.com/a": "1", "example.com/b": "2", v1alpha1.StampedAnnotation: "Binding"}
	costOnly := map[string]string{cost: "-100", v1alpha1.StampedAnnotation: "Binding"}
	for name, c := range map[string]struct {
		pod     *corev1.Pod
		node    string
		scaleIn v1alpha1.ScaleIn
		want    map[string]string
	}{
		"of a ReplicaSet":                      {pod: burstPod("BurstPolicy/own", "ReplicaSet", nil), want: all},
		"of a target without annotations":      {pod: burstPod("BurstPolicy/own", "ReplicaSet", nil), node: "aci", want: costOnly},
		"of a Job":                             {pod: burstPod("BurstPolicy/own", "Job", nil), want: bare},
		"bare":                                 {pod: burstPod("BurstPolicy/own", "", nil), want: bare},
		"bare, nothing to write":               {pod: burstPod("BurstPolicy/own", "", nil), node: "aci"},
		"unordered":                            {pod: burstPod("BurstPolicy/own", "ReplicaSet", nil), scaleIn: v1alpha1.ScaleInUnordered, want: bare},
		"unordered, nothing to write":          {pod: burstPod("BurstPolicy/own", "ReplicaSet", nil), node: "aci", scaleIn: v1alpha1.ScaleInUnordered},
		"granted by the namespace":             {pod: burstPod("Namespace", "ReplicaSet", nil), want: costOnly},
		"granted by the pod":                   {pod: burstPod("Pod", "ReplicaSet", nil), want: costOnly},
		"a cost of its own":                    {pod: burstPod("BurstPolicy/own", "ReplicaSet", map[string]string{cost: "5"}), want: bare},
		"an empty cost of its own":             {pod: burstPod("BurstPolicy/own", "ReplicaSet", map[string]string{cost: ""}), want: bare},
		"an annotation of its own":             {pod: burstPod("BurstPolicy/own", "", map[string]string{"example.com/a": "mine"}), want: map[string]string{"example.com/b": "2", v1alpha1.StampedAnnotation: "Binding"}},
		"everything of its own":                {pod: burstPod("BurstPolicy/own", "", map[string]string{"example.com/a": "", "example.com/b": ""})},
		"stamped already":                      {pod: burstPod("BurstPolicy/own", "ReplicaSet", map[string]string{v1alpha1.StampedAnnotation: "Later"})},
		"a local node":                         {pod: burstPod("BurstPolicy/own", "ReplicaSet", nil), node: "local-1"},
		"nobody granted it":                    {pod: burstPod("BurstPolicy/own", "ReplicaSet", map[string]string{v1alpha1.GrantAnnotation: ""})},
		"granted by a policy that is gone":     {pod: burstPod("BurstPolicy/other", "ReplicaSet", nil)},
		"granted by a policy of the same name": {pod: burstPod("ClusterBurstPolicy/own", "ReplicaSet", nil)},
		"granted by nonsense":                  {pod: burstPod("Namespace/shop", "ReplicaSet", nil)},
		"too large already":                    {pod: burstPod("BurstPolicy/own", "ReplicaSet", map[string]string{"example.com/x": strings.Repeat("x", 256<<10-100)})},
	} {
		t.Run(name, func(t *testing.T) {
			s := shop()
			s.Policies["shop"] = []*Policy{stampPolicy(c.scaleIn)}
			if c.node == "" {
				c.node = "eci"
			}
			got := Stamp(s, c.pod, c.node, StampedAtBinding)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestStampPatch(t *testing.T) {
	for name, own := range map[string]map[string]string{"none": nil, "some": {"mine": "kept"}} {
		t.Run(name, func(t *testing.T) {
			pod := web()
			pod.UID, pod.ResourceVersion, pod.Annotations = "u", "7", own
			patch, err := StampPatch(pod, map[string]string{"example.com/a": "1"})
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"example.com/a": "1"}
			for k, v := range own {
				want[k] = v
			}
			if diff := cmp.Diff(want, apply(t, pod, patch).Annotations); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			changed := pod.DeepCopy()
			changed.ResourceVersion = "8"
			raw, err := json.Marshal(changed)
			if err != nil {
				t.Fatal(err)
			}
			p, err := jsonpatch.DecodePatch(patch)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Apply(raw); err == nil {
				t.Error("the patch can be applied to a pod that has changed since")
			}
		})
	}
}

func TestPodMetadataIsChecked(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string // part of Invalid; "" is valid
	}{
		"usual":        {annotations: map[string]string{"example.com/a": "any value \n", "b": "", "k8s.aliyun.com/eci-use-specs": "2-4Gi"}},
		"no name":      {annotations: map[string]string{"example.com/": "1"}, want: "spec.targets[0].podMetadata.annotations: \"example.com/\""},
		"spaces":       {annotations: map[string]string{"a b": "1"}, want: "\"a b\""},
		"ours":         {annotations: map[string]string{v1alpha1.ModeAnnotation: "Never"}, want: "not for policies to set"},
		"much":         {annotations: map[string]string{"a": strings.Repeat("x", 33<<10)}, want: "at most 32768"},
		"a wrong size": {annotations: map[string]string{"k8s.aliyun.com/eci-use-specs": "much"}, want: "eci-use-specs"},
		"a cost of it": {annotations: map[string]string{corev1.PodDeletionCost: "5"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := Compile(&v1alpha1.BurstPolicy{Spec: v1alpha1.BurstPolicySpec{Targets: []v1alpha1.Target{{Name: "t", PodMetadata: &v1alpha1.PodMetadata{Annotations: c.annotations}}}}})
			if c.want == "" && p.Invalid != "" || !strings.Contains(p.Invalid, c.want) {
				t.Errorf("Invalid is %q, want %q in it", p.Invalid, c.want)
			}
		})
	}
}
