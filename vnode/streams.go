package vnode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gorilla/mux"
	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	vkapi "github.com/virtual-kubelet/virtual-kubelet/node/api"

	"github.com/autoburst/autoburst/providers"
)

// streamCreation is how long a client may take to open the streams of a
// connection.
const streamCreation = 30 * time.Second

// streams serves exec, attach and port-forward. A request that cannot be carried
// out is refused before the connection is upgraded, so that the client sees why.
// A stream ends with its client, its pod or the term of the agent.
func (a *Agent) streams() http.Handler {
	router := mux.NewRouter()
	route := func(path string, serve func(context.Context, *target) http.HandlerFunc) {
		router.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
			vars := mux.Vars(req)
			t, err := a.findRunning(vars["namespace"], vars["pod"], vars["container"])
			if err != nil {
				http.Error(w, err.Error(), statusOf(err))
				return
			}
			ctx, end := a.whilePodLives(req.Context(), t)
			defer end()
			serve(ctx, t)(w, req.WithContext(ctx))
		}).Methods(http.MethodGet, http.MethodPost)
	}
	options := []vkapi.ContainerExecHandlerOption{
		vkapi.WithExecStreamIdleTimeout(a.cfg.StreamIdle), vkapi.WithExecStreamCreationTimeout(streamCreation),
	}
	executor, ok := a.provider.(providers.Executor)
	if !ok {
		refuse := func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, fmt.Sprintf("virtual node %s (%s) cannot connect to its containers", a.cfg.Node.Name, a.provider.Name()), http.StatusNotImplemented)
		}
		router.PathPrefix("/exec/").HandlerFunc(refuse)
		router.PathPrefix("/attach/").HandlerFunc(refuse)
	}
	route("/exec/{namespace}/{pod}/{container}", func(_ context.Context, t *target) http.HandlerFunc {
		return vkapi.HandleContainerExec(func(ctx context.Context, _, _, _ string, command []string, client vkapi.AttachIO) error {
			return a.exec(ctx, executor, t, command, client)
		}, options...)
	})
	route("/attach/{namespace}/{pod}/{container}", func(_ context.Context, t *target) http.HandlerFunc {
		return vkapi.HandleContainerAttach(func(ctx context.Context, _, _, _ string, client vkapi.AttachIO) error {
			return a.attach(ctx, executor, t, client)
		}, options...)
	})
	route("/portForward/{namespace}/{pod}", func(ctx context.Context, t *target) http.HandlerFunc {
		// The library calls with a context that never ends.
		serve := vkapi.HandlePortForward(func(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
			return a.forward(ctx, t, port, stream)
		}, vkapi.WithPortForwardStreamIdleTimeout(a.cfg.StreamIdle), vkapi.WithPortForwardCreationTimeout(streamCreation))
		return func(w http.ResponseWriter, req *http.Request) { serve(severed{w, ctx}, req) }
	})
	return router
}

// findRunning is find for what must run.
func (a *Agent) findRunning(namespace, name, container string) (*target, error) {
	t, err := a.find(namespace, name, container)
	if err != nil {
		return nil, err
	}
	status := containerStatus(t.pod, container)
	switch {
	case t.group == "" || terminal(t.pod):
		return nil, errdefs.InvalidInputf("pod %q does not run: %s", namespace+"/"+name, why(t.pod, status))
	case container != "" && status.State.Running == nil:
		reason := why(t.pod, status)
		if ended := status.State.Terminated; ended != nil {
			reason = fmt.Sprintf("it has ended with exit code %d", ended.ExitCode)
		}
		return nil, errdefs.InvalidInputf("container %q in pod %q does not run: %s", container, namespace+"/"+name, reason)
	}
	return t, nil
}

func statusOf(err error) int {
	switch {
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidInput(err):
		return http.StatusBadRequest
	}
	return http.StatusServiceUnavailable
}

// whileLeading returns a context that ends with the agent's term. The caller calls
// end.
func (a *Agent) whileLeading(ctx context.Context) (_ context.Context, end func()) {
	t := a.present.Load()
	if t == nil {
		return ctx, func() {} // refused below
	}
	return a.until(ctx, t, func() error { return nil })
}

// whilePodLives returns a context that ends with the pod, and with the agent's
// term. Its cause says which. The caller calls end.
func (a *Agent) whilePodLives(ctx context.Context, t *target) (_ context.Context, end func()) {
	uid, name := t.pod.UID, t.pod.Namespace+"/"+t.pod.Name
	return a.until(ctx, t.term, func() error {
		if pod := a.pods.byUID(uid); pod == nil || terminal(pod) {
			return fmt.Errorf("pod %s has ended", name)
		}
		return nil
	})
}

// until returns a context that ends when the term is over, or over returns why.
func (a *Agent) until(ctx context.Context, t *term, over func() error) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		ticker := a.clock.NewTicker(a.cfg.LogInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.over:
				cancel(a.leadsNoMore())
				return
			case <-ticker.C():
				if err := over(); err != nil {
					cancel(err)
					return
				}
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-watched
	}
}

// severed closes the connection that is taken over from it when its context ends.
type severed struct {
	http.ResponseWriter
	ctx context.Context
}

func (s severed) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(s.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(s.ctx, func() { _ = conn.Close() })
	return closedOnce{conn}, buffered, nil
}

// closedOnce is a connection that may be closed twice: the library would wait for
// somebody who takes the error.
type closedOnce struct{ net.Conn }

func (c closedOnce) Close() error {
	if err := c.Conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// causeOf says why a stream has ended before its time. It is nil if it has not, and
// if the client has left: there is nobody to tell.
func causeOf(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}
