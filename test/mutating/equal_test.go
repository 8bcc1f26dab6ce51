package mutating

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/playground"
)

// variants are changes of a plain pod.
var variants = map[string]func(*corev1.Pod){
	"plain":            func(*corev1.Pod) {},
	"pod says Always":  annotate("Always"),
	"pod says Auto":    annotate("Auto"),
	"pod says Never":   annotate("Never"),
	"pod says Maybe":   annotate("Maybe"),
	"other label":      func(p *corev1.Pod) { p.Labels["app"] = "db" },
	"no label":         func(p *corev1.Pod) { p.Labels = nil },
	"of a DaemonSet":   owned("DaemonSet"),
	"of a ReplicaSet":  owned("ReplicaSet"),
	"wants local":      func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/hostname": "local-1"} },
	"wants linux":      func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "linux"} },
	"requires a cloud": require(corev1.NodeSelectorRequirement{Key: "autoburst.io/provider", Operator: corev1.NodeSelectorOpIn, Values: []string{"aci"}}),
	"requires two terms": require(
		corev1.NodeSelectorRequirement{Key: "autoburst.io/provider", Operator: corev1.NodeSelectorOpExists},
		corev1.NodeSelectorRequirement{Key: "type", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"virtual-kubelet"}}),
	"prefers": func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
			Weight: 5, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "disk", Operator: corev1.NodeSelectorOpExists}}},
		}}}}
	},
	"keeps apart": func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
			TopologyKey: "kubernetes.io/hostname", LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
		}}}}
	},
	"tolerates ECI":        tolerate(corev1.Toleration{Key: "alibabacloud.com/eci", Operator: corev1.TolerationOpExists}),
	"tolerates everything": tolerate(corev1.Toleration{Operator: corev1.TolerationOpExists}),
	"tolerates another":    tolerate(corev1.Toleration{Key: "dedicated", Value: "shop", Effect: corev1.TaintEffectNoSchedule}),
	"host network":         func(p *corev1.Pod) { p.Spec.HostNetwork = true },
	"host path": func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
	},
	"configMap": func(p *corev1.Pod) {
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "c"}}}}}
	},
	"working dir": func(p *corev1.Pod) { p.Spec.Containers[0].WorkingDir = "/srv" },
	"args alone":  func(p *corev1.Pod) { p.Spec.Containers[0].Args = []string{"serve"} },
	"hook": func(p *corev1.Pod) {
		p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	},
	"probe": func(p *corev1.Pod) {
		p.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromInt32(80)}}}
	},
	"startup probe": func(p *corev1.Pod) {
		p.Spec.Containers[0].StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(80)}}}
	},
	"fsGroup":     func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To(int64(7))} },
	"not as root": func(p *corev1.Pod) { p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)} },
	"very large": func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("5000")
	},
	"a device": func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
	},
	"grace period": func(p *corev1.Pod) { p.Spec.TerminationGracePeriodSeconds = ptr.To(int64(120)) },
	"init container": func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "init", Image: "busybox", Command: []string{"true"}}}
	},
	"sidecar": func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "busybox", RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways)}}
	},
}

// left are the variants that the API server leaves to the controller, as it cannot
// judge them: late grants serve them.
var left = map[string]bool{"sidecar": true}

func annotate(mode string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations = map[string]string{"autoburst.io/mode": mode} }
}

func owned(kind string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: "owner", UID: "1", Controller: ptr.To(true)}}
	}
}

func require(terms ...corev1.NodeSelectorRequirement) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		selector := &corev1.NodeSelector{}
		for _, r := range terms {
			selector.NodeSelectorTerms = append(selector.NodeSelectorTerms, corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{r}})
		}
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: selector}}
	}
}

func tolerate(toleration corev1.Toleration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{toleration} }
}

