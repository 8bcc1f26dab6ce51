package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/autoburst/autoburst/test/cluster"
)

// What the user wrote is all there after admission, and the user's required
// affinity holds in every alternative.
func TestUserFieldsAreKept(t *testing.T) {
	ns := namespace(t, "kept", nil)
	policy(t, ns, "to-aci", "{targets: [{name: aci, nodeSelector: {matchLabels: {autoburst.io/provider: aci}}}]}")
	const spec = `
affinity:
  nodeAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      nodeSelectorTerms:
      - matchExpressions: [{key: kubernetes.io/os, operator: In, values: [linux]}]
      - matchExpressions: [{key: disk, operator: Exists}, {key: kubernetes.io/arch, operator: In, values: [amd64]}]
tolerations:
- {key: team, operator: Equal, value: shop, effect: NoSchedule}
topologySpreadConstraints:
- {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: kept}}}
`
	kubectl(t, barePod("kept", podSpec{extra: spec}), "--namespace="+ns, "apply", "-f", "-")
	p := waitPod(t, ns, "kept", "is bound", func(p *corev1.Pod) bool { return p.Spec.NodeName != "" })
	var want corev1.PodSpec
	if err := yaml.Unmarshal([]byte(spec), &want); err != nil {
		t.Fatal(err)
	}
	// Written beside it, so that the virtual nodes are no domains while the pod may not
	// go there.
	want.TopologySpreadConstraints[0].NodeTaintsPolicy = new(corev1.NodeInclusionPolicyHonor)
	if diff := cmp.Diff(want.TopologySpreadConstraints, p.Spec.TopologySpreadConstraints); diff != "" {
		t.Errorf("topologySpreadConstraints (-user +pod):\n%s", diff)
	}
	if !containsToleration(p.Spec.Tolerations, want.Tolerations[0]) {
		t.Errorf("the user's toleration is lost: %v", p.Spec.Tolerations)
	}
	terms := p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	for _, term := range terms {
		kept := false
		for _, user := range want.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
			kept = kept || containsAll(term.MatchExpressions, user.MatchExpressions)
		}
		if !kept {
			t.Errorf("the alternative %v holds none of the user's terms", term.MatchExpressions)
		}
		if len(term.MatchExpressions) < 2 {
			t.Errorf("the alternative %v is not restricted to the policy's target", term.MatchExpressions)
		}
	}
	if len(terms) != 4 {
		t.Errorf("%d alternatives, want 4: each of the user's two, locally or on the target", len(terms))
	}
}

func containsToleration(list []corev1.Toleration, want corev1.Toleration) bool {
	for _, t := range list {
		if t == want {
			return true
		}
	}
	return false
}

func containsAll(list, want []corev1.NodeSelectorRequirement) bool {
	for _, w := range want {
		found := false
		for _, l := range list {
			found = found || cmp.Equal(l, w)
		}
		if !found {
			return false
		}
	}
	return true
}

