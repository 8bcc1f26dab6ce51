package cluster_test

import (
	"strings"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cluster"
)

// The control plane is the one that everything else is tested on: its version
// is stamped, RBAC and ServiceAccount admission are on, the scheduler and kwok
// do their work, and nothing is left running.
func TestControlPlane(t *testing.T) {
	ctx := t.Context()
	c, err := cluster.Start(ctx, cluster.Options{Dir: t.TempDir(), Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			_ = c.Stop()
		}
	}()
	if limit := 15 * time.Second; c.ServingIn > limit {
		t.Errorf("the API server was ready after %s, want at most %s", c.ServingIn, limit)
	}
	version, err := c.Client().Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version.GitVersion != cluster.Version {
		t.Errorf("server version %s, want %s", version.GitVersion, cluster.Version)
	}
	if err := c.AddNode(ctx, "local-1", "4", "16Gi", 20); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "", "run", "web", "--image=nginx"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "", "wait", "--for=condition=Ready", "pod/web", "--timeout=30s"); err != nil {
		t.Error(err)
	}
	out, err := c.Kubectl(ctx, "", "get", "pod", "web", "-o", "jsonpath={.spec.volumes[*].projected.sources[*].serviceAccountToken.path}")
	if err != nil || out != "token" {
		t.Errorf("ServiceAccount admission mounted %q (%v), want a token", out, err)
	}
	kubeconfig, err := c.ServiceAccountKubeconfig(ctx, "default", "default")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "", "--kubeconfig="+kubeconfig, "get", "secrets"); err == nil || !strings.Contains(err.Error(), "forbidden") {
		t.Errorf("a ServiceAccount without rights read secrets: %v", err)
	}
	var processes []*cluster.Process
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		processes = append(processes, c.Process(name))
	}
	stopped = true
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	for _, p := range processes {
		select {
		case <-p.Done():
		default:
			t.Errorf("%s runs on after Stop", p.Name)
		}
	}
}
