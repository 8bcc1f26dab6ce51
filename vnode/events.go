package vnode

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

const (
	eventComponent = "autoburst-vnode"
	// eventBacklog bounds the memory of an event flood.
	eventBacklog = 4096
	// eventMessageLimit is the API's own bound of an event's note, in bytes.
	eventMessageLimit = 1024
	// lastEvents bounds the time for the events that are left when the agent stops.
	lastEvents = 2 * time.Second
)

// eventSink writes events about pods, each once: an event is named by what it
// says, so that also after a restart of the agent the API server knows it.
type eventSink struct {
	client kubernetes.Interface
	node   string
	clock  clock.PassiveClock
	log    *slog.Logger
	metric *Metrics

	queue chan *corev1.Event

	mu    sync.Mutex
	known map[types.UID]map[string]bool
}

func newEventSink(client kubernetes.Interface, node string, clk clock.PassiveClock, log *slog.Logger, m *Metrics) *eventSink {
	return &eventSink{
		client: client, node: node, clock: clk, log: log, metric: m,
		queue: make(chan *corev1.Event, eventBacklog), known: map[types.UID]map[string]bool{},
	}
}

// run writes what is queued until ctx ends, and then, for a moment, what is left.
func (s *eventSink) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastEvents)
			defer cancel()
			for len(s.queue) > 0 && last.Err() == nil {
				s.write(last, <-s.queue)
			}
			return
		case e := <-s.queue:
			s.write(ctx, e)
		}
	}
}

func (s *eventSink) write(ctx context.Context, e *corev1.Event) {
	_, err := s.client.CoreV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	switch {
	case err == nil:
		s.metric.events.WithLabelValues("created").Inc()
	case apierrors.IsAlreadyExists(err):
		s.metric.events.WithLabelValues("known").Inc()
	default:
		s.metric.events.WithLabelValues("failed").Inc()
		s.log.Debug("event not written", "pod", e.InvolvedObject.Namespace+"/"+e.InvolvedObject.Name, "reason", e.Reason, "error", err)
	}
}

// occurrence is one event; Key tells it from others of the same pod and reason.
type occurrence struct {
	warning         bool
	reason, message string
	container, key  string
	count           int32
	first, last     metav1.Time
}

// pod queues an event, unless it was queued before. It never blocks.
func (s *eventSink) pod(pod *corev1.Pod, o occurrence) {
	key := o.reason + "\x00" + o.container + "\x00" + o.key
	s.mu.Lock()
	if s.known[pod.UID] == nil {
		s.known[pod.UID] = map[string]bool{}
	}
	if s.known[pod.UID][key] {
		s.mu.Unlock()
		return
	}
	s.known[pod.UID][key] = true
	s.mu.Unlock()

	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s", pod.UID, key)
	now := metav1.NewTime(s.clock.Now())
	if o.first.IsZero() {
		o.first = now
	}
	if o.last.IsZero() {
		o.last = o.first
	}
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: fmt.Sprintf("%.200s.%x", pod.Name, h.Sum64())},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Type: corev1.EventTypeNormal, Reason: o.reason, Message: cut(o.message, eventMessageLimit),
		FirstTimestamp: o.first, LastTimestamp: o.last, Count: max(o.count, 1),
		Source:              corev1.EventSource{Component: eventComponent, Host: s.node},
		ReportingController: eventComponent, ReportingInstance: s.node,
	}
	if o.warning {
		e.Type = corev1.EventTypeWarning
	}
	if o.container != "" {
		e.InvolvedObject.FieldPath = fmt.Sprintf("spec.containers{%s}", o.container)
	}
	select {
	case s.queue <- e:
	default:
		s.metric.events.WithLabelValues("dropped").Inc()
	}
}

// forget frees what is remembered about a pod.
func (s *eventSink) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.known, uid)
}

// cut shortens a text to at most n bytes, at the border of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
