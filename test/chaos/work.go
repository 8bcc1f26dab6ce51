package chaos

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/test/playground"
)

const (
	namespace  = "chaos"
	secretName = "keys"
	secretKey  = "token"
)

// pod is the pod of a workload, for one virtual node.
func (w *Workload) pod() corev1.PodTemplateSpec {
	c := corev1.Container{
		Name: "app", Image: "chaos:1", Command: w.Does.command(),
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		}},
	}
	if w.Secret {
		c.Env = []corev1.EnvVar{{Name: "TOKEN", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: secretName}, Key: secretKey,
		}}}}
	}
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": w.Name}},
		Spec: corev1.PodSpec{
			NodeSelector:  map[string]string{"type": "virtual-kubelet", "autoburst.io/provider": w.Cloud},
			Tolerations:   []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}},
			RestartPolicy: corev1.RestartPolicy(w.Policy),
			Containers:    []corev1.Container{c},
		},
	}
}

// create makes a workload.
func (b *bed) create(ctx context.Context, w *Workload) error {
	template := w.pod()
	meta := metav1.ObjectMeta{Name: w.Name, Namespace: namespace, Labels: template.Labels}
	selector := &metav1.LabelSelector{MatchLabels: template.Labels}
	replicas := ptr.To(int32(w.Replicas)) //nolint:gosec // a few
	var err error
	switch w.Kind {
	case BarePod:
		return b.createPod(ctx, &corev1.Pod{ObjectMeta: meta, Spec: template.Spec})
	case Deployment:
		_, err = b.client.AppsV1().Deployments(namespace).Create(ctx, &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{
			Replicas: replicas, Selector: selector, Template: template,
		}}, metav1.CreateOptions{})
	case StatefulSet:
		_, err = b.client.AppsV1().StatefulSets(namespace).Create(ctx, &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{
			Replicas: replicas, Selector: selector, Template: template, PodManagementPolicy: appsv1.ParallelPodManagement,
		}}, metav1.CreateOptions{})
	case Job:
		backOff := int32(6)
		if w.Does.Code != 0 {
			backOff = 0 // it is to fail, once
		}
		_, err = b.client.BatchV1().Jobs(namespace).Create(ctx, &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{
			Completions: replicas, Parallelism: replicas, BackoffLimit: &backOff, Template: template,
		}}, metav1.CreateOptions{})
	}
	return err
}

func (b *bed) createPod(ctx context.Context, p *corev1.Pod) error {
	made, err := b.client.CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
	if err == nil {
		b.recorder.created(made.Name, string(made.UID))
	}
	return err
}

// remove deletes a workload or pod.
func (b *bed) remove(ctx context.Context, s Step) error {
	options := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
	var err error
	switch {
	case s.Mode == string(Job):
		err = b.client.BatchV1().Jobs(namespace).Delete(ctx, s.Name, options)
	case s.Do == Force:
		err = b.client.CoreV1().Pods(namespace).Delete(ctx, s.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
	default:
		err = b.client.CoreV1().Pods(namespace).Delete(ctx, s.Name, metav1.DeleteOptions{})
	}
	return err
}

// recreate replaces a bare pod by one of the same name as soon as the API server
// lets it: at once where the pod was removed by force.
func (b *bed) recreate(ctx context.Context, s Step) error {
	pods := b.client.CoreV1().Pods(namespace)
	old, err := pods.Get(ctx, s.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	options := metav1.DeleteOptions{}
	if s.Mode == "force" {
		options.GracePeriodSeconds = ptr.To[int64](0)
	}
	if err := pods.Delete(ctx, s.Name, options); err != nil {
		return err
	}
	anew := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: old.Name, Namespace: namespace, Labels: old.Labels}, Spec: old.Spec}
	anew.Spec.NodeName = ""
	again := func(ctx context.Context) error {
		// The name is taken until the agent has let the old pod go. When that takes
		// too long, the settling finds out why.
		err := playground.Poll(ctx, 10*time.Second, "pod "+s.Name+" can be made again", func(ctx context.Context) (bool, error) {
			err := b.createPod(ctx, anew)
			return err == nil || !apierrors.IsAlreadyExists(err), err
		})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	}
	if s.Mode == "force" {
		return again(ctx)
	}
	b.later(ctx, 0, again)
	return nil
}

func (b *bed) scale(ctx context.Context, s Step) error {
	scale := &autoscalingv1.Scale{
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: namespace},
		Spec:       autoscalingv1.ScaleSpec{Replicas: int32(s.Count)}, //nolint:gosec // a few
	}
	var err error
	if s.Mode == string(StatefulSet) {
		_, err = b.client.AppsV1().StatefulSets(namespace).UpdateScale(ctx, s.Name, scale, metav1.UpdateOptions{})
	} else {
		_, err = b.client.AppsV1().Deployments(namespace).UpdateScale(ctx, s.Name, scale, metav1.UpdateOptions{})
	}
	return err
}

func (b *bed) evict(ctx context.Context, s Step) error {
	return b.client.CoreV1().Pods(namespace).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: namespace}})
}

// cleanup deletes what a round made.
func (b *bed) cleanup(ctx context.Context, round int) error {
	options := metav1.DeleteOptions{PropagationPolicy: ptr.To(metav1.DeletePropagationBackground)}
	for _, w := range workloads(b.seed, round) {
		var err error
		switch w.Kind {
		case BarePod:
			err = b.client.CoreV1().Pods(namespace).Delete(ctx, w.Name, metav1.DeleteOptions{})
		case Deployment:
			err = b.client.AppsV1().Deployments(namespace).Delete(ctx, w.Name, options)
		case StatefulSet:
			err = b.client.AppsV1().StatefulSets(namespace).Delete(ctx, w.Name, options)
		case Job:
			err = b.client.BatchV1().Jobs(namespace).Delete(ctx, w.Name, options)
		}
		if err := ignoreNotFound(err); err != nil {
			return fmt.Errorf("deleting %s: %w", w.Name, err)
		}
	}
	return nil
}

// found tells by the error of a request whether what it was about was there as it was
// expected; that it was not is no error.
func found(err error) (bool, error) {
	rest := ignoreNotFound(err)
	return err == nil || rest != nil, rest
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