// What the API server writes into pods equals what the webhook would, for the
// real virtual nodes and the defaults and admission plugins of a real API server.
func TestEqualsTheWebhook(t *testing.T) {
	plainNamespace := namespace(t, "equal-none", "")
	namespaces := []string{namespace(t, "equal-always", "Always"), namespace(t, "equal-auto", "Auto"), namespace(t, "equal-overflow", "Overflow")}
	invalid := namespace(t, "equal-invalid", "")
	burstPolicy(t, invalid, "a", `{mode: Always, podSelector: {matchLabels: {app: web}}}`)
	kubectl(t, "", "annotate", "namespace", invalid, "autoburst.io/mode=Maybe")
	served(t, invalid)
	namespaces = append(namespaces, invalid)
	for name, policies := range map[string]map[string]string{
		"equal-targets":     {"web": `{mode: Always, targets: [{name: aci, nodeSelector: {matchLabels: {autoburst.io/provider: aci}}}, {name: eci, nodeSelector: {matchExpressions: [{key: autoburst.io/provider, operator: NotIn, values: [aci]}]}}]}`},
		"equal-overflowing": {"web": `{targets: [{name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}}], podSelector: {matchExpressions: [{key: app, operator: In, values: [web, db]}]}}`},
		"equal-priorities": {
			"a": `{mode: Auto, podSelector: {matchLabels: {app: web}}}`,
			"b": `{mode: Always, priority: 5, podSelector: {matchExpressions: [{key: app, operator: Exists}]}}`,
			"c": `{mode: Never, podSelector: {matchLabels: {app: db}}}`,
		},
		"equal-limited": {"a": `{mode: Always, limits: {pods: 5}}`},
		"equal-patient": {"a": `{overflow: {afterPendingSeconds: 9}, podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}`},
	} {
		ns := namespace(t, name, "")
		for policy, spec := range policies {
			burstPolicy(t, ns, policy, spec)
		}
		served(t, ns)
		namespaces = append(namespaces, ns)
	}
	snapshot := clusterSnapshot(t)
	compared, written := 0, 0
	for name, change := range variants {
		pod := plain("web")
		change(pod)
		// What reaches admission: the pod with all defaults, in a namespace that is
		// not served.
		base, err := create(t.Context(), plainNamespace, pod, true)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, ns := range namespaces {
			want := base.DeepCopy()
			if !left[name] {
				want = policy.Inject(want, policy.Evaluate(snapshot, ns, want))
			}
			var diff string
			err := playground.Poll(t.Context(), 3*time.Second, "the API server knows all policies", func(ctx context.Context) (bool, error) {
				got, err := create(ctx, ns, pod, true)
				if err != nil {
					return false, err
				}
				diff = cmp.Diff(comparable(want), comparable(got))
				return diff == "", nil
			})
			if diff != "" || err != nil {
				t.Errorf("%s in namespace %s (-webhook +API server): %v\n%s", name, ns, err, diff)
			}
			compared++
			if !equality.Semantic.DeepEqual(base.Spec, want.Spec) {
				written++
			}
		}
	}
	t.Logf("%d pods are equal, %d of them were written to", compared, written)
	if written < compared/4 {
		t.Errorf("only %d of %d pods were written to: the test compares too little", written, compared)
	}
}

// comparable is what admission may write; the names of token volumes are random.
func comparable(p *corev1.Pod) any {
	spec := p.Spec.DeepCopy()
	for i := range spec.Volumes {
		if strings.HasPrefix(spec.Volumes[i].Name, "kube-api-access-") {
			spec.Volumes[i].Name = "kube-api-access"
		}
	}
	for _, list := range [][]corev1.Container{spec.Containers, spec.InitContainers} {
		for i := range list {
			for j := range list[i].VolumeMounts {
				if strings.HasPrefix(list[i].VolumeMounts[j].Name, "kube-api-access-") {
					list[i].VolumeMounts[j].Name = "kube-api-access"
				}
			}
		}
	}
	return struct {
		Annotations map[string]string
		Spec        *corev1.PodSpec
	}{p.Annotations, spec}
}

// clusterSnapshot is the cluster as the controller sees it.
func clusterSnapshot(t *testing.T) *policy.Snapshot {
	t.Helper()
	var o policy.Objects
	get := func(what string, into any) {
		if err := json.Unmarshal([]byte(kubectl(t, "", "get", what, "--all-namespaces", "-o", "json")), into); err != nil {
			t.Fatal(fmt.Errorf("reading %s: %w", what, err))
		}
	}
	var ns corev1.NamespaceList
	var nodes corev1.NodeList
	var own v1alpha1.BurstPolicyList
	get("namespaces", &ns)
	get("nodes", &nodes)
	get("burstpolicies", &own)
	for i := range ns.Items {
		o.Namespaces = append(o.Namespaces, &ns.Items[i])
	}
	for i := range nodes.Items {
		o.Nodes = append(o.Nodes, &nodes.Items[i])
	}
	for i := range own.Items {
		o.Policies = append(o.Policies, &own.Items[i])
	}
	o.Excluded = []string{playground.Namespace}
	s, _ := policy.NewSnapshot(o)
	s.AdmissionByPolicy = true
	return s
}
