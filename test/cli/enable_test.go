package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
)

func annotation(t *testing.T, namespace string) string {
	t.Helper()
	return kubectl(t, "", "get", "namespace", namespace, "-o", `jsonpath={.metadata.annotations.autoburst\.io/mode}`)
}

// TestEnable sets and clears the annotation, and says what that means.
func TestEnable(t *testing.T) {
	namespace(t, "switched", "")
	step := func(code int, want, annotated string, args ...string) {
		t.Helper()
		e := plugin(t, args...)
		for word := range strings.SplitSeq(want, "|") {
			if e.code != code || !strings.Contains(e.out+e.errOut, word) {
				t.Errorf("%s ended with %d, want %d and %q in\n%s%s", strings.Join(args, " "), e.code, code, word, e.out, e.errOut)
			}
		}
		if got := annotation(t, "switched"); got != annotated {
			t.Errorf("after %s the mode is %q, want %q", strings.Join(args, " "), got, annotated)
		}
	}
	step(0, "namespace switched (dry run of the client, nothing is changed): its annotation autoburst.io/mode is Overflow", "", "enable", "switched", "--dry-run=client")
	step(0, "(dry run of the server, nothing is changed)|running pods stay where they are", "", "enable", "switched", "--dry-run=server")
	step(0, "its annotation autoburst.io/mode is Overflow; before, it has no annotation|new pods run on local nodes while these have room", "Overflow", "enable", "switched")
	waitServed(t, "switched", "true")
	step(0, "nothing to do", "Overflow", "enable", "switched")
	step(0, "autoburst.io/mode is Always; before, its annotation autoburst.io/mode is Overflow|new pods run on virtual nodes only", "Always", "enable", "switched", "--mode=Always")

	kubectl(t, `
apiVersion: autoburst.io/v1alpha1
kind: BurstPolicy
metadata: {name: own, namespace: switched}
spec: {mode: Auto}
---
apiVersion: autoburst.io/v1alpha1
kind: ClusterBurstPolicy
metadata: {name: stays}
spec: {mode: Never, podSelector: {matchLabels: {app: payments}}, namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: switched}}}
`, "apply", "-f", "-")
	afterwards(t, "", "delete", "clusterburstpolicy", "stays")
	kubectl(t, "", "-n", release, "create", "configmap", "autoburst-switch", "--from-literal=stopped=true")
	step(0, "BurstPolicy own comes before the annotation|warning: ClusterBurstPolicy stays says Never, which wins|warning: all bursting is stopped by ConfigMap autoburst-system/autoburst-switch", "Auto",
		"enable", "switched", "--mode=Auto")
	kubectl(t, "", "-n", release, "delete", "configmap", "autoburst-switch")
	step(0, "it has no annotation autoburst.io/mode; before, its annotation autoburst.io/mode is Auto|BurstPolicy own goes on to let the pods that it selects burst: mode Auto", "", "disable", "switched")
	step(0, "nothing to do", "", "disable", "switched")

	for _, refused := range []string{"kube-system", "kube-node-lease", release} {
		step(2, "error: namespace "+refused+" is never touched", "", "enable", refused)
		if got := annotation(t, refused); got != "" {
			t.Errorf("namespace %s bears the mode %s", refused, got)
		}
	}
	step(1, `error: reading namespace none: namespaces "none" not found`, "", "enable", "none")
	step(1, `error: no installation of Autoburst is found: namespace default does not have its controller`, "", "enable", "switched", "--release-namespace=default")
	step(1, `error: reading namespace switched: namespaces "switched" is forbidden`, "", "enable", "switched", "--as=nobody")
}

// TestNames completes names from the cluster.
func TestNames(t *testing.T) {
	namespace(t, "completed", "")
	kubectl(t, "", "-n", "completed", "create", "deployment", "web", "--image=nginx", "--replicas=0")
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"namespaces":           {[]string{"enable", "compl"}, []string{"completed"}},
		"virtual nodes":        {[]string{"drain", ""}, []string{"virtual-aci", "virtual-eci"}},
		"objects":              {[]string{"explain", "-n", "completed", "deploy/"}, []string{"deploy/web"}},
		"where it is":          {[]string{"check", "--release-namespace", "autob"}, []string{release}},
		"with nothing to read": {[]string{"drain", "--as=nobody", ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := plugin(t, append([]string{"__complete"}, test.args...)...)
			lines := strings.Split(strings.TrimSpace(e.out), "\n")
			got := lines[:len(lines)-1] // the last is an order to the shell
			if e.code != 0 || !slices.Equal(got, test.want) && len(got)+len(test.want) > 0 {
				t.Errorf("ended with %d: offers %q, want %q", e.code, got, test.want)
			}
		})
	}
}

// TestContexts: several kubeconfigs, contexts and users, as kubectl takes them.
func TestContexts(t *testing.T) {
	good, err := clientcmd.LoadFromFile(system.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	current := filepath.Join(dir, "current")
	if err := os.WriteFile(current, []byte(`{apiVersion: v1, kind: Config, current-context: elsewhere, contexts: [{name: elsewhere, context: {cluster: e, user: e}}], clusters: [{name: e, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: e, user: {}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	both := current + ":" + system.Kubeconfig
	if e := pluginAs(t, both, "version"); e.code != 1 || !strings.Contains(e.errOut, "https://127.0.0.1:1 refuses connections") {
		t.Errorf("by the current context it ended with %d: %s%s", e.code, e.out, e.errOut)
	}
	name := slices.Collect(maps.Keys(good.Contexts))[0]
	for _, args := range [][]string{{"--context=" + name}, {"--kubeconfig=" + system.Kubeconfig}, {"--context=" + name, "--as=system:admin", "--as-group=system:masters"}} {
		e := pluginAs(t, both, append([]string{"version"}, args...)...)
		if e.code != 0 || !strings.Contains(e.out, "controller   0.1.0\n") {
			t.Errorf("with %q it ended with %d: %s%s", args, e.code, e.out, e.errOut)
		}
	}
}

// TestVersion tells the versions of all parts.
func TestVersion(t *testing.T) {
	v := answer[struct {
		Client, Chart, Controller, Server string
		Agents                            map[string]string
		Skew                              []string
	}](t, "version", "-o", "json")
	if v.Client == "" || v.Chart != "0.1.0" || v.Controller != "0.1.0" || !strings.HasPrefix(v.Server, "v1.") || len(v.Agents) != 2 || len(v.Skew) > 0 {
		t.Errorf("the versions are %+v", v)
	}
	if e := plugin(t, "version", "--release-namespace=default"); e.code != 0 || !strings.Contains(e.out, fmt.Sprintf("client       %s\n", v.Client)) || !strings.Contains(e.errOut, "warning: no installation of Autoburst is found") {
		t.Errorf("where it is not installed it ended with %d: %s%s", e.code, e.out, e.errOut)
	}
}
