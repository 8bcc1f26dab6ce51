package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/playground"
)

// recorder notes what is seen from the outside, from the very start, and tells
// the plan when a point is reached.
type recorder struct {
	mu      sync.Mutex
	history History
	names   map[string]string // the newest pod of a name, by UID
	uids    map[string]string // the pod of a cloud's group
	points  map[reached]chan struct{}
	texts   map[Text]bool
	calls   map[string]int // what the clouds were asked, by cloud and action

	stop    context.CancelFunc
	running sync.WaitGroup
}

type reached struct {
	point Point
	uid   string
}

func newRecorder() *recorder {
	return &recorder{
		names: map[string]string{}, uids: map[string]string{}, points: map[reached]chan struct{}{},
		texts: map[Text]bool{}, calls: map[string]int{}, stop: func() {},
	}
}

// point is the channel that is closed when a point is reached. The lock is held.
func (r *recorder) point(p Point, uid string) chan struct{} {
	key := reached{p, uid}
	if r.points[key] == nil {
		r.points[key] = make(chan struct{})
	}
	return r.points[key]
}

// reach notes that a point is reached. The lock is held.
func (r *recorder) reach(p Point, uid string) {
	c := r.point(p, uid)
	select {
	case <-c:
	default:
		close(c)
	}
}

// await waits for a point of the newest pod of a name, but not for ever: a fault
// may keep it from coming.
func (r *recorder) await(ctx context.Context, p Point, name string, bound time.Duration) bool {
	r.mu.Lock()
	c := r.point(p, r.names[name])
	r.mu.Unlock()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// named is the UID of the newest pod of a name, empty if there was none.
func (r *recorder) named(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.names[name]
}

// created notes a pod before the watch tells of it.
func (r *recorder) created(name, uid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[name] = uid
}

func (r *recorder) act(uid string, what Action) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history.Acts = append(r.history.Acts, Act{At: time.Now(), UID: uid, What: what})
}

// tell notes a text that somebody may read, once. The lock is held.
func (r *recorder) tell(where, text string) {
	if t := (Text{where, text}); text != "" && !r.texts[t] {
		r.texts[t] = true
		r.history.Texts = append(r.history.Texts, t)
	}
}

func (r *recorder) blind(what string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history.Blind = append(r.history.Blind, fmt.Sprintf("%s are not seen any more: %v", what, err))
}

// uidOf is the pod that a group was made for, by its ownership tags.
func uidOf(tags map[string]string) string {
	for key, value := range tags {
		if strings.HasSuffix(key, "pod-uid") {
			return value
		}
	}
	return ""
}

// plan is what a cloud asks for the behaviour of a process that it starts. It is
// called with the cloud's locks held.
func (r *recorder) plan(s sim.Spec, c sim.Container, attempt int) (sim.Plan, bool) {
	does, ok := parseBehaviour(c.Command)
	if !ok {
		return sim.Plan{}, false
	}
	p := sim.Plan{Exits: does.Exits, RunFor: does.For, ExitCode: does.Code}
	if attempt < does.Crashes {
		p.Exits, p.ExitCode = true, 1
	}
	uid := uidOf(s.Tags)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history.Starts = append(r.history.Starts, Start{
		At: time.Now(), Cloud: s.Cloud, Group: s.ID, UID: uid, Container: c.Name, Policy: string(s.RestartPolicy),
		Attempt: attempt, Exits: p.Exits, For: p.RunFor, Code: p.ExitCode,
	})
	r.reach(Started, uid)
	return p, true
}

// command is how a container is told its behaviour.
func (b Behaviour) command() []string {
	return []string{"/chaos", strconv.Itoa(b.Crashes), strconv.FormatBool(b.Exits), b.For.String(), strconv.Itoa(b.Code)}
}

func parseBehaviour(command []string) (b Behaviour, ok bool) {
	if len(command) != 5 || command[0] != "/chaos" {
		return b, false
	}
	var errs [4]error
	b.Crashes, errs[0] = strconv.Atoi(command[1])
	b.Exits, errs[1] = strconv.ParseBool(command[2])
	b.For, errs[2] = time.ParseDuration(command[3])
	b.Code, errs[3] = strconv.Atoi(command[4])
	return b, errors.Join(errs[:]...) == nil
}

