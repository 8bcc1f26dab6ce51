package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/autoburst/autoburst/test/cluster"
)

const gibibyte = 1 << 30

// What must be free, in bytes.
const (
	// A first build leaves this much: modules (1.3 GiB), what the compiler makes of them
	// (1.7 GiB for Kubernetes alone) and the programs.
	roomToBuild = 5 * gibibyte
	// A run writes keys, logs and etcd's data.
	roomToRun = gibibyte / 2
	// The programs of a run take about half of it.
	memoryToRun = 2 * gibibyte
)

// preflight checks what must be there before anything is built, and tells all that is
// wrong at once.
func preflight(ctx context.Context, root string, screen *screen) error {
	var problems []error
	goVersion, goCache, err := goEnvironment(ctx, root)
	if err != nil {
		problems = append(problems, err)
	}
	built := cluster.Built(root)
	for _, place := range []struct {
		what, path string
		need       uint64
	}{
		{"the checkout", root, roomToRun},
		{"the compiler's cache", goCache, roomToBuild},
		{"temporary files", os.TempDir(), roomToRun},
	} {
		if place.path == "" {
			continue
		}
		if built {
			place.need = min(place.need, roomToRun)
		}
		if err := checkRoom(place.what, place.path, place.need); err != nil {
			problems = append(problems, err)
		}
	}
	if err := checkMemory("/proc/meminfo", memoryToRun); err != nil {
		problems = append(problems, err)
	}
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err != nil {
		problems = append(problems, fmt.Errorf("no port can be opened on 127.0.0.1: %w: the loopback interface must be up", err))
	} else {
		l.Close()
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("this machine is not ready, and nothing was started:\n%w", err)
	}
	what := "everything is built already; about 20 seconds"
	if !built {
		what = "a first run builds Kubernetes: about ten minutes on two cores, once"
	}
	screen.progress("demo: %s, %s", goVersion, what)
	return nil
}

// goEnvironment is the version of the go command and its cache.
func goEnvironment(ctx context.Context, root string) (version, cache string, err error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return "", "", errors.New("the go command is not on the PATH: install Go, see https://go.dev/dl")
	}
	cmd := exec.CommandContext(ctx, path, "env", "GOVERSION", "GOCACHE")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("%s env: %w: the Go that go.mod asks for must be installed, or be downloaded by GOTOOLCHAIN=auto", path, err)
	}
	version, cache, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return version, cache, nil
}

// checkRoom looks at the file system of a path, which need not exist yet.
func checkRoom(what, path string, need uint64) error {
	for {
		var fs syscall.Statfs_t
		err := syscall.Statfs(path, &fs)
		if errors.Is(err, syscall.ENOENT) && filepath.Dir(path) != path {
			path = filepath.Dir(path)
			continue
		}
		if err != nil {
			return fmt.Errorf("the disk of %s (%s) cannot be looked at: %w", what, path, err)
		}
		if free := fs.Bavail * uint64(fs.Bsize); free < need {
			return fmt.Errorf("the disk of %s (%s) has %s free, and %s are needed: make room, or 'go clean -cache'", what, path, size(free), size(need))
		}
		return nil
	}
}

// checkMemory reads a file in the form of /proc/meminfo. A system without one is
// taken to have enough.
func checkMemory(file string, need uint64) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil //nolint:nilerr // another kernel
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kilobytes); err == nil && kilobytes*1024 < need {
			return fmt.Errorf("%s of memory are available, and %s are needed: end other programs", size(kilobytes*1024), size(need))
		}
	}
	return nil
}

func size(bytes uint64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/gibibyte) }
