package eci

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// filter returns the region's groups that the request's members select, oldest
// first.
func (s *Server) filter(req *member) ([]*group, *apiError) {
	var ids []string
	if text := req.str("ContainerGroupIds"); text != "" {
		if err := json.Unmarshal([]byte(text), &ids); err != nil {
			return nil, invalidParameter("ContainerGroupIds must be a JSON list of strings.")
		}
		if limit := published().facts.Limits.DescribeIDs; len(ids) > limit {
			return nil, invalidParameter("ContainerGroupIds has %d ids; at most %d are allowed.", len(ids), limit)
		}
	}
	var out []*group
	for _, g := range s.groups {
		if g.region == req.str("RegionId") && (ids == nil || slices.Contains(ids, g.id)) && g.matches(req) {
			out = append(out, g)
		}
	}
	slices.SortFunc(out, func(a, b *group) int { return a.compare(b.live.Created(), b.id) })
	return out, nil
}

// compare orders groups by creation, those of the same time by id.
func (g *group) compare(created time.Time, id string) int {
	if c := g.live.Created().Compare(created); c != 0 {
		return c
	}
	return strings.Compare(g.id, id)
}

// matches applies the filters of the request; all must hold.
func (g *group) matches(req *member) bool {
	for _, f := range []struct{ path, is string }{
		{"ContainerGroupName", g.req.str("ContainerGroupName")},
		{"ZoneId", g.subnet.ZoneID},
		{"VSwitchId", g.subnet.ID},
		{"SecurityGroupId", g.securityGroup},
		{"ResourceGroupId", g.req.str("ResourceGroupId")},
		{"ComputeCategory", g.req.str("ComputeCategory.1")},
		{"Status", string(g.phase())},
	} {
		if want := req.str(f.path); want != "" && want != f.is {
			return false
		}
	}
	return tagged(g.tags, req.list("Tag"))
}

// page cuts one page out of the groups and returns the token of the next one,
// which is empty after the last. Deletions between two pages move nothing.
func (s *Server) page(all []*group, req *member, limit int) ([]*group, string, *apiError) {
	if s.opts.PageSize > 0 {
		limit = min(limit, s.opts.PageSize)
	}
	if token := req.str("NextToken"); token != "" {
		created, id, err := readToken(token)
		if err != nil {
			return nil, "", invalidParameter("NextToken is not a token of this service.")
		}
		for len(all) > 0 && all[0].compare(created, id) <= 0 {
			all = all[1:]
		}
	}
	if len(all) <= limit {
		return all, "", nil
	}
	return all[:limit], nextToken(all[limit-1]), nil
}

func nextToken(last *group) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", last.live.Created().UnixNano(), last.id))
}

func readToken(token string) (created time.Time, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return time.Time{}, "", err
	}
	var nanos int64
	if _, err := fmt.Sscanf(string(text), "%d %s", &nanos, &id); err != nil {
		return time.Time{}, "", err
	}
	return time.Unix(0, nanos), id, nil
}

// describeGroups is DescribeContainerGroups.
func (s *Server) describeGroups(c *call) (map[string]any, *apiError) {
	limit := published().facts.Limits.DescribeLimit
	if c.members.has("Limit") {
		if n := c.members.integer("Limit"); n < 1 || n > limit {
			return nil, invalidParameter("Limit must be 1 to %d.", limit)
		} else {
			limit = n
		}
	}
	all, err := s.filter(c.members)
	if err != nil {
		return nil, err
	}
	page, next, err := s.page(all, c.members, limit)
	if err != nil {
		return nil, err
	}
	views := make([]groupView, 0, len(page))
	gone := shown(page, func(g *group, st sim.State) { views = append(views, g.view(st, c.members.boolean("WithEvent"))) })
	return map[string]any{"TotalCount": len(all) - gone, "NextToken": next, "ContainerGroups": views}, nil
}

// shown calls show with the present state of each group of a page. Groups go at
// their own time, also since the page was cut: of them the service shows
// nothing. How many these are is returned.
func shown(page []*group, show func(*group, sim.State)) (gone int) {
	for _, g := range page {
		st := g.snapshot()
		if st.Phase == sim.Deleted {
			gone++
			continue
		}
		show(g, st)
	}
	return gone
}

// changedSince keeps groups that changed in the last SinceSecond seconds.
func (s *Server) changedSince(all []*group, req *member) []*group {
	if !req.has("SinceSecond") {
		return all
	}
	since := s.fleet.Now().Add(-time.Duration(req.integer("SinceSecond")) * time.Second)
	return slices.DeleteFunc(all, func(g *group) bool {
		_, changed, _ := g.live.Progress()
		return changed.Before(since)
	})
}

// delta selects one page for the two polling actions.
func (s *Server) delta(req *member) (page []*group, total int, next string, err *apiError) {
	limit := 50 // of the metadata; its text says 200
	if req.has("Limit") {
		limit = req.integer("Limit")
	}
	all, err := s.filter(req)
	if err != nil {
		return nil, 0, "", err
	}
	all = s.changedSince(all, req)
	page, next, err = s.page(all, req, limit)
	return page, len(all), next, err
}
