package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/playground"
)

// annotated is a manifest of one pod with annotations.
func annotated(manifest, annotations string) string {
	return strings.Replace(manifest, "\n  labels:\n", "\n  annotations: {"+annotations+"}\n  labels:\n", 1)
}

// The agent of ACI signs in with nothing but the token of its ServiceAccount, as the
// chart projects it, and a pod chooses by annotation how it runs. What ACI could not
// follow keeps a pod off it.
func TestACIByWorkloadIdentity(t *testing.T) {
	application := func(secrets []aci.Secret, federated ...aci.FederatedCredential) aci.Application {
		return aci.Application{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: secrets, Federated: federated}
	}
	restart := func(ctx context.Context, set ...string) {
		t.Helper()
		system.ACI.RevokeTokens()
		if err := system.InstallChart(ctx, set...); err != nil {
			t.Fatal(err)
		}
		if _, err := system.StartAgent(ctx, aciNode); err != nil {
			t.Fatal(err)
		}
		if err := system.WaitNodeReady(ctx, aciNode); err != nil {
			t.Fatal(err)
		}
	}
	federated, err := system.Federation("autoburst-vnode")
	if err != nil {
		t.Fatal(err)
	}
	system.RemoveAgent(aciNode, endProcess(t))
	system.ACI.PutApplication(application(nil, federated))
	t.Cleanup(func() {
		system.RemoveAgent(aciNode, endProcess(t))
		system.ACI.PutApplication(application([]aci.Secret{{Value: playground.ACIClientPassword}}))
		restart(context.Background())
	})
	restart(t.Context(), "virtualNodes[1].aci.signIn=WorkloadIdentity", "virtualNodes[1].aci.clientId="+playground.ACIClient)

	t.Run("a Spot pod", func(t *testing.T) {
		ns := namespace(t, "spot", nil)
		kubectl(t, annotated(barePod("cheap", podSpec{extra: pinned[aciNode]}), `autoburst.io/aci-priority: Spot`), "--namespace="+ns, "apply", "-f", "-")
		waitPod(t, ns, "cheap", "runs", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
		spot := 0
		for _, g := range system.Groups(aciNode) {
			if s := g.Snapshot().Spec; s.Tags["autoburst-namespace"] == ns && s.Spot {
				spot++
			}
		}
		if spot != 1 {
			t.Errorf("%d Spot groups, want 1", spot)
		}
	})
	t.Run("a misspelt annotation", func(t *testing.T) {
		ns := namespace(t, "misspelt", map[string]string{"autoburst.io/mode": "Always"})
		const n = 3
		for i := range n {
			kubectl(t, annotated(barePod(fmt.Sprintf("web-%d", i), podSpec{}), `autoburst.io/aci-prority: Spot`), "--namespace="+ns, "apply", "-f", "-")
		}
		mustEventually(t, time.Minute, "the pods run on the other cloud", func(ctx context.Context) (bool, error) {
			list, err := client().CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "status.phase=Running,spec.nodeName=" + eciNode})
			if err == nil && len(list.Items) < n {
				err = fmt.Errorf("%d of %d do", len(list.Items), n)
			}
			return err == nil, err
		})
		kubectl(t, annotated(barePod("pinned", podSpec{extra: pinned[aciNode]}), `autoburst.io/aci-prority: Spot`), "--namespace="+ns, "apply", "-f", "-")
		p := waitPod(t, ns, "pinned", "is refused", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
		if want := "metadata.annotations[autoburst.io/aci-prority]"; !strings.Contains(p.Status.Message, want) {
			t.Errorf("the pod says %q, want it to name %s", p.Status.Message, want)
		}
	})
}
