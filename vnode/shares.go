package vnode

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/autoburst/autoburst/providers/quota"
)

const (
	// quotaLeasePrefix comes before the node's name in the name of the Lease by
	// which an agent tells others what it wants of the account's quota.
	quotaLeasePrefix = "autoburst-quota-"
	// quotaAccountLabel tells the accounts of such Leases apart.
	quotaAccountLabel = "autoburst.io/quota-account"
	// quotaClaimsAnnotation holds the claims.
	quotaClaimsAnnotation = "autoburst.io/quota-claims"

	// shareEvery is the time between two words to the others, shareSoon that while
	// others hold what this agent should have.
	shareEvery = 10 * time.Second
	shareSoon  = 2 * time.Second
	// shareStale is for how long the word of an agent holds that says nothing
	// more. One that was written longer ago than shareGone by its own time is not
	// waited for.
	shareStale = 30 * time.Second
	shareGone  = 5 * time.Minute
	// shareTimeout bounds the calls of one round, shareFarewell the last word.
	shareTimeout  = 8 * time.Second
	shareFarewell = 2 * time.Second
)

// sharer divides the quotas of a cloud account among the agents that use it. Each
// says in a Lease of its own what it wants and what it uses. What an agent uses
// never grows beyond what the others' words leave; see [quota.Settle].
type sharer struct {
	account *quota.Account
	leases  coordinationclient.LeaseInterface
	node    string
	hash    string
	clock   clock.WithTicker
	log     *slog.Logger
	demand  func() // has the account told what waits

	heard  map[string]word // by the Lease's name
	last   time.Time       // of the last round that succeeded
	others int             // in it
	known  bool            // that what the agent before this one used was asked for
	warned bool
}

// word is the last word of another agent, and when it was new.
type word struct {
	renewed metav1.MicroTime
	at      time.Time
}

func newSharer(account *quota.Account, leases coordinationclient.LeaseInterface, cfg Config, clk clock.WithTicker, log *slog.Logger, demand func()) *sharer {
	// The account's name is not to be read from the hash.
	sum := sha256.Sum256([]byte("autoburst quota\x00" + cfg.ClusterUID + "\x00" + account.Key()))
	return &sharer{
		account: account, leases: leases, node: cfg.Node.Name, hash: hex.EncodeToString(sum[:8]),
		clock: clk, log: log, demand: demand, heard: map[string]word{},
	}
}

// run takes part until ctx ends, and then leaves its share to the others, unless
// lead has ended: then another replica speaks for the node.
func (s *sharer) run(ctx, lead context.Context) {
	for {
		wait := shareEvery
		switch content, err := s.round(ctx); {
		case ctx.Err() != nil:
		case err != nil:
			wait = shareSoon
			s.lost(err)
		default:
			s.warned = false
			if !content {
				wait = shareSoon
			}
		}
		timer := s.clock.NewTimer(wait)
		select {
		case <-timer.C():
			continue
		case <-ctx.Done():
		}
		timer.Stop()
		if lead.Err() != nil {
			return
		}
		farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), shareFarewell)
		defer cancel()
		if mine, _, _, err := s.list(farewell); err == nil {
			if err := s.publish(farewell, mine, s.account.Demand().Farewell()); err != nil {
				s.log.Debug("the share of the account's quota was not given back", "error", err)
			}
		}
		return
	}
}

// lost makes do with little when others may believe that this agent is gone. One
// that may not speak to them at all takes the whole, as without a namespace.
func (s *sharer) lost(err error) {
	if apierrors.IsForbidden(err) {
		if !s.warned {
			s.log.Warn("this agent may not find others with its cloud account, and uses the account's request quota as if it were alone; give it the rights on Leases that the chart gives", "error", err)
		}
		s.warned = true
		s.account.Whole()
		return
	}
	if !s.warned {
		s.warned = true
		s.log.Warn("the account's request quota cannot be shared out with other agents; the last division holds", "error", err)
	}
	if s.others > 0 && s.clock.Since(s.last) > shareStale-shareEvery {
		s.account.Newcomer()
	}
}

