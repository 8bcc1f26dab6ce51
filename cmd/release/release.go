package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// programs are what is released, and for what.
var programs = []struct {
	name      string
	platforms []string
	// archived programs are for people: each is in an archive with the license.
	archived bool
}{
	{name: "autoburst", platforms: servers},
	{name: "autoburst-vnode", platforms: servers},
	{name: "kubectl-autoburst", platforms: append(slices.Clone(servers), "darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64"), archived: true},
}

var servers = []string{"linux/amd64", "linux/arm64"}

type release struct {
	root, out, version string
	only               []string
	at                 time.Time
}

func (r *release) make(ctx context.Context) error {
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	out, err := filepath.Abs(r.out)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	built := 0
	for _, p := range programs {
		for _, platform := range p.platforms {
			if len(r.only) > 0 && !slices.Contains(r.only, platform) {
				continue
			}
			built++
			system, arch, _ := strings.Cut(platform, "/")
			path := filepath.Join(out, fmt.Sprintf("%s_%s_%s", p.name, system, arch))
			if system == "windows" {
				path += ".exe"
			}
			if err := r.build(ctx, p.name, system, arch, path); err != nil {
				return err
			}
			if err := r.describe(path); err != nil {
				return err
			}
			if p.archived {
				archive := filepath.Join(out, fmt.Sprintf("%s_%s_%s_%s.tar.gz", p.name, r.version, system, arch))
				if err := r.archive(archive, path, p.name+filepath.Ext(path)); err != nil {
					return fmt.Errorf("archiving %s: %w", path, err)
				}
			}
		}
	}
	if built == 0 {
		return fmt.Errorf("nothing is released for %s", strings.Join(r.only, ", "))
	}
	return checksums(out)
}

func (r *release) build(ctx context.Context, name, system, arch, path string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.version="+r.version, "-o", path, "./cmd/"+name)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+system, "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("building %s for %s/%s: %w\n%s", name, system, arch, err, stderr.Bytes())
	}
	return nil
}

// archive packs a program under its plain name, with the license.
func (r *release) archive(to, program, name string) (err error) {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	packed := tar.NewWriter(compressed)
	for _, file := range []struct {
		name, from string
		mode       fs.FileMode
	}{{name, program, 0o755}, {"LICENSE", filepath.Join(r.root, "LICENSE"), 0o644}} {
		content, err := os.ReadFile(file.from)
		if err != nil {
			return err
		}
		if err := packed.WriteHeader(&tar.Header{
			Name: file.name, Mode: int64(file.mode), Size: int64(len(content)), ModTime: r.at, Format: tar.FormatUSTAR,
		}); err != nil {
			return err
		}
		if _, err := packed.Write(content); err != nil {
			return err
		}
	}
	return errors.Join(packed.Close(), compressed.Close())
}

// checksums writes what sha256sum --check reads.
func checksums(dir string) error {
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var list bytes.Buffer
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256(content), f.Name())
	}
	return os.WriteFile(filepath.Join(dir, "checksums.txt"), list.Bytes(), 0o644)
}
