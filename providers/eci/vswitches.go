package eci

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// codeNoAddress is the refusal of a VSwitch that has no address left.
const codeNoAddress = "InvalidVSwitchId.IpNotEnough"

func noAddress(err error) bool {
	e := (*providers.Error)(nil)
	return errors.As(err, &e) && e.Code == codeNoAddress
}

// place asks for a group by one offer. With several VSwitches, ECI goes on to the next
// where a zone has no machine; that it does where a VSwitch has no address left is not
// published, and the refusal does not say which one that is. So each is asked for alone
// then. That an address was refused proves that nothing was made.
func (p *Provider) place(ctx context.Context, spec *providers.GroupSpec, settings *burstable.ECISettings, o *offer) (string, error) {
	all := p.cfg.vSwitches(settings)
	o.vSwitches = p.market.addressed(p.clock.Now(), all)
	asked := o.vSwitches
	if asked == nil {
		asked = all
	}
	id, err := p.take(ctx, spec, settings, o)
	if !noAddress(err) {
		return id, err
	}
	p.absences.refused(spec.Owner.PodUID, p.clock.Now())
	short := err
	for _, v := range all {
		if !slices.Equal(asked, []string{v}) {
			one := *o
			one.vSwitches = []string{v}
			if id, err = p.take(ctx, spec, settings, &one); err == nil {
				return id, nil
			}
		}
		switch {
		case noAddress(err):
			p.market.note(p.clock.Now(), false, addressUnit(v))
		case noStock(err):
			short = err // here is an address, and another offer may have a machine
		default:
			return "", err
		}
	}
	return "", short
}

// unplaced is the error about a pod for which no VSwitch has an address.
func (p *Provider) unplaced(err error, spec *providers.GroupSpec, settings *burstable.ECISettings) error {
	e := (*providers.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	said := *e
	said.Message = fmt.Sprintf("%s No address is left in %s; add a VSwitch to the virtual node, or free addresses.",
		e.Message, strings.Join(p.cfg.vSwitches(settings), ", "))
	if own, _ := burstable.ECI(spec.Annotations, &burstable.Capabilities{}); len(own.VSwitchIDs) > 0 {
		said.Class = providers.NoSuchStock // others are elsewhere
	}
	return &said
}

// vSwitches are those of a pod, else the agent's.
func (c *Config) vSwitches(s *burstable.ECISettings) []string {
	if len(s.VSwitchIDs) > 0 {
		return s.VSwitchIDs
	}
	return c.VSwitchIDs
}

// addressUnit is a VSwitch as the market remembers it.
func addressUnit(vSwitch string) string { return "address in " + vSwitch }

// addressed leaves out the VSwitches that had no address of late, so that not every pod
// costs calls that are refused. It is nil where that is none of them, or all.
func (m *market) addressed(now time.Time, all []string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var left []string
	for _, v := range all {
		if s, full := m.short[addressUnit(v)]; !full || now.Sub(s.at) >= shortFor {
			left = append(left, v)
		}
	}
	if len(left) == len(all) || len(left) == 0 {
		return nil
	}
	return left
}
