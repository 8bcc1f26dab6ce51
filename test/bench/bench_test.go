// Package bench measures the whole system on a real control plane, against the
// figures that the project promises. Run it with make bench.
package bench

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
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/autoburst/autoburst/test/bench/meter"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// What the project promises.
const (
	burstPods         = 200
	maxAdmissionRatio = 1.15
	maxLateP50        = 25 * time.Millisecond
	maxLateP99        = 150 * time.Millisecond
	maxHandlerP99     = 2 * time.Millisecond
	// rounds of the side-by-side comparison; the median ratio counts.
	rounds = 5
	// maxStrangers is how much of the processors other programs may take during a
	// round that counts. The system alone all but fills two cores in a burst, so
	// that whatever else runs is measured along, and more of it on the side that
	// does more work. Up to maxDisturbed rounds are measured again.
	maxStrangers = 0.08
	maxDisturbed = 10
)

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
	return playground.Suite{Name: "bench", Before: prepare, Options: playground.Options{
		Local: playground.LocalNodes{Count: 3, CPU: "4", Memory: "16Gi", Pods: 40},
		Cloud: sim.Config{Timing: sim.DefaultTiming().Scaled(0.05)},
	}}.Run(m, &system)
}

// prepare fills every local node, so that the next pods overflow.
func prepare(ctx context.Context) error {
	client = system.Client()
	for name, annotations := range map[string]map[string]string{
		"filler": nil, "by-hand": nil, "served": {"autoburst.io/mode": "Overflow"},
	} {
		if err := system.CreateNamespace(ctx, name, annotations); err != nil {
			return err
		}
	}
	_, err := create(ctx, pods("filler", 24, nil))
	return err
}

// programs are those of the system. The benchmark's own process holds the
// clients, the clouds and the balancer.
func programs() meter.Programs {
	list := meter.Programs{"bench": os.Getpid()}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"} {
		if p := system.Process(name); p != nil {
			list[name] = p.PID()
		}
	}
	for i, c := range system.Controllers() {
		list[fmt.Sprint("autoburst-", i+1)] = c.Process.PID()
	}
	for _, node := range []string{playground.ECINode, playground.ACINode} {
		if a := system.Agent(node); a != nil {
			list[node] = a.Process.PID()
		}
	}
	return list
}

// pods are bare pods of half a CPU.
func pods(namespace string, count int, change func(*corev1.Pod)) []*corev1.Pod {
	list := make([]*corev1.Pod, count)
	for i := range list {
		list[i] = &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "burst-", Namespace: namespace, Labels: map[string]string{"app": "burst"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "app", Image: "nginx:1.29",
				Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
				}},
			}}},
		}
		if change != nil {
			change(list[i])
		}
	}
	return list
}

// create makes the pods from eight clients at once, as a controller would, and
// returns how long it took from the first request until all were bound.
func create(ctx context.Context, list []*corev1.Pod) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	namespace := list[0].Namespace
	_, events, err := playground.WatchPods(ctx, client, namespace)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	work := make(chan *corev1.Pod)
	errs := make(chan error, len(list))
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for pod := range work {
				if _, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
					errs <- err
				}
			}
		})
	}
	go func() {
		for _, pod := range list {
			work <- pod
		}
		close(work)
	}()
	bound := map[types.UID]bool{}
	for len(bound) < len(list) {
		select {
		case e, ok := <-events:
			switch {
			case !ok:
				return 0, fmt.Errorf("only %d of %d pods were bound: %w", len(bound), len(list), ctx.Err())
			case e.Err != nil:
				return 0, e.Err
			case e.Pod.Spec.NodeName != "":
				bound[e.Pod.UID] = true
			}
		case err := <-errs:
			return 0, err
		}
	}
	elapsed := time.Since(begin)
	clients.Wait()
	return elapsed, nil
}

