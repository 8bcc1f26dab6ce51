package vnode

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	vknode "github.com/virtual-kubelet/virtual-kubelet/node"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// unreachableAfter is how many checks in a row must fail before a cloud that
// answered counts as unreachable.
const unreachableAfter = 2

// nodeKeeper keeps the Node object: registered, with its taints, and with
// conditions that tell the cloud's health. The lease is renewed as long as the
// agent runs, whatever the cloud does: a cloud that does not answer is no reason
// to evict pods that run there.
type nodeKeeper struct {
	cfg      Config
	client   kubernetes.Interface
	provider providers.Provider
	clock    clock.WithTicker
	log      *slog.Logger
	pods     *podCache
	metrics  *Metrics

	informer cache.SharedIndexInformer
	wake     chan struct{}
	exists   atomic.Bool

	circuit *circuit
	pulse   *pulse
	// holding tells what the node's pods hold, once that is known; recovered is told
	// that the cloud answers again.
	holding   func() (h holding, known bool)
	recovered func()

	mu      sync.Mutex
	health  health
	failed  int       // checks that failed in a row
	scarce  time.Time // the last refusal for want of room
	taken   time.Time // when the cloud last accepted a pod
	left    bool      // an earlier run has left the node full, and nothing is known since
	room    *room
	held    holding   // what the node's pods held lately
	asked   time.Time // when the quota was last asked for
	askFor  time.Duration
	shownAt time.Time // when the allocatable resources last changed
	notify  func(*corev1.Node)
	accepts <-chan struct{} // closed when notify is served
	wasUp   bool            // the node was Ready when the agent started
	reached bool            // the cloud has answered since the agent started
}

func newNodeKeeper(cfg Config, client kubernetes.Interface, provider providers.Provider, clk clock.WithTicker, log *slog.Logger,
	pods *podCache, metrics *Metrics,
) *nodeKeeper {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, cfg.Node.Name).String()
		}))
	k := &nodeKeeper{
		cfg: cfg, client: client, provider: provider, clock: clk, log: log, pods: pods, metrics: metrics,
		informer: factory.Core().V1().Nodes().Informer(), wake: make(chan struct{}, 1),
		circuit: newCircuit(cfg), pulse: newPulse(), room: newRoom(cfg.Node.Capacity, provider.Capabilities()),
		holding: func() (holding, bool) { return holding{}, false }, recovered: func() {},
	}
	k.health.capacity.set(true, "NoRefusal", "The cloud has refused no pod for want of room.", clk.Now())
	return k
}

// Ping is always well: see the type.
func (k *nodeKeeper) Ping(context.Context) error { return nil }

// NotifyNodeStatus takes the function that publishes the node's status.
func (k *nodeKeeper) NotifyNodeStatus(_ context.Context, publish func(*corev1.Node)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notify = publish
}

// registered tells whether the node is in the API server.
func (k *nodeKeeper) registered() bool { return k.exists.Load() }

func (k *nodeKeeper) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	_, err := k.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { k.look() },
		UpdateFunc: func(_, _ any) { k.look() },
		DeleteFunc: func(any) { k.look() },
	})
	if err != nil { // only an informer that was stopped refuses a handler
		k.log.Error("the node cannot be watched", "error", err)
		return
	}
	wg.Go(func() { k.informer.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), k.informer.HasSynced, k.pods.synced) {
		return
	}
	k.resume()
	k.check(ctx)

	// The controller outlives the loop that hands it the node, so that no
	// hand-over is left behind.
	k.ensure(ctx) // the annotation still tells which taints an earlier run set
	controlled, stop := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { k.control(controlled) })
	defer stop()

	ticker := k.clock.NewTicker(k.cfg.CheckInterval)
	defer ticker.Stop()
	for {
		k.ensure(ctx)
		select {
		case <-ctx.Done():
			return
		case <-k.wake:
			k.measure(ctx)
		case <-ticker.C():
			k.check(ctx)
		}
	}
}

