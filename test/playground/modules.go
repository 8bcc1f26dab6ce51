package playground

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/autoburst/autoburst/test/cluster"
)

// buildModule compiles a program that has a module of its own in the folder below
// test, once for each version of its sources. It returns the program and the folder
// of the sources of the module that it is made of.
func buildModule(ctx context.Context, folder, name, of string, out io.Writer) (program, source string, err error) {
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return "", "", err
	}
	module := filepath.Join(root, "test", folder)
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", of)
	list.Dir = module
	list.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	dir, err := list.Output()
	if err != nil {
		return "", "", fmt.Errorf("finding the sources of %s: %w", name, err)
	}
	source = strings.TrimSpace(string(dir))
	files, err := filepath.Glob(filepath.Join(module, "*.go"))
	if err != nil {
		return "", "", err
	}
	hash := sha256.New()
	for _, path := range append(files, filepath.Join(module, "go.sum")) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", "", err
		}
		hash.Write(text)
	}
	program = filepath.Join(root, ".cache", "tools", hex.EncodeToString(hash.Sum(nil)[:8]), name)
	if _, err := os.Stat(program); err == nil {
		return program, source, nil
	}
	fmt.Fprintf(out, "playground: building %s (once)\n", name)
	// The flags are those of the control plane, which has most of it compiled.
	return program, source, cluster.GoBuild{
		Name: name, Dir: module, Env: []string{"CGO_ENABLED=0", "GOWORK=off"},
		Args: []string{"-trimpath", "-ldflags", "-s -w", "-o", program}, Packages: []string{"."},
	}.Run(ctx, out)
}
