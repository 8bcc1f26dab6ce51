package eci

import (
	"slices"
	"strings"
)

// tagsOf are the tags of a request's list. The last of two with one key counts.
func tagsOf(list []*member) []keyValue {
	var out []keyValue
	for _, t := range list {
		out = withTag(out, keyValue{t.str("Key"), t.str("Value")})
	}
	return out
}

func withTag(tags []keyValue, tag keyValue) []keyValue {
	for i := range tags {
		if tags[i].Key == tag.Key {
			tags[i].Value = tag.Value
			return tags
		}
	}
	return append(tags, tag)
}

// tagged reports whether tags fulfil all filters; one without a value is for the
// key only.
func tagged(tags []keyValue, filters []*member) bool {
	for _, want := range filters {
		if !slices.ContainsFunc(tags, func(t keyValue) bool {
			return t.Key == want.str("Key") && (!want.has("Value") || t.Value == want.str("Value"))
		}) {
			return false
		}
	}
	return true
}

// resourceTypes are the published values of ResourceType. The emulator has none
// of the last two.
var resourceTypes = []string{"ContainerGroup", "ImageCache", "DataCache", "VirtualNode"}

// tagHolder is a resource that can be tagged.
type tagHolder struct {
	id   string
	tags []keyValue
	set  func([]keyValue)
}

// holders are the resources of a type in a region.
func (s *Server) holders(region, kind string) []tagHolder {
	var out []tagHolder
	switch kind {
	case "ContainerGroup":
		for _, g := range s.groups {
			if g.region == region {
				out = append(out, tagHolder{g.id, g.tags, g.setTags})
			}
		}
	case "ImageCache":
		for _, c := range s.caches {
			if c.region == region {
				out = append(out, tagHolder{c.id, c.tags, func(tags []keyValue) { c.tags = tags }})
			}
		}
	}
	return out
}

// setTags replaces the group's tags, here and where it is simulated.
func (g *group) setTags(tags []keyValue) {
	g.tags = tags
	plain := map[string]string{}
	for _, t := range tags {
		plain[t.Key] = t.Value
	}
	g.live.SetTags(plain)
}

// tagTargets are the resources that ResourceId.N names, which must all exist.
func (s *Server) tagTargets(req *member) ([]tagHolder, *apiError) {
	if err := oneOf(req, "ResourceType", resourceTypes); err != nil {
		return nil, err
	}
	all := s.holders(req.str("RegionId"), req.str("ResourceType"))
	var out []tagHolder
	for _, id := range req.strings("ResourceId") {
		i := slices.IndexFunc(all, func(h tagHolder) bool { return h.id == id })
		if i < 0 {
			return nil, s.missing(id)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// tagResources is TagResources. It changes all of its resources or none.
func (s *Server) tagResources(c *call) (map[string]any, *apiError) {
	targets, err := s.tagTargets(c.members)
	if err != nil {
		return nil, err
	}
	for _, t := range c.members.list("Tag") {
		if err := checkTag(t); err != nil {
			return nil, err
		}
	}
	for i := range targets {
		tags := slices.Clone(targets[i].tags)
		for _, t := range tagsOf(c.members.list("Tag")) {
			tags = withTag(tags, t)
		}
		if len(tags) > published().facts.Limits.Tags {
			return nil, publishedRefusal(c.action, "NumberExceed.Tags")
		}
		targets[i].tags = tags
	}
	return s.setTags(c, targets)
}

// untagResources is UntagResources.
func (s *Server) untagResources(c *call) (map[string]any, *apiError) {
	return s.once(c, func() (map[string]any, *apiError) {
		targets, err := s.tagTargets(c.members)
		if err != nil {
			return nil, err
		}
		keys := c.members.strings("TagKey")
		all := c.members.boolean("All")
		switch limit := published().facts.Limits.Tags; {
		case len(keys) > limit:
			return nil, invalidParameter("TagKey has %d keys; at most %d are allowed.", len(keys), limit)
		case len(keys) == 0 && !all:
			return nil, missingParameter("TagKey.1")
		}
		for i := range targets {
			targets[i].tags = slices.DeleteFunc(slices.Clone(targets[i].tags), func(t keyValue) bool {
				return len(keys) == 0 || slices.Contains(keys, t.Key)
			})
		}
		return s.setTags(c, targets)
	})
}

func (s *Server) setTags(c *call, targets []tagHolder) (map[string]any, *apiError) {
	var ids []string
	for _, t := range targets {
		t.set(t.tags)
		ids = append(ids, t.id)
	}
	c.target = strings.Join(ids, ",")
	return map[string]any{}, nil
}

type tagResourceView struct {
	ResourceType     string
	ResourceID       string `json:"ResourceId"`
	TagKey, TagValue string
}

// listTagResources is ListTagResources: one entry for each tag of each resource.
// Resources that do not exist are absent.
func (s *Server) listTagResources(c *call) (map[string]any, *apiError) {
	req := c.members
	if err := oneOf(req, "ResourceType", resourceTypes); err != nil {
		return nil, err
	}
	limit, err := pageLimit(req)
	if err != nil {
		return nil, err
	}
	ids := req.strings("ResourceId")
	list := []tagResourceView{}
	for _, h := range s.holders(req.str("RegionId"), req.str("ResourceType")) {
		if (len(ids) > 0 && !slices.Contains(ids, h.id)) || !tagged(h.tags, req.list("Tag")) {
			continue
		}
		for _, t := range h.tags {
			list = append(list, tagResourceView{req.str("ResourceType"), h.id, t.Key, t.Value})
		}
	}
	page, next, err := pageBy(list, func(v tagResourceView) string { return v.ResourceID + " " + v.TagKey }, req, limit)
	if err != nil {
		return nil, err
	}
	return map[string]any{"TagResources": page, "NextToken": next}, nil
}
