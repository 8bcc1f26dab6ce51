package playground

import (
	"context"
	"fmt"
	"net"
	"strings"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/autoburst/autoburst/test/cluster"
)

// ExtraNode is a virtual node beside the two that every playground has. The
// chart makes its Deployment and names it in the agents' Role.
type ExtraNode struct {
	Name string
	// Provider is eci or aci; the node has that cloud's settings and account.
	Provider string
}

// extraNodes are the chart values of the extra nodes, as entries of a list.
func (p *Playground) extraNodes() string {
	var b strings.Builder
	for _, n := range p.options.ExtraNodes {
		if n.Provider == "eci" {
			fmt.Fprintf(&b, `- name: %s
  provider: eci
  eci: {region: %s, vSwitch: %s, securityGroup: %s, endpoint: "%s"}
  credentials: {existingSecret: eci-credentials}
  env: {ECI_CA_FILE: "%s", CLOUD_QUOTA: unlimited}
`, n.Name, ECIRegion, ECIVSwitch, ECISecurityGroup, p.ECI.Address, p.ECI.CAFile)
			continue
		}
		fmt.Fprintf(&b, `- name: %s
  provider: aci
  aci: {region: %s, resourceGroup: %s, subscriptionId: %s, tenantId: %s, authorityHost: "%[6]s", endpoint: "%[6]s"}
  credentials: {existingSecret: aci-credentials}
  env: {ACI_CA_FILE: "%[7]s", CLOUD_QUOTA: unlimited}
`, n.Name, ACIRegion, ACIResourceGroup, ACISubscription, ACITenant, p.ACI.URL(), p.ACI.CAFile)
	}
	return b.String()
}

// RunAgent starts an agent of a virtual node that the playground does not look
// after: the caller ends it. All stand for election by the name of the first pod,
// as a container that is started again does, unless extraEnv has another POD_NAME.
// Extra arguments and variables win over the chart's.
func (p *Playground) RunAgent(ctx context.Context, node string, extraArgs, extraEnv []string) (*Agent, error) {
	d, err := p.deployment(ctx, func(d appsv1.Deployment) bool { return d.Labels["autoburst.io/virtual-node"] == node })
	if err != nil {
		return nil, err
	}
	a, err := newAgent(node)
	if err != nil {
		return nil, err
	}
	a.Pod = d.Name + "-0"
	if a.Process, err = p.runAgent(ctx, d, nil, a, extraArgs, extraEnv); err != nil {
		return nil, err
	}
	return a, nil
}

// newAgent is an agent that does not run yet, with ports of its own.
func newAgent(node string) (*Agent, error) {
	var addresses [2]string
	for i := range addresses {
		port, err := cluster.FreePort()
		if err != nil {
			return nil, err
		}
		addresses[i] = net.JoinHostPort("127.0.0.1", port)
	}
	return &Agent{Node: node, Kubelet: addresses[0], Metrics: addresses[1]}, nil
}

// runAgent starts the program of an agent.
func (p *Playground) runAgent(ctx context.Context, d *appsv1.Deployment, tap *cluster.Tap, a *Agent, extraArgs, extraEnv []string) (*cluster.Process, error) {
	p.mu.Lock()
	p.generation++
	name := fmt.Sprintf("autoburst-vnode-%s-%d", a.Node, p.generation)
	p.mu.Unlock()
	host, port, err := net.SplitHostPort(a.Kubelet)
	if err != nil {
		return nil, err
	}
	return p.start(ctx, d, tap, name, p.programs.agent, append([]string{
		"--metrics-bind-address=" + a.Metrics, "--kubelet-bind-address=" + host, "--client-ca-file=" + p.CAFile(),
	}, extraArgs...), append([]string{"POD_NAME=" + a.Pod, "KUBELET_PORT=" + port, "VKUBELET_POD_IP=" + host}, extraEnv...))
}
