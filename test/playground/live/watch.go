package live

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Options of Watch.
type Options struct {
	// Clock is the time; nil is the real one.
	Clock clock.WithTicker
	// Bill is the record of the cloud of a virtual node.
	Bill func(node string) sim.Record
	// Namespace is where Autoburst is installed, Switch the name of the ConfigMap
	// there that stops all bursting.
	Namespace, Switch string
	// Health tells why the figures may be old, nil while they are not.
	Health func() error
}

const (
	// period is how often the state is made anew.
	period = 250 * time.Millisecond
	// samplePeriod and maxSamples bound the history: the last 15 minutes.
	samplePeriod = time.Second
	maxSamples   = 900
	// maxMoves bounds the moves that are remembered.
	maxMoves = 1000
)

// Watcher follows a playground. It is safe for concurrent use.
type Watcher struct {
	options  Options
	since    time.Time
	nodes    cache.Store
	pods     cache.Store
	events   cache.Store
	switches cache.Store
	policies []cache.Store
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu          sync.Mutex
	moves       []Move
	providers   map[string]string // of the virtual nodes that were ever seen
	state       State
	history     []Sample
	subscribers map[chan State]struct{}
}

var policyKinds = map[string]schema.GroupVersionResource{
	"BurstPolicy":        {Group: v1alpha1.GroupName, Version: "v1alpha1", Resource: "burstpolicies"},
	"ClusterBurstPolicy": {Group: v1alpha1.GroupName, Version: "v1alpha1", Resource: "clusterburstpolicies"},
}

// Watch starts to follow a playground and returns when it knows the present.
// Close it.
func Watch(ctx context.Context, config *rest.Config, o Options) (*Watcher, error) {
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for the live view: %w", err)
	}
	anyKind, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client for the live view: %w", err)
	}
	all := informers.NewSharedInformerFactory(client, 0)
	switches := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(o.Namespace),
		informers.WithTweakListOptions(func(l *metav1.ListOptions) {
			l.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, o.Switch).String()
		}))
	policies := dynamicinformer.NewDynamicSharedInformerFactory(anyKind, 0)

	w := &Watcher{
		options: o, since: o.Clock.Now(), providers: map[string]string{}, subscribers: map[chan State]struct{}{},
		nodes: all.Core().V1().Nodes().Informer().GetStore(), pods: all.Core().V1().Pods().Informer().GetStore(),
		events: all.Core().V1().Events().Informer().GetStore(), switches: switches.Core().V1().ConfigMaps().Informer().GetStore(),
	}
	for _, kind := range slices.Sorted(maps.Keys(policyKinds)) {
		w.policies = append(w.policies, policies.ForResource(policyKinds[kind]).Informer().GetStore())
	}
	if _, err := all.Core().V1().Pods().Informer().AddEventHandler(w.podHandler()); err != nil {
		return nil, fmt.Errorf("watching pods: %w", err)
	}
	if _, err := all.Core().V1().Nodes().Informer().AddEventHandler(w.nodeHandler()); err != nil {
		return nil, fmt.Errorf("watching nodes: %w", err)
	}
	ctx, w.stop = context.WithCancel(ctx)
	for _, f := range []interface{ Start(<-chan struct{}) }{all, switches, policies} {
		f.Start(ctx.Done())
	}
	w.running.Go(func() {
		<-ctx.Done()
		all.Shutdown()
		switches.Shutdown()
		policies.Shutdown()
	})
	for _, synced := range []map[string]bool{
		named(all.WaitForCacheSync(ctx.Done())), named(switches.WaitForCacheSync(ctx.Done())), named(policies.WaitForCacheSync(ctx.Done())),
	} {
		for kind, ok := range synced {
			if !ok {
				w.Close()
				return nil, fmt.Errorf("watching %s for the live view: %w", kind, context.Cause(ctx))
			}
		}
	}
	w.refresh()
	w.running.Go(func() { w.run(ctx) })
	return w, nil
}

// named names what was synced.
func named[K comparable](m map[K]bool) map[string]bool {
	out := map[string]bool{}
	for k, ok := range m {
		out[fmt.Sprint(k)] = ok
	}
	return out
}

// Close ends the watches, and the channels of all subscribers.
func (w *Watcher) Close() {
	w.stop()
	w.running.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.subscribers {
		delete(w.subscribers, c)
		close(c)
	}
}