// hook notes the calls that a cloud gets.
func (r *recorder) hook(cloud string, fleet *sim.Fleet) sim.Hook {
	return sim.Hook{After: func(p sim.Passage) {
		creates := p.Code == "OK" && (p.Action == "CreateContainerGroup" || p.Action == "ContainerGroups_CreateOrUpdate")
		uids := map[string]string{}
		if creates {
			for _, g := range fleet.Groups() {
				uids[g.ID()] = uidOf(g.Tags())
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls[cloud+" "+p.Action]++
		switch {
		case creates:
			for id, uid := range uids {
				r.uids[id] = uid
				r.reach(Accepted, uid)
			}
		case p.Code == "OK" && strings.Contains(p.Action, "Delete"):
			for id, uid := range r.uids {
				if id == p.Target || strings.HasSuffix(strings.ToLower(id), "/"+strings.ToLower(p.Target)) {
					r.reach(Deleting, uid)
				}
			}
		}
	}}
}

// watch begins to follow pods and Jobs of a namespace and all nodes.
func (r *recorder) watch(ctx context.Context, client kubernetes.Interface, namespace string) error {
	ctx, r.stop = context.WithCancel(ctx)
	pods, events, err := playground.WatchPods(ctx, client, namespace)
	if err != nil {
		return err
	}
	for i := range pods {
		r.pod(watch.Added, &pods[i])
	}
	r.running.Go(func() {
		for e := range events {
			if e.Err != nil {
				r.blind("pods", e.Err)
				continue
			}
			r.pod(e.Type, e.Pod)
		}
	})
	nodes := client.CoreV1().Nodes()
	err = r.follow(ctx, "nodes", func(ctx context.Context) (string, error) {
		list, err := nodes.List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			r.node(watch.Added, &list.Items[i])
		}
		return list.ResourceVersion, nil
	}, nodes.Watch, func(t watch.EventType, e watch.Event) {
		if n, ok := e.Object.(*corev1.Node); ok {
			r.node(t, n)
		}
	})
	if err != nil {
		return err
	}
	jobs := client.BatchV1().Jobs(namespace)
	return r.follow(ctx, "Jobs", func(ctx context.Context) (string, error) {
		list, err := jobs.List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		return list.ResourceVersion, nil
	}, jobs.Watch, func(t watch.EventType, e watch.Event) {
		if j, ok := e.Object.(*batchv1.Job); ok {
			r.job(t, j)
		}
	})
}

// follow lists, and then watches for as long as ctx lasts. A watch that ends is
// taken up where it ended.
func (r *recorder) follow(ctx context.Context, what string, list func(context.Context) (string, error),
	begin func(context.Context, metav1.ListOptions) (watch.Interface, error), see func(watch.EventType, watch.Event),
) error {
	version, err := list(ctx)
	if err != nil {
		return err
	}
	w, err := begin(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return err
	}
	r.running.Go(func() {
		for {
			for e := range w.ResultChan() {
				object, ok := e.Object.(metav1.Object)
				if e.Type == watch.Error || !ok {
					r.blind(what, fmt.Errorf("the watch ended: %v", e.Object))
					w.Stop()
					return
				}
				version = object.GetResourceVersion()
				see(e.Type, e)
			}
			if ctx.Err() != nil {
				return
			}
			if w, err = begin(ctx, metav1.ListOptions{ResourceVersion: version}); err != nil {
				if ctx.Err() == nil {
					r.blind(what, err)
				}
				return
			}
		}
	})
	return nil
}

// close ends all watches.
func (r *recorder) close() {
	r.stop()
	r.running.Wait()
}

func (r *recorder) pod(t watch.EventType, p *corev1.Pod) {
	e := PodEvent{
		At: time.Now(), UID: string(p.UID), Name: p.Name, Node: p.Spec.NodeName,
		Phase: p.Status.Phase, Reason: p.Status.Reason, Deleting: p.DeletionTimestamp != nil, Gone: t == watch.Deleted,
		RefusedByNode: p.Status.Phase == corev1.PodFailed && v1alpha1.IsRefusal(p.Status.Reason),
	}
	if owner := metav1.GetControllerOfNoCopy(p); owner != nil && owner.Kind == "Job" {
		e.Job = string(owner.UID)
	}
	for _, c := range p.Status.Conditions {
		e.Ready = e.Ready || c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		e.Restarts += c.RestartCount
		for _, state := range []corev1.ContainerState{c.State, c.LastTerminationState} {
			if state.Waiting != nil {
				r.tell("status of pod "+p.Name, state.Waiting.Message)
			}
			if state.Terminated != nil {
				r.tell("status of pod "+p.Name, state.Terminated.Message)
			}
		}
	}
	r.tell("status of pod "+p.Name, p.Status.Message)
	r.history.Pods = append(r.history.Pods, e)
	if t == watch.Added {
		r.names[p.Name] = e.UID
	}
	if e.Phase == corev1.PodRunning {
		r.reach(Running, e.UID)
	}
}

func (r *recorder) node(t watch.EventType, n *corev1.Node) {
	if !playground.IsVirtual(n) {
		return
	}
	e := NodeEvent{At: time.Now(), Name: n.Name}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range n.Status.Conditions {
		r.tell("node "+n.Name, c.Message)
		if c.Type == corev1.NodeReady && t != watch.Deleted {
			e.Ready, e.Message = c.Status, c.Message
		}
	}
	for i := len(r.history.Nodes) - 1; i >= 0; i-- {
		if last := r.history.Nodes[i]; last.Name == e.Name {
			if last.Ready == e.Ready && last.Message == e.Message {
				return
			}
			break
		}
	}
	r.history.Nodes = append(r.history.Nodes, e)
}

func (r *recorder) job(t watch.EventType, j *batchv1.Job) {
	e := JobEvent{
		At: time.Now(), UID: string(j.UID), Name: j.Name, Completions: ptr.Deref(j.Spec.Completions, 1),
		Succeeded: j.Status.Succeeded, Failed: j.Status.Failed,
		Deleting: j.DeletionTimestamp != nil || t == watch.Deleted,
	}
	for _, c := range j.Status.Conditions {
		if c.Status == corev1.ConditionTrue && (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) {
			e.Finished = true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	// What is known of a Job that had finished stands when it is deleted.
	if e.Deleting && slices.ContainsFunc(r.history.Jobs, func(o JobEvent) bool { return o.UID == e.UID && o.Finished }) {
		return
	}
	r.history.Jobs = append(r.history.Jobs, e)
}

// counted is how many calls the clouds got.
func (r *recorder) counted() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string]int{}
	for k, n := range r.calls {
		out[k] = n
	}
	return out
}
