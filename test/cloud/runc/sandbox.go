package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
)

// Machine is what the containers of a group have in common.
type Machine struct {
	// Hostname is the name of the machine, Address the IPv4 address at which its
	// containers know it. Empty is none.
	Hostname, Address string
	// Ports are TCP ports at which others reach the machine, if Address is one of this
	// machine's loopback device. Nobody reaches it at any other address.
	Ports []int
	// Hosts are further lines of /etc/hosts, Resolver is the text of
	// /etc/resolv.conf.
	Hosts    []Host
	Resolver string
	// Sysctls are set for all containers.
	Sysctls map[string]string
	Volumes []Volume
}

// Host is a line of /etc/hosts.
type Host struct {
	Address string
	Names   []string
}

// Volume is a folder that containers share. Without files it is empty, and anybody
// may write to it.
type Volume struct {
	Name  string
	Files []File
}

// File is a file of a volume; Path may name folders.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode
}

// Sandbox is the machine of a group of containers: one network, one set of volumes.
// It is safe for concurrent use. Close it.
type Sandbox struct {
	runtime *Runtime
	machine Machine
	dir     string
	network *network
	ports   *publisher

	mu      sync.Mutex
	closed  bool
	running map[*Process]bool
	pending sync.WaitGroup // the processes and their starts
}

// Sandbox makes the machine of a group.
func (r *Runtime) Sandbox(m Machine) (_ *Sandbox, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errors.New("the runtime is closed")
	}
	s := &Sandbox{
		runtime: r, machine: m, running: map[*Process]bool{},
		dir: filepath.Join(r.dir, fmt.Sprintf("sandbox-%d", r.containers.Add(1))),
	}
	if err := s.write(); err != nil {
		return nil, errors.Join(fmt.Errorf("making a sandbox: %w", err), os.RemoveAll(s.dir))
	}
	if s.network, err = newNetwork(m.Address); err != nil {
		return nil, errors.Join(fmt.Errorf("making a sandbox: %w", err), os.RemoveAll(s.dir))
	}
	if s.network.address.IsLoopback() && m.Address != "" {
		if s.ports, err = publish(m.Address, m.Ports, s.Dial); err != nil {
			return nil, errors.Join(fmt.Errorf("making a sandbox: %w", err), s.network.close(), os.RemoveAll(s.dir))
		}
	}
	r.sandboxes[s] = true
	return s, nil
}

// write makes the files that all containers see.
func (s *Sandbox) write() error {
	hosts := strings.Builder{}
	hosts.WriteString("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n")
	if s.machine.Address != "" {
		fmt.Fprintf(&hosts, "%s\t%s\n", s.machine.Address, s.machine.Hostname)
	}
	for _, h := range s.machine.Hosts {
		fmt.Fprintf(&hosts, "%s\t%s\n", h.Address, strings.Join(h.Names, "\t"))
	}
	for name, text := range map[string]string{
		"hosts": hosts.String(), "hostname": s.machine.Hostname + "\n", "resolv.conf": s.machine.Resolver,
	} {
		if err := writeFile(s.etc(name), text, 0o644); err != nil {
			return err
		}
	}
	for _, v := range s.machine.Volumes {
		mode := fs.FileMode(0o755)
		if len(v.Files) == 0 {
			mode = 0o777
		}
		if err := makeFolder(s.volume(v.Name), mode); err != nil {
			return err
		}
		for _, f := range v.Files {
			if !filepath.IsLocal(f.Path) {
				return fmt.Errorf("the file %q is not below its volume %s", f.Path, v.Name)
			}
			if err := writeFile(filepath.Join(s.volume(v.Name), f.Path), string(f.Content), f.Mode); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Sandbox) etc(name string) string { return filepath.Join(s.dir, "etc", name) }

func (s *Sandbox) volume(name string) string { return filepath.Join(s.dir, "volumes", path.Base(name)) }

// Dial connects to a TCP port of the containers.
func (s *Sandbox) Dial(ctx context.Context, port int) (net.Conn, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, net.ErrClosed
	}
	s.pending.Add(1) // the network stays until then
	s.mu.Unlock()
	defer s.pending.Done()
	return s.network.dial(ctx, port)
}

// Close kills every process and removes the machine. It returns when all is gone, and
// may be called twice.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	already := s.closed
	s.closed = true
	for p := range s.running {
		p.Kill()
	}
	s.mu.Unlock()
	var err error
	if s.ports != nil && !already {
		err = s.ports.close() // no connection outlives the containers
	}
	s.pending.Wait()
	if already {
		return nil
	}
	s.runtime.mu.Lock()
	delete(s.runtime.sandboxes, s)
	s.runtime.mu.Unlock()
	return errors.Join(err, s.network.close(), os.RemoveAll(s.dir))
}
