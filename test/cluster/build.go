package cluster

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// Version is the Kubernetes version of the control plane. It is stamped into
// the binary, as Helm and clients decide by it.
const Version = "v1.36.3"

// Build returns the path of the control plane binary. It compiles the module
// test/controlplane when its sources or go.sum have changed since the last time
// (about six minutes on two cores from an empty build cache) and tells its
// progress on out. Concurrent calls, also of other processes, build once.
func Build(ctx context.Context, out io.Writer) (string, error) {
	root, err := RepositoryRoot()
	if err != nil {
		return "", err
	}
	source := filepath.Join(root, "test", "controlplane")
	key, err := sourceHash(source)
	if err != nil {
		return "", fmt.Errorf("reading the sources of the control plane: %w", err)
	}
	cache := filepath.Join(root, ".cache", "controlplane")
	binary := filepath.Join(cache, key, "controlplane")
	if _, err := os.Stat(binary); err == nil {
		fmt.Fprintln(out, "control plane: built before, taken from .cache")
		return binary, nil
	}
	if err := os.MkdirAll(filepath.Dir(binary), 0o755); err != nil {
		return "", err
	}
	unlock, err := lockedfile.MutexAt(filepath.Join(cache, "lock")).Lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(binary); err == nil { // built while we waited
		return binary, nil
	}
	fmt.Fprintf(out, "control plane: building Kubernetes %s, etcd and kwok (once; about six minutes on two cores)\n", Version)
	if err := compile(ctx, source, binary, out); err != nil {
		return "", fmt.Errorf("building the control plane in %s: %w", source, err)
	}
	return binary, nil
}

// RepositoryRoot is the folder of the go.mod that the working directory belongs
// to.
func RepositoryRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "tools.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", fmt.Errorf("no tools.mod above the working directory: run this inside a checkout of autoburst")
		}
		dir = parent
	}
}

func sourceHash(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return "", err
	}
	h := sha256.New()
	fmt.Fprintln(h, Version)
	for _, name := range files { // Glob sorts
		b, err := os.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, filepath.Base(name), len(b))
		h.Write(b)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// Built tells whether the control plane of the checkout is built already.
func Built(root string) bool {
	key, err := sourceHash(filepath.Join(root, "test", "controlplane"))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(root, ".cache", "controlplane", key, "controlplane"))
	return err == nil
}

func compile(ctx context.Context, source, binary string, out io.Writer) error {
	minor := strings.Split(Version, ".")[1]
	const stamp = "k8s.io/component-base/version."
	partial := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(partial)
	err := GoBuild{
		Name: "control plane", Dir: source, Env: []string{"CGO_ENABLED=0", "GOWORK=off"},
		Args: []string{"-trimpath", "-o", partial, "-ldflags", fmt.Sprintf(
			"-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=1 -X %[1]sgitMinor=%[3]s -X %[1]sgitTreeState=clean", stamp, Version, minor)},
		Packages: []string{"."},
	}.Run(ctx, out)
	if err != nil {
		return err
	}
	return os.Rename(partial, binary)
}

// GoBuild is one run of go build that tells its progress.
type GoBuild struct {
	// Name is what is built, for messages.
	Name string
	// Dir is the folder to build in.
	Dir string
	// Env are variables beside those of this process.
	Env []string
	// Args are the flags of go build, Packages what it builds.
	Args, Packages []string
}

// Run builds. It says how far it is every few seconds, and what it did when it is
// done.
func (b GoBuild) Run(ctx context.Context, out io.Writer) error {
	env := append(os.Environ(), b.Env...)
	list := exec.CommandContext(ctx, "go", slices.Concat([]string{"list", "-deps"}, modFlags(b.Args), b.Packages)...)
	list.Dir, list.Env = b.Dir, env
	var problems strings.Builder
	list.Stderr = &problems
	packages, err := list.Output()
	if err != nil {
		return fmt.Errorf("go list for %s: %w\n%s", b.Name, err, problems.String())
	}
	total := strings.Count(string(packages), "\n")

	build := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-v"}, b.Args, b.Packages)...)
	build.Dir, build.Env = b.Dir, env
	stderr, err := build.StderrPipe()
	if err != nil {
		return err
	}
	start := time.Now()
	if err := startTied(build); err != nil {
		return err
	}
	// With -v the compiler names each package it had to compile.
	var rest []string
	compiled, told := 0, time.Now()
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if line := lines.Text(); strings.ContainsAny(line, " :") {
			rest = append(rest, line)
			continue
		}
		compiled++
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(out, "%s: compiled %d of at most %d packages (%s)\n", b.Name, compiled, total, time.Since(start).Round(time.Second))
		}
	}
	if err := build.Wait(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", b.Name, err, strings.Join(rest, "\n"))
	}
	took := time.Since(start).Round(100 * time.Millisecond)
	if compiled == 0 {
		fmt.Fprintf(out, "%s: nothing to compile, taken from the compiler's cache (%s)\n", b.Name, took)
		return nil
	}
	fmt.Fprintf(out, "%s: compiled %d packages in %s\n", b.Name, compiled, took)
	return nil
}

// modFlags are the flags among those of go build that say which go.mod counts.
func modFlags(args []string) []string {
	return slices.DeleteFunc(slices.Clone(args), func(a string) bool { return !strings.HasPrefix(a, "-mod") })
}
