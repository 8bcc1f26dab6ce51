package agent

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/test/bench/foreign"
	"github.com/autoburst/autoburst/test/bench/meter"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// population is the pods of a measurement of staleness, and what happens to them.
type population struct {
	services, jobs int
	// Within so long, so many pods start, as schedulers and owners have them do all
	// day, jobs end, one in four with an error, and services crash, which nobody can
	// foresee.
	within                time.Duration
	starts, ends, crashes int
}

var (
	onECI = population{services: 800, jobs: 200, within: 2 * time.Minute, starts: 150, ends: 120, crashes: 30}
	// As many groups as Azure allows a region by default. azure-aci starts 1,000
	// pods in a quarter of an hour only, as its client of the API server is limited
	// to five requests a second.
	onACI = population{services: 70, jobs: 30, within: 3 * time.Minute, starts: 60, ends: 30, crashes: 6}
)

const (
	catchUp       = 3 * time.Minute
	maxECIStale   = 15.0 // seconds, of 99 in 100 changes
	maxECIReads   = 1.0  // a second
	maxACIReads   = 0.1  // of azure-aci's
	foreignBursts = 100
)

// BenchmarkStalenessECI measures how long the API server shows what has changed
// in ECI, with 1,000 pods, and how many reads that takes.
func BenchmarkStalenessECI(b *testing.B) {
	for b.Loop() {
		c := startECI(b, lively(), eci.Rates{})
		a := startAgent(b, c)
		m := staleness(b, c, c.node, "stale-eci", onECI, a.Process, func() { settle(b, a) }, status(b, a))
		b.Logf("ECI, %d pods: %s", onECI.services+onECI.jobs, m)
		b.ReportMetric(quantile(m.all(), 0.99), "s/p99")
		b.ReportMetric(m.readsPerSecond(), "reads/s")
		bound(b, "staleness of 99 in 100 changes on ECI", quantile(m.all(), 0.99), maxECIStale, "s")
		bound(b, "reads of ECI", m.readsPerSecond(), maxECIReads, "reads/s")
		stopAgent(b, c)
	}
}

// BenchmarkAgainstAzureACI gives the agent and azure-aci, one after the other,
// the same pods in the same emulated Azure, and the same changes.
func BenchmarkAgainstAzureACI(b *testing.B) {
	for b.Loop() {
		theirs := func() stale {
			c := startACI(b, lively())
			const node = "azure-aci"
			a, err := foreign.Start(b.Context(), system.Cluster, node, c.azure(), os.Stderr)
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := a.Stop(); err != nil {
					b.Error(err)
				}
			}()
			logBurst(b, "azure-aci "+foreign.Version, node, "burst-theirs")
			return staleness(b, c, node, "stale-theirs", onACI, a.Process, func() { pause(b, catchUp) }, func() float64 { return 0 })
		}()
		b.Logf("azure-aci %s, %d pods on ACI: %s", foreign.Version, onACI.services+onACI.jobs, theirs)

		ours := func() stale {
			c := startACI(b, lively())
			a := startAgent(b, c)
			defer stopAgent(b, c)
			logBurst(b, "autoburst-vnode", c.node, "burst-ours")
			return staleness(b, c, c.node, "stale-ours", onACI, a.Process, func() { settle(b, a) }, status(b, a))
		}()
		b.Logf("autoburst-vnode, %d pods on ACI: %s", onACI.services+onACI.jobs, ours)

		b.ReportMetric(theirs.readsPerPodMinute(), "reads/pod-min-theirs")
		b.ReportMetric(ours.readsPerPodMinute(), "reads/pod-min-ours")
		b.ReportMetric(quantile(theirs.all(), 0.99), "s/p99-theirs")
		b.ReportMetric(quantile(ours.all(), 0.99), "s/p99-ours")
		bound(b, "reads of ACI per pod and minute", ours.readsPerPodMinute(), maxACIReads*theirs.readsPerPodMinute(), "reads")
		for _, q := range []float64{0.5, 0.99} {
			bound(b, fmt.Sprintf("staleness of %.0f in 100 changes on ACI", q*100), quantile(ours.all(), q), quantile(theirs.all(), q), "s")
		}
	}
}

// largeImage takes its time to be pulled.
const largeImage = "registry.example.com/batch:large"

