package chaos

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/autoburst/autoburst/test/cloud/aci"
	"github.com/autoburst/autoburst/test/cloud/eci"
	"github.com/autoburst/autoburst/test/cloud/sim"
	"github.com/autoburst/autoburst/test/cluster"
	"github.com/autoburst/autoburst/test/playground"
)

// cloud is an emulated cloud as a plan disturbs it.
type cloud interface {
	// hook is called on the way of creates, until remove.
	hook(sim.Hook) (remove func())
	// inject makes calls go wrong as a step says.
	inject(Step)
	// forget makes lists lack every group until lift, and single reads fail unless
	// the mode is honestReads.
	forget(mode string)
	// outage makes every call fail until lift.
	outage(mode string)
	// shortage keeps pods from starting, or no longer.
	shortage(mode string, on bool)
	// rotate makes another secret the account's only one, and returns the Secret
	// of the agents with it.
	rotate(generation int) (secret string, data map[string]string)
	// lift ends every fault.
	lift()
	fleet() *sim.Fleet
}

// garbage is what a proxy that breaks answers lets through: the start of an
// answer. Its status is that of a success.
const garbage = `{"RequestId":"F0A8","value":[{"id":"/subscriptions/`

type eciFaults struct{ *playground.ECICloud }

func (c eciFaults) fleet() *sim.Fleet { return c.Fleet() }

func (c eciFaults) hook(h sim.Hook) func() { h.Action, _ = eciMatch(CreateCall); return c.Hook(h) }

// eciMatch tells the calls of the one action that lists and reads apart. A question
// for the groups of one pod, which has a tag more than a list, is a read.
func eciMatch(call Call) (action string, match func(url.Values) bool) {
	single := func(m url.Values) bool { return m.Get("ContainerGroupIds") != "" || m.Get("Tag.3.Key") != "" }
	switch call {
	case CreateCall:
		return "CreateContainerGroup", nil
	case DeleteCall:
		return "DeleteContainerGroup", nil
	case GetCall:
		return "DescribeContainerGroups", single
	case ListCall:
		return "", func(m url.Values) bool {
			switch m.Get("Action") {
			case "DescribeContainerGroups":
				return !single(m)
			case "DescribeContainerGroupStatus":
				return true
			}
			return false
		}
	}
	return "", nil
}

func (c eciFaults) inject(s Step) {
	f := eci.Fault{Calls: s.Calls}
	f.Action, f.Match = eciMatch(s.Call)
	switch s.Do {
	case Throttle:
		f.Status, f.Code = http.StatusBadRequest, "Throttling.User"
	case Error:
		f.Status, f.Code = http.StatusServiceUnavailable, "ServiceUnavailable"
	case CutFirst:
		f.Cut = true
	case CutAfter:
		f.Cut, f.AfterEffect = true, true
	case SlowCall:
		f.Delay = s.For
	case Slow:
		f.Delay, f.AfterEffect = s.For, true
	case Partial:
		f.Status, f.Code = http.StatusInternalServerError, "InternalError"
		f.Match = func(m url.Values) bool { return m.Get("NextToken") != "" }
	case Garbled:
		f.Action, f.Match = eciMatch(ListCall)
		f.Status, f.RawBody = http.StatusOK, garbage
	}
	c.Inject(f)
}