// round says what this agent wants, and takes what the others leave. It tells
// whether that is all that it should have.
func (s *sharer) round(ctx context.Context) (content bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, shareTimeout)
	defer cancel()
	mine, others, before, err := s.list(ctx)
	if err != nil {
		return false, err
	}
	first := !s.known
	if first && before != nil && mine.Spec.RenewTime != nil {
		s.account.Remember(before, mine.Spec.RenewTime.Time)
	}
	s.known = true
	nobody := first && mine == nil && len(s.heard) == 0
	s.demand()
	now := s.account.Demand()
	intended := quota.Intend(now, others)
	// What becomes less is given up before it is offered.
	less := quota.Claims{}
	for op, c := range intended {
		if c.Share < now[op].Share {
			less[op] = c
		}
	}
	s.account.Divide(less, others)
	if err := s.publish(ctx, mine, intended); err != nil {
		return false, err
	}
	if _, others, _, err = s.list(ctx); err != nil {
		return false, err
	}
	settled := quota.Settle(intended, others)
	s.account.Divide(settled, others)
	switch {
	case nobody && len(s.heard) == 0:
		s.account.Fresh()
	case first && before != nil && mine.Spec.RenewTime != nil:
		s.account.Inherit(before, mine.Spec.RenewTime.Time, len(others) == 0)
	}
	s.last, s.others = s.clock.Now(), len(others)
	content = true
	for op, c := range intended {
		content = content && settled[op].Share > c.Share-0.01
	}
	return content, nil
}

// list returns this agent's Lease and what it said, if there is one, and the
// claims of the others that live.
func (s *sharer) list(ctx context.Context) (mine *coordinationv1.Lease, others []quota.Claims, said quota.Claims, err error) {
	list, err := s.leases.List(ctx, metav1.ListOptions{LabelSelector: quotaAccountLabel + "=" + s.hash})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("listing the Leases of agents with the same account: %w", err)
	}
	now := s.clock.Now()
	for i := range list.Items {
		lease := &list.Items[i]
		var claims quota.Claims
		if err := json.Unmarshal([]byte(lease.Annotations[quotaClaimsAnnotation]), &claims); err != nil {
			claims = nil // of another version, or written by somebody else
		}
		if lease.Name == quotaLeasePrefix+s.node {
			mine, said = lease, claims
			continue
		}
		renewed := ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{})
		w, known := s.heard[lease.Name]
		if !known || !w.renewed.Equal(&renewed) {
			w = word{renewed, now}
			s.heard[lease.Name] = w
		}
		if !claims.Gone() && now.Sub(w.at) < shareStale && now.Sub(renewed.Time) < shareGone {
			others = append(others, claims)
		}
	}
	return mine, others, said, nil
}

// publish writes this agent's Lease.
func (s *sharer) publish(ctx context.Context, mine *coordinationv1.Lease, claims quota.Claims) error {
	text, err := json.Marshal(claims)
	if err != nil {
		return fmt.Errorf("encoding the claims: %w", err)
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: quotaLeasePrefix + s.node}}
	if mine != nil {
		lease = mine.DeepCopy()
	}
	lease.Labels = map[string]string{quotaAccountLabel: s.hash}
	lease.Annotations = map[string]string{quotaClaimsAnnotation: string(text)}
	lease.Spec.HolderIdentity = ptr.To(s.node)
	lease.Spec.LeaseDurationSeconds = ptr.To(int32(shareStale.Seconds()))
	lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(s.clock.Now()))
	if mine != nil {
		_, err = s.leases.Update(ctx, lease, metav1.UpdateOptions{})
	} else {
		_, err = s.leases.Create(ctx, lease, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			// It is of another account: the node's settings were changed.
			lease, err = s.leases.Get(ctx, lease.Name, metav1.GetOptions{})
			if err == nil {
				return s.publish(ctx, lease, claims)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("writing Lease %s: %w", lease.Name, err)
	}
	return nil
}