// lively is a cloud in which a group starts within 2.3 s, or 12 s with a large
// image, and a crashed container comes back at once.
func lively() sim.Config {
	return sim.Config{
		Timing: sim.DefaultTiming().Scaled(0.23),
		Images: func(image string) sim.ImageVerdict {
			if image == largeImage {
				return sim.ImageSlow
			}
			return sim.ImageOK
		},
	}
}

// status reads how many statuses the agent has written.
func status(b *testing.B, a *playground.Agent) func() float64 {
	return func() float64 { return gauge(b, a, "autoburst_vnode_pod_status_writes_total", "result", "written") }
}

// logBurst says how long pods take to Running that come at once.
func logBurst(b *testing.B, who, node, namespace string) {
	b.Helper()
	newNamespace(b, namespace)
	list := pods(namespace, node, foreignBursts, corev1.RestartPolicyAlways)
	took := await(b, namespace, foreignBursts, 10*time.Minute, isRunning, func() error { return create(b.Context(), list) })
	b.Logf("%s: a burst of %d pods on ACI: half Running after %.1f s, all after %.1f s", who, foreignBursts, quantile(took, 0.5), quantile(took, 1))
	await(b, namespace, foreignBursts, 10*time.Minute, isDeleted, func() error { return remove(b.Context(), list) })
}

// stale is how stale the API server was, in seconds, by kind of change.
type stale struct {
	byKind    map[string][]float64
	unseen    map[string]int // changes that never showed, by kind
	reads     int
	writes    float64 // of pod status, where the agent counts them
	over      time.Duration
	podMinute float64
	used      meter.Usage
	strangers float64
}

func (s stale) all() []float64 { return slices.Concat(slices.Collect(maps.Values(s.byKind))...) }

func (s stale) readsPerSecond() float64 { return float64(s.reads) / s.over.Seconds() }

func (s stale) readsPerPodMinute() float64 { return float64(s.reads) / s.podMinute }

func (s stale) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%.2f reads/s, %.2f a pod and minute; staleness p50 %.1f s, p99 %.1f s", s.readsPerSecond(), s.readsPerPodMinute(),
		quantile(s.all(), 0.5), quantile(s.all(), 0.99))
	for _, kind := range slices.Sorted(maps.Keys(s.byKind)) {
		of := s.byKind[kind]
		fmt.Fprintf(&out, "\n  %-6s %3d changes: p50 %.1f s, p90 %.1f s, all within %.1f s", kind, len(of), quantile(of, 0.5), quantile(of, 0.9), quantile(of, 1))
		if n := s.unseen[kind]; n > 0 {
			fmt.Fprintf(&out, "; %d of them never showed", n)
		}
	}
	if s.writes > 0 {
		fmt.Fprintf(&out, "\n  %.0f writes of status", s.writes)
	}
	fmt.Fprintf(&out, "\n  processor time: %s; strangers took %.0f %% of the machine", s.used.Describe(1), s.strangers*100)
	return out.String()
}

// change is one change of a container in the cloud.
type change struct {
	kind string
	pod  *corev1.Pod
	// shown tells whether a pod's status tells of it.
	shown func(corev1.PodStatus) bool
	// at is when it happened, by the cloud's own record.
	at func() time.Time
	// seen is when the API server's watch told of it.
	seen time.Time
}

