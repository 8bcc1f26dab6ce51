package eci

import (
	"context"
	"math"

	"github.com/autoburst/autoburst/providers"
)

var _ providers.UsageReader = (*Provider)(nil)

// Usage reads the vCPU quota of the account in the region (ListUsage, with the RAM
// action eci:ListUsage). ECI publishes none of the number of groups.
func (p *Provider) Usage(ctx context.Context) (providers.Usage, error) {
	var answer struct {
		Attributes struct {
			MaxCPU  *number `json:"MaxCpu"`
			UsedCPU number  `json:"UsedCpu"`
		}
	}
	if err := p.client.call(ctx, actionUsage, reads, newMembers(), &answer); err != nil {
		return providers.Usage{}, err
	}
	limit := answer.Attributes.MaxCPU
	if limit == nil {
		return providers.Usage{}, nil
	}
	return providers.Usage{MilliCPU: &providers.Meter{
		Used:  int64(math.Ceil(float64(answer.Attributes.UsedCPU) * 1000)),
		Limit: int64(float64(*limit) * 1000),
	}}, nil
}
