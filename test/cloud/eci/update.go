package eci

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strconv"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// notUpdated are the members of UpdateContainerGroup that say how and not what.
var notUpdated = []string{"RegionId", "ContainerGroupId", "ClientToken", "UpdateType"}

// inPlace are the members whose change restarts no container.
var inPlace = []string{"Tag", "ResourceGroupId"}

// update is UpdateContainerGroup. A RenewUpdate, the default, replaces each member
// that is sent as a whole: what a sent list or structure does not hold any more is
// removed. An IncrementalUpdate changes only what is sent: elements of lists are
// told apart by their names where they have one; how else is not published, and
// such lists are replaced. Containers are restarted in place.
func (s *Server) update(c *call) (map[string]any, *apiError) {
	if err := oneOf(c.members, "UpdateType", []string{"RenewUpdate", "IncrementalUpdate"}); err != nil {
		return nil, err
	}
	return s.once(c, func() (map[string]any, *apiError) {
		g, err := s.find(c)
		if err != nil {
			return nil, err
		}
		status := func() *apiError {
			return publishedRefusal(c.action, "IncorrectStatus", "The container group is "+string(g.phase())+"; only a Pending or Running one can be updated.")
		}
		if p := g.phase(); p != sim.Pending && p != sim.Running {
			return nil, status()
		}
		next, changed := g.updated(c.members)
		if len(changed) == 0 {
			return nil, publishedRefusal(c.action, "NoNeedUpdate")
		}
		if err := checkGroup(next); err != nil {
			return nil, err
		}
		sz := g.size
		if g.instanceType == "" {
			if sz, err = groupSize(next, g.spot); err != nil {
				return nil, publishedRefusal(c.action, "InvalidParam.CpuOrMemorySpec")
			}
		}
		was := *g
		g.req, g.size, g.tags = next, sz, tagsOf(next.list("Tag"))
		if slices.ContainsFunc(changed, func(name string) bool { return !slices.Contains(inPlace, name) }) {
			spec := g.simSpec(nil)
			spec.Images = g.spec.Images
			if err := g.live.Update(spec, g.grace); errors.Is(err, sim.ErrBusy) || errors.Is(err, sim.ErrPhase) {
				*g = was
				return nil, status()
			}
			g.spec, g.updating = spec, true
		}
		g.setTags(g.tags)
		return map[string]any{}, nil
	})
}

// updated is the group's definition after an update, and the names of the top-level
// members that differ.
func (g *group) updated(change *member) (next *member, changed []string) {
	shape := published().served["UpdateContainerGroup"].root
	root := &member{children: maps.Clone(g.req.children)}
	root.children["Tag"] = tagList(g.tags) // they may have been changed since
	for _, name := range shape.order {
		sent := change.children[name]
		if sent == nil || slices.Contains(notUpdated, name) {
			continue
		}
		old := root.children[name]
		now := shape.fields[name].known(sent)
		if change.str("UpdateType") == "IncrementalUpdate" {
			now = shape.fields[name].merge(old, now)
		}
		if form(old) != form(now) {
			root.children[name] = now
			changed = append(changed, name)
		}
	}
	all := url.Values{}
	root.addTo(all, "")
	return parseMembers(all), changed
}

func tagList(tags []keyValue) *member {
	list := &member{children: map[string]*member{}}
	for i, t := range tags {
		list.children[strconv.Itoa(i+1)] = &member{children: map[string]*member{
			"Key": {value: t.Key, present: true}, "Value": {value: t.Value, present: true},
		}}
	}
	return list
}

// form is a member in one text, for comparisons.
func form(m *member) string {
	all := url.Values{}
	m.addTo(all, "")
	return all.Encode()
}

// addTo adds what was sent at and below a member to a form, under a name.
func (m *member) addTo(all url.Values, name string) {
	if m == nil {
		return
	}
	if m.present {
		all.Set(name, m.value)
	}
	for part, child := range m.children {
		path := part
		if name != "" {
			path = name + "." + part
		}
		child.addTo(all, path)
	}
}

// known is a member without what is not published for it.
func (s *memberMeta) known(m *member) *member {
	out := &member{value: m.value, present: m.present, children: map[string]*member{}}
	for part, child := range m.children {
		shape := s.fields[part]
		if s.Type == "array" {
			shape = s.item
		}
		if shape != nil {
			out.children[part] = shape.known(child)
		}
	}
	return out
}

// merge is a member after an incremental change.
func (s *memberMeta) merge(old, change *member) *member {
	key := ""
	if s.Type == "array" {
		key = s.item.key()
	}
	switch {
	case old == nil, len(s.fields) == 0 && key == "":
		return change
	case s.Type != "array":
		out := &member{value: change.value, present: change.present, children: maps.Clone(old.children)}
		if out.children == nil {
			out.children = map[string]*member{}
		}
		for name, c := range change.children {
			out.children[name] = s.fields[name].merge(old.children[name], c)
		}
		return out
	}
	list := old.elements()
	for _, e := range change.elements() {
		if i := slices.IndexFunc(list, func(o *member) bool { return o.str(key) == e.str(key) }); i >= 0 {
			list[i] = s.item.merge(list[i], e)
		} else {
			list = append(list, e)
		}
	}
	out := &member{children: map[string]*member{}}
	for i, e := range list {
		out.children[strconv.Itoa(i+1)] = e
	}
	return out
}

// key is the member that tells the elements of a list apart; empty if there is none.
func (s *memberMeta) key() string {
	for _, name := range []string{"MountPath", "Path", "Key", "Server", "InstanceId", "Name"} {
		if s.fields[name] != nil {
			return name
		}
	}
	return ""
}
