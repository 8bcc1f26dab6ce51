package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/autoburst/autoburst/policy"
)

// saidFor is how long what was read is used, so that many waiting pods cost a few
// requests per namespace.
const saidFor = 5 * time.Second

// autoscalers knows what autoscalers have said of pods, by their events. It reads
// them only when it is asked about a pod: nobody asks but for pods of policies
// with the order NodeFirst whose wait is over. Events have no cache in the API
// server, so a watch of them would cost more.
type autoscalers struct {
	reads client.Reader // from the API server itself
	clock clock.PassiveClock

	mu          sync.Mutex
	byNamespace map[string]*said
}

// said is what was said of the pods of one namespace.
type said struct {
	mu sync.Mutex
	at time.Time
	of map[types.UID]policy.ScaleUp
}

func newAutoscalers(reads client.Reader, c clock.PassiveClock) *autoscalers {
	return &autoscalers{reads: reads, clock: c, byNamespace: make(map[string]*said)}
}

// of is what autoscalers have said of a pod, as of 5 s ago at most.
func (a *autoscalers) of(ctx context.Context, pod *corev1.Pod) (policy.ScaleUp, error) {
	s := a.namespace(pod.Namespace)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil || a.clock.Since(s.at) >= saidFor {
		of, err := a.read(ctx, pod.Namespace)
		if err != nil {
			return policy.ScaleUp{}, err
		}
		s.of, s.at = of, a.clock.Now()
	}
	return s.of[pod.UID], nil
}

// namespace is the entry of a namespace. Those that nobody asks for are dropped.
func (a *autoscalers) namespace(name string) *said {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other, s := range a.byNamespace {
		if other != name && s.mu.TryLock() {
			if a.clock.Since(s.at) > time.Hour {
				delete(a.byNamespace, other)
			}
			s.mu.Unlock()
		}
	}
	s, ok := a.byNamespace[name]
	if !ok {
		s = &said{at: a.clock.Now()}
		a.byNamespace[name] = s
	}
	return s
}

func (a *autoscalers) read(ctx context.Context, namespace string) (map[types.UID]policy.ScaleUp, error) {
	of := make(map[types.UID]policy.ScaleUp)
	for _, reason := range policy.ScaleUpEvents {
		var list corev1.EventList
		if err := a.reads.List(ctx, &list, client.InNamespace(namespace), client.MatchingFields{"reason": reason}); err != nil {
			return nil, fmt.Errorf("listing events %s of namespace %s: %w", reason, namespace, err)
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.InvolvedObject.Kind == "Pod" {
				of[e.InvolvedObject.UID] = of[e.InvolvedObject.UID].Hear(e)
			}
		}
	}
	return of, nil
}
