package controller

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy"
	"github.com/autoburst/autoburst/policy/limits"
	"github.com/autoburst/autoburst/policy/v1alpha1"
)

const releaseNamespace = "autoburst-system"

var webAccount = policy.Account{Policy: policy.Ref{Kind: policy.KindPolicy, Namespace: "shop", Name: "web"}}

// limitOptions are those of a replica on a fake API server that knows the
// ledger; pods are those of the fixture.
func (f *fixture) limitOptions(clients kubernetes.Interface, replica string) *LimitOptions {
	return &LimitOptions{
		ConfigMaps: clients.CoreV1().ConfigMaps(releaseNamespace), Leases: clients.CoordinationV1().Leases(releaseNamespace),
		Heartbeats: informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace(releaseNamespace)).Coordination().V1().Leases().Informer(),
		Ledger:     "autoburst-ledger", Live: f.client, Replica: replica,
	}
}

// apiServer is a fake one that refuses the update of an older version of a
// ConfigMap, as the real one does.
func apiServer(objects ...runtime.Object) *fake.Clientset {
	clients := fake.NewClientset(objects...)
	var mu sync.Mutex
	version := 0
	react := func(check bool) clienttesting.ReactionFunc {
		return func(action clienttesting.Action) (bool, runtime.Object, error) {
			mu.Lock()
			defer mu.Unlock()
			m, ok := action.(clienttesting.CreateAction).GetObject().(*corev1.ConfigMap)
			if !ok {
				return false, nil, nil
			}
			if check && m.ResourceVersion != strconv.Itoa(version) {
				return true, nil, apierrors.NewConflict(corev1.Resource("configmaps"), m.Name, errors.New("it has changed"))
			}
			version++
			m.ResourceVersion = strconv.Itoa(version)
			return false, nil, nil
		}
	}
	clients.PrependReactor("create", "configmaps", react(false))
	clients.PrependReactor("update", "configmaps", react(true))
	return clients
}

// keep runs the keeper of a replica, on the real clock, until it counts.
func (f *fixture) keep(clients kubernetes.Interface, replica string) (*keeper, <-chan error) {
	f.t.Helper()
	k := newKeeper(Options{View: f.view, Clock: clock.RealClock{}, Limits: f.limitOptions(clients, replica)}, f.granter.waiting, f.granter.metrics)
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Start(ctx) }()
	f.t.Cleanup(cancel)
	eventually(f.t, "the limits are in force", func() bool {
		_, counted := k.usage()[webAccount]
		return counted
	})
	return k, ended
}

func (f *fixture) setLimit(pods int32) {
	f.setPolicies(burstPolicy("web", func(s *v1alpha1.BurstPolicySpec) { s.Limits = &v1alpha1.Limits{Pods: &pods} }))
}

func persisted(t *testing.T, clients kubernetes.Interface) limits.State {
	t.Helper()
	m, err := clients.CoreV1().ConfigMaps(releaseNamespace).Get(t.Context(), "autoburst-ledger", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := limits.ReadState(m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A reservation is persisted before it is given, over the limit there is none,
// and a replica that was overtaken gives none any more.
func TestReserve(t *testing.T) {
	f := newFixture(t)
	f.setLimit(2)
	clients := apiServer()
	k, ended := f.keep(clients, "one")
	charge := []policy.Charge{{Account: webAccount, Amount: policy.Amount{Pods: 1}}}
	reserve := func(k *keeper, name string) answer {
		t.Helper()
		var got answer
		eventually(t, "the new limit has settled", func() bool {
			o, err := k.reserve(t.Context(), unschedulable(name), charge)
			if err != nil {
				t.Fatal(err)
			}
			got = o
			return o.refused == nil || !o.refused.Queued
		})
		return got
	}
	for _, name := range []string{"a", "b"} {
		if o := reserve(k, name); o.refused != nil {
			t.Fatalf("%s is refused: %+v", name, o.refused)
		}
		if _, ok := persisted(t, clients).Reservations[types.UID("uid-"+name)]; !ok {
			t.Errorf("the reservation of %s was given before it was persisted", name)
		}
	}
	want := &limits.Refusal{Account: webAccount, Used: policy.Amount{Pods: 2}, Limits: policy.Limits{Pods: 2, MilliCPU: policy.Unlimited, Memory: policy.Unlimited}}
	if diff := cmp.Diff(want, reserve(k, "c").refused); diff != "" {
		t.Errorf("over the limit (-want +got):\n%s", diff)
	}

	other, _ := f.keep(clients, "two")
	if got := other.usage()[webAccount].Pods; got != 2 {
		t.Errorf("a new leader counts %d pods, want the 2 that the one before had reserved", got)
	}
	var err error
	k.failed("uid-a")
	k.withdraw("uid-a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := k.reserve(ctx, unschedulable("c"), charge); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the overtaken leader gives a reservation (%v)", err)
	}
	select {
	case err = <-ended:
	case <-t.Context().Done():
	}
	if !errors.Is(err, errFenced) {
		t.Errorf("the overtaken leader ends with %v, want %v", err, errFenced)
	}
}

// While the ledger cannot be written it is tried again, with pauses, and a grant waits
// for it.
func TestLedgerCannotBeWritten(t *testing.T) {
	f := newFixture(t)
	f.setLimit(1)
	clients := apiServer()
	var refuses atomic.Bool
	var tries atomic.Int32
	clients.PrependReactor("update", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		if !refuses.Load() {
			return false, nil, nil
		}
		tries.Add(1)
		return true, nil, apierrors.NewForbidden(corev1.Resource("configmaps"), "autoburst-ledger", errors.New("taken away"))
	})
	k, _ := f.keep(clients, "one")
	refuses.Store(true)
	charge := []policy.Charge{{Account: webAccount, Amount: policy.Amount{Pods: 1}}}
	eventually(t, "the limit has settled", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		o, err := k.reserve(ctx, unschedulable("a"), charge)
		if err == nil && o.refused == nil {
			t.Fatal("a grant was given that is not persisted")
		}
		return tries.Load() > 0
	})
	// In a little more than a second there are three tries; without pauses, hundreds.
	if n := tries.Load(); n > 10 {
		t.Errorf("the ledger was tried %d times in a second", n)
	}
	refuses.Store(false)
	eventually(t, "the ledger is written again", func() bool {
		o, err := k.reserve(t.Context(), unschedulable("a"), charge)
		if err != nil {
			t.Fatal(err)
		}
		return o.refused == nil
	})
}

