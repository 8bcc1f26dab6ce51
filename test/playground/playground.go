// Package playground is the whole system on one machine: a real control plane,
// local nodes played by kwok, the emulated clouds, and Autoburst installed with
// its own chart. Its programs run as processes with the arguments, the settings
// and the ServiceAccounts of the chart's Deployments, as a kubelet would run
// them. The demo, the end-to-end tests and the benchmarks share it.
package playground

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/klog/v2"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
)

const (
	// Namespace is where the chart is installed.
	Namespace = "autoburst-system"
	// Release is the name of the chart's release.
	Release = "autoburst"
	// ECINode is the virtual node on ECI.
	ECINode = "virtual-eci"
	// ACINode is the virtual node on ACI.
	ACINode = "virtual-aci"
)

var (
	logger = klog.Background()
	one    = *resource.NewQuantity(1, resource.DecimalSI)
)

// LocalNodes is a set of equal local nodes.
type LocalNodes struct {
	Count  int
	CPU    string
	Memory string
	Pods   int
	Extra  []cluster.NodeOption
}

// Options of Start. The zero value is usable: no local nodes, both virtual
// nodes, two replicas of the controller, clouds in which nothing takes time.
type Options struct {
	// Progress is told what is done. Nil means nobody is.
	Progress io.Writer
	// Local nodes to make before Autoburst is installed.
	Local LocalNodes
	// Cloud is the pace of the emulated clouds, and what their containers do.
	Cloud sim.Config
	// Controllers is how many replicas of the webhook and controller run; zero
	// means two, a negative number none.
	Controllers int
	// Race builds the programs with the race detector.
	Race bool
	// Set adds chart values in Helm's --set form.
	Set []string
	// Agents is how many replicas of the agent each virtual node has; zero means
	// one.
	Agents int
	// ExtraNodes are further virtual nodes of the chart; no agent is started for
	// them.
	ExtraNodes []ExtraNode
	// WithoutAgents leaves the virtual nodes out until StartAgent.
	WithoutAgents bool
	// WithoutChart installs nothing: who starts it does, as somebody else wants it.
	WithoutChart bool
	// Taps leads each replica of an agent through a tap of its own to the API server.
	Taps bool
	// PageSize bounds the pages of the clouds' lists; zero leaves them as large as
	// the clouds make them.
	PageSize int
	// Cluster are the control plane's options.
	Cluster cluster.Options
}

// Playground is the running system.
type Playground struct {
	*cluster.Cluster
	ECI *ECICloud
	ACI *ACICloud

	options  Options
	programs programs
	balancer *balancer
	progress io.Writer

	mu          sync.Mutex
	controllers []*Controller
	agents      map[string][]*Agent
	taps        map[string]*cluster.Tap
	generation  int
}

// ECICloud and ACICloud are the emulated clouds with where they listen.
type ECICloud struct {
	*eci.Server
	// Address is host:port, CAFile the authority of its certificate.
	Address, CAFile string
}

// ACICloud is the emulated Azure.
type ACICloud struct {
	*aci.Server
	CAFile string
}

