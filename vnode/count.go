package vnode

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// settling is for how long a create whose outcome nobody knows may still make a
// group that no listing shows yet.
const settling = 30 * time.Second

// outstanding are the creates about which a listing proves nothing: those that are
// under way, and those that may yet take effect.
type outstanding struct {
	clock clock.PassiveClock

	mu      sync.Mutex
	running int
	unsure  time.Time // when the outcome of a create became unknown
}

// newOutstanding begins with what an earlier leader may have left.
func newOutstanding(clk clock.PassiveClock) *outstanding {
	return &outstanding{clock: clk, unsure: clk.Now()}
}

// begin notes a create; the result is called with how it ended.
func (o *outstanding) begin() (end func(error)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.running++
	return func(err error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.running--
		if providers.ClassOf(err) == providers.Unknown {
			o.unsure = o.clock.Now()
		}
	}
}

// state is how many creates are under way, and how long a listing must wait to show
// what those before have made.
func (o *outstanding) state() (running int, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.running, max(0, settling-o.clock.Since(o.unsure))
}

// createNoted asks the cloud for a group and notes that it does.
func (r *reconciler) createNoted(ctx context.Context, spec *providers.GroupSpec) (id string, err error) {
	ended := r.creates.begin()
	err = errPanicked // unless it returns
	defer func() { ended(err) }()
	return r.provider.Create(ctx, spec)
}

// errPanicked is the outcome of a call that did not return.
var errPanicked = errors.New("the call ended in a panic")

// count lists the cloud and returns how many groups of this node there are or may be,
// and the time from which on that holds: those listed, those that are known and not
// known to be gone, and those that are being made.
func (r *reconciler) count(ctx context.Context) (groups int, listed time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.CallTimeout)
	defer cancel()
	begun := r.clock.Now()
	all, err := r.provider.List(ctx)
	r.metrics.call("List", r.clock.Since(begun), err)
	if err != nil {
		return 0, time.Time{}, err
	}
	ids := map[string]bool{}
	for _, g := range all {
		if r.owns(g) {
			ids[g.ID] = true
		}
	}
	r.ledger.mu.Lock()
	for _, rec := range r.ledger.records {
		for id := range rec.groups {
			ids[id] = true
		}
	}
	r.ledger.mu.Unlock()
	running, _ := r.creates.state()
	return len(ids) + running, begun, nil
}

// teller tells on the Node object how many groups the cloud holds, to those who ask
// there: whoever drains the node must know it from the cloud, and only the agent can
// ask that. It does so while the node is cordoned.
type teller struct {
	cfg        Config
	client     kubernetes.Interface
	keeper     *nodeKeeper
	reconciler *reconciler
	clock      clock.WithTicker
	log        *slog.Logger

	wake chan struct{}
}

func newTeller(cfg Config, client kubernetes.Interface, keeper *nodeKeeper, r *reconciler, clk clock.WithTicker, log *slog.Logger) *teller {
	return &teller{cfg: cfg, client: client, keeper: keeper, reconciler: r, clock: clk, log: log, wake: make(chan struct{}, 1)}
}

// run answers until ctx ends.
func (t *teller) run(ctx context.Context) {
	look := func(any) {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	_, err := t.keeper.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: look, UpdateFunc: func(_, node any) { look(node) },
	})
	if err != nil { // only an informer that was stopped refuses a handler
		t.log.Error("the node cannot be watched", "error", err)
		return
	}
	for {
		again := t.answer(ctx)
		if again == 0 {
			again = time.Hour // the next change of the node comes before
		}
		timer := t.clock.NewTimer(again)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-t.wake:
			timer.Stop()
		case <-timer.C():
		}
	}
}

// answer answers the question on the node, if there is one, and returns when to try
// again, zero for not before the node changes.
func (t *teller) answer(ctx context.Context) time.Duration {
	node := t.keeper.current()
	if node == nil {
		return 0
	}
	if !node.Spec.Unschedulable {
		return t.forget(ctx, node)
	}
	request := node.Annotations[v1alpha1.CountGroupsAnnotation]
	told := v1alpha1.ParseGroupCount(node.Annotations[v1alpha1.GroupCountAnnotation])
	if request == "" || told.Request == request && told.Error == "" {
		return 0
	}
	if _, wait := t.reconciler.creates.state(); wait > 0 {
		return wait
	}
	answer := v1alpha1.GroupCount{Request: request}
	groups, listed, err := t.reconciler.count(ctx)
	if ctx.Err() != nil {
		return 0
	}
	again := time.Duration(0)
	if err != nil {
		answer.Error = cut(stable(err).Error(), eventMessageLimit)
		again = t.cfg.SweepInterval
	} else {
		answer.Groups, answer.Listed = groups, listed.UTC().Format(time.RFC3339)
	}
	if answer == told {
		return again
	}
	if !t.annotate(ctx, node, map[string]any{v1alpha1.GroupCountAnnotation: answer.String()}) {
		return t.cfg.RetryBase
	}
	return again
}

// forget takes back what was told of a node that takes pods again: it may be wrong any
// moment.
func (t *teller) forget(ctx context.Context, node *corev1.Node) time.Duration {
	_, asked := node.Annotations[v1alpha1.CountGroupsAnnotation]
	_, told := node.Annotations[v1alpha1.GroupCountAnnotation]
	if (asked || told) && !t.annotate(ctx, node, map[string]any{v1alpha1.CountGroupsAnnotation: nil, v1alpha1.GroupCountAnnotation: nil}) {
		return t.cfg.RetryBase
	}
	return 0
}

// annotate changes annotations of the node, and tells whether it could.
func (t *teller) annotate(ctx context.Context, node *corev1.Node, annotations map[string]any) bool {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": node.UID, "annotations": annotations}})
	if err == nil {
		_, err = t.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		t.log.Warn("the number of groups could not be written on the node", "node", node.Name, "error", err)
	}
	return err == nil
}
