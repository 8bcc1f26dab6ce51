package faults

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// history is every version of every pod of a namespace, as the API server's
// watch delivers them; what happens while the API server is away is missing.
type history struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu   sync.Mutex
	pods []*corev1.Pod
}

func newHistory(namespace string) *history {
	ctx, cancel := context.WithCancel(context.Background())
	h := &history{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for ctx.Err() == nil {
			h.follow(ctx, namespace)
			timer := time.NewTimer(50 * time.Millisecond)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
			}
		}
	}()
	return h
}

// follow lists and watches until the watch ends.
func (h *history) follow(ctx context.Context, namespace string) {
	pods := admin.CoreV1().Pods(namespace)
	list, err := pods.List(ctx, metav1.ListOptions{})
	if err != nil {
		return // tried again
	}
	for i := range list.Items {
		h.add(&list.Items[i])
	}
	w, err := pods.Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok {
			h.add(p)
		}
	}
}

func (h *history) add(p *corev1.Pod) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pods = append(h.pods, p)
}

// all are the versions so far, oldest first.
func (h *history) all() []*corev1.Pod {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*corev1.Pod(nil), h.pods...)
}

// of are the versions of one pod.
func (h *history) of(uid types.UID) []*corev1.Pod {
	var list []*corev1.Pod
	for _, p := range h.all() {
		if p.UID == uid {
			list = append(list, p)
		}
	}
	return list
}

func (h *history) stop() {
	h.cancel()
	<-h.done
}
