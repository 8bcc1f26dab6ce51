package session

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	root := t.TempDir()
	if _, err := Find(root); !errors.Is(err, ErrNone) {
		t.Errorf("without a session: %v, want %v", err, ErrNone)
	}
	unlock, err := lock(root)
	if err != nil {
		t.Fatal(err)
	}
	if err := writePID(root); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(root); err == nil || !strings.Contains(err.Error(), "is still being built or is ending") {
		t.Errorf("while it is built: %v", err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(t.Context(), Options{Root: root, Listener: listener})
	var busy *BusyError
	if !errors.As(err, &busy) || busy.PID != os.Getpid() {
		t.Errorf("a second one: %v, want that process %d runs one", err, os.Getpid())
	}
	if _, err := listener.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port of the second one is still open: %v", err)
	}

	if err := os.WriteFile(published(root), []byte(`{"pid": 1, "url": "http://127.0.0.1:1", "kubeconfig": "/it's here/config", "bin": "/bin"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Find(root)
	if err != nil || p.URL != "http://127.0.0.1:1" {
		t.Errorf("found %+v, %v", p, err)
	}
	want := []string{`export KUBECONFIG='/it'\''s here/config'`, `export PATH=/bin:"$PATH"`}
	if diff := cmp.Diff(want, p.Exports()); diff != "" {
		t.Errorf("exports (-want +got):\n%s", diff)
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", want[0]+`; printf %s "$KUBECONFIG"`).Output()
	if err != nil || string(out) != p.Kubeconfig {
		t.Errorf("a shell reads it as %q, %v", out, err)
	}
	unlock()
	if _, err := Find(root); !errors.Is(err, ErrNone) {
		t.Errorf("after it has ended: %v, want %v", err, ErrNone)
	}
}

// What a session that was killed leaves is removed: the processes of its containers
// and its folder. Whoever else works in the folder, such as a shell, is left alone.
func TestSweep(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "run")
	container := filepath.Join(folder, "containers", "container-1")
	if err := os.MkdirAll(container, 0o755); err != nil {
		t.Fatal(err)
	}
	start := func(dir string) (ended <-chan struct{}) {
		cmd := exec.Command("sleep", "1000")
		cmd.Dir = dir
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = cmd.Wait() // it is killed
		}()
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return done
	}
	ended, shell := start(container), start(folder)
	var out bytes.Buffer
	if err := sweep(folder, &out); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("the process of the container is left")
	}
	select {
	case err := <-shell:
		t.Errorf("a process that works in the folder was ended: %v", err)
	default:
	}
	if _, err := os.Stat(folder); !os.IsNotExist(err) {
		t.Errorf("the folder is left: %v", err)
	}
	if !strings.Contains(out.String(), "1 processes") {
		t.Errorf("it says %q", out.String())
	}
	out.Reset()
	if err := sweep(folder, &out); err != nil || out.Len() > 0 {
		t.Errorf("where nothing is left: %v, %q", err, out.String())
	}
}
