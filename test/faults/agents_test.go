package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/test/playground"
	"github.com/autoburst/autoburst/vnode"
)

// start starts the agent as a process with the chart's settings, quick
// intervals and those extra arguments, and waits until its node is ready.
func (b *bed) start(args ...string) *playground.Agent {
	b.Helper()
	a := b.startWith(b.Context(), args...)
	b.waitReady()
	return a
}

// startWith starts the agent and does not wait for it.
func (b *bed) startWith(ctx context.Context, args ...string) *playground.Agent {
	b.Helper()
	return b.startEnv(ctx, nil, args...)
}

func (b *bed) startEnv(ctx context.Context, env []string, args ...string) *playground.Agent {
	b.Helper()
	kubeconfig, err := b.kubeconfig(ctx)
	if err != nil {
		b.Fatal(err)
	}
	a, err := system.RunAgent(ctx, b.node, append([]string{
		"--kubeconfig=" + kubeconfig, "--sweep-interval=1s", "--fast-interval=200ms", "--check-interval=1s", "--missing-interval=1s",
	}, args...), append(b.env(), env...))
	if err != nil {
		b.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.agents = append(b.agents, a)
	return a
}

// kubeconfig leads through the tap, as the chart's ServiceAccount.
func (b *bed) kubeconfig(ctx context.Context) (string, error) {
	direct, err := system.ServiceAccountKubeconfig(ctx, playground.Namespace, playground.Release+"-vnode")
	if err != nil {
		return "", err
	}
	return b.tap.Kubeconfig(direct)
}

// agent is the agent that was started last, as a process.
func (b *bed) agent() *playground.Agent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.agents[len(b.agents)-1]
}

// running tells whether an agent runs.
func (b *bed) running() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.agents, func(a *playground.Agent) bool { return a.Process.Err() == nil }) ||
		slices.ContainsFunc(b.inside, func(a *insideAgent) bool { return !a.stopped })
}

// stop ends the newest agent as an operator would.
func (b *bed) stop() {
	b.Helper()
	if err := b.agent().Process.Stop(20 * time.Second); err != nil {
		b.Error(err)
	}
}

// stopAll ends every agent that runs.
func (b *bed) stopAll() {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.agents {
		if a.Process.Err() == nil {
			if err := a.Process.Stop(20 * time.Second); err != nil {
				b.Error(err)
			}
		}
	}
	for _, a := range b.inside {
		a.stop()
	}
}

// insideAgent is an agent in this process, for scenarios on a fast clock.
type insideAgent struct {
	log     *logBuffer
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	done    chan error
	stopped bool
}

func (a *insideAgent) stop() {
	if !a.stopped {
		a.cancel()
		if err := <-a.done; err != nil {
			a.log.note(err)
		}
		a.stopped = true
	}
}

// runInside starts an agent in this process, with the intervals of a real one
// on the bed's clock. wrap may stand between it and the cloud.
func (b *bed) runInside(edit func(*vnode.Config), wrap func(providers.Provider) providers.Provider) *insideAgent {
	b.Helper()
	path, err := b.kubeconfig(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		b.Fatal(err)
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	provider, err := b.providerOf(clusterUID, b.node, b.clock)
	if err != nil {
		b.Fatal(err)
	}
	if wrap != nil {
		provider = wrap(provider)
	}
	c := vnode.Config{ClusterUID: clusterUID, Node: vnode.NodeSettings{
		Name: b.node, InternalIP: "127.0.0.1", KubeletPort: 10250,
		Taint: corev1.Taint{Key: v1alpha1.ProviderTaintKey, Value: "faults", Effect: corev1.TaintEffectNoSchedule},
	}}
	if edit != nil {
		edit(&c)
	}
	a := &insideAgent{log: &logBuffer{}, metrics: prometheus.NewRegistry(), done: make(chan error, 1)}
	agent, err := vnode.New(c, client, provider, b.clock, slog.New(slog.NewTextHandler(a.log, nil)), vnode.NewMetrics(a.metrics))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	go func() { a.done <- agent.Run(ctx) }()
	b.mu.Lock()
	b.inside = append(b.inside, a)
	b.mu.Unlock()
	b.waitReady()
	return a
}

// metric is the sum of a metric's series, of one operation if it is named.
func (a *insideAgent) metric(t *testing.T, name, operation string) float64 {
	t.Helper()
	families, err := a.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if operation == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == operation }) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// residentMemory is what the newest agent's process holds, in bytes.
func (b *bed) residentMemory() int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.agent().Process.PID()))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	b.Fatal("/proc/PID/status has no VmRSS")
	return 0
}

// logBuffer keeps what an agent in this process logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// note adds an error that ended the agent.
func (l *logBuffer) note(err error) {
	fmt.Fprintf(l, "level=ERROR msg=\"the agent has ended\" error=%q\n", err)
}

func (l *logBuffer) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) tail(lines int) string {
	all := strings.Split(strings.TrimSpace(l.text()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
