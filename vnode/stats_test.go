package vnode

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	stats "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/autoburst/autoburst/providers"
)

var update = flag.Bool("update", false, "write the golden files")

// measuringCloud is a memoryCloud that tells what containers use.
type measuringCloud struct {
	*memoryCloud
	terms providers.ConsumptionTerms
	// tell is what it answers of one group.
	tell func(id string) ([]providers.ContainerConsumption, error)

	delay time.Duration // of each answer
	asked sync.Map      // group → when it was last asked for
	most  int           // groups of one call, guarded by mu
}

func (c *measuringCloud) ConsumptionTerms() providers.ConsumptionTerms { return c.terms }

func (c *measuringCloud) Consumption(ctx context.Context, ids []string) (map[string][]providers.ContainerConsumption, error) {
	err := c.enter("Consumption", "")
	c.most = max(c.most, len(ids))
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if c.delay > 0 {
		<-time.After(c.delay)
	}
	told := map[string][]providers.ContainerConsumption{}
	for _, id := range ids {
		c.asked.Store(id, time.Now())
		if told[id], err = c.tell(id); err != nil {
			return told, err
		}
	}
	return told, ctx.Err()
}

// measuring makes the bed's cloud tell what containers use.
func (b *bed) measuring(terms providers.ConsumptionTerms, tell func(id string) ([]providers.ContainerConsumption, error)) *measuringCloud {
	c := &measuringCloud{memoryCloud: b.cloud, terms: terms, tell: tell}
	b.provider = c
	return c
}

var quarterMinute = providers.ConsumptionTerms{Batch: 20, Every: 15 * time.Second, PerSecond: 4, Fresh: 2 * time.Minute}

// uses is a measurement of the present.
func uses(name string, cpu time.Duration, memory uint64) providers.ContainerConsumption {
	return providers.ContainerConsumption{Name: name, At: time.Now(), CPUNanoseconds: ptr.To(uint64(cpu)), CPUNanoCores: ptr.To[uint64](250e6), WorkingSetBytes: &memory}
}

func (b *bed) get(path string) (status int, body string) {
	w := httptest.NewRecorder()
	b.agent.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

// runs has a pod run.
func (b *bed) runs(name string, containers ...string) {
	b.Helper()
	b.create(testPod(name, func(p *corev1.Pod) {
		p.Spec.Containers = nil
		for _, c := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Image: "nginx"})
		}
	}))
	id := "g-uid-" + name
	b.eventually("group "+id+" is made", func() error {
		if b.cloud.made()[id] == 0 {
			return errors.New("it is not")
		}
		return nil
	})
	b.cloud.set(id, running(containers...))
	b.phase(name, corev1.PodRunning)
}

