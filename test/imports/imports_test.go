// Package imports checks which package may know which: the rules that keep the
// policy side, the agent and the clouds apart.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/autoburst/autoburst"

// rules says for a package, or for a tree of packages with /..., what may not
// be among its dependencies, direct or not. A path without a dot in its first
// element is one of this module.
var rules = map[string][]string{
	"cmd/autoburst":          {"vnode", "providers/...", virtualKubelet, alibaba, azure},
	"cmd/autoburst-vnode":    {"webhook/...", "policy/store", "policy/controller"},
	"policy/v1alpha1":        {"cmd/...", "policy", "policy/burstable", "policy/store", "policy/controller", "webhook/...", "vnode", "providers/..."},
	"policy/burstable":       {"cmd/...", "policy", "policy/v1alpha1", "policy/store", "policy/controller", "webhook/...", "vnode", "providers/...", clientGo, controllerRuntime, prometheus},
	"policy":                 {"policy/store", "policy/controller", "webhook/...", "vnode", "providers/...", clientGo, controllerRuntime, prometheus},
	"policy/admission":       {"policy/store", "policy/controller", "webhook/...", "vnode", "providers/...", clientGo, controllerRuntime, prometheus},
	"policy/limits":          {"policy/store", "policy/shares", "policy/controller", "webhook/...", "vnode", "providers/...", clientGo, controllerRuntime, prometheus},
	"policy/shares":          {"policy/controller", "webhook/...", "vnode", "providers/...", virtualKubelet, alibaba, azure},
	"policy/store":           {"webhook/...", "vnode", "providers/...", virtualKubelet, alibaba, azure},
	"policy/controller":      {"webhook/...", "vnode", "providers/...", virtualKubelet, alibaba, azure},
	"webhook/...":            {"policy/store", "policy/controller", "vnode", "providers/...", virtualKubelet, alibaba, azure},
	"vnode":                  {"webhook/...", "policy", "policy/store", "policy/controller", "providers/eci", "providers/aci", alibaba, azure},
	"providers":              {"webhook/...", "vnode", "policy", "policy/store", "policy/controller", "providers/eci", "providers/aci", virtualKubelet, alibaba, azure},
	"providers/quota":        {"webhook/...", "vnode", "policy", "policy/store", "policy/controller", "providers/eci", "providers/aci", virtualKubelet, alibaba, azure, clientGo, prometheus},
	"providers/eci":          {"webhook/...", "vnode", "policy", "policy/store", "policy/controller", "providers/aci", virtualKubelet, azure},
	"providers/aci":          {"webhook/...", "vnode", "policy", "policy/store", "policy/controller", "providers/eci", virtualKubelet, alibaba},
	"providers/stream":       {"webhook/...", "vnode", "policy/...", "providers", "providers/eci", "providers/aci", virtualKubelet, alibaba, azure, clientGo, prometheus},
	"providers/providertest": {"webhook/...", "vnode", "policy", "policy/store", "policy/controller", "providers/eci", "providers/aci", virtualKubelet, alibaba, azure},
	"cmd/startup":            {"policy/...", "webhook/...", "vnode", "providers/...", virtualKubelet, alibaba, azure, controllerRuntime, prometheus},
	"test/cloud/...":         {"cmd/...", "policy/...", "webhook/...", "vnode", "providers/..."},
	"policy/metric":          {"cmd/...", "policy", "policy/burstable", "policy/v1alpha1", "policy/store", "policy/controller", "webhook/...", "vnode", "providers/...", clientGo, controllerRuntime, virtualKubelet, alibaba, azure},
	"policy/tracing":         {"cmd/...", "policy", "policy/burstable", "policy/store", "policy/controller", "webhook/...", "vnode", "providers/...", controllerRuntime, virtualKubelet, alibaba, azure},
	"cmd/...":                {"test/..."},

	"cmd/kubectl-autoburst/...": {"webhook/...", "policy/store", "policy/controller", "vnode", "providers/...", virtualKubelet, alibaba, azure, controllerRuntime},
}

const (
	virtualKubelet    = "github.com/virtual-kubelet/virtual-kubelet/..."
	alibaba           = "github.com/aliyun/alibaba-cloud-sdk-go/..."
	azure             = "github.com/Azure/azure-sdk-for-go/..."
	controllerRuntime = "sigs.k8s.io/controller-runtime/..."
	clientGo          = "k8s.io/client-go/..."
	prometheus        = "github.com/prometheus/client_golang/..."
)

// except lists dependencies that a rule's words cover but its sense does not.
var except = map[string]string{
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity": "matching of node affinity, pure",
}

type listed struct {
	ImportPath string
	Deps       []string
}

func TestImportRules(t *testing.T) {
	packages := list(t)
	for pattern, forbidden := range rules {
		matched := false
		for _, p := range packages {
			if !match(absolute(pattern), p.ImportPath) {
				continue
			}
			matched = true
			for _, dep := range p.Deps {
				for _, f := range forbidden {
					if match(absolute(f), dep) && dep != p.ImportPath && except[dep] == "" {
						t.Errorf("%s must not depend on %s (rule %q: not %q); see the table of packages in docs/architecture.md",
							p.ImportPath, dep, pattern, f)
					}
				}
			}
		}
		if !matched {
			t.Errorf("rule %q is for no package", pattern)
		}
	}
}

// Clouds are told apart only in their own packages: everything else that knows
// an SDK would have to be listed here.
func TestSDKsStayAtTheEdge(t *testing.T) {
	direct := map[string][]string{
		alibaba:        {"providers/eci"},
		azure:          {"providers/aci"},
		virtualKubelet: {"vnode", "cmd/autoburst-vnode"},
	}
	for sdk, allowed := range direct {
		for _, p := range listDirect(t) {
			name := strings.TrimPrefix(p.ImportPath, module+"/")
			if strings.HasPrefix(name, "test/") {
				continue
			}
			for _, imported := range p.Deps {
				if match(sdk, imported) && !contains(allowed, name) {
					t.Errorf("%s imports %s: only %v may", p.ImportPath, imported, allowed)
				}
			}
		}
	}
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func absolute(pattern string) string {
	if first, _, _ := strings.Cut(pattern, "/"); strings.Contains(first, ".") {
		return pattern
	}
	return path.Join(module, pattern)
}

func match(pattern, importPath string) bool {
	if tree, ok := strings.CutSuffix(pattern, "/..."); ok {
		return importPath == tree || strings.HasPrefix(importPath, tree+"/")
	}
	return importPath == pattern
}

func list(t *testing.T) []listed {
	t.Helper()
	return goList(t, "-json=ImportPath,Deps")
}

func listDirect(t *testing.T) []listed {
	t.Helper()
	return goList(t, "-f", `{"ImportPath":{{printf "%q" .ImportPath}},"Deps":[{{range $i, $p := .Imports}}{{if $i}},{{end}}{{printf "%q" $p}}{{end}}]}`)
}

func goList(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"list"}, args...), module+"/...")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var packages []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}