// remove deletes all pods of a namespace and waits until they and their groups
// are gone, so that runs do not disturb each other.
func remove(b *testing.B, namespace string) {
	b.Helper()
	ctx := context.Background()
	if err := client.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		b.Fatal(err)
	}
	err := playground.Poll(ctx, 2*time.Minute, "the pods of "+namespace+" are gone", func(ctx context.Context) (bool, error) {
		list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		return err == nil && len(list.Items) == 0, err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBurst compares a burst of 200 pods that the webhook grants at
// admission with the same pods with the toleration written by hand.
func BenchmarkBurst(b *testing.B) {
	byHand := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{
			{Key: "virtual-kubelet.io/provider", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
			{Key: "alibabacloud.com/eci", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule},
		}
	}
	for b.Loop() {
		var ratios, hands, admissions []float64
		before := handlerHistogram(b)
		handCPU, admissionCPU := meter.Usage{}, meter.Usage{}
		disturbed := 0
		for round := 0; len(ratios) < rounds; round++ {
			var hand, admission time.Duration
			measured := func(sum meter.Usage, list []*corev1.Pod) (took time.Duration, err error) {
				used, _ := programs().Measure(func() { took, err = create(b.Context(), list) })
				if round > 0 {
					sum.Add(used)
				}
				return took, err
			}
			runs := []func() error{
				func() (err error) {
					hand, err = measured(handCPU, pods("by-hand", burstPods, byHand))
					remove(b, "by-hand")
					return err
				},
				func() (err error) {
					admission, err = measured(admissionCPU, pods("served", burstPods, nil))
					checkGrants(b, "Admission")
					remove(b, "served")
					return err
				},
			}
			if round%2 == 1 { // neither is always first
				slices.Reverse(runs)
			}
			_, taken := programs().Measure(func() {
				for _, run := range runs {
					if err := run(); err != nil {
						b.Fatal(err)
					}
				}
			})
			ratio := admission.Seconds() / hand.Seconds()
			switch {
			case round == 0: // connections, caches
			case taken > maxStrangers:
				b.Logf("round %d does not count: other programs took %.0f %% of the processors (ratio %.2f)", round, taken*100, ratio)
				if disturbed++; disturbed > maxDisturbed {
					b.Fatalf("the machine is too busy to measure: %d rounds were disturbed by other programs; end them and run this again", disturbed)
				}
			default:
				hands, admissions = append(hands, hand.Seconds()), append(admissions, admission.Seconds())
				ratios = append(ratios, ratio)
			}
		}
		measuredRounds := rounds + disturbed
		b.ReportMetric(median(hands), "s/by-hand")
		b.ReportMetric(median(admissions), "s/at-admission")
		b.ReportMetric(median(ratios), "ratio")
		b.ReportMetric(handlerHistogram(b).since(before, 0.99)*1000, "ms/handler-p99-at-most")
		b.Logf("processor time by hand:     %s", handCPU.Describe(measuredRounds))
		b.Logf("processor time at admission: %s", admissionCPU.Describe(measuredRounds))
		if r := median(ratios); r > maxAdmissionRatio {
			b.Errorf("200 pods granted at admission took %.2f times what they take with a toleration by hand (each run: %.2f), want at most %.2f", r, ratios, maxAdmissionRatio)
		}
	}
}

// checkGrants fails when the pods did not come in the way that is measured.
func checkGrants(b *testing.B, want string) {
	b.Helper()
	list, err := client.CoreV1().Pods("served").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range list.Items {
		if got := p.Annotations["autoburst.io/grant"]; got != want {
			b.Fatalf("pod %s was granted %q, want %q (reason %s)", p.Name, got, want, p.Annotations["autoburst.io/reason"])
		}
	}
}

// BenchmarkLateGrant measures, at the API server's watch, the time from the
// scheduler's Unschedulable verdict to the toleration, for pods that the webhook
// does not grant because they prefer to be apart.
func BenchmarkLateGrant(b *testing.B) {
	apart := func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 1, PodAffinityTerm: corev1.PodAffinityTerm{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "burst"}},
			}}},
		}}
	}
	for b.Loop() {
		grants, stop := watchGrants(b)
		elapsed, err := create(b.Context(), pods("served", burstPods, apart))
		if err != nil {
			b.Fatal(err)
		}
		checkGrants(b, "Late")
		delays := make([]float64, 0, burstPods)
		for range burstPods {
			select {
			case d := <-grants:
				delays = append(delays, d.Seconds()*1000)
			case <-time.After(10 * time.Second):
				b.Fatalf("saw %d grants of %d", len(delays), burstPods)
			}
		}
		stop()
		remove(b, "served")
		slices.Sort(delays)
		p50, p99 := quantile(delays, 0.50), quantile(delays, 0.99)
		b.ReportMetric(p50, "ms/p50")
		b.ReportMetric(p99, "ms/p99")
		b.ReportMetric(elapsed.Seconds(), "s/all-bound")
		if p50 > float64(maxLateP50.Milliseconds()) || p99 > float64(maxLateP99.Milliseconds()) {
			b.Errorf("late grants took p50 %.0f ms and p99 %.0f ms, want at most %s and %s", p50, p99, maxLateP50, maxLateP99)
		}
	}
}