// The figures in full: a pod of which all is known, one of which a part is, and one of
// which nothing is.
func TestResourceMetrics(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }
	clk := clocktesting.NewFakeClock(now)
	m := newTestMeasurer(quarterMinute)
	m.clock = clk
	pod := func(name string, started ...string) measurable {
		p := measurable{testPod(name), "g-" + name, map[string]time.Time{}}
		p.pod.Status.StartTime = ptr.To(metav1.NewTime(at(-65)))
		for _, container := range started {
			p.started[container] = at(-60)
		}
		return p
	}
	full, half, none := pod("full", "app", "side"), pod("half", "app", "side"), pod("none", "app")
	m.pods = func() []measurable { return []measurable{none, full, half} }
	a := &Agent{cfg: newBedConfig()}
	a.present.Store(&term{measurer: m})
	get := func(path string) string {
		t.Helper()
		w := httptest.NewRecorder()
		a.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusOK {
			t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
		}
		return w.Body.String()
	}
	golden(t, "resource-untold.txt", get("/metrics/resource"))

	told := func(name string, when int, cpu time.Duration, memory uint64) providers.ContainerConsumption {
		return providers.ContainerConsumption{
			Name: name, At: at(when), CPUNanoseconds: ptr.To(uint64(cpu)), CPUNanoCores: ptr.To[uint64](250e6),
			WorkingSetBytes: &memory, RSSBytes: ptr.To(memory / 2),
		}
	}
	for _, p := range []measurable{full, half} {
		m.known[p.pod.UID] = &podMeasure{containers: map[string]sample{}}
	}
	m.take(m.known[full.pod.UID], full.started, []providers.ContainerConsumption{
		told("app", -15, 20*time.Second, 20<<20), told("side", -15, 1500*time.Millisecond, 30<<20), told("foreign", -15, time.Hour, 1),
	})
	m.take(m.known[half.pod.UID], half.started, []providers.ContainerConsumption{told("app", -10, 5*time.Second, 10<<20)})
	golden(t, "resource-told.txt", get("/metrics/resource"))
	var s stats.Summary
	if err := json.Unmarshal([]byte(get("/stats/summary")), &s); err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "summary.json", string(text)+"\n")

	// What is too old to stand for the present is left out again, and so is what a
	// container has used that was started anew since.
	full.started["side"] = at(-1)
	got := get("/metrics/resource")
	for want, is := range map[string]bool{
		`container_memory_working_set_bytes{container="side"`:                                   false,
		`container_cpu_usage_seconds_total{container="side",pod="full",namespace="default"} 0 `: true,
		`pod_cpu_usage_seconds_total{namespace="default",pod="full"} 21.5 `:                     true,
	} {
		if strings.Contains(got, want) != is {
			t.Errorf("when a container was started anew, %s is there: %t, want %t: %s", want, !is, is, got)
		}
	}
	clk.Step(2 * time.Minute)
	got = get("/metrics/resource")
	for _, bad := range []string{"memory", "node_", `container_cpu_usage_seconds_total{container="app",pod="full",namespace="default"}`, `pod_cpu_usage_seconds_total{namespace="default",pod="full"}`} {
		if strings.Contains(got, bad) {
			t.Errorf("after 2 min of silence there is still %s in %s", bad, got)
		}
	}
}

// newTestMeasurer is one without a cloud.
func newTestMeasurer(terms providers.ConsumptionTerms) *measurer {
	return &measurer{
		terms: terms, clock: clock.RealClock{}, timeout: time.Minute, log: slog.New(slog.DiscardHandler), metrics: NewMetrics(nil),
		recovered: func(string, string, *error) {}, kick: make(chan struct{}, 1), known: map[types.UID]*podMeasure{},
	}
}

// The figures of the pods that run come from the cloud to whoever reads.
func TestFiguresOfRunningPods(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.measuring(quarterMinute, func(string) ([]providers.ContainerConsumption, error) {
			return []providers.ContainerConsumption{uses("app", time.Minute, 20<<20)}, nil
		})
		b.cloud.listStatus = true
		b.start()
		b.runs("web", "app")
		b.create(testPod("starting"))
		const series = `container_cpu_usage_seconds_total{container="app",pod="web",namespace="default"} `
		if got := b.figures("/metrics/resource"); !strings.Contains(got, series+"0 ") {
			t.Errorf("before the cloud was asked: %s", got)
		}
		b.settle(time.Second)
		got := b.figures("/metrics/resource")
		if !strings.Contains(got, series+"60 ") || strings.Contains(got, "starting") {
			t.Errorf("when the cloud has answered: %s", got)
		}
		b.remove("web")
		b.absent("web")
		if got := b.figures("/metrics/resource"); strings.Contains(got, "web") {
			t.Errorf("when the pod is gone: %s", got)
		}
	})
}

