package playground

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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
	bound  map[types.UID]string
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

// Strays lists the strays so far, one line each.
func (p *Placements) Strays() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.strays)
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
			for _, local := range p.nodes {
				if p.hasRoom(local, pod) {
					p.strays = append(p.strays, fmt.Sprintf("%s/%s went to %s while %s had room", pod.Namespace, pod.Name, node, local.Name))
					break
				}
			}
		}
	}
	p.pods[pod.UID] = pod
}

// hasRoom judges by node selector and affinity, taints, and requests.
func (p *Placements) hasRoom(node *corev1.Node, pod *corev1.Pod) bool {
	if IsVirtual(node) || node.Spec.Unschedulable || !isReady(node) {
		return false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return false
	}
	if _, untolerated := v1helpers.FindMatchingUntoleratedTaint(logger, node.Spec.Taints, pod.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, true); untolerated {
		return false
	}
	free := node.Status.Allocatable.DeepCopy()
	take := func(other *corev1.Pod) bool {
		requests := resourcehelper.PodRequests(other, resourcehelper.PodResourcesOptions{})
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
	for _, other := range p.pods {
		if other.Spec.NodeName == node.Name && !finished(other) {
			take(other)
		}
	}
	return take(pod)
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
