package vnode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers"
)

const leaseNamespace = "autoburst-system"

// replica is one of several agents of the bed's node.
type replica struct {
	*Agent
	name string
	stop func() // as SIGTERM does; returns when the agent has ended

	mu     sync.Mutex
	cut    bool                 // the API server does not hear it
	writes map[string]time.Time // the last change of the cloud, by operation
}

// cloudOf is the cloud as one replica uses it: it asks for the permit as every
// provider does, and notes the replica's changes.
type cloudOf struct {
	*memoryCloud
	r *replica
}

func (c cloudOf) Create(ctx context.Context, spec *providers.GroupSpec) (string, error) {
	if err := providers.NotPermitted(ctx, "Create"); err != nil {
		return "", err
	}
	c.r.note("Create")
	return c.memoryCloud.Create(ctx, spec)
}

func (c cloudOf) Delete(ctx context.Context, id string) error {
	if err := providers.NotPermitted(ctx, "Delete"); err != nil {
		return err
	}
	c.r.note("Delete")
	return c.memoryCloud.Delete(ctx, id)
}

func (r *replica) note(op string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes[op] = time.Now()
}

func (r *replica) wrote(op string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.writes[op]
}

func (r *replica) setCut(cut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = cut
}

func (r *replica) leads() bool { return r.present.Load() != nil }

// elected makes the fake API server refuse updates of Leases that another has made
// meanwhile, as the real one does, and all from replicas that are cut off.
func (b *bed) elected() *sync.Map {
	replicas := &sync.Map{}
	// The tracker knows no versions: reads and writes of Leases go one at a time.
	b.client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		update, ok := a.(clienttesting.UpdateAction)
		if !ok || a.GetNamespace() != leaseNamespace {
			return false, nil, nil
		}
		lease, ok := update.GetObject().(*coordinationv1.Lease)
		if !ok {
			return false, nil, nil
		}
		if r, ok := replicas.Load(ptr.Deref(lease.Spec.HolderIdentity, "")); ok {
			if r, ok := r.(*replica); ok {
				r.mu.Lock()
				cut := r.cut
				r.mu.Unlock()
				if cut {
					return true, nil, apierrors.NewServiceUnavailable("cut off")
				}
			}
		}
		have, err := b.client.Tracker().Get(a.GetResource(), a.GetNamespace(), lease.Name)
		if err != nil {
			return true, nil, err
		}
		if have, ok := have.(*coordinationv1.Lease); ok && have.ResourceVersion != lease.ResourceVersion {
			return true, nil, apierrors.NewConflict(coordinationv1.Resource("leases"), lease.Name, errors.New("it has changed"))
		}
		return false, nil, nil
	})
	return replicas
}

func (b *bed) replica(replicas *sync.Map, name, ip string) *replica {
	b.Helper()
	r := &replica{name: name, writes: map[string]time.Time{}}
	cfg := b.cfg
	cfg.Node.InternalIP = ip
	cfg.Election = ElectionSettings{Namespace: leaseNamespace, Name: "agents", Identity: name}
	log := slog.New(slog.NewTextHandler(b.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("replica", name)
	agent, err := New(cfg, b.client, cloudOf{b.cloud, r}, clock.RealClock{}, log, NewMetrics(nil))
	if err != nil {
		b.Fatal(err)
	}
	r.Agent = agent
	replicas.Store(name, r)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- agent.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.Errorf("Run returned %v", err)
		}
	})
	b.Cleanup(r.stop)
	return r
}

func (b *bed) leader(r *replica) {
	b.Helper()
	b.eventually(r.name+" leads", func() error {
		if !r.leads() || !r.Ready() {
			return errors.New("it does not")
		}
		return nil
	})
}

