package chart

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
)

// services leads the API server's calls, as kube-proxy does on its machine, from the
// address of a Service to an endpoint that is ready. The API server hands it every
// connection into the cluster, by its egress selector.
type services struct {
	dir      string
	listener net.Listener
	turn     atomic.Uint64

	mu       sync.Mutex
	client   kubernetes.Interface
	kubelets []*kubelet
}

// newServices listens in that folder.
func newServices(dir string) (*services, error) {
	listener, err := net.Listen("unix", filepath.Join(dir, "egress.sock"))
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf(`
apiVersion: apiserver.k8s.io/v1beta1
kind: EgressSelectorConfiguration
egressSelections:
- name: cluster
  connection:
    proxyProtocol: HTTPConnect
    transport: {uds: {udsName: %q}}
`, listener.Addr())
	s := &services{dir: dir, listener: listener}
	if err := os.WriteFile(s.config(), []byte(config), 0o600); err != nil {
		return nil, err
	}
	go s.serve()
	return s, nil
}

// config is the API server's file.
func (s *services) config() string { return filepath.Join(s.dir, "egress.yaml") }

// attach tells where Services and pods are to be found.
func (s *services) attach(client kubernetes.Interface, kubelets ...*kubelet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.kubelets = client, kubelets
}

func (s *services) close() { _ = s.listener.Close() }

func (s *services) serve() {
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.handle(conn)
	}
}

func (s *services) handle(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	to, err := s.resolve(req.Context(), req.Host)
	var out net.Conn
	if err == nil {
		out, err = net.Dial("tcp", to)
	}
	if err != nil {
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return
	}
	defer out.Close()
	if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(conn, out); _ = conn.(*net.UnixConn).CloseWrite() })
	both.Wait()
}

// resolve returns where a connection to that address goes.
func (s *services) resolve(ctx context.Context, address string) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return address, nil // a kubelet
	}
	s.mu.Lock()
	client, kubelets := s.client, s.kubelets
	s.mu.Unlock()
	if client == nil {
		return "", errors.New("the cluster is not up yet")
	}
	port, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return "", err
	}
	list, err := client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for i := range list.Items {
		service := &list.Items[i]
		if service.Spec.ClusterIP != host {
			continue
		}
		for _, p := range service.Spec.Ports {
			if p.Port != int32(port) {
				continue
			}
			slices, err := client.DiscoveryV1().EndpointSlices(service.Namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service.Name})
			if err != nil {
				return "", err
			}
			var ready []string
			for _, slice := range slices.Items {
				for _, e := range slice.Endpoints {
					for _, to := range slice.Ports {
						if ptr.Deref(to.Name, "") != p.Name || !ptr.Deref(e.Conditions.Ready, true) {
							continue
						}
						for _, k := range kubelets {
							if local, ok := k.dial(e.Addresses[0], ptr.Deref(to.Port, 0)); ok {
								ready = append(ready, local)
							}
						}
					}
				}
			}
			if len(ready) > 0 {
				return ready[s.turn.Add(1)%uint64(len(ready))], nil
			}
			return "", fmt.Errorf("service %s/%s has no endpoint that is ready", service.Namespace, service.Name)
		}
	}
	return "", fmt.Errorf("nothing is at %s", address)
}