// Without a limit nothing is ever written.
func TestNoLimitNoLedger(t *testing.T) {
	f := newFixture(t)
	clients := apiServer()
	k := newKeeper(Options{View: f.view, Clock: clock.RealClock{}, Limits: f.limitOptions(clients, "one")}, f.granter.waiting, f.granter.metrics)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Start(ctx) }()
	eventually(t, "the keeper listens", func() bool {
		f.view.mu.Lock()
		defer f.view.mu.Unlock()
		return f.view.listener != nil
	})
	k.inbox.RulesChanged()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if a := clients.Actions(); len(a) > 0 {
		t.Errorf("the API server was asked for %v", a)
	}
}

// A ledger that is lost while replicas hold shares of it lets nothing pass until
// nothing can come of those.
func TestLedgerIsLost(t *testing.T) {
	f := newFixture(t)
	f.setLimit(2)
	clients := apiServer(heartbeatOf("gone", "1"))
	k, _ := f.keep(clients, "one")
	k.mu.Lock()
	_, refused := k.ledger.Reserve("uid", limits.Rank{}, []policy.Charge{{Account: webAccount, Amount: policy.Amount{Pods: 1}}}, k.clock.Now().Add(limits.InFlight))
	k.mu.Unlock()
	if refused == nil {
		t.Error("a grant passes while pods of lost shares may be on their way")
	}
}

// What is decided for a pod under a limit before, at and without a ledger.
func TestGrantUnderLimit(t *testing.T) {
	f := newFixture(t)
	f.setLimit(1)
	f.submit(unschedulable("early"))
	f.work()
	if got := f.pod("shop", "early").Annotations[v1alpha1.GrantAnnotation]; got != "" {
		t.Fatalf("granted %q before any limit is counted", got)
	}
	k, _ := f.keep(apiServer(), "one")
	f.granter.limits = k
	grantOf := func(name string) string { return f.pod("shop", name).Annotations[v1alpha1.GrantAnnotation] }
	eventually(t, "the first pod is granted", func() bool {
		f.granter.waiting.again()
		f.work()
		return grantOf("early") == policy.GrantLate
	})
	f.submit(unschedulable("over"))
	f.work()
	if got := grantOf("over"); got != "" {
		t.Errorf("granted %q over the limit", got)
	}
	const note = "over Normal WaitsToBurst: A limit leaves no room for the pod, so it stays a candidate for local nodes and waits for room." +
		" It is pods 1 of BurstPolicy shop/web, of which 1 are taken; the pod is granted in its turn when others end, or raise the limit. Decided by BurstPolicy/web."
	if diff := cmp.Diff(note, f.events.note("over")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
}

func TestStanding(t *testing.T) {
	p := policy.Compile(burstPolicy("web", func(s *v1alpha1.BurstPolicySpec) {
		s.Limits = &v1alpha1.Limits{Pods: new(int32(10)), CPU: quantity("4")}
		s.Targets = []v1alpha1.Target{{Name: "eci", Limits: &v1alpha1.Limits{Memory: quantity("8Gi")}}}
	}))
	target := policy.Account{Policy: webAccount.Policy, Target: "eci"}
	for name, c := range map[string]struct {
		usage map[policy.Account]policy.Amount
		want  string
	}{
		"room": {map[policy.Account]policy.Amount{webAccount: {Pods: 9, MilliCPU: 3999}, target: {Memory: 1 << 30}}, "Every limit leaves room."},
		"at":   {map[policy.Account]policy.Amount{webAccount: {Pods: 10, MilliCPU: 100}}, "spec.limits.pods: all of 10 is taken. "},
		"over": {map[policy.Account]policy.Amount{webAccount: {MilliCPU: 4500}, target: {Memory: 9 << 30}},
			"spec.limits.cpu: 4500m is taken, 500m more than the limit of 4. spec.targets[0].limits.memory: 9Gi is taken, 1Gi more than the limit of 8Gi. "},
	} {
		t.Run(name, func(t *testing.T) {
			s := standingOf(p, c.usage)
			if !s.limited || !s.counted || s.within != (name == "room") {
				t.Errorf("%+v", s)
			}
			if got := s.message[:min(len(s.message), len(c.want))]; got != c.want {
				t.Errorf("says %q, want it to begin with %q", s.message, c.want)
			}
		})
	}
}

func quantity(s string) *resource.Quantity {
	q := resource.MustParse(s)
	return &q
}

func heartbeatOf(replica, open string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
		Namespace: releaseNamespace, Name: limits.HeartbeatPrefix + replica,
		Labels: map[string]string{limits.HeartbeatLabel: "true"}, Annotations: map[string]string{limits.OpenAnnotation: open},
	}}
}
