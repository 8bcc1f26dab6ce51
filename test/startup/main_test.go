// Package startup starts the real programs with everything that can be wrong
// with their settings, each in turn, beside a real API server and the emulated
// clouds. A program must end before it has changed anything, and say in one line
// what is wrong, with which value, and what to do.
package startup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/test/rights"
)

// system has the chart, and none of its programs run.
var system *playground.Playground

// cloudCalls counts what reached either cloud.
var cloudCalls atomic.Int64

// The programs, as the chart would have them run.
var controller, eciAgent, aciAgent playground.Command

// atOnce is how many programs run at the same time: some of them only wait.
const atOnce = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	var err error
	system, err = playground.Start(ctx, playground.Options{
		Progress: os.Stderr, Race: raceEnabled, Controllers: -1, WithoutAgents: true,
		Cluster: cluster.Options{AuditPolicy: rights.Policy},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "startup: starting the system:", err)
		return 1
	}
	code := 1
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "startup:", err)
	} else {
		code = m.Run()
	}
	if code != 0 {
		system.KeepLogs()
		fmt.Fprintf(os.Stderr, "startup: logs are kept in %s\n", system.Dir)
	}
	if err := system.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "startup: stopping the system:", err)
		return 1
	}
	return code
}

func prepare(ctx context.Context) error {
	count := sim.Hook{Before: func(sim.Passage) { cloudCalls.Add(1) }}
	system.ECI.Hook(count)
	system.ACI.Hook(count)
	var errs [3]error
	controller, errs[0] = system.ControllerCommand(ctx)
	eciAgent, errs[1] = system.AgentCommand(ctx, playground.ECINode)
	aciAgent, errs[2] = system.AgentCommand(ctx, playground.ACINode)
	return errors.Join(errs[:]...)
}

// ports are free ports of a program that is started with them.
func ports(t *testing.T) [3]string {
	t.Helper()
	var all [3]string
	for i := range all {
		port, err := cluster.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		all[i] = port
	}
	return all
}

// command is a program that would work, but for what is added.
func command(ctx context.Context, t *testing.T, base playground.Command, args, env []string) *exec.Cmd {
	t.Helper()
	p := ports(t)
	own := []string{"--webhook-host=127.0.0.1", "--webhook-port=" + p[0], "--metrics-bind-address=127.0.0.1:" + p[1], "--health-probe-bind-address=127.0.0.1:" + p[2]}
	if base.Path == eciAgent.Path {
		own = []string{"--kubelet-bind-address=127.0.0.1", "--kubelet-port=" + p[0], "--metrics-bind-address=127.0.0.1:" + p[1], "--client-ca-file=" + system.CAFile()}
	}
	// Of the variables of this process none may help the program.
	cmd := exec.CommandContext(ctx, base.Path, slices.Concat(base.Args, own, args)...)
	cmd.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "POD_NAME=replica-0"}, base.Env, env)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// writes counts the requests of the programs that change something.
func writes(t *testing.T) int {
	t.Helper()
	f, err := os.Open(system.AuditLog())
	if errors.Is(err, os.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log, err := rights.Read(f, playground.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for c, times := range log.Calls {
		if slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, c.Verb) && c.Resource != "selfsubjectaccessreviews" {
			n += times
		}
	}
	return n
}

// outcome is how a program ended.
type outcome struct {
	code   int
	stderr string
}

func end(ctx context.Context, t *testing.T, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("it did not end by itself: %v, %v\n%s", err, ctx.Err(), stderr.String())
	}
	if stdout.Len() > 0 {
		t.Errorf("it wrote to standard output: %q", stdout.String())
	}
	return outcome{cmd.ProcessState.ExitCode(), stderr.String()}
}

// secrets are what no message may hold.
func secrets(t *testing.T) []string {
	t.Helper()
	all := []string{playground.ECISecretKey, playground.ACIClientPassword, "hunter2"}
	config, err := clientcmd.LoadFromFile(kubeconfigOf(controller))
	if err != nil {
		t.Fatal(err)
	}
	for _, auth := range config.AuthInfos {
		all = append(all, auth.Token)
	}
	return all
}

func kubeconfigOf(c playground.Command) string {
	return strings.TrimPrefix(c.Args[len(c.Args)-1], "--kubeconfig=")
}

// kubeconfig writes a changed copy of the controller's kubeconfig and returns its
// path.
func kubeconfig(t *testing.T, change func(config *clientcmdapi.Config, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo)) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(kubeconfigOf(controller))
	if err != nil {
		t.Fatal(err)
	}
	current := config.Contexts[config.CurrentContext]
	change(config, config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo])
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// file writes a file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// taken is an address that something listens on.
func taken(t *testing.T) (host, port string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if host, port, err = net.SplitHostPort(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return host, port
}

// oldServer passes everything to the API server, and says that it is older.
func oldServer(t *testing.T) *httptest.Server {
	t.Helper()
	to, err := url.Parse(system.Server())
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = nil
	admin, err := clientcmd.BuildConfigFromFlags("", system.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := os.ReadFile(admin.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	transport.TLSClientConfig = trust(roots)
	t.Cleanup(transport.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"major":"1","minor":"29","gitVersion":"v1.29.15"}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// nobody is the kubeconfig of a ServiceAccount without rights.
func nobody(t *testing.T) string {
	t.Helper()
	name := "nobody-" + strings.ToLower(rand.Text()[:8])
	if _, err := system.Client().CoreV1().ServiceAccounts(playground.Namespace).Create(t.Context(),
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	path, err := system.ServiceAccountKubeconfig(t.Context(), playground.Namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
