package controller

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// observePause is the least time between two looks at the policies.
	observePause = 50 * time.Millisecond
	// recountPause is the least time between two counts of pods; a count that
	// takes long makes it longer, so that counting takes at most a part in
	// recountShare of one core.
	recountPause = time.Second
	recountShare = 20
	// statusRetry is after how long a status that could not be written is tried
	// again.
	statusRetry = time.Second
	// statusPerSecond bounds the status writes that only tell other counts.
	statusPerSecond, statusBurst = 20, 50
)

// observer keeps the status of the policies, the state of their pressure among
// it: it is the condition UnderPressure by which every replica knows it.
type observer struct {
	view    View
	reads   client.Reader
	writes  client.StatusWriter
	waiting *waiting
	limits  *keeper
	tell    *teller
	metrics *metrics
	clock   clock.Clock
	rules   bell // rings when policies or virtual nodes changed, or what became of pods
	// outcomes tell which targets are suspended.
	outcomes *outcomes
	limit    flowcontrol.RateLimiter

	// term is that of this replica, nil before its first look.
	term     *term
	pressure map[types.UID]policy.Pressure
	counted  map[policy.Ref]counts
	// countedAt, countedIn and countedTo are when pods were last counted, for how
	// long, and of which pod changes and snapshot.
	countedAt time.Time
	countedIn time.Duration
	countedTo uint64
	countedOf *policy.Snapshot
}

// NeedLeaderElection is true: one replica writes the status.
func (o *observer) NeedLeaderElection() bool { return true }

// Start observes until the context ends.
func (o *observer) Start(ctx context.Context) error {
	o.outcomes.begin()
	defer o.view.Subscribe(o.outcomes)()
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("policy-status"))
	for {
		next := o.observe(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-o.clock.After(observePause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.clock.After(next):
		case <-o.waiting.changed:
		case <-o.rules:
		}
	}
}

// observe looks at every policy once and returns when to look again if nothing
// happens until then.
func (o *observer) observe(ctx context.Context) time.Duration {
	snapshot := o.view.Snapshot()
	now := o.clock.Now()
	next := o.recount(snapshot, now)
	if o.term == nil {
		o.term = beginTerm(o.view, o.clock)
	}
	usage := o.limits.usage()

	objects, err := o.list(ctx)
	if err != nil {
		log.FromContext(ctx).Error(err, "Listing policies; it is tried again")
		return statusRetry
	}
	kept := make(map[types.UID]policy.Pressure, len(o.pressure))
	living := make(map[policy.Ref]types.UID, len(objects))
	suspended := 0
	for _, obj := range objects {
		if obj.object.GetDeletionTimestamp() != nil {
			continue
		}
		seen := observed{policy: obj.compile(), counts: o.counted[obj.ref], usage: usage}
		living[obj.ref] = obj.object.GetUID()
		var resume time.Duration
		seen.suspensions, resume = o.outcomes.suspensions(obj.object.GetUID(), seen.policy, obj.status.Targets, snapshot.VirtualNodes, now)
		if resume > 0 {
			next = min(next, resume)
		}
		if obj.spec.Overflow != nil && obj.spec.Overflow.Pressure != nil {
			seen.pressure = obj.spec.Overflow.Pressure
			uid := obj.object.GetUID()
			state, known := o.pressure[uid]
			if !known { // after a start, the status tells where it was left
				state.Open = o.term.inherits && apimeta.IsStatusConditionTrue(obj.status.Conditions, v1alpha1.ConditionUnderPressure)
			}
			state, after := state.Next(*seen.pressure, o.waiting.want(obj.ref), now)
			kept[uid] = state
			if after > 0 {
				next = min(next, after)
			}
			seen.open = state.Open
		}
		status := statusOf(*obj.status, obj.object.GetGeneration(), seen, snapshot.VirtualNodes, metav1.NewTime(now))
		suspended += suspendedTargets(status)
		if equality.Semantic.DeepEqual(*obj.status, status) {
			continue
		}
		// A condition and a suspension are written at once; counts wait their turn.
		if equality.Semantic.DeepEqual(obj.status.Conditions, status.Conditions) &&
			len(targetChanges(obj.status.Targets, status.Targets)) == 0 && !o.limit.TryAccept() {
			next = min(next, statusRetry)
			continue
		}
		if err := o.write(ctx, obj, status); err != nil {
			if !apierrors.IsConflict(err) { // a newer one is about to arrive
				log.FromContext(ctx).Error(err, "Writing the status of a policy; it is tried again")
			}
			next = min(next, statusRetry)
		}
	}
	o.pressure = kept
	o.outcomes.keep(living)
	o.metrics.suspended.Set(float64(suspended))
	return next
}

// listed is one policy object, a copy that may be changed.
type listed struct {
	ref    policy.Ref
	object client.Object
	spec   *v1alpha1.BurstPolicySpec
	status *v1alpha1.BurstPolicyStatus
	// compile makes the rules' form of this very generation, which the snapshot
	// may not have yet.
	compile func() *policy.Policy
}

