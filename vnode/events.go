package vnode

import (
	"cmp"
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
	// eventBacklog bounds the memory of an event flood: as many may wait, of
	// warnings and of others. It is what 5,000 pods that start leave.
	eventBacklog = 32768
	// eventBurst and eventsPerSecond are what the kubelet allows itself by
	// default. An event costs the API server as much as the write of a status,
	// and a pod that starts has four: in a burst they would take longer than the
	// pods.
	eventBurst      = 100
	eventsPerSecond = 50
	// eventMessageLimit is the API's own bound of an event's note, in bytes.
	eventMessageLimit = 1024
	// lastEvents bounds the time for the events that are left when the agent stops.
	lastEvents = 2 * time.Second
)

// eventSink writes events about pods, each once: an event is named by what it
// says, so that also after a restart of the agent the API server knows it. It
// writes them in its own time, warnings first.
type eventSink struct {
	client kubernetes.Interface
	node   string
	clock  clock.WithTicker
	log    *slog.Logger
	metric *Metrics

	warnings, normals chan *notice

	mu    sync.Mutex
	known map[types.UID]map[string]bool
}

func newEventSink(client kubernetes.Interface, node string, clk clock.WithTicker, log *slog.Logger, m *Metrics) *eventSink {
	return &eventSink{
		client: client, node: node, clock: clk, log: log, metric: m,
		warnings: make(chan *notice, eventBacklog), normals: make(chan *notice, eventBacklog),
		known: map[types.UID]map[string]bool{},
	}
}

// run writes what is queued until ctx ends, and then, for a moment, what is left.
func (s *eventSink) run(ctx context.Context) {
	tokens, at := float64(eventBurst), s.clock.Now()
	for e := s.next(ctx); e != nil; e = s.next(ctx) {
		now := s.clock.Now()
		tokens = min(eventBurst, tokens+now.Sub(at).Seconds()*eventsPerSecond) - 1
		at = now
		s.write(ctx, e)
		if tokens >= 1 {
			continue
		}
		timer := s.clock.NewTimer(time.Duration((1 - tokens) / eventsPerSecond * float64(time.Second)))
		select {
		case <-ctx.Done():
		case <-timer.C():
		}
		timer.Stop()
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastEvents)
	defer cancel()
	for len(s.warnings)+len(s.normals) > 0 && last.Err() == nil {
		select {
		case e := <-s.warnings:
			s.write(last, e)
		default:
			s.write(last, <-s.normals)
		}
	}
}

// next waits for an event, nil when ctx ends.
func (s *eventSink) next(ctx context.Context) *notice {
	if ctx.Err() != nil {
		return nil
	}
	select {
	case e := <-s.warnings:
		return e
	default:
	}
	select {
	case <-ctx.Done():
		return nil
	case e := <-s.warnings:
		return e
	case e := <-s.normals:
		return e
	}
}

func (s *eventSink) write(ctx context.Context, n *notice) {
	e := s.event(n)
	_, err := s.client.CoreV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	switch {
	case err == nil:
		s.metric.events.WithLabelValues(resultCreated).Inc()
	case apierrors.IsAlreadyExists(err):
		s.metric.events.WithLabelValues(resultKnown).Inc()
	default:
		s.metric.events.WithLabelValues(resultFailed).Inc()
		s.log.Debug("event not written", "about", n.about.Namespace+"/"+n.about.Name, "reason", n.reason, "error", err)
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

// identity tells it from others about the same object.
func (o occurrence) identity() string { return o.reason + "\x00" + o.container + "\x00" + o.key }

// pod queues an event, unless it was queued before. It never blocks.
func (s *eventSink) pod(pod *corev1.Pod, o occurrence) {
	key := o.identity()
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

	s.send(corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
	}, o)
}

// onNode queues an event about the node. It never blocks.
func (s *eventSink) onNode(o occurrence) {
	// As the kubelet's: kubectl describe node looks for the name as the UID.
	s.send(corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: s.node, UID: types.UID(s.node)}, o)
}

func (s *eventSink) send(about corev1.ObjectReference, o occurrence) {
	now := metav1.NewTime(s.clock.Now())
	if o.first.IsZero() {
		o.first = now
	}
	if o.last.IsZero() {
		o.last = o.first
	}
	queue := s.normals
	if o.warning {
		queue = s.warnings
	}
	select {
	case queue <- &notice{occurrence: o, about: about}:
	default:
		s.metric.events.WithLabelValues(resultDropped).Inc()
	}
}

// notice is an occurrence that waits to be written.
type notice struct {
	occurrence
	about corev1.ObjectReference
}

// event is what is written.
func (s *eventSink) event(n *notice) *corev1.Event {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s\x00%s", n.about.UID, n.identity())
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cmp.Or(n.about.Namespace, metav1.NamespaceDefault), // where events of nodes are
			Name:      fmt.Sprintf("%.200s.%x", n.about.Name, h.Sum64()),
		},
		InvolvedObject: n.about,
		Type:           corev1.EventTypeNormal, Reason: n.reason, Message: cut(n.message, eventMessageLimit),
		FirstTimestamp: n.first, LastTimestamp: n.last, Count: max(n.count, 1),
		Source:              corev1.EventSource{Component: eventComponent, Host: s.node},
		ReportingController: eventComponent, ReportingInstance: s.node,
	}
	if n.warning {
		e.Type = corev1.EventTypeWarning
	}
	if n.container != "" {
		e.InvolvedObject.FieldPath = fmt.Sprintf("spec.containers{%s}", n.container)
	}
	return e
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
