package store

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	fcache "k8s.io/client-go/tools/cache/testing"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
)

// switchSource is a real informer of ConfigMaps on a watch that a test writes.
type switchSource struct {
	*fcache.FakeControllerSource
	informer toolscache.SharedIndexInformer
}

func newSwitchSource(t *testing.T) *switchSource {
	t.Helper()
	s := &switchSource{FakeControllerSource: fcache.NewFakeControllerSource()}
	t.Cleanup(s.Shutdown)
	s.informer = toolscache.NewSharedIndexInformer(s.FakeControllerSource, &corev1.ConfigMap{}, 0, toolscache.Indexers{})
	return s
}

func (s *switchSource) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return s.informer, nil
}

// run starts the informer.
func (s *switchSource) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); s.informer.RunWithContext(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func switchMap(namespace, name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string]string{SwitchKey: value}}
}

func TestStops(t *testing.T) {
	for value, want := range map[string]bool{
		"true": true, "True": true, " true\n": true, "yes": true, "1": true, "on": true, "treu": true,
		"false": false, "False": false, "no": false, "off": false, "0": false, "": false, " ": false,
	} {
		if got := policy.IsStopped(switchMap("autoburst", "switch", value)); got != want {
			t.Errorf("%q: got %t, want %t", value, got, want)
		}
	}
	if policy.IsStopped(&corev1.ConfigMap{Data: map[string]string{"other": "true"}}) {
		t.Error("a ConfigMap without the key is on")
	}
}

// rulesCount counts what a listener is told of the rules.
type rulesCount struct {
	Listener
	mu    sync.Mutex
	rules int
}

func (h *rulesCount) PodPending(*corev1.Pod) {}
func (h *rulesCount) RulesChanged() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rules++
}

func (h *rulesCount) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rules
}

// TestSwitchFollows turns the switch on and off in every way.
func TestSwitchFollows(t *testing.T) {
	src, sw, st := newSources(t), newSwitchSource(t), New(Options{})
	if err := st.AttachSwitch(t.Context(), sw, "autoburst", "switch"); err != nil {
		t.Fatal(err)
	}
	sw.run(t)
	src.run(t, st)
	eventually(t, "the store is synced", st.Synced)
	if st.Snapshot().Stopped {
		t.Fatal("stopped without a switch")
	}
	var h rulesCount
	defer st.Subscribe(&h)()
	told := 0
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"created", func() { sw.Add(switchMap("autoburst", "switch", "true")) }, true},
		{"set to false", func() { sw.Modify(switchMap("autoburst", "switch", "false")) }, false},
		{"set to true", func() { sw.Modify(switchMap("autoburst", "switch", "true")) }, true},
		{"deleted", func() { sw.Delete(switchMap("autoburst", "switch", "true")) }, false},
		{"created anew", func() { sw.Add(switchMap("autoburst", "switch", "true")) }, true},
	} {
		step.do()
		told++
		eventually(t, "the snapshot follows: "+step.what, func() bool { return st.Snapshot().Stopped == step.want })
		eventually(t, "listeners are told: "+step.what, func() bool { return h.count() == told })
	}

	// Others change nothing; the namespace comes after them.
	sw.Add(switchMap("autoburst", "another", "false"))
	sw.Add(switchMap("elsewhere", "switch", "false"))
	sw.Delete(switchMap("elsewhere", "switch", "false"))
	sw.Modify(switchMap("autoburst", "switch", "TRUE"))
	eventually(t, "the last event has been seen", func() bool {
		o, ok, err := sw.informer.GetStore().GetByKey("autoburst/switch")
		m, isMap := o.(*corev1.ConfigMap)
		return err == nil && ok && isMap && m.Data[SwitchKey] == "TRUE"
	})
	src.namespaces.Add(namespace("shop", "", nil))
	eventually(t, "the namespace is there", func() bool { _, ok := st.Snapshot().Namespaces["shop"]; return ok })
	if !st.Snapshot().Stopped {
		t.Error("another ConfigMap lifted the stop")
	}
}