// State is the newest one.
func (w *Watcher) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// History are the samples of the last 15 minutes, a second apart.
func (w *Watcher) History() []Sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.history)
}

// Subscribe returns a channel of states, a few in a second. Whoever is slow misses
// some and always gets the newest. It is closed when the context or the Watcher
// ends.
func (w *Watcher) Subscribe(ctx context.Context) <-chan State {
	c := make(chan State, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	c <- w.state
	w.subscribers[c] = struct{}{}
	context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if _, ok := w.subscribers[c]; ok {
			delete(w.subscribers, c)
			close(c)
		}
	})
	return c
}

func (w *Watcher) run(ctx context.Context) {
	tick := w.options.Clock.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			w.refresh()
		}
	}
}

// refresh makes the state anew and tells it to the subscribers.
func (w *Watcher) refresh() {
	o := w.objects()
	now := w.options.Clock.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	o.Moves = slices.Clone(w.moves)
	w.state = Build(now, w.since, o)
	if w.options.Health != nil {
		if err := w.options.Health(); err != nil {
			w.state.Trouble = err.Error()
		}
	}
	if last := len(w.history) - 1; last < 0 || now.Sub(w.history[last].Time) >= samplePeriod {
		w.history = append(w.history, w.state.Sample())
		w.history = w.history[max(0, len(w.history)-maxSamples):]
	}
	for c := range w.subscribers {
		select {
		case <-c: // nobody has read the one before
		default:
		}
		c <- w.state
	}
}

func (w *Watcher) objects() Objects {
	o := Objects{Nodes: typed[corev1.Node](w.nodes), Pods: typed[corev1.Pod](w.pods), Bills: map[string]sim.Record{}}
	for _, n := range o.Nodes {
		if n.Labels[v1alpha1.VirtualNodeLabel] == v1alpha1.VirtualNodeValue && w.options.Bill != nil {
			o.Bills[n.Name] = w.options.Bill(n.Name)
		}
	}
	for _, e := range typed[corev1.Event](w.events) {
		if strings.HasPrefix(e.Source.Component+e.ReportingController, "autoburst") {
			o.Events = append(o.Events, e)
		}
	}
	for i, kind := range slices.Sorted(maps.Keys(policyKinds)) {
		for _, u := range typed[unstructured.Unstructured](w.policies[i]) {
			p := struct {
				Spec   v1alpha1.BurstPolicySpec   `json:"spec"`
				Status v1alpha1.BurstPolicyStatus `json:"status"`
			}{}
			// What the API server holds has passed the schema of the same types.
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &p); err != nil {
				continue
			}
			name := kind + " " + u.GetName()
			if u.GetNamespace() != "" {
				name = kind + " " + u.GetNamespace() + "/" + u.GetName()
			}
			o.Policies = append(o.Policies, Policy{Name: name, Spec: p.Spec, Status: p.Status})
		}
	}
	for _, c := range typed[corev1.ConfigMap](w.switches) {
		o.Stopped = o.Stopped || policy.IsStopped(c)
	}
	return o
}

func typed[T any](s cache.Store) []*T {
	var out []*T
	for _, o := range s.List() {
		if t, ok := o.(*T); ok {
			out = append(out, t)
		}
	}
	return out
}

func (w *Watcher) nodeHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{AddFunc: func(o any) {
		if n, ok := o.(*corev1.Node); ok && labels.Set(n.Labels).Get(v1alpha1.VirtualNodeLabel) == v1alpha1.VirtualNodeValue {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.providers[n.Name] = n.Labels[v1alpha1.ProviderLabel]
		}
	}}
}

func (w *Watcher) podHandler() cache.ResourceEventHandler {
	node := func(o any) string {
		if p, ok := o.(*corev1.Pod); ok {
			return p.Spec.NodeName
		}
		return ""
	}
	return cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(o any, initial bool) {
			if !initial && node(o) != "" {
				w.moved(o, false)
			}
		},
		UpdateFunc: func(before, after any) {
			if node(before) == "" && node(after) != "" {
				w.moved(after, false)
			}
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if node(o) != "" {
				w.moved(o, true)
			}
		},
	}
}

func (w *Watcher) moved(o any, left bool) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moves = append(w.moves, Move{
		Time: w.options.Clock.Now(), Namespace: p.Namespace, Node: p.Spec.NodeName, Provider: w.providers[p.Spec.NodeName], Left: left,
	})
	w.moves = w.moves[max(0, len(w.moves)-maxMoves):]
}
