package certificates

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/playground"
)

const (
	// issuer signs for kubelets.
	issuer = `
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: kubelets, namespace: autoburst-system}
spec: {ca: {secretName: kubelets}}
`
	// talker runs on ECI.
	talker = `
apiVersion: v1
kind: Pod
metadata: {name: talker, namespace: default}
spec:
  nodeSelector: {type: virtual-kubelet, autoburst.io/provider: eci}
  tolerations: [{key: alibabacloud.com/eci, operator: Exists, effect: NoSchedule}]
  containers:
  - name: main
    image: registry.example.com/talker:1
    command: [sh, -c, "echo hello; sleep 600"]
`
)

// An API server that verifies kubelets reaches an agent by a certificate of
// cert-manager, which is renewed while the agent runs, and by no other.
func TestAgentsOfCertManager(t *testing.T) {
	needCertManager(t)
	private, err := keyPEM(kubelets.key)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, "kubelets", map[string][]byte{corev1.TLSCertKey: kubelets.pem(), corev1.TLSPrivateKeyKey: private})
	kubectl(t, issuer, "apply", "-f", "-")
	start := func(values ...string) *playground.Agent {
		t.Helper()
		if err := upgrade(t, values...); err != nil {
			t.Fatal(err)
		}
		agent, err := system.StartAgent(t.Context(), playground.ECINode)
		if err != nil {
			t.Fatal(err)
		}
		if err := system.WaitNodeReady(t.Context(), playground.ECINode); err != nil {
			t.Fatal(err)
		}
		return agent
	}
	defer func() {
		if t.Failed() {
			t.Log(system.Logs(20))
		}
		system.RemoveAgent(playground.ECINode, end(t))
	}()

	start()
	kubectl(t, talker, "apply", "-f", "-")
	mustEventually(t, time.Minute, "the pod runs", func(ctx context.Context) (bool, error) {
		pod, err := client().CoreV1().Pods("default").Get(ctx, "talker", metav1.GetOptions{})
		return err == nil && pod.Status.Phase == corev1.PodRunning, err
	})
	if out, err := system.Kubectl(t.Context(), "", "logs", "talker"); err == nil || !strings.Contains(err.Error(), "x509") {
		t.Errorf("the API server takes a certificate that the agent has signed itself: %q, %v", out, err)
	}
	system.RemoveAgent(playground.ECINode, end(t))

	agent := start("vnode.certManager.issuerRef.name=kubelets", "vnode.certManager.duration=24s")
	serves := func() (*x509.Certificate, error) {
		roots := x509.NewCertPool()
		roots.AddCert(kubelets.certificate)
		conn, err := tls.Dial("tcp", agent.Kubelet, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0], nil
	}
	var first *x509.Certificate
	mustEventually(t, 30*time.Second, "the agent serves a certificate of the issuer", func(context.Context) (bool, error) {
		first, err = serves()
		return err == nil, err
	})
	if name := first.Subject.CommonName; name != playground.ECINode || len(first.DNSNames) != 1 || first.DNSNames[0] != playground.ECINode {
		t.Errorf("the certificate is for %q and %q, want the node's name", name, first.DNSNames)
	}
	logs := func() {
		t.Helper()
		if out, err := system.Kubectl(t.Context(), "", "logs", "talker"); err != nil || out != "hello\n" {
			t.Errorf("kubectl logs: %q, %v", out, err)
		}
	}
	logs()
	// From the first to the third, a valid one is served at all times.
	seen := map[string]bool{first.SerialNumber.String(): true}
	mustEventually(t, 90*time.Second, "the certificate has been renewed twice", func(context.Context) (bool, error) {
		c, err := serves()
		if err != nil {
			t.Errorf("the agent serves a certificate that is not the issuer's: %v", err)
			return true, nil
		}
		seen[c.SerialNumber.String()] = true
		return len(seen) >= 3, nil
	})
	logs()
	if agent.Process.Err() != nil {
		t.Error("the agent was restarted")
	}
	mustEventually(t, 20*time.Second, "the agent's requests are gone", func(context.Context) (bool, error) {
		out := kubectl(t, "", "get", "certificaterequests", "--namespace="+playground.Namespace, "--selector=autoburst.io/virtual-node", "-o", "name")
		if out != "" {
			return false, fmt.Errorf("there is %s", out)
		}
		return true, nil
	})
	if out := kubectl(t, "", "get", "secrets", "--namespace="+playground.Namespace, "-o", "name"); strings.Contains(out, agent.Pod) {
		t.Errorf("there is a Secret of the agent: %s", out)
	}
}