// figures asks for figures, which must be there.
func (b *bed) figures(path string) string {
	b.Helper()
	status, body := b.get(path)
	if status != http.StatusOK {
		b.Fatalf("GET %s: %d %s", path, status, body)
	}
	return body
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// The cloud is asked while somebody reads, and not otherwise.
func TestMeasuresWhileRead(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.measuring(quarterMinute, func(string) ([]providers.ContainerConsumption, error) { return nil, nil })
		b.cloud.listStatus = true
		b.start()
		b.runs("web", "app")
		b.settle(time.Hour)
		if n := b.cloud.count("Consumption"); n != 0 {
			t.Errorf("%d calls in an hour in which nobody reads, want none", n)
		}
		b.figures("/metrics/resource")
		synctest.Wait()
		if n := b.cloud.count("Consumption"); n != 1 {
			t.Errorf("%d calls at the first reading, want one at once", n)
		}
		for range 40 {
			b.settle(15 * time.Second)
			b.figures("/stats/summary")
		}
		read := b.cloud.count("Consumption")
		if read < 38 || read > 42 {
			t.Errorf("%d calls in ten minutes of reading, want one every 15 s", read)
		}
		b.settle(time.Hour)
		if n := b.cloud.count("Consumption") - read; n < 1 || n > 13 {
			t.Errorf("%d calls after the last reading, want those of three minutes", n)
		}
	})
}

// A reading is answered from memory, whatever the cloud does.
func TestReadingDoesNotWait(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		hang := make(chan struct{})
		b.measuring(quarterMinute, func(string) ([]providers.ContainerConsumption, error) { <-hang; return nil, nil })
		b.cloud.listStatus = true
		b.start()
		b.runs("web", "app")
		for range 10 {
			begun := time.Now()
			b.figures("/metrics/resource")
			b.figures("/stats/summary")
			if d := time.Since(begun); d != 0 {
				t.Errorf("a reading took %s", d)
			}
			b.settle(15 * time.Second)
		}
		if n := b.cloud.count("Consumption"); n != 1 {
			t.Errorf("%d calls for a group whose first call hangs, want one", n)
		}
		close(hang)
	})
}

// Reads of measurements leave the account's quota to others, and come round to
// everybody.
func TestMeasurementsArePaced(t *testing.T) {
	minute := providers.ConsumptionTerms{Batch: 1, Every: time.Minute, PerSecond: 4, Fresh: 10 * time.Minute}
	for name, test := range map[string]struct {
		terms providers.ConsumptionTerms
		pods  int
		// age is how old the last question about a pod gets, calls what a minute costs.
		age   time.Duration
		calls int
	}{
		"100 pods, one for each call":  {minute, 100, 62 * time.Second, 100},
		"600 pods, one for each call":  {minute, 600, 152 * time.Second, 240},
		"600 pods, twenty for a call":  {quarterMinute, 600, 17 * time.Second, 120},
		"2000 pods, twenty for a call": {quarterMinute, 2000, 27 * time.Second, 240},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			m := newTestMeasurer(test.terms)
			cloud := b.measuring(test.terms, func(string) ([]providers.ContainerConsumption, error) { return nil, nil })
			cloud.delay = 200 * time.Millisecond
			m.reader = cloud
			var pods []measurable
			for i := range test.pods {
				pods = append(pods, measurable{testPod(fmt.Sprint("pod-", i)), fmt.Sprint("g-", i), map[string]time.Time{"app": time.Now()}})
			}
			m.pods = func() []measurable { return append([]measurable(nil), pods...) }
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { m.run(ctx) })
			wait := func(d time.Duration) {
				for ; d > 0; d -= 15 * time.Second {
					m.wanted()
					<-time.After(15 * time.Second)
				}
			}
			wait(6 * time.Minute)
			before := cloud.count("Consumption")
			wait(5 * time.Minute)
			if n := (cloud.count("Consumption") - before) / 5; n > test.calls*21/20 || n < test.calls*9/10 {
				t.Errorf("%d calls a minute, want %d", n, test.calls)
			}
			oldest := time.Duration(0)
			for _, p := range pods {
				asked, ok := cloud.asked.Load(p.id)
				if !ok {
					t.Fatalf("%s was never asked for", p.id)
				}
				oldest = max(oldest, time.Since(asked.(time.Time)))
			}
			if oldest > test.age {
				t.Errorf("one pod was not asked for in %s, want %s at most", oldest, test.age)
			}
			cancel()
			wg.Wait()
			if cloud.most > test.terms.Batch {
				t.Errorf("%d groups in one call, want %d at most", cloud.most, test.terms.Batch)
			}
		})
	}
}

