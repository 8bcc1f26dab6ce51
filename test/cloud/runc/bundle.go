package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Container is what to run.
type Container struct {
	Name, Image string
	// Command replaces the image's entry point and command, Args the latter.
	Command, Args []string
	// Env are NAME=VALUE; a later one of a name counts.
	Env []string
	Setting
}

// Setting is where and with which rights the process of a container runs. The zero
// value is root's with the usual rights, without bounds.
type Setting struct {
	// WorkingDir is / if empty.
	WorkingDir string
	// User and Group are numbers; 0 is root.
	User, Group uint32
	// AddCapabilities and DropCapabilities, with or without CAP_, change the usual set
	// of container runtimes; ALL is every one.
	AddCapabilities, DropCapabilities []string
	ReadOnlyRoot, NoNewPrivileges     bool
	// CPU is the share in vCPU, CPULimit the most, Memory the most in bytes; zero bounds
	// nothing.
	CPU, CPULimit float64
	Memory        int64
	Mounts        []Mount
	// Terminal gives the process a terminal.
	Terminal bool
	// MessagePath is a file whose content says how the container ended; empty is none.
	MessagePath string
}

// Mount is a volume, or a part of it, in a container.
type Mount struct {
	Volume, Path, SubPath string
	ReadOnly              bool
}

// usualCapabilities are those that containerd and Docker give a container.
var usualCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// allCapabilities are what ALL adds: those of a container that could do most, which
// this machine may not have itself.
var allCapabilities = append([]string{
	"CAP_DAC_READ_SEARCH", "CAP_LINUX_IMMUTABLE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_PTRACE", "CAP_SYS_NICE", "CAP_SYS_TTY_CONFIG", "CAP_LEASE",
}, usualCapabilities...)

// capabilities are the names in a set; those that are dropped count last.
func capabilities(add, drop []string) []string {
	full := func(name string) string {
		name = strings.ToUpper(name)
		if name != "ALL" && !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		return name
	}
	set := map[string]bool{}
	grant := func(names []string, held bool) {
		for _, name := range names {
			set[name] = held
		}
	}
	grant(usualCapabilities, true)
	for _, list := range []struct {
		names []string
		held  bool
		all   bool
	}{{drop, false, true}, {add, true, true}, {drop, false, false}} {
		for _, name := range list.names {
			switch name = full(name); {
			case name != "ALL":
				set[name] = list.held
			case list.all:
				grant(allCapabilities, list.held)
			}
		}
	}
	var held []string
	for name, has := range set {
		if has {
			held = append(held, name)
		}
	}
	slices.Sort(held)
	return held
}

// usualPath is the search path of an image that sets none.
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// writeBundle makes the folder from which runc runs a container: its configuration
// and its root file system. It returns what is to be run.
func (s *Sandbox) writeBundle(dir, id string, c *Container) (specs.Process, error) {
	var none specs.Process
	i, known := imageOf(c.Image)
	if !known {
		return none, fmt.Errorf("there is no image %q", c.Image)
	}
	if err := s.runtime.makeRoot(filepath.Join(dir, "rootfs"), i); err != nil {
		return none, err
	}
	if err := os.WriteFile(filepath.Join(dir, messageFile), nil, 0o666); err != nil {
		return none, err
	}
	if err := os.Chmod(filepath.Join(dir, messageFile), 0o666); err != nil {
		return none, err
	}
	mounts, err := s.mounts(dir, c)
	if err != nil {
		return none, err
	}
	set := capabilities(c.AddCapabilities, c.DropCapabilities)
	workingDir := c.WorkingDir
	if workingDir == "" {
		workingDir = "/"
	}
	spec := specs.Spec{
		Version:  "1.0.2",
		Hostname: s.machine.Hostname,
		Root:     &specs.Root{Path: "rootfs", Readonly: c.ReadOnlyRoot},
		Mounts:   mounts,
		Process: &specs.Process{
			Terminal:        c.Terminal,
			User:            specs.User{UID: c.User, GID: c.Group},
			Args:            i.arguments(c.Command, c.Args),
			Env:             environment(append([]string{"PATH=" + usualPath, "HOSTNAME=" + s.machine.Hostname}, c.Env...)),
			Cwd:             workingDir,
			NoNewPrivileges: c.NoNewPrivileges,
			Capabilities:    &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set},
		},
		Linux: &specs.Linux{
			CgroupsPath: s.runtime.group + "/" + id,
			Sysctl:      s.machine.Sysctls,
			Resources:   resources(c),
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace, Path: s.network.path()},
			},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	if c.Terminal {
		spec.Process.Env = environment(append(spec.Process.Env, "TERM=xterm"))
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return none, err
	}
	return *spec.Process, os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600)
}

// environment keeps the last variable of each name.
func environment(vars []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		if i, seen := at[name]; seen {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

// cpuPeriod is the usual period of CPU quotas, in microseconds.
const cpuPeriod uint64 = 100_000

func resources(c *Container) *specs.LinuxResources {
	r := &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}}
	if c.Memory > 0 {
		r.Memory = &specs.LinuxMemory{Limit: &c.Memory}
	}
	if c.CPU > 0 || c.CPULimit > 0 {
		r.CPU = &specs.LinuxCPU{}
	}
	if c.CPU > 0 {
		shares := max(uint64(c.CPU*1024), 2)
		r.CPU.Shares = &shares
	}
	if c.CPULimit > 0 {
		period, quota := cpuPeriod, max(int64(c.CPULimit*float64(cpuPeriod)), 1000)
		r.CPU.Period, r.CPU.Quota = &period, &quota
	}
	return r
}

// mounts are the file systems of the kernel, the files of the machine and the volumes.
func (s *Sandbox) mounts(dir string, c *Container) ([]specs.Mount, error) {
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
	}
	bind := func(source, destination string, readOnly bool) {
		options := []string{"rbind", "rprivate"}
		if readOnly {
			options = append(options, "ro")
		}
		list = append(list, specs.Mount{Destination: destination, Type: "bind", Source: source, Options: options})
	}
	for _, name := range []string{"hosts", "hostname", "resolv.conf"} {
		bind(s.etc(name), "/etc/"+name, false)
	}
	if c.MessagePath != "" {
		bind(filepath.Join(dir, messageFile), c.MessagePath, false)
	}
	for _, m := range c.Mounts {
		source := s.volume(m.Volume)
		if m.SubPath != "" {
			if !filepath.IsLocal(m.SubPath) {
				return nil, fmt.Errorf("the sub-path %q is not below its volume %s", m.SubPath, m.Volume)
			}
			source = filepath.Join(source, m.SubPath)
			// One that is not there becomes a folder, as with a kubelet.
			if _, err := os.Stat(source); errors.Is(err, fs.ErrNotExist) {
				if err := os.MkdirAll(source, 0o755); err != nil {
					return nil, err
				}
			}
		}
		bind(source, m.Path, m.ReadOnly)
	}
	return list, nil
}