// control runs the library's node controller: registration, heartbeat, lease.
func (k *nodeKeeper) control(ctx context.Context) {
	wait := k.cfg.RetryBase
	for ctx.Err() == nil {
		nodes := k.client.CoreV1().Nodes()
		controller, err := vknode.NewNodeController(k, k.desired(), nodes,
			vknode.WithNodeEnableLeaseV1(k.client.CoordinationV1().Leases(corev1.NamespaceNodeLease), vknode.DefaultLeaseDuration),
			vknode.WithNodeStatusUpdateErrorHandler(func(ctx context.Context, err error) error {
				if !apierrors.IsNotFound(err) {
					return err
				}
				// Somebody deleted the node.
				_, err = nodes.Create(ctx, k.desired(), metav1.CreateOptions{})
				if err == nil {
					k.log.Warn("the node was deleted and is registered again", "node", k.cfg.Node.Name)
				}
				return err
			}))
		if err == nil {
			k.mu.Lock()
			k.accepts = controller.Ready()
			k.mu.Unlock()
			err = controller.Run(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		k.log.Error("the node could not be registered", "node", k.cfg.Node.Name, "again", wait, "error", err)
		timer := k.clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
		wait = min(2*wait, k.cfg.RetryMax)
	}
}

func (k *nodeKeeper) look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// resume takes over the conditions of a node that an earlier run left. A node
// that was Ready and has pods stays Ready until the cloud has answered: were it
// not, the control plane would evict pods that run well.
func (k *nodeKeeper) resume() {
	k.mu.Lock()
	defer k.mu.Unlock()
	node := k.current()
	if node == nil {
		return
	}
	live := false
	for _, pod := range k.pods.list() {
		live = live || !terminal(pod)
	}
	for _, c := range node.Status.Conditions {
		state := condition{ok: c.Status == corev1.ConditionTrue, reason: c.Reason, message: c.Message, since: c.LastTransitionTime.Time}
		switch c.Type {
		case corev1.NodeReady:
			k.health.ready = state
			k.wasUp = state.ok && live
		case v1alpha1.CloudReachableCondition:
			k.health.reachable = state
		case v1alpha1.CapacityAvailableCondition:
			if c.Status == corev1.ConditionFalse {
				k.health.capacity, k.scarce = state, k.clock.Now()
			}
		}
	}
	full := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.NoCapacityTaintKey })
	k.health.allocatable = node.Status.Allocatable
	k.left = full && !k.health.capacity.ok
	k.health.full = k.left
}

// check asks the cloud for its health and publishes what changed.
func (k *nodeKeeper) check(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, k.cfg.CheckInterval)
	defer cancel()
	begun := k.clock.Now()
	err := k.provider.Check(call)
	if ctx.Err() != nil {
		return
	}
	now := k.clock.Now()
	k.metrics.call("Check", now.Sub(begun), err)

	k.mu.Lock()
	changed, back := false, false
	// A check that was not made for want of quota is no news of the cloud.
	if _, postponed := quota.Postponed(err); !postponed {
		changed, back = k.heardCheck(err, now)
	}
	k.mu.Unlock()
	if back {
		k.circuit.setDown(nil, now)
		k.recovered()
	}
	changed = k.measure(ctx) || changed
	k.show()
	if changed {
		k.publish(ctx)
	}
}

// show sets the figures of the node's conditions and of the cloud's clock.
func (k *nodeKeeper) show() {
	k.mu.Lock()
	h := k.health
	k.mu.Unlock()
	k.metrics.condition(corev1.NodeReady, h.ready)
	k.metrics.condition(v1alpha1.CloudReachableCondition, h.reachable)
	k.metrics.condition(v1alpha1.CapacityAvailableCondition, h.capacity)
	if c, ok := k.provider.(providers.Clock); ok {
		if ahead, known := c.Ahead(); known {
			k.metrics.clock.Set(ahead.Seconds())
		}
	}
}

