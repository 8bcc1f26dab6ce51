package chart

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	namespace = playground.Namespace
	release   = playground.Release
	eciNode   = playground.ECINode
	aciNode   = playground.ACINode
)

// waitReady is how long a virtual node may take.
const waitReady = time.Minute

var (
	// system is the control plane and the clouds; nothing of the product.
	system *playground.Playground
	// root is that of the repository.
	root string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx, cancel := context.WithCancel(context.Background())
	fail := func(what string, err error) int {
		cancel()
		fmt.Fprintf(os.Stderr, "chart: %s: %v\n", what, err)
		return 1
	}
	var err error
	if root, err = cluster.RepositoryRoot(); err != nil {
		return fail("finding the repository", err)
	}
	dir, err := os.MkdirTemp("", "autoburst-chart-")
	if err != nil {
		return fail("making a folder", err)
	}
	defer os.RemoveAll(dir)
	network, err := newServices(dir)
	if err != nil {
		return fail("listening for the API server", err)
	}
	defer network.close()
	system, err = playground.Start(ctx, playground.Options{
		Progress: os.Stderr, WithoutChart: true, Race: raceEnabled,
		Cloud:   sim.Config{Timing: sim.DefaultTiming().Scaled(0.05)},
		Cluster: cluster.Options{APIServerArgs: []string{"--egress-selector-config-file=" + network.config()}},
	})
	if err != nil {
		return fail("starting the system", err)
	}
	var kubelets []*kubelet
	for i := range 2 {
		k, err := startKubelet(ctx, system.Cluster, filepath.Dir(system.Plugin()), fmt.Sprintf("worker-%d", i+1),
			map[string]string{"topology.kubernetes.io/zone": fmt.Sprintf("zone-%d", i+1)})
		if err != nil {
			return fail("starting a kubelet", err)
		}
		kubelets = append(kubelets, k)
	}
	network.attach(system.Client(), kubelets...)
	if _, err := system.Kubectl(ctx, "", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted",
		"pod-security.kubernetes.io/warn=restricted"); err != nil {
		return fail("labelling the namespace", err)
	}
	code := m.Run()
	if code != 0 {
		system.KeepLogs()
		fmt.Fprintf(os.Stderr, "chart: logs are kept in %s\n", system.Dir)
	}
	cancel()
	for _, k := range kubelets {
		k.wait()
	}
	if err := system.Stop(); err != nil {
		return fail("stopping the system", err)
	}
	return code
}

// virtualNodes are the entries of virtualNodes for the emulated clouds.
func virtualNodes(names ...string) string {
	all := map[string]string{
		eciNode: fmt.Sprintf(`
- name: %s
  provider: eci
  eci: {region: %s, vSwitch: %s, securityGroup: %s, endpoint: "%s"}
  credentials: {existingSecret: eci-credentials}
  env: {ECI_CA_FILE: "%s"}`, eciNode, playground.ECIRegion, playground.ECIVSwitch, playground.ECISecurityGroup, system.ECI.Address, system.ECI.CAFile),
		aciNode: fmt.Sprintf(`
- name: %s
  provider: aci
  aci: {region: %s, resourceGroup: %s, subscriptionId: %s, tenantId: %s, authorityHost: "%s", endpoint: "%[6]s"}
  credentials: {existingSecret: aci-credentials}
  env: {ACI_CA_FILE: "%s"}`, aciNode, playground.ACIRegion, playground.ACIResourceGroup, playground.ACISubscription, playground.ACITenant, system.ACI.URL(), system.ACI.CAFile),
	}
	if len(names) == 0 {
		return "virtualNodes: []\n"
	}
	text := "virtualNodes:"
	for _, name := range names {
		text += all[name]
	}
	return text + "\n"
}

// values writes a values file.
func values(t *testing.T, parts ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(path, []byte(strings.Join(parts, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// chart is the folder of the chart.
func chart() string { return filepath.Join(root, "charts", "autoburst") }

// helm runs Helm in the namespace of the release; it must end well.
func helm(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryHelm(t, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, cause(t))
	}
	return out
}

func tryHelm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	begin := time.Now()
	out, err := system.Helm(t.Context(), append(args, "--namespace="+namespace)...)
	t.Logf("helm %s: %s", strings.Join(args, " "), time.Since(begin).Round(100*time.Millisecond))
	return out, err
}

// cause is what the pods of the namespace say, for a failed test.
func cause(t *testing.T) string {
	t.Helper()
	out, err := system.Kubectl(context.WithoutCancel(t.Context()), "", "--namespace="+namespace, "get", "pods,events", "-o", "wide")
	if err != nil {
		return err.Error()
	}
	return out
}

// kubectl runs kubectl; it must end well.
func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := system.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// plugin runs kubectl-autoburst as the administrator.
func plugin(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), system.Plugin(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+system.Kubeconfig)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func eventually(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(t.Context(), timeout, what, condition); err != nil {
		t.Fatalf("%v\n%s", err, cause(t))
	}
}
