package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/store"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const (
	// moveLook is the least time between two looks at what may be moved back; one
	// that takes long makes it longer, as recountShare says.
	moveLook = time.Second
	// moveSettle is how long a move stays written down before its pod is evicted, so
	// that every replica knows to hold the replacement back.
	moveSettle = time.Second
	// moveStart is by when, from being written down, the eviction is asked for, or
	// the move is given up; evictTimeout is how long that may take. Together they
	// are the window in which the pod is evicted, by which a hold is longer than
	// the policy asks for.
	moveStart    = 3 * time.Second
	evictTimeout = 3 * time.Second
	moveWindow   = moveStart + evictTimeout
	// moveTimeout is how long the requests of one look may take.
	moveTimeout = 30 * time.Second
	// mostRead is how many pods are read whole in one look.
	mostRead = 10
	// passPause is for how long a pod that may not be moved, or of which no
	// replacement fits, is not looked at whole again.
	passPause = 30 * time.Second
	// refusedMin and refusedMax bound the pause after a disruption budget refused an
	// eviction: doubled each time.
	refusedMin, refusedMax = 10 * time.Second, 10 * time.Minute
	// idle is for how long nothing is looked at while no policy moves pods back and
	// no rule changes.
	idle = time.Hour
)

// repatriator moves running pods from virtual nodes back to local ones. What it
// moves it first writes down in the status of the policy, which is where every
// replica reads that the workload is held, and the next leader what was moved and
// when. The write fails when the policy has changed since it was read: so no two
// leaders move the same workload.
type repatriator struct {
	view    View
	live    client.Reader // from the API server itself
	client  client.Client
	tell    *teller
	metrics *metrics
	clock   clock.Clock
	rules   bell

	// planned is the move that is written down and not yet carried out.
	planned *move
	// passed are pods that are not to be looked at again until then.
	passed map[types.UID]time.Time
	// searched is how long the search of this look took.
	searched time.Duration
	// refused are workloads whose disruption budgets allow no eviction for now.
	refused map[policy.WorkloadRef]refusal
}

// move is one pod that is moved back.
type move struct {
	policy   policy.Ref
	workload policy.WorkloadRef
	pod      store.PodKey
	// at is the time that is written down, written when it was.
	at, written time.Time
	// before is what was remembered of the workload, nil for nothing.
	before *v1alpha1.Move
}

// refusal is the state of a workload whose disruption budget refuses.
type refusal struct {
	until time.Time
	times int
}

func newRepatriator(o Options, t *teller, m *metrics) *repatriator {
	return &repatriator{
		view: o.View, live: o.Live, client: o.Client, tell: t, metrics: m, clock: o.Clock, rules: newBell(),
		passed: make(map[types.UID]time.Time), refused: make(map[policy.WorkloadRef]refusal),
	}
}

// NeedLeaderElection is true: one replica evicts.
func (r *repatriator) NeedLeaderElection() bool { return true }

// Start moves pods back until the context ends.
func (r *repatriator) Start(ctx context.Context) error {
	defer r.view.Subscribe(rulesListener{r.rules})()
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("repatriation"))
	for {
		next := r.look(ctx)
		rules := r.rules
		if next < idle { // rules change often; then the next look sees them
			rules = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.clock.After(next):
		case <-rules:
		}
	}
}

