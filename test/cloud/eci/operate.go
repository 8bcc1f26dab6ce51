package eci

import (
	"errors"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// find returns the group that ContainerGroupId names, in the request's region.
func (s *Server) find(c *call) (*group, *apiError) {
	id := c.members.str("ContainerGroupId")
	c.target = id
	g, ok := s.groups[id]
	if !ok || (c.members.has("RegionId") && c.members.str("RegionId") != g.region) {
		return nil, s.missing(id)
	}
	return g, nil
}

func (s *Server) missing(id string) *apiError {
	return refuse(s.opts.MissingGroup.Status, s.opts.MissingGroup.Code, "The container group %q does not exist.", clip(id))
}

// remove is DeleteContainerGroup.
func (s *Server) remove(c *call) (map[string]any, *apiError) {
	return s.once(c, func() (map[string]any, *apiError) {
		g, err := s.find(c)
		if err != nil {
			return nil, err
		}
		grace := g.grace
		if c.members.boolean("Force") {
			grace = 0
		}
		switch err := g.live.Delete(grace); {
		case errors.Is(err, sim.ErrPhase): // it has just gone
			return nil, s.missing(g.id)
		case err != nil:
			return nil, publishedRefusal(c.action, "OperationConflict")
		}
		return map[string]any{}, nil
	})
}

// restart is RestartContainerGroup.
func (s *Server) restart(c *call) (map[string]any, *apiError) {
	return s.once(c, func() (map[string]any, *apiError) {
		g, err := s.find(c)
		if err != nil {
			return nil, err
		}
		if err := g.live.Restart(g.grace); errors.Is(err, sim.ErrBusy) || errors.Is(err, sim.ErrPhase) {
			return nil, publishedRefusal(c.action, "IncorrectStatus", "The container group is "+string(g.phase())+"; only a Pending or Running one can be restarted.")
		}
		g.updating = false
		return map[string]any{}, nil
	})
}

// describeRegions is DescribeRegions.
func (s *Server) describeRegions(c *call) (map[string]any, *apiError) {
	list := []map[string]any{}
	for _, r := range s.opts.Regions {
		list = append(list, map[string]any{
			"RegionId": r.ID, "RegionEndpoint": "eci." + r.ID + ".aliyuncs.com", "Zones": r.Zones,
			"RecommendZones": r.Zones, "UnavailableZones": []string{},
		})
	}
	return map[string]any{"Regions": list}, nil
}

// listUsage is ListUsage. An account without a quota has no MaxCpu.
func (s *Server) listUsage(c *call) (map[string]any, *apiError) {
	attributes := map[string]any{
		"UsedCpu":            s.usedCPU(c.members.str("RegionId")),
		"MaxImageCacheCount": s.opts.MaxImageCaches, "UsedImageCacheCount": s.usedCaches(c.members.str("RegionId")),
	}
	if s.opts.MaxCPU > 0 {
		attributes["MaxCpu"] = s.opts.MaxCPU
	}
	return map[string]any{"Attributes": attributes}, nil
}
