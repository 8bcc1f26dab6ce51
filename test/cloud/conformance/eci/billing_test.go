package eci

import (
	"slices"
	"testing"
	"time"
)

// billed are the statuses in which a group costs.
var billed = []string{"Pending", "Running", "Restarting", "Updating", "Terminating"}

func TestE53Billing(t *testing.T) {
	needLab(t, "a clock and the bill")
	never := func(p program, more ...string) []string {
		return slices.Concat([]string{"RestartPolicy", "Never"}, p.in("Container.1"), more)
	}
	call := func(action string, args ...string) func(*cloud, string) {
		return func(c *cloud, id string) { c.ok(action, append([]string{"ContainerGroupId", id}, args...)...) }
	}
	// Each group is looked at in every second of its life: the seconds with a
	// status that is billed are what the bill must say.
	for name, tt := range map[string]struct {
		args  []string
		setUp func(*cloud)
		after time.Duration // from the creation until do
		do    func(*cloud, string)
		end   string
		least int // seconds; a group that costs nothing has none
	}{
		"succeeded": {args: never(works), end: "Succeeded", least: 20},
		"failed":    {args: never(fails), end: "Failed", least: 2},
		"init container": {
			args: append(never(ends, "InitContainer.1.Name", "first", "InitContainer.1.Image", *image), works.in("InitContainer.1")...),
			end:  "Succeeded", least: 22,
		},
		"deleted": {
			args:  append(stays.in("Container.1"), "TerminationGracePeriodSeconds", "20"),
			after: 30 * time.Second, do: call("DeleteContainerGroup"), end: "Absent", least: 40,
		},
		"deleted by force":       {after: 30 * time.Second, do: call("DeleteContainerGroup", "Force", "true"), end: "Absent", least: 25},
		"deleted while pulled":   {after: 5 * time.Second, do: call("DeleteContainerGroup"), end: "Absent", least: 1},
		"deleted before a place": {do: call("DeleteContainerGroup"), end: "Absent"},
		"no place":               {setUp: func(c *cloud) { c.lab.Shortages(Shortage{Late: true}) }, end: "ScheduleFailed"},
		"a bad image":            {args: []string{"Container.1.Image", "registry.invalid/none:1"}, after: time.Minute, do: call("DeleteContainerGroup"), end: "Absent", least: 55},
		"restarted":              {args: never(works), after: 20 * time.Second, do: call("RestartContainerGroup"), end: "Succeeded", least: 30},
		"deadline":               {args: []string{"ActiveDeadlineSeconds", "45"}, end: "Failed", least: 45},
		"spot": {
			args: []string{"SpotStrategy", "SpotAsPriceGo", "SpotDuration", "0"}, after: time.Minute,
			do: func(c *cloud, _ string) { c.lab.Shortages(Shortage{SpotOnly: true}) }, end: "Expired", least: 480,
		},
		"updated": {args: never(works), after: 15 * time.Second, do: call("UpdateContainerGroup", "ResourceGroupId", "rg", "RestartPolicy", "OnFailure"), end: "Succeeded", least: 30},
	} {
		t.Run(name, func(t *testing.T) {
			c := labRow(t, "a clock and the bill")
			c.pass(300 * time.Millisecond) // nothing happens on the second
			if tt.setUp != nil {
				tt.setUp(c)
			}
			id := c.create(tt.args...)
			want := 0
			done, placed := false, false
			for second := 0; ; second++ {
				if !done && tt.do != nil && time.Duration(second)*time.Second == tt.after {
					tt.do(c, id)
					done = true
				}
				status := c.status(id)
				placed = placed || status == "Pending" // without a machine, there is nothing to pay
				if placed && slices.Contains(billed, status) {
					want++
				}
				if status == tt.end {
					break
				}
				if second > 1000 {
					t.Fatalf("status %s and not %s after %d s", status, tt.end, second)
				}
				c.pass(time.Second)
			}
			got := 0
			for _, b := range c.lab.Bills() {
				if b.To.IsZero() {
					t.Errorf("the bill goes on: %+v", b)
				}
				got += b.Seconds
			}
			if got != want || want < tt.least || (want > 0) != (tt.least > 0) {
				t.Errorf("billed for %d s, was in a billed status for %d s, at least %d", got, want, tt.least)
			}
			c.pass(time.Hour)
			after := 0
			for _, b := range c.lab.Bills() {
				after += b.Seconds
			}
			if after != got {
				t.Errorf("billed for %d s an hour later, and %d s at the end", after, got)
			}
		})
	}
	t.Run("size", func(t *testing.T) {
		c := labRow(t, "the bill")
		c.waitStatus(c.create("Cpu", "7", "Memory", "13"), "Pending")
		c.waitStatus(c.create("SpotStrategy", "SpotAsPriceGo", "Cpu", "2", "Memory", "1"), "Pending")
		c.pass(90 * time.Second)
		bills := c.lab.Bills()
		if len(bills) != 2 || bills[0].CPU != 8 || bills[0].Memory != 16 || bills[0].Spot || bills[1].CPU != 2 || bills[1].Memory != 2 || !bills[1].Spot {
			t.Errorf("bills %+v", bills)
		}
		if b := bills[1]; b.Seconds != 90 || !b.To.IsZero() {
			t.Errorf("bill %+v, want 90 s so far", b)
		}
	})
	t.Run("nobody looks", func(t *testing.T) {
		c := labRow(t, "a clock and the bill")
		want := map[string]int{
			c.create(never(works)...):                                      29, // pull and start of 9 s, and 20 s
			c.create("ActiveDeadlineSeconds", "45"):                        45,
			c.create("SpotStrategy", "SpotAsPriceGo", "SpotDuration", "0"): 480, // a look after 5 min and 3 min of notice
		}
		c.lab.Shortages(Shortage{SpotOnly: true})
		c.pass(24 * time.Hour)
		bills := c.lab.Bills()
		for _, b := range bills {
			if b.Seconds != want[b.Group] || b.To.IsZero() {
				t.Errorf("bill %+v, want %d s", b, want[b.Group])
			}
		}
		if len(bills) != len(want) {
			t.Errorf("%d bills, want %d", len(bills), len(want))
		}
	})
}