// look does one step and returns when to do the next.
func (r *repatriator) look(ctx context.Context) time.Duration {
	s, now := r.view.Snapshot(), r.clock.Now()
	var policies []*policy.Policy
	for _, list := range s.Policies {
		for _, p := range list {
			if p.Repatriation != nil || len(p.Moves) > 0 {
				policies = append(policies, p)
			}
		}
	}
	if len(policies) == 0 && r.planned == nil {
		return idle
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	r.searched = 0
	if err := r.step(ctx, s, policies, now); err != nil && !apierrors.IsConflict(err) && !errors.Is(err, errBehind) {
		r.metrics.repatriations.WithLabelValues(moveFailed).Inc()
		log.FromContext(ctx).Error(err, "Moving a pod back; it is tried again")
	}
	if r.planned != nil {
		return moveSettle / 4
	}
	return max(moveLook, recountShare*r.searched)
}

func (r *repatriator) step(ctx context.Context, s *policy.Snapshot, policies []*policy.Policy, now time.Time) error {
	if r.planned != nil {
		return r.carryOut(ctx, s, now)
	}
	for _, p := range policies {
		if err := r.forget(ctx, p, now); err != nil {
			return err
		}
	}
	if s.Stopped { // which promises that running pods are left alone
		return nil
	}
	moving := make(map[policy.Ref]int)
	for _, p := range policies {
		for w, m := range p.Moves {
			switch placed, running := r.replaced(w, m, now); {
			case !placed:
				return nil // its room is not taken yet
			case !running:
				moving[p.Ref]++
			}
		}
	}
	began := r.clock.Now()
	nodes := r.view.LocalNodes()
	if len(nodes) == 0 || r.roomIsWanted(nodes) {
		r.searched = r.clock.Since(began)
		return nil
	}
	maps.DeleteFunc(r.passed, func(_ types.UID, until time.Time) bool { return now.After(until) })
	candidates := r.candidates(s, nodes, moving, now)
	r.searched = r.clock.Since(began)
	for _, c := range candidates[:min(len(candidates), mostRead)] {
		planned, err := r.plan(ctx, s, nodes, c, now)
		if planned || err != nil {
			return err
		}
	}
	return nil
}

// replaced tells of a move whether a node has been found for the replacement of
// its pod, and whether that runs. Once its hold is over, nothing is waited for.
func (r *repatriator) replaced(w policy.WorkloadRef, m policy.Move, now time.Time) (placed, running bool) {
	if m.HeldUntil.IsZero() || !now.Before(m.HeldUntil) {
		return true, true
	}
	running = true
	for _, pod := range r.view.Pods(w.Namespace) {
		if pod.UID == m.UID {
			return false, false // not gone yet
		}
		// Times are in whole seconds, and moveSettle is one between the two.
		if !pod.CreationTimestamp.After(m.Time.Truncate(time.Second)) || pod.DeletionTimestamp != nil || policy.WorkloadOf(pod.Namespace, pod) != w {
			continue
		}
		if pod.Spec.NodeName == "" {
			return false, false
		}
		placed = true
		running = running && pod.Status.Phase == corev1.PodRunning
	}
	return placed, placed && running
}

// roomIsWanted is true while a pod waits for local room: it goes first.
func (r *repatriator) roomIsWanted(nodes []*policy.LocalNode) bool {
	return slices.ContainsFunc(r.view.PendingPods(), func(p *corev1.Pod) bool { return policy.WantsRoom(p, nodes) })
}

// candidate is a pod that may be moved, as far as the view tells.
type candidate struct {
	pod      *corev1.Pod
	policy   *policy.Policy
	workload policy.WorkloadRef
	bounced  int
	since    time.Time
}

// candidates are the pods that may be moved, one of each workload, those first
// that have been on virtual nodes for longest.
func (r *repatriator) candidates(s *policy.Snapshot, nodes []*policy.LocalNode, moving map[policy.Ref]int, now time.Time) []candidate {
	virtual := make(map[string]bool, len(s.VirtualNodes))
	for _, n := range s.VirtualNodes {
		virtual[n.Name] = true
	}
	repatriates := func(p *policy.Policy) bool { return p.Repatriation != nil }
	light, everywhere := deciding(s), slices.ContainsFunc(s.Policies[""], repatriates)
	first := make(map[policy.WorkloadRef]candidate)
	// latest is when a pod of a workload was last seen to burst.
	latest := make(map[policy.WorkloadRef]time.Time)
	for namespace := range s.Namespaces {
		if !s.OptedIn(namespace) || !everywhere && !slices.ContainsFunc(s.Policies[namespace], repatriates) {
			continue
		}
		for _, pod := range r.view.Pods(namespace) {
			if !virtual[pod.Spec.NodeName] {
				continue
			}
			w := policy.WorkloadOf(namespace, pod)
			since := policy.BoundSince(pod)
			if since.After(latest[w]) {
				latest[w] = since
			}
			if known, ok := first[w]; ok && !since.Before(known.since) || now.Before(r.passed[pod.UID]) || now.Before(r.refused[w].until) {
				continue
			}
			p := policy.Repatriates(light, pod)
			if p == nil || moving[p.Ref] >= p.Repatriation.MaxConcurrent {
				continue
			}
			if workload, known := r.view.Workload(pod); !known || policy.StaysBurst(p, pod, workload, now) != "" {
				continue
			}
			first[w] = candidate{pod: pod, policy: p, workload: w, since: since}
		}
	}
	var out []candidate
	for w, c := range first {
		m, moved := c.policy.Moves[w]
		switch {
		case !moved && len(c.policy.Moves) >= v1alpha1.MaxMoves:
			continue
		case moved && latest[w].After(m.Time):
			c.bounced = m.Bounced + 1
		}
		if moved && (now.Before(m.Next) || now.Before(m.Time.Add(moveWindow+c.policy.Repatriation.Pause(c.bounced)))) {
			continue
		}
		if policy.RoomFor(policy.Replacement(s, c.pod), nodes) != "" {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(a.since.Compare(b.since), cmp.Compare(a.pod.Namespace, b.pod.Namespace), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	return out
}

// prove reads the whole pod, as the view keeps a part of a bound one, and looks
// at everything again. It names the local node with room.
func (r *repatriator) prove(ctx context.Context, s *policy.Snapshot, nodes []*policy.LocalNode, key store.PodKey, by policy.Ref, now time.Time) (*corev1.Pod, string, error) {
	pod := new(corev1.Pod)
	if err := r.live.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, pod); err != nil {
		return nil, "", client.IgnoreNotFound(err)
	}
	if pod.UID != key.UID {
		return nil, "", nil
	}
	p := policy.Repatriates(s, pod)
	workload, known := r.view.Workload(pod)
	if p == nil || p.Ref != by || !known {
		return nil, "", nil
	}
	if why := policy.StaysBurst(p, pod, workload, now); why != "" {
		log.FromContext(ctx).V(1).Info("A pod is not moved back", "namespace", pod.Namespace, "pod", pod.Name, "why", why)
		return nil, "", nil
	}
	return pod, policy.RoomFor(policy.Replacement(s, pod), nodes), nil
}

// plan proves that a pod can be moved and writes it down. It is false when the pod
// cannot.
func (r *repatriator) plan(ctx context.Context, s *policy.Snapshot, nodes []*policy.LocalNode, c candidate, now time.Time) (bool, error) {
	key := store.KeyOf(c.pod)
	pod, node, err := r.prove(ctx, s, nodes, key, c.policy.Ref, now)
	if err != nil {
		return false, fmt.Errorf("reading pod %s: %w", key, err)
	}
	if pod == nil || node == "" {
		r.passed[key.UID] = now.Add(passPause)
		return false, nil
	}
	// Asked for without effect first, as a hold for nothing keeps pods from bursting.
	if err := r.evict(ctx, pod, client.DryRunAll); err != nil {
		return false, r.notEvicted(ctx, pod, c.workload, c.policy.Ref, err)
	}
	m := &move{policy: c.policy.Ref, workload: c.workload, pod: key, at: now}
	err = r.remember(ctx, c.policy.Ref, func(moves []v1alpha1.Move) ([]v1alpha1.Move, error) {
		i := slices.IndexFunc(moves, m.is)
		if i >= 0 {
			m.before = moves[i].DeepCopy()
			if now.Before(m.before.Next.Time) { // the view is behind
				return nil, errBehind
			}
			moves = slices.Delete(moves, i, i+1)
		}
		if len(moves) >= v1alpha1.MaxMoves {
			return nil, errBehind
		}
		hold := c.policy.Repatriation
		return append(moves, v1alpha1.Move{
			Kind: c.workload.Kind, Namespace: c.workload.Namespace, Name: c.workload.Name,
			Pod: key.Name, UID: key.UID, Time: metav1.NewTime(now),
			HeldUntil: ptr.To(roundUp(now.Add(moveWindow + hold.Hold))),
			Next:      roundUp(now.Add(moveWindow + hold.Pause(c.bounced))),
			Bounced:   int32(c.bounced),
		}), nil
	})
	if err != nil {
		return false, err
	}
	m.written = r.clock.Now()
	r.planned = m
	return true, nil
}

// errBehind says that the policy was read in an older state than it has.
var errBehind = errors.New("the policy's memory of moves is newer than what was read")

// roundUp is a time in whole seconds, as the API keeps them, not before t.
func roundUp(t time.Time) metav1.Time {
	if whole := t.Truncate(time.Second); whole.Before(t) {
		return metav1.NewTime(whole.Add(time.Second))
	}
	return metav1.NewTime(t)
}

// is tells whether an entry is about the workload of the move.
func (m *move) is(e v1alpha1.Move) bool {
	return e.Kind == m.workload.Kind && e.Namespace == m.workload.Namespace && e.Name == m.workload.Name
}

// carryOut evicts the pod of the planned move, once every replica knows of it and
// if nothing has changed.
func (r *repatriator) carryOut(ctx context.Context, s *policy.Snapshot, now time.Time) error {
	m := r.planned
	late := func() bool { return r.clock.Now().After(m.at.Add(moveStart)) }
	if late() || s.Stopped {
		return r.giveUp(ctx)
	}
	if now.Before(m.written.Add(moveSettle)) || !remembers(s, m) {
		return nil
	}
	nodes := r.view.LocalNodes()
	if r.roomIsWanted(nodes) {
		return r.giveUp(ctx)
	}
	pod, node, err := r.prove(ctx, s, nodes, m.pod, m.policy, now)
	if err != nil {
		return fmt.Errorf("reading pod %s: %w", m.pod, err)
	}
	if pod == nil || node == "" {
		r.passed[m.pod.UID] = now.Add(passPause)
		return r.giveUp(ctx)
	}
	if late() { // reading it took too long
		return r.giveUp(ctx)
	}
	err = r.evict(ctx, pod)
	switch {
	case err == nil:
		r.planned = nil
		delete(r.refused, m.workload)
		r.metrics.repatriations.WithLabelValues(moveEvicted).Inc()
		note := fmt.Sprintf("The pod is moved back from %s: local node %s has room for its replacement.", pod.Spec.NodeName, node)
		r.tell.event(pod, corev1.EventTypeNormal, EventRepatriated, actionRepatriate, decidedBy(note, m.policy))
		r.tellPolicy(ctx, m.policy, corev1.EventTypeNormal, EventRepatriated, fmt.Sprintf(
			"Pod %s of %s is moved back from %s: local node %s has room for its replacement.", pod.Name, m.workload, pod.Spec.NodeName, node))
		log.FromContext(ctx).Info("Moved back", "namespace", pod.Namespace, "pod", pod.Name, "from", pod.Spec.NodeName, "roomOn", node)
		return nil
	case apierrors.IsTooManyRequests(err), apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsForbidden(err), apierrors.IsInvalid(err):
		return errors.Join(r.notEvicted(ctx, pod, m.workload, m.policy, err), r.giveUp(ctx))
	}
	// It may be evicted all the same, so it stays written down.
	r.planned = nil
	return fmt.Errorf("evicting pod %s: %w", m.pod, err)
}

// remembers is true when the view has the move, and with it most likely every
// replica.
func remembers(s *policy.Snapshot, m *move) bool {
	return slices.ContainsFunc(s.Policies[m.policy.Namespace], func(p *policy.Policy) bool {
		return p.Ref == m.policy && p.Moves[m.workload].UID == m.pod.UID
	})
}

// evict asks for the eviction of this very pod.
func (r *repatriator) evict(ctx context.Context, pod *corev1.Pod, opts ...client.SubResourceCreateOption) error {
	ctx, cancel := context.WithTimeout(ctx, evictTimeout)
	defer cancel()
	return r.client.SubResource("eviction").Create(ctx, pod.DeepCopy(), &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	}, opts...)
}

// notEvicted takes in a refusal to evict.
func (r *repatriator) notEvicted(ctx context.Context, pod *corev1.Pod, w policy.WorkloadRef, by policy.Ref, err error) error {
	switch {
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // another pod by now
		return nil
	case apierrors.IsTooManyRequests(err):
		known := r.refused[w]
		pause := min(refusedMin<<min(known.times, 8), refusedMax)
		r.refused[w] = refusal{until: r.clock.Now().Add(pause), times: known.times + 1}
		r.metrics.repatriations.WithLabelValues(moveRefused).Inc()
		r.tell.event(pod, corev1.EventTypeWarning, EventRepatriationRefused, actionRepatriate, decidedBy(fmt.Sprintf(
			"The pod would be moved back to a local node, but it must not be evicted now: %v It is tried again in %v.", sentence(err), pause), by))
		return nil
	}
	r.passed[pod.UID] = r.clock.Now().Add(passPause)
	return fmt.Errorf("evicting pod %s/%s: %w", pod.Namespace, pod.Name, err)
}

// sentence is an error with a full stop.
func sentence(err error) string {
	text := err.Error()
	if text != "" && text[len(text)-1] != '.' {
		text += "."
	}
	return text
}

// giveUp takes back what was written down of a move that did not come to be. A
// conflict leaves the move planned, to be looked at again.
func (r *repatriator) giveUp(ctx context.Context) error {
	m := r.planned
	err := r.remember(ctx, m.policy, func(moves []v1alpha1.Move) ([]v1alpha1.Move, error) {
		i := slices.IndexFunc(moves, m.is)
		switch {
		case i < 0 || moves[i].UID != m.pod.UID:
			return moves, nil
		case m.before == nil:
			return slices.Delete(moves, i, i+1), nil
		}
		moves[i] = *m.before
		return moves, nil
	})
	if !apierrors.IsConflict(err) { // otherwise the workload is held for nothing, which ends by itself
		r.planned = nil
	}
	return client.IgnoreNotFound(err)
}

// forget ends the holds that are over, and removes what is of no use any more.
func (r *repatriator) forget(ctx context.Context, p *policy.Policy, now time.Time) error {
	over := func(heldUntil time.Time) bool { return !heldUntil.IsZero() && !now.Before(heldUntil) }
	useless := func(at, next time.Time, bounced int) bool {
		if now.Before(next) {
			return false
		}
		return p.Repatriation == nil || now.After(at.Add(moveWindow+2*p.Repatriation.Pause(bounced+1)))
	}
	stale := false
	for _, m := range p.Moves {
		stale = stale || over(m.HeldUntil) || useless(m.Time, m.Next, m.Bounced)
	}
	if !stale {
		return nil
	}
	return r.remember(ctx, p.Ref, func(moves []v1alpha1.Move) ([]v1alpha1.Move, error) {
		moves = slices.DeleteFunc(moves, func(m v1alpha1.Move) bool { return useless(m.Time.Time, m.Next.Time, int(m.Bounced)) })
		for i := range moves {
			if h := moves[i].HeldUntil; h != nil && over(h.Time) {
				moves[i].HeldUntil = nil
			}
		}
		return moves, nil
	})
}

// remember changes what the status of a policy remembers. It fails when the policy
// has changed since it was last seen.
func (r *repatriator) remember(ctx context.Context, ref policy.Ref, change func([]v1alpha1.Move) ([]v1alpha1.Move, error)) error {
	p, err := r.object(ctx, ref)
	if err != nil {
		return err
	}
	before, ok := p.DeepCopyObject().(client.Object)
	if !ok { // every policy is one
		return fmt.Errorf("copying %s: not an object", ref)
	}
	status := statusIn(p)
	if status.Moves, err = change(slices.Clone(status.Moves)); err != nil {
		return fmt.Errorf("writing down a move in %s: %w", ref, err)
	}
	err = r.client.Status().Patch(ctx, p, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		return fmt.Errorf("writing down a move in %s: %w", ref, err)
	}
	return nil
}

// object reads a policy, as a copy.
func (r *repatriator) object(ctx context.Context, ref policy.Ref) (client.Object, error) {
	var p client.Object = &v1alpha1.ClusterBurstPolicy{}
	if ref.Kind == policy.KindPolicy {
		p = &v1alpha1.BurstPolicy{}
	}
	if err := r.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, p); err != nil {
		return nil, fmt.Errorf("reading %s: %w", ref, err)
	}
	return p, nil
}

func statusIn(o client.Object) *v1alpha1.BurstPolicyStatus {
	switch p := o.(type) {
	case *v1alpha1.BurstPolicy:
		return &p.Status
	case *v1alpha1.ClusterBurstPolicy:
		return &p.Status
	}
	return &v1alpha1.BurstPolicyStatus{}
}

func (r *repatriator) tellPolicy(ctx context.Context, ref policy.Ref, kind, reason, note string) {
	if p, err := r.object(ctx, ref); err == nil {
		r.tell.event(p, kind, reason, actionRepatriate, note)
	}
}
