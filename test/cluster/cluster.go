// Package cluster starts a real Kubernetes control plane on loopback: etcd,
// kube-apiserver, kube-scheduler and kube-controller-manager, with TLS, RBAC and
// ServiceAccount admission, and kwok in the place of the local nodes' kubelets.
// Tests and the playground share it. The programs are those of the module
// test/controlplane.
package cluster

import (
	"context"
	"crypto/x509/pkix"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

//go:embed stages/kwok.yaml
var kwokStages []byte

// Options of Start. The zero value is usable.
type Options struct {
	// Dir takes the data, keys and logs. Empty means a new temporary folder,
	// which Stop removes.
	Dir string
	// Progress is told what is done. Nil means nobody is.
	Progress io.Writer
	// APIServerArgs, ControllerManagerArgs and SchedulerArgs are appended to the
	// programs' flags.
	APIServerArgs, ControllerManagerArgs, SchedulerArgs []string
	// AuditPolicy says which requests the API server writes to AuditLog. Nil means
	// none.
	AuditPolicy []byte
}

// Cluster is a running control plane.
type Cluster struct {
	// Dir holds data, keys, kubeconfigs and logs.
	Dir string
	// Binary is the control plane binary, which is kubectl too.
	Binary string
	// Kubeconfig is a cluster administrator's.
	Kubeconfig string
	// ServingIn is how long it took from the start of etcd until the API server
	// was ready.
	ServingIn time.Duration

	server        string
	apiServerArgs []string
	authority     *authority
	temporary     bool

	mu        sync.Mutex
	processes []*Process
}

// StartTimeout bounds the time until the API server is ready.
const StartTimeout = 90 * time.Second

// Start builds the control plane if need be and starts it. It returns when the
// API server is ready. The caller calls Stop.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	c := &Cluster{Dir: o.Dir}
	if c.Binary, err = Build(ctx, o.Progress); err != nil {
		return nil, err
	}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "autoburst-cluster-"); err != nil {
			return nil, err
		}
		c.temporary = true
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w (logs in %s)", err, c.Dir)
			c.temporary = false
			_ = c.Stop()
		}
	}()
	begin := time.Now()
	fmt.Fprintln(o.Progress, "control plane: starting etcd and kube-apiserver (a few seconds)")
	if err := c.makeKeys(); err != nil {
		return nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	etcd := "https://127.0.0.1:" + ports[0]
	if err := c.run("etcd",
		"--name=etcd", "--data-dir="+c.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+etcd, "--advertise-client-urls="+etcd,
		"--listen-peer-urls=http://127.0.0.1:"+ports[1], "--initial-advertise-peer-urls=http://127.0.0.1:"+ports[1],
		"--initial-cluster=etcd=http://127.0.0.1:"+ports[1],
		"--client-cert-auth", "--trusted-ca-file="+c.path("ca.crt"),
		"--cert-file="+c.path("server.crt"), "--key-file="+c.path("server.key"),
	); err != nil {
		return nil, err
	}
	c.server = "https://127.0.0.1:" + ports[2]
	c.apiServerArgs = append([]string{
		"--etcd-servers=" + etcd, "--etcd-cafile=" + c.path("ca.crt"),
		"--etcd-certfile=" + c.path("admin.crt"), "--etcd-keyfile=" + c.path("admin.key"),
		"--bind-address=127.0.0.1", "--secure-port=" + ports[2], "--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none", // an endpoint may not be a loopback address
		"--tls-cert-file=" + c.path("server.crt"), "--tls-private-key-file=" + c.path("server.key"),
		"--client-ca-file=" + c.path("ca.crt"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.path("sa.crt"), "--service-account-signing-key-file=" + c.path("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--kubelet-client-certificate=" + c.path("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + c.path("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + c.path("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.path("front-proxy-client.crt"), "--proxy-client-key-file=" + c.path("front-proxy-client.key"),
	}, o.APIServerArgs...)
	if o.AuditPolicy != nil {
		if err := os.WriteFile(c.path("audit.yaml"), o.AuditPolicy, 0o600); err != nil {
			return nil, err
		}
		c.apiServerArgs = append(c.apiServerArgs, "--audit-policy-file="+c.path("audit.yaml"),
			"--audit-log-path="+c.AuditLog(), "--audit-log-maxsize=4096") // MB; beyond it begins another file
	}
	if err := c.run(apiServer, c.apiServerArgs...); err != nil {
		return nil, err
	}
	for name, user := range users {
		if err := c.writeKubeconfig(name, user.CommonName); err != nil {
			return nil, err
		}
	}
	c.Kubeconfig = c.path("admin.kubeconfig")
	if err := c.waitReady(ctx); err != nil {
		return nil, err
	}
	c.ServingIn = time.Since(begin)
	fmt.Fprintf(o.Progress, "control plane: serving after %s; starting kube-controller-manager, kube-scheduler and kwok\n", c.ServingIn.Round(100*time.Millisecond))
	if err := c.run("kube-controller-manager", append([]string{
		"--kubeconfig=" + c.path("kube-controller-manager.kubeconfig"), "--leader-elect=false", "--secure-port=0",
		"--use-service-account-credentials", "--root-ca-file=" + c.path("ca.crt"),
		"--service-account-private-key-file=" + c.path("sa.key"),
		"--cluster-signing-cert-file=" + c.path("ca.crt"), "--cluster-signing-key-file=" + c.path("ca.key"),
		"--kube-api-qps=200", "--kube-api-burst=300",
	}, o.ControllerManagerArgs...)...); err != nil {
		return nil, err
	}
	// The scheduler keeps its own defaults: figures measured here depend on them.
	if err := c.run("kube-scheduler", append([]string{
		"--kubeconfig=" + c.path("kube-scheduler.kubeconfig"), "--leader-elect=false", "--secure-port=0",
	}, o.SchedulerArgs...)...); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.path("kwok.yaml"), kwokStages, 0o644); err != nil {
		return nil, err
	}
	if err := c.run("kwok",
		"--kubeconfig="+c.path("kwok.kubeconfig"), "--config="+c.path("kwok.yaml"),
		"--manage-nodes-with-annotation-selector="+kwokAnnotation+"=fake",
		"--node-ip=127.0.0.1", "--cidr=10.244.0.0/16", "--node-lease-duration-seconds=40",
	); err != nil {
		return nil, err
	}
	return c, c.waitDefaultServiceAccount(ctx)
}

// users of the control plane's own programs and the administrator.
var users = map[string]pkix.Name{
	"admin":                   {CommonName: "admin", Organization: []string{"system:masters"}},
	"kwok":                    {CommonName: "kwok", Organization: []string{"system:masters"}},
	"kube-controller-manager": {CommonName: "system:kube-controller-manager"},
	"kube-scheduler":          {CommonName: "system:kube-scheduler"},
}

func (c *Cluster) makeKeys() (err error) {
	if c.authority, err = newAuthority(c.Dir); err != nil {
		return err
	}
	subjects := map[string]pkix.Name{
		"server":                   {CommonName: "kube-apiserver"},
		"sa":                       {CommonName: "service-account-signer"},
		"apiserver-kubelet-client": {CommonName: "kube-apiserver-kubelet-client", Organization: []string{"system:masters"}},
		"front-proxy-client":       {CommonName: "front-proxy-client"},
	}
	for name, subject := range users {
		subjects[name] = subject
	}
	for name, subject := range subjects {
		if err := c.authority.issue(name, subject, "127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc"); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) path(name string) string { return filepath.Join(c.Dir, name) }

// CAFile is the cluster's certificate authority; the API server's client
// certificate towards kubelets is signed by it too.
func (c *Cluster) CAFile() string { return c.path("ca.crt") }

// AuditLog is where the API server writes what Options.AuditPolicy tells it to.
func (c *Cluster) AuditLog() string { return c.path("audit.log") }

// Server is the URL of the API server.
func (c *Cluster) Server() string { return c.server }

// Config returns an administrator's client configuration without client-side
// throttling.
func (c *Cluster) Config() *rest.Config {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil { // we wrote the file
		panic(err)
	}
	config.QPS = -1
	return config
}

// Client returns an administrator's client. It speaks protobuf, as the control
// plane's own programs do.
func (c *Cluster) Client() *kubernetes.Clientset {
	config := c.Config()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	return kubernetes.NewForConfigOrDie(config)
}

// environment of the control plane's programs: memory is plenty here and
// processors are few, and a heap as small as these collects garbage all the time.
var environment = []string{"GOGC=400"}

func (c *Cluster) run(name string, args ...string) error {
	p, err := StartProcess(c.Dir, name, environment, c.Binary, append([]string{name}, args...)...)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.processes = append(c.processes, p)
	return nil
}

// Process returns the running program of that name, nil if there is none.
func (c *Cluster) Process(name string) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Err returns why a program of the control plane ended, nil while all run.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.processes {
		if err := p.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := rest.HTTPClientFor(c.Config())
	if err != nil {
		return err
	}
	return c.poll(ctx, "the API server is ready", func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server+"/readyz", nil)
		if err != nil {
			return false, err
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		// Until it listens, connections are refused: not yet ready either.
		return err == nil && resp.StatusCode == http.StatusOK, nil
	})
}

// poll waits until the condition holds, fails, or a program of the control
// plane ends.
func (c *Cluster) poll(ctx context.Context, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, StartTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := condition(ctx)
		if ok || err != nil {
			return err
		}
		if err := c.Err(); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, ctx.Err())
		}
	}
}

