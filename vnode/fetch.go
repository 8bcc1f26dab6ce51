package vnode

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"

	"golang.org/x/sync/singleflight"
)

// fetchFor is how long an object that pods refer to is used again without being
// asked for. It spares the API server a request per pod when many replicas
// start, and is far below the minute that the kubelet may lag behind.
const fetchFor = 5 * time.Second

// fetcher reads ConfigMaps, Secrets and Services by name when a pod needs them.
// Nothing is watched: the agent's memory does not grow with the cluster.
type fetcher struct {
	client kubernetes.Interface
	clock  clock.PassiveClock
	flight singleflight.Group

	mu     sync.Mutex
	recent map[string]fetched
}

type fetched struct {
	object any
	at     time.Time
}

func newFetcher(client kubernetes.Interface, clk clock.PassiveClock) *fetcher {
	return &fetcher{client: client, clock: clk, recent: map[string]fetched{}}
}

func (f *fetcher) configMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
	return fetch(ctx, f, "configmap/"+namespace+"/"+name, func(ctx context.Context) (*corev1.ConfigMap, error) {
		return f.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

func (f *fetcher) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return fetch(ctx, f, "secret/"+namespace+"/"+name, func(ctx context.Context) (*corev1.Secret, error) {
		return f.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

func (f *fetcher) claim(ctx context.Context, namespace, name string) (*corev1.PersistentVolumeClaim, error) {
	return fetch(ctx, f, "claim/"+namespace+"/"+name, func(ctx context.Context) (*corev1.PersistentVolumeClaim, error) {
		return f.client.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

func (f *fetcher) persistentVolume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	return fetch(ctx, f, "persistentvolume/"+name, func(ctx context.Context) (*corev1.PersistentVolume, error) {
		return f.client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	})
}

func (f *fetcher) service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	return fetch(ctx, f, "service/"+namespace+"/"+name, func(ctx context.Context) (*corev1.Service, error) {
		return f.client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	})
}

func (f *fetcher) services(ctx context.Context, namespace string) (*corev1.ServiceList, error) {
	return fetch(ctx, f, "services/"+namespace, func(ctx context.Context) (*corev1.ServiceList, error) {
		// Version 0: from the API server's cache, without a read of etcd.
		return f.client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	})
}

// fetch returns the object under the key, asked for once by all who need it at
// the same time. Errors are not remembered. The caller must not change the
// object.
func fetch[T any](ctx context.Context, f *fetcher, key string, get func(context.Context) (T, error)) (T, error) {
	now := f.clock.Now()
	f.mu.Lock()
	hit, ok := f.recent[key]
	f.mu.Unlock()
	if ok && now.Sub(hit.at) < fetchFor {
		if object, ok := hit.object.(T); ok {
			return object, nil
		}
	}
	// The first caller's context serves all; each has about the same time left.
	object, err, _ := f.flight.Do(key, func() (any, error) {
		object, err := get(ctx)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for k, old := range f.recent {
			if now.Sub(old.at) >= fetchFor {
				delete(f.recent, k)
			}
		}
		f.recent[key] = fetched{object: object, at: now}
		return object, nil
	})
	if err != nil {
		var none T
		return none, err
	}
	typed, _ := object.(T)
	return typed, nil
}