func TestMeasurementsThatFail(t *testing.T) {
	for name, test := range map[string]struct {
		class providers.ErrorClass
		// calls is how many there are in ten minutes.
		least, most int
		failed      bool
	}{
		"for a moment":             {providers.Unavailable, 38, 42, true},
		"for want of a right":      {providers.Unauthorized, 2, 4, true},
		"of a group that has gone": {providers.NotFound, 38, 42, false},
	} {
		bubble(t, name, func(t *testing.T) {
			b := newBed(t)
			b.measuring(quarterMinute, func(string) ([]providers.ContainerConsumption, error) { return nil, fault(test.class, "Code") })
			b.cloud.listStatus = true
			b.start()
			b.runs("web", "app")
			var got string
			for range 40 {
				got = b.figures("/metrics/resource")
				b.settle(15 * time.Second)
			}
			if n := b.cloud.count("Consumption"); n < test.least || n > test.most {
				t.Errorf("%d calls in ten minutes, want %d to %d", n, test.least, test.most)
			}
			if failed := strings.Contains(got, "\nscrape_error 1\n") && strings.Contains(got, "\nresource_scrape_error 1\n"); failed != test.failed {
				t.Errorf("scrape_error is %t, want %t: %s", failed, test.failed, got)
			}
		})
	}
}

// A panic over one answer ends nothing but that.
func TestMeasurementThatPanics(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		var fine atomic.Bool
		b.measuring(quarterMinute, func(string) ([]providers.ContainerConsumption, error) {
			if !fine.Load() {
				panic("a strange answer")
			}
			return []providers.ContainerConsumption{uses("app", time.Minute, 20<<20)}, nil
		})
		b.cloud.listStatus = true
		b.start()
		b.runs("web", "app")
		b.figures("/metrics/resource")
		b.settle(20 * time.Second)
		fine.Store(true)
		b.settle(20 * time.Second)
		if got := b.figures("/metrics/resource"); !strings.Contains(got, `pod="web"} 60 `) {
			t.Errorf("after a panic and an answer: %s", got)
		}
	})
}

// A cloud that tells nothing of containers is no error.
func TestFiguresWithoutMeasurements(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.listStatus = true
		b.start()
		b.runs("web", "app")
		if got := b.figures("/metrics/resource"); !strings.Contains(got, `container_start_time_seconds{container="app"`) || strings.Contains(got, "memory") {
			t.Errorf("figures %s", got)
		}
		b.figures("/stats/summary")
	})
}

// measureTest is a measurer with one pod.
func measureTest(now time.Time) (*measurer, *podMeasure) {
	return &measurer{begun: now, terms: quarterMinute}, &podMeasure{containers: map[string]sample{}}
}

