package vnode

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers/quota"
)

// town is where agents find each other, with an API server that can be down, and
// agents that can be dead, so that they write nothing any more.
type town struct {
	client *fake.Clientset
	down   atomic.Bool
	closed atomic.Bool // RBAC lets nobody in
	dead   sync.Map
}

func newTown() *town {
	w := &town{client: crowdClient()}
	w.client.PrependReactor("*", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
		if w.down.Load() {
			return true, nil, errors.New("connection refused")
		}
		if w.closed.Load() {
			return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: coordinationv1.GroupName, Resource: "leases"}, "", errors.New("no rights"))
		}
		if u, ok := a.(clienttesting.UpdateAction); ok {
			if m, ok := u.GetObject().(metav1.Object); ok {
				if _, dead := w.dead.Load(m.GetName()); dead {
					return true, nil, errors.New("the process is dead")
				}
			}
		}
		return false, nil, nil
	})
	return w
}

// party is one agent's part in sharing an account.
type party struct {
	account *quota.Account
	stop    func() // gracefully
	kill    func() // so that no last word is said
}

const secretKey = "LTAI-account-key"

func (w *town) agent(t *testing.T, node string) *party {
	t.Helper()
	account, err := quota.New(quota.Plan{Key: secretKey, Quotas: []quota.Quota{perSecond(createOp, 100, 20)}, Create: createOp, Delete: deleteOp},
		quota.Settings{}, clock.RealClock{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	account.Newcomer()
	cfg := newBedConfig()
	cfg.Node.Name = node
	leases := w.client.CoordinationV1().Leases("autoburst-system")
	s := newSharer(account, leases, cfg, clock.RealClock{}, slog.New(slog.DiscardHandler), func() {})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, t.Context())
	}()
	p := &party{account: account}
	p.stop = func() {
		cancel()
		<-done
	}
	p.kill = func() {
		w.dead.Store(quotaLeasePrefix+node, true)
		p.stop()
	}
	t.Cleanup(p.stop)
	return p
}

func (p *party) share() float64 { return p.account.States()[0].Share }

func wantShares(t *testing.T, when string, a, b *party, low, high float64) {
	t.Helper()
	x, y := a.share(), b.share()
	if x < low || x > high {
		t.Errorf("%s: share %.3f, want %.2f to %.2f", when, x, low, high)
	}
	if x+y > 1+1e-9 {
		t.Errorf("%s: shares %.3f and %.3f together are more than the account has", when, x, y)
	}
}

func TestAgentsShareAnAccount(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newTown()
		a := w.agent(t, "virtual-a")
		synctest.Wait()
		if got := a.share(); got != 1 {
			t.Errorf("alone, the agent has %.3f of the account, want all", got)
		}
		a.account.Backlog(createOp, 1000)
		b := w.agent(t, "virtual-b")
		synctest.Wait()
		if got := b.share(); got > 0.05 {
			t.Errorf("a newcomer took %.3f before the other gave it up", got)
		}
		<-time.After(25 * time.Second)
		wantShares(t, "only the first wants anything", a, b, 0.9, 0.95)
		b.account.Backlog(createOp, 1000)
		<-time.After(25 * time.Second)
		wantShares(t, "both want as much", a, b, 0.45, 0.55)
		a.account.Backlog(createOp, 0)
		<-time.After(25 * time.Second)
		wantShares(t, "the first is idle", a, b, 0.049, 0.1)
		if got := b.share(); got < 0.85 {
			t.Errorf("while the first is idle, the second has %.3f, want nearly all", got)
		}

		leases, err := w.client.CoordinationV1().Leases("autoburst-system").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(leases.Items) != 2 {
			t.Fatalf("%d Leases: %v", len(leases.Items), err)
		}
		for _, l := range leases.Items {
			if text := l.String(); strings.Contains(text, secretKey) {
				t.Errorf("the Lease shows the account's key: %s", text)
			}
		}

		b.stop()
		<-time.After(11 * time.Second)
		if got := a.share(); got < 0.93 {
			t.Errorf("after the second has ended, the first has %.3f", got)
		}
	})
}

// The share of an agent that was killed is free when it has said nothing for a
// while, and not before.
func TestShareOfAKilledAgent(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newTown()
		a, b := w.agent(t, "virtual-a"), w.agent(t, "virtual-b")
		<-time.After(30 * time.Second)
		wantShares(t, "both idle", a, b, 0.45, 0.55)
		b.kill()
		<-time.After(15 * time.Second)
		wantShares(t, "the other may live", a, b, 0.45, 0.55)
		<-time.After(30 * time.Second)
		if got := a.share(); got != 1 {
			t.Errorf("half a minute after the other was killed the agent has %.3f, want all", got)
		}
	})
}

// Without the API server an agent that knows of others makes do with little, as
// they may believe that it is gone; one that was alone goes on.
func TestSharesWithoutAPIServer(t *testing.T) {
	for name, others := range map[string]bool{"with others": true, "alone": false} {
		bubble(t, name, func(t *testing.T) {
			w := newTown()
			a := w.agent(t, "virtual-a")
			if others {
				w.agent(t, "virtual-b")
			}
			<-time.After(30 * time.Second)
			w.down.Store(true)
			<-time.After(5 * time.Second)
			before := a.share()
			<-time.After(30 * time.Second)
			got := a.share()
			switch {
			case others && (before < 0.45 || got > 0.05):
				t.Errorf("share %.3f at first and %.3f after a while, want half and then little", before, got)
			case !others && got != 1:
				t.Errorf("share %.3f, want all: nobody else is there", got)
			}
		})
	}
}

// An agent without the rights to find others works as if it were alone.
func TestSharesWithoutRights(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		w := newTown()
		w.closed.Store(true)
		a := w.agent(t, "virtual-a")
		<-time.After(time.Second)
		if got := a.share(); got != 1 {
			t.Errorf("share %.3f, want all", got)
		}
	})
}
