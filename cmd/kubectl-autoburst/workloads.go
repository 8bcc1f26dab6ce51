package main

import (
	"context"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/autoburst/autoburst/policy"
)

// workloads reads the owner of a pod and counts the pods of its namespace, where a
// policy that might decide keeps replicas local.
func (w *liveWorld) workloads(ctx context.Context, pod *corev1.Pod) (policy.Workloads, error) {
	keeps := func(p *policy.Policy) bool { return p.KeepLocal != nil }
	if !slices.ContainsFunc(w.snapshot.Policies[pod.Namespace], keeps) && !slices.ContainsFunc(w.snapshot.Policies[""], keeps) {
		return nil, nil
	}
	o := policy.Objects{Nodes: w.objects.Nodes}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && owner.APIVersion == appsv1.SchemeGroupVersion.String() {
		var err error
		apps := w.Kube.AppsV1()
		switch owner.Kind {
		case "ReplicaSet":
			var r *appsv1.ReplicaSet
			r, err = apps.ReplicaSets(pod.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
			o.ReplicaSets = append(o.ReplicaSets, r)
		case "StatefulSet":
			var s *appsv1.StatefulSet
			s, err = apps.StatefulSets(pod.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
			o.StatefulSets = append(o.StatefulSets, s)
		}
		switch {
		case apierrors.IsNotFound(err): // its replicas are not known, and the decision says so
			o.ReplicaSets, o.StatefulSets = nil, nil
		case err != nil:
			return nil, fmt.Errorf("reading %s %s, which owns the pod: %w", owner.Kind, owner.Name, err)
		}
	}
	options := metav1.ListOptions{Limit: chunk}
	for {
		list, err := w.Kube.CoreV1().Pods(pod.Namespace).List(ctx, options)
		if err != nil {
			return nil, fmt.Errorf("listing the pods of namespace %s, to count the replicas that burst: %w", pod.Namespace, err)
		}
		o.Pods = appendPointers(o.Pods, list.Items)
		if options.Continue = list.Continue; options.Continue == "" {
			return policy.NewWorkloads(o), nil
		}
	}
}

// addReplicas takes in how many replicas a workload of a file wants. The pod that
// stands for a Deployment is owned by a ReplicaSet of its name.
func (f *files) addReplicas(obj runtime.Object) {
	switch o := obj.(type) {
	case *appsv1.Deployment:
		f.ReplicaSets = append(f.ReplicaSets, &appsv1.ReplicaSet{ObjectMeta: o.ObjectMeta, Spec: appsv1.ReplicaSetSpec{Replicas: o.Spec.Replicas}})
	case *appsv1.ReplicaSet:
		f.ReplicaSets = append(f.ReplicaSets, o)
	case *appsv1.StatefulSet:
		f.StatefulSets = append(f.StatefulSets, o)
	}
}