// Start brings everything up and returns when both virtual nodes are ready. The
// caller calls Stop.
func Start(ctx context.Context, o Options) (_ *Playground, err error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Controllers == 0 {
		o.Controllers = 2
	}
	o.Cluster.Progress = o.Progress
	p := &Playground{options: o, progress: o.Progress, agents: map[string][]*Agent{}, taps: map[string]*cluster.Tap{}}
	// Compiling takes most of the time when it is needed at all, so it comes
	// first and alone.
	if p.programs, err = buildPrograms(ctx, o.Race, o.Progress); err != nil {
		return nil, err
	}
	if p.Cluster, err = cluster.Start(ctx, o.Cluster); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.KeepLogs()
			err = fmt.Errorf("%w (logs in %s)", err, p.Dir)
			_ = p.Stop()
		}
	}()
	if err := p.startClouds(); err != nil {
		return nil, err
	}
	if o.Local.Count > 0 {
		p.say("adding %d local nodes of %s CPU each", o.Local.Count, o.Local.CPU)
	}
	for i := range o.Local.Count {
		if err := p.AddNode(ctx, fmt.Sprintf("local-%d", i+1), o.Local.CPU, o.Local.Memory, o.Local.Pods, o.Local.Extra...); err != nil {
			return nil, err
		}
	}
	if p.balancer, err = newBalancer(); err != nil {
		return nil, err
	}
	if err := p.makeCredentials(ctx); err != nil {
		return nil, err
	}
	if o.WithoutChart {
		return p, nil
	}
	p.say("installing the chart with Helm")
	if err := p.InstallChart(ctx, o.Set...); err != nil {
		return nil, err
	}
	if o.Controllers > 0 {
		p.say("starting the webhook and policy controller, %d replicas", o.Controllers)
	}
	for range o.Controllers {
		if _, err := p.StartController(ctx); err != nil {
			return nil, err
		}
	}
	if o.Controllers > 0 {
		if err := p.WaitWebhook(ctx); err != nil {
			return nil, err
		}
	}
	if !o.WithoutAgents {
		p.say("starting the agents of %s and %s", ECINode, ACINode)
		for _, node := range []string{ECINode, ACINode} {
			for range max(o.Agents, 1) {
				if _, err := p.StartAgent(ctx, node); err != nil {
					return nil, err
				}
			}
		}
		for _, node := range []string{ECINode, ACINode} {
			if err := p.WaitNodeReady(ctx, node); err != nil {
				return nil, err
			}
		}
	}
	p.say("ready: %d local nodes, virtual nodes %s and %s", o.Local.Count, ECINode, ACINode)
	return p, nil
}

func (p *Playground) say(format string, args ...any) {
	fmt.Fprintf(p.progress, "playground: "+format+"\n", args...)
}

// Stop ends everything in the order in which an operator would: the product
// first, then the clouds, then the cluster.
func (p *Playground) Stop() error {
	p.mu.Lock()
	controllers, agents := p.controllers, p.allAgents()
	p.controllers, p.agents = nil, map[string][]*Agent{}
	p.mu.Unlock()
	var errs []error
	for _, a := range agents {
		errs = append(errs, a.Process.Stop(stopGrace))
	}
	for _, c := range controllers {
		errs = append(errs, c.Process.Stop(stopGrace))
	}
	for _, tap := range p.taps {
		errs = append(errs, tap.Close())
	}
	if p.balancer != nil {
		p.balancer.Close()
	}
	if p.ECI != nil {
		errs = append(errs, p.ECI.Close())
	}
	if p.ACI != nil {
		errs = append(errs, p.ACI.Close())
	}
	errs = append(errs, p.Cluster.Stop())
	return errors.Join(errs...)
}

// allAgents are the running replicas of all agents. The lock is held.
func (p *Playground) allAgents() []*Agent {
	var all []*Agent
	for _, agents := range p.agents {
		for _, a := range agents {
			if a.Process != nil {
				all = append(all, a)
			}
		}
	}
	return all
}

// Plugin is the path of the built kubectl-autoburst.
func (p *Playground) Plugin() string { return p.programs.plugin }

// HelmProgram is the path of Helm.
func (p *Playground) HelmProgram() string { return p.programs.helm }

const stopGrace = 30 * time.Second

// Poll waits until the condition holds or the time is up. What says what is
// waited for.
func Poll(ctx context.Context, timeout time.Duration, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		ok, err := condition(ctx)
		if ok && err == nil {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("waiting %s until %s: %w", timeout, what, last)
			}
			return fmt.Errorf("waiting %s until %s: %w", timeout, what, ctx.Err())
		}
	}
}

// Logs returns the ends of the logs of the product's programs, for a failed
// test.
func (p *Playground) Logs(lines int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	tail := func(name string, process *cluster.Process) {
		fmt.Fprintf(&b, "--- %s\n%s\n", name, process.Tail(lines))
	}
	for _, c := range p.controllers {
		tail(c.Process.Name, c.Process)
	}
	for _, a := range p.allAgents() {
		tail(a.Process.Name, a.Process)
	}
	return b.String()
}

func (p *Playground) file(name string) string { return filepath.Join(p.Dir, name) }

func writeFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }
