package debian_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/autoburst/autoburst/test/debian"
)

func TestExtract(t *testing.T) {
	dir := t.TempDir()
	tree, err := debian.Extract(t.Context(), dir, "busybox-static")
	if err != nil {
		t.Fatal(err)
	}
	program, err := tree.Program("busybox")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), program, "echo", "it runs").CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "it runs" {
		t.Errorf("busybox said %q, %v", got, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "unpacking-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}

	// What is there already is taken as it is, without apt-get.
	t.Setenv("PATH", "")
	if _, err := debian.Extract(t.Context(), dir, "busybox-static"); err != nil {
		t.Error(err)
	}
}

func TestExtractNothing(t *testing.T) {
	dir := t.TempDir()
	const missing = "autoburst-no-such-package"
	if _, err := debian.Extract(t.Context(), dir, missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("got %v, want an error that names the package", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, missing)); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	if program, err := (debian.Tree{t.TempDir()}).Program("sh"); err == nil {
		t.Errorf("found %s in an empty folder", program)
	}
}
