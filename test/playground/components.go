package playground

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/cluster"
)

// Controller is one running replica of the webhook and policy controller.
type Controller struct {
	Process *cluster.Process
	// Webhook, Metrics and Health are where it listens.
	Webhook, Metrics, Health string
}

// Agent is one running replica of the agent of a virtual node.
type Agent struct {
	Process *cluster.Process
	// Node is its virtual node.
	Node string
	// Pod is the name of the pod that it would run in, by which it stands for
	// election.
	Pod string
	// Metrics is where it listens, for health checks too, and Kubelet where it
	// serves the kubelet API.
	Metrics, Kubelet string

	place int
}

// Helm runs Helm against the cluster as the administrator.
func (p *Playground) Helm(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.programs.helm, append(args, "--kubeconfig="+p.Kubeconfig)...)
	cmd.Env = append(cmd.Environ(),
		"HELM_CACHE_HOME="+p.file("helm-cache"), "HELM_CONFIG_HOME="+p.file("helm-config"), "HELM_DATA_HOME="+p.file("helm-data"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("helm %s: %w: %s", args[0], err, out)
	}
	return string(out), nil
}

// InstallChart installs the chart, or upgrades it, with the settings of the
// playground: credentials and endpoints of the emulated clouds, and a webhook
// that the API server reaches at a URL outside the cluster. The Deployments
// have no replicas, as their programs run outside too.
func (p *Playground) InstallChart(ctx context.Context, set ...string) error {
	values := p.file("values.yaml")
	if err := writeFile(values, []byte(p.values())); err != nil {
		return err
	}
	root, err := cluster.RepositoryRoot()
	if err != nil {
		return err
	}
	args := []string{"upgrade", "--install", Release, root + "/charts/autoburst", "--namespace", Namespace, "--create-namespace", "--values", values}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	if _, err := p.Helm(ctx, args...); err != nil {
		return err
	}
	client := p.Client()
	return Poll(ctx, 30*time.Second, "the chart's ServiceAccounts exist", func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().ServiceAccounts(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + Release})
		return err == nil && len(list.Items) > 0, err
	})
}

// deployment finds the Deployment of a component, or of the agent of a virtual
// node.
func (p *Playground) deployment(ctx context.Context, match func(appsv1.Deployment) bool) (*appsv1.Deployment, error) {
	list, err := p.Client().AppsV1().Deployments(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + Release})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, d := range list.Items {
		if match(d) {
			return &d, nil
		}
		names = append(names, d.Name)
	}
	return nil, fmt.Errorf("the chart made no such Deployment, only %v", names)
}

// start runs the program of a Deployment, see command. Extra arguments and
// variables come last and win.
func (p *Playground) start(ctx context.Context, d *appsv1.Deployment, tap *cluster.Tap, name, binary string, extraArgs, extraEnv []string) (*cluster.Process, error) {
	args, env, err := p.command(ctx, d, tap, name)
	if err != nil {
		return nil, err
	}
	return cluster.StartProcess(p.Dir, name, append(env, extraEnv...), binary, append(args, extraArgs...)...)
}

// command is how a kubelet would run the first container of a Deployment: with its
// arguments and environment, and the token of its ServiceAccount, through a tap
// unless it is nil.
func (p *Playground) command(ctx context.Context, d *appsv1.Deployment, tap *cluster.Tap, name string) (args, env []string, err error) {
	spec := d.Spec.Template.Spec
	kubeconfig, err := p.ServiceAccountKubeconfig(ctx, Namespace, spec.ServiceAccountName)
	if err != nil {
		return nil, nil, err
	}
	if tap != nil {
		if kubeconfig, err = tap.Kubeconfig(kubeconfig); err != nil {
			return nil, nil, err
		}
	}
	if env, err = p.environment(ctx, spec.Containers[0]); err != nil {
		return nil, nil, fmt.Errorf("environment of Deployment %s: %w", d.Name, err)
	}
	if env, err = p.projectTokens(ctx, spec, name, env); err != nil {
		return nil, nil, fmt.Errorf("volumes of Deployment %s: %w", d.Name, err)
	}
	for _, a := range spec.Containers[0].Args {
		// The only variable that the chart's arguments refer to.
		args = append(args, strings.ReplaceAll(a, "$(POD_NAMESPACE)", Namespace))
	}
	return append(args, "--kubeconfig="+kubeconfig), env, nil
}

func (p *Playground) environment(ctx context.Context, c corev1.Container) ([]string, error) {
	var env []string
	for _, e := range c.Env {
		value := e.Value
		if from := e.ValueFrom; from != nil {
			switch {
			case from.SecretKeyRef != nil:
				secret, err := p.Client().CoreV1().Secrets(Namespace).Get(ctx, from.SecretKeyRef.Name, metav1.GetOptions{})
				if err != nil {
					return nil, err
				}
				data, ok := secret.Data[from.SecretKeyRef.Key]
				if !ok && ptr.Deref(from.SecretKeyRef.Optional, false) {
					continue
				}
				if !ok {
					return nil, fmt.Errorf("the Secret %s has no key %s", secret.Name, from.SecretKeyRef.Key)
				}
				value = string(data)
			case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
				value = Namespace
			case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.name":
				continue // whoever starts the program knows
			case from.FieldRef != nil && from.FieldRef.FieldPath == "status.podIP":
				value = "127.0.0.1"
			default:
				return nil, fmt.Errorf("variable %s comes from something that this playground does not know", e.Name)
			}
		}
		env = append(env, e.Name+"="+value)
	}
	return env, nil
}

