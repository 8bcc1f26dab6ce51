package agent

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/autoburst/autoburst/test/bench/meter"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

const (
	secrets       = 100_000
	fewPods       = 1000
	maxFewMemory  = 128 // MB, with fewPods pods
	manyPods      = 5000
	maxManyMemory = 256
	maxIdle       = 3 // per cent of one processor
	idleFor       = 60 * time.Second
)

// BenchmarkResources measures what the agent costs in a cluster with 100,000
// Secrets: the most memory that it ever had resident until 1,000 and until 5,000
// pods run, and its processor time while 1,000 pods run and nothing happens.
func BenchmarkResources(b *testing.B) {
	for b.Loop() {
		namespace := newNamespace(b, "resources")
		makeSecrets(b, "secrets")
		c := startECI(b, sim.Config{}, eci.Rates{})
		a := startAgent(b, c)
		grow := func(count int) {
			list := pods(namespace, c.node, count, corev1.RestartPolicyAlways)
			await(b, namespace, count, 10*time.Minute, isRunning, func() error { return create(b.Context(), list) })
		}

		grow(fewPods)
		idle(b, a, c, "ECI")
		few := memory(b, a, fewPods)
		grow(manyPods - fewPods)
		pause(b, 20*time.Second) // two listings of all
		many := memory(b, a, manyPods)
		b.ReportMetric(few, "MB/at-1000-pods")
		b.ReportMetric(many, "MB/at-5000-pods")
		bound(b, "most memory until 1,000 pods run, beside 100,000 Secrets", few, maxFewMemory, "MB")
		bound(b, "most memory until 5,000 pods run, beside 100,000 Secrets", many, maxManyMemory, "MB")
		stopAgent(b, c)
	}
}

// BenchmarkIdleACI measures the agent's processor time on ACI, where a status
// takes a read of its own.
func BenchmarkIdleACI(b *testing.B) {
	for b.Loop() {
		namespace := newNamespace(b, "idle-aci")
		c := startACI(b, sim.Config{})
		a := startAgent(b, c)
		list := pods(namespace, c.node, fewPods, corev1.RestartPolicyAlways)
		await(b, namespace, fewPods, 10*time.Minute, isRunning, func() error { return create(b.Context(), list) })
		idle(b, a, c, "ACI")
		stopAgent(b, c)
	}
}

// idle measures the agent's processor time while nothing happens.
func idle(b *testing.B, a *playground.Agent, c *cloud, name string) {
	b.Helper()
	settle(b, a)
	calls := c.calls.since(nil)
	used, strangers := programs(meter.Programs{"agent": a.Process.PID()}).Measure(func() { pause(b, idleFor) })
	calls = c.calls.since(calls)
	percent := 100 * used["agent"].Seconds() / idleFor.Seconds()
	b.Logf("idle with %d Running pods on %s: %d reads in %s; processor time: %s; strangers took %.0f %% of the machine",
		fewPods, name, reads(calls), idleFor, used.Describe(1), strangers*100)
	b.ReportMetric(percent, "%/idle-"+strings.ToLower(name))
	bound(b, fmt.Sprintf("processor time with %d Running pods on %s", fewPods, name), percent, maxIdle, "% of one processor")
}

// settle waits until the agent writes nothing any more: the events of a burst come
// at 50 a second.
func settle(b *testing.B, a *playground.Agent) {
	b.Helper()
	written := func() float64 {
		return gauge(b, a, "autoburst_vnode_events_total") + gauge(b, a, "autoburst_vnode_pod_status_writes_total")
	}
	pause(b, 15*time.Second)
	for before := -1.0; written() != before; {
		before = written()
		pause(b, 5*time.Second)
	}
}

// memory is the most memory that the agent ever had resident, in MB.
func memory(b *testing.B, a *playground.Agent, count int) float64 {
	b.Helper()
	now, peak, err := meter.Memory(a.Process.PID())
	if err != nil {
		b.Fatal(err)
	}
	heap := gauge(b, a, "go_memstats_heap_alloc_bytes")
	b.Logf("memory with %d pods: %.0f MB resident, %.0f MB at most; heap %.0f MB", count, mb(float64(now)), mb(float64(peak)), mb(heap))
	return mb(float64(peak))
}

func mb(bytes float64) float64 { return bytes / 1e6 }

func pause(b *testing.B, d time.Duration) {
	b.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
}

// makeSecrets fills a namespace with Secrets of 256 bytes.
func makeSecrets(b *testing.B, namespace string) {
	b.Helper()
	if err := system.CreateNamespace(b.Context(), namespace, nil); err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	payload := map[string][]byte{"value": []byte(strings.Repeat("x", 256))}
	if err := parallel(secrets, func(i int) error {
		_, err := client.CoreV1().Secrets(namespace).Create(b.Context(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("secret-%d", i)}, Data: payload,
		}, metav1.CreateOptions{})
		return err
	}); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d Secrets were made in %s", secrets, time.Since(begun).Round(time.Second))
}
