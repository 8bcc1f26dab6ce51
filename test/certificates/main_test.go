// Package certificates tests where certificates come from, on a real control plane
// and with cert-manager's own controllers: those of the webhook, in the three ways of
// the chart and while they are replaced under load, and those of the agents.
package certificates

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/rights"
)

var (
	// system is shared by the tests of this package, which run one after another.
	system *playground.Playground
	// kubelets is the authority by which the API server knows kubelets.
	kubelets *authority
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "autoburst-certificates-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	kubelets, err = newAuthority("kubelets")
	if err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		return 1
	}
	known := filepath.Join(dir, "kubelets.crt")
	if err := os.WriteFile(known, kubelets.pem(), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "certificates:", err)
		return 1
	}
	defer func() {
		if certManager != nil {
			if err := certManager.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, "certificates: stopping cert-manager:", err)
			}
		}
	}()
	return playground.Suite{Name: "certificates", After: []func(context.Context) error{checkLogs, checkRights}, Options: playground.Options{
		Race: raceEnabled, Controllers: -1, WithoutAgents: true,
		Cloud:   sim.Config{Timing: sim.DefaultTiming().Scaled(0.05), HostCommands: true},
		Cluster: cluster.Options{APIServerArgs: []string{"--kubelet-certificate-authority=" + known}, AuditPolicy: rights.Policy},
	}}.Run(m, &system)
}

func checkLogs(context.Context) error { return system.CheckLogs("PRIVATE KEY") }

// checkRights compares what the programs asked the API server for with what the
// chart lets them ask for. Of the rights that no request needed, those count that are
// for certificates.
func checkRights(context.Context) error {
	return rights.Check(system.AuditLog(), playground.Namespace, rights.Whole(), func(r rights.Right) bool {
		return r.Group == "cert-manager.io" || r.Group == "certificates.k8s.io" || r.Resource == "mutatingwebhookconfigurations" ||
			r.Resource == "secrets" && r.Bound == playground.Namespace
	})
}

func mustEventually(t *testing.T, timeout time.Duration, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(t.Context(), timeout, what, condition); err != nil {
		t.Fatal(err)
	}
}

func kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := system.Kubectl(t.Context(), stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// install upgrades the chart to those values and replaces the replicas of the
// webhook. Arguments are the program's.
func install(t *testing.T, values []string, args ...string) {
	t.Helper()
	for _, c := range system.Controllers() {
		system.RemoveController(c, end(t))
	}
	if err := upgrade(t, values...); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := system.StartController(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(system.Logs(15))
		}
	})
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// upgrade upgrades the chart to those values. The API server waits for the webhook
// longer than by default: what is tested is not how fast this machine is.
func upgrade(t *testing.T, values ...string) error {
	return system.InstallChart(t.Context(), append(values, "webhook.timeoutSeconds=10")...)
}

func end(t *testing.T) func(*cluster.Process) {
	return func(p *cluster.Process) {
		if err := p.Stop(30 * time.Second); err != nil {
			t.Error(err)
		}
	}
}
