package runc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Both versions of control groups tell the same, by other files.
func TestCgroups(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"v2/c/cpu.stat": "usage_usec 1500000\nuser_usec 1\n", "v2/c/memory.current": "5000\n",
		"v2/c/memory.stat": "anon 1\ninactive_file 2000\n", "v2/c/memory.events": "low 0\noom 1\noom_kill 2\n",
		"cpu/c/cpuacct.usage": "1500000000\n", "memory/c/memory.usage_in_bytes": "5000\n",
		"memory/c/memory.stat": "inactive_file 7\ntotal_inactive_file 2000\n", "memory/c/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
	} {
		if err := writeFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]cgroups{
		"version 2": {unified: true, mounts: map[string]string{"": filepath.Join(dir, "v2")}},
		"version 1": {mounts: map[string]string{"cpuacct": filepath.Join(dir, "cpu"), "memory": filepath.Join(dir, "memory")}},
	} {
		t.Run(name, func(t *testing.T) {
			if cpu, memory := c.usage("/c"); cpu != 1500*time.Millisecond || memory != 3000 {
				t.Errorf("it has used %s and %d bytes", cpu, memory)
			}
			if n := c.outOfMemory("/c"); n != 2 {
				t.Errorf("%d kills", n)
			}
			if cpu, memory := c.usage("/gone"); cpu != 0 || memory != 0 || c.outOfMemory("/gone") != 0 {
				t.Errorf("a group that has gone has used %s and %d bytes", cpu, memory)
			}
		})
	}
}

func TestHierarchies(t *testing.T) {
	const table = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
	want := map[string]string{
		"cpu": "/sys/fs/cgroup/cpu,cpuacct", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory",
		"xattr": "/sys/fs/cgroup/systemd", "name=systemd": "/sys/fs/cgroup/systemd",
	}
	if diff := cmp.Diff(want, hierarchies(strings.NewReader(table))); diff != "" {
		t.Errorf("mounts (-want +got):\n%s", diff)
	}
}

func TestOwner(t *testing.T) {
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := ownerOf(me.name() + "-3"); !ok || got != me {
		t.Errorf("%s is %+v, want %+v", me.name(), got, me)
	}
	if me.gone() {
		t.Error("this process is gone")
	}
	if other := (owner{me.namespace, me.pid, me.start + 1}); !other.gone() {
		t.Error("an earlier process of the same number lives")
	}
	for _, name := range []string{"", "x", "1-2-3", "a-b-c-d", filepath.Base(os.TempDir())} {
		if o, ok := ownerOf(name); ok {
			t.Errorf("%q is the name of %+v", name, o)
		}
	}
}
