package store

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// mirrorAnnotation marks the API object of a static pod.
const mirrorAnnotation = corev1.MirrorPodAnnotationKey

// CacheOptions are the options of the manager's cache that the Store expects:
// objects are trimmed before they are kept, and reads hand out the cached object
// itself, which therefore nobody may change.
func CacheOptions() cache.Options {
	trimmed := func(f func(any) (any, error)) cache.ByObject {
		return cache.ByObject{Transform: f, UnsafeDisableDeepCopy: ptr.To(true)}
	}
	shared := newInterner()
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: trimmed(trim(func(p *corev1.Pod) {
				TrimPod(p)
				shared.pod(p)
			})),
			&corev1.Node{}:      trimmed(trim(TrimNode)),
			&corev1.Namespace{}: trimmed(trim(trimNamespace)),

			&appsv1.ReplicaSet{}:  trimmed(trimOwner),
			&appsv1.StatefulSet{}: trimmed(trimOwner),
		},
	}
}

// trim makes a transform of a function that changes an object in place.
func trim[T any](f func(T)) toolscache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(T); ok {
			f(o)
		}
		return obj, nil
	}
}

// TrimPod removes in place what no rule looks at. A pod that waits for a node
// keeps its whole specification, as any field may be the one that no cloud
// carries out, and all annotations, as the patch of a grant depends on whether
// there are any. A bound pod keeps what it occupies, how it pulls other pods and
// what tells who decided for it; a finished one keeps its identity and why its
// cloud refused it.
func TrimPod(p *corev1.Pod) {
	p.ManagedFields = nil
	status := corev1.PodStatus{Phase: p.Status.Phase}
	for _, c := range p.Status.Conditions {
		bound := p.Spec.NodeName != ""
		if c.Type == corev1.PodScheduled && !bound || c.Type == corev1.PodResizePending && bound {
			status.Conditions = append(status.Conditions, c)
		}
	}

	switch {
	case finished(p):
		p.Annotations = own(p.Annotations)
		p.Spec = corev1.PodSpec{NodeName: p.Spec.NodeName}
		status.Reason, status.Conditions = refusal(p)
	case p.Spec.NodeName != "":
		p.Annotations = own(p.Annotations)
		p.GenerateName = ""
		p.OwnerReferences = controllers(p.OwnerReferences)
		tolerations := beyondNodeConditions(p.Spec.Tolerations)
		if len(tolerations) == 0 {
			// It runs on a local node, where only the sum of what it occupies counts: most
			// pods of a cluster are such, and their containers most of their memory.
			p.Spec = corev1.PodSpec{
				NodeName: p.Spec.NodeName,
				Overhead: policy.RequestsOf(p),
				Priority: p.Spec.Priority,
				Affinity: interPod(p.Spec.Affinity),
			}
			break
		}
		status.Reason = waitsForRoom(p)
		if p.Annotations[v1alpha1.GrantAnnotation] != "" { // it may be moved back after a while
			status.StartTime = p.Status.StartTime
		}
		status.ContainerStatuses = resizing(p.Spec.Containers, p.Status.ContainerStatuses)
		status.InitContainerStatuses = resizing(p.Spec.InitContainers, p.Status.InitContainerStatuses)
		p.Spec = corev1.PodSpec{
			NodeName:       p.Spec.NodeName,
			Containers:     requests(p.Spec.Containers),
			InitContainers: requests(p.Spec.InitContainers),
			Overhead:       p.Spec.Overhead,
			Resources:      p.Spec.Resources,
			Priority:       p.Spec.Priority,
			Affinity:       interPod(p.Spec.Affinity),
			Tolerations:    tolerations,
		}
	}
	p.Status = status
}

// controllers keeps the owner that replaces a pod.
func controllers(owners []metav1.OwnerReference) []metav1.OwnerReference {
	for i := range owners {
		if c := owners[i].Controller; c != nil && *c {
			o := owners[i]
			return []metav1.OwnerReference{{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID, Controller: o.Controller}}
		}
	}
	return nil
}

// beyondNodeConditions keeps the tolerations that may let a pod onto a virtual
// node: those of a node's passing conditions, which most pods are given, do not.
func beyondNodeConditions(all []corev1.Toleration) []corev1.Toleration {
	var kept []corev1.Toleration
	for i := range all {
		if !strings.HasPrefix(all[i].Key, "node.kubernetes.io/") {
			kept = append(kept, all[i])
		}
	}
	return kept
}

