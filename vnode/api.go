package vnode

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	vkapi "github.com/virtual-kubelet/virtual-kubelet/node/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/autoburst/autoburst/providers"
)

// Handler is the kubelet API of the node, without authentication: pods, logs,
// figures of usage, streams to containers and health. What it cannot do it refuses
// with a sentence that says so. An agent that does not lead answers for its health
// only: the address on the Node object is the leader's.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	pods := func(context.Context) ([]*corev1.Pod, error) { return a.pods.list(), nil }
	running := func(ctx context.Context) ([]*corev1.Pod, error) {
		all, err := pods(ctx)
		return slices.DeleteFunc(all, func(p *corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning || p.DeletionTimestamp != nil }), err
	}
	kubelet := vkapi.PodHandler(vkapi.PodHandlerConfig{
		GetContainerLogs: a.containerLogs, GetPods: running, GetPodsFromKubernetes: pods,
		GetStatsSummary: a.statsSummary, GetMetricsResource: a.resourceMetrics,
	}, true)
	mux.Handle("/", kubelet)
	mux.Handle("/stats/", timely(kubelet))
	mux.Handle("/metrics/", timely(kubelet))
	mux.HandleFunc("/containerLogs/", func(w http.ResponseWriter, req *http.Request) {
		// The library does not tell tailLines=0 from a query without it.
		if req.URL.Query().Get("tailLines") == "0" {
			req = req.WithContext(context.WithValue(req.Context(), noBacklog{}, true))
		}
		ctx, end := a.whileLeading(req.Context())
		defer end()
		kubelet.ServeHTTP(w, req.WithContext(ctx))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	streams := a.streams()
	for _, path := range []string{"/exec/", "/attach/", "/portForward/"} {
		mux.Handle(path, streams)
	}
	return recovered(a.leading(mux), a)
}

// leading lets requests through while the agent leads.
func (a *Agent) leading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if a.present.Load() != nil || req.URL.Path == "/healthz" {
			next.ServeHTTP(w, req)
			return
		}
		leader := "nobody yet"
		if h := a.hold.Load(); h != nil {
			if holder, _ := h.state(); holder != "" {
				leader = holder
			}
		}
		w.Header().Set("Retry-After", "2")
		http.Error(w, fmt.Sprintf("this agent stands by for virtual node %s; the leader is %s, try again when the node shows its address", a.cfg.Node.Name, leader),
			http.StatusServiceUnavailable)
	})
}

// recovered keeps a panic in one request from ending the agent.
func recovered(h http.Handler, a *Agent) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler { //nolint:errorlint // the very value
					panic(p)
				}
				a.metrics.panics.Inc()
				a.log.Error("panic in a request", "path", req.URL.Path, "panic", fmt.Sprint(p))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		h.ServeHTTP(w, req)
	})
}

// noBacklog is the key of a context whose request asks for no lines of the past.
type noBacklog struct{}

// containerLogs serves kubectl logs.
func (a *Agent) containerLogs(ctx context.Context, namespace, name, container string, opts vkapi.ContainerLogOpts) (io.ReadCloser, error) {
	at, err := a.find(namespace, name, container)
	if err != nil {
		return nil, err
	}
	pod, id := at.pod, at.group
	status := containerStatus(pod, container)
	switch {
	case id == "":
		return nil, errdefs.InvalidInputf("container %q in pod %q has no logs: %s", container, name, why(pod, status))
	case opts.Previous && status.LastTerminationState.Terminated == nil:
		return nil, errdefs.InvalidInputf("previous terminated container %q in pod %q not found", container, name)
	case status.State.Waiting != nil && status.LastTerminationState.Terminated == nil:
		return nil, errdefs.InvalidInputf("container %q in pod %q is waiting to start: %s", container, name, why(pod, status))
	}

	query := providers.LogOptions{
		Tail: opts.Tail, LimitBytes: opts.LimitBytes, Timestamps: opts.Timestamps, Since: opts.SinceTime, Previous: opts.Previous,
	}
	if opts.SinceSeconds > 0 {
		query.Since = a.clock.Now().Add(-time.Duration(opts.SinceSeconds) * time.Second)
	}
	none := ctx.Value(noBacklog{}) != nil
	if !opts.Follow || opts.Previous {
		if none {
			return io.NopCloser(strings.NewReader("")), nil
		}
		logs, err := a.logs(ctx, id, container, query)
		return logs, logError(err)
	}
	if none {
		query.Tail, query.Since = 1, a.clock.Now()
	}
	logs, err := a.follow(ctx, at, query, opts.Timestamps, opts.LimitBytes)
	return logs, logError(err)
}

