package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdxlib"
)

const (
	version  = "v9.8.7"
	platform = "linux/amd64"
)

var programs = []string{"autoburst", "autoburst-vnode", "kubectl-autoburst"}

// TestReleases builds twice, here and from the same files elsewhere, and builds
// the images: every program is the same in all three.
func TestReleases(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	here := release(t, root)
	elsewhere := release(t, copied(t, root))
	first, second := read(t, here+"/checksums.txt"), read(t, elsewhere+"/checksums.txt")
	if first != second {
		t.Errorf("two builds of the same sources differ:\n%s\n%s", first, second)
	}
	check(t, here, "sha256sum", "--check", "--strict", "--quiet", "checksums.txt")

	t.Run("programs", func(t *testing.T) {
		for _, p := range programs {
			args := []string{"--version"}
			if p == "kubectl-autoburst" {
				args = []string{"version", "--client"}
			}
			if out := check(t, here, here+"/"+p+"_linux_amd64", args...); !strings.Contains(out, version) {
				t.Errorf("%s calls itself %q, want %s", p, out, version)
			}
			if out := check(t, here, "go", "version", "-m", p+"_linux_amd64"); !strings.Contains(out, "CGO_ENABLED=0") {
				t.Errorf("%s is not static:\n%s", p, out)
			}
		}
	})
	t.Run("archive", func(t *testing.T) {
		files := untar(t, unzip(t, here+"/kubectl-autoburst_"+version+"_linux_amd64.tar.gz"))
		if string(files["kubectl-autoburst"]) != read(t, here+"/kubectl-autoburst_linux_amd64") || len(files["LICENSE"]) == 0 || len(files) != 2 {
			t.Errorf("the archive does not hold the program and the license, but %d files", len(files))
		}
	})
	t.Run("SPDX", func(t *testing.T) {
		for _, p := range programs {
			document, err := json.Read(strings.NewReader(read(t, here+"/"+p+"_linux_amd64.spdx.json")))
			if err != nil {
				t.Fatalf("%s: %v", p, err)
			}
			if err := spdxlib.ValidateDocument(document); err != nil {
				t.Errorf("%s: %v", p, err)
			}
			found := map[string]bool{}
			for _, d := range document.Packages {
				found[d.PackageName] = d.PackageVersion != ""
			}
			if !found["stdlib"] || !found["k8s.io/client-go"] || !found["github.com/autoburst/autoburst/cmd/"+p] {
				t.Errorf("%s: the list lacks the program, stdlib or k8s.io/client-go among %d packages", p, len(found))
			}
		}
	})
	t.Run("Dockerfile", func(t *testing.T) {
		copies := regexp.MustCompile(`(?m)^COPY --chmod=0755 bin/dist/(\S+) `).FindAllStringSubmatch(read(t, root+"/Dockerfile"), -1)
		if len(copies) != len(programs) {
			t.Errorf("it copies %d programs, want %d", len(copies), len(programs))
		}
		for _, c := range copies {
			if _, err := os.Stat(here + "/" + strings.ReplaceAll(c[1], "${TARGETARCH}", "amd64")); err != nil {
				t.Errorf("it copies what a release does not have: %v", err)
			}
		}
	})
	t.Run("images", func(t *testing.T) { images(t, root, here) })
}

// release builds a release from the sources in a folder and returns where it is.
func release(t *testing.T, sources string) string {
	t.Helper()
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", ".", "-root", sources, "-out", out, "-version", version, "-platforms", platform)
	cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building from %s: %v\n%s", sources, err, text)
	}
	return out
}