// Pods that are none of ours come out as they went in.
func TestNeverTouched(t *testing.T) {
	opted := namespace(t, "opted", overflow())
	closed := namespace(t, "closed", map[string]string{"autoburst.io/mode": "Never"})
	plain := namespace(t, "plain", nil)
	tests := map[string]struct{ namespace, manifest string }{
		"namespace not opted in":     {plain, barePod("p", podSpec{})},
		"namespace with mode Never":  {closed, barePod("p", podSpec{})},
		"pod with mode Never":        {opted, strings.Replace(barePod("p", podSpec{}), "  name: p\n", "  name: p\n  annotations: {autoburst.io/mode: Never}\n", 1)},
		"pod mode without opt-in":    {plain, strings.Replace(barePod("q", podSpec{}), "  name: q\n", "  name: q\n  annotations: {autoburst.io/mode: Always}\n", 1)},
		"pod bound at creation":      {opted, barePod("bound", podSpec{extra: "nodeName: local-1"})},
		"toleration written by hand": {opted, barePod("hand", podSpec{extra: "tolerations: [{key: alibabacloud.com/eci, operator: Exists, effect: NoSchedule}]"})},
		"pod that tolerates all":     {opted, barePod("all", podSpec{extra: "tolerations: [{operator: Exists}]"})},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			out := kubectl(t, test.manifest, "--namespace="+test.namespace, "apply", "--dry-run=server", "-o", "yaml", "-f", "-")
			var got, want corev1.Pod
			if err := yaml.Unmarshal([]byte(out), &got); err != nil {
				t.Fatal(err)
			}
			if err := yaml.Unmarshal([]byte(test.manifest), &want); err != nil {
				t.Fatal(err)
			}
			for key := range got.Annotations {
				if strings.HasPrefix(key, "autoburst.io/") && want.Annotations[key] == "" {
					t.Errorf("the pod got annotation %s=%s", key, got.Annotations[key])
				}
			}
			if got.Spec.Affinity != nil {
				t.Errorf("the pod got affinity %v", got.Spec.Affinity)
			}
			for _, toleration := range got.Spec.Tolerations {
				if !strings.HasPrefix(toleration.Key, "node.kubernetes.io/") && !containsToleration(want.Spec.Tolerations, toleration) {
					t.Errorf("the pod got toleration %v", toleration)
				}
			}
		})
	}
	t.Run("namespace that the operator excludes", func(t *testing.T) {
		if err := system.CreateNamespace(t.Context(), excludedNamespace, overflow()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "delete", "namespace", excludedNamespace, "--wait=false"); err != nil {
				t.Error(err)
			}
		})
		// Larger than any local node, so that it is granted wherever it may be: by the
		// webhook and, where that does not see it, by the controller.
		large := barePod("large", podSpec{cpu: "9", extra: preferApart})
		kubectl(t, large, "--namespace="+excludedNamespace, "apply", "-f", "-")
		kubectl(t, large, "--namespace="+opted, "apply", "-f", "-")
		waitPod(t, excludedNamespace, "large", "waits", func(p *corev1.Pod) bool {
			return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Reason == corev1.PodReasonUnschedulable })
		})
		waitPod(t, opted, "large", "is granted", func(p *corev1.Pod) bool { return p.Annotations[grantAnnotation] != "" })
		if p := pod(t, excludedNamespace, "large"); containsVirtual(p.Spec.Tolerations) || p.Annotations[grantAnnotation] != "" {
			t.Errorf("the pod was granted: %v, %v", p.Annotations, p.Spec.Tolerations)
		}
		n, err := client().CoreV1().Namespaces().Get(t.Context(), excludedNamespace, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if n.Labels["autoburst.io/served"] != "" {
			t.Error("the namespace is served")
		}
	})
	t.Run("DaemonSet", func(t *testing.T) {
		kubectl(t, `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      containers: [{name: app, image: nginx, resources: {requests: {cpu: 10m}}}]
`, "--namespace="+opted, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+opted, "rollout", "status", "daemonset/agent", "--timeout=30s")
		list, err := client().CoreV1().Pods(opted).List(t.Context(), metav1.ListOptions{LabelSelector: "app=agent"})
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Items) != 3 {
			t.Errorf("the DaemonSet has %d pods, want one on each of three local nodes", len(list.Items))
		}
		for _, p := range list.Items {
			if p.Annotations["autoburst.io/policy"] != "" || containsVirtual(p.Spec.Tolerations) {
				t.Errorf("DaemonSet pod %s was touched", p.Name)
			}
		}
	})
}

func containsVirtual(list []corev1.Toleration) bool {
	for _, t := range list {
		if t.Key == "alibabacloud.com/eci" || t.Key == "virtual-kubelet.io/provider" {
			return true
		}
	}
	return false
}