// StartController starts one more replica of the webhook and controller.
func (p *Playground) StartController(ctx context.Context, extraArgs ...string) (*Controller, error) {
	d, err := p.deployment(ctx, func(d appsv1.Deployment) bool { return d.Labels["app.kubernetes.io/component"] == "controller" })
	if err != nil {
		return nil, err
	}
	var ports []string
	for range 3 {
		port, err := cluster.FreePort()
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	c := &Controller{Webhook: "127.0.0.1:" + ports[0], Metrics: "127.0.0.1:" + ports[1], Health: "127.0.0.1:" + ports[2]}
	p.mu.Lock()
	p.generation++
	name := fmt.Sprintf("autoburst-%d", p.generation)
	p.mu.Unlock()
	c.Process, err = p.start(ctx, d, nil, name, p.programs.controller, append([]string{
		"--webhook-host=127.0.0.1", "--webhook-port=" + ports[0],
		"--metrics-bind-address=" + c.Metrics, "--health-probe-bind-address=" + c.Health,
	}, extraArgs...), []string{"POD_NAME=" + name})
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.controllers = append(p.controllers, c)
	p.mu.Unlock()
	p.balancer.Add(c.Webhook)
	return c, nil
}

// Controllers are the replicas that run.
func (p *Playground) Controllers() []*Controller {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.controllers)
}

// RemoveController takes a replica out of the balancer; end ends its process.
func (p *Playground) RemoveController(c *Controller, end func(*cluster.Process)) {
	p.balancer.Remove(c.Webhook)
	end(c.Process)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.controllers = slices.DeleteFunc(p.controllers, func(o *Controller) bool { return o == c })
}

// StartAgent starts one more replica of the agent of a virtual node. It takes the
// place of a replica that has ended, as a container that the kubelet restarts in
// its pod does, or a new one. Extra variables win over the chart's.
func (p *Playground) StartAgent(ctx context.Context, node string, extraEnv ...string) (*Agent, error) {
	d, err := p.deployment(ctx, func(d appsv1.Deployment) bool { return d.Labels["autoburst.io/virtual-node"] == node })
	if err != nil {
		return nil, err
	}
	a, err := newAgent(node)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	for slices.ContainsFunc(p.agents[node], func(o *Agent) bool { return o.place == a.place }) {
		a.place++
	}
	a.Pod = fmt.Sprintf("%s-%d", d.Name, a.place)
	p.agents[node] = append(p.agents[node], a)
	p.mu.Unlock()
	tap, err := p.tap(a.Pod)
	if err != nil {
		return nil, err
	}
	process, err := p.runAgent(ctx, d, tap, a, nil, extraEnv)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.agents[node] = slices.DeleteFunc(p.agents[node], func(o *Agent) bool { return o == a })
		return nil, err
	}
	a.Process = process
	return a, nil
}

// Agents are the running replicas of the agent of a virtual node, in the order in
// which they were started.
func (p *Playground) Agents(node string) []*Agent {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.agents[node]), func(a *Agent) bool { return a.Process == nil })
}

// Agent is the oldest running replica of the agent of a virtual node, nil if
// there is none.
func (p *Playground) Agent(node string) *Agent {
	if all := p.Agents(node); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Leader is the replica that holds the Lease of a virtual node, nil if none of
// those that run does.
func (p *Playground) Leader(ctx context.Context, node string) (*Agent, error) {
	lease, err := p.Client().CoordinationV1().Leases(Namespace).Get(ctx, Release+"-vnode-"+node, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	for _, a := range p.Agents(node) {
		if a.Pod == ptr.Deref(lease.Spec.HolderIdentity, "") {
			return a, nil
		}
	}
	return nil, nil
}

// RemoveAgent ends all replicas of the agent of a virtual node.
func (p *Playground) RemoveAgent(node string, end func(*cluster.Process)) {
	for _, a := range p.Agents(node) {
		p.RemoveReplica(a, end)
	}
}

// RemoveReplica ends one replica of the agent of a virtual node.
func (p *Playground) RemoveReplica(a *Agent, end func(*cluster.Process)) {
	end(a.Process)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.agents[a.Node] = slices.DeleteFunc(p.agents[a.Node], func(o *Agent) bool { return o == a })
}

// WaitNodeReady waits until a virtual node is Ready.
func (p *Playground) WaitNodeReady(ctx context.Context, node string) error {
	client := p.Client()
	agent := p.Agent(node)
	return Poll(ctx, time.Minute, "virtual node "+node+" is ready", func(ctx context.Context) (bool, error) {
		if agent != nil {
			if err := agent.Process.Err(); err != nil {
				return false, err
			}
		}
		n, err := client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return false, fmt.Errorf("node %s: %s: %s", node, c.Reason, c.Message)
			}
		}
		return isReady(n) && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
			return strings.HasPrefix(t.Key, "node.kubernetes.io/")
		}), nil
	})
}

// KubeletAPI asks one agent, whether it leads or not, with the API server's own
// certificate.
func (p *Playground) KubeletAPI(ctx context.Context, a *Agent, path string) (body string, code int, err error) {
	certificate, err := tls.LoadX509KeyPair(p.file("apiserver-kubelet-client.crt"), p.file("apiserver-kubelet-client.key"))
	if err != nil {
		return "", 0, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		Certificates:       []tls.Certificate{certificate},
		InsecureSkipVerify: true, // made by the agent, as the API server takes it
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.Kubelet+path, nil)
	if err != nil {
		return "", 0, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return string(answer), resp.StatusCode, err
}
