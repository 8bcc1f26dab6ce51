package runc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// image is what a container's root file system and its process are made from.
type image struct {
	entrypoint, command []string
	// files are scripts and other texts beside busybox, by path.
	files map[string]string
}

// onTerminate runs a program beside a shell that ends it on SIGTERM: the first
// process of a container gets no signal that it has not asked for.
const onTerminate = "#!/bin/sh\ntrap 'kill $!; exit 0' TERM INT QUIT\n%s &\nwait\n"

// images are the images that really run, by the last part of their name.
var images = map[string]image{
	"busybox": {command: []string{"sh"}},
	"alpine":  {command: []string{"/bin/sh"}},
	"nginx": {
		entrypoint: []string{"/docker-entrypoint.sh"}, command: []string{"nginx", "-g", "daemon off;"},
		files: map[string]string{
			"/docker-entrypoint.sh": "#!/bin/sh\necho '/docker-entrypoint.sh: Configuration complete; ready for start up'\nexec \"$@\"\n",
			// The trap is the shell's, which stays in front of the server.
			"/usr/sbin/nginx":                  fmt.Sprintf(onTerminate, "busybox httpd -f -p 80 -h /usr/share/nginx/html"),
			"/usr/share/nginx/html/index.html": "<!DOCTYPE html>\n<h1>Welcome to nginx!</h1>\n",
		},
	},
	"pause": {
		command: []string{"/pause"},
		files:   map[string]string{"/pause": fmt.Sprintf(onTerminate, "sleep 2147483647")},
	},
}

// Knows tells whether an image really runs: busybox, alpine, nginx and pause, by the
// last part of the name. Each is busybox; nginx is its web server at port 80.
func Knows(reference string) bool {
	_, known := imageOf(reference)
	return known
}

func imageOf(reference string) (image, bool) {
	name, _, _ := strings.Cut(path.Base(reference), ":")
	name, _, _ = strings.Cut(name, "@")
	i, known := images[name]
	return i, known
}

// arguments are the process of a container: its command replaces the image's entry
// point and command, its arguments the latter.
func (i image) arguments(command, args []string) []string {
	switch {
	case len(command) > 0:
		return append(append([]string(nil), command...), args...)
	case len(args) > 0:
		return append(append([]string(nil), i.entrypoint...), args...)
	default:
		return append(append([]string(nil), i.entrypoint...), i.command...)
	}
}

// skeleton are the folders of every image, and passwd and group its users.
var skeleton = []string{
	"", "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "usr/bin", "usr/sbin", "usr/share", "var", "var/log", "var/run",
}

const (
	passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
	group  = "root:x:0:\ntty:x:5:\nnobody:x:65534:\n"
)

// applets asks busybox for the programs that it is.
func applets(busybox string) ([]string, error) {
	out, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its programs: %w", busybox, err)
	}
	return strings.Fields(string(out)), nil
}

// makeRoot makes the root file system of a container. It is a folder of its own, in
// which all may be written; only busybox itself is a link.
func (r *Runtime) makeRoot(root string, i image) error {
	for _, folder := range skeleton {
		if err := makeFolder(filepath.Join(root, folder), 0o755); err != nil {
			return err
		}
	}
	if err := makeFolder(filepath.Join(root, "tmp"), 0o777|fs.ModeSticky); err != nil {
		return err
	}
	if err := os.Link(r.busybox, filepath.Join(root, "bin/busybox")); err != nil {
		return err
	}
	for _, name := range r.applets {
		if err := os.Symlink("busybox", filepath.Join(root, "bin", name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := writeFile(filepath.Join(root, "etc/passwd"), passwd, 0o644); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(root, "etc/group"), group, 0o644); err != nil {
		return err
	}
	for name, text := range i.files {
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := writeFile(filepath.Join(root, name), text, mode); err != nil {
			return err
		}
	}
	return nil
}

// makeFolder makes a folder with exactly that mode, whatever the umask.
func makeFolder(name string, mode fs.FileMode) error {
	if err := os.MkdirAll(name, mode.Perm()); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

// writeFile writes a file with exactly that mode, whatever the umask, and makes the
// folders above it.
func writeFile(name, text string, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}