// A namespace is served from the moment of its annotation, by the same request,
// and no longer when the annotation is gone.
func TestServedLabel(t *testing.T) {
	ns := namespace(t, "served-label", overflow())
	get := func() string {
		n, err := client().CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return n.Labels["autoburst.io/served"]
	}
	if got := get(); got != "true" {
		t.Errorf("label autoburst.io/served is %q right after the namespace was created, want true", got)
	}
	kubectl(t, "", "annotate", "namespace", ns, "autoburst.io/mode-")
	eventually(t, 10*time.Second, "the label is removed", func(context.Context) (bool, error) { return get() == "", nil })
	kubectl(t, "", "annotate", "namespace", ns, "autoburst.io/mode=Overflow")
	if got := get(); got != "true" {
		t.Errorf("label autoburst.io/served is %q right after the annotation, want true", got)
	}
	kubectl(t, "", "annotate", "namespace", ns, "autoburst.io/mode-")
	eventually(t, 10*time.Second, "the label is removed", func(context.Context) (bool, error) { return get() == "", nil })
	policy(t, ns, "any", "{}")
	eventually(t, 10*time.Second, "the policy serves the namespace", func(context.Context) (bool, error) { return get() == "true", nil })
}

// A pod that the clouds cannot run stays local, with one event that names the
// field.
func TestUnburstableStaysLocal(t *testing.T) {
	fill(t)
	ns := namespace(t, "unburstable", overflow())
	kubectl(t, barePod("files", podSpec{
		extra:     "volumes: [{name: host, hostPath: {path: /var/log}}]",
		container: "volumeMounts: [{name: host, mountPath: /logs}]",
	}), "--namespace="+ns, "apply", "-f", "-")
	var events []corev1.Event
	mustEventually(t, 30*time.Second, "an event says why", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=files,reason!=FailedScheduling"})
		if err != nil {
			return false, err
		}
		events = list.Items
		return len(events) > 0, nil
	})
	// The controller looks at the pod again and again; the event stays one.
	kubectl(t, "", "--namespace="+ns, "annotate", "pod", "files", "touched=1")
	kubectl(t, "", "--namespace="+ns, "annotate", "pod", "files", "touched=2", "--overwrite")
	list, err := client().CoreV1().Events(ns).List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=files,reason!=FailedScheduling"})
	if err != nil {
		t.Fatal(err)
	}
	if events = list.Items; len(events) != 1 || !strings.Contains(events[0].Message, "spec.volumes[0].hostPath") {
		for _, e := range events {
			t.Logf("%s %s (%d times): %s", e.Type, e.Reason, e.Count, e.Message)
		}
		t.Errorf("%d events, want one that names spec.volumes[0].hostPath", len(events))
	}
	if p := pod(t, ns, "files"); p.Spec.NodeName != "" || containsVirtual(p.Spec.Tolerations) {
		t.Errorf("the pod is on %q with tolerations %v, want it to wait for a local node", p.Spec.NodeName, p.Spec.Tolerations)
	}
}

// Admission never fails and every pod ends up where it belongs while webhook
// replicas are killed and started under load.
func TestReplicasComeAndGo(t *testing.T) {
	fill(t)
	ns := namespace(t, "churn", overflow())
	const count = 120
	var creators sync.WaitGroup
	creators.Go(func() {
		for i := range count {
			manifest := barePod(fmt.Sprintf("churn-%d", i), podSpec{})
			var p corev1.Pod
			if err := yaml.Unmarshal([]byte(strings.TrimPrefix(strings.TrimSpace(manifest), "---")), &p); err != nil {
				t.Error(err)
				return
			}
			if _, err := client().CoreV1().Pods(ns).Create(context.Background(), &p, metav1.CreateOptions{}); err != nil {
				t.Errorf("creating pod %d: %v", i, err)
			}
		}
	})
	for range 2 {
		victim := system.Controllers()[0]
		system.RemoveController(victim, (*cluster.Process).Kill)
		if _, err := system.StartController(t.Context()); err != nil {
			t.Error(err)
		}
		if err := system.WaitWebhook(t.Context()); err != nil {
			t.Error(err)
		}
	}
	creators.Wait()
	eventually(t, 90*time.Second, "all pods run on virtual nodes", func(ctx context.Context) (bool, error) {
		list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running"})
		if err == nil && len(list.Items) != count {
			err = fmt.Errorf("%d of %d run", len(list.Items), count)
		}
		return err == nil, err
	})
}

