package webhook

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const owned = `"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web-1","uid":"u","controller":true}]`

const (
	containers = `"containers":[{"name":"app","image":"nginx","resources":{"requests":{"cpu":"1","memory":"1Gi"}}}]`
	plainPod   = `{"kind":"Pod","apiVersion":"v1","metadata":{"generateName":"web-1-",` + owned + `},"spec":{` + containers + `},"status":{}}`
)

var provider = corev1.Toleration{
	Key: v1alpha1.ProviderTaintKey, Operator: corev1.TolerationOpEqual, Value: "alibabacloud", Effect: corev1.TaintEffectNoSchedule,
}

func TestPods(t *testing.T) {
	granted := map[string]string{
		v1alpha1.PolicyAnnotation: "Namespace", v1alpha1.DecidedModeAnnotation: "Overflow",
		v1alpha1.ReasonAnnotation: "LocalFirst", v1alpha1.GrantAnnotation: "Admission",
	}
	for name, tc := range map[string]struct {
		object  string
		changes []func(map[string]any)
		// wantAnnotations and wantTolerations are the pod's after the patch.
		wantAnnotations map[string]string
		wantTolerations []corev1.Toleration
		wantAudit       map[string]string
		wantWarnings    []string
	}{
		"granted, generateName, namespace in the request alone": {
			object: plainPod, wantAnnotations: granted, wantTolerations: []corev1.Toleration{provider},
			wantAudit: map[string]string{"policy": "Namespace", "reason": "LocalFirst"},
		},
		"dry run": {
			object: plainPod, changes: []func(map[string]any){set("dryRun", true)},
			wantAnnotations: granted, wantTolerations: []corev1.Toleration{provider},
			wantAudit: map[string]string{"policy": "Namespace", "reason": "LocalFirst"},
		},
		"waits": {
			object: plainPod, changes: []func(map[string]any){set("namespace", "waiting")},
			wantAnnotations: map[string]string{
				v1alpha1.PolicyAnnotation: "BurstPolicy/patient", v1alpha1.DecidedModeAnnotation: "Overflow", v1alpha1.ReasonAnnotation: "AfterPending",
			},
			wantAudit: map[string]string{"policy": "BurstPolicy/patient", "reason": "AfterPending"},
		},
		"annotations, tolerations and affinity of the user, null lists": {
			object: `{"metadata":{"name":"p","annotations":{"a~b/c":"d"},"labels":null},"spec":{` + containers + `,
				"tolerations":[{"key":"mine","operator":"Exists"}],"initContainers":null,"volumes":[],
				"affinity":{"podAffinity":null,"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[
					{"matchExpressions":[{"key":"zone","operator":"Exists"}]},{"matchFields":[{"key":"metadata.name","operator":"NotIn","values":["x"]}]}]}}}}}`,
			wantAnnotations: map[string]string{
				"a~b/c": "d", v1alpha1.PolicyAnnotation: "Namespace", v1alpha1.DecidedModeAnnotation: "Overflow",
				v1alpha1.ReasonAnnotation: "LocalFirst", v1alpha1.GrantAnnotation: "Admission",
			},
			wantTolerations: []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpExists}, provider},
			wantAudit:       map[string]string{"policy": "Namespace", "reason": "LocalFirst"},
		},
		"empty tolerations and null annotations": {
			object:          `{"metadata":{"annotations":null},"spec":{` + containers + `,"tolerations":[],"affinity":{}}}`,
			wantAnnotations: granted, wantTolerations: []corev1.Toleration{provider},
			wantAudit: map[string]string{"policy": "Namespace", "reason": "LocalFirst"},
		},
		"the decision for another pod is overwritten": {
			object: `{"metadata":{"annotations":{"autoburst.io/policy":"BurstPolicy/x","autoburst.io/reason":"AlreadyGranted","autoburst.io/grant":"Late"}},"spec":{` + containers + `}}`,
			changes: []func(map[string]any){
				set("namespace", "waiting"),
			},
			wantAnnotations: map[string]string{
				v1alpha1.PolicyAnnotation: "BurstPolicy/patient", v1alpha1.DecidedModeAnnotation: "Overflow", v1alpha1.ReasonAnnotation: "AfterPending",
			},
			wantAudit: map[string]string{"policy": "BurstPolicy/patient", "reason": "AfterPending"},
		},
		"fields that are not known here": {
			object: `{"metadata":{"novel":{"x":1}},"novel":[1,2],"spec":{"novelty":"y","containers":[{"name":"app","image":"nginx","novel":{"deep":[null]}}],
				"tolerations":[{"key":"mine","operator":"Gt","value":"5","novel":7}]}}`,
			wantAnnotations: granted,
			wantTolerations: []corev1.Toleration{{Key: "mine", Operator: "Gt", Value: "5"}, provider},
			wantAudit:       map[string]string{"policy": "Namespace", "reason": "LocalFirst"},
		},
		"spread, with fields that are not known here": {
			object: `{"metadata":{"name":"p"},"spec":{` + containers + `,"topologySpreadConstraints":[
				{"maxSkew":1,"topologyKey":"kubernetes.io/os","whenUnsatisfiable":"ScheduleAnyway","novel":1},
				{"maxSkew":1,"topologyKey":"kubernetes.io/os","whenUnsatisfiable":"DoNotSchedule","novel":{"deep":[null]},"labelSelector":{"matchLabels":{"a":"b"},"novel":2}}]}}`,
			wantAnnotations: map[string]string{
				v1alpha1.PolicyAnnotation: "Namespace", v1alpha1.DecidedModeAnnotation: "Overflow", v1alpha1.ReasonAnnotation: "TopologySpread",
			},
			wantAudit: map[string]string{"policy": "Namespace", "reason": "TopologySpread"},
		},
		"spread over what no virtual node has": {
			object: `{"metadata":{"name":"p"},"spec":{` + containers + `,"topologySpreadConstraints":[
				{"maxSkew":1,"topologyKey":"example.com/rack","whenUnsatisfiable":"DoNotSchedule","nodeTaintsPolicy":null}]}}`,
			wantAudit: map[string]string{"policy": "Namespace", "reason": "NoTopologyLabel"},
		},
		"gated": {
			object: `{"metadata":{"name":"p"},"spec":{` + containers + `,"schedulerName":"default-scheduler","schedulingGates":[{"name":"example.com/wait","novel":3}],
				"affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"podAffinityTerm":{"topologyKey":"zone"}}]}}}}`,
			changes: []func(map[string]any){set("namespace", "first")},
			wantAnnotations: map[string]string{
				v1alpha1.PolicyAnnotation: "BurstPolicy/burst", v1alpha1.DecidedModeAnnotation: "Overflow", v1alpha1.ReasonAnnotation: "OwnInterPodTerms",
				policy.ScaleUpDelayAnnotation: "300s",
			},
			wantAudit: map[string]string{"policy": "BurstPolicy/burst", "reason": "OwnInterPodTerms"},
		},
		"not opted in": {
			object: plainPod, changes: []func(map[string]any){set("namespace", "other")},
			wantAudit: map[string]string{"reason": "NotSelected"},
		},
		"unknown namespace": {
			object: plainPod, changes: []func(map[string]any){set("namespace", "new")},
			wantAudit: map[string]string{"reason": "NamespaceUnknown"},
		},
		"excluded namespace": {
			object: plainPod, changes: []func(map[string]any){set("namespace", "kube-system")},
			wantAudit: map[string]string{"reason": "NamespaceExcluded"},
		},
		"DaemonSet": {
			object:    `{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","name":"d","uid":"u","controller":true}]},"spec":{` + containers + `}}`,
			wantAudit: map[string]string{"reason": "DaemonSetPod"},
		},
		"bound": {
			object:    `{"metadata":{"name":"p"},"spec":{"nodeName":"n",` + containers + `}}`,
			wantAudit: map[string]string{"reason": "AlreadyBound"},
		},
		"mirror": {
			object:          `{"metadata":{"name":"p","annotations":{"kubernetes.io/config.mirror":"x"}},"spec":{` + containers + `}}`,
			wantAnnotations: map[string]string{"kubernetes.io/config.mirror": "x"},
			wantAudit:       map[string]string{"reason": "MirrorPod"},
		},
		"opted out": {
			object:          `{"metadata":{"name":"p","annotations":{"autoburst.io/mode":"Never"}},"spec":{` + containers + `}}`,
			wantAnnotations: map[string]string{v1alpha1.ModeAnnotation: "Never"},
			wantAudit:       map[string]string{"policy": "Pod", "reason": "ModeNever"},
		},
		"misspelt mode": {
			object:          `{"metadata":{"name":"p","annotations":{"autoburst.io/mode":"never"}},"spec":{` + containers + `}}`,
			wantAnnotations: map[string]string{v1alpha1.ModeAnnotation: "never"},
			wantAudit:       map[string]string{"policy": "Pod", "reason": "InvalidPodMode"},
			wantWarnings:    []string{`autoburst: "never" is no mode, so the pod stays local; use Overflow, Always, Auto or Never`},
		},
		"misspelt mode, made by a controller": {
			object:          `{"metadata":{"annotations":{"autoburst.io/mode":"never"},` + owned + `},"spec":{` + containers + `}}`,
			wantAnnotations: map[string]string{v1alpha1.ModeAnnotation: "never"},
			wantAudit:       map[string]string{"policy": "Pod", "reason": "InvalidPodMode"},
		},
		"misspelt mode of the namespace": {
			object: `{"metadata":{"name":"p"},"spec":{` + containers + `}}`, changes: []func(map[string]any){set("namespace", "typo")},
			wantAudit:    map[string]string{"policy": "Namespace", "reason": "InvalidNamespaceMode"},
			wantWarnings: []string{`autoburst: "overflow" is no mode, so pods of the namespace stay local; use Overflow, Always, Auto or Never`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, registry := register(t, Options{})
			body := review(tc.object, tc.changes...)
			r := post(t, h[PodsPath], body)
			if r.UID != "705ab4f5-6393-11e8-b7cc-42010a800002" {
				t.Errorf("uid %q", r.UID)
			}
			if diff := cmp.Diff(tc.wantWarnings, r.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantAudit, r.AuditAnnotations); diff != "" {
				t.Errorf("audit annotations (-want +got):\n%s", diff)
			}

			after := patched(t, []byte(tc.object), r)
			var pod corev1.Pod
			if err := json.Unmarshal(after, &pod); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.wantAnnotations, pod.Annotations, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("annotations (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.wantTolerations, pod.Spec.Tolerations, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("tolerations (-want +got):\n%s", diff)
			}

			// Nothing that the rules write is left out of the patch.
			namespace := "shop"
			if ns, ok := document(t, []byte(body)).(map[string]any)["request"].(map[string]any)["namespace"].(string); ok {
				namespace = ns
			}
			before, err := readPod([]byte(tc.object))
			if err != nil {
				t.Fatal(err)
			}
			want := policy.Inject(before, policy.Evaluate(snapshot(), namespace, before))
			pod.TypeMeta = want.TypeMeta
			if !equality.Semantic.DeepEqual(want, &pod) {
				t.Errorf("injected and patched differ (-injected +patched):\n%s", cmp.Diff(want, &pod))
			}

			again := post(t, h[PodsPath], review(string(after), tc.changes...))
			if len(again.Patch) > 0 {
				t.Errorf("the second call patches too: %s", again.Patch)
			}

			counted, err := testutil.GatherAndCount(registry, "autoburst_webhook_admissions_total")
			if err != nil {
				t.Fatal(err)
			}
			dryRun := document(t, []byte(body)).(map[string]any)["request"].(map[string]any)["dryRun"] == true
			if (counted == 0) != dryRun {
				t.Errorf("%d decisions counted, dry run: %t", counted, dryRun)
			}
		})
	}
}

// TestRefusalIsTold creates a pod with a field that no virtual node carries out.
func TestRefusalIsTold(t *testing.T) {
	h, _ := register(t, Options{})
	object := `{"metadata":{"name":"p"},"spec":{` + containers + `,"volumes":[{"name":"v","hostPath":{"path":"/"}}]}}`
	r := post(t, h[PodsPath], review(object))
	if len(r.Patch) > 0 || r.AuditAnnotations["reason"] != "NotBurstable" {
		t.Fatalf("patch %s, audit %v; want none, NotBurstable", r.Patch, r.AuditAnnotations)
	}
	const want = "autoburst: the pod stays on local nodes, because of spec.volumes[0].hostPath"
	if len(r.Warnings) != 1 || len(r.Warnings[0]) < len(want) || r.Warnings[0][:len(want)] != want {
		t.Errorf("warnings %q, want one that starts with %q", r.Warnings, want)
	}
}
