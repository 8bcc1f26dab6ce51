package cluster

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
)

// kwokAnnotation marks the nodes that kwok plays the kubelet of.
const kwokAnnotation = "kwok.x-k8s.io/node"

func (c *Cluster) writeKubeconfig(name, user string) error {
	return clientcmd.WriteToFile(c.kubeconfig(user, &clientcmdapi.AuthInfo{
		ClientCertificate: c.path(name + ".crt"),
		ClientKey:         c.path(name + ".key"),
	}), c.path(name+".kubeconfig"))
}

func (c *Cluster) kubeconfig(user string, auth *clientcmdapi.AuthInfo) clientcmdapi.Config {
	return clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"autoburst": {Server: c.server, CertificateAuthority: c.CAFile()}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: auth},
		Contexts:       map[string]*clientcmdapi.Context{"autoburst": {Cluster: "autoburst", AuthInfo: user}},
		CurrentContext: "autoburst",
	}
}

// ServiceAccountKubeconfig writes a kubeconfig with a token of that
// ServiceAccount, valid for a day, and returns its path. A program that runs
// outside the cluster has the rights it would have inside.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	token, err := c.Client().CoreV1().ServiceAccounts(namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: ptr.To[int64](24 * 3600)}},
		metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("asking for a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	path := c.path(fmt.Sprintf("serviceaccount-%s-%s.kubeconfig", namespace, name))
	user := "system:serviceaccount:" + namespace + ":" + name
	// Programs may be reading the file of an earlier call: it is replaced at once.
	fresh := path + "." + rand.Text()
	if err := clientcmd.WriteToFile(c.kubeconfig(user, &clientcmdapi.AuthInfo{Token: token.Status.Token}), fresh); err != nil {
		return "", err
	}
	return path, os.Rename(fresh, path)
}

// waitDefaultServiceAccount waits until pods can be created in the namespace
// default: ServiceAccount admission refuses them before.
func (c *Cluster) waitDefaultServiceAccount(ctx context.Context) error {
	client := c.Client()
	return c.poll(ctx, "the ServiceAccount default/default exists", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// CreateNamespace makes a namespace in which pods can be created at once.
func (c *Cluster) CreateNamespace(ctx context.Context, name string, annotations map[string]string) error {
	client := c.Client()
	_, err := client.CoreV1().Namespaces().Create(ctx,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", name, err)
	}
	return c.poll(ctx, "the ServiceAccount "+name+"/default exists", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// NodeOption changes a local node before it is created.
type NodeOption func(*corev1.Node)

// WithTaint adds a taint to a local node.
func WithTaint(key, value string, effect corev1.TaintEffect) NodeOption {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: effect})
	}
}

// WithLabel adds a label to a local node.
func WithLabel(key, value string) NodeOption {
	return func(n *corev1.Node) { n.Labels[key] = value }
}

// AddNode adds a local node of that size and waits until it is Ready.
func (c *Cluster) AddNode(ctx context.Context, name, cpu, memory string, pods int, options ...NodeOption) error {
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse(cpu),
		corev1.ResourceMemory: resource.MustParse(memory),
		corev1.ResourcePods:   *resource.NewQuantity(int64(pods), resource.DecimalSI),
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64"},
			Annotations: map[string]string{kwokAnnotation: "fake"},
		},
		Status: corev1.NodeStatus{Capacity: room, Allocatable: room},
	}
	for _, o := range options {
		o(node)
	}
	client := c.Client()
	if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating node %s: %w", name, err)
	}
	return c.poll(ctx, "node "+name+" is ready", func(ctx context.Context) (bool, error) {
		n, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, t := range n.Spec.Taints {
			if t.Key == corev1.TaintNodeNotReady {
				return false, nil
			}
		}
		for _, cond := range n.Status.Conditions {
			if cond.Type == corev1.NodeReady {
				return cond.Status == corev1.ConditionTrue, nil
			}
		}
		return false, nil
	})
}

// KubectlCommand is kubectl as the administrator, to be run.
func (c *Cluster) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Binary, append([]string{"kubectl", "--kubeconfig=" + c.Kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECACHEDIR="+c.path("kubectl-cache"))
	return cmd
}

// Kubectl runs kubectl as the administrator with that input and returns what it
// printed. Its error holds what it printed on standard error.
func (c *Cluster) Kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := c.KubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
