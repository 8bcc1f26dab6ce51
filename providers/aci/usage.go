package aci

import (
	"context"

	"github.com/autoburst/autoburst/providers"
)

var _ providers.UsageReader = (*Provider)(nil)

// Names of the quotas that the groups of this package count against (service
// documentation, "Resource availability and quota limits").
const (
	usageGroups             = "ContainerGroups"
	usageConfidentialGroups = "ConfidentialContainerGroups"
	usageCores              = "StandardCores"
	usageSpotCores          = "StandardSpotCores"
	usageConfidentialCores  = "ConfidentialCores"
)

// quotas are the names of those that groups of the node's own kind use.
func (c *Config) quotas() (groups, cores string) {
	switch {
	case c.Spot:
		return usageGroups, usageSpotCores
	case c.Confidential:
		return usageConfidentialGroups, usageConfidentialCores
	}
	return usageGroups, usageCores
}

// Usage reads the quotas of the subscription in the region (Location_ListUsage),
// those of the kind of groups that the node makes unless a pod asks for another.
// Groups that have ended count until they are deleted; cores that run do.
func (p *Provider) Usage(ctx context.Context) (providers.Usage, error) {
	var usage providers.Usage
	groups, cores := p.config.quotas()
	err := p.do(ctx, opUsage, nil, func(ctx context.Context, s *session) error {
		pager := s.location.NewListUsagePager(p.config.Region, nil)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return err
			}
			for _, u := range page.Value {
				if u == nil || u.Name == nil || u.CurrentValue == nil || u.Limit == nil {
					continue
				}
				m := &providers.Meter{Used: int64(*u.CurrentValue), Limit: int64(*u.Limit)}
				switch value(u.Name.Value) {
				case groups:
					usage.Groups = m
				case cores:
					m.Used, m.Limit = m.Used*1000, m.Limit*1000
					usage.MilliCPU = m
				}
			}
		}
		return nil
	})
	return usage, err
}
