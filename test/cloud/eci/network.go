package eci

import (
	"net/netip"
	"slices"
	"strings"
)

// reservedAddresses of each vSwitch are the service's own: the first and the last three.
const reservedAddresses = 4

// subnet gives out the addresses of a vSwitch that are not reserved.
type subnet struct {
	VSwitch
	used        map[netip.Addr]string // to the group's id
	first, last netip.Addr
	next        netip.Addr
}

func newSubnet(v VSwitch) *subnet {
	v.CIDR = v.CIDR.Masked()
	s := &subnet{VSwitch: v, used: map[netip.Addr]string{}, first: v.CIDR.Addr().Next()}
	b := v.CIDR.Addr().As4()
	for i, host := 3, 32-v.CIDR.Bits(); host > 0; i, host = i-1, host-8 {
		b[i] |= byte(1<<min(host, 8) - 1)
	}
	s.last = netip.AddrFrom4(b).Prev().Prev().Prev()
	s.next = s.first
	if all := 1<<(32-v.CIDR.Bits()) - reservedAddresses; s.Addresses == 0 || s.Addresses > all {
		s.Addresses = all
	}
	return s
}

// take gives an address to a group; not ok if none is left.
func (s *subnet) take(id string) (netip.Addr, bool) {
	if s.full() {
		return netip.Addr{}, false
	}
	start := s.next
	for a := start; ; {
		s.next = a.Next()
		if s.next.Compare(s.last) > 0 {
			s.next = s.first
		}
		if _, used := s.used[a]; !used {
			s.used[a] = id
			return a, true
		}
		if a = s.next; a == start {
			return netip.Addr{}, false
		}
	}
}

// full tells whether all addresses that are free for groups are taken.
func (s *subnet) full() bool { return len(s.used) >= s.Addresses }

func (s *subnet) release(a netip.Addr, id string) {
	if s.used[a] == id {
		delete(s.used, a)
	}
}

// placement is where a group may go.
type placement struct {
	subnets       []*subnet
	securityGroup string
}

// place reads VSwitchId, ZoneId and SecurityGroupId. Without a vSwitch it is
// the region's default one, of the zone if one is given.
func (s *Server) place(region Region, req *member) (placement, *apiError) {
	const action = "CreateContainerGroup"
	var p placement
	zone := req.str("ZoneId")
	if zone != "" && !slices.Contains(region.Zones, zone) {
		return p, publishedRefusal(action, "Zone.NotOnSale")
	}
	if ids := req.str("VSwitchId"); ids != "" {
		list := strings.Split(ids, ",")
		if limit := published().facts.Limits.VSwitchIDs; len(list) > limit {
			return p, invalidParameter("VSwitchId names %d vSwitches; at most %d are allowed.", len(list), limit)
		}
		for _, id := range list {
			id = strings.TrimSpace(id)
			if !slices.ContainsFunc(region.VSwitches, func(v VSwitch) bool { return v.ID == id }) {
				return p, invalidParameter("The vSwitch %q does not exist in region %s.", clip(id), region.ID)
			}
			p.subnets = append(p.subnets, s.subnets[id])
		}
	} else {
		for _, v := range region.VSwitches {
			if zone == "" || v.ZoneID == zone {
				p.subnets = append(p.subnets, s.subnets[v.ID])
				break
			}
		}
		if len(p.subnets) == 0 {
			return p, publishedRefusal(action, "OperationDenied.VswZoneMisMatch")
		}
	}
	vpc := p.subnets[0].VpcID
	for _, n := range p.subnets {
		if n.VpcID != vpc {
			return p, invalidParameter("The vSwitches of VSwitchId are not all in one VPC.")
		}
		if zone != "" && n.ZoneID != zone {
			return p, publishedRefusal(action, "OperationDenied.VswZoneMisMatch")
		}
	}
	want := req.str("SecurityGroupId")
	for _, g := range region.SecurityGroups {
		switch {
		case want == "" && g.VpcID == vpc, want == g.ID && g.VpcID == vpc:
			p.securityGroup = g.ID
			return p, nil
		case want == g.ID:
			return p, publishedRefusal(action, "OperationDenied.SecurityGroupMisMatch")
		}
	}
	if want != "" {
		return p, invalidParameter("The security group %q does not exist in region %s.", clip(want), region.ID)
	}
	return p, nil
}
