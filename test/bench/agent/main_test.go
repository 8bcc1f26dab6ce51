// Package agent measures the virtual node agent: its own process, a real API
// server, and emulated clouds in which a create takes 200 ms. Run it with make
// bench; docs/benchmarks.md says how to read it.
package agent

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/bench/meter"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// callLatency is how long the emulated clouds take over a create and a delete.
const callLatency = 200 * time.Millisecond

// What virtual-kubelet v1.13.0 was measured at, with a provider whose CreatePod
// takes 200 ms and without an API server or a cloud: 2,000 pods with its default
// limiter, with 16 tuned workers, with 50.
const virtualKubelet = "virtual-kubelet: 201 s by default, 26.4 s and 11.0 s tuned with 16 and 50 workers"

var (
	system *playground.Playground
	client *kubernetes.Clientset
)

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() == "" {
		os.Exit(m.Run()) // benchmarks only: nothing to start
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	ctx := context.Background()
	var err error
	system, err = playground.Start(ctx, playground.Options{Progress: os.Stderr, Controllers: -1, WithoutAgents: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: starting the system:", err)
		return 1
	}
	client = system.Client()
	code := m.Run()
	if code != 0 {
		system.KeepLogs()
		fmt.Fprintf(os.Stderr, "bench: logs are kept in %s\n", system.Dir)
	}
	if err := system.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: stopping the system:", err)
		return 1
	}
	return code
}

// programs are those of the system and more. The benchmark's own process holds
// the clouds and the clients.
func programs(more meter.Programs) meter.Programs {
	list := meter.Programs{"clouds+clients": os.Getpid()}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		if p := system.Process(name); p != nil {
			list[name] = p.PID()
		}
	}
	maps.Copy(list, more)
	return list
}

// startAgent starts the agent of a cloud's virtual node and waits until it is
// ready.
func startAgent(b *testing.B, c *cloud) *playground.Agent {
	b.Helper()
	a, err := system.StartAgent(b.Context(), c.node, c.env...)
	if err != nil {
		b.Fatal(err)
	}
	if err := system.WaitNodeReady(b.Context(), c.node); err != nil {
		b.Fatal(err)
	}
	return a
}

func stopAgent(b *testing.B, c *cloud) {
	b.Helper()
	system.RemoveAgent(c.node, func(p *cluster.Process) {
		if err := p.Stop(30 * time.Second); err != nil {
			b.Error(err)
		}
	})
}

// newNamespace makes a namespace and removes its pods at the end, whether an
// agent runs or not.
func newNamespace(b *testing.B, name string) string {
	b.Helper()
	if err := system.CreateNamespace(b.Context(), name, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx := context.Background()
		err := client.CoreV1().Pods(name).DeleteCollection(ctx, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)}, metav1.ListOptions{})
		if err != nil {
			b.Error(err)
		}
	})
	return name
}

// pods are pods that are bound to a node already, as the scheduler leaves them.
func pods(namespace, node string, count int, policy corev1.RestartPolicy) []*corev1.Pod {
	list := make([]*corev1.Pod, count)
	for i := range list {
		list[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "burst-", Namespace: namespace, Labels: map[string]string{"app": "burst"}},
			Spec: corev1.PodSpec{
				NodeName: node, RestartPolicy: policy, AutomountServiceAccountToken: ptr.To(false),
				TerminationGracePeriodSeconds: ptr.To[int64](30),
				Containers: []corev1.Container{{
					Name: "app", Image: "nginx:1.29",
					Env: []corev1.EnvVar{{Name: "POD", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}},
					Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
						corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("2Gi"),
					}},
				}},
			},
		}
	}
	return list
}

// parallel does something that many times, from 16 clients at once, and returns
// the first error.
func parallel(count int, do func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var once sync.Once
	var first error
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// create makes pods and puts what the API server made of them in their place.
func create(ctx context.Context, pods []*corev1.Pod) error {
	return parallel(len(pods), func(i int) error {
		p := pods[i]
		made, err := client.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
		if err == nil {
			*p = *made
		}
		return err
	})
}

func remove(ctx context.Context, pods []*corev1.Pod) error {
	return parallel(len(pods), func(i int) error {
		p := pods[i]
		err := client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// await waits until a condition was true once of so many pods, and returns after
// how long for each, shortest first. Times are those at which the API server's
// watch told it.
func await(b *testing.B, namespace string, count int, timeout time.Duration, condition func(playground.PodEvent) bool, act func() error) []float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), timeout)
	defer cancel()
	_, events, err := playground.WatchPods(ctx, client, namespace)
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	acted := make(chan error, 1)
	go func() { acted <- act() }()
	seen := map[types.UID]bool{}
	var took []float64
	for len(seen) < count {
		select {
		case err := <-acted:
			if err != nil {
				b.Fatal(err)
			}
			acted = nil
		case e, ok := <-events:
			if !ok {
				b.Fatalf("after %s only %d of %d pods are so far", timeout, len(seen), count)
			}
			if e.Err != nil {
				b.Fatal(e.Err)
			}
			if !seen[e.Pod.UID] && condition(e) {
				seen[e.Pod.UID] = true
				took = append(took, time.Since(begun).Seconds())
			}
		}
	}
	if acted != nil {
		if err := <-acted; err != nil {
			b.Fatal(err)
		}
	}
	return took
}

func isRunning(e playground.PodEvent) bool { return e.Pod.Status.Phase == corev1.PodRunning }

func isDeleted(e playground.PodEvent) bool { return e.Type == watch.Deleted }

// gauge reads a figure of the agent, summed over those of its series that have
// all of the labels.
func gauge(b *testing.B, a *playground.Agent, name string, labels ...string) float64 {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+a.Metrics+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	var total float64
	for _, m := range families[name].GetMetric() {
		matches := true
		for i := 0; i < len(labels); i += 2 {
			matches = matches && slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool {
				return l.GetName() == labels[i] && l.GetValue() == labels[i+1]
			})
		}
		if matches {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return total
}

// quantile of values, by the nearest rank.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(q*float64(len(sorted))))-1))]
}

// bound fails the benchmark when a figure is above what the project promises.
func bound(b *testing.B, what string, got, most float64, unit string) {
	b.Helper()
	verdict := "kept"
	if got > most {
		verdict = "MISSED"
	}
	b.Logf("%s: %.2f %s, bound %.2f %s: %s", what, got, unit, most, unit, verdict)
	if got > most {
		b.Errorf("%s is %.2f %s, want at most %.2f", what, got, unit, most)
	}
}
