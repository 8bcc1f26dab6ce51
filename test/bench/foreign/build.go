// Package foreign runs azure-aci, the virtual node agent that Azure publishes
// for its container instances, against the emulated Azure: a client that nobody
// here has written. Its module is test/bench/azureaci, of its own because it
// needs libraries of 2023.
package foreign

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/autoburst/autoburst/test/cluster"
)

// Version of azure-aci; that of the module's go.mod.
const Version = "v1.6.4"

const program = "github.com/virtual-kubelet/azure-aci/cmd/virtual-kubelet"

// Build returns the path of azure-aci. It compiles it when go.sum of its module
// has changed since the last time: about two minutes on two cores from an empty
// build cache, three seconds from a warm one.
func Build(ctx context.Context, out io.Writer) (string, error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "test", "bench", "azureaci")
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return "", fmt.Errorf("reading the module of azure-aci: %w", err)
	}
	key := sha256.Sum256(sums)
	binary := filepath.Join(root, ".cache", "azureaci", hex.EncodeToString(key[:8]), "azure-aci")
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	// Built aside, so that a build which is cut off leaves nothing behind.
	partial := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(partial)
	if err := (cluster.GoBuild{
		Name: "azure-aci", Dir: source, Env: []string{"CGO_ENABLED=0", "GOWORK=off"},
		Args:     []string{"-trimpath", "-o", partial, "-ldflags", "-s -w -X main.buildVersion=" + Version},
		Packages: []string{program},
	}).Run(ctx, out); err != nil {
		return "", err
	}
	return binary, os.Rename(partial, binary)
}