// TestStartWaitsForSwitch: a replica that starts while bursting is stopped never
// shows a complete view in which it is not.
func TestStartWaitsForSwitch(t *testing.T) {
	src, sw := newSources(t), newSwitchSource(t)
	st := New(Options{Clock: testclock.NewFakeClock(time.Now())})
	src.namespaces.Add(namespace("shop", "Overflow", nil))
	sw.Add(switchMap("autoburst", "switch", "true"))
	if err := st.AttachSwitch(t.Context(), sw, "autoburst", "switch"); err != nil {
		t.Fatal(err)
	}
	src.run(t, st)
	eventually(t, "all else is synced", func() bool {
		for _, i := range src.informers {
			if !i.HasSynced() {
				return false
			}
		}
		return true
	})
	if st.Synced() || len(st.Snapshot().Namespaces) != 0 {
		t.Error("the view is shown before the switch was read")
	}
	sw.run(t)
	eventually(t, "the store is synced", st.Synced)
	if !st.Snapshot().Stopped {
		t.Error("the first complete view does not show the stop")
	}
}

// TestUnreadableSwitch: a switch that cannot be read holds a start up for a
// while only, and counts from when it can.
func TestUnreadableSwitch(t *testing.T) {
	src, sw := newSources(t), newSwitchSource(t)
	clock := testclock.NewFakeClock(time.Now())
	st := New(Options{Clock: clock})
	sw.Add(switchMap("autoburst", "switch", "true"))
	if err := st.AttachSwitch(t.Context(), sw, "autoburst", "switch"); err != nil {
		t.Fatal(err)
	}
	src.run(t, st)
	eventually(t, "the start waits for the switch", clock.HasWaiters)
	clock.Step(switchPatience - time.Nanosecond)
	if st.Synced() {
		t.Fatal("the start did not wait for the switch")
	}
	clock.Step(time.Nanosecond)
	eventually(t, "the store is synced all the same", st.Synced)
	if st.Snapshot().Stopped {
		t.Error("a switch that was never read stops bursting")
	}
	sw.run(t)
	eventually(t, "the change waits to be shown", clock.HasWaiters)
	clock.Step(DefaultCoalesce)
	eventually(t, "it counts", func() bool { return st.Snapshot().Stopped })
}

// flaky is a watch whose connection a test can cut.
type flaky struct {
	*fcache.FakeControllerSource
	mu  sync.Mutex
	cut bool
	// failed counts lists and watches that found the connection cut.
	failed int
}

func (f *flaky) check() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cut {
		f.failed++
		return errors.New("the connection is cut")
	}
	return nil
}

func (f *flaky) List(o metav1.ListOptions) (runtime.Object, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.FakeControllerSource.List(o)
}

func (f *flaky) Watch(o metav1.ListOptions) (watch.Interface, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.FakeControllerSource.Watch(o)
}

func (f *flaky) set(cut bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut, f.failed = cut, 0
}

func (f *flaky) hasFailed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed > 0
}

// TestLostWatch: while the switch cannot be watched, it stays as it was last
// seen, and what became of it meanwhile is known once it can.
func TestLostWatch(t *testing.T) {
	var said logLines
	src, sw, st := newSources(t), newSwitchSource(t), New(Options{Logger: said.logger()})
	connection := &flaky{FakeControllerSource: sw.FakeControllerSource}
	sw.informer = toolscache.NewSharedIndexInformer(connection, &corev1.ConfigMap{}, 0, toolscache.Indexers{})
	if err := st.AttachSwitch(t.Context(), sw, "autoburst", "switch"); err != nil {
		t.Fatal(err)
	}
	src.run(t, st)
	sw.run(t)
	sw.Add(switchMap("autoburst", "switch", "true"))
	eventually(t, "bursting is stopped", func() bool { return st.Synced() && st.Snapshot().Stopped })

	connection.set(true)
	sw.ResetWatch()
	sw.DeleteDropWatch(switchMap("autoburst", "switch", "true"))
	eventually(t, "the watch is lost for good", connection.hasFailed)
	if !st.Snapshot().Stopped {
		t.Error("a lost watch lifts the stop")
	}
	connection.set(false)
	eventually(t, "the deletion is known", func() bool { return !st.Snapshot().Stopped })
	eventually(t, "each change is logged once", func() bool {
		return slices.Equal(said.all(), []string{"All bursting is stopped by the switch; pods that run are not touched", "The switch no longer stops bursting"})
	})
}

// logLines keeps the messages of a log.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) logger() logr.Logger {
	return funcr.NewJSON(func(line string) {
		var entry struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			entry.Msg = line
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, entry.Msg)
	}, funcr.Options{})
}

func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}
