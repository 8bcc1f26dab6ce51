package eci

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/autoburst/autoburst/providers"
)

const (
	actionEvents = "DescribeContainerGroupEvents"
	// noticeWindow is how far back notices are asked for: they come 3 to 5 minutes
	// before the machine is taken away, and groups are looked at every few seconds.
	noticeWindow = 5 * time.Minute
)

// notices are the spot groups among the known ones of which the cloud has said, since
// they were described last, that it will take them away. A group that runs well is
// not described again, and the answer that tells of changes has no events.
func (p *Provider) notices(ctx context.Context) (map[string]bool, error) {
	var open []string
	for id, e := range p.inventory.known {
		if s := e.group.Status; e.spot && s != nil && !ended(s) && s.ReclaimNotice == "" {
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return nil, nil
	}
	m := p.owned()
	m.set("EventSource", "EciService")
	m.integer("Limit", statusPage)
	m.integer("SinceSecond", int64(noticeWindow/time.Second))
	told, whole, err := p.events(ctx, m)
	if err != nil {
		return nil, err
	}
	if !whole {
		// The answer has no token for the next page: what is asked for is named instead.
		if told, err = p.eventsOf(ctx, open); err != nil {
			return nil, err
		}
	}
	noticed := map[string]bool{}
	for i := range told {
		g := &told[i]
		if slices.ContainsFunc(g.Events, func(e eventAnswer) bool { return e.Reason == reasonReclaim }) && slices.Contains(open, g.ContainerGroupID) {
			noticed[g.ContainerGroupID] = true
		}
	}
	return noticed, nil
}

// eventsOf asks for the events of groups by their IDs, again for those that an answer
// leaves out, until one has none of them: these do not exist any more.
func (p *Provider) eventsOf(ctx context.Context, ids []string) (told []eventsAnswer, err error) {
	for left := slices.Clone(ids); len(left) > 0; {
		n := min(len(left), maxIDs)
		text, err := json.Marshal(left[:n])
		if err != nil {
			return nil, incomplete(actionEvents, "the IDs of groups are no text")
		}
		m := newMembers()
		m.set("ContainerGroupIds", string(text))
		m.set("EventSource", "EciService")
		m.integer("Limit", statusPage)
		some, _, err := p.events(ctx, m)
		if err != nil {
			return nil, err
		}
		told = append(told, some...)
		rest := slices.DeleteFunc(slices.Clone(left[:n]), func(id string) bool {
			return slices.ContainsFunc(some, func(g eventsAnswer) bool { return g.ContainerGroupID == id })
		})
		if len(rest) == n {
			rest = nil
		}
		left = append(rest, left[n:]...)
	}
	return told, nil
}

// eventsAnswer is a group as DescribeContainerGroupEvents shows it.
type eventsAnswer struct {
	ContainerGroupID string `json:"ContainerGroupId"`
	Events           []eventAnswer
}

// events reads one page; whole is whether it is all.
func (p *Provider) events(ctx context.Context, m members) (groups []eventsAnswer, whole bool, err error) {
	var answer struct {
		TotalCount number
		Data       *[]eventsAnswer
	}
	if err := p.client.call(ctx, actionEvents, reads, m, &answer); err != nil {
		return nil, false, err
	}
	if answer.Data == nil {
		return nil, false, incomplete(actionEvents, "an answer has no list of groups")
	}
	return *answer.Data, len(*answer.Data) < statusPage && int(answer.TotalCount) <= len(*answer.Data), nil
}

// learn notes a group that was accepted and then found no machine of its kind.
func (p *Provider) learn(g *groupAnswer, s *providers.GroupStatus) {
	if s == nil || s.Refused != providers.NoSuchStock {
		return
	}
	unit := g.InstanceType
	if unit == "" {
		unit = sizeUnit(float64(g.CPU), float64(g.Memory))
	}
	p.market.note(p.clock.Now(), true, marked(g.spot(), []string{unit})...)
}