// staleness makes a population, changes it for a while and measures when each
// change shows.
func staleness(b *testing.B, c *cloud, node, namespace string, of population, agent *cluster.Process, settled func(), writes func() float64) stale {
	b.Helper()
	newNamespace(b, namespace)
	stable, finite := pods(namespace, node, of.services, corev1.RestartPolicyAlways), pods(namespace, node, of.jobs, corev1.RestartPolicyNever)
	await(b, namespace, of.services+of.jobs, 15*time.Minute, isRunning, func() error {
		return create(b.Context(), slices.Concat(stable, finite))
	})
	settled()

	var mu sync.Mutex
	changes := map[types.UID]*change{}
	open := 0
	ctx, cancel := context.WithCancel(b.Context())
	_, events, err := playground.WatchPods(ctx, client, namespace)
	if err != nil {
		b.Fatal(err)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for e := range events {
			if e.Err != nil {
				return
			}
			mu.Lock()
			if ch := changes[e.Pod.UID]; ch != nil && ch.seen.IsZero() && ch.shown(e.Pod.Status) {
				ch.seen = time.Now()
				open--
			}
			mu.Unlock()
		}
	}()
	expect := func(ch *change) {
		mu.Lock()
		defer mu.Unlock()
		changes[ch.pod.UID] = ch
		open++
	}

	plan := slices.Concat(slices.Repeat([]string{"start"}, of.starts), slices.Repeat([]string{"end"}, of.ends), slices.Repeat([]string{"crash"}, of.crashes))
	random := rand.New(rand.NewPCG(1, 2)) // the same for all
	random.Shuffle(len(plan), func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	result := stale{byKind: map[string][]float64{}, unseen: map[string]int{}}
	before := c.calls.since(nil)
	written := writes()
	result.used, result.strangers = programs(meter.Programs{"agent": agent.PID()}).Measure(func() {
		begun := time.Now()
		for i, kind := range plan {
			pause(b, time.Until(begun.Add(of.within*time.Duration(i)/time.Duration(len(plan)))))
			var err error
			switch kind {
			case "start":
				err = startOne(b, c, namespace, node, i%3 == 0, expect)
			case "end":
				err = endOne(c, finite[0], expect, map[bool]int{true: 1}[i%4 == 0])
				finite = finite[1:]
			case "crash":
				err = crashOne(c, stable[0], expect)
				stable = stable[1:]
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		result.over = time.Since(begun)
		result.reads = reads(c.calls.since(before))
		result.writes = writes() - written
		result.podMinute = result.over.Minutes() * (float64(of.services+of.jobs) + float64(of.starts)/2) // those that start are there half of the time
	})

	// What shows only after this counts as if it showed at its end.
	deadline := time.Now().Add(catchUp)
	_ = playground.Poll(b.Context(), catchUp, "all changes show", func(context.Context) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		return open == 0, nil
	})
	cancel()
	<-watched
	if err := agent.Err(); err != nil {
		b.Fatal(err)
	}
	for _, ch := range changes {
		if ch.seen.IsZero() {
			ch.seen = deadline
			result.unseen[ch.kind]++
		}
		result.byKind[ch.kind] = append(result.byKind[ch.kind], max(0, ch.seen.Sub(ch.at()).Seconds()))
	}
	return result
}

// group finds the group of a pod by the UID in its tags, whichever their names.
func (c *cloud) group(uid types.UID) (*sim.Group, error) {
	for _, g := range c.fleet.Groups() {
		for _, v := range g.Tags() {
			if v == string(uid) {
				return g, nil
			}
		}
	}
	return nil, fmt.Errorf("the cloud has no group of pod %s", uid)
}

func startOne(b *testing.B, c *cloud, namespace, node string, large bool, expect func(*change)) error {
	b.Helper()
	list := pods(namespace, node, 1, corev1.RestartPolicyAlways)
	if large {
		list[0].Spec.Containers[0].Image = largeImage
	}
	if err := create(b.Context(), list); err != nil {
		return err
	}
	expect(&change{
		kind: "start", pod: list[0],
		shown: func(s corev1.PodStatus) bool { return s.Phase == corev1.PodRunning },
		at: func() time.Time {
			g, err := c.group(list[0].UID)
			if err != nil {
				b.Fatal(err)
			}
			app, _ := g.Snapshot().Container("app")
			return app.Current.StartedAt
		},
	})
	return nil
}

func endOne(c *cloud, pod *corev1.Pod, expect func(*change), code int) error {
	g, err := c.group(pod.UID)
	if err != nil {
		return err
	}
	expect(&change{
		kind: "end", pod: pod,
		shown: func(s corev1.PodStatus) bool { return s.Phase == corev1.PodSucceeded || s.Phase == corev1.PodFailed },
		at: func() time.Time {
			app, _ := g.Snapshot().Container("app")
			return app.Current.FinishedAt
		},
	})
	return g.Exit("app", code)
}

func crashOne(c *cloud, pod *corev1.Pod, expect func(*change)) error {
	g, err := c.group(pod.UID)
	if err != nil {
		return err
	}
	expect(&change{
		kind: "crash", pod: pod,
		shown: func(s corev1.PodStatus) bool {
			return len(s.ContainerStatuses) == 1 && s.ContainerStatuses[0].RestartCount > 0
		},
		at: func() time.Time {
			app, _ := g.Snapshot().Container("app")
			if app.Previous != nil {
				return app.Previous.FinishedAt
			}
			return app.Current.FinishedAt
		},
	})
	return g.Exit("app", 1)
}
