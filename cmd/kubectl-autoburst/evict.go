package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/autoburst/autoburst/policy/v1alpha1"
)

// podsThere lists the pods of the node that have to go. Those that have ended are among
// them: their container groups are kept for their logs.
func (d *drainer) podsThere(ctx context.Context) ([]corev1.Pod, error) {
	list, err := d.client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", d.node).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the pods on node %s: %w", d.node, err)
	}
	if d.ignoreDaemonSets {
		return slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return ofDaemonSet(&p) }), nil
	}
	return list.Items, nil
}

func ofDaemonSet(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

// check refuses what an eviction would not do any good to, before anything is
// changed.
func (d *drainer) check(pods []corev1.Pod) error {
	var bare, local, daemons []string
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil {
			continue
		}
		if ofDaemonSet(pod) {
			daemons = append(daemons, nameOf(pod))
			continue
		}
		if finished(pod) {
			continue
		}
		if metav1.GetControllerOf(pod) == nil && !d.force {
			bare = append(bare, nameOf(pod))
		}
		if !d.deleteEmptyDir && slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.EmptyDir != nil }) {
			local = append(local, nameOf(pod))
		}
	}
	var problems []string
	if len(daemons) > 0 {
		problems = append(problems, fmt.Sprintf("pods of DaemonSets would come back at once: %s (keep the DaemonSets off virtual nodes by node affinity, %s NotIn [%s]; "+
			"--ignore-daemonsets leaves those where they are that have no container group)", some(daemons), v1alpha1.VirtualNodeLabel, v1alpha1.VirtualNodeValue))
	}
	if len(bare) > 0 {
		problems = append(problems, fmt.Sprintf("no controller makes these pods anew: %s (--force evicts them for good)", some(bare)))
	}
	if len(local) > 0 {
		problems = append(problems, fmt.Sprintf("these pods lose what is in their emptyDir volumes: %s (--delete-emptydir-data evicts them)", some(local)))
	}
	if len(problems) > 0 {
		return fmt.Errorf("node %s is not drained, and nothing was changed:\n  %s", d.node, strings.Join(problems, "\n  "))
	}
	return nil
}

// some lists the first of many names.
func some(names []string) string {
	const most = 10
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// evictAll evicts the pods of the node until there is none.
func (d *drainer) evictAll(ctx context.Context) error {
	for {
		pods, err := d.podsThere(ctx)
		switch {
		case err != nil && !passing(err):
			return err
		case err != nil:
			d.sayOnce("%v; trying again", err)
		default:
			if err := d.check(pods); err != nil {
				return err
			}
			if err := d.evict(ctx, pods); err != nil {
				return err
			}
			d.sayGone(pods)
			if len(pods) == 0 {
				return nil
			}
			if trouble := d.trouble(ctx); trouble != nil {
				d.sayOnce("%v", trouble)
			}
		}
		if err := wait(ctx, lookAgain); err != nil {
			return err
		}
	}
}

// evict asks for the eviction of those pods that are not on their way yet.
func (d *drainer) evict(ctx context.Context, pods []corev1.Pod) error {
	for i := range pods {
		pod := &pods[i]
		if pod.DeletionTimestamp != nil {
			if d.leaving[pod.UID] == "" {
				d.leaving[pod.UID] = nameOf(pod)
				d.say("pod %s is being deleted already", nameOf(pod))
			}
			continue
		}
		if at, ok := d.refused[pod.UID]; ok && time.Since(at) < evictAgain {
			continue
		}
		eviction := &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &pod.UID}},
		}
		if seconds := int64(d.gracePeriod); seconds >= 0 {
			eviction.DeleteOptions.GracePeriodSeconds = &seconds
		}
		err := d.client.CoreV1().Pods(pod.Namespace).EvictV1(ctx, eviction)
		switch {
		case err == nil:
			d.leaving[pod.UID] = nameOf(pod)
			d.say("pod %s is evicted", nameOf(pod))
		case apierrors.IsNotFound(err), apierrors.IsConflict(err): // it went by itself, or another has its name
		case ctx.Err() != nil:
			return ctx.Err()
		case passing(err):
			d.refused[pod.UID], d.why[pod.UID] = time.Now(), because(err)
			d.sayOnce("pod %s cannot be evicted yet: %s", nameOf(pod), d.why[pod.UID])
		default:
			return fmt.Errorf("evicting pod %s: %w", nameOf(pod), err)
		}
	}
	return nil
}

// because is why an eviction was refused, in the API server's words: the name of the
// budget is in a cause.
func because(err error) string {
	text := err.Error()
	if status, ok := err.(apierrors.APIStatus); ok && status.Status().Details != nil { //nolint:errorlint // client-go returns it as it is
		for _, c := range status.Status().Details.Causes {
			if c.Type == policyv1.DisruptionBudgetCause {
				text += " " + c.Message
			}
		}
	}
	return strings.TrimSuffix(text, ".")
}

// sayGone tells of pods that were on their way and are not there any more.
func (d *drainer) sayGone(there []corev1.Pod) {
	for uid, name := range d.leaving {
		if !slices.ContainsFunc(there, func(p corev1.Pod) bool { return p.UID == uid }) {
			d.say("pod %s is gone", name)
			delete(d.leaving, uid)
		}
	}
}

// obstacle is why a pod is still there, and what to do.
func (d *drainer) obstacle(pod *corev1.Pod) string {
	switch {
	case pod.DeletionTimestamp != nil && len(pod.Finalizers) > 0:
		return fmt.Sprintf("is kept by its finalizers %s; whoever set them must take them away", strings.Join(pod.Finalizers, ", "))
	case pod.DeletionTimestamp != nil:
		return fmt.Sprintf("has been told to end, by %s at the latest, and its container group is not gone", pod.DeletionTimestamp.Format(time.TimeOnly))
	case d.why[pod.UID] != "":
		return fmt.Sprintf("cannot be evicted: %s; start replicas elsewhere, or change its PodDisruptionBudget", d.why[pod.UID])
	}
	return "was not evicted yet"
}