// copied copies what a program is built from to another folder.
func copied(t *testing.T, root string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "elsewhere")
	list := check(t, root, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	for path := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, path))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(to, filepath.Dir(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, path), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// images builds the images over a base of its own, since the real one is in a
// registry far away, and runs their programs as a container runtime would: with the
// image as their root, as its user.
func images(t *testing.T, root, dist string) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	base := host + "/base:nonroot"
	push(t, base)
	cmd := exec.CommandContext(t.Context(), root+"/cmd/release/images", host+"/autoburst", version, "--platform="+platform)
	// Not the credentials of whoever runs this.
	cmd.Env = append(os.Environ(), "KO_DEFAULTBASEIMAGE="+base, "SOURCE_DATE_EPOCH=1700000000", "DOCKER_CONFIG="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("building the images: %v\n%s", err, stderr.Bytes())
	}
	refs := strings.Fields(string(out))
	if len(refs) != 3 {
		t.Fatalf("it names %d images: %s", len(refs), out)
	}
	for _, test := range []struct {
		image    string
		programs []string
	}{
		{"autoburst", []string{"autoburst", "kubectl-autoburst"}},
		{"autoburst-vnode", []string{"autoburst-vnode"}},
	} {
		t.Run(test.image, func(t *testing.T) {
			ref, err := name.ParseReference(host + "/autoburst/" + test.image + ":" + strings.TrimPrefix(version, "v"))
			if err != nil {
				t.Fatal(err)
			}
			image, err := remote.Image(ref)
			if err != nil {
				t.Fatal(err)
			}
			digest, err := image.Digest()
			if err != nil || !strings.Contains(string(out), digest.String()) {
				t.Errorf("the image that is tagged is %s (%v), which was not told: %s", digest, err, out)
			}
			file, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if got := file.Config; got.User != "65532:65532" || len(got.Entrypoint) != 1 || !strings.HasSuffix(got.Entrypoint[0], "/"+test.image) {
				t.Errorf("user %q, entrypoint %q", got.User, got.Entrypoint)
			}
			if _, err := remote.Get(ref.Context().Tag(strings.ReplaceAll(digest.String(), ":", "-") + ".sbom")); err != nil {
				t.Errorf("the list of what it holds: %v", err)
			}
			files := untar(t, mutate.Extract(image))
			if len(files["etc/ssl/certs/ca-certificates.crt"]) == 0 {
				t.Error("it has no CA certificates")
			}
			for _, p := range test.programs {
				if got, want := sha256.Sum256(files["ko-app/"+p]), sha256.Sum256([]byte(read(t, dist+"/"+p+"_linux_amd64"))); got != want {
					t.Errorf("%s is another than that of the release", p)
				}
				args := "--version"
				if p == "kubectl-autoburst" {
					args = "version --client"
				}
				runIn(t, files, file.Config.Env, p, strings.Fields(args)...)
			}
		})
	}
}

// push makes a base image: CA certificates, a user, nothing else.
func push(t *testing.T, to string) {
	t.Helper()
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for path, text := range map[string]string{
		"etc/ssl/certs/ca-certificates.crt": "not one\n",
		"etc/passwd":                        "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
	} {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: int64(len(text))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := partial.ConfigFile(image)
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	config.Config = v1.Config{User: "65532:65532", Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(to)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
}

// runIn runs a program of an image, found by the image's PATH. With the right to,
// the image is its root and 65532 its user.
func runIn(t *testing.T, files map[string][]byte, env []string, program string, args ...string) {
	t.Helper()
	dir := ""
	for _, variable := range env {
		if list, ok := strings.CutPrefix(variable, "PATH="); ok {
			for d := range strings.SplitSeq(list, ":") {
				if _, ok := files[strings.TrimPrefix(d, "/")+"/"+program]; ok {
					dir = strings.TrimPrefix(d, "/")
				}
			}
		}
	}
	if dir == "" {
		t.Errorf("%s is not in the PATH of %v", program, env)
		return
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, dir, program)
	if err := os.WriteFile(path, files[dir+"/"+program], 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = env
	if os.Getuid() == 0 {
		for d := root; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
			if err := os.Chmod(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Path, cmd.Dir = "/"+dir+"/"+program, "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), version) {
		t.Errorf("%s %v in its image: %v: %s", program, args, err, out)
	}
}

func unzip(t *testing.T, path string) io.ReadCloser {
	t.Helper()
	r, err := gzip.NewReader(strings.NewReader(read(t, path)))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func untar(t *testing.T, r io.ReadCloser) map[string][]byte {
	t.Helper()
	defer r.Close()
	files := map[string][]byte{}
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeReg {
			files[strings.TrimPrefix(filepath.Clean("/"+header.Name), "/")] = content
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// check runs a program that must succeed and returns what it printed.
func check(t *testing.T, dir, program string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, stderr.Bytes()))
	}
	return string(out)
}