// heardCheck takes in how a check has ended, and tells whether the node's
// conditions changed and whether the cloud is back. The lock is held.
func (k *nodeKeeper) heardCheck(err error, now time.Time) (changed, back bool) {
	if err == nil {
		back = k.failed > 0 && !k.health.reachable.ok || !k.reached
		k.failed, k.reached = 0, true
		k.metrics.reachable.Set(1)
		changed = k.health.ready.set(true, "VirtualNodeReady", "The virtual node takes pods.", now) || changed
		class, text, operations := k.pulse.failing(now)
		k.metrics.failing(operations)
		k.health.partly = len(operations) > 0
		if k.health.partly {
			return k.health.reachable.set(false, "CloudPartly"+string(class),
				cut("The cloud answers, but calls fail: "+text, eventMessageLimit), now) || changed, back
		}
		return k.health.reachable.set(true, "CloudAnswers", "The cloud answers and accepts the credentials.", now) || changed, back
	}
	k.failed++
	up := k.reached || k.wasUp
	if k.failed < unreachableAfter && up {
		return false, false
	}
	class := providers.ClassOf(err)
	reason := "Cloud" + string(class)
	k.health.partly = false
	changed = k.health.reachable.set(false, reason, cut(clipped(err), eventMessageLimit), now)
	k.metrics.reachable.Set(0)
	if !up {
		changed = k.health.ready.set(false, reason, cut("The cloud has not accepted this virtual node yet: "+clipped(err), eventMessageLimit), now) || changed
	}
	if k.failed <= unreachableAfter {
		k.log.Warn("the cloud does not answer or refuses", "error", err)
	}
	if class != providers.Throttled { // then it works, for others
		k.circuit.setDown(err, now)
	}
	return changed, false
}

// shownFull tells whether the API server holds that the cloud has no room.
func (k *nodeKeeper) shownFull() bool {
	node := k.current()
	if node == nil {
		return false
	}
	for _, c := range node.Status.Conditions {
		if c.Type == v1alpha1.CapacityAvailableCondition {
			return c.Status == corev1.ConditionFalse
		}
	}
	return false
}

func (k *nodeKeeper) desired() *corev1.Node {
	k.mu.Lock()
	defer k.mu.Unlock()
	return nodeObject(k.cfg.Node, k.provider, k.health, k.clock.Now())
}

// current is the node as the watch delivered it, or nil.
func (k *nodeKeeper) current() *corev1.Node {
	obj, ok, err := k.informer.GetStore().GetByKey(k.cfg.Node.Name)
	if err != nil || !ok {
		return nil
	}
	node, _ := obj.(*corev1.Node)
	return node
}

// publish hands the node to the library's controller, which writes it.
func (k *nodeKeeper) publish(ctx context.Context) {
	k.mu.Lock()
	notify, accepts := k.notify, k.accepts
	k.mu.Unlock()
	select {
	case <-accepts:
	default:
		return // not yet: it begins with the node as it is then, and is looked at again
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		notify(k.desired())
	}()
	select {
	case <-done:
	case <-ctx.Done():
		// The controller still runs and takes it.
		<-done
	}
}

// ensure puts right what the API server holds of the node: its presence, its
// taints and labels. Whether it is cordoned, and the taints and labels of
// others, stay as they are.
func (k *nodeKeeper) ensure(ctx context.Context) {
	node, want := k.current(), k.desired()
	if node == nil {
		k.publish(ctx)
		return
	}
	k.exists.Store(true)
	stale := false
	for key, value := range want.Labels {
		stale = stale || node.Labels[key] != value
	}
	stale = stale || node.Annotations[v1alpha1.CapabilitiesAnnotation] != want.Annotations[v1alpha1.CapabilitiesAnnotation]
	for _, c := range want.Status.Conditions {
		found := false
		for _, have := range node.Status.Conditions {
			found = found || have.Type == c.Type && have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message
		}
		stale = stale || !found
	}
	stale = stale || !equality.Semantic.DeepEqual(node.Status.Capacity, want.Status.Capacity) ||
		!equality.Semantic.DeepEqual(node.Status.Allocatable, want.Status.Allocatable) ||
		!equality.Semantic.DeepEqual(node.Status.Addresses, want.Status.Addresses) || node.Status.DaemonEndpoints != want.Status.DaemonEndpoints
	if err := k.ensureTaints(ctx, node, want.Spec.Taints); err != nil {
		k.log.Warn("the node's taints could not be written", "node", node.Name, "error", err)
	}
	if stale {
		k.publish(ctx)
	}
}

// ensureTaints writes the node's taints if they differ, in a patch that the API
// server refuses when somebody else changed the node in between: the list of
// taints can only be replaced as a whole.
func (k *nodeKeeper) ensureTaints(ctx context.Context, node *corev1.Node, wanted []corev1.Taint) error {
	taints, changed := mergeTaints(node.Spec.Taints, wanted, node.Annotations[taintsAnnotation])
	if !changed {
		return nil
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": taints},
	})
	if err != nil {
		return fmt.Errorf("encoding the taints: %w", err)
	}
	_, err = k.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil // the watch brings the newer node, and this is done again
	}
	return err
}
