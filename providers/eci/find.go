package eci

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/autoburst/autoburst/providers"
)

var _ providers.Finder = (*Provider)(nil)

// ofPod are the members that select the groups of one pod of this node.
func (p *Provider) ofPod(uid string) members {
	m := p.owned()
	at := element("Tag", 2)
	m.set(at+".Key", tagUID)
	m.set(at+".Value", uid)
	return m
}

// Find asks for the groups that bear the pod's UID as a tag. Of several it returns
// the oldest that is not being ended. Listings from then on look after it, also when
// the short answer does not show it.
func (p *Provider) Find(ctx context.Context, podUID string) (*providers.Group, error) {
	m := p.ofPod(podUID)
	m.boolean("WithEvent", true)
	answers, err := p.describe(ctx, m)
	if err != nil {
		return nil, err
	}
	var groups []providers.Group
	for i := range answers {
		// A service that forgets the filter has not answered about this pod, but what
		// it shows is true.
		if a := &answers[i]; p.owns(a) && ownerOf(a.Tags).PodUID == podUID {
			g, err := a.known()
			if err != nil {
				return nil, err
			}
			groups = append(groups, *g)
		}
	}
	if len(groups) == 0 {
		return nil, &providers.Error{
			Class: providers.NotFound, Operation: actionDescribe, Code: "NotFound",
			Message: "there is no group of this node for a pod with the UID " + podUID,
		}
	}
	g := slices.MinFunc(groups, func(a, b providers.Group) int {
		if a.Deleting != b.Deleting {
			if a.Deleting {
				return 1
			}
			return -1
		}
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	p.inventory.add(ctx, g)
	return &g, nil
}

// add notes a group that no survey has seen, unless ctx ends before it can.
func (i *inventory) add(ctx context.Context, g providers.Group) {
	select {
	case i.turn <- struct{}{}:
		defer func() { <-i.turn }()
	case <-ctx.Done():
		return
	}
	if i.known[g.ID] == nil {
		i.known[g.ID] = &entry{group: g}
	}
}

// known is the group, or an error where its status is not one that is published.
func (a *groupAnswer) known() (*providers.Group, error) {
	g := a.group()
	if g.Status == nil {
		return nil, &providers.Error{
			Class: providers.Unavailable, Operation: actionDescribe, Code: "UnknownStatus",
			Message: fmt.Sprintf("the group has the status %q, which this version does not know", a.Status),
		}
	}
	return &g, nil
}
