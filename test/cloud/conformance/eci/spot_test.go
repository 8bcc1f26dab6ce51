package eci

import (
	"slices"
	"testing"
	"time"
)

func TestE42Spot(t *testing.T) {
	needLab(t, "a clock and a spot market")
	bid := func(limit string, more ...string) []string {
		return append([]string{"SpotStrategy", "SpotWithPriceLimit", "SpotPriceLimit", limit}, more...)
	}
	notice := func(g group) (time.Time, bool) {
		i := slices.IndexFunc(g.Events, func(e event) bool { return e.Reason == "SpotToBeReleased" })
		if i < 0 {
			return time.Time{}, false
		}
		at, err := time.Parse(timeFormat, g.Events[i].FirstTimestamp)
		if err != nil {
			t.Fatal(err)
		}
		return at, true
	}
	// lives fails the test unless a group runs and was told nothing.
	lives := func(c *cloud, id string) {
		c.t.Helper()
		g := c.describe(id)
		if _, told := notice(g); told || g.Status != "Running" {
			c.t.Fatalf("status %s, events %v", g.Status, g.reasons())
		}
	}
	// reclaimed fails the test unless a group is told at a time, runs for the notice
	// and then expires.
	reclaimed := func(c *cloud, id string, at time.Time, within time.Duration) {
		c.t.Helper()
		c.pass(at.Add(-time.Second).Sub(c.now()))
		lives(c, id)
		c.pass(time.Second)
		if told, ok := notice(c.describe(id)); !ok || !told.Equal(at) {
			c.t.Fatalf("told at %s, %t; want %s", told, ok, at)
		}
		c.pass(within - time.Second)
		if got := c.status(id); got != "Running" {
			c.t.Fatalf("status %s within the notice", got)
		}
		c.pass(time.Second)
		g := c.describe(id)
		if g.Status != "Expired" || g.ExpiredTime != at.Add(within).Format(timeFormat) || g.Containers[0].CurrentState.State != "Terminated" {
			c.t.Errorf("group %s, expired at %q, container %+v", g.Status, g.ExpiredTime, g.Containers[0].CurrentState)
		}
		if phase := pick(c.podStatus(id), "phase"); phase != "Failed" {
			c.t.Errorf("pod phase %v", phase)
		}
		bills := c.lab.Bills()
		if b := bills[len(bills)-1]; !b.Spot || !b.To.Equal(at.Add(within)) {
			c.t.Errorf("bill %+v, want spot, to the end of the notice", b)
		}
	}
	// found makes a group and returns when its machine was found.
	found := func(c *cloud, args ...string) (string, time.Time) {
		c.t.Helper()
		id := c.create(args...)
		c.waitStatus(id, "Pending")
		at := c.now()
		c.waitStatus(id, "Running")
		return id, at
	}
	const look = 5 * time.Minute

	t.Run("price limit", func(t *testing.T) {
		c := labRow(t, "a spot market")
		v := c.lab.VSwitches()
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		c.refused(403, "Spot.NotMatched", "CreateContainerGroup", c.small(bid("0.499")...)...)
		c.create(bid("0.5")...)
		c.create("SpotStrategy", "SpotAsPriceGo")
		c.create()
		c.lab.SpotPrices(SpotPrice{Zone: v[1].Zone, PerHour: 0.2}, SpotPrice{PerHour: 0.5})
		if g := c.describe(c.create(bid("0.3", "VSwitchId", v[0].ID+","+v[1].ID)...)); g.ZoneID != v[1].Zone {
			t.Errorf("zone %s, want the one that is cheap enough", g.ZoneID)
		}
	})
	t.Run("protected hour", func(t *testing.T) {
		c := labRow(t, "a clock and a spot market")
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		id, at := found(c, bid("0.5")...)
		c.lab.SpotPrices(SpotPrice{PerHour: 0.6})
		reclaimed(c, id, at.Add(time.Hour), 3*time.Minute)
	})
	t.Run("every five minutes after it", func(t *testing.T) {
		c := labRow(t, "a clock and a spot market")
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		id, at := found(c, bid("0.5")...)
		c.pass(at.Add(time.Hour + time.Minute).Sub(c.now()))
		c.lab.SpotPrices(SpotPrice{PerHour: 0.6})
		c.pass(3 * time.Minute)
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5}) // a peak that no look has seen
		c.pass(10 * time.Minute)
		lives(c, id)
		c.lab.SpotPrices(SpotPrice{PerHour: 0.6})
		reclaimed(c, id, at.Add(time.Hour+3*look), 3*time.Minute)
	})
	t.Run("without protection", func(t *testing.T) {
		c := labRow(t, "a clock and a spot market")
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		id, at := found(c, bid("0.5", "SpotDuration", "0")...)
		c.lab.SpotPrices(SpotPrice{PerHour: 0.6})
		reclaimed(c, id, at.Add(look), 3*time.Minute)
	})
	t.Run("five minutes of notice", func(t *testing.T) {
		c := labRow(t, "a clock and a setting", settings{spotNotice: 5 * time.Minute})
		id, at := found(c, "SpotStrategy", "SpotAsPriceGo", "SpotDuration", "0")
		c.lab.Shortages(Shortage{SpotOnly: true})
		reclaimed(c, id, at.Add(look), 5*time.Minute)
	})
	t.Run("market price", func(t *testing.T) {
		c := labRow(t, "a clock and a spot market")
		id, at := found(c, "SpotStrategy", "SpotAsPriceGo")
		ordinary, _ := found(c)
		c.lab.SpotPrices(SpotPrice{PerHour: 1000})
		c.pass(at.Add(2 * time.Hour).Sub(c.now()))
		lives(c, id) // it goes with the price
		c.lab.Shortages(Shortage{SpotOnly: true})
		c.pass(10 * time.Minute)
		if got := c.status(id); got != "Expired" {
			t.Errorf("status %s though there is no stock", got)
		}
		lives(c, ordinary)
	})
	t.Run("restarts", func(t *testing.T) {
		c := labRow(t, "a clock and a spot market")
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		id, at := found(c, bid("0.5")...)
		c.ok("RestartContainerGroup", "ContainerGroupId", id)
		c.waitStatus(id, "Running")
		c.lab.SpotPrices(SpotPrice{PerHour: 0.6})
		reclaimed(c, id, at.Add(time.Hour), 3*time.Minute)
	})
}
