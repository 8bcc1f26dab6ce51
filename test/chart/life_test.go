package chart

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// shop is a namespace that is served.
const shop = "shop"

// A release from the first day to the last. Each step goes on where the one before
// ended.
func TestLife(t *testing.T) {
	if err := system.CreateNamespace(t.Context(), shop, nil); err != nil {
		t.Fatal(err)
	}
	one := values(t, virtualNodes(eciNode), "webhook: {timeoutSeconds: 10}")
	// A slow machine is not to be taken for a webhook that does not answer.
	both := values(t, virtualNodes(eciNode, aciNode), "webhook: {timeoutSeconds: 10}")

	step := func(name string, f func(*testing.T)) {
		t.Helper()
		if !t.Run(name, f) {
			t.FailNow()
		}
	}
	step("install", func(t *testing.T) {
		out := helm(t, "install", release, chart(), "--values="+one, "--wait", "--timeout=3m")
		if !strings.Contains(out, "kubectl annotate namespace NAMESPACE autoburst.io/mode=Overflow") {
			t.Errorf("the notes do not say what to do next:\n%s", out)
		}
		if strings.Contains(out, "PodSecurity") {
			t.Errorf("a pod is not restricted:\n%s", out)
		}
		eventually(t, waitReady, "the virtual node is there", ready(eciNode))
		for _, service := range []string{"webhook", "metrics", "vnode-metrics"} {
			endpoints := kubectl(t, "", "get", "endpointslices", "--namespace="+namespace, "-l", "kubernetes.io/service-name="+release+"-"+service, "-o", "jsonpath={.items[*].endpoints[*].targetRef.name}")
			if len(strings.Fields(endpoints)) != 2 {
				t.Errorf("Service %s leads to %q, want two pods", service, endpoints)
			}
		}
		kubectl(t, "", "annotate", "namespace", shop, "autoburst.io/mode=Overflow")
		eventually(t, 30*time.Second, "pods of a served namespace are patched", patched)
	})
	step("test", func(t *testing.T) {
		out := helm(t, "test", release, "--logs", "--timeout=2m")
		if !strings.Contains(out, "Succeeded") {
			t.Errorf("helm test:\n%s", out)
		}
		for _, kind := range []string{"pod", "serviceaccount", "clusterrole", "role"} {
			if out := kubectl(t, "", "get", kind, "-A", "-l", "app.kubernetes.io/component=check", "-o", "name"); out != "" {
				t.Errorf("helm test leaves behind %s", out)
			}
		}
	})
	step("nothing drifts", func(t *testing.T) {
		noDrift(t)
		before := versions(t)
		helm(t, "upgrade", release, chart(), "--values="+one)
		if diff := changed(before, versions(t)); diff != nil {
			t.Errorf("an upgrade with the same values changes %v", diff)
		}
		enforceAdmissions(t)
		noDrift(t)
	})
	step("the cluster knows a second release", func(t *testing.T) {
		out, err := system.Helm(t.Context(), "install", "second", chart(), "--namespace=elsewhere", "--create-namespace")
		if err == nil || !strings.Contains(err.Error(), "installed on this cluster already, as release autoburst in namespace autoburst-system") {
			t.Errorf("a second release: %v %s", err, out)
		}
	})
	step("upgrade to a new version under load", func(t *testing.T) {
		newer := copyChart(t, "0.1.0", "0.1.1")
		stop := admitAll(t)
		helm(t, "upgrade", release, newer, "--values="+both, "--set=controller.replicas=3,settings.logLevel=debug", "--wait", "--timeout=3m")
		stop()
		eventually(t, waitReady, "the second virtual node is there", ready(aciNode))
		crd := kubectl(t, "", "get", "crd", "burstpolicies.autoburst.io", "-o", "yaml")
		if !strings.Contains(crd, "changed by 0.1.1") {
			t.Error("the upgrade does not change the CustomResourceDefinition")
		}
		if out := kubectl(t, "", "get", "pods", "--namespace="+namespace, "-l", "app.kubernetes.io/component=controller", "-o", "jsonpath={.items[*].spec.containers[*].image}"); strings.Count(out, ":0.1.1") != 3 {
			t.Errorf("the replicas run %s", out)
		}
		noDrift(t)
	})
	step("a broken upgrade and the way back", func(t *testing.T) {
		stop := admitAll(t)
		if _, err := tryHelm(t, "upgrade", release, chart(), "--values="+both, "--set=controller.image.tag=broken", "--wait", "--timeout=10s"); err == nil {
			t.Error("an upgrade to an image that does not exist succeeds")
		}
		// The revision before the broken one; an argument more would name it.
		helm(t, "rollback", release, "--wait", "--timeout=3m")
		stop()
		noDrift(t)
	})
	step("what makes bursting work does not burst", localOnly)
	step("an upgrade takes no agent away", func(t *testing.T) {
		before := kubectl(t, "", "get", "deployments", "--namespace="+namespace, "-o", "name")
		_, err := tryHelm(t, "upgrade", release, chart(), "--values="+one)
		if want := "kubectl autoburst drain " + aciNode + " --delete-node --release-namespace=" + namespace; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, and should say %q", err, want)
		}
		out, err := tryHelm(t, "rollback", release, "1", "--timeout=1m")
		if want := "drain " + aciNode + " --delete-node"; err == nil || !strings.Contains(out+err.Error(), want) {
			t.Errorf("a rollback to before the node was added: %v, want %q in %s", err, want, out)
		}
		// Helm leaves a release whose rollback was refused pending, until it is rolled back
		// to the revision that runs.
		helm(t, "rollback", release, deployed(t), "--wait", "--timeout=2m")
		if after := kubectl(t, "", "get", "deployments", "--namespace="+namespace, "-o", "name"); after != before {
			t.Errorf("Deployments were %s and are %s", before, after)
		}
		if out, err := plugin(t, "drain", aciNode, "--delete-node", "--timeout=90s"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		// Who thinks better of it has the node back; the number of agents was changed by
		// somebody else than Helm, which asks whether to have its way.
		helm(t, "upgrade", release, chart(), "--values="+both, "--force-conflicts", "--wait", "--timeout=2m")
		eventually(t, waitReady, "the drained node is back", ready(aciNode))
		if out, err := plugin(t, "drain", aciNode, "--delete-node", "--timeout=90s"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		helm(t, "upgrade", release, chart(), "--values="+one, "--wait", "--timeout=2m")
		if _, err := system.Client().CoreV1().Nodes().Get(t.Context(), aciNode, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("reading the drained node: %v", err)
		}
	})
	step("an uninstall that cannot drain removes nothing", func(t *testing.T) {
		kubectl(t, pinned("bare", eciNode), "--namespace="+shop, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+shop, "wait", "--for=condition=Ready", "pod/bare", "--timeout=60s")
		before := kubectl(t, "", "get", "deployments,mutatingwebhookconfigurations,clusterroles", "-A", "-l", "app.kubernetes.io/instance="+release+",app.kubernetes.io/component!=removal", "-o", "name")
		out, err := tryHelm(t, "uninstall", release, "--timeout=1m")
		if err == nil || !strings.Contains(out+err.Error(), shop+"/bare") {
			t.Errorf("uninstalling ended with %v, and should name the pod: %s", err, out)
		}
		after := kubectl(t, "", "get", "deployments,mutatingwebhookconfigurations,clusterroles", "-A", "-l", "app.kubernetes.io/instance="+release+",app.kubernetes.io/component!=removal", "-o", "name")
		if after != before {
			t.Errorf("there were\n%sand now there are\n%s", before, after)
		}
		eventually(t, 30*time.Second, "pods are patched as before", patched)
		kubectl(t, "", "--namespace="+shop, "delete", "pod/bare")
	})
	step("uninstall", func(t *testing.T) {
		kubectl(t, deployment("web", 3, eciNode), "--namespace="+shop, "apply", "-f", "-")
		kubectl(t, "", "--namespace="+shop, "rollout", "status", "deployment/web", "--timeout=60s")
		if n := len(system.Groups(eciNode)); n != 3 {
			t.Fatalf("there are %d container groups, want 3", n)
		}
		kubectl(t, policy, "--namespace="+shop, "apply", "-f", "-")
		helm(t, "uninstall", release, "--wait", "--timeout=3m")
		nothingIsLeft(t)
		// What users wrote stays.
		kubectl(t, "", "--namespace="+shop, "get", "burstpolicy", "kept")
		kubectl(t, "", "--namespace="+shop, "delete", "deployment/web", "burstpolicy/kept")
	})
}

const policy = `
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: kept}
spec: {mode: Overflow}
`

const podSpec = `terminationGracePeriodSeconds: 1, nodeSelector: {kubernetes.io/hostname: %s},
  tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}],
  containers: [{name: app, image: "nginx:1.29", resources: {requests: {cpu: 500m, memory: 512Mi}}}]`

func pinned(name, node string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {"+podSpec+"}\n", name, node)
}

func deployment(name string, replicas int, node string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {`, name, replicas) + fmt.Sprintf(podSpec, node) + "}\n"
}

func ready(node string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		n, err := system.Client().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}), nil
	}
}

// patched tells whether a pod of the shop, created as a dry run, comes back with a
// decision.
func patched(ctx context.Context) (bool, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Namespace: shop},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "nginx:1.29"}}},
	}
	created, err := system.Client().CoreV1().Pods(shop).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return false, err
	}
	return created.Annotations[v1alpha1.PolicyAnnotation] != "", nil
}

// admitAll creates pods, one after another, until it is told to stop, and fails when
// more than one in 200 is admitted without a decision. That one is possible: a replica
// that ends closes a connection in the moment in which the API server writes to it,
// and the webhook fails open. Replicas that just ended would lose one in 20.
func admitAll(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var asked, missed int
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			ok, err := patched(ctx)
			if ctx.Err() != nil {
				return
			}
			asked++
			if err != nil || !ok {
				missed++
				t.Logf("pod %d was admitted without a decision (%v)", asked, err)
			}
		}
	})
	return func() {
		t.Helper()
		cancel()
		done.Wait()
		t.Logf("%d pods were admitted meanwhile, %d of them without a decision", asked, missed)
		if missed > 1+asked/200 || asked == 0 {
			t.Errorf("%d of %d pods were admitted without a decision", missed, asked)
		}
	}
}

// copyChart copies the chart, with another version and a CustomResourceDefinition
// that tells it.
func copyChart(t *testing.T, from, to string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "autoburst")
	if err := os.CopyFS(dir, os.DirFS(chart())); err != nil {
		t.Fatal(err)
	}
	replace := func(path, old, with string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), old) {
			t.Fatalf("%s does not contain %q", path, old)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, with)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(filepath.Join(dir, "Chart.yaml"), from, to)
	replace(filepath.Join(dir, "files", "crds", "autoburst.io_burstpolicies.yaml"), "\n  annotations:\n", "\n  annotations:\n    test.autoburst.io/version: changed by "+to+"\n")
	return dir
}

// localOnly wants the pods of the release to wait, rather than run on a virtual node,
// when nothing else is free, even though they tolerate everything.
func localOnly(t *testing.T) {
	tolerant := "--set-json=%s.tolerations=[{\"operator\":\"Exists\"}]"
	both := values(t, virtualNodes(eciNode, aciNode))
	// Who tolerates everything tolerates a cordon, so the local nodes are closed by a
	// label.
	kubectl(t, "", "label", "node", "worker-1", "worker-2", "autoburst.test/closed=true")
	defer func() {
		if _, err := system.Kubectl(context.WithoutCancel(t.Context()), "", "label", "node", "worker-1", "worker-2", "autoburst.test/closed-"); err != nil {
			t.Error(err)
		}
	}()
	closed := "--set-json=%s.affinity={\"nodeAffinity\":{\"requiredDuringSchedulingIgnoredDuringExecution\":{\"nodeSelectorTerms\":[{\"matchExpressions\":[{\"key\":\"autoburst.test/closed\",\"operator\":\"DoesNotExist\"}]}]}}}"
	args := []string{"upgrade", release, chart(), "--values=" + both}
	for _, component := range []string{"controller", "vnode"} {
		args = append(args, fmt.Sprintf(tolerant, component), fmt.Sprintf(closed, component))
	}
	helm(t, args...)
	eventually(t, time.Minute, "a new pod of each Deployment waits for a local node", func(ctx context.Context) (bool, error) {
		list, err := system.Client().CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release})
		if err != nil {
			return false, err
		}
		waiting := 0
		for _, p := range list.Items {
			if p.Spec.NodeName == eciNode || p.Spec.NodeName == aciNode {
				t.Fatalf("pod %s runs on the virtual node %s", p.Name, p.Spec.NodeName)
			}
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonUnschedulable && strings.Contains(c.Message, "affinity") {
					waiting++
				}
			}
		}
		return waiting == 3, nil
	})
	helm(t, "rollback", release, "--timeout=1m")
	eventually(t, time.Minute, "all is as it was", func(ctx context.Context) (bool, error) {
		list, err := system.Client().AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(list.Items, func(d appsv1.Deployment) bool {
			return d.Status.UpdatedReplicas != d.Status.Replicas || d.Status.AvailableReplicas != d.Status.Replicas || d.Status.ObservedGeneration != d.Generation
		}), nil
	})
}

// deployed is the revision that runs.
func deployed(t *testing.T) string {
	t.Helper()
	var history []struct {
		Revision int
		Status   string
	}
	if err := json.Unmarshal([]byte(helm(t, "history", release, "-o", "json")), &history); err != nil {
		t.Fatal(err)
	}
	for _, h := range slices.Backward(history) {
		if h.Status == "deployed" {
			return strconv.Itoa(h.Revision)
		}
	}
	t.Fatalf("no revision is deployed: %v", history)
	return ""
}

// nothingIsLeft wants the cluster and the clouds as they were before the release.
func nothingIsLeft(t *testing.T) {
	t.Helper()
	for _, node := range []string{eciNode, aciNode} {
		if groups, billed := len(system.Groups(node)), system.Billed(node); groups+billed != 0 {
			t.Errorf("the cloud of %s holds %d groups and charges for %d", node, groups, billed)
		}
	}
	if out := kubectl(t, "", "get", "nodes", "-l", "type=virtual-kubelet", "-o", "name"); out != "" {
		t.Errorf("virtual nodes are left: %s", out)
	}
	kinds := "mutatingwebhookconfigurations,mutatingadmissionpolicies,clusterroles,clusterrolebindings,roles,rolebindings,deployments,services,serviceaccounts,poddisruptionbudgets,configmaps,jobs,pods"
	eventually(t, 30*time.Second, "no object of the release is left", func(ctx context.Context) (bool, error) {
		out, err := system.Kubectl(ctx, "", "get", kinds, "-A", "-l", "app.kubernetes.io/instance="+release, "-o", "name")
		if err == nil && out != "" {
			err = fmt.Errorf("left are:\n%s", out)
		}
		return err == nil, err
	})
}
