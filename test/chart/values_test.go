package chart

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/test/cluster"
)

// others are the kinds that the chart renders and other projects define. The API
// server is to take objects of these kinds, and says nothing of what is in them.
var others = map[string]string{
	"ServiceMonitor": "monitoring.coreos.com", "PrometheusRule": "monitoring.coreos.com",
	"Certificate": "cert-manager.io", "Issuer": "cert-manager.io",
}

const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]ss.%[2]s}
spec:
  group: %[2]s
  scope: Namespaced
  names: {kind: %[3]s, plural: %[1]ss}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// TestManifestsAreValid has the API server judge, strictly, all that the chart renders
// with each set of values, hooks and tests included.
func TestManifestsAreValid(t *testing.T) {
	for kind, group := range others {
		plural := strings.ToLower(kind)
		kubectl(t, fmt.Sprintf(definition, plural, group, kind), "apply", "-f", "-")
		kubectl(t, "", "wait", "--for=condition=Established", "crd/"+plural+"s."+group, "--timeout=30s")
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "delete", "crd", plural+"s."+group); err != nil {
				t.Error(err)
			}
		})
	}
	// A pod is refused whose ServiceAccount is not there, which a dry run does not make.
	for _, account := range []string{"valid-autoburst-check", "valid-burst-check"} {
		kubectl(t, "", "--namespace="+namespace, "create", "serviceaccount", account)
		t.Cleanup(func() {
			if _, err := system.Kubectl(context.Background(), "", "--namespace="+namespace, "delete", "serviceaccount", account); err != nil {
				t.Error(err)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(chart(), "ci", "*.yaml"))
	if err != nil || len(files) < 5 {
		t.Fatalf("there are %d sets of values: %v", len(files), err)
	}
	for _, file := range append(files, filepath.Join(chart(), "values.yaml"), filepath.Join(chart(), "values-ha.yaml")) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			manifests := helm(t, "template", "valid", chart(), "--values="+file, "--kube-version=1.36.3")
			kubectl(t, manifests, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--force-conflicts", "-f", "-")
		})
	}
}

// TestHelm3 leads a release through its life by the Helm before, which patches objects
// where Helm 4 applies them.
func TestHelm3(t *testing.T) {
	helm3 := buildHelm3(t)
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), helm3, append(args, "--namespace="+namespace, "--kubeconfig="+system.Kubeconfig)...)
		cmd.Env = append(cmd.Environ(), "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("helm 3 %v: %v: %s\n%s", args, err, out, cause(t))
		}
		return string(out)
	}
	// The CustomResourceDefinitions of the release before are there, and so are those of
	// an administrator who installs them by other means.
	run("install", release, chart(), "--values="+values(t, virtualNodes(eciNode)), "--set=crds.enabled=false,controller.drainSeconds=1", "--wait", "--timeout=3m")
	eventually(t, waitReady, "the virtual node is there", ready(eciNode))
	before := versions(t)
	run("upgrade", release, chart(), "--reuse-values", "--wait", "--timeout=3m")
	if diff := changed(before, versions(t)); diff != nil {
		t.Errorf("an upgrade with the same values changes %v", diff)
	}
	run("upgrade", release, chart(), "--reuse-values", "--set=settings.logLevel=debug", "--wait", "--timeout=3m")
	run("rollback", release, "1", "--wait", "--timeout=3m")
	run("uninstall", release, "--wait", "--timeout=3m")
	nothingIsLeft(t)
}

// buildHelm3 compiles Helm 3 as it is pinned in the module test/helm, once.
func buildHelm3(t *testing.T) string {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	path := filepath.Join(root, ".cache", "tools", "helm3")
	if err := (cluster.GoBuild{
		Name: "helm 3", Dir: filepath.Join(root, "test", "helm"), Env: []string{"CGO_ENABLED=0", "GOWORK=off"},
		Args: []string{"-trimpath", "-o", path}, Packages: []string{"helm.sh/helm/v3/cmd/helm"},
	}).Run(ctx, t.Output()); err != nil {
		t.Fatal(err)
	}
	return path
}
