package vnode

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	vkapi "github.com/virtual-kubelet/virtual-kubelet/node/api"

	"github.com/autoburst/autoburst/providers"
)

// connectingCloud is a memoryCloud with containers that can be connected to.
type connectingCloud struct {
	*memoryCloud
	mu       sync.Mutex
	commands []providers.ExecCommand
	// play is the command, or the container, at the other end.
	play func(net.Conn)
	// refuse, if set, is the answer to Exec; attachRefused that to Attach.
	refuse, attachRefused error
	// toldEnd is whether the cloud passes the end of the input on.
	toldEnd bool
}

var _ providers.Executor = (*connectingCloud)(nil)

func (c *connectingCloud) Exec(_ context.Context, id, container string, command providers.ExecCommand) (providers.Session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != "g-uid-web" || container != "app" {
		return nil, fault(providers.NotFound, "NoSuchContainer")
	}
	c.commands = append(c.commands, command)
	if c.refuse != nil {
		return nil, c.refuse
	}
	return c.session(), nil
}

func (c *connectingCloud) Attach(context.Context, string, string) (providers.Session, error) {
	if c.attachRefused != nil {
		return nil, c.attachRefused
	}
	return c.session(), nil
}

func (c *connectingCloud) session() providers.Session {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		c.play(theirs)
	}()
	return pipeSession{ours, c.toldEnd}
}

type pipeSession struct {
	net.Conn
	told bool
}

func (s pipeSession) CloseWrite() (bool, error) {
	if s.told {
		_, err := s.Write([]byte{4})
		return true, err
	}
	return false, nil
}

// prints is a command that prints a text and ends.
func prints(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// waits is a command that says that it has begun, and ends when it is left.
func waits(c net.Conn) {
	_, _ = io.WriteString(c, "begun\n")
	_, _ = io.Copy(io.Discard, c)
}

// kubectlClient is what an exec or attach has for a client.
type kubectlClient struct {
	stdin          io.Reader
	stdout, stderr *text
	tty            bool
	tells          []vkapi.TermSize
	sizes          chan vkapi.TermSize
}

func (c *kubectlClient) Stdin() io.Reader              { return c.stdin }
func (c *kubectlClient) TTY() bool                     { return c.tty }
func (c *kubectlClient) Resize() <-chan vkapi.TermSize { return c.sizes }
func (c *kubectlClient) Stdout() io.WriteCloser        { return c.stdout.orNil() }
func (c *kubectlClient) Stderr() io.WriteCloser        { return c.stderr.orNil() }

// text is an output of a client.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *text) orNil() io.WriteCloser {
	if t == nil {
		return nil
	}
	return t
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) Close() error { return nil }

func (t *text) String() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// connected is a bed with a pod that runs.
func connected(t *testing.T) (*bed, *connectingCloud) {
	b := newBed(t)
	cloud := &connectingCloud{memoryCloud: b.cloud, play: prints("")}
	b.provider = cloud
	b.start()
	b.create(testPod("web"))
	b.groups("g-uid-web")
	b.cloud.set("g-uid-web", running("app"))
	b.phase("web", "Running")
	return b, cloud
}

func (b *bed) target() *target {
	b.Helper()
	t, err := b.agent.findRunning("default", "web", "app")
	if err != nil {
		b.Fatal(err)
	}
	return t
}

func TestExec(t *testing.T) {
	const note = "autoburst: the command has ended; ECI does not tell its exit code\n"
	for name, test := range map[string]struct {
		play           func(net.Conn)
		client         *kubectlClient
		want           providers.ExecCommand
		stdout, stderr string
	}{
		"output": {
			play: prints("out\n"), client: &kubectlClient{stdout: &text{}, stderr: &text{}},
			want: providers.ExecCommand{Command: []string{"ls", "-a"}}, stdout: "out\n", stderr: note,
		},
		"errors only": {
			play: prints("out\n"), client: &kubectlClient{stderr: &text{}},
			want: providers.ExecCommand{Command: []string{"ls", "-a"}}, stderr: "out\n" + note,
		},
		"input": {
			play: func(c net.Conn) {
				b := make([]byte, 5)
				_, _ = io.ReadFull(c, b)
				_, _ = c.Write(b)
			},
			client: &kubectlClient{stdin: strings.NewReader("hello"), stdout: &text{}, stderr: &text{}},
			want:   providers.ExecCommand{Command: []string{"ls", "-a"}, Stdin: true}, stdout: "hello", stderr: note,
		},
		"terminal": {
			play: func(c net.Conn) {
				<-time.After(time.Second) // all sizes are taken meanwhile
				prints("out\r\n")(c)
			},
			client: &kubectlClient{tty: true, stdout: &text{}, tells: []vkapi.TermSize{{Width: 120, Height: 40}, {Width: 1, Height: 1}, {Width: 2, Height: 2}}},
			want:   providers.ExecCommand{Command: []string{"ls", "-a"}, TTY: true, Size: providers.TerminalSize{Rows: 40, Columns: 120}}, stdout: "out\r\n",
		},
		"terminal of no size": {
			play: prints("out\r\n"), client: &kubectlClient{tty: true, stdout: &text{}},
			want: providers.ExecCommand{Command: []string{"ls", "-a"}, TTY: true}, stdout: "out\r\n",
		},
	} {
		bubble(t, name, func(t *testing.T) {
			b, cloud := connected(t)
			cloud.play = test.play
			test.client.sizes = make(chan vkapi.TermSize)
			go func() {
				for _, s := range test.client.tells {
					test.client.sizes <- s
				}
			}()
			if err := b.agent.exec(t.Context(), cloud, b.target(), []string{"ls", "-a"}, test.client); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]providers.ExecCommand{test.want}, cloud.commands); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
			if got := test.client.stdout.String(); got != test.stdout {
				t.Errorf("standard output %q, want %q", got, test.stdout)
			}
			if got := test.client.stderr.String(); got != test.stderr {
				t.Errorf("standard error %q, want %q", got, test.stderr)
			}
		})
	}
}

