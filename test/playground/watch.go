package playground

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// PodEvent is a change of a pod, or the error that ended the watch.
type PodEvent struct {
	Type watch.EventType
	Pod  *corev1.Pod
	Err  error
}

// WatchPods returns the pods of a namespace, "" for all, and a channel of every
// change since then, closed when the context ends. A watch that the API server
// ends, as it does with clients that it finds slow, is taken up again at once
// where it ended, so that nothing is missed.
func WatchPods(ctx context.Context, client kubernetes.Interface, namespace string) ([]corev1.Pod, <-chan PodEvent, error) {
	list, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, nil, err
	}
	version := list.ResourceVersion
	w, err := client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		return nil, nil, err
	}
	events := make(chan PodEvent, 1024)
	send := func(e PodEvent) bool {
		select {
		case events <- e:
			return e.Err == nil
		case <-ctx.Done():
			return false
		}
	}
	go func() {
		defer close(events)
		for {
			for e := range w.ResultChan() {
				pod, ok := e.Object.(*corev1.Pod)
				if !ok {
					send(PodEvent{Err: fmt.Errorf("the watch of pods ended: %v", e.Object)})
					w.Stop()
					return
				}
				version = pod.ResourceVersion
				if !send(PodEvent{Type: e.Type, Pod: pod}) {
					w.Stop()
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			if w, err = client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: version}); err != nil {
				send(PodEvent{Err: fmt.Errorf("watching pods again: %w", err)})
				return
			}
		}
	}()
	return list.Items, events, nil
}
