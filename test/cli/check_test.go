package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// report is what these tests read of kubectl autoburst check -o json.
type report struct {
	Result     string
	Categories []struct {
		Name   string
		Checks []struct {
			ID, Result, Message, Hint string
			Details                   []string
		}
	}
}

// found are the results of a report by check: the outcome, then all that is said.
func (r report) found() map[string]string {
	out := map[string]string{}
	for _, c := range r.Categories {
		for _, v := range c.Checks {
			out[v.ID] = v.Result + ": " + strings.Join(append([]string{v.Message}, v.Details...), "\n")
		}
	}
	return out
}

func check(t *testing.T, kubeconfig string, args ...string) (report, int) {
	t.Helper()
	e := pluginAs(t, kubeconfig, append([]string{"check", "-o", "json"}, args...)...)
	var r report
	if err := json.Unmarshal([]byte(e.out), &r); err != nil {
		t.Fatalf("check ended with %d: %v in %s%s", e.code, err, e.out, e.errOut)
	}
	return r, e.code
}

// anything is wanted where an outcome depends on the moment.
const anything = ": "

// wants says of some checks what their outcome begins with and what it says; all
// others must be well. Several words are separated by bars.
type wants map[string]string

// differ is what is not as wanted, one line each.
func (w wants) differ(r report, code int) []string {
	var out []string
	found := r.found()
	failed := false
	for _, id := range slices.Sorted(maps.Keys(found)) {
		failed = failed || strings.HasPrefix(found[id], "error: ")
		want := w[id]
		if want == "" {
			want = "ok: "
		}
		for word := range strings.SplitSeq(want, "|") {
			if !strings.Contains(found[id], word) {
				out = append(out, fmt.Sprintf("%s says %q, want %q", id, found[id], word))
			}
		}
	}
	for id := range w {
		if _, ok := found[id]; !ok {
			out = append(out, id+" was not checked")
		}
	}
	if failed != (code == 1) || code > 1 {
		out = append(out, fmt.Sprintf("it ended with %d", code))
	}
	for _, c := range r.Categories {
		for _, v := range c.Checks {
			if want := "docs/checks.md#" + v.ID; v.Result != "ok" && !strings.HasSuffix(v.Hint, want) || v.Result == "ok" && v.Hint != "" {
				out = append(out, fmt.Sprintf("the hint of %s is %q", v.ID, v.Hint))
			}
		}
	}
	return out
}

// expect checks until the outcomes are as wanted: parts of the system take a moment to
// notice what was done to them.
func expect(t *testing.T, want wants, args ...string) {
	t.Helper()
	expectAs(t, system.Kubeconfig, want, args...)
}

func expectAs(t *testing.T, kubeconfig string, want wants, args ...string) {
	t.Helper()
	var problems []string
	deadline := time.Now().Add(time.Minute)
	for {
		r, code := check(t, kubeconfig, args...)
		if problems = want.differ(r, code); len(problems) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(strings.Join(problems, "\n"))
		}
	}
}

var (
	clusterRoles   = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	configurations = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "mutatingwebhookconfigurations"}
	deployments    = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	definitions    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	nodes          = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	leases         = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
)

// edit changes an object, and afterwards puts the members back that are named, but for
// the status.
func edit(t *testing.T, resource schema.GroupVersionResource, namespace, name string, change func(map[string]any), members ...string) {
	t.Helper()
	objects, err := dynamic.NewForConfig(system.Config())
	if err != nil {
		t.Fatal(err)
	}
	c := dynamic.ResourceInterface(objects.Resource(resource))
	if namespace != "" {
		c = objects.Resource(resource).Namespace(namespace)
	}
	update := func(ctx context.Context, change func(map[string]any), subresources ...string) (before *unstructured.Unstructured) {
		mustPoll(ctx, t, "change "+name, func(ctx context.Context) (bool, error) {
			o, err := c.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			before = o.DeepCopy()
			change(o.Object)
			_, err = c.Update(ctx, o, metav1.UpdateOptions{}, subresources...)
			return err == nil, err
		})
		return before
	}
	var subresources []string
	if slices.Contains(members, "status") {
		subresources = []string{"status"}
	}
	before := update(t.Context(), change, subresources...)
	if len(members) == 0 || len(subresources) > 0 {
		return // whoever keeps it writes it anew
	}
	t.Cleanup(func() {
		update(context.Background(), func(o map[string]any) {
			for _, m := range members {
				if m == "annotations" {
					o["metadata"].(map[string]any)[m] = before.Object["metadata"].(map[string]any)[m]
					continue
				}
				o[m] = before.Object[m]
			}
		})
		// Helm does not take back what belongs to others.
		update(context.Background(), func(o map[string]any) {
			o["metadata"].(map[string]any)["managedFields"] = before.Object["metadata"].(map[string]any)["managedFields"]
		})
	})
}

