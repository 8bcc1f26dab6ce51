package foreign

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

const node = "azure-aci"

// A client that was written for the real service, by others, and knows only its
// public hosts, lives with the emulated one: its node is ready, a pod runs,
// prints, ends with its exit code, and its group is gone with it.
func TestAzureACI(t *testing.T) {
	ctx := t.Context()
	c, err := cluster.Start(ctx, cluster.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			c.KeepLogs()
			t.Logf("logs are kept in %s", c.Dir)
		}
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	cloud := aci.NewServer(aci.Options{
		Sim:           sim.Config{Timing: sim.DefaultTiming().Scaled(0.05), HostCommands: true},
		Locations:     []string{playground.ACIRegion},
		Applications:  []aci.Application{{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: playground.ACIClientPassword}}}},
		Subscriptions: []aci.Subscription{{ID: playground.ACISubscription, ResourceGroups: []string{playground.ACIResourceGroup}}},
		Settings:      aci.Settings{ARM: aci.PublishedARMLimits(), Provider: aci.PublishedProviderLimits(), Quota: aci.PublishedQuota()},
	})
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	roots := c.Dir + "/azure-ca.crt"
	if err := os.WriteFile(roots, cloud.RootsPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	agent, err := Start(ctx, c, node, Azure{
		Address: strings.TrimPrefix(cloud.URL(), "https://"), CAFile: roots,
		Tenant: playground.ACITenant, Subscription: playground.ACISubscription,
		Client: playground.ACIClient, ClientSecret: playground.ACIClientPassword,
		ResourceGroup: playground.ACIResourceGroup, Region: playground.ACIRegion,
	}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("azure-aci's log ends with:\n%s", agent.Process.Tail(40))
		}
		if err := agent.Stop(); err != nil {
			t.Error(err)
		}
	})

	for name, command := range map[string]string{"web": "echo hello from $WHO; sleep 600", "job": "exit 3"} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"},
			Spec: corev1.PodSpec{
				NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{
					Name: "app", Image: "registry.example.com/tools/sh:1",
					Command: []string{"sh", "-c", command},
					Env:     []corev1.EnvVar{{Name: "WHO", Value: "azure-aci"}},
				}},
			},
		}
		if _, err := c.Client().CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	phase := func(name string) (*corev1.Pod, error) {
		return c.Client().CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
	}
	eventually(t, "the pod web runs", func(context.Context) (bool, error) {
		p, err := phase("web")
		return err == nil && p.Status.Phase == corev1.PodRunning, err
	})
	eventually(t, "the pod job has failed", func(context.Context) (bool, error) {
		p, err := phase("job")
		return err == nil && p.Status.Phase == corev1.PodFailed, err
	})
	if got := len(cloud.Fleet().Groups()); got != 2 {
		t.Errorf("the cloud has %d groups, want 2", got)
	}
	eventually(t, "the log of web is read through the API server", func(ctx context.Context) (bool, error) {
		out, err := c.Kubectl(ctx, "", "logs", "web")
		return strings.Contains(out, "hello from azure-aci"), err
	})
	for _, name := range []string{"web", "job"} {
		if err := c.Client().CoreV1().Pods("default").Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "pods and groups are gone", func(context.Context) (bool, error) {
		for _, name := range []string{"web", "job"} {
			if _, err := phase(name); !apierrors.IsNotFound(err) {
				return false, err
			}
		}
		return len(cloud.Fleet().Groups()) == 0, nil
	})
	for _, e := range cloud.Record().Entries {
		if e.To == nil {
			t.Errorf("group %s is still billed", e.Name)
		}
	}
}

func eventually(t *testing.T, what string, condition func(context.Context) (bool, error)) {
	t.Helper()
	if err := playground.Poll(t.Context(), 90*time.Second, what, condition); err != nil {
		t.Fatal(err)
	}
}
