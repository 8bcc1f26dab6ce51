package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// use runs kubectl to its end and returns both outputs and the exit code.
func use(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, args...)
	var out, problems bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &problems
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), problems.String(), cmd.ProcessState.ExitCode()
}

const exitCodeNote = "does not tell its exit code"

// kubectl logs, exec, attach and port-forward do on a pod of either cloud what they
// can, through the API server, and say what they cannot.
func TestKubectl(t *testing.T) {
	for _, node := range []string{eciNode, aciNode} {
		t.Run(node, func(t *testing.T) {
			t.Parallel()
			ns := "--namespace=" + namespace(t, "kubectl-"+node, nil)
			kubectl(t, barePod("shell", podSpec{extra: pinned[node], container: `
command: [sh, -c, "echo one; echo two; sleep 2; echo three; sleep 600"]
env: [{name: GREETING, value: hello}]
`}), ns, "apply", "-f", "-")
			kubectl(t, barePod("short", podSpec{extra: pinned[node] + "\nrestartPolicy: Never\n", container: `command: [sh, -c, "echo a; sleep 3; echo b"]`}), ns, "apply", "-f", "-")
			kubectl(t, barePod("flaky", podSpec{extra: pinned[node], container: `command: [sh, -c, "echo run; sleep 1; exit 7"]`}), ns, "apply", "-f", "-")
			name := strings.TrimPrefix(ns, "--namespace=")
			waitPod(t, name, "shell", "runs", onNode(node))
			waitPod(t, name, "short", "runs or has run", func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodPending })

			// Silent for longer than the 30 s that the library would allow.
			idle := make(chan func(), 1)
			go func() {
				begun := time.Now()
				out, problems, code := use(t, "", ns, "exec", "shell", "--", "sleep", "32")
				idle <- func() {
					if took := time.Since(begun); code != 0 || out != "" || !strings.Contains(problems, exitCodeNote) || took < 32*time.Second {
						t.Errorf("a silent command ended after %s with code %d: %s%s", took, code, out, problems)
					}
				}
			}()
			defer func() { (<-idle)() }()

			t.Run("logs", func(t *testing.T) { testLogs(t, node, ns, name) })
			t.Run("exec", func(t *testing.T) { testExec(t, node, ns) })
			t.Run("terminal", func(t *testing.T) { testTerminal(t, node, ns) })
			t.Run("attach", func(t *testing.T) { testAttach(t, node, ns, name) })
			t.Run("who may", func(t *testing.T) { testWhoMay(t, node, ns, name) })
		})
	}
}

func testLogs(t *testing.T, node, ns, name string) {
	// Follows to the end of the container.
	if out, problems, code := use(t, "", ns, "logs", "-f", "short"); code != 0 || out != "a\nb\n" {
		t.Errorf("logs -f: code %d, %q, %s", code, out, problems)
	}
	mustEventually(t, 30*time.Second, "the third line is there", func(context.Context) (bool, error) {
		out, _, _ := use(t, "", ns, "logs", "shell")
		return strings.HasSuffix(out, "three\n"), nil
	})
	stamped, _, _ := use(t, "", ns, "logs", "shell", "--timestamps", "--tail=1")
	at, line, _ := strings.Cut(stamped, " ")
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil || line != "three\n" {
		t.Errorf("logs --timestamps: %q, %v", stamped, err)
	}
	for flags, want := range map[string]string{
		"":                                     "one\ntwo\nthree\n",
		"--tail=1":                             "three\n",
		"--tail=0":                             "",
		"--tail=0 --follow=false":              "",
		"--limit-bytes=5":                      "one\nt",
		"--since=1h":                           "one\ntwo\nthree\n",
		"--since-time=" + at:                   "three\n",
		"--since-time=" + at + " --tail=2":     "three\n",
		"--since-time=2099-01-01T00:00:00Z":    "",
		"--since=1h --tail=2 --limit-bytes=10": "two\nthree\n",
	} {
		if out, problems, code := use(t, "", append([]string{ns, "logs", "shell"}, strings.Fields(flags)...)...); code != 0 || out != want {
			t.Errorf("logs %s: code %d, %q, want %q, %s", flags, code, out, want, problems)
		}
	}
	waitPod(t, name, "flaky", "was restarted", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].LastTerminationState.Terminated != nil
	})
	out, problems, code := use(t, "", ns, "logs", "--previous", "flaky")
	if node == eciNode && (code != 0 || out != "run\n") {
		t.Errorf("logs --previous: code %d, %q, %s", code, out, problems)
	}
	if node == aciNode && (code == 0 || !strings.Contains(problems, "keeps no log of a container's previous run")) {
		t.Errorf("logs --previous: code %d, %q, %s", code, out, problems)
	}
	if _, problems, code := use(t, "", ns, "logs", "--previous", "shell"); code == 0 || !strings.Contains(problems, "not found") {
		t.Errorf("logs --previous of a first run: code %d, %s", code, problems)
	}
}