// follow makes a stream of a container's log, which ends with the container or ctx.
func (a *Agent) follow(ctx context.Context, t *target, query providers.LogOptions, timestamps bool, limit int) (io.ReadCloser, error) {
	f := &follower{
		clock: a.clock, interval: a.cfg.LogInterval, timestamps: timestamps, limit: limit,
		read: func(ctx context.Context, o providers.LogOptions) (io.ReadCloser, error) {
			return a.logs(ctx, t.group, t.container, o)
		},
		ended: func() bool {
			pod := a.pods.byUID(t.pod.UID)
			return pod == nil || terminal(pod) || containerStatus(pod, t.container).State.Terminated != nil
		},
	}
	return f.start(ctx, query)
}

// target is a pod of the node, and one of its containers, as the agent knows them.
type target struct {
	term      *term
	pod       *corev1.Pod
	group     string // its ID; empty without a group
	container string // empty for the pod as a whole
}

// find returns the container of a pod, or the pod if it names none.
func (a *Agent) find(namespace, name, container string) (*target, error) {
	pod := a.pods.byName(namespace, name)
	if pod == nil {
		return nil, errdefs.NotFoundf("pod %q not found on virtual node %s", namespace+"/"+name, a.cfg.Node.Name)
	}
	inSpec := func(list []corev1.Container) bool {
		return slices.ContainsFunc(list, func(c corev1.Container) bool { return c.Name == container })
	}
	if container != "" && !inSpec(pod.Spec.Containers) && !inSpec(pod.Spec.InitContainers) {
		return nil, errdefs.InvalidInputf("container %s is not valid for pod %s", container, name)
	}
	t := a.present.Load()
	if t == nil { // it led when the request came
		return nil, a.leadsNoMore()
	}
	newest, id := t.reconciler.groupOf(pod.UID)
	if newest == nil {
		newest = pod // it goes just now
	}
	return &target{term: t, pod: newest, group: id, container: container}, nil
}

func (a *Agent) leadsNoMore() error {
	return fmt.Errorf("this agent does not lead virtual node %s any more; try again", a.cfg.Node.Name)
}

// logs asks the cloud. It never returns nil without an error.
func (a *Agent) logs(ctx context.Context, id, container string, opts providers.LogOptions) (io.ReadCloser, error) {
	begun := a.clock.Now()
	logs, err := a.provider.Logs(ctx, id, container, opts)
	a.metrics.call("Logs", a.clock.Since(begun), ignoreNotFound(err))
	if err == nil && logs == nil {
		logs = io.NopCloser(strings.NewReader(""))
	}
	return logs, err
}

// logError is the answer to a log that cannot be had. Of a status 404 users of
// kubectl would not see the sentence.
func logError(err error) error {
	switch providers.ClassOf(err) {
	case "":
		return nil
	case providers.NotFound, providers.InvalidPod, providers.Conflict, providers.Unsupported:
		return errdefs.AsInvalidInput(err)
	}
	return err
}

// groupOf returns the pod as the agent knows it and the ID of its group, empty
// if there is none.
func (r *reconciler) groupOf(uid types.UID) (*corev1.Pod, string) {
	v := r.look(uid)
	if len(v.groups) == 0 {
		return v.pod, ""
	}
	return v.pod, v.groups[0].group.ID
}

func containerStatus(pod *corev1.Pod, name string) corev1.ContainerStatus {
	if pod != nil {
		for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
			for _, s := range list {
				if s.Name == name {
					return s
				}
			}
		}
	}
	return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reasonCreating}}}
}

func why(pod *corev1.Pod, s corev1.ContainerStatus) string {
	switch {
	case pod != nil && terminal(pod):
		reason := pod.Status.Reason
		if reason == "" {
			reason = string(pod.Status.Phase)
		}
		return "its container group is gone (" + reason + ")"
	case s.State.Waiting != nil && s.State.Waiting.Reason != "":
		return s.State.Waiting.Reason
	}
	return reasonCreating
}
