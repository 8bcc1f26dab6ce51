package runc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// victim names the folder in which this program, started by a test, runs a container
// until it is killed.
const victim = "AUTOBURST_TEST_VICTIM"

// cache is where programs are unpacked.
const cache = "../../../.cache/debian"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		fmt.Fprintln(os.Stderr, beKilled(dir))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func beKilled(dir string) error {
	o, err := Programs(context.Background(), cache)
	if err != nil {
		return err
	}
	o.Dir = dir
	r, err := New(o)
	if err != nil {
		return err
	}
	s, err := r.Sandbox(Machine{Hostname: "x"})
	if err != nil {
		return err
	}
	if _, err := s.Start(shell("sleep 601 & sleep 602")); err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "running", r.dir, r.group)
	select {}
}

// What a killed process has left, the next Runtime ends; what a living one has made, it
// leaves alone.
func TestSweep(t *testing.T) {
	living := newRuntime(t)
	neighbour, _ := start(t, newSandbox(t, living, Machine{Hostname: "x"}), shell("sleep 600"))
	dir := filepath.Dir(living.dir)
	doomed := exec.Command(os.Args[0])
	doomed.Env = append(os.Environ(), victim+"="+dir)
	out, err := doomed.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := doomed.Start(); err != nil {
		t.Fatal(err)
	}
	var left Runtime
	if n, err := fmt.Fscanf(out, "running %s %s\n", &left.dir, &left.group); n != 2 || err != nil {
		t.Fatalf("the program to be killed: %v", err)
	}
	left.cgroups = living.cgroups
	if err := doomed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = doomed.Wait()
	alive := 0
	for _, folder := range living.cgroups.folders(left.group + "/container-2") {
		alive = max(alive, len(processes(folder)))
	}
	if alive != 2 {
		t.Errorf("%d processes outlive the program that was killed, want 2", alive)
	}
	r, err := New(Options{Program: living.program, Busybox: living.busybox, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was left has gone", func() error { return gone(&left) })
	if err := probe(neighbour, "true"); err != nil {
		t.Errorf("the container of a living program: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// newRuntime runs containers for a test, and checks that nothing of them remains.
func newRuntime(t *testing.T) *Runtime {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: containers of the emulated clouds by runc, which need root")
	}
	o, err := Programs(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = t.TempDir()
	r, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := gone(r); err != nil {
			t.Error(err)
		}
	})
	return r
}

// gone tells of files, mounts, control groups and processes that remain of a runtime.
func gone(r *Runtime) error {
	var errs []error
	if _, err := os.Stat(r.dir); !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("the files in %s remain: %v", r.dir, err))
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(table), r.dir) {
		errs = append(errs, fmt.Errorf("mounts remain below %s: %v\n%s", r.dir, err, table))
	}
	for _, folder := range r.cgroups.folders(r.group) {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("the control group %s remains: %v", folder, err))
		}
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range commands {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), r.dir) {
			errs = append(errs, fmt.Errorf("the process %s remains: %q", file, line))
		}
	}
	return errors.Join(append(errs, err)...)
}

