package eci

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/autoburst/autoburst/test/cloud/sim"
)

// Shortage is a lack of machines. Empty members match everything.
type Shortage struct {
	RegionID, ZoneID, InstanceType string
	// SpotOnly leaves groups that are not spot alone.
	SpotOnly bool
	// Late lets the create call pass and ends the group in ScheduleFailed;
	// otherwise the call answers 403 OperationDenied.NoStock.
	Late bool
	// Reason of a late failure; empty is NoStock.
	Reason string
}

// SpotPrice is the market price of spot machines. Empty members match everything.
type SpotPrice struct {
	RegionID, ZoneID, InstanceType string
	// PerHour is in the currency of the price list, CNY.
	PerHour float64
}

// lot is what one group would take from the market. A size that was not asked
// for by an instance type has none.
type lot struct {
	region, zone, instanceType string
	size                       size
	spot                       bool
	limit                      float64 // of the spot price per hour; zero is none
}

// market is what the zones have to offer and for how much. Groups ask it in the
// middle of their lives, so it has a lock of its own, below all others.
type market struct {
	share float64 // of the ordinary price, where no spot price is set

	mu        sync.Mutex
	shortages []Shortage
	prices    []SpotPrice
}

func (m *market) setShortages(list []Shortage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shortages = list
}

func (m *market) setPrices(list []SpotPrice) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.prices = list
}

// shortage is the first one that concerns a lot; nil if there is stock.
func (m *market) shortage(l lot) *Shortage {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.shortages {
		if matches(s.RegionID, l.region) && matches(s.ZoneID, l.zone) && matches(s.InstanceType, l.instanceType) && (!s.SpotOnly || l.spot) {
			return &s
		}
	}
	return nil
}

// spotPrice is the present price of a lot per hour.
func (m *market) spotPrice(l lot) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.prices {
		if matches(p.RegionID, l.region) && matches(p.ZoneID, l.zone) && matches(p.InstanceType, l.instanceType) {
			return p.PerHour
		}
	}
	return m.share * l.size.pricePerSecond() * 3600
}

func matches(want, is string) bool { return want == "" || want == is }

// affordable reports whether the market price is within the lot's limit.
func (m *market) affordable(l lot) bool { return l.limit == 0 || m.spotPrice(l) <= l.limit }

// SetShortages replaces the shortages of machines.
func (s *Server) SetShortages(list ...Shortage) {
	s.fleet.Groups() // until now, the market was as it was
	s.market.setShortages(list)
}

// SetSpotPrices replaces the prices of the spot market. The first that matches
// counts; where none does, it is Options.SpotShare of the ordinary price.
func (s *Server) SetSpotPrices(list ...SpotPrice) {
	s.fleet.Groups()
	s.market.setPrices(list)
}

// lotOf is what a request takes in a zone, with the bid of a spot request.
func lotOf(req *member, region, zone, instanceType string, sz size, spot bool) lot {
	l := lot{region: region, zone: zone, instanceType: instanceType, size: sz, spot: spot}
	if req.str("SpotStrategy") == "SpotWithPriceLimit" {
		l.limit = req.number("SpotPriceLimit")
	}
	return l
}

// spotCheck is how often the market is compared with a spot group's bid once its
// protection is over.
const spotCheck = 5 * time.Minute

// enterMarket has a spot group reclaimed when its protection is over and the
// market wants the machine back: its price is above the bid, or there is no stock
// of it. The protection counts from when the machine was found; without one, the
// first look is that of the interval.
func (s *Server) enterMarket(g *group) {
	if !g.spot {
		return
	}
	protection := time.Hour
	if g.req.str("SpotDuration") == "0" {
		protection = spotCheck
	}
	l := lotOf(g.req, g.region, g.subnet.ZoneID, g.instanceType, g.size, true)
	var look func(sim.Moment)
	look = func(m sim.Moment) {
		if s.market.affordable(l) && s.market.shortage(l) == nil {
			m.Alarm(m.Now().Add(spotCheck), look)
			return
		}
		m.Event(sim.Warning, "SpotToBeReleased", "The preemptible instance will be released in "+s.opts.SpotNotice.String()+".")
		m.Alarm(m.Now().Add(s.opts.SpotNotice), func(m sim.Moment) {
			m.End(sim.Expired, "SpotReleased", "The preemptible instance was released.")
		})
	}
	g.live.Alarm(s.machineFound(g).Add(protection), look)
}

// SetArrears says whether the account has an outstanding payment. Nothing is
// created meanwhile, and what runs expires after Options.ArrearsGrace.
func (s *Server) SetArrears(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case on == (s.debt != nil):
		return
	case !on:
		s.debt.Store(false)
		s.debt = nil
		return
	}
	debt := &atomic.Bool{}
	debt.Store(true)
	s.debt = debt
	if s.opts.ArrearsGrace == 0 {
		return
	}
	for _, g := range s.groups {
		g.live.Alarm(s.fleet.Now().Add(s.opts.ArrearsGrace), func(m sim.Moment) {
			if debt.Load() {
				m.End(sim.Expired, "InsufficientBalance", "The account has an outstanding payment.")
			}
		})
	}
}

// pricePerSecond is the ordinary price of a size.
func (z size) pricePerSecond() float64 {
	p := published().facts.Prices.CNY
	return z.cpu*p.VCPU + z.gib*p.GiB
}

// price is the ordinary one of what a group has. It is nil for a spot group, as its
// price is the market's and changes.
func (g *group) price() *sim.Price {
	if g.spot {
		return nil
	}
	p := published().facts.Prices.CNY
	return &sim.Price{Currency: "CNY", CPU: p.VCPU, MemoryGiB: p.GiB}
}

func wantsSpot(m *member) bool {
	strategy := m.str("SpotStrategy")
	return strategy != "" && strategy != "NoSpot"
}

// checkSpot applies the documented rules to the spot members below a path, which
// ends in a dot unless it is empty.
func checkSpot(req *member, path string) *apiError {
	if err := oneOf(req, path+"SpotStrategy", []string{"NoSpot", "SpotAsPriceGo", "SpotWithPriceLimit"}); err != nil {
		return err
	}
	if req.str(path+"SpotStrategy") == "SpotWithPriceLimit" && req.number(path+"SpotPriceLimit") <= 0 {
		return missingParameter(path + "SpotPriceLimit")
	}
	return oneOf(req, path+"SpotDuration", []string{"0", "1"})
}