func TestCountersAcrossRestarts(t *testing.T) {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
	told := func(when int, cpu uint64) providers.ContainerConsumption {
		return providers.ContainerConsumption{Name: "app", At: at(when), CPUNanoseconds: &cpu}
	}
	averaged := func(since, when int, cpu uint64) providers.ContainerConsumption {
		c := told(when, cpu)
		c.Since = at(since)
		return c
	}
	type step struct {
		started int // of the container, by the pod's status
		told    providers.ContainerConsumption
	}
	for name, test := range map[string]struct {
		steps          []step
		since, at      int
		cpu, pod, node uint64
	}{
		"grows":                          {[]step{{-90, told(0, 50)}, {-90, told(15, 80)}}, -90, 15, 80, 80, 80},
		"repeats":                        {[]step{{0, told(15, 80)}, {0, told(15, 80)}}, 0, 15, 80, 80, 80},
		"comes late":                     {[]step{{0, told(15, 80)}, {0, told(5, 70)}}, 0, 15, 80, 80, 80},
		"restarts":                       {[]step{{0, told(15, 80)}, {20, told(30, 10)}}, 20, 30, 10, 90, 90},
		"restarts, of the run before":    {[]step{{0, told(15, 80)}, {20, told(18, 90)}}, 0, 15, 80, 80, 80},
		"restarts, and nobody knows yet": {[]step{{0, told(15, 80)}, {0, told(30, 10)}, {0, told(45, 25)}}, 15, 45, 25, 105, 105},
		"restarts, and that gets known":  {[]step{{0, told(15, 80)}, {0, told(30, 10)}, {20, told(45, 25)}}, 20, 45, 25, 115, 115},
		"averages":                       {[]step{{-90, averaged(-60, 0, 60)}, {-90, averaged(-60, 60, 120)}}, -60, 60, 120, 120, 120},
		"averages after a gap":           {[]step{{-90, averaged(-60, 0, 60)}, {-90, averaged(120, 180, 30)}}, 120, 180, 30, 90, 90},
	} {
		t.Run(name, func(t *testing.T) {
			m, k := measureTest(begun)
			for _, s := range test.steps {
				m.take(k, map[string]time.Time{"app": at(s.started)}, []providers.ContainerConsumption{s.told})
			}
			got := k.containers["app"]
			if d := got.since.Sub(at(test.since)); d < 0 || d > time.Millisecond || !got.At.Equal(at(test.at)) || *got.CPUNanoseconds != test.cpu {
				t.Errorf("%d ns from %s to %s, want %d from %s to %s", *got.CPUNanoseconds, got.since, got.At, test.cpu, at(test.since), at(test.at))
			}
			if k.total.total != test.pod || m.node.total != test.node {
				t.Errorf("pod %d, node %d, want %d and %d", k.total.total, m.node.total, test.pod, test.node)
			}
		})
	}
}

// Whatever the clouds tell and however containers restart, no counter goes back
// while its start stays, and neither do those of pods and the node.
func TestCountersOnlyGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		m, k := measureTest(begun)
		started := map[string]time.Time{}
		type shown struct {
			since time.Time
			cpu   uint64
		}
		last := map[string]shown{}
		var pod, node counter
		for i := range 60 {
			now := begun.Add(time.Duration(i) * 5 * time.Second)
			name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "container")
			if started[name].IsZero() || rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				started[name] = now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "ago")) * time.Second)
			}
			c := providers.ContainerConsumption{Name: name, At: now.Add(-time.Duration(rapid.IntRange(0, 40).Draw(t, "age")) * time.Second)}
			c.CPUNanoseconds = ptr.To(rapid.Uint64Range(0, 1000).Draw(t, "cpu"))
			m.take(k, started, []providers.ContainerConsumption{c})
			for name, s := range k.containers {
				before, seen := last[name]
				if seen && s.since.Equal(before.since) && *s.CPUNanoseconds < before.cpu {
					t.Fatalf("%s went from %d to %d although its start stays %s", name, before.cpu, *s.CPUNanoseconds, s.since)
				}
				last[name] = shown{s.since, *s.CPUNanoseconds}
			}
			if k.total.total < pod.total || k.total.at.Before(pod.at) || m.node.total < node.total || m.node.at.Before(node.at) {
				t.Fatalf("pod %+v after %+v, node %+v after %+v", k.total, pod, m.node, node)
			}
			pod, node = k.total, m.node
		}
	})
}

// A container that ran before the node was looked at is none of what the node uses
// from then on.
func TestNodeCounterOfLateComers(t *testing.T) {
	begun := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m, k := measureTest(begun)
	take := func(name string, started, at int, cpu uint64) {
		m.take(k, map[string]time.Time{name: begun.Add(time.Duration(started) * time.Second)}, []providers.ContainerConsumption{
			{Name: name, At: begun.Add(time.Duration(at) * time.Second), CPUNanoseconds: &cpu},
		})
	}
	take("first", -100, 0, 1000)
	take("old", -3600, 15, 50_000)
	take("new", 5, 15, 7)
	if m.node.total != 1007 {
		t.Errorf("node %d, want 1007", m.node.total)
	}
	take("old", -3600, 30, 50_020)
	if m.node.total != 1027 {
		t.Errorf("node %d, want 1027", m.node.total)
	}
}