func testExec(t *testing.T, node, ns string) {
	type execution struct {
		stdin         string
		flags, words  []string
		out, problems string
		code          int
	}
	tests := map[string]execution{
		"words":                  {words: []string{"echo", "a", "b"}, out: "a b\n", problems: exitCodeNote},
		"a failure is not told":  {words: []string{"false"}, problems: exitCodeNote},
		"a program that is not":  {words: []string{"vim"}, out: "executable file not found", problems: exitCodeNote},
		"a container that isn't": {flags: []string{"-c", "other"}, words: []string{"true"}, problems: "container", code: 1},
	}
	const script = `echo "$GREETING $1"; echo oops >&2; exit 3`
	if node == eciNode {
		tests["arguments and both outputs"] = execution{words: []string{"sh", "-c", script, "sh", "a  b"}, out: "hello a  b\noops\n", problems: exitCodeNote}
		tests["input"] = execution{stdin: "a line\n", flags: []string{"-i"}, words: []string{"head", "-n1"}, out: "a line\n", problems: exitCodeNote}
		tests["more words than ECI takes"] = execution{words: slices.Repeat([]string{"echo"}, 21), problems: "the command has 21 words", code: 1}
	} else {
		tests["input, printed again by the terminal, and its end"] = execution{stdin: "a line\n", flags: []string{"-i"}, words: []string{"cat"}, out: "a line\na line\n", problems: exitCodeNote}
		tests["words that ACI would take apart"] = execution{words: []string{"sh", "-c", script}, problems: "word 3 cannot be passed on", code: 1}
	}
	for name, test := range tests {
		args := append(append([]string{ns, "exec"}, test.flags...), append([]string{"shell", "--"}, test.words...)...)
		out, problems, code := use(t, test.stdin, args...)
		said := out == test.out || strings.HasPrefix(test.out, "executable") && strings.Contains(out, test.out)
		if code != test.code || !said || !strings.Contains(problems, test.problems) {
			t.Errorf("%s: code %d, output %q, problems %q, want %d, %q, %q", name, code, out, problems, test.code, test.out, test.problems)
		}
	}
	if _, problems, code := use(t, "", ns, "exec", "short", "--", "true"); code == 0 || !strings.Contains(problems, "completed pod") && !strings.Contains(problems, "does not run") {
		t.Errorf("exec in a pod that has ended: code %d, %s", code, problems)
	}
	_, problems, code := use(t, "", ns, "port-forward", "short", ":80")
	if code == 0 || problems == "" {
		t.Errorf("port-forward to a pod that has ended: code %d, %s", code, problems)
	}
}

// testTerminal sits at a terminal, as kubectl exec -it asks for one.
func testTerminal(t *testing.T, node, ns string) {
	ours, theirs, err := sim.OpenTerminal(sim.TerminalSize{Rows: 33, Columns: 101})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, ns, "exec", "-it", "shell", "--", "sh")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := io.WriteString(ours, "stty size; echo $((40 + 2)) $GREETING; exit\r"); err != nil {
		t.Fatal(err)
	}
	screen, _ := io.ReadAll(ours) // ends as terminals do, with an error
	if err := cmd.Wait(); err != nil {
		t.Errorf("kubectl exec -it: %v", err)
	}
	size := map[string]string{eciNode: "24 80", aciNode: "33 101"}[node]
	for _, want := range []string{size, "42 hello"} {
		if !strings.Contains(string(screen), want) {
			t.Errorf("the screen says %q, want %q in it", screen, want)
		}
	}
}

