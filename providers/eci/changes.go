package eci

import (
	"context"
	"encoding/json"
	"hash/maphash"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const (
	actionStatus = "DescribeContainerGroupStatus"
	// statusPage is the largest page of DescribeContainerGroupStatus. Its default
	// is published as 50 and as 200.
	statusPage = 200
	// maxIDs is how many groups DescribeContainerGroups can be asked for by ID.
	maxIDs = 20

	// The published bounds of SinceSecond.
	minSince = time.Minute
	maxSince = time.Hour
)

var _ providers.ChangeLister = (*Provider)(nil)

// inventory is what is known of this node's groups, by ID. DescribeContainerGroupStatus
// names up to 200 groups in one answer but tells neither whose they are nor what
// their init containers do nor their events. So each group is described once in
// full, 20 at a time, and again when it changes in a way that the short answer
// does not tell.
type inventory struct {
	// turn is held by the one call that is at work: answers come in order.
	turn  chan struct{}
	seed  maphash.Seed
	known map[string]*entry
}

func newInventory() *inventory {
	return &inventory{turn: make(chan struct{}, 1), seed: maphash.MakeSeed(), known: map[string]*entry{}}
}

// entry is a group and the short answer that it was last seen with.
type entry struct {
	group providers.Group
	sum   uint64
	// final is whether a group that has ended was described twice since: nothing
	// more is told of it, also not by late events.
	final bool
	// spot is whether the cloud may take the group's machine away.
	spot bool
}

// Changes returns the groups of this node that changed within the window before
// now, by the cloud's clock, and perhaps others: the cloud knows no window under
// a minute, and over an hour it is asked for all. It takes one call for up to 200
// groups, and one for each 20 that must be described.
func (p *Provider) Changes(ctx context.Context, window time.Duration) ([]providers.Group, error) {
	m := p.owned()
	if window <= maxSince {
		m.integer("SinceSecond", int64((max(window, minSince)+time.Second-1)/time.Second))
	}
	return p.survey(ctx, m, false)
}

// List returns the groups of this node with their Status. A group that was there
// before and that the short answer lacks is asked for by its ID before it is left
// out.
func (p *Provider) List(ctx context.Context) ([]providers.Group, error) {
	return p.survey(ctx, p.owned(), true)
}

// survey reads the short answers that m selects, describes what they do not tell
// enough of, and returns all of them or an error.
func (p *Provider) survey(ctx context.Context, m members, all bool) ([]providers.Group, error) {
	select {
	case p.inventory.turn <- struct{}{}:
		defer func() { <-p.inventory.turn }()
	case <-ctx.Done():
		return nil, &providers.Error{Class: providers.Unavailable, Operation: actionStatus, Code: "GaveUp", Message: "an earlier question is still being answered"}
	}
	ctx = quota.With(ctx, quota.Listing)
	answers, err := p.statuses(ctx, m)
	if err != nil {
		return nil, err
	}
	known := p.inventory.known
	noticed, err := p.notices(ctx)
	if err != nil {
		return nil, err
	}
	var open []string
	fresh := make(map[string]uint64, len(answers))
	for i := range answers {
		a := &answers[i]
		sum := maphash.Bytes(p.inventory.seed, a.raw)
		fresh[a.ContainerGroupID] = sum
		e := known[a.ContainerGroupID]
		switch {
		case e == nil, noticed[a.ContainerGroupID]:
			open = append(open, a.ContainerGroupID)
		case a.tellsAll(e.group.Status):
			if e.sum != sum {
				e.group.Status, e.group.Deleting, e.sum = a.status(e.group.Status), a.Status == statusTerminating, sum
			}
		case e.final && e.sum == sum:
		case all || e.sum != sum || !initialized(e.group.Status):
			open = append(open, a.ContainerGroupID)
		}
	}
	for id := range noticed {
		if _, listed := fresh[id]; !listed && !all {
			fresh[id] = known[id].sum
			open = append(open, id)
		}
	}
	if all {
		for id := range known {
			if _, listed := fresh[id]; !listed {
				open = append(open, id)
			}
		}
	}
	described, err := p.describeIDs(ctx, open)
	if err != nil {
		return nil, err
	}
	for _, id := range open {
		g, there := described[id]
		if !there {
			delete(known, id)
			delete(fresh, id)
			continue
		}
		before, now := known[id], &entry{group: g.group(), sum: fresh[id], spot: g.spot()}
		p.learn(g, now.group.Status)
		now.final = before != nil && before.sum == now.sum && ended(before.group.Status) && ended(now.group.Status)
		known[id] = now
		fresh[id] = known[id].sum
	}
	groups := make([]providers.Group, 0, len(fresh))
	for id := range fresh {
		groups = append(groups, known[id].group)
	}
	return groups, nil
}

func ended(s *providers.GroupStatus) bool {
	return s != nil && (s.Phase == providers.GroupSucceeded || s.Phase == providers.GroupFailed)
}

// describeIDs reads groups of this node in full, with their events.
func (p *Provider) describeIDs(ctx context.Context, ids []string) (map[string]*groupAnswer, error) {
	described := make(map[string]*groupAnswer, len(ids))
	for len(ids) > 0 {
		n := min(len(ids), maxIDs)
		text, err := json.Marshal(ids[:n])
		if err != nil {
			return nil, incomplete(actionDescribe, "the IDs of groups are no text")
		}
		ids = ids[n:]
		m := newMembers()
		m.set("ContainerGroupIds", string(text))
		m.boolean("WithEvent", true)
		answers, err := p.describe(ctx, m)
		if err != nil {
			return nil, err
		}
		for i := range answers {
			if p.owns(&answers[i]) {
				described[answers[i].ContainerGroupID] = &answers[i]
			}
		}
	}
	return described, nil
}

// statuses reads all pages of DescribeContainerGroupStatus, or fails.
func (p *Provider) statuses(ctx context.Context, m members) ([]statusAnswer, error) {
	m.integer("Limit", statusPage)
	return allPages(actionStatus, m, func() ([]statusAnswer, string, error) {
		var page struct {
			Data      *[]json.RawMessage
			NextToken string
		}
		if err := p.client.call(ctx, actionStatus, reads, m, &page); err != nil {
			return nil, "", err
		}
		if page.Data == nil {
			return nil, "", incomplete(actionStatus, "an answer has no list of groups")
		}
		answers := make([]statusAnswer, 0, len(*page.Data))
		for _, raw := range *page.Data {
			a := statusAnswer{raw: raw}
			if json.Unmarshal(raw, &a) != nil {
				return nil, "", incomplete(actionStatus, "an answer has a group that cannot be read")
			}
			answers = append(answers, a)
		}
		return answers, page.NextToken, nil
	}, func(a statusAnswer) string { return a.ContainerGroupID })
}
