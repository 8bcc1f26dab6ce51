package playground

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	resourcehelper "k8s.io/component-helpers/resource"
	v1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Placements watches where the scheduler puts pods, from the API server alone,
// and judges each binding to a virtual node: it is a stray when at that moment
// a ready local node had room for the pod and the pod could run there.
type Placements struct {
	stop    func()
	stopped chan struct{}

	mu     sync.Mutex
	nodes  map[string]*corev1.Node
	pods   map[types.UID]*corev1.Pod
	strays []string
	// suspects went to a virtual node while a local one had room.
	suspects []*suspect
	bound    map[types.UID]string
}

// suspect is a stray unless the room was given away already: the scheduler decides
// about one pod after another and writes its bindings at the same time, so one to a
// virtual node may be seen before an earlier one to a local node.
type suspect struct {
	pod  *corev1.Pod
	text string
	at   time.Time
	// room is what was free on each local node that had room.
	room map[string]corev1.ResourceList
	// underWay are the pods that had no node then: those that the scheduler may have
	// decided about before.
	underWay map[types.UID]bool
}

// bindingTime bounds how long a binding is under way.
const bindingTime = 2 * time.Second

// bind takes the room of a pod whose binding was under way.
func (s *suspect) bind(pod *corev1.Pod, now time.Time) {
	free, ok := s.room[pod.Spec.NodeName]
	if ok && s.underWay[pod.UID] && now.Sub(s.at) < bindingTime {
		take(free, pod)
		if !take(free.DeepCopy(), s.pod) {
			delete(s.room, pod.Spec.NodeName)
		}
	}
}

// WatchPlacements starts to watch. Close it.
func WatchPlacements(ctx context.Context, client kubernetes.Interface) (*Placements, error) {
	ctx, cancel := context.WithCancel(ctx)
	p := &Placements{
		stop: cancel, stopped: make(chan struct{}),
		nodes: map[string]*corev1.Node{}, pods: map[types.UID]*corev1.Pod{}, bound: map[types.UID]string{},
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		cancel()
		return nil, err
	}
	for _, n := range nodes.Items {
		p.nodes[n.Name] = &n
	}
	nodeEvents, err := client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{ResourceVersion: nodes.ResourceVersion})
	if err != nil {
		cancel()
		return nil, err
	}
	pods, podEvents, err := WatchPods(ctx, client, "")
	if err != nil {
		cancel()
		nodeEvents.Stop()
		return nil, err
	}
	for _, pod := range pods {
		p.pods[pod.UID], p.bound[pod.UID] = &pod, pod.Spec.NodeName
	}
	go p.run(ctx, nodeEvents, podEvents)
	return p, nil
}

// Close ends the watch.
func (p *Placements) Close() {
	p.stop()
	<-p.stopped
}

// Strays lists the strays so far, one line each. A binding that was under way while
// another one was judged counts only once it is seen: call it when all pods have
// their nodes.
func (p *Placements) Strays() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	strays := slices.Clone(p.strays)
	for _, s := range p.suspects {
		if len(s.room) > 0 {
			strays = append(strays, s.text)
		}
	}
	return strays
}

// ByNode counts the pods that are not finished by node, "" for those that are
// not bound, of the given namespaces or of all.
func (p *Placements) ByNode(namespaces ...string) map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := map[string]int{}
	for _, pod := range p.pods {
		if !finished(pod) && (len(namespaces) == 0 || slices.Contains(namespaces, pod.Namespace)) {
			count[pod.Spec.NodeName]++
		}
	}
	return count
}

func (p *Placements) run(ctx context.Context, nodes watch.Interface, pods <-chan PodEvent) {
	defer close(p.stopped)
	defer nodes.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-nodes.ResultChan():
			if !ok {
				p.broken(errors.New("the watch of nodes ended"))
				return
			}
			if n, ok := e.Object.(*corev1.Node); ok {
				p.mu.Lock()
				p.nodes[n.Name] = n
				if e.Type == watch.Deleted {
					delete(p.nodes, n.Name)
				}
				p.mu.Unlock()
			}
		case e, ok := <-pods:
			switch {
			case !ok:
				return
			case e.Err != nil:
				p.broken(e.Err)
				return
			}
			p.observe(e.Type, e.Pod)
		}
	}
}

// broken makes a lost watch visible: a judge that saw nothing must not acquit.
func (p *Placements) broken(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.strays = append(p.strays, fmt.Sprintf("placements from here on are not judged: %v", err))
}

func (p *Placements) observe(event watch.EventType, pod *corev1.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if event == watch.Deleted {
		delete(p.pods, pod.UID)
		delete(p.bound, pod.UID)
		return
	}
	if node := pod.Spec.NodeName; node != "" && p.bound[pod.UID] == "" {
		p.bound[pod.UID] = node
		if n := p.nodes[node]; n != nil && IsVirtual(n) {
			p.suspect(pod)
		}
		for _, s := range p.suspects {
			s.bind(pod, time.Now())
		}
	}
	p.pods[pod.UID] = pod
}

// suspect looks for local nodes that had room for a pod that went to a virtual node.
func (p *Placements) suspect(pod *corev1.Pod) {
	s := &suspect{pod: pod, at: time.Now(), room: map[string]corev1.ResourceList{}, underWay: map[types.UID]bool{}}
	for _, local := range p.nodes {
		if free := p.room(local, pod); free != nil {
			s.room[local.Name] = free
		}
	}
	if len(s.room) == 0 {
		return
	}
	s.text = fmt.Sprintf("%s/%s went to %s while %s had room", pod.Namespace, pod.Name, pod.Spec.NodeName, strings.Join(slices.Sorted(maps.Keys(s.room)), ", "))
	for uid, other := range p.pods {
		if other.Spec.NodeName == "" && uid != pod.UID {
			s.underWay[uid] = true
		}
	}
	p.suspects = append(p.suspects, s)
}

// room is what is free on a node, nil unless the pod could run there: by node
// selector and affinity, taints, and requests.
func (p *Placements) room(node *corev1.Node, pod *corev1.Pod) corev1.ResourceList {
	if IsVirtual(node) || node.Spec.Unschedulable || !isReady(node) {
		return nil
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return nil
	}
	if _, untolerated := v1helpers.FindMatchingUntoleratedTaint(logger, node.Spec.Taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, true); untolerated {
		return nil
	}
	free := node.Status.Allocatable.DeepCopy()
	for _, other := range p.pods {
		if other.Spec.NodeName == node.Name && !finished(other) {
			take(free, other)
		}
	}
	if !take(free.DeepCopy(), pod) {
		return nil
	}
	return free
}

// take takes what a pod asks for from what is free, and tells whether there was
// enough.
func take(free corev1.ResourceList, pod *corev1.Pod) bool {
	requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
	requests[corev1.ResourcePods] = one
	ok := true
	for name, amount := range requests {
		left := free[name]
		left.Sub(amount)
		free[name] = left
		ok = ok && left.Sign() >= 0
	}
	return ok
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// IsVirtual tells a virtual node from a local one.
func IsVirtual(n *corev1.Node) bool { return n.Labels["type"] == "virtual-kubelet" }

func isReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