func mustPoll(ctx context.Context, t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(ctx, 20*time.Second, what, condition); err != nil {
		t.Error(err)
	}
}

// without removes a verb from the rules for a resource.
func without(resource, verb string) func(map[string]any) {
	return func(o map[string]any) {
		for _, r := range o["rules"].([]any) {
			rule := r.(map[string]any)
			if slices.Contains(rule["resources"].([]any), any(resource)) {
				rule["verbs"] = slices.DeleteFunc(rule["verbs"].([]any), func(v any) bool { return v == verb })
				if len(rule["verbs"].([]any)) == 0 {
					rule["verbs"] = []any{"watch"}
				}
			}
		}
	}
}

func hooks(o map[string]any, change func(name string, hook map[string]any)) {
	for _, h := range o["webhooks"].([]any) {
		hook := h.(map[string]any)
		change(hook["name"].(string), hook)
	}
}

func containers(o map[string]any) []any {
	spec := o["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
	return spec["containers"].([]any)
}

const release = playground.Namespace

// TestCheck breaks the parts of a running system. Each check is seen to fail, and to
// be well again.
func TestCheck(t *testing.T) {
	t.Run("nothing is served", func(t *testing.T) {
		expect(t, wants{"admission-answers": "warning: |no namespace is served; kubectl autoburst enable NAMESPACE"})
	})
	namespace(t, "checked", "Overflow")
	expect(t, nil)

	t.Run("what is set wrongly", func(t *testing.T) {
		kubectl(t, "", "-n", release, "create", "configmap", "autoburst-switch", "--from-literal=stopped=true")
		afterwards(t, "", "-n", release, "delete", "configmap", "autoburst-switch")
		edit(t, clusterRoles, "", "autoburst-controller", without("pods/eviction", "create"), "rules")
		edit(t, clusterRoles, "", "autoburst-vnode", without("services", "list"), "rules")
		edit(t, configurations, "", "autoburst", func(o map[string]any) {
			hooks(o, func(name string, hook map[string]any) {
				switch name {
				case "pods.autoburst.io":
					hook["timeoutSeconds"] = int64(10)
				case "namespaces.autoburst.io":
					hook["failurePolicy"] = "Fail"
				case "bindings.autoburst.io":
					hook["namespaceSelector"] = map[string]any{}
				}
			})
		}, "webhooks")
		edit(t, definitions, "", "burstpolicies.autoburst.io", func(o map[string]any) {
			version := o["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
			unstructured.RemoveNestedField(version, "schema", "openAPIV3Schema", "properties", "status", "properties", "moves")
		}, "spec")
		edit(t, deployments, release, "autoburst-vnode-virtual-eci", func(o map[string]any) {
			containers(o)[0].(map[string]any)["image"] = "ghcr.io/autoburst/autoburst-vnode:9.9.9"
		}, "spec")
		edit(t, deployments, release, "autoburst-vnode-virtual-aci", func(o map[string]any) {
			spec := o["spec"].(map[string]any)
			spec["replicas"] = int64(1)
			spec["template"].(map[string]any)["spec"].(map[string]any)["nodeSelector"] = map[string]any{"is": "nowhere"}
		}, "spec")
		edit(t, deployments, release, "autoburst-controller", func(o map[string]any) { o["spec"].(map[string]any)["replicas"] = int64(1) }, "spec")
		kubectl(t, `
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: broken, namespace: checked}
spec: {podSelector: {matchExpressions: [{key: app, operator: In}]}}
---
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: nowhere, namespace: checked}
spec: {podSelector: {matchLabels: {app: nowhere}}, targets: [{name: mars, nodeSelector: {matchLabels: {planet: mars}}}]}
---
apiVersion: autoburst.io/v1alpha1
kind: ClusterBurstPolicy
metadata: {name: nothing}
spec: {podSelector: {matchLabels: {app: nothing}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: checked}}, limits: {pods: 0}}
---
apiVersion: v1
kind: Node
metadata:
  name: virtual-old
  labels: {type: virtual-kubelet}
  annotations: {autoburst.io/capabilities: "{}"}
---
apiVersion: v1
kind: Pod
metadata: {name: astray, namespace: autoburst-system, labels: {app.kubernetes.io/instance: autoburst}}
spec: {nodeName: virtual-eci, containers: [{name: a, image: nginx}], tolerations: [{operator: Exists}]}
`, "apply", "-f", "-")
		afterwards(t, "", "delete", "node/virtual-old", "clusterburstpolicy/nothing")
		afterwards(t, "", "-n", release, "delete", "pod", "astray", "--wait=false")
		afterwards(t, "", "-n", "checked", "delete", "burstpolicy", "broken", "nowhere")
		kubectl(t, "", "cordon", playground.ACINode)
		afterwards(t, "", "uncordon", playground.ACINode)

		expect(t, wants{
			"kill-switch":           "warning: |ConfigMap autoburst-system/autoburst-switch",
			"controller-rights":     "error: ServiceAccount autoburst-system/autoburst-controller may not create pods/eviction: no pod is moved back",
			"agent-rights":          "error: ServiceAccount autoburst-system/autoburst-vnode may not list services",
			"webhook-configuration": "error: |namespaces.autoburst.io of MutatingWebhookConfiguration autoburst has failurePolicy Fail|pods.autoburst.io of MutatingWebhookConfiguration autoburst has timeoutSeconds 10|bindings.autoburst.io of MutatingWebhookConfiguration autoburst is asked for namespaces that are not served|is asked for namespace kube-system",
			"crds-current":          "warning: |burstpolicies.autoburst.io|it lacks .status.moves",
			"version-skew":          "warning: the agent of virtual node virtual-eci is 9.9.9",
			"agent-replicas":        "error: |virtual node virtual-aci: Deployment autoburst-system/autoburst-vnode-virtual-aci has 0 of 1 replicas available|Unschedulable",
			"controller-replicas":   "warning: the controller has one replica",
			"controller-placement":  "error: pod astray of Autoburst runs on virtual node virtual-eci",
			"policies-ready":        "error: |BurstPolicy checked/broken: Invalid|BurstPolicy checked/nowhere: UnknownTargets",
			"policy-targets":        "warning: |BurstPolicy checked/nowhere: NoVirtualNode",
			"policy-limits":         "warning: ClusterBurstPolicy nothing: LimitReached",
			"virtual-nodes":         "error: node virtual-old is left over|kubectl delete node virtual-old",
			"virtual-nodes-ready":   "error: |virtual node virtual-old is lost|virtual node virtual-aci is cordoned",
			"virtual-node-taints":   "error: virtual node virtual-old has no hard taint",
			"agent-leases":          "error: virtual node virtual-old has no Lease",
		})
		e := plugin(t, "check", "-o", "short")
		if e.code != 1 || !strings.Contains(e.out, "× node virtual-old is left over") || !strings.Contains(e.out, "/docs/checks.md#virtual-nodes\n") || strings.Contains(e.out, "√") {
			t.Errorf("ended with %d:\n%s%s", e.code, e.out, e.errOut)
		}
		t.Log("\n" + e.out)
	})
	expect(t, nil)

	t.Run("agents that are gone", func(t *testing.T) {
		system.RemoveAgent(playground.ACINode, stop(t))
		system.RemoveAgent(playground.ECINode, stop(t))
		kubectl(t, "", "delete", "node", playground.ECINode)
		edit(t, leases, "kube-node-lease", playground.ACINode, func(o map[string]any) {
			o["spec"].(map[string]any)["renewTime"] = time.Now().Add(-10 * time.Minute).UTC().Format("2006-01-02T15:04:05.000000Z")
		})
		edit(t, nodes, "", playground.ACINode, func(o map[string]any) {
			for _, c := range o["status"].(map[string]any)["conditions"].([]any) {
				if condition := c.(map[string]any); condition["type"] == "CapacityAvailable" {
					condition["status"], condition["reason"], condition["message"] = "False", "QuotaExceeded", "The account has no quota left."
				}
			}
		}, "status")
		edit(t, nodes, "", playground.ACINode, func(o map[string]any) { o["spec"].(map[string]any)["taints"] = []any{} })
		expect(t, wants{
			"virtual-nodes":       "error: node virtual-eci is missing",
			"agent-replicas":      "error: |the agents of virtual node virtual-aci are scaled to 0|virtual-eci",
			"agent-leases":        "error: the Lease of virtual node virtual-aci was renewed |no agent keeps it",
			"cloud-quota":         "warning: the cloud of virtual node virtual-aci has no room: QuotaExceeded",
			"admission-answers":   anything, // no virtual node is left once Kubernetes takes this one for lost
			"virtual-nodes-ready": anything,
			"virtual-node-taints": "error: virtual node virtual-aci has no hard taint",
		})

		startAgent(t, playground.ACINode)
		startAgent(t, playground.ECINode, "ECI_SECRET_KEY=wrong")
		expect(t, wants{
			"virtual-nodes-ready": "error: virtual node virtual-eci is not ready: CloudUnauthorized",
			"cloud-credentials":   "error: the cloud of virtual node virtual-eci does not take the agent's credentials or settings: CloudUnauthorized",
		})
		system.RemoveAgent(playground.ECINode, stop(t))
		kubectl(t, "", "delete", "node", playground.ECINode)
		startAgent(t, playground.ECINode, "ECI_ENDPOINT=127.0.0.1:1")
		expect(t, wants{
			"virtual-nodes-ready": "error: virtual node virtual-eci is not ready: CloudUnavailable",
			"cloud-reachable":     "error: the cloud of virtual node virtual-eci does not answer as it should: CloudUnavailable",
		})
		system.RemoveAgent(playground.ECINode, stop(t))
		startAgent(t, playground.ECINode)
	})
	expect(t, nil)

	t.Run("controllers that are gone", func(t *testing.T) {
		for _, c := range system.Controllers() {
			system.RemoveController(c, stop(t))
		}
		gone := wants{
			"controller-replicas": "error: Deployment autoburst-system/autoburst-controller is scaled to 0",
			"controller-leader":   "error: no controller is elected",
			"admission-answers":   "error: a pod of namespace checked, created as a dry run, was admitted as it is, though Namespace decides for it",
		}
		with := func(more wants) wants {
			all := maps.Clone(gone)
			maps.Copy(all, more)
			return all
		}
		t.Run("labels", func(t *testing.T) {
			if err := system.CreateNamespace(t.Context(), "unlabelled", map[string]string{"autoburst.io/mode": "Always"}); err != nil {
				t.Fatal(err)
			}
			afterwards(t, "", "delete", "namespace", "unlabelled", "--wait=false")
			kubectl(t, "", "label", "namespace", "default", "autoburst.io/served=true")
			afterwards(t, "", "label", "namespace", "default", "autoburst.io/served-")
			expect(t, with(wants{
				"namespaces-served": "error: |namespace unlabelled is opted in and has no label autoburst.io/served=true|namespace default has the label autoburst.io/served, and neither its annotation nor a policy opts it in",
			}))
		})
		t.Run("a leader that is dead", func(t *testing.T) {
			edit(t, leases, release, "autoburst-controller", func(o map[string]any) {
				spec := o["spec"].(map[string]any)
				spec["holderIdentity"], spec["renewTime"] = "ghost", time.Now().Add(-10*time.Minute).UTC().Format("2006-01-02T15:04:05.000000Z")
			}, "spec")
			expect(t, with(wants{"controller-leader": "error: the elected controller ghost is dead: Lease autoburst-system/autoburst-controller"}))
		})
		bundle := func(pem []byte) func(map[string]any) {
			return func(o map[string]any) {
				hooks(o, func(_ string, hook map[string]any) {
					hook["clientConfig"].(map[string]any)["caBundle"] = base64.StdEncoding.EncodeToString(pem)
				})
			}
		}
		t.Run("another authority", func(t *testing.T) {
			edit(t, configurations, "", "autoburst", bundle(authority(t, 24*time.Hour)), "webhooks")
			expect(t, with(wants{"webhook-certificate": "error: |does not vouch for the certificate in Secret autoburst-system/autoburst-webhook-ca|expires on"}))
		})
		t.Run("an authority that has expired", func(t *testing.T) {
			edit(t, configurations, "", "autoburst", bundle(authority(t, -time.Hour)), "webhooks")
			expect(t, with(wants{"webhook-certificate": "error: |has expired on"}))
		})
		t.Run("no cert-manager where there should be", func(t *testing.T) {
			edit(t, configurations, "", "autoburst", func(o map[string]any) {
				o["metadata"].(map[string]any)["annotations"].(map[string]any)["cert-manager.io/inject-ca-from"] = "autoburst-system/webhook"
			}, "annotations")
			expect(t, with(wants{"webhook-certificate": "error: Certificate autoburst-system/webhook, from which cert-manager is to take the caBundle, is missing"}))
		})
		t.Run("a Service without endpoints", func(t *testing.T) {
			edit(t, configurations, "", "autoburst", func(o map[string]any) {
				hooks(o, func(_ string, hook map[string]any) {
					config := hook["clientConfig"].(map[string]any)
					delete(config, "url")
					config["service"] = map[string]any{"namespace": release, "name": "autoburst-webhook"}
				})
			}, "webhooks")
			expect(t, with(wants{"webhook-service": "error: Service autoburst-system/autoburst-webhook of the webhook has no ready endpoint"}))
		})
		t.Run("nothing to ask", func(t *testing.T) {
			kubectl(t, "", "-n", release, "delete", "secret", "autoburst-webhook-ca")
			expect(t, with(wants{"webhook-certificate": "error: Secret autoburst-system/autoburst-webhook-ca with the webhook's certificate is missing"}))
			kubectl(t, "", "delete", "mutatingwebhookconfiguration", "autoburst")
			expect(t, with(wants{"webhook-configuration": "error: MutatingWebhookConfiguration autoburst is missing"}))
		})
		t.Run("by the API server", func(t *testing.T) {
			if err := system.InstallChart(t.Context(), "admission=MutatingAdmissionPolicy"); err != nil {
				t.Fatal(err)
			}
			expect(t, with(wants{"admission-policy": "error: BurstAdmission autoburst is missing"}))
			kubectl(t, "", "delete", "mutatingadmissionpolicybinding", "autoburst")
			expect(t, with(wants{"admission-policy": "error: MutatingAdmissionPolicyBinding autoburst is missing"}))
			kubectl(t, "", "delete", "mutatingadmissionpolicy", "autoburst")
			expect(t, with(wants{"admission-policy": "error: MutatingAdmissionPolicy autoburst is missing"}))
		})
		t.Run("a kind that is missing", func(t *testing.T) {
			kubectl(t, "", "delete", "crd", "burstadmissions.autoburst.io")
			expect(t, wants{"crds-installed": "error: CustomResourceDefinition burstadmissions.autoburst.io is missing"})
		})
		if err := system.InstallChart(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := system.StartController(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if err := system.WaitWebhook(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	expect(t, nil, "--wait=1m")
}

// authority is the certificate of a new one, as PEM, that ends in that time.
func authority(t *testing.T, life time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(life), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// stop ends a program as an operator would.
func stop(t *testing.T) func(*cluster.Process) {
	return func(p *cluster.Process) {
		if err := p.Stop(30 * time.Second); err != nil {
			t.Error(err)
		}
	}
}

func startAgent(t *testing.T, node string, env ...string) {
	t.Helper()
	if _, err := system.StartAgent(t.Context(), node, env...); err != nil {
		t.Fatal(err)
	}
}
