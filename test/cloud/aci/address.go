package aci

import (
	"net/netip"
	"sync"
)

// Address ranges handed out. Public ones come from 198.18.0.0/15, which RFC 2544
// sets aside for tests, so that nothing real is ever addressed.
var (
	publicAddresses  = netip.MustParsePrefix("198.18.0.0/15")
	privateAddresses = netip.MustParsePrefix("10.128.0.0/9")
)

// addressPool hands out the addresses of one range, each to one holder at a
// time. A released address is used again only after all others.
type addressPool struct {
	prefix netip.Prefix

	mu       sync.Mutex
	next     netip.Addr
	released []netip.Addr
}

func newAddressPool(prefix netip.Prefix) *addressPool {
	return &addressPool{prefix: prefix, next: prefix.Addr()}
}

// take returns a free address; false when the range is used up.
func (p *addressPool) take() (netip.Addr, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.prefix.Contains(p.next.Next()) {
		p.next = p.next.Next()
		if last := p.next.As4()[3]; last != 0 && last != 255 {
			return p.next, true
		}
	}
	if len(p.released) == 0 {
		return netip.Addr{}, false
	}
	address := p.released[0]
	p.released = p.released[1:]
	return address, true
}

func (p *addressPool) release(address netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = append(p.released, address)
}