// An upgrade of the chart leaves the CA bundle alone, so that admission goes on.
func TestChartUpgrade(t *testing.T) {
	bundle := func() string {
		return kubectl(t, "", "get", "mutatingwebhookconfiguration", "autoburst", "-o", "jsonpath={.webhooks[*].clientConfig.caBundle}")
	}
	before := bundle()
	if err := system.InstallChart(t.Context(), "commonLabels.upgraded=yes"); err != nil {
		t.Fatal(err)
	}
	if after := bundle(); after != before || after == "" {
		t.Errorf("the CA bundle changed by the upgrade, from %d to %d characters", len(before), len(after))
	}
	if got := kubectl(t, "", "get", "mutatingwebhookconfiguration", "autoburst", "-o", "jsonpath={.metadata.labels.upgraded}"); got != "yes" {
		t.Errorf("the upgrade did not happen: label upgraded is %q", got)
	}
	ns := namespace(t, "upgraded", overflow())
	kubectl(t, barePod("web", podSpec{}), "--namespace="+ns, "apply", "-f", "-")
	if p := pod(t, ns, "web"); p.Annotations["autoburst.io/policy"] == "" {
		t.Error("after the upgrade the webhook does not reach pods")
	}
}

// Wrong values are refused before anything is changed, with the value named.
func TestChartRefusesWrongValues(t *testing.T) {
	tests := map[string]struct{ set, want string }{
		"typo":                 {"controler.replicas=3", "controler"},
		"typo in a section":    {"controller.replica=3", "replica"},
		"text for a number":    {"controller.replicas=many", "replicas"},
		"unknown provider":     {"virtualNodes[0].provider=fargate", "provider"},
		"no credentials":       {"virtualNodes[0].credentials=null", "credentials"},
		"unknown reinvocation": {"webhook.reinvocationPolicy=Always", "reinvocationPolicy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := system.InstallChart(t.Context(), test.set)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("refusal %v, want it to name %s", err, test.want)
			}
		})
	}
}

// The chart leaves nothing of the clouds' secrets in what it makes readable, and
// its own Deployments keep off virtual nodes.
func TestChartObjects(t *testing.T) {
	list, err := client().AppsV1().Deployments("autoburst-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 3 {
		t.Errorf("%d Deployments, want the controller and two agents", len(list.Items))
	}
	for _, d := range list.Items {
		if !keepsOffVirtualNodes(d) {
			t.Errorf("Deployment %s may run on a virtual node", d.Name)
		}
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				if strings.Contains(e.Value, "playground-secret-key") || strings.Contains(e.Value, "playground-client-secret") {
					t.Errorf("Deployment %s shows a credential in variable %s", d.Name, e.Name)
				}
			}
		}
	}
	// Bindings are on the scheduler's way, so the API server waits less for them.
	const want = "pods.autoburst.io Ignore 2 None\nnamespaces.autoburst.io Ignore 2 None\nbindings.autoburst.io Ignore 1 None"
	if out := kubectl(t, "", "get", "mutatingwebhookconfigurations", "-o",
		"jsonpath={range .items[*].webhooks[*]}{.name} {.failurePolicy} {.timeoutSeconds} {.sideEffects}{\"\\n\"}{end}"); strings.TrimSpace(out) != want {
		t.Errorf("webhooks: name, failurePolicy, timeoutSeconds and sideEffects are\n%s\nwant\n%s", out, want)
	}
}

func keepsOffVirtualNodes(d appsv1.Deployment) bool {
	a := d.Spec.Template.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		excluded := false
		for _, e := range term.MatchExpressions {
			excluded = excluded || e.Key == "type" && e.Operator == corev1.NodeSelectorOpNotIn && labels.Set{"type": e.Values[0]}["type"] == "virtual-kubelet"
		}
		if !excluded {
			return false
		}
	}
	return true
}
