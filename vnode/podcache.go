package vnode

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const uidIndex = "uid"

// podCache holds the pods that are bound to one node. It is the only watch that
// grows with the work, and it grows with this node's pods only.
type podCache struct {
	node     string
	informer cache.SharedIndexInformer
}

func newPodCache(client kubernetes.Interface, node string) *podCache {
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", node).String()
		}),
		informers.WithTransform(func(obj any) (any, error) {
			if m, err := meta.Accessor(obj); err == nil {
				m.SetManagedFields(nil)
			}
			return obj, nil
		}))
	c := &podCache{node: node, informer: factory.Core().V1().Pods().Informer()}
	// The informer was just made and does not run: adding an index cannot fail.
	_ = c.informer.AddIndexers(cache.Indexers{uidIndex: func(obj any) ([]string, error) {
		if pod, ok := obj.(*corev1.Pod); ok {
			return []string{string(pod.UID)}, nil
		}
		return nil, nil
	}})
	return c
}

// onChange calls enqueue with the UID of every pod that appears, changes or
// goes, also of those whose end the watch missed, until forget is called.
func (c *podCache) onChange(enqueue func(types.UID)) (forget func(), err error) {
	each := func(obj any) {
		if t, ok := obj.(cache.DeletedFinalStateUnknown); ok {
			obj = t.Obj
		}
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName == c.node {
			enqueue(pod.UID)
		}
	}
	handler, err := c.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: each,
		UpdateFunc: func(before, after any) {
			// A pod that was deleted and made anew under its name within a gap of
			// the watch arrives as an update from one UID to another.
			each(before)
			each(after)
		},
		DeleteFunc: each,
	})
	// Only handlers of another informer are refused.
	return func() { _ = c.informer.RemoveEventHandler(handler) }, err
}

func (c *podCache) run(ctx context.Context) { c.informer.RunWithContext(ctx) }

func (c *podCache) synced() bool { return c.informer.HasSynced() }

// byUID returns the pod, or nil. The caller must not change it.
func (c *podCache) byUID(uid types.UID) *corev1.Pod {
	objs, err := c.informer.GetIndexer().ByIndex(uidIndex, string(uid))
	if err != nil || len(objs) == 0 {
		return nil
	}
	pod, ok := objs[0].(*corev1.Pod)
	if !ok || pod.Spec.NodeName != c.node {
		return nil
	}
	return pod
}

// byName returns the pod, or nil. The caller must not change it.
func (c *podCache) byName(namespace, name string) *corev1.Pod {
	obj, ok, err := c.informer.GetIndexer().GetByKey(namespace + "/" + name)
	if err != nil || !ok {
		return nil
	}
	pod, ok := obj.(*corev1.Pod)
	if !ok || pod.Spec.NodeName != c.node {
		return nil
	}
	return pod
}

func (c *podCache) list() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, obj := range c.informer.GetStore().List() {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName == c.node {
			pods = append(pods, pod)
		}
	}
	return pods
}

// terminal tells whether the pod has ended for good.
func terminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// hasRun tells whether the pod's status says that containers of it were
// started.
func hasRun(pod *corev1.Pod) bool {
	if pod.Status.Phase == corev1.PodRunning || terminal(pod) {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, s := range list {
			if s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil {
				return true
			}
		}
	}
	return false
}
