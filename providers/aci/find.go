package aci

import (
	"context"
	"fmt"

	"github.com/autoburst/autoburst/providers"
)

var _ providers.Finder = (*Provider)(nil)

// Find reads the group that bears the name of the pod's UID. Where that group is not
// marked as the pod's, somebody has changed its tags: what runs in it is not known.
func (p *Provider) Find(ctx context.Context, podUID string) (*providers.Group, error) {
	found, err := p.read(ctx, opGet, groupName(podUID))
	if err != nil {
		return nil, err
	}
	if err := p.adopt(opGet, &found, podUID); err != nil {
		return nil, err
	}
	g := p.group(&found)
	if g == nil {
		return nil, &providers.Error{
			Operation: opGet.name, Class: providers.Unavailable,
			Message: fmt.Sprintf("the answer about container group %s does not name it", groupName(podUID)),
		}
	}
	g.Status = p.status(&found)
	return g, nil
}