func holder(b *bed) string {
	lease, err := b.client.CoordinationV1().Leases(leaseNamespace).Get(context.Background(), "agents", metav1.GetOptions{})
	if err != nil {
		return err.Error()
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// One agent leads, the other is ready to: it answers for its health, and refuses
// what only the leader can answer. Told to stop, the leader finishes what it has
// begun before the other takes over.
func TestPoliteHandOver(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.listStatus = true
		replicas := b.elected()
		first := b.replica(replicas, "first", "192.0.2.1")
		b.leader(first)
		b.create(testPod("old"))
		b.groups("g-uid-old")
		b.cloud.set("g-uid-old", running("app"))
		b.phase("old", corev1.PodRunning)

		second := b.replica(replicas, "second", "192.0.2.2")
		b.eventually("the other is ready", func() error {
			if !second.Ready() {
				return errors.New("not ready")
			}
			return nil
		})
		if second.leads() {
			t.Fatal("both lead")
		}
		for path, code := range map[string]int{"/healthz": 200, "/pods": 503, "/containerLogs/default/old/app": 503} {
			w := httptest.NewRecorder()
			second.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != code || code == 503 && (!strings.Contains(w.Body.String(), "the leader is first") || w.Header().Get("Retry-After") == "") {
				t.Errorf("GET %s of an agent that stands by: %d %v %q, want %d", path, w.Code, w.Header(), w.Body.String(), code)
			}
		}

		// A create is under way when the order to stop comes.
		b.cloud.hold = make(chan struct{})
		b.create(testPod("new"))
		b.eventually("the create is under way", func() error {
			if first.wrote("Create").IsZero() || len(b.cloud.ids()) != 1 {
				return errors.New("it is not")
			}
			return nil
		})
		b.settle(time.Second)
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			first.stop()
		}()
		before := b.pod("old").ResourceVersion
		b.settle(20 * time.Second)
		if !first.leads() || second.leads() || holder(b) != "first" {
			t.Errorf("while a create is under way, first leads %t, second %t, and the Lease is held by %q", first.leads(), second.leads(), holder(b))
		}
		begun := time.Now()
		close(b.cloud.hold)
		b.leader(second)
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("the other led %s after the last call, want at most 4 s", took)
		}
		<-stopped
		b.groups("g-uid-new", "g-uid-old")
		b.node("has the new leader's address", func(n *corev1.Node) error {
			if n.Status.Addresses[0].Address != "192.0.2.2" {
				return fmt.Errorf("addresses %v", n.Status.Addresses)
			}
			return nil
		})
		b.settle(time.Minute)
		if n := b.cloud.count("Create"); n != 2 {
			t.Errorf("%d creates for two pods", n)
		}
		if pod := b.pod("old"); pod.ResourceVersion != before || pod.Status.HostIP != "192.0.2.1" {
			t.Errorf("the pod that ran was written again, its host is %s", pod.Status.HostIP)
		}
	})
}

// A leader whose renewals fail changes nothing after its deadline, and another leads
// only after that. It stands for election again by itself.
func TestLostLease(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		b.cloud.listStatus = true
		replicas := b.elected()
		first := b.replica(replicas, "first", "192.0.2.1")
		b.leader(first)
		second := b.replica(replicas, "second", "192.0.2.2")
		b.settle(5 * time.Second)

		begun := time.Now()
		first.setCut(true)
		var ends, leads time.Time
		for i := range 300 {
			if i%2 == 0 {
				b.create(testPod(fmt.Sprintf("p-%d", i)))
			}
			b.settle(100 * time.Millisecond)
			if ends.IsZero() && !first.leads() {
				ends = time.Now()
			}
			if leads.IsZero() && second.leads() {
				leads = time.Now()
			}
			if first.leads() && second.leads() {
				t.Fatal("both lead")
			}
		}
		if ends.IsZero() || ends.Sub(begun) > 8*time.Second {
			t.Errorf("the leader ended %s after its last renewal could have been, want at most 8 s", ends.Sub(begun))
		}
		if leads.IsZero() || leads.Sub(begun) > 17*time.Second {
			t.Errorf("another led after %s, want at most 17 s", leads.Sub(begun))
		}
		if last := first.wrote("Create"); last.IsZero() || last.After(ends) {
			t.Errorf("the leader's last create was at %s, it ended at %s", last, ends)
		}
		b.eventually("all pods have a group", func() error {
			if n := len(b.cloud.ids()); n != 150 {
				return fmt.Errorf("%d groups", n)
			}
			return nil
		})
		if n := b.cloud.count("Create"); n != 150 {
			t.Errorf("%d creates for 150 pods", n)
		}

		first.setCut(false)
		b.settle(5 * time.Second)
		if first.leads() || !first.Ready() {
			t.Errorf("the old leader leads %t, ready %t; it should stand by", first.leads(), first.Ready())
		}
		second.stop()
		b.leader(first)
		b.remove("p-0")
		b.absent("p-0")
		if first.wrote("Delete").IsZero() {
			t.Error("the old leader leads again and does not work")
		}
	})
}

