package vnode

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

// kubelet is an agent behind HTTP, with a pod that runs, at the time of the wall.
type kubelet struct {
	*testing.T
	agent *Agent
	cloud *connectingCloud
	url   string
	// stop ends the agent; remove deletes its pod.
	stop   func()
	remove func()
	end    context.CancelCauseFunc // of the base context of the requests
}

func newKubelet(t *testing.T, podIP string, edits ...func(*Config)) *kubelet {
	t.Helper()
	pod := testPod("web")
	status := running("app")
	status.PodIP = podIP
	pod.Status = runningStatus(pod, &status, place{hostIP: "192.0.2.1"}, time.Now(), time.Now())
	client := fakeClient(pod)
	cloud := &connectingCloud{memoryCloud: newMemoryCloud(), play: waits}
	cloud.listStatus = true
	cloud.put(pod, ours(), status)
	cfg := newBedConfig()
	cfg.LogInterval = 20 * time.Millisecond
	for _, edit := range edits {
		edit(&cfg)
	}
	agent, err := New(cfg, client, cloud, clock.RealClock{}, slog.New(slog.DiscardHandler), NewMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	server := httptest.NewUnstartedServer(agent.Handler())
	base, end := context.WithCancelCause(t.Context())
	server.Config.BaseContext = func(net.Listener) context.Context { return base }
	server.Start()
	k := &kubelet{T: t, agent: agent, cloud: cloud, url: server.URL, end: end}
	k.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
		k.stop = func() {}
	}
	k.remove = func() {
		if err := client.CoreV1().Pods("default").Delete(context.Background(), "web", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() {
		k.stop()
		server.CloseClientConnections()
		server.Close()
	})
	k.eventually("the pod can be connected to", func() error {
		_, err := agent.findRunning("default", "web", "app")
		return err
	})
	return k
}

// eventually waits until the condition returns nil.
func (k *kubelet) eventually(what string, condition func() error) {
	k.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	over := time.After(30 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-over:
			k.Fatalf("%s: not within 30 s: %v", what, err)
		}
	}
}

// exec connects as the API server does.
func (k *kubelet) exec(ctx context.Context, query string, o remotecommand.StreamOptions) error {
	k.Helper()
	u, err := url.Parse(k.url + "/exec/default/web/app?" + query)
	if err != nil {
		k.Fatal(err)
	}
	executor, err := remotecommand.NewSPDYExecutor(&rest.Config{Host: k.url}, http.MethodPost, u)
	if err != nil {
		k.Fatal(err)
	}
	return executor.StreamWithContext(ctx, o)
}

func TestExecOverTheWire(t *testing.T) {
	k := newKubelet(t, "127.0.0.1")
	k.cloud.play = func(c net.Conn) {
		line, _ := bufio.NewReader(c).ReadString('\n')
		_, _ = io.WriteString(c, "got "+line)
	}
	var stdout, stderr text
	err := k.exec(t.Context(), "command=cat&command=-u&input=1&output=1&error=1", remotecommand.StreamOptions{Stdin: strings.NewReader("a line\n"), Stdout: &stdout, Stderr: &stderr})
	if err != nil || stdout.String() != "got a line\n" || !strings.Contains(stderr.String(), "exit code") {
		t.Errorf("output %q, errors %q, error %v", &stdout, &stderr, err)
	}
	if got := fmt.Sprint(k.cloud.commands); got != "[{[cat -u] true false {0 0}}]" {
		t.Errorf("commands %s", got)
	}

	queue := make(sizeQueue, 4)
	queue <- &remotecommand.TerminalSize{Width: 120, Height: 40}
	k.cloud.play = prints("bye\r\n")
	var terminal text
	err = k.exec(t.Context(), "command=sh&input=1&output=1&tty=1", remotecommand.StreamOptions{Stdin: strings.NewReader(""), Stdout: &terminal, Tty: true, TerminalSizeQueue: queue})
	close(queue)
	if err != nil || terminal.String() != "bye\r\n" {
		t.Errorf("output %q, error %v", &terminal, err)
	}
	if got := k.cloud.commands[1]; !got.TTY || got.Size != (providers.TerminalSize{Rows: 40, Columns: 120}) {
		t.Errorf("command %+v, want the terminal's size", got)
	}

	k.cloud.refuse = fault(providers.Unsupported, "")
	err = k.exec(t.Context(), "command=sh&output=1", remotecommand.StreamOptions{Stdout: &terminal})
	if err == nil || !strings.Contains(err.Error(), "said the cloud") {
		t.Errorf("a command that the cloud refuses: error %v", err)
	}
}