func TestExecFails(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b, cloud := connected(t)
		client := func() *kubectlClient { return &kubectlClient{stdout: &text{}, stderr: &text{}} }
		cloud.refuse = fault(providers.Unsupported, "")
		if err := b.agent.exec(t.Context(), cloud, b.target(), []string{"ls"}, client()); err == nil || !strings.Contains(err.Error(), "said the cloud") {
			t.Errorf("a command that the cloud refuses: error %v", err)
		}
		cloud.refuse = nil
		cloud.play = waits
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(errors.New("pod default/web has ended")) })
		c := client()
		if err := b.agent.exec(ctx, cloud, b.target(), []string{"ls"}, c); err == nil || err.Error() != "pod default/web has ended" {
			t.Errorf("a command whose pod ends: error %v", err)
		}
		if got := c.stderr.String(); c.stdout.String() != "begun\n" || got != "" {
			t.Errorf("output %q, errors %q: want no word of an end that is not known", c.stdout, got)
		}
	})
}

// The end of the input that the cloud cannot pass on is told to whoever waits.
func TestEndOfInput(t *testing.T) {
	for name, test := range map[string]struct {
		told bool
		play func(net.Conn)
		want string
	}{
		"passed on": {true, func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 3))
			<-time.After(time.Minute)
		}, ""},
		"not passed on, but not waited for": {false, func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 2))
			<-time.After(inputPatience / 2)
		}, ""},
		"not passed on": {false, func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 2))
			<-time.After(2 * inputPatience)
		}, "autoburst: the input has ended, which ECI cannot pass on; a command that waits for that goes on waiting\n"},
	} {
		bubble(t, name, func(t *testing.T) {
			b, cloud := connected(t)
			cloud.play, cloud.toldEnd = test.play, test.told
			c := &kubectlClient{stdin: strings.NewReader("in"), stdout: &text{}, stderr: &text{}}
			if err := b.agent.exec(t.Context(), cloud, b.target(), []string{"cat"}, c); err != nil {
				t.Fatal(err)
			}
			got := strings.TrimSuffix(c.stderr.String(), "autoburst: the command has ended; ECI does not tell its exit code\n")
			if got != test.want {
				t.Errorf("standard error %q, want %q", got, test.want)
			}
		})
	}
}

func TestAttach(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b, cloud := connected(t)
		cloud.play = prints("from the container\n")
		c := &kubectlClient{stdout: &text{}, stderr: &text{}}
		if err := b.agent.attach(t.Context(), cloud, b.target(), c); err != nil || c.stdout.String() != "from the container\n" || c.stderr.String() != "" {
			t.Errorf("output %q, errors %q, error %v", c.stdout, c.stderr, err)
		}

		// A cloud without it: the log from now on, until the container ends.
		cloud.attachRefused = fault(providers.Unsupported, "")
		c = &kubectlClient{stdin: strings.NewReader(""), stdout: &text{}, stderr: &text{}}
		if err := b.agent.attach(t.Context(), cloud, b.target(), c); !errors.Is(err, cloud.attachRefused) {
			t.Errorf("attached with input: error %v, want %v", err, cloud.attachRefused)
		}
		b.log("app", "old")
		b.settle(time.Second)
		c = &kubectlClient{stdout: &text{}, stderr: &text{}}
		attached := make(chan error)
		at := b.target()
		go func() { attached <- b.agent.attach(t.Context(), cloud, at, c) }()
		b.settle(10 * time.Second)
		b.log("app", "new")
		b.settle(10 * time.Second)
		if got := c.stdout.String(); got != "new\n" {
			t.Errorf("output %q, want what came after the attaching", got)
		}
		b.log("app", "last")
		b.cloud.set("g-uid-web", exited(0, "app"))
		if err := <-attached; err != nil || c.stdout.String() != "new\nlast\n" {
			t.Errorf("output %q, error %v", c.stdout, err)
		}
		synctest.Wait()
	})
}

// log adds a line to the log of a container.
func (b *bed) log(container, line string) {
	b.cloud.mu.Lock()
	defer b.cloud.mu.Unlock()
	b.cloud.logs[container] += time.Now().UTC().Format(time.RFC3339Nano) + " " + line + "\n"
}
