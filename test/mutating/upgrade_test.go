package mutating

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// An upgrade of the chart changes the mode both ways, and neither an upgrade nor
// an uninstallation leaves behind what only the other mode has. It comes last, as
// it ends with nothing installed.
func TestUpgradeAndUninstall(t *testing.T) {
	ns := namespace(t, "upgrade", "Always")
	admitted := func(t *testing.T) {
		t.Helper()
		eventually(t, "a pod is granted at admission", func(ctx context.Context) (bool, error) {
			p, err := create(ctx, ns, plain("probe"), true)
			return err == nil && p.Annotations["autoburst.io/grant"] == "Admission", err
		})
	}
	admitted(t)
	checkRights(t)

	reinstall(t, "admission=Webhook")
	present(t, "mutatingwebhookconfigurations")
	absent(t, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "burstadmissions")
	admitted(t)

	reinstall(t, byPolicy)
	present(t, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "burstadmissions")
	absent(t, "mutatingwebhookconfigurations")
	eventually(t, "there is no Service of a webhook", func(ctx context.Context) (bool, error) {
		out, err := ours(ctx, "services")
		return err == nil && !strings.Contains(out, "webhook"), err
	})
	admitted(t)

	// Whoever deletes what the API server decides by gets it back.
	kubectl(t, "", "delete", "burstadmission", playground.Release)
	eventually(t, "the BurstAdmission is back", func(ctx context.Context) (bool, error) {
		out, err := ours(ctx, "burstadmissions")
		return out != "", err
	})
	admitted(t)

	// Pods that are created while the API server decides nothing are granted late.
	kubectl(t, "", "delete", "mutatingadmissionpolicybinding", playground.Release)
	eventually(t, "pods are admitted as they are", func(ctx context.Context) (bool, error) {
		p, err := create(ctx, ns, plain("probe"), true)
		return err == nil && p.Annotations["autoburst.io/policy"] == "", err
	})
	big := plain("big")
	big.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("3") // fits no local node
	mustCreate(t, ns, big)
	if p := wait(t, ns, "big", "runs", running); !virtual(p) || p.Annotations["autoburst.io/grant"] != "Late" {
		t.Errorf("it runs on %s, granted %q", p.Spec.NodeName, p.Annotations["autoburst.io/grant"])
	}

	// As the chart says: without an agent nobody removes what runs in a cloud.
	kubectl(t, "", "--namespace="+ns, "delete", "pod", "big", "--timeout=60s")
	checkLogs(t)
	if _, err := system.Helm(t.Context(), "uninstall", playground.Release, "--namespace="+playground.Namespace, "--wait"); err != nil {
		t.Fatal(err)
	}
	absent(t, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings", "burstadmissions",
		"mutatingwebhookconfigurations", "clusterroles", "clusterrolebindings", "roles", "rolebindings", "deployments", "services", "serviceaccounts")
}

// reinstall upgrades the chart, and replaces the replicas as its Deployment would.
func reinstall(t testing.TB, set string) {
	t.Helper()
	checkLogs(t)
	before := system.Controllers()
	if err := system.InstallChart(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	for range before {
		if _, err := system.StartController(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range before {
		system.RemoveController(c, func(p *cluster.Process) {
			if err := p.Stop(30 * time.Second); err != nil {
				t.Error(err)
			}
		})
	}
	if err := system.WaitWebhook(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ours lists the objects of a kind that belong to the release.
func ours(ctx context.Context, kind string) (string, error) {
	selector := "--selector=app.kubernetes.io/instance=" + playground.Release
	if kind == "burstadmissions" {
		selector = "--selector=app.kubernetes.io/managed-by=autoburst"
	}
	return system.Kubectl(ctx, "", "get", kind, "--all-namespaces", selector, "-o", "name")
}

func present(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		if out, err := ours(t.Context(), kind); err != nil || out == "" {
			t.Errorf("there are no %s (%v)", kind, err)
		}
	}
}

// absent waits for the garbage collector.
func absent(t *testing.T, kinds ...string) {
	t.Helper()
	for _, kind := range kinds {
		eventually(t, "there are no "+kind, func(ctx context.Context) (bool, error) {
			out, err := ours(ctx, kind)
			if err == nil && out != "" {
				err = fmt.Errorf("there is %s", out)
			}
			return err == nil, err
		})
	}
}
