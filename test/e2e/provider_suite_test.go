package e2e

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	suite "github.com/virtual-kubelet/virtual-kubelet/test/e2e"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/autoburst/autoburst/test/playground"
)

// The suite of the virtual-kubelet project that every provider is to pass, as its
// module has it.
func TestProviderSuite(t *testing.T) {
	onBothClouds(t, func(t *testing.T, node, ns string) {
		if node == aciNode {
			inSubnet(t)
		}
		suite.NewEndToEndTestSuite(suite.EndToEndTestSuiteConfig{
			Kubeconfig: bridge(t, node, ns), Namespace: ns, NodeName: node, WatchTimeout: time.Minute,
		}).Run(t)
	})
}

// inSubnet has the agent of ACI put its groups into a subnet until the test ends:
// elsewhere a group without ports has no address, and every pod of the suite must have
// one.
func inSubnet(t *testing.T) {
	t.Helper()
	restart := func(ctx context.Context, env ...string) {
		system.RemoveAgent(aciNode, endProcess(t))
		if _, err := system.StartAgent(ctx, aciNode, env...); err != nil {
			t.Fatal(err)
		}
		if err := system.WaitNodeReady(ctx, aciNode); err != nil {
			t.Fatal(err)
		}
	}
	restart(t.Context(), "ACI_SUBNET_ID=/subscriptions/"+playground.ACISubscription+"/resourceGroups/"+playground.ACIResourceGroup+
		"/providers/Microsoft.Network/virtualNetworks/pods/subnets/pods")
	t.Cleanup(func() { restart(context.Background()) })
}

// bridge is a way to the API server on which requests to the kubelet API of a node
// reach it, and returns the kubeconfig of a client that takes it. The API server
// itself would pass them on to no loopback address, which is all that this machine
// has. The suite asks for some of them at a pod named as the node: there an agent
// is one.
func bridge(t *testing.T, node, ns string) (kubeconfig string) {
	t.Helper()
	config := system.Config()
	server, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(server) },
		Transport: transport, FlushInterval: -1,
		ErrorLog: log.New(io.Discard, "", 0), // a watch that ends
	}
	kubelet := func(path string) (rest string, ok bool) {
		for _, prefix := range []string{
			"/api/v1/nodes/" + node + "/proxy/",
			"/api/v1/namespaces/" + ns + "/pods/https:" + node + ":10250/proxy/",
		} {
			if rest, ok := strings.CutPrefix(path, prefix); ok {
				return "/" + strings.TrimPrefix(rest, "/"), true
			}
		}
		return "", false
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := kubelet(r.URL.Path)
		if !ok {
			proxy.ServeHTTP(w, r)
			return
		}
		leader, err := system.Leader(r.Context(), node)
		if err != nil || leader == nil {
			http.Error(w, "no agent leads node "+node, http.StatusServiceUnavailable)
			return
		}
		body, code, err := system.KubeletAPI(r.Context(), leader, path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", http.DetectContentType([]byte(body)))
		if strings.HasPrefix(body, "{") {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"bridge": {Server: web.URL}},
		Contexts:       map[string]*clientcmdapi.Context{"bridge": {Cluster: "bridge"}},
		CurrentContext: "bridge",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}