// list reads all policies from the cache.
func (o *observer) list(ctx context.Context) ([]listed, error) {
	var own v1alpha1.BurstPolicyList
	if err := o.reads.List(ctx, &own); err != nil {
		return nil, fmt.Errorf("listing BurstPolicies: %w", err)
	}
	var cluster v1alpha1.ClusterBurstPolicyList
	if err := o.reads.List(ctx, &cluster); err != nil {
		return nil, fmt.Errorf("listing ClusterBurstPolicies: %w", err)
	}
	out := make([]listed, 0, len(own.Items)+len(cluster.Items))
	for i := range own.Items {
		p := &own.Items[i]
		out = append(out, listed{
			policy.Ref{Kind: policy.KindPolicy, Namespace: p.Namespace, Name: p.Name}, p, &p.Spec, &p.Status,
			func() *policy.Policy { return policy.Compile(p) },
		})
	}
	for i := range cluster.Items {
		p := &cluster.Items[i]
		out = append(out, listed{
			policy.Ref{Kind: policy.KindClusterPolicy, Name: p.Name}, p, &p.Spec.BurstPolicySpec, &p.Status,
			func() *policy.Policy { return policy.Compile(p) },
		})
	}
	return out, nil
}

// write patches the status, unless the policy has changed meanwhile, and tells
// of what changed.
func (o *observer) write(ctx context.Context, p listed, status v1alpha1.BurstPolicyStatus) error {
	before, ok := p.object.DeepCopyObject().(client.Object)
	if !ok { // every policy is one
		return fmt.Errorf("copying %s %s: not an object", p.ref.Kind, p.ref.Name)
	}
	told := append(changes(p.status.Conditions, status.Conditions), targetChanges(p.status.Targets, status.Targets)...)
	*p.status = status
	err := o.writes.Patch(ctx, p.object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the status of %s %s: %w", p.ref.Kind, client.ObjectKeyFromObject(p.object), err)
	}
	for _, c := range told {
		kind := corev1.EventTypeNormal
		if c.warning {
			kind = corev1.EventTypeWarning
		}
		o.tell.event(p.object, kind, c.reason, c.action, c.note)
	}
	return nil
}

// recount counts the pods of every policy, if any pod or rule has changed and
// the last count is long enough ago, and returns when the next is due.
func (o *observer) recount(s *policy.Snapshot, now time.Time) time.Duration {
	pause := max(recountPause, recountShare*o.countedIn)
	changed := o.view.PodChanges()
	if changed == o.countedTo && s == o.countedOf && !o.countedAt.IsZero() {
		return pause
	}
	if due := o.countedAt.Add(pause); now.Before(due) {
		return due.Sub(now)
	}
	counted := make(map[policy.Ref]counts)
	virtual := make(map[string]bool, len(s.VirtualNodes))
	for _, n := range s.VirtualNodes {
		virtual[n.Name] = true
	}
	light := deciding(s)
	for namespace := range s.Namespaces {
		if !s.OptedIn(namespace) && !forbids(s, namespace) {
			continue
		}
		for _, pod := range o.view.Pods(namespace) {
			count(counted, light, namespace, pod, virtual)
		}
	}
	o.counted, o.countedAt, o.countedTo, o.countedOf = counted, now, changed, s
	o.countedIn = o.clock.Since(now)
	o.metrics.counted(counted)
	o.metrics.recount.Observe(o.countedIn.Seconds())
	return max(recountPause, recountShare*o.countedIn)
}

// deciding is the snapshot with all that tells who decides for a pod, and without
// what tells where it may run, which costs most of an evaluation: whether nodes
// are ready and what their clouds carry out.
func deciding(s *policy.Snapshot) *policy.Snapshot {
	light := *s
	light.VirtualNodes = make([]*policy.VirtualNode, len(s.VirtualNodes))
	for i, n := range s.VirtualNodes {
		light.VirtualNodes[i] = &policy.VirtualNode{Name: n.Name, Labels: n.Labels, HardTaints: n.HardTaints}
	}
	return &light
}

// forbids tells whether a policy of mode Never may select pods of the namespace;
// it opts nothing in but has pods to count.
func forbids(s *policy.Snapshot, namespace string) bool {
	return len(s.Policies[namespace]) > 0 || len(s.Policies[""]) > 0
}

// count adds one pod to what decides for it: a policy, its namespace, or itself.
func count(to map[policy.Ref]counts, s *policy.Snapshot, namespace string, pod *corev1.Pod, virtual map[string]bool) {
	// The rules do not look at bound pods; this one is asked about as if it were
	// not.
	unbound := *pod
	unbound.Spec.NodeName = ""
	by := policy.Evaluate(s, namespace, &unbound).By
	if by.Kind == "" {
		return
	}
	c := to[by]
	c.Selected++
	switch node := pod.Spec.NodeName; {
	case node == "":
		c.Waiting++
	case virtual[node]:
		c.Burst++
		if c.byNode == nil {
			c.byNode = make(map[string]int32)
		}
		c.byNode[node]++
	default:
		c.Local++
	}
	to[by] = c
}