// watchGrants sends the time between the verdict and the toleration of each pod.
func watchGrants(b *testing.B) (<-chan time.Duration, func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	_, events, err := playground.WatchPods(ctx, client, "served")
	if err != nil {
		b.Fatal(err)
	}
	grants := make(chan time.Duration, 10*burstPods)
	done := make(chan struct{})
	go func() {
		defer close(done)
		refused := map[types.UID]time.Time{}
		granted := map[types.UID]bool{}
		for e := range events {
			pod := e.Pod
			if e.Err != nil || granted[pod.UID] {
				continue
			}
			if refused[pod.UID].IsZero() && unschedulable(pod) {
				refused[pod.UID] = time.Now()
			}
			if pod.Annotations["autoburst.io/grant"] == "Late" {
				granted[pod.UID] = true
				grants <- time.Since(refused[pod.UID])
			}
		}
	}()
	return grants, func() { cancel(); <-done }
}

func unschedulable(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return true
		}
	}
	return false
}

// BenchmarkHandler reads the webhook's own histograms over 1,000 creations at
// 50 a second, as many as the scheduler binds by default. The pods bear a scheduling gate, so that
// what follows a creation (scheduler, agents and clouds, all on this machine)
// does not take the processor from the webhook.
func BenchmarkHandler(b *testing.B) {
	const count, perSecond = 1000, 50
	for b.Loop() {
		before := handlerHistogram(b)
		list := pods("served", count, func(p *corev1.Pod) {
			p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "autoburst.test/bench"}}
		})
		var creators sync.WaitGroup
		tick := time.NewTicker(time.Second / perSecond)
		for _, pod := range list {
			<-tick.C
			creators.Go(func() {
				if _, err := client.CoreV1().Pods("served").Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
					b.Error(err)
				}
			})
		}
		tick.Stop()
		creators.Wait()
		after := handlerHistogram(b)
		if n := after[math.Inf(1)] - before[math.Inf(1)]; n < count {
			b.Fatalf("the webhook counted %d admissions, want %d", n, count)
		}
		remove(b, "served")
		p50, p99 := after.since(before, 0.50), after.since(before, 0.99)
		b.ReportMetric(p50*1000, "ms/p50-at-most")
		b.ReportMetric(p99*1000, "ms/p99-at-most")
		if p99 > maxHandlerP99.Seconds() {
			b.Errorf("99 %% of admissions were handled within %.1f ms, want %s", p99*1000, maxHandlerP99)
		}
	}
}

// histogram are cumulative counts by upper bound in seconds, of all replicas.
type histogram map[float64]uint64

// since is the upper bound of the bucket that holds the quantile of what came
// after an earlier reading.
func (h histogram) since(earlier histogram, quantile float64) float64 {
	bounds := slices.Sorted(maps.Keys(h))
	total := h[math.Inf(1)] - earlier[math.Inf(1)]
	for _, bound := range bounds {
		if float64(h[bound]-earlier[bound]) >= quantile*float64(total) {
			return bound
		}
	}
	return math.Inf(1)
}

func handlerHistogram(b *testing.B) histogram {
	b.Helper()
	sum := histogram{}
	for _, c := range system.Controllers() {
		families, err := scrape(b.Context(), c.Metrics)
		if err != nil {
			b.Fatal(err)
		}
		family := families["autoburst_webhook_duration_seconds"]
		if family == nil {
			b.Fatalf("%s has no autoburst_webhook_duration_seconds", c.Metrics)
		}
		for _, m := range family.GetMetric() {
			if !slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == "pods" }) {
				continue // the hook on namespaces
			}
			for _, bucket := range m.GetHistogram().GetBucket() {
				sum[bucket.GetUpperBound()] += bucket.GetCumulativeCount()
			}
		}
	}
	return sum
}

func scrape(ctx context.Context, address string) (map[string]*dto.MetricFamily, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(resp.Body)
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return quantile(s, 0.5)
}

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