func testAttach(t *testing.T, node, ns, name string) {
	group := groupOfPod(t, node, name, "shell")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := system.KubectlCommand(ctx, ns, "attach", "shell")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	printed := make(chan struct{})
	go func() { // until it is seen: what came before the attaching is not
		defer close(printed)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			_ = group.Print("app", "from the container") // ends with the test
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	close(stop)
	<-printed
	if err != nil || line != "from the container\n" {
		t.Errorf("kubectl attach printed %q, error %v", line, err)
	}
	cancel()
	_ = cmd.Wait() // killed
	if node == eciNode {
		if _, problems, code := use(t, "x\n", ns, "attach", "-i", "shell"); code == 0 || !strings.Contains(problems, "cannot attach to the input") {
			t.Errorf("kubectl attach -i: code %d, %s", code, problems)
		}
	}
}

// groupOfPod is the container group of a pod, by its tags.
func groupOfPod(t *testing.T, node, namespace, name string) *sim.Group {
	t.Helper()
	uid := string(pod(t, namespace, name).UID)
	for _, g := range system.Groups(node) {
		for _, value := range g.Tags() {
			if value == uid {
				return g
			}
		}
	}
	t.Fatalf("pod %s/%s has no group", namespace, name)
	return nil
}

// testWhoMay asks the agent itself: nobody gets into a container without the right
// on the node.
func testWhoMay(t *testing.T, node, ns, name string) {
	kubectl(t, `
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: nobody}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: reader}}
- {apiVersion: v1, kind: ServiceAccount, metadata: {name: operator}}
`, ns, "apply", "-f", "-")
	for account, verb := range map[string]string{"reader": "get", "operator": "create"} {
		role := name + "-" + account
		kubectl(t, "", "create", "clusterrole", role, "--verb="+verb, "--resource=nodes/proxy", "--resource-name="+node)
		defer kubectl(t, "", "delete", "clusterrole", role)
		kubectl(t, "", "create", "clusterrolebinding", role, "--clusterrole="+role, "--serviceaccount="+name+":"+account)
		defer kubectl(t, "", "delete", "clusterrolebinding", role)
	}
	agent, err := system.Leader(t.Context(), node)
	if err != nil || agent == nil {
		t.Fatalf("node %s has no leader: %v", node, err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // the agent signs its own
	defer transport.CloseIdleConnections()
	for _, test := range []struct {
		account, method string
		want            int
	}{
		{"", http.MethodPost, http.StatusUnauthorized},
		{"nobody", http.MethodPost, http.StatusForbidden},
		{"reader", http.MethodPost, http.StatusForbidden},
		{"reader", http.MethodGet, http.StatusForbidden},
		{"operator", http.MethodPost, http.StatusBadRequest}, // let in, but it is no stream
	} {
		for _, path := range []string{"/exec/" + name + "/shell/app?command=id&output=1", "/attach/" + name + "/shell/app?output=1", "/portForward/" + name + "/shell"} {
			req, err := http.NewRequestWithContext(t.Context(), test.method, "https://"+agent.Kubelet+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.account != "" {
				token, err := client().CoreV1().ServiceAccounts(name).CreateToken(t.Context(), test.account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+token.Status.Token)
			}
			resp, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != test.want {
				t.Errorf("%s %s as %q: %d %s, want %d", test.method, path, test.account, resp.StatusCode, text, test.want)
			}
		}
	}
}

// lockedText is what a program that runs has printed.
type lockedText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// forwarded is a kubectl port-forward.
type forwarded struct {
	address  string
	problems *lockedText
}

// forward runs kubectl port-forward until the test ends.
func forward(t *testing.T, args ...string) forwarded {
	t.Helper()
	cmd := system.KubectlCommand(t.Context(), append([]string{"port-forward"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f := forwarded{problems: &lockedText{}}
	cmd.Stderr = f.problems
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // killed with the test's context
	// Forwarding from 127.0.0.1:40123 -> 80
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 3 {
		t.Fatalf("kubectl port-forward printed %q, %v, %s", line, err, f.problems)
	}
	f.address = words[2]
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return f
}

// An agent gets its serving certificate from the cluster once somebody approves,
// and kubectl reaches pods at their address where there is a way to it.
func TestKubectlWithRotatedCertificate(t *testing.T) {
	if err := system.InstallChart(t.Context(), "vnode.rotateServerCertificates=true"); err != nil {
		t.Fatal(err)
	}
	system.RemoveAgent(eciNode, endProcess(t))
	defer func() {
		system.RemoveAgent(eciNode, endProcess(t))
		if err := system.InstallChart(context.Background()); err != nil {
			t.Error(err)
		}
		if _, err := system.StartAgent(context.Background(), eciNode); err != nil {
			t.Error(err)
		}
		if err := system.WaitNodeReady(context.Background(), eciNode); err != nil {
			t.Error(err)
		}
	}()
	agent, err := system.StartAgent(t.Context(), eciNode, "ECI_VSWITCH="+playground.ECILoopbackVSwitch)
	if err != nil {
		t.Fatal(err)
	}
	if err := system.WaitNodeReady(t.Context(), eciNode); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(system.CAFile())
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("the cluster's authority: %v", err)
	}
	verified := func() error {
		conn, err := tls.Dial("tcp", agent.Kubelet, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			return err
		}
		defer conn.Close()
		if name := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; name != "system:node:"+eciNode {
			return fmt.Errorf("the certificate is for %q", name)
		}
		return nil
	}
	if err := verified(); err == nil {
		t.Error("the certificate is the cluster's before anybody has approved it")
	}
	ns := "--namespace=" + namespace(t, "certificate", nil)
	kubectl(t, barePod("web", podSpec{extra: pinned[eciNode], container: `command: [sleep, "600"]`}), ns, "apply", "-f", "-")
	mustEventually(t, 30*time.Second, "the agent has asked", func(ctx context.Context) (bool, error) {
		list, err := client().CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{FieldSelector: "spec.signerName=" + certificatesv1.KubeletServingSignerName})
		if err != nil {
			return false, err
		}
		for _, r := range list.Items {
			if r.Spec.Username != "system:serviceaccount:"+playground.Namespace+":autoburst-vnode" {
				return false, fmt.Errorf("%s asks", r.Spec.Username)
			}
			kubectl(t, "", "certificate", "approve", r.Name)
		}
		return len(list.Items) > 0, nil
	})
	eventually(t, 30*time.Second, "the agent serves the certificate that the cluster has signed", func(context.Context) (bool, error) {
		err := verified()
		return err == nil, err
	})

	p := waitPod(t, strings.TrimPrefix(ns, "--namespace="), "web", "runs with an address", func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodRunning && p.Status.PodIP != ""
	})
	if out, problems, code := use(t, "", ns, "exec", "web", "--", "echo", "hello"); code != 0 || out != "hello\n" {
		t.Errorf("kubectl exec: code %d, %q, %s", code, out, problems)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(p.Status.PodIP, "0"))
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
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	open := forward(t, ns, "pod/web", ":"+port)
	if got, err := echo(open.address, "to the pod and back"); err != nil || got != "to the pod and back" {
		t.Errorf("through port-forward: %q, error %v, %s", got, err, open.problems)
	}
	listener.Close()
	if got, err := echo(open.address, "nobody"); err == nil && got != "" {
		t.Errorf("through port-forward to a closed port: %q", got)
	}
	eventually(t, 20*time.Second, "kubectl says why", func(context.Context) (bool, error) {
		if said := open.problems.String(); !strings.Contains(said, "cannot be reached from the agent at "+p.Status.PodIP) {
			return false, fmt.Errorf("it says %q", said)
		}
		return true, nil
	})
}

// echo says a word to a server that repeats it.
func echo(address, word string) (string, error) {
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
