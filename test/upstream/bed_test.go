package upstream

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/vnode"
)

// quick makes a group run within some hundredths of a second.
var quick = sim.Timing{
	Schedule: 2 * time.Millisecond, Pull: 2 * time.Millisecond, Start: 2 * time.Millisecond, Stop: 2 * time.Millisecond,
	CrashBackOff: sim.BackOff{Initial: 20 * time.Millisecond}, PullBackOff: sim.BackOff{Initial: 20 * time.Millisecond},
}

// account is an emulated cloud and the provider that uses it.
type account struct {
	provider providers.Provider
	record   func() sim.Record
	// made reads from an accepted request which pod it is for and what is stored.
	accepted *accepted
}

// accepted are the requests that the cloud has taken, by pod UID.
type accepted struct {
	mu    sync.Mutex
	byUID map[string]*group
	// asked counts the requests to make a group, taken or not.
	asked int
}

func (a *accepted) get(uid string) *group {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.byUID[uid]
}

func (a *accepted) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// recording is a cloud's handler that notes what create requests ask for: read, which
// returns nil for any other request.
func recording(next http.Handler, into *accepted, read func(r *http.Request, body []byte) (uid string, g *group)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(newReader(body))
		uid, g := read(r, body)
		if g == nil {
			next.ServeHTTP(w, r)
			return
		}
		status := &statusWriter{ResponseWriter: w}
		next.ServeHTTP(status, r)
		into.mu.Lock()
		defer into.mu.Unlock()
		into.asked++
		if status.code < 300 {
			into.byUID[uid] = g
		}
	})
}

type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(code int) {
	w.code = code
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func serve(t *testing.T, h http.Handler) *httptest.Server {
	web := httptest.NewUnstartedServer(h)
	web.Config.ErrorLog = log.New(io.Discard, "", 0)
	web.StartTLS()
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	return web
}

// bed is an agent between an emulated cloud and a fake API server.
type bed struct {
	*testing.T
	account
	client *fake.Clientset
}

func newBed(t *testing.T, a account, objects ...runtime.Object) *bed {
	t.Helper()
	b := &bed{T: t, account: a, client: newClient(objects...)}
	cfg := settings
	cfg.Node.Name = "virtual-" + a.provider.Name()
	cfg.SweepInterval, cfg.FastInterval = 100*time.Millisecond, 50*time.Millisecond
	cfg.MissingInterval = 100 * time.Millisecond
	cfg.ReadsPerSecond = 1000
	logger := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	agent, err := vnode.New(cfg, b.client, a.provider, clock.RealClock{}, logger, vnode.NewMetrics(nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		a.accepted.mu.Lock()
		defer a.accepted.mu.Unlock()
		for uid, g := range a.accepted.byUID {
			for _, what := range g.twice {
				t.Errorf("the group of pod %s has twice the %s", uid, what)
			}
		}
	})
	b.eventually("the node is registered", func() error {
		if !agent.Ready() {
			return fmt.Errorf("the agent is not ready")
		}
		return nil
	})
	return b
}

// newClient is client-go's fake with the resource versions and tokens of an API
// server.
func newClient(objects ...runtime.Object) *fake.Clientset {
	// Without managed fields, which take milliseconds for each write.
	tracker := clienttesting.NewObjectTracker(scheme.Scheme, scheme.Codecs.UniversalDecoder())
	for _, obj := range objects {
		_ = tracker.Add(obj) // an object of the scheme
	}
	client := &fake.Clientset{}
	client.AddReactor("*", "*", clienttesting.ObjectReaction(tracker))
	client.AddWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		w, err := tracker.Watch(a.GetResource(), a.GetNamespace())
		return err == nil, w, err
	})
	var last atomic.Int64
	last.Store(1000)
	version := func(obj runtime.Object) {
		if m, err := meta.Accessor(obj); err == nil {
			m.SetResourceVersion(strconv.FormatInt(last.Add(1), 10))
		}
	}
	client.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		c, ok := a.(clienttesting.CreateActionImpl)
		switch {
		case ok && c.Subresource == "token":
			request := c.Object.(*authv1.TokenRequest).DeepCopy()
			request.Status.Token = "token-of-" + c.Name + "-for-" + fmt.Sprint(request.Spec.Audiences)
			request.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Duration(*request.Spec.ExpirationSeconds) * time.Second))
			return true, request, nil
		case ok && c.Subresource == "":
			version(c.Object)
		}
		return false, nil, nil
	})
	client.PrependReactor("update", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if u, ok := a.(clienttesting.UpdateAction); ok {
			version(u.GetObject())
		}
		return false, nil, nil
	})
	client.PrependReactor("patch", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		handled, obj, err := clienttesting.ObjectReaction(tracker)(a)
		if err != nil || obj == nil {
			return handled, obj, err
		}
		obj = obj.DeepCopyObject()
		version(obj)
		return true, obj, tracker.Update(a.GetResource(), obj, a.GetNamespace())
	})
	return client
}

func (b *bed) eventually(what string, condition func() error) {
	b.Helper()
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			b.Fatalf("not within a minute: %s: %v", what, err)
		}
	}
}

// bind puts a pod on the node, as the scheduler does.
func (b *bed) bind(pod *corev1.Pod) {
	b.Helper()
	pod = pod.DeepCopy()
	pod.Spec.NodeName = "virtual-" + b.provider.Name()
	if _, err := b.client.CoreV1().Pods(namespace).Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (b *bed) pod(name string) *corev1.Pod {
	b.Helper()
	pod, err := b.client.CoreV1().Pods(namespace).Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return pod
}

// decide is what the webhook decides about a pod of a namespace whose pods always
// burst, from the Node object that the agent keeps.
func (b *bed) decide(pod *corev1.Pod) policy.Decision {
	b.Helper()
	nodes, err := b.client.CoreV1().Nodes().List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	objects := policy.Objects{Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{
		Name: namespace, Annotations: map[string]string{v1alpha1.ModeAnnotation: string(v1alpha1.ModeAlways)},
	}}}}
	for i := range nodes.Items {
		objects.Nodes = append(objects.Nodes, &nodes.Items[i])
	}
	snapshot, _ := policy.NewSnapshot(objects)
	return policy.Evaluate(snapshot, namespace, pod)
}

// waits tells whether a pod has said that it waits for an object.
func (b *bed) waits(pod string) bool {
	b.Helper()
	events, err := b.client.CoreV1().Events(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return slices.ContainsFunc(events.Items, func(e corev1.Event) bool {
		return e.InvolvedObject.Name == pod && (e.Reason == "FailedMount" || strings.HasPrefix(e.Reason, "Mandatory"))
	})
}