type sizeQueue chan *remotecommand.TerminalSize

func (q sizeQueue) Next() *remotecommand.TerminalSize { return <-q }

// A session ends with its client, its pod, or the agent's term.
func TestStreamsEnd(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(k *kubelet, leave func())
		want string
	}{
		"the client leaves": {func(_ *kubelet, leave func()) { leave() }, "context canceled"},
		"the server stops":  {func(k *kubelet, _ func()) { k.end(errStops) }, "this agent stops"},
		"the pod is gone":   {func(k *kubelet, _ func()) { k.remove() }, "pod default/web has ended"},
		"the agent stops":   {func(k *kubelet, _ func()) { k.stop() }, "does not lead"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKubelet(t, "127.0.0.1")
			left := make(chan struct{})
			k.cloud.play = func(c net.Conn) {
				defer close(left)
				waits(c)
			}
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var stdout text
			result := make(chan error, 1)
			go func() {
				result <- k.exec(ctx, "command=cat&output=1", remotecommand.StreamOptions{Stdout: &stdout})
			}()
			k.eventually("the command has begun", func() error {
				if got := stdout.String(); got != "begun\n" {
					return fmt.Errorf("output %q", got)
				}
				return nil
			})
			test.end(k, leave)
			if err := <-result; err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			<-left
		})
	}
}

func TestIdleStreams(t *testing.T) {
	if got := (Config{}).withDefaults().StreamIdle; got != 4*time.Hour {
		t.Errorf("silent connections live for %s, want 4 h", got)
	}
	k := newKubelet(t, "127.0.0.1", func(c *Config) { c.StreamIdle = 100 * time.Millisecond })
	left := make(chan struct{})
	k.cloud.play = func(c net.Conn) {
		defer close(left)
		waits(c)
	}
	begun := time.Now()
	// The client is told nothing: it sees the connection closed.
	if err := k.exec(t.Context(), "command=cat&output=1", remotecommand.StreamOptions{Stdout: io.Discard}); err != nil {
		t.Logf("the client's error: %v", err)
	}
	<-left
	if took := time.Since(begun); took > 20*time.Second { // the library's own bound is 30 s
		t.Errorf("a connection that may be silent for 100 ms lived for %s", took)
	}
}

// withoutErrorHandlers is for bubbles: those of the library wait, by the time of the
// wall, between errors.
func withoutErrorHandlers(t *testing.T) {
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	t.Cleanup(func() { utilruntime.ErrorHandlers = handlers })
}

func TestStreamsThatCannotBe(t *testing.T) {
	withoutErrorHandlers(t)
	bubble(t, "", func(t *testing.T) {
		b, _ := connected(t)
		b.create(testPod("starting"))
		b.groups("g-uid-starting", "g-uid-web")
		b.create(testPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = corev1.RestartPolicyNever }))
		b.groups("g-uid-job", "g-uid-starting", "g-uid-web")
		b.cloud.set("g-uid-job", exited(3, "app"))
		b.phase("job", corev1.PodFailed)
		handler := b.agent.Handler()
		for path, test := range map[string]struct {
			code int
			want string
		}{
			"/exec/default/none/app?command=ls&output=1":     {404, `pod "default/none" not found`},
			"/exec/default/web/other?command=ls&output=1":    {400, "container other is not valid for pod web"},
			"/exec/default/starting/app?command=ls&output=1": {400, `container "app" in pod "default/starting" does not run: ContainerCreating`},
			"/exec/default/job/app?command=ls&output=1":      {400, `pod "default/job" does not run`},
			"/exec/default/web/app?command=ls&output=1":      {400, "upgrade"},
			"/attach/default/none/app?output=1":              {404, `pod "default/none" not found`},
			"/attach/default/web/app?output=1":               {400, "upgrade"},
			"/portForward/default/none":                      {404, `pod "default/none" not found`},
			"/portForward/default/job":                       {400, `pod "default/job" does not run`},
			"/portForward/default/web":                       {400, "upgrade"},
		} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, nil))
			if body := w.Body.String(); w.Code != test.code || !strings.Contains(body, test.want) {
				t.Errorf("%s: %d %q, want %d %q", path, w.Code, body, test.code, test.want)
			}
		}
	})
}