func (c eciFaults) forget(mode string) {
	if mode != honestReads {
		f := eci.Fault{Calls: -1, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"}
		f.Action, f.Match = eciMatch(GetCall)
		c.Inject(f)
	}
	f := eci.Fault{Calls: -1, Status: http.StatusOK, RawBody: `{"RequestId":"F0A8","TotalCount":0,"ContainerGroups":[],"Data":[]}`}
	f.Action, f.Match = eciMatch(ListCall)
	c.Inject(f)
}

func (c eciFaults) outage(mode string) {
	if mode == ofLists {
		f := eci.Fault{Calls: -1, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"}
		f.Action, f.Match = eciMatch(ListCall)
		c.Inject(f)
		return
	}
	if mode == "cut" {
		c.Inject(eci.Fault{Calls: -1, Cut: true})
		return
	}
	c.Inject(eci.Fault{Calls: -1, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable"})
}

func (c eciFaults) shortage(mode string, on bool) {
	switch {
	case !on:
		c.SetShortages()
		c.ClearFaults()
	case mode == "quota":
		c.Inject(eci.Fault{Action: "CreateContainerGroup", Calls: -1, Status: http.StatusForbidden, Code: "QuotaExceeded"})
	default:
		c.SetShortages(eci.Shortage{})
	}
}

func (c eciFaults) rotate(generation int) (string, map[string]string) {
	secret := fmt.Sprintf("%s-%d", playground.ECISecretKey, generation)
	c.SetAccessKeys(eci.AccessKey{ID: playground.ECIAccessKey, Secret: secret})
	return "eci-credentials", map[string]string{"ECI_ACCESS_KEY": playground.ECIAccessKey, "ECI_SECRET_KEY": secret}
}

func (c eciFaults) lift() {
	c.ClearFaults()
	c.SetShortages()
}

type aciFaults struct{ *playground.ACICloud }

func (c aciFaults) fleet() *sim.Fleet { return c.Fleet() }

func (c aciFaults) hook(h sim.Hook) func() { h.Action = aciOperations[CreateCall]; return c.Hook(h) }

var aciOperations = map[Call]string{
	CreateCall: "ContainerGroups_CreateOrUpdate", DeleteCall: "ContainerGroups_Delete",
	ListCall: "ContainerGroups_ListByResourceGroup", GetCall: "ContainerGroups_Get",
}

func (c aciFaults) inject(s Step) {
	f := aci.Fault{Operation: aciOperations[s.Call], Calls: s.Calls}
	switch s.Do {
	case Throttle:
		f.Status, f.Code = http.StatusTooManyRequests, "TooManyRequests"
		if s.Mode != "" {
			f.RetryAfter = time.Second
		}
	case Error:
		f.Status = http.StatusServiceUnavailable
	case CutFirst:
		f.Cut = true
	case CutAfter:
		f.Cut, f.AfterEffect = true, true
	case SlowCall:
		f.Delay = s.For
	case Slow:
		f.Delay, f.AfterEffect = s.For, true
	case Partial:
		// Every other page: the first of a list is answered, the second is not. The
		// order of faults is that of the calls.
		f.Operation = aciOperations[ListCall]
		for range s.Calls {
			c.Inject(aci.Fault{Operation: f.Operation, Delay: time.Millisecond})
			c.Inject(aci.Fault{Operation: f.Operation, Status: http.StatusInternalServerError})
		}
		return
	case Garbled:
		f.Operation, f.Status, f.RawBody = aciOperations[ListCall], http.StatusOK, garbage
	}
	c.Inject(f)
}

func (c aciFaults) forget(mode string) {
	if mode != honestReads {
		c.Inject(aci.Fault{Operation: aciOperations[GetCall], Calls: -1, Status: http.StatusServiceUnavailable})
	}
	c.Inject(aci.Fault{Operation: aciOperations[ListCall], Calls: -1, Status: http.StatusOK, RawBody: `{"value":[]}`})
}

func (c aciFaults) outage(mode string) {
	if mode == ofLists {
		c.Inject(aci.Fault{Operation: aciOperations[ListCall], Calls: -1, Status: http.StatusServiceUnavailable})
		return
	}
	if mode == "cut" {
		c.Inject(aci.Fault{Calls: -1, Cut: true})
		return
	}
	c.Inject(aci.Fault{Calls: -1, Status: http.StatusServiceUnavailable})
}

func (c aciFaults) shortage(mode string, on bool) {
	c.Change(func(s *aci.Settings) {
		s.Shortages, s.Quota = nil, nil
		switch {
		case !on:
		case mode == "quota":
			s.Quota = map[string]int{"ContainerGroups": 0}
		default:
			s.Shortages = []aci.Shortage{{}}
		}
	})
}

func (c aciFaults) rotate(generation int) (string, map[string]string) {
	secret := fmt.Sprintf("%s-%d", playground.ACIClientPassword, generation)
	c.PutApplication(aci.Application{TenantID: playground.ACITenant, ClientID: playground.ACIClient, Secrets: []aci.Secret{{Value: secret}}})
	c.RevokeTokens()
	return "aci-credentials", map[string]string{"AZURE_CLIENT_ID": playground.ACIClient, "AZURE_CLIENT_SECRET": secret}
}

func (c aciFaults) lift() {
	c.ClearFaults()
	c.shortage("", false)
}

// late holds the next creates back on their way to their effect, whether or not the
// caller still waits. When something happens to the agents they take effect at once:
// the next agent cannot know of what is under way, and ACI would take its create for
// an update.
func (b *bed) late(ctx context.Context, s Step) {
	var left atomic.Int32
	left.Store(int32(s.Calls)) //nolint:gosec // a few
	remove := b.clouds[s.Cloud].hook(sim.Hook{Before: func(sim.Passage) {
		if left.Add(-1) >= 0 {
			b.pending.Add(1) // what is held back takes effect before things are judged
			defer b.pending.Done()
			struck := b.agents[s.Cloud].blow.awaited()
			timer := time.NewTimer(s.For)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-struck:
			case <-ctx.Done(): // when the run ends, nothing is held back
			}
		}
	}})
	b.later(ctx, 2*time.Second, func(context.Context) error { remove(); return nil })
}

// forget has the lists of a cloud lack every group for a while. The newest such step
// of a cloud counts.
func (b *bed) forget(ctx context.Context, s Step) {
	b.mu.Lock()
	b.lies[s.Cloud] = &s
	b.clouds[s.Cloud].forget(s.Mode)
	b.mu.Unlock()
	b.later(ctx, s.For, func(context.Context) error {
		b.mu.Lock()
		if b.lies[s.Cloud] == &s {
			delete(b.lies, s.Cloud)
		}
		b.mu.Unlock()
		b.relieve(s.Cloud, cloud.lift)
		return nil
	})
}

// relieve ends faults of a cloud. It goes on to forget for as long as a step says.
func (b *bed) relieve(name string, end func(cloud)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	end(b.clouds[name])
	if s := b.lies[name]; s != nil {
		b.clouds[name].forget(s.Mode)
	}
}

// platform has a cloud do something to a pod's group by itself, and tells whether
// there was one.
func (b *bed) platform(s Step) (done bool) {
	uid := b.recorder.named(s.Name)
	for _, g := range b.clouds[s.Cloud].fleet().Groups() {
		if uid == "" || uidOf(g.Tags()) != uid {
			continue
		}
		done = true
		b.recorder.act(uid, s.Do)
		if s.Do == Vanish {
			g.Remove()
			continue
		}
		// A group that has ended or is on its way is left alone.
		_ = g.Restart(0)
	}
	return done
}

// rotate changes a cloud's credentials; the agents get the new ones when they are
// started again, as by a rollout that follows.
func (b *bed) rotate(ctx context.Context, s Step) error {
	b.rotations++
	name, data := b.clouds[s.Cloud].rotate(b.rotations)
	secret := corev1apply.Secret(name, playground.Namespace).WithStringData(data)
	if _, err := b.client.CoreV1().Secrets(playground.Namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: "playground", Force: true}); err != nil {
		return fmt.Errorf("changing the Secret %s: %w", name, err)
	}
	b.later(ctx, s.For, func(ctx context.Context) error {
		a := b.agents[s.Cloud]
		return a.restart(ctx, a.chosen(ctx, ""), terminate, 0)
	})
	return nil
}

// apiServer disturbs what the agents of a node, or the one that leads, see of the
// API server.
func (b *bed) apiServer(ctx context.Context, s Step) error {
	for _, replica := range b.agents[s.Cloud].chosen(ctx, s.Mode) {
		tap := b.Tap(replica)
		// Leases stay out of it: no plan may make the node not ready.
		match := func(r cluster.Request) bool { return r.Verb != "watch" && r.Resource != "leases" }
		d := cluster.Disturbance{Match: match, Calls: s.Calls}
		switch s.Do {
		case HoldWatches, HoldExpired:
			tap.HoldWatches(nil, s.Do == HoldExpired)
			b.later(ctx, s.For, func(context.Context) error { tap.Release(); return nil })
			continue
		case APIDown:
			b.agents[s.Cloud].blow.strike() // another may lead soon
			if err := tap.Down(); err != nil {
				return err
			}
			b.later(ctx, s.For, func(context.Context) error { return tap.Up() })
			continue
		case APISlow:
			d.Delay = s.For
		case APIError:
			d.Status, d.Reason, d.Message = http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the server is currently unable to handle the request"
		case APICut:
			d.Cut, d.AfterEffect = true, true
		}
		tap.Disturb(d)
	}
	return nil
}
