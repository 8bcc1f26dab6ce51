package runc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
)

// Options say where a Runtime finds its programs and keeps its files.
type Options struct {
	// Program is runc.
	Program string
	// Busybox is a busybox without shared libraries.
	Busybox string
	// Dir holds the files of all containers, in a folder of the Runtime's own; empty is
	// a folder of the system's temporary one, in which the next Runtime finds what a
	// killed process has left. It must be on a file system that has hard links and
	// device files, not on a ramdisk that the system has booted from.
	Dir string
}

// Runtime runs containers. It is safe for concurrent use. Close it.
type Runtime struct {
	program, busybox string
	applets          []string
	dir              string // of the files
	group            string // the cgroup of all containers
	cgroups          cgroups
	containers       atomic.Int64 // made so far

	mu        sync.Mutex
	closed    bool
	sandboxes map[*Sandbox]bool
}

// runtimes counts those that the process has made.
var runtimes atomic.Int64

// New prepares to run containers and ends what processes that are gone have left of
// theirs. It needs root, and makes this process the parent of all orphans among its
// descendants, as containers are children of it that runc has left.
func New(o Options) (*Runtime, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("runc: containers need root")
	}
	groups, err := findCgroups()
	if err != nil {
		return nil, fmt.Errorf("runc: %w", err)
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(os.TempDir(), parent)
	}
	if err := adopt(); err != nil {
		return nil, fmt.Errorf("runc: %w", err)
	}
	self, err := self()
	if err != nil {
		return nil, fmt.Errorf("runc: %w", err)
	}
	if err := sweep(o.Dir, groups); err != nil {
		return nil, fmt.Errorf("runc: %w", err)
	}
	name := self.name() + "-" + strconv.FormatInt(runtimes.Add(1), 10)
	r := &Runtime{
		program: o.Program, dir: filepath.Join(o.Dir, name), group: "/" + parent + "/" + name, cgroups: groups,
		sandboxes: map[*Sandbox]bool{},
	}
	r.busybox = filepath.Join(r.dir, "busybox")
	if err := r.prepare(o.Busybox); err != nil {
		return nil, errors.Join(fmt.Errorf("runc: %w", err), os.RemoveAll(r.dir))
	}
	return r, nil
}

func (r *Runtime) prepare(busybox string) (err error) {
	if r.applets, err = applets(busybox); err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return err
	}
	return writeFile(r.busybox, string(program), 0o755)
}

// state is where runc keeps what it knows of the containers.
func (r *Runtime) state() string { return filepath.Join(r.dir, "state") }

// Close ends every container and removes everything that was made for them.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	var open []*Sandbox
	for s := range r.sandboxes {
		open = append(open, s)
	}
	r.mu.Unlock()
	var errs []error
	for _, s := range open {
		errs = append(errs, s.Close())
	}
	errs = append(errs, r.cgroups.end(r.group), os.RemoveAll(r.dir))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("runc: closing: %w", err)
	}
	// The last one leaves nothing at all; others may still need these.
	_ = os.Remove(filepath.Dir(r.dir))
	for _, folder := range r.cgroups.folders("/" + parent) {
		_ = os.Remove(folder)
	}
	return nil
}