// Stop ends all programs, clients first, and removes a temporary folder. It
// returns an error when a program had to be killed.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, p := range slices.Backward(c.processes) {
		// The API server waits up to a minute for open watches, etcd for its
		// clients; nothing here is worth keeping.
		if p.Name == apiServer || p.Name == "etcd" {
			p.Kill()
			continue
		}
		errs = append(errs, p.Stop(10*time.Second))
	}
	c.processes = nil
	if c.temporary {
		errs = append(errs, os.RemoveAll(c.Dir))
	}
	return errors.Join(errs...)
}

// KeepLogs makes Stop leave the folder in place.
func (c *Cluster) KeepLogs() { c.temporary = false }

// freePorts finds ports on loopback that nothing listens on.
func freePorts(n int) ([]string, error) {
	// Below those that the kernel gives to outgoing connections (32768 and up by
	// default), one of which may take a port before it is listened on.
	const lowest, highest, tries = 12000, 32767, 1000
	var ports []string
	for range tries {
		if len(ports) == n {
			return ports, nil
		}
		port := strconv.Itoa(lowest + rand.IntN(highest-lowest+1))
		l, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue // taken
		}
		defer l.Close() // all at the end, so that they differ
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("finding %d free ports from %d to %d: only %d after %d tries", n, lowest, highest, len(ports), tries)
}

// FreePort finds a port on loopback that nothing listens on.
func FreePort() (string, error) {
	ports, err := freePorts(1)
	if err != nil {
		return "", err
	}
	return ports[0], nil
}