// TrimNode removes in place what no rule looks at: images, addresses, system
// information and the heartbeats, so that a heartbeat changes nothing.
func TrimNode(n *corev1.Node) {
	n.ManagedFields = nil
	if v, ok := n.Annotations[v1alpha1.CapabilitiesAnnotation]; ok {
		n.Annotations = map[string]string{v1alpha1.CapabilitiesAnnotation: v}
	} else {
		n.Annotations = nil
	}
	n.Spec = corev1.NodeSpec{Taints: n.Spec.Taints, Unschedulable: n.Spec.Unschedulable}
	status := corev1.NodeStatus{Allocatable: n.Status.Allocatable}
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type == corev1.NodeReady:
			status.Conditions = append(status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		case c.Type == v1alpha1.CapacityAvailableCondition && c.Status == corev1.ConditionFalse:
			status.Conditions = append(status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status, Reason: c.Reason})
		}
	}
	n.Status = status
}

func trimNamespace(n *corev1.Namespace) {
	n.ManagedFields = nil
	n.Annotations = own(n.Annotations)
	n.OwnerReferences, n.Finalizers = nil, nil
}

// own keeps the annotations of the project, those that say what is bought for a pod,
// and the mark of a mirror pod.
func own(all map[string]string) map[string]string {
	var kept map[string]string
	for k, v := range all {
		if strings.HasPrefix(k, v1alpha1.GroupName+"/") || k == mirrorAnnotation || burstable.SizeAnnotation(k) {
			if kept == nil {
				kept = make(map[string]string, 4)
			}
			kept[k] = v
		}
	}
	return kept
}

// requests keeps what containers ask for, which is what they occupy, and their
// limits, which are bought for them on a virtual node.
func requests(containers []corev1.Container) []corev1.Container {
	if len(containers) == 0 {
		return nil
	}
	kept := make([]corev1.Container, len(containers))
	for i := range containers {
		kept[i] = corev1.Container{
			Name:          containers[i].Name,
			RestartPolicy: containers[i].RestartPolicy,
			Resources:     corev1.ResourceRequirements{Requests: containers[i].Resources.Requests, Limits: containers[i].Resources.Limits},
		}
	}
	return kept
}

// resizing keeps the statuses of containers whose allocated resources differ
// from those they ask for: during a resize in place the scheduler counts the
// larger of the two.
func resizing(containers []corev1.Container, statuses []corev1.ContainerStatus) []corev1.ContainerStatus {
	var kept []corev1.ContainerStatus
	for i := range statuses {
		s := &statuses[i]
		if s.AllocatedResources == nil && s.Resources == nil {
			continue
		}
		for j := range containers {
			if containers[j].Name != s.Name {
				continue
			}
			asked := containers[j].Resources.Requests
			if differ(asked, s.AllocatedResources) || s.Resources != nil && differ(asked, s.Resources.Requests) {
				kept = append(kept, corev1.ContainerStatus{
					Name: s.Name, AllocatedResources: s.AllocatedResources, Resources: s.Resources,
				})
			}
		}
	}
	return kept
}

// differ tells whether a known list of resources is another than the one asked
// for.
func differ(asked, known corev1.ResourceList) bool {
	for name, q := range known {
		if a, ok := asked[name]; !ok || a.Cmp(q) != 0 {
			return true
		}
	}
	return false
}

// interPod keeps the affinity between pods.
func interPod(a *corev1.Affinity) *corev1.Affinity {
	if a == nil || a.PodAffinity == nil && a.PodAntiAffinity == nil {
		return nil
	}
	return &corev1.Affinity{PodAffinity: a.PodAffinity, PodAntiAffinity: a.PodAntiAffinity}
}

// finished tells whether a pod is over and occupies nothing.
func finished(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// PodKey names one pod for good: a name may be used again, a UID is not.
type PodKey struct {
	Namespace, Name string
	UID             types.UID
}

// KeyOf is the key of a pod.
func KeyOf(p metav1.Object) PodKey {
	return PodKey{Namespace: p.GetNamespace(), Name: p.GetName(), UID: p.GetUID()}
}

func (k PodKey) String() string { return k.Namespace + "/" + k.Name }
