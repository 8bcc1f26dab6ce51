package foreign

import (
	"context"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// Azure is the emulated cloud and the account that azure-aci works with.
type Azure struct {
	// Address is host:port of the emulator. Its certificate must be good for the
	// public hosts, and be signed by the authorities in CAFile.
	Address, CAFile string

	Tenant, Subscription, Client, ClientSecret string
	ResourceGroup, Region                      string
}

// publicHosts are the addresses that azure-aci knows.
var publicHosts = []string{"login.microsoftonline.com:443", "management.azure.com:443"}

// kubeletPort is where azure-aci serves the kubelet API, on all addresses and to
// clients with a certificate of the cluster's authority. Another KUBELET_PORT is
// what it tells the API server, but not where it listens.
const kubeletPort = "10250"

// Agent is a running azure-aci. One can run on a machine at a time.
type Agent struct {
	Process *cluster.Process
	proxy   *Proxy
}

// Start builds azure-aci if need be, starts it as the named virtual node with
// the rights that its own chart gives it, those of a cluster administrator, and
// waits until the node is ready. The caller calls Stop.
func Start(ctx context.Context, c *cluster.Cluster, node string, cloud Azure, out io.Writer) (*Agent, error) {
	binary, err := Build(ctx, out)
	if err != nil {
		return nil, err
	}
	routes := map[string]string{}
	for _, host := range publicHosts {
		routes[host] = cloud.Address
	}
	proxy, err := NewProxy(routes)
	if err != nil {
		return nil, err
	}
	serving := "azure-aci-" + node
	if _, err := c.Certificate(serving, "127.0.0.1"); err != nil {
		return nil, err
	}
	a := &Agent{proxy: proxy}
	// The variables are those of its chart; the last ones lead it here.
	a.Process, err = cluster.StartProcess(c.Dir, serving, []string{
		"KUBECONFIG=" + c.Kubeconfig, "KUBELET_PORT=" + kubeletPort, "VKUBELET_POD_IP=127.0.0.1",
		"APISERVER_CERT_LOCATION=" + c.Dir + "/" + serving + ".crt", "APISERVER_KEY_LOCATION=" + c.Dir + "/" + serving + ".key",
		"APISERVER_CA_CERT_LOCATION=" + c.CAFile(),
		"AZURE_TENANT_ID=" + cloud.Tenant, "AZURE_SUBSCRIPTION_ID=" + cloud.Subscription,
		"AZURE_CLIENT_ID=" + cloud.Client, "AZURE_CLIENT_SECRET=" + cloud.ClientSecret,
		"ACI_RESOURCE_GROUP=" + cloud.ResourceGroup, "ACI_REGION=" + cloud.Region,
		// It wants the name of a network, and uses none as long as no subnet is named.
		"ACI_VNET_NAME=unused", "ACI_VNET_RESOURCE_GROUP=" + cloud.ResourceGroup,
		"HTTPS_PROXY=" + proxy.URL(), "NO_PROXY=127.0.0.1", "SSL_CERT_FILE=" + cloud.CAFile, "SSL_CERT_DIR=/nonexistent",
	}, binary, "--nodename="+node, "--os=Linux")
	if err != nil {
		_ = proxy.Close()
		return nil, err
	}
	client := c.Client()
	if err := playground.Poll(ctx, time.Minute, "the node of azure-aci is ready", func(ctx context.Context) (bool, error) {
		if err := a.Process.Err(); err != nil {
			return false, err
		}
		n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				return cond.Status == corev1.ConditionTrue, nil
			}
		}
		return false, nil
	}); err != nil {
		err = fmt.Errorf("%w; its log ends with:\n%s", err, a.Process.Tail(20))
		_ = a.Stop()
		return nil, err
	}
	return a, nil
}

// Stop ends azure-aci, and its way to the cloud. It does not end by itself when
// it is told to, so it is killed.
func (a *Agent) Stop() error {
	a.Process.Kill()
	return a.proxy.Close()
}