// A container that is started again in the leader's pod leads at once.
func TestRestartUnderTheSameName(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		b := newBed(t)
		lease := &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: "agents", Namespace: leaseNamespace},
			Spec: coordinationv1.LeaseSpec{
				HolderIdentity: ptr.To("first"), LeaseDurationSeconds: ptr.To[int32](10),
				RenewTime: ptr.To(metav1.NowMicro()), AcquireTime: ptr.To(metav1.NowMicro()),
			},
		}
		if _, err := b.client.CoordinationV1().Leases(leaseNamespace).Create(t.Context(), lease, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		replicas := b.elected()
		begun := time.Now()
		b.leader(b.replica(replicas, "first", "192.0.2.1"))
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it led after %s", took)
		}
	})
}

// lease is a Lease in memory.
type lease struct {
	resourcelock.Interface
	record resourcelock.LeaderElectionRecord
	err    error
}

func (l *lease) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r := l.record
	return &r, nil, l.err
}

func (l *lease) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	if l.err == nil {
		l.record = r
	}
	return l.err
}

func (l *lease) Identity() string { return "me" }
func (l *lease) Describe() string { return "ns/agents" }

// A process that stood still finds that it does not lead, whatever comes first: its
// own look, or a renewal that succeeds because nobody took the Lease meanwhile. It
// does not take the Lease from the next leader when it gives up its own.
func TestHold(t *testing.T) {
	mine := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}
	settings := ElectionSettings{}.withDefaults()
	begin := func(t *testing.T) (*lease, *hold) {
		t.Helper()
		l := &lease{}
		h := &hold{Interface: l, clock: clock.RealClock{}, settings: settings}
		if left := h.left(); left > 0 {
			t.Errorf("it leads for %s before it has the Lease", left)
		}
		if err := h.Update(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		if left := h.left(); left != settings.RenewDeadline {
			t.Errorf("it leads for %s after a renewal, want %s", left, settings.RenewDeadline)
		}
		return l, h
	}
	pause := func(d time.Duration) { <-time.After(d) } // the bubble's clock moves at once

	bubble(t, "renewed in time", func(t *testing.T) {
		_, h := begin(t)
		for range 10 {
			pause(settings.RenewDeadline - time.Millisecond)
			if h.left() <= 0 || h.Update(t.Context(), mine) != nil {
				t.Fatal("it does not lead any more")
			}
		}
	})
	bubble(t, "renewals that fail do not count", func(t *testing.T) {
		l, h := begin(t)
		l.err = errors.New("no answer")
		pause(settings.RenewDeadline / 2)
		if err := h.Update(t.Context(), mine); err == nil {
			t.Fatal("no error")
		}
		pause(settings.RenewDeadline / 2)
		if h.left() > 0 {
			t.Error("it leads")
		}
	})
	bubble(t, "a late renewal is too late", func(t *testing.T) {
		_, h := begin(t)
		pause(settings.RenewDeadline)
		if err := h.Update(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		if h.left() > 0 {
			t.Error("it leads")
		}
	})
	bubble(t, "a late look ends it", func(t *testing.T) {
		_, h := begin(t)
		pause(settings.RenewDeadline)
		if h.left() > 0 {
			t.Error("it leads")
		}
	})
	bubble(t, "it gives up its own Lease", func(t *testing.T) {
		l, h := begin(t)
		if err := h.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err != nil || l.record.HolderIdentity != "" {
			t.Errorf("error %v, holder %q", err, l.record.HolderIdentity)
		}
	})
	bubble(t, "it does not give up another's", func(t *testing.T) {
		l, h := begin(t)
		l.record.HolderIdentity = "other"
		if _, _, err := h.Get(t.Context()); err != nil { // as the library does first
			t.Fatal(err)
		}
		if err := h.Update(t.Context(), resourcelock.LeaderElectionRecord{}); err == nil || !strings.Contains(err.Error(), "other holds it") {
			t.Errorf("error %v", err)
		}
		if l.record.HolderIdentity != "other" {
			t.Errorf("the Lease is held by %q", l.record.HolderIdentity)
		}
	})
}

func TestPermitTransport(t *testing.T) {
	denied := providers.WithPermit(t.Context(), func() error { return errNotLeading })
	for name, test := range map[string]struct {
		ctx    context.Context
		method string
		sent   bool
	}{
		"read":                 {denied, http.MethodGet, true},
		"write":                {denied, http.MethodPatch, false},
		"removal":              {denied, http.MethodDelete, false},
		"write of the leader":  {providers.WithPermit(t.Context(), func() error { return nil }), http.MethodPut, true},
		"write without permit": {t.Context(), http.MethodPost, true},
	} {
		t.Run(name, func(t *testing.T) {
			sent := false
			transport := PermitTransport(roundTripper(func(*http.Request) (*http.Response, error) {
				sent = true
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}))
			body := &closing{Reader: strings.NewReader("{}")}
			req, err := http.NewRequestWithContext(test.ctx, test.method, "https://192.0.2.1/", body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := transport.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			if sent != test.sent || (err == nil) != test.sent || !test.sent && (!errors.Is(err, errNotLeading) || !body.closed) {
				t.Errorf("sent %t, error %v, body closed %t, want sent %t", sent, err, body.closed, test.sent)
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error {
	c.closed = true
	return nil
}

func TestElectionSettingsAreChecked(t *testing.T) {
	good := ElectionSettings{Namespace: "ns", Name: "agents", Identity: "me"}
	for name, test := range map[string]struct {
		edit func(*ElectionSettings)
		want string
	}{
		"good":                   {func(*ElectionSettings) {}, ""},
		"none":                   {func(s *ElectionSettings) { *s = ElectionSettings{} }, ""},
		"no namespace":           {func(s *ElectionSettings) { s.Namespace = "" }, "namespace of the Lease"},
		"bad name":               {func(s *ElectionSettings) { s.Name = "A_b" }, "name of the Lease"},
		"no identity":            {func(s *ElectionSettings) { s.Identity = "" }, "identity"},
		"parts of a second":      {func(s *ElectionSettings) { s.LeaseDuration = 10500 * time.Millisecond }, "whole seconds"},
		"deadline too long":      {func(s *ElectionSettings) { s.RenewDeadline = 10 * time.Second }, "longer than the renew deadline"},
		"retry period too long":  {func(s *ElectionSettings) { s.RetryPeriod = 6 * time.Second }, "retry period"},
		"retry period below nil": {func(s *ElectionSettings) { s.RetryPeriod = -1 }, "retry period"},
	} {
		t.Run(name, func(t *testing.T) {
			s := good
			test.edit(&s)
			err := s.withDefaults().validate()
			if (test.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// A pod's host stays the one that it started on.
func TestHostStays(t *testing.T) {
	pod := testPod("web")
	s := running("app")
	pod.Status = runningStatus(pod, &s, place{hostIP: "192.0.2.1"}, time.Now(), time.Now())
	again := runningStatus(pod, &s, place{hostIP: "192.0.2.2"}, time.Now(), time.Now())
	if again.HostIP != "192.0.2.1" || len(again.HostIPs) != 1 || again.HostIPs[0].IP != "192.0.2.1" {
		t.Errorf("host %s %v", again.HostIP, again.HostIPs)
	}
}
