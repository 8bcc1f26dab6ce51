package eci_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/eci"
	emulator "github.com/autoburst/autoburst/test/cloud/eci"
)

const (
	noAddress = "InvalidVSwitchId.IpNotEnough"
	noMachine = "OperationDenied.NoStock"
)

// small gives the VSwitches of the cloud so many addresses, one after the other.
func small(addresses ...int) func(*emulator.Options) {
	return func(o *emulator.Options) {
		for i, n := range addresses {
			o.Regions[0].VSwitches[i].Addresses = n
		}
	}
}

func TestFullVSwitches(t *testing.T) {
	short := func(zones ...string) []emulator.Shortage {
		var list []emulator.Shortage
		for _, z := range zones {
			list = append(list, emulator.Shortage{ZoneID: "cn-hangzhou-" + z})
		}
		return list
	}
	tests := map[string]struct {
		addresses []int // in vsw-h and vsw-i
		pods      int   // before the last one
		short     []emulator.Shortage
		passes    bool // the service goes on by itself
		last      []string
		codes     []string // of the last one
		want      providers.ErrorClass
		place     string
		says      string
	}{
		"room in both":                 {addresses: []int{2, 1}, pods: 1, codes: []string{"OK"}, place: "vsw-h"},
		"the first is full":            {addresses: []int{1, 2}, pods: 1, codes: []string{noAddress, noAddress, "OK"}, place: "vsw-i"},
		"it is known to be":            {addresses: []int{1, 3}, pods: 2, codes: []string{"OK"}, place: "vsw-i"},
		"the service goes on":          {addresses: []int{1, 2}, pods: 1, passes: true, codes: []string{"OK"}, place: "vsw-i"},
		"both are full":                {addresses: []int{1, 1}, pods: 2, codes: []string{noAddress, noAddress}, want: providers.OutOfStock, says: "No address is left in vsw-h, vsw-i"},
		"both, and a fallback":         {addresses: []int{1, 1}, pods: 2, last: []string{"spot-strategy", "SpotAsPriceGo", "spot-fallback", "true"}, codes: []string{noAddress, noAddress}, want: providers.OutOfStock, says: "No address is left"},
		"both, and a size of its own":  {addresses: []int{1, 1}, pods: 2, last: []string{"use-specs", "ecs.c6.large"}, codes: []string{noAddress, noAddress}, want: providers.OutOfStock},
		"the pod's own is full":        {addresses: []int{1, 2}, pods: 1, last: []string{"vswitch", "vsw-h"}, codes: []string{noAddress}, want: providers.NoSuchStock, says: "No address is left in vsw-h;"},
		"no machine beside it":         {addresses: []int{1, 2}, pods: 1, short: short("i"), codes: []string{noAddress, noAddress, noMachine}, want: providers.OutOfStock, says: noMachine},
		"no spot machine beside it":    {addresses: []int{1, 2}, pods: 1, short: []emulator.Shortage{{ZoneID: "cn-hangzhou-i", SpotOnly: true}}, last: []string{"spot-strategy", "SpotAsPriceGo", "spot-fallback", "true"}, codes: []string{noAddress, noAddress, noMachine, "OK"}, place: "vsw-i"},
		"no machine in the first":      {addresses: []int{2, 2}, pods: 1, short: short("h"), codes: []string{"OK"}, place: "vsw-i"},
		"at random, the second is out": {addresses: []int{1, 2}, pods: 1, last: []string{"vswitch", "vsw-i,vsw-h", "schedule-strategy", "VSwitchRandom"}, place: "vsw-i"},
	}
	for name, tt := range tests {
		for _, remembers := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				c := newCloud(t, small(tt.addresses...), func(o *emulator.Options) {
					o.FullVSwitchIsPassed, o.RememberRefusals = tt.passes, remembers
				})
				p := c.provider(t, func(cfg *eci.Config) { cfg.SettleTime = -1 })
				for i := range tt.pods {
					if _, err := p.Create(within(t), asking("first-"+string(rune('a'+i)))); err != nil {
						t.Fatal(err)
					}
				}
				before := len(c.creates())
				c.SetShortages(tt.short...)
				spec := asking("last", tt.last...)
				id, err := p.Create(within(t), spec)
				if got := providers.ClassOf(err); got != tt.want {
					t.Fatalf("error %v of class %s, want %s", err, got, tt.want)
				}
				codes := slices.DeleteFunc(c.creates()[before:], func(code string) bool { return code == "IdempotentParameterMismatch" })
				if tt.codes != nil {
					if diff := cmp.Diff(tt.codes, codes); diff != "" {
						t.Errorf("creates (-want +got):\n%s", diff)
					}
				}
				if err != nil {
					if !strings.Contains(err.Error(), tt.says) {
						t.Errorf("error %v, want %q in it", err, tt.says)
					}
					return
				}
				at := waitFor(t, p, id, "it runs", running).PodIP
				if got := map[bool]string{true: "vsw-h", false: "vsw-i"}[strings.HasPrefix(at, "10.0.0.")]; got != tt.place {
					t.Errorf("the group is at %s in %s, want %s", at, got, tt.place)
				}
				again, err := p.Create(within(t), spec)
				if again != id || err != nil {
					t.Errorf("a second create of the pod gives %s, %v; want %s", again, err, id)
				}
			})
		}
	}
}
