package e2e

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// The API server itself accepts and rejects policies, by the schema and the CEL
// rules of the CRDs; no webhook is asked.
func TestPolicyValidation(t *testing.T) {
	api := dynamic.NewForConfigOrDie(system.Config())
	tests := map[string]struct {
		spec    string
		cluster bool
		// want is what the refusal must say, naming the field; "" accepts.
		want string
	}{
		"empty":                              {spec: "{}"},
		"every field":                        {spec: "{priority: -5, podSelector: {matchLabels: {a: b}}, mode: Overflow, overflow: {afterPendingSeconds: 30, pressure: {unschedulablePods: 10, forSeconds: 5, cooldownSeconds: 0}}, targets: [{name: eci, nodeSelector: {matchLabels: {autoburst.io/provider: eci}}}]}"},
		"mode Always with targets":           {spec: "{mode: Always, targets: [{name: aci}]}"},
		"mode Auto":                          {spec: "{mode: Auto}"},
		"mode Never":                         {spec: "{mode: Never}"},
		"unknown mode":                       {spec: "{mode: Sometimes}", want: "spec.mode: Unsupported value"},
		"mode in lower case":                 {spec: "{mode: overflow}", want: "spec.mode: Unsupported value"},
		"negative wait":                      {spec: "{overflow: {afterPendingSeconds: -1}}", want: "spec.overflow.afterPendingSeconds"},
		"wait of more than a day":            {spec: "{overflow: {afterPendingSeconds: 86401}}", want: "spec.overflow.afterPendingSeconds"},
		"negative pressure":                  {spec: "{overflow: {pressure: {unschedulablePods: -3}}}", want: "spec.overflow.pressure.unschedulablePods"},
		"no pressure at all":                 {spec: "{overflow: {pressure: {unschedulablePods: 0}}}", want: "spec.overflow.pressure.unschedulablePods"},
		"negative cooldown":                  {spec: "{overflow: {pressure: {cooldownSeconds: -1}}}", want: "spec.overflow.pressure.cooldownSeconds"},
		"fraction":                           {spec: "{overflow: {afterPendingSeconds: 1.5}}", want: "spec.overflow.afterPendingSeconds"},
		"text for a number":                  {spec: "{priority: high}", want: "spec.priority"},
		"priority out of bounds":             {spec: "{priority: 1000001}", want: "spec.priority"},
		"overflow with mode Always":          {spec: "{mode: Always, overflow: {afterPendingSeconds: 5}}", want: "spec.overflow: Invalid value: overflow is only for mode Overflow"},
		"overflow with mode Never":           {spec: "{mode: Never, overflow: {}}", want: "spec.overflow: Invalid value: overflow is only for mode Overflow"},
		"targets with mode Never":            {spec: "{mode: Never, targets: [{name: eci}]}", want: "spec.targets: Invalid value: mode Never has no targets"},
		"target without name":                {spec: "{targets: [{nodeSelector: {}}]}", want: "spec.targets[0].name"},
		"target with a bad name":             {spec: "{targets: [{name: Not_A_Name}]}", want: "spec.targets[0].name"},
		"two targets of one name":            {spec: "{targets: [{name: eci}, {name: eci}]}", want: "spec.targets[1]: Duplicate value"},
		"nine targets":                       {spec: "{targets: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}, {name: g}, {name: h}, {name: i}]}", want: "spec.targets: Too many"},
		"limit on money, which is not there": {spec: "{limits: {spend: {amount: '5'}}}", want: `unknown field "spec.limits.spend"`},
		"all limits":                         {spec: "{limits: {pods: 0, cpu: 1500m, memory: 2Ti}, targets: [{name: eci, limits: {pods: 3, cpu: 4}}]}"},
		"negative number of pods":            {spec: "{limits: {pods: -1}}", want: "spec.limits.pods"},
		"negative cpu":                       {spec: "{limits: {cpu: '-1'}}", want: "spec.limits.cpu"},
		"negative memory of a target":        {spec: "{targets: [{name: eci, limits: {memory: '-1Gi'}}]}", want: "spec.targets[0].limits.memory"},
		"cpu that is no quantity":            {spec: "{limits: {cpu: lots}}", want: "spec.limits.cpu"},
		"limits with mode Always":            {spec: "{mode: Always, limits: {pods: 3}}"},
		"limits with mode Never":             {spec: "{mode: Never, limits: {pods: 3}}", want: "spec.limits: Invalid value: mode Never has no limits"},
		"kept replicas":                      {spec: "{keepLocal: 2}"},
		"kept percentage":                    {spec: "{keepLocal: 50%}"},
		"negative kept replicas":             {spec: "{keepLocal: -1}", want: "spec.keepLocal"},
		"more than all replicas":             {spec: "{keepLocal: 101%}", want: "spec.keepLocal"},
		"kept replicas in words":             {spec: "{keepLocal: two}", want: "spec.keepLocal"},
		"kept replicas with mode Always":     {spec: "{mode: Always, keepLocal: 2}", want: "spec.keepLocal: Invalid value: keepLocal is only for mode Overflow"},
		"order against autoscalers":          {spec: "{overflow: {nodeAutoscaler: NodeFirst}}"},
		"unknown order against autoscalers":  {spec: "{overflow: {nodeAutoscaler: Race}}", want: "spec.overflow.nodeAutoscaler: Unsupported value"},
		"no order of scaling in":             {spec: "{scaleIn: Unordered}"},
		"unknown order of scaling in":        {spec: "{scaleIn: LocalFirst}", want: "spec.scaleIn: Unsupported value"},
		"repatriation":                       {spec: "{repatriation: {mode: WhenRoom, minBurstSeconds: 0, holdSeconds: 86400, maxConcurrent: 100}}"},
		"repatriation with mode Auto":        {spec: "{mode: Auto, repatriation: {mode: WhenRoom}}", want: "spec.repatriation: Invalid value: repatriation is only for mode Overflow"},
		"repatriation of none at once":       {spec: "{repatriation: {mode: WhenRoom, maxConcurrent: 0}}", want: "spec.repatriation.maxConcurrent"},
		"negative age":                       {spec: "{repatriation: {minBurstSeconds: -1}}", want: "spec.repatriation.minBurstSeconds"},
		"metadata of a target":               {spec: "{targets: [{name: eci, podMetadata: {annotations: {k8s.aliyun.com/eci-use-specs: 2-4Gi}}}]}"},
		"labels, which cannot be stamped":    {spec: "{targets: [{name: eci, podMetadata: {labels: {a: b}}}]}", want: `unknown field "spec.targets[0].podMetadata.labels"`},
		"typo":                               {spec: "{podSelectors: {}}", want: `unknown field "spec.podSelectors"`},

		"cluster: every namespace":           {cluster: true, spec: "{namespaceSelector: {}}"},
		"cluster: without namespaceSelector": {cluster: true, spec: "{mode: Overflow}", want: "spec.namespaceSelector: Required value"},
		"cluster: overflow with Always":      {cluster: true, spec: "{namespaceSelector: {}, mode: Always, overflow: {}}", want: "overflow is only for mode Overflow"},
		"namespaceSelector in a BurstPolicy": {spec: "{namespaceSelector: {}}", want: `unknown field "spec.namespaceSelector"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			object := map[string]any{}
			if err := yaml.Unmarshal([]byte("spec: "+test.spec), &object); err != nil {
				t.Fatal(err)
			}
			u := &unstructured.Unstructured{Object: object}
			u.SetAPIVersion(v1alpha1.GroupVersion.String())
			u.SetName("candidate")
			var resource dynamic.ResourceInterface
			if test.cluster {
				u.SetKind("ClusterBurstPolicy")
				resource = api.Resource(v1alpha1.GroupVersion.WithResource("clusterburstpolicies"))
			} else {
				u.SetKind("BurstPolicy")
				resource = api.Resource(v1alpha1.GroupVersion.WithResource("burstpolicies")).Namespace("default")
			}
			_, err := resource.Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
			switch {
			case test.want == "" && err != nil:
				t.Errorf("rejected: %v", err)
			case test.want != "" && err == nil:
				t.Errorf("accepted, want a refusal with %q", test.want)
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("refusal %q, want it to contain %q", err, test.want)
			}
		})
	}
}

// What the schema cannot see is said by the condition Ready, naming the field.
func TestPolicyNotReady(t *testing.T) {
	ns := namespace(t, "invalid-policies", nil)
	tests := map[string]struct{ spec, condition, want string }{
		"operator that does not exist": {
			spec:      "{podSelector: {matchExpressions: [{key: a, operator: Like, values: [b]}]}}",
			condition: "Ready", want: "spec.podSelector",
		},
		"In without values": {
			spec:      "{targets: [{name: eci, nodeSelector: {matchExpressions: [{key: a, operator: In}]}}]}",
			condition: "Ready", want: "spec.targets[0].nodeSelector",
		},
		"target that selects no virtual node": {
			spec:      "{targets: [{name: fargate, nodeSelector: {matchLabels: {autoburst.io/provider: fargate}}}]}",
			condition: "TargetsAvailable", want: "fargate",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			kubectl(t, "{apiVersion: autoburst.io/v1alpha1, kind: BurstPolicy, metadata: {name: candidate}, spec: "+test.spec+"}",
				"--namespace="+ns, "apply", "-f", "-")
			defer kubectl(t, "", "--namespace="+ns, "delete", "burstpolicy", "candidate")
			kubectl(t, "", "--namespace="+ns, "wait", "burstpolicy/candidate", "--for=condition="+test.condition+"=False", "--timeout=20s")
			message := kubectl(t, "", "--namespace="+ns, "get", "burstpolicy", "candidate",
				"-o", `jsonpath={.status.conditions[?(@.type=="`+test.condition+`")].message}`)
			if !strings.Contains(message, test.want) {
				t.Errorf("message %q, want it to name %q", message, test.want)
			}
		})
	}
}
