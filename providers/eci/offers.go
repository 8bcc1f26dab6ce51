package eci

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// offer is one way to buy the machine of a group. A pod may take several, one after
// the other until one is in stock.
type offer struct {
	spot bool
	// types are instance types, which the service tries in this order; without any,
	// size is what is bought.
	types []string
	size  Spec
	// instead, if not empty, is why this offer is on demand though the pod asks for
	// spot first.
	instead string
	// nth is its place among the pod's offers.
	nth int
	// vSwitches are those of the pod's VSwitches that may have an address; nil is all.
	vSwitches []string
}

func (o *offer) String() string {
	what := fmt.Sprintf("%g vCPU and %g GiB", float64(o.size.MilliCPU)/1000, float64(o.size.MemoryMiB)/1024)
	if len(o.types) > 0 {
		what = strings.Join(o.types, ", ")
	}
	if o.spot {
		return what + " as a spot instance"
	}
	return what + " on demand"
}

// units are what of the offer may be out of stock on its own.
func (o *offer) units() []string {
	if len(o.types) > 0 {
		return o.types
	}
	return []string{sizeUnit(float64(o.size.MilliCPU)/1000, float64(o.size.MemoryMiB)/1024)}
}

func sizeUnit(cpu, gib float64) string { return fmt.Sprintf("%g-%g", cpu, gib) }

// offersFor are the offers that a pod with these settings takes, in order.
func offersFor(s *burstable.ECISettings, want burstable.Size) []offer {
	var out []offer
	if s.Spot.Strategy != "" {
		out = append(out, offersOf(s.Specs, want, spotOffers, true)...)
	}
	if s.Spot.Strategy == "" || s.Spot.Fallback {
		onDemand := offersOf(s.Specs, want, *sizes.Offers, false)
		if s.Spot.Strategy != "" {
			for i := range onDemand {
				onDemand[i].instead = "no spot instance was in stock at the price"
			}
		}
		out = append(out, onDemand...)
	}
	return out
}

func offersOf(specs []burstable.ECISpec, want burstable.Size, sold burstable.Offers, spot bool) []offer {
	if len(specs) == 0 {
		specs = []burstable.ECISpec{{Size: want}}
	}
	var out []offer
	for i := range specs {
		if t := specs[i].InstanceType; t != "" {
			if last := len(out) - 1; last >= 0 && len(out[last].types) > 0 {
				out[last].types = append(out[last].types, t)
				continue
			}
			out = append(out, offer{spot: spot, types: []string{t}})
			continue
		}
		if size, ok := sold.Cheapest(specs[i].Size); ok {
			out = append(out, offer{spot: spot, size: Spec{MilliCPU: size.MilliCPU, MemoryMiB: size.MemoryBytes >> 20}})
		}
	}
	return out
}

// marked are units with what else tells whether they are in stock.
func marked(spot bool, units []string) []string {
	out := make([]string, len(units))
	for i, u := range units {
		if out[i] = "on demand " + u; spot {
			out[i] = "spot " + u
		}
	}
	return out
}

// shortFor is how long a machine that was out of stock is not asked for again: a spot
// instance by pods that take one on demand as well, as each of them would cost a call
// that is refused; and one that the service had accepted before it found none, by
// anybody, as it would cost the pod its life.
const shortFor = 3 * time.Minute

// market remembers which machines were out of stock of late, beside the sizes on
// demand, of which the agent keeps account for all clouds.
type market struct {
	mu    sync.Mutex
	short map[string]shortage
}

type shortage struct {
	at   time.Time
	late bool // noticed only after a group was accepted
}

func (m *market) note(now time.Time, late bool, units ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.short == nil {
		m.short = map[string]shortage{}
	}
	for _, u := range units {
		m.short[u] = shortage{now, late}
	}
}

// wait is how long no part of the offer will be in stock, as far as is known; zero
// where one may be. With late set only late shortages count.
func (m *market) wait(now time.Time, o *offer, late bool) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	least := shortFor
	for _, u := range marked(o.spot, o.units()) {
		s, short := m.short[u]
		if !short || late && !s.late {
			return 0
		}
		least = min(least, max(0, shortFor-now.Sub(s.at)))
	}
	return least
}

// inStock leaves out the offers that are known to be short. wait is how long there is
// none at all.
func (m *market) inStock(now time.Time, all []offer) (kept []offer, wait time.Duration) {
	wait = shortFor
	for i := range all {
		o := &all[i]
		replaced := o.spot && !all[len(all)-1].spot
		if short := m.wait(now, o, !replaced); short > 0 {
			wait = min(wait, short)
			continue
		}
		o.nth = i
		kept = append(kept, *o)
	}
	return kept, wait
}

// noStock tells whether a create was refused since the machine that it asks for is not
// to be had now, which proves that nothing was made.
func noStock(err error) bool {
	return providers.ClassOf(err) == providers.OutOfStock && !noAddress(err)
}

// special tells whether a pod asks for machines that others do not: that they are out
// of stock is no news for the others. What the node's own settings ask for is common
// to all.
func special(annotations map[string]string) bool {
	s, _ := burstable.ECI(annotations, &burstable.Capabilities{})
	return len(s.VSwitchIDs) > 0 || len(s.ComputeCategories) > 0 || s.CPUCores > 0 || s.CPUThreads > 0 || s.PrivateIP != "" ||
		s.Spot.Strategy != "" && !s.Spot.Fallback ||
		slices.ContainsFunc(s.Specs, func(o burstable.ECISpec) bool { return o.InstanceType != "" })
}
