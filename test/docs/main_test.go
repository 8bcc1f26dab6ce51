package docs

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// system is what commands and YAML of the documentation meet: Autoburst on a small
// cluster, with what the pages talk about.
var system *playground.Playground

func TestMain(m *testing.M) {
	os.Exit(playground.Suite{Name: "docs", Before: furnish, Options: playground.Options{
		Local: playground.LocalNodes{Count: 1, CPU: "4", Memory: "16Gi", Pods: 20},
		Cloud: sim.Config{Timing: sim.DefaultTiming().Scaled(0.05), HostCommands: true},
	}}.Run(m, &system))
}

// furnish makes what the pages talk about.
func furnish(ctx context.Context) error {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	if _, err := system.Kubectl(ctx, "", "apply", "-f", filepath.Join(root, "test", "docs", "testdata", "cluster.yaml")); err != nil {
		return err
	}
	return playground.Poll(ctx, time.Minute, "the pods of the pages run", func(ctx context.Context) (bool, error) {
		_, err := system.Kubectl(ctx, "", "wait", "-n", "shop", "--for=condition=Ready", "pod", "--all", "--timeout=50s")
		return err == nil, err
	})
}
