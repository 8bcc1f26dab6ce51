package eci

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

// codeMismatch is the refusal of a ClientToken that came before with other members.
const codeMismatch = "IdempotentParameterMismatch"

// Create starts a group. The pod's settings may name several offers: they are tried
// in their order, the next one only when the service has refused the one before for
// want of stock, which proves that nothing was made.
//
// The ClientToken, made of the pod's UID, is the same for all of them: it lets the
// service answer a repeated call with the first group. Where the members have changed
// meanwhile, by another offer or a fresh service account token, the service refuses
// the token, and the first group is found by its tags.
func (p *Provider) Create(ctx context.Context, spec *providers.GroupSpec) (string, error) {
	if o := spec.Owner; o.ClusterUID != p.cfg.ClusterUID || o.NodeName != p.cfg.NodeName {
		return "", &providers.Error{
			Class: providers.Misconfigured, Operation: actionCreate, Code: "ForeignOwner",
			Message: fmt.Sprintf("the group is for node %q of cluster %q, but this provider serves node %q of cluster %q", o.NodeName, o.ClusterUID, p.cfg.NodeName, p.cfg.ClusterUID),
		}
	}
	settings, wrong := burstable.ECI(spec.Annotations, &p.capabilities)
	if len(wrong) > 0 {
		return "", notBurstable(wrong[0].Field, wrong[0].Message)
	}
	if err := validate(spec); err != nil {
		return "", err
	}
	all := offersFor(&settings, sizeOf(spec))
	if len(all) == 0 {
		size := sizeOf(spec)
		return "", notBurstable("spec.containers", fmt.Sprintf("ask for %dm of cpu and %d bytes of memory together; ECI has no size that holds both", size.MilliCPU, size.MemoryBytes))
	}
	offers, wait := p.market.inStock(p.clock.Now(), all)
	if len(offers) == 0 {
		return "", &providers.Error{
			Class: providers.NoSuchStock, Operation: actionCreate, Code: "NoStock", RetryAfter: wait,
			Message: fmt.Sprintf("%s was out of stock after ECI had accepted a group; it is asked for again after %s", &all[len(all)-1], shortFor),
		}
	}
	var err error
	for i := range offers {
		var id string
		id, err = p.place(ctx, spec, &settings, &offers[i])
		if err == nil {
			p.absences.forget(spec.Owner.PodUID)
			return id, nil
		}
		if noAddress(err) {
			return "", p.unplaced(err, spec, &settings) // another machine needs one too
		}
		if !noStock(err) {
			return "", p.blamed(err, spec)
		}
		if offers[i].spot {
			p.market.note(p.clock.Now(), false, marked(true, offers[i].units())...)
		}
	}
	if e := (*providers.Error)(nil); errors.As(err, &e) {
		said := *e
		if len(all) > 1 {
			said.Message = fmt.Sprintf("%s (the last of %d offers: %s)", e.Message, len(all), &offers[len(offers)-1])
		}
		if special(spec.Annotations) {
			said.Class = providers.NoSuchStock
		}
		err = &said
	}
	return "", err
}

// take asks for a group by one offer. Those before it were refused, now or a short
// while ago.
func (p *Provider) take(ctx context.Context, spec *providers.GroupSpec, settings *burstable.ECISettings, o *offer) (string, error) {
	m := p.createRequest(spec, settings, o)
	id, err := p.post(ctx, m)
	mismatch := mismatchOf(err)
	if mismatch == nil {
		return id, err
	}
	id, err = p.created(ctx, spec.Owner, mismatch)
	if e := (*providers.Error)(nil); !errors.As(err, &e) || !e.Spent {
		return id, err
	}
	if o.nth == 0 && o.vSwitches == nil && !p.absences.wasRefused(spec.Owner.PodUID) {
		return id, err
	}
	// The token had no group when the offer before was refused, and has none now. Once
	// that has lasted, no group is hidden by tags that come late: it is the refusal which
	// the service remembers under the token. Whether it does is not published.
	if left := p.absences.left(spec.Owner.PodUID, p.clock.Now(), p.cfg.SettleTime); left > 0 {
		return "", unsettled(mismatch, left)
	}
	m.set("ClientToken", clientToken(strings.Join(append([]string{spec.Owner.PodUID, strconv.Itoa(o.nth)}, o.vSwitches...), ".")))
	id, err = p.post(ctx, m)
	if mismatch = mismatchOf(err); mismatch != nil {
		return p.created(ctx, spec.Owner, mismatch)
	}
	return id, err
}

func (p *Provider) post(ctx context.Context, m members) (string, error) {
	var answer struct {
		ContainerGroupID string `json:"ContainerGroupId"`
		RequestID        string `json:"RequestId"`
	}
	if err := p.client.call(ctx, actionCreate, writes, m, &answer); err != nil {
		return "", err
	}
	if answer.ContainerGroupID == "" {
		return "", &providers.Error{
			Class: providers.Unknown, Operation: actionCreate, Code: "UnreadableAnswer",
			Message: "the answer names no group", RequestID: answer.RequestID,
		}
	}
	return answer.ContainerGroupID, nil
}

func mismatchOf(err error) *providers.Error {
	if e := (*providers.Error)(nil); errors.As(err, &e) && e.Code == codeMismatch {
		return e
	}
	return nil
}

// created finds the group of a pod for which a group was made before.
func (p *Provider) created(ctx context.Context, o providers.Owner, mismatch *providers.Error) (string, error) {
	groups, err := p.describe(quota.With(ctx, quota.Confirming), p.ofPod(o.PodUID))
	if err != nil {
		// Whether there is a group is not known; asking again is right.
		e := *mismatch
		e.Class, e.Message = providers.Unknown, "a group was made for this pod before, but looking for it failed: "+err.Error()
		return "", &e
	}
	for i := range groups {
		if ownerOf(groups[i].Tags) == o {
			return groups[i].ContainerGroupID, nil
		}
	}
	e := *mismatch
	e.Spent = true
	e.Message = "a group was made for this pod before and is gone; ECI makes a second one only when it has forgotten the first"
	return "", &e
}

// blamed makes a refusal of what the pod itself chose, by an annotation, the pod's
// fault: else it would count as one of the agent's settings, and stop all pods.
func (p *Provider) blamed(err error, spec *providers.GroupSpec) error {
	e := (*providers.Error)(nil)
	if !errors.As(err, &e) || e.Class != providers.Misconfigured || !choosesPlace(spec.Annotations) {
		return err
	}
	own := *e
	own.Class = providers.InvalidPod
	own.Message += " (the pod chooses its VSwitch, security group, resource group or RAM role by an annotation)"
	return &own
}

func notBurstable(field, why string) error {
	return &providers.Error{Class: providers.InvalidPod, Operation: actionCreate, Code: "NotBurstable", Message: field + ": " + why}
}
