// Package debian gets programs for tests from Debian's packages, without
// installing anything: packages are unpacked below a folder of the cache, so that
// no service starts and nothing on the machine changes.
package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/lockedfile"
)

// A Tree is where packages were unpacked: one folder for each, with the files of
// the package at the places that they would have below the root.
type Tree []string

// Extract downloads the packages in the version that the machine's sources of apt
// offer and unpacks them below dir, each once. It needs no root: where the machine
// has no lists of packages, or old ones, it gets its own. Dependencies are not
// followed, so it serves for programs that need no more than a base system has.
// Concurrent calls, also of other processes, unpack once.
func Extract(ctx context.Context, dir string, packages ...string) (Tree, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// The sandbox of apt has a working directory of its own.
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	unlock, err := lockedfile.MutexAt(filepath.Join(dir, "lock")).Lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var tree Tree
	for _, name := range packages {
		root := filepath.Join(dir, name)
		if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
			err = extract(ctx, dir, name, root)
			if err != nil {
				return nil, fmt.Errorf("getting the Debian package %s: %w", name, err)
			}
		} else if err != nil {
			return nil, err
		}
		tree = append(tree, root)
	}
	return tree, nil
}

// Program returns the file of a program that one of the packages brought.
func (t Tree) Program(name string) (string, error) {
	for _, root := range t {
		for _, bin := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
			file := filepath.Join(root, bin, name)
			if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
				return file, nil
			}
		}
	}
	return "", fmt.Errorf("no program %s in %s", name, strings.Join(t, ", "))
}

// extract leaves root with all files of the package, or without any.
func extract(ctx context.Context, dir, name, root string) error {
	work, err := os.MkdirTemp(dir, "unpacking-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	first := run(ctx, work, "apt-get", "download", name)
	if first != nil {
		// No lists, or lists that name a version which is gone.
		own := []string{
			"-o", "Dir::State::lists=" + filepath.Join(work, "lists"), "-o", "Dir::Cache=" + filepath.Join(work, "cache"),
			"-o", "APT::Sandbox::User=",
		}
		if err := os.MkdirAll(filepath.Join(work, "cache"), 0o755); err != nil {
			return err
		}
		if err := run(ctx, work, "apt-get", append(own, "update")...); err != nil {
			return errors.Join(first, err)
		}
		if err := run(ctx, work, "apt-get", append(own, "download", name)...); err != nil {
			return errors.Join(first, err)
		}
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("apt-get download left %d archives instead of one", len(archives))
	}
	files := filepath.Join(work, "files")
	if err := run(ctx, work, "dpkg-deb", "--extract", archives[0], files); err != nil {
		return err
	}
	return os.Rename(files, root)
}

func run(ctx context.Context, dir, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, out)
	}
	return nil
}