func newSandbox(t *testing.T, r *Runtime, m Machine) *Sandbox {
	t.Helper()
	s, err := r.Sandbox(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts a container and returns what reads its output to the end.
func start(t *testing.T, s *Sandbox, c Container) (*Process, func() string) {
	t.Helper()
	p, err := s.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	text := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(p.Output()) // a terminal ends with an error
		p.Output().Close()
		text <- string(b)
	}()
	return p, func() string { return <-text }
}

// run runs a container to its end.
func run(t *testing.T, s *Sandbox, c Container) (string, Ending) {
	t.Helper()
	p, output := start(t, s, c)
	await(t, p.Done())
	return output(), p.Ending()
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

func shell(script string) Container {
	return Container{Name: "main", Image: "busybox", Command: []string{"sh", "-c", script}}
}

func with(c Container, change func(*Container)) Container {
	change(&c)
	return c
}

// A container is what it was asked to be.
func TestContainer(t *testing.T) {
	s := newSandbox(t, newRuntime(t), Machine{
		Hostname: "web-0", Address: "10.1.2.3", Hosts: []Host{{"10.9.9.9", []string{"db", "db.local"}}},
		Resolver: "nameserver 10.0.0.10\nsearch shop.svc\n", Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"},
		Volumes: []Volume{
			{Name: "config", Files: []File{{"plain", []byte("p"), 0o644}, {"deep/secret", []byte("s\x00"), 0o400}}},
			{Name: "scratch"},
		},
	})
	volumes := []Mount{{Volume: "config", Path: "/config", ReadOnly: true}, {Volume: "scratch", Path: "/scratch"}}
	tests := map[string]struct {
		container Container
		want      string
		ending    Ending
	}{
		"exit code":         {container: shell("echo out; echo err >&2; exit 7"), want: "out\nerr\n", ending: Ending{ExitCode: 7}},
		"signals to itself": {container: shell("kill -TERM $$; kill -KILL $$; exit 3"), ending: Ending{ExitCode: 3}},
		"command and arguments": {
			container: Container{Image: "registry.example/x/busybox:1.36", Command: []string{"echo", "a  b"}, Args: []string{`"c"`, "$X"}},
			want:      "a  b \"c\" $X\n",
		},
		"environment": {
			container: with(shell("echo $A,$B,$HOSTNAME; pwd"), func(c *Container) {
				c.Env, c.WorkingDir = []string{"A=1", "B=x y", "A=2"}, "/usr/share"
			}),
			want: "2,x y,web-0\n/usr/share\n",
		},
		"files of the machine": {
			container: shell("hostname; grep db /etc/hosts; grep web-0 /etc/hosts; cat /etc/resolv.conf; cat /proc/sys/net/ipv4/ip_unprivileged_port_start"),
			want:      "web-0\n10.9.9.9\tdb\tdb.local\n10.1.2.3\tweb-0\nnameserver 10.0.0.10\nsearch shop.svc\n80\n",
		},
		"volumes": {
			container: with(shell("stat -c '%a %n' /config/* /config/deep/*; wc -c < /config/deep/secret; (echo x > /config/plain) 2>/dev/null || echo read-only; echo y > /scratch/y && echo written"), func(c *Container) {
				c.Mounts = volumes
			}),
			want: "755 /config/deep\n644 /config/plain\n400 /config/deep/secret\n2\nread-only\nwritten\n",
		},
		"part of a volume": {
			container: with(shell("cat /etc/app.conf; ls -d /data"), func(c *Container) {
				c.Mounts = []Mount{{Volume: "config", Path: "/etc/app.conf", SubPath: "plain"}, {Volume: "scratch", Path: "/data", SubPath: "new/one"}}
			}),
			want: "p/data\n",
		},
		"a terminal": {container: with(shell("tty"), func(c *Container) { c.Terminal = true }), want: "/dev/pts/0\r\n"},
		"user": {
			container: with(shell("id -u; id -g; cat /config/deep/secret 2>/dev/null || echo denied"), func(c *Container) {
				c.User, c.Group, c.Mounts = 1000, 3000, volumes
			}),
			want: "1000\n3000\ndenied\n",
		},
		"own root file system": {container: shell("touch /x /bin/x /tmp/x && ls /x /bin/x /tmp/x"), want: "/bin/x\n/tmp/x\n/x\n"},
		"read-only root": {
			container: with(shell("touch /x 2>/dev/null || echo refused; touch /scratch/z /dev/shm/z && echo written"), func(c *Container) {
				c.ReadOnlyRoot, c.Mounts = true, volumes
			}),
			want: "refused\nwritten\n",
		},
		"usual capabilities":   {container: shell("grep CapEff /proc/self/status"), want: "CapEff:\t00000000a80425fb\n"},
		"an added capability":  {container: with(shell("grep CapEff /proc/self/status"), func(c *Container) { c.AddCapabilities = []string{"NET_ADMIN"} }), want: "CapEff:\t00000000a80435fb\n"},
		"dropped capabilities": {container: with(shell("grep CapEff /proc/self/status; chown 1 /tmp 2>/dev/null || echo refused"), func(c *Container) { c.DropCapabilities = []string{"ALL"} }), want: "CapEff:\t0000000000000000\nrefused\n"},
		"all but one": {
			container: with(shell("grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status"), func(c *Container) {
				c.DropCapabilities, c.AddCapabilities, c.NoNewPrivileges = []string{"ALL"}, []string{"CAP_NET_BIND_SERVICE"}, true
			}),
			want: "CapEff:\t0000000000000400\nNoNewPrivs:\t1\n",
		},
		"out of memory": {
			container: with(shell("tail /dev/zero"), func(c *Container) { c.Memory = 32 << 20 }),
			ending:    Ending{ExitCode: 137, OutOfMemory: true},
		},
		"a message": {
			container: with(shell("printf 'no licence' > /dev/termination-log; exit 2"), func(c *Container) { c.MessagePath = "/dev/termination-log" }),
			ending:    Ending{ExitCode: 2, Message: "no licence"},
		},
		"the address": {
			container: shell("httpd -p 10.1.2.3:8080 -h /etc; wget -q -O - http://web-0:8080/hostname; wget -q -O - http://localhost:8080/hostname 2>/dev/null || echo refused"),
			want:      "web-0\nrefused\n",
		},
		"a shell without input ends": {container: Container{Image: "busybox"}},
		"processes of its own":       {container: shell("echo $$; set -- /proc/[0-9]*; echo $#"), want: "1\n1\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, ending := run(t, s, test.container)
			if got != test.want {
				t.Errorf("it printed %q, want %q", got, test.want)
			}
			if diff := cmp.Diff(test.ending, ending); diff != "" {
				t.Errorf("ending (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNotStarted(t *testing.T) {
	r := newRuntime(t)
	s := newSandbox(t, r, Machine{Hostname: "x"})
	for name, test := range map[string]struct {
		container Container
		want      string
	}{
		"no program": {Container{Image: "busybox", Command: []string{"python3"}}, `exec: "python3": executable file not found in $PATH`},
		"no image":   {Container{Image: "postgres"}, `there is no image "postgres"`},
		"a way out": {
			Container{Image: "busybox", Setting: Setting{Mounts: []Mount{{Volume: "v", SubPath: "../../etc", Path: "/x"}}}}, `the sub-path "../../etc" is not below its volume v`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.Start(test.container)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Start(shell("true")); !errors.Is(err, ErrNotStarted) {
		t.Errorf("in a closed sandbox: %v", err)
	}
	if _, err := r.Sandbox(Machine{Volumes: []Volume{{Name: "v", Files: []File{{Path: "../x"}}}}}); err == nil {
		t.Error("a file outside of its volume was written")
	}
}

// Containers of a sandbox share the network and the volumes, and nothing else.
func TestSandbox(t *testing.T) {
	r := newRuntime(t)
	m := Machine{Hostname: "pod", Volumes: []Volume{{Name: "shared"}}}
	one, other := newSandbox(t, r, m), newSandbox(t, r, m)
	mounts := []Mount{{Volume: "shared", Path: "/shared"}}
	web, _ := start(t, one, Container{Image: "nginx:1.27", Setting: Setting{Mounts: mounts}})
	serving := func(s *Sandbox) error {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: s.dialAny}, Timeout: time.Second}
		resp, err := client.Get("http://127.0.0.1:80/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), "Welcome to nginx") {
			return fmt.Errorf("%q, %v", b, err)
		}
		return nil
	}
	eventually(t, "the web server answers", func() error { return serving(one) })
	if err := serving(other); err == nil {
		t.Error("the web server answers in another sandbox")
	}
	const ask = "wget -q -O - http://localhost/ | grep -c Welcome; echo > /shared/mine; ls /shared; ls /tmp"
	if got, _ := run(t, one, with(shell(ask), func(c *Container) { c.Mounts = mounts })); got != "1\nmine\n" {
		t.Errorf("beside the web server: %q", got)
	}
	if got, _ := run(t, other, with(shell(ask), func(c *Container) { c.Mounts = mounts })); !strings.Contains(got, "refused") || !strings.HasSuffix(got, "0\nmine\n") {
		t.Errorf("in another sandbox: %q", got)
	}
	web.Terminate()
	await(t, web.Done())
	if e := web.Ending(); e.ExitCode != 0 {
		t.Errorf("the web server ended with %+v", e)
	}
}

func (s *Sandbox) dialAny(ctx context.Context, _, _ string) (net.Conn, error) { return s.Dial(ctx, 80) }

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not true: %s: %v", what, err)
		}
	}
}

// A machine with an address of this one's loopback device is reached from outside.
func TestPorts(t *testing.T) {
	m := Machine{Hostname: "web", Address: "127.77.0.3", Ports: []int{80, 81}}
	s := newSandbox(t, newRuntime(t), m)
	start(t, s, Container{Image: "nginx:1.27"})
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "the web server is reached", func() error {
		resp, err := client.Get("http://127.77.0.3/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(b), "Welcome") {
			err = fmt.Errorf("it answers %q", b)
		}
		return err
	})
	if resp, err := client.Get("http://127.77.0.3:81/"); err == nil {
		resp.Body.Close()
		t.Error("a port at which nobody listens answers")
	}
	if _, err := s.runtime.Sandbox(m); err == nil || !strings.Contains(err.Error(), "publishing port 80") {
		t.Errorf("the same address twice: %v", err)
	}
	idle, err := net.Dial("tcp", "127.77.0.3:80")
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(idle); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an idle connection: %v", err)
	}
}

// The kernel drops a signal that the first process has not asked for; SIGKILL ends all.
func TestSignals(t *testing.T) {
	s := newSandbox(t, newRuntime(t), Machine{Hostname: "x"})
	deaf, _ := start(t, s, Container{Image: "busybox", Command: []string{"sleep", "600"}})
	polite, output := start(t, s, shell("trap 'echo bye; exit 143' TERM; echo ready; touch /tmp/trap; while :; do sleep 0.05; done"))
	eventually(t, "the trap is set", func() error {
		if cpu, memory := polite.Usage(); cpu <= 0 || memory <= 0 {
			return fmt.Errorf("it has used %s and %d bytes", cpu, memory)
		}
		return probe(polite, "test", "-f", "/tmp/trap")
	})
	for _, p := range []*Process{deaf, polite} {
		p.Terminate()
	}
	await(t, polite.Done())
	if e := polite.Ending(); e.ExitCode != 143 || output() != "ready\nbye\n" {
		t.Errorf("ending %+v", e)
	}
	if err := probe(deaf, "true"); err != nil {
		t.Errorf("a process that minds no signal: %v", err)
	}
	deaf.Kill()
	await(t, deaf.Done())
	if e := deaf.Ending(); e.ExitCode != 137 || e.OutOfMemory {
		t.Errorf("ending %+v", e)
	}
	deaf.Terminate() // and nothing happens
}

func probe(p *Process, args ...string) error {
	c := p.Command(args)
	if err := c.Start(nil, nil); err != nil {
		return err
	}
	if code, err := c.Wait(); code != 0 || err != nil {
		return fmt.Errorf("exit code %d, %w", code, err)
	}
	return nil
}

func TestCommand(t *testing.T) {
	s := newSandbox(t, newRuntime(t), Machine{Hostname: "x"})
	p, _ := start(t, s, with(shell("cd /tmp; exec sleep 600"), func(c *Container) { c.Env, c.User, c.WorkingDir = []string{"A=b c"}, 7, "/var" }))

	c := p.Command([]string{"sh", "-c", `read x; echo "$x|$A|$1"; id -u; pwd; echo last >&2; exit 5`, "sh", " two  words"})
	theirIn, in, errIn := os.Pipe()
	out, theirOut, errOut := os.Pipe()
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	if err := c.Start(theirIn, theirOut); err != nil {
		t.Fatal(err)
	}
	_ = errors.Join(theirIn.Close(), theirOut.Close())
	_, _ = io.WriteString(in, "input\n")
	printed, err := io.ReadAll(out)
	_ = errors.Join(in.Close(), out.Close())
	if code, errWait := c.Wait(); code != 5 || errWait != nil || err != nil || string(printed) != "input|b c| two  words\n7\n/var\nlast\n" {
		t.Errorf("it printed %q and ended with %d, %v, %v", printed, code, errWait, err)
	}

	c = p.Command([]string{"sh", "-c", "tty; stty size; echo $TERM; read x; echo got $x"})
	terminal, err := c.StartTerminal(33, 77)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(terminal, "it\r")
	screen, _ := io.ReadAll(terminal) // ends with an error
	terminal.Close()
	code, err := c.Wait()
	// The terminal prints the input again, at whatever time it comes.
	if got := strings.Replace(string(screen), "it\r\n", "", 1); code != 0 || err != nil || got != "/dev/pts/0\r\n33 77\r\nxterm\r\ngot it\r\n" {
		t.Errorf("the screen says %q, code %d, %v", screen, code, err)
	}

	if err := probe(p, "vim"); !errors.Is(err, ErrNotStarted) || !strings.Contains(err.Error(), `exec: "vim": executable file not found in $PATH`) {
		t.Errorf("a program that is not there: %v", err)
	}
	killed(t, p, "the command", (*Command).Kill)
	if err := probe(p, "true"); err != nil {
		t.Errorf("the container has ended with a command: %v", err)
	}
	killed(t, p, "the container", func(*Command) { p.Kill() })
	await(t, p.Done())
	if err := probe(p, "true"); !errors.Is(err, ErrNotStarted) {
		t.Errorf("in a container that has ended: %v", err)
	}
}

// killed checks that a command ends with what is killed.
func killed(t *testing.T, p *Process, what string, kill func(*Command)) {
	t.Helper()
	c := p.Command([]string{"sleep", "600"})
	if err := c.Start(nil, nil); err != nil {
		t.Fatal(err)
	}
	kill(c)
	if code, err := c.Wait(); code != 137 || err != nil {
		t.Errorf("when %s was killed, the command ended with %d, %v", what, code, err)
	}
}