// forward forwards a local port to one of the pod until stop is closed, and returns
// it.
func (k *kubelet) forward(port int, stop chan struct{}, problems io.Writer) (local string, done chan error) {
	k.Helper()
	roundTripper, upgrader, err := spdy.RoundTripperFor(&rest.Config{Host: k.url})
	if err != nil {
		k.Fatal(err)
	}
	u, err := url.Parse(k.url + "/portForward/default/web")
	if err != nil {
		k.Fatal(err)
	}
	ready := make(chan struct{})
	forwarder, err := portforward.New(spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, u),
		[]string{"0:" + strconv.Itoa(port)}, stop, ready, io.Discard, problems)
	if err != nil {
		k.Fatal(err)
	}
	done = make(chan error, 1)
	go func() { done <- forwarder.ForwardPorts() }()
	select {
	case <-ready:
	case err := <-done:
		k.Fatalf("forwarding: %v", err)
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		k.Fatal(err)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(int(ports[0].Local))), done
}

func TestPortForward(t *testing.T) {
	k := newKubelet(t, "127.0.0.1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				request, err := io.ReadAll(conn) // until the client has said all
				if err == nil {
					_, _ = fmt.Fprintf(conn, "you said %s", request)
				}
			}()
		}
	}()
	stop := make(chan struct{})
	var problems text
	local, done := k.forward(listener.Addr().(*net.TCPAddr).Port, stop, &problems)
	for _, word := range []string{"one", "two"} {
		if got, err := ask(local, word); err != nil || got != "you said "+word {
			t.Errorf("answer %q, error %v", got, err)
		}
	}
	close(stop)
	if err := <-done; err != nil || problems.String() != "" {
		t.Errorf("error %v, problems %q", err, &problems)
	}
}

// ask says a word to a server that answers when it has been said, and returns the
// answer.
func ask(address, word string) (string, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

func TestPortForwardFails(t *testing.T) {
	const port = 1 // nobody's
	for name, test := range map[string]struct{ ip, want string }{
		"nobody listens": {"127.0.0.1", "cannot be reached from the agent at 127.0.0.1:1:"},
		"no address":     {"", "pod default/web has no address"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKubelet(t, test.ip)
			stop := make(chan struct{})
			var problems text
			handlers := utilruntime.ErrorHandlers
			defer func() { utilruntime.ErrorHandlers = handlers }()
			utilruntime.ErrorHandlers = []utilruntime.ErrorHandler{func(_ context.Context, err error, _ string, _ ...any) {
				if told, ok := strings.CutPrefix(err.Error(), "an error occurred forwarding "); ok { // by kubectl's library
					_, _ = io.WriteString(&problems, told)
				}
			}}
			local, done := k.forward(port, stop, io.Discard)
			if got, err := ask(local, "hello"); err == nil && got != "" {
				t.Errorf("answer %q", got)
			}
			k.eventually("the client is told why", func() error {
				if got := problems.String(); !strings.Contains(got, test.want) {
					return fmt.Errorf("problems %q, want %q", got, test.want)
				}
				return nil
			})
			close(stop)
			t.Logf("forwarding ended: %v", <-done) // kubectl gives up, or is told to stop
		})
	}
}

// A forwarded connection ends with the pod.
func TestPortForwardEndsWithThePod(t *testing.T) {
	k := newKubelet(t, "127.0.0.1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	stop := make(chan struct{})
	defer close(stop)
	local, done := k.forward(listener.Addr().(*net.TCPAddr).Port, stop, &text{})
	conn, err := net.Dial("tcp", local)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	inside, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	k.remove()
	if _, err := io.ReadAll(inside); err != nil {
		t.Logf("the connection to the pod ended with %v", err)
	}
	if err := <-done; err == nil {
		t.Error("the client was not told that the connection is lost")
	}
}
