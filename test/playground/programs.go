package playground

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

// programs are the paths of what the playground runs beside the control plane.
type programs struct{ controller, agent, plugin, helm string }

// buildPrograms compiles the product's programs as they are in the checkout,
// and Helm as it is pinned in tools.mod. The compiler's cache makes the second
// time quick.
func buildPrograms(ctx context.Context, race bool, out io.Writer) (programs, error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return programs{}, err
	}
	cache := filepath.Join(root, ".cache")
	bin := filepath.Join(cache, "bin")
	var flags []string
	if race {
		bin, flags = filepath.Join(cache, "bin-race"), []string{"-race"}
	}
	p := programs{
		controller: filepath.Join(bin, "autoburst"),
		agent:      filepath.Join(bin, "autoburst-vnode"),
		plugin:     filepath.Join(bin, "kubectl-autoburst"),
	}
	fmt.Fprintln(out, "playground: building autoburst, autoburst-vnode and kubectl-autoburst (two minutes at first, seconds after that)")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return programs{}, err
	}
	build := cluster.GoBuild{
		Name: "autoburst", Dir: root, Args: append(flags, "-o", bin+"/"),
		Packages: []string{"./cmd/autoburst", "./cmd/autoburst-vnode", "./cmd/kubectl-autoburst"},
	}
	if err := build.Run(ctx, out); err != nil {
		return programs{}, err
	}
	p.helm, err = buildHelm(ctx, root, cache, out)
	return p, err
}

func buildHelm(ctx context.Context, root, cache string, out io.Writer) (string, error) {
	sums, err := os.ReadFile(filepath.Join(root, "tools.sum"))
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(sums)
	path := filepath.Join(cache, "tools", hex.EncodeToString(key[:8]), "helm")
	if _, err := os.Stat(path); err == nil {
		fmt.Fprintln(out, "helm: built before, taken from .cache")
		return path, nil
	}
	fmt.Fprintln(out, "helm: building (once, about a minute)")
	return path, cluster.GoBuild{
		Name: "helm", Dir: root, Args: []string{"-modfile=tools.mod", "-o", path},
		Packages: []string{"helm.sh/helm/v4/cmd/helm"},
	}.Run(ctx, out)
}
