package eci

import (
	"math"
	"strings"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestE47Price(t *testing.T) {
	c := row(t)
	a := c.ok("DescribeContainerGroupPrice", "Cpu", "2", "Memory", "4")
	p := a.PriceInfo.Price
	sum := 0.0
	for _, d := range p.DetailInfos.DetailInfo {
		sum += d.TradePrice
	}
	if p.Currency == "" || p.TradePrice <= 0 || p.OriginalPrice < p.TradePrice || len(p.DetailInfos.DetailInfo) < 2 || !near(sum, p.TradePrice) {
		t.Errorf("price %+v", p)
	}
	// The lists are within objects, which is what the vendor's typed client fails at.
	for _, nesting := range []string{`"DetailInfos":{"DetailInfo":[`, `"SpotPrices":{"SpotPrice":[`, `"Rules":{"Rule":[`} {
		if !strings.Contains(strings.ReplaceAll(a.raw, " ", ""), nesting) {
			t.Errorf("no %s in %s", nesting, a.raw)
		}
	}
	price := func(args ...string) float64 {
		t.Helper()
		return c.ok("DescribeContainerGroupPrice", args...).PriceInfo.Price.TradePrice
	}
	if a, b := price("Cpu", "7", "Memory", "13"), price("Cpu", "8", "Memory", "16"); !near(a, b) {
		t.Errorf("7 vCPU 13 GiB cost %g and 8 and 16 %g, to which they are rounded", a, b)
	}
	if a, b := price("InstanceType", "ecs.c6.large"), price("InstanceType", "ecs.c6.large", "Cpu", "64", "Memory", "512"); !near(a, b) {
		t.Errorf("an instance type costs %g, and %g with a size, which is to be ignored", a, b)
	}
	for _, args := range [][]string{{"Cpu", "1000", "Memory", "1"}, {"Cpu", "0.25", "Memory", "64"}} {
		c.refused(400, "InvalidParam.CpuOrMemorySpec", "DescribeContainerGroupPrice", args...)
	}
	c.refused(400, "InvalidSpotCpuMemorySpec", "DescribeContainerGroupPrice", "Cpu", "1", "Memory", "2", "SpotStrategy", "SpotAsPriceGo")
	for _, args := range [][]string{{"Memory", "4"}, {"Cpu", "2"}, {"Cpu", "2", "Memory", "4", "SpotStrategy", "SpotWithPriceLimit"}} {
		if a := c.do("DescribeContainerGroupPrice", args...); a.status != 400 || !strings.HasPrefix(a.Code, "Missing") {
			t.Errorf("%v: answer %d %s", args, a.status, a.raw)
		}
	}
	spot := c.ok("DescribeContainerGroupPrice", "InstanceType", "ecs.c6.large", "SpotStrategy", "SpotAsPriceGo").PriceInfo.SpotPrices.SpotPrice
	if len(spot) == 0 {
		t.Error("no spot price")
	}
	for _, s := range spot {
		if s.ZoneID == "" || s.InstanceType != "ecs.c6.large" || s.SpotPrice <= 0 || s.OriginPrice < s.SpotPrice {
			t.Errorf("spot price %+v", s)
		}
	}
	part(t, "published", "the price list", settings{}, func(c *cloud) {
		p := c.ok("DescribeContainerGroupPrice", "Cpu", "2", "Memory", "4").PriceInfo.Price
		d := p.DetailInfos.DetailInfo
		if p.Currency != "CNY" || !near(p.TradePrice, 0.00012252) || !near(p.OriginalPrice, 0.00012252) ||
			d[0].Resource != "cpu" || !near(d[0].TradePrice, 0.000098) || d[1].Resource != "memory" || !near(d[1].TradePrice, 0.00002452) {
			t.Errorf("price %+v", p)
		}
	})
	part(t, "market", "a spot market", settings{}, func(c *cloud) {
		v := c.lab.VSwitches()
		c.lab.SpotPrices(SpotPrice{Zone: v[1].Zone, PerHour: 0.123}, SpotPrice{PerHour: 0.2})
		ask := []string{"Cpu", "2", "Memory", "4", "SpotStrategy", "SpotWithPriceLimit"}
		for _, s := range c.ok("DescribeContainerGroupPrice", append(ask, "SpotPriceLimit", "0.15")...).PriceInfo.SpotPrices.SpotPrice {
			if want := map[bool]float64{true: 0.123, false: 0.2}[s.ZoneID == v[1].Zone]; !near(s.SpotPrice, want) {
				t.Errorf("spot price %+v, want %g", s, want)
			}
		}
		one := c.ok("DescribeContainerGroupPrice", append(ask, "SpotPriceLimit", "0.15", "ZoneId", v[1].Zone)...).PriceInfo.SpotPrices.SpotPrice
		if len(one) == 0 || one[0].ZoneID != v[1].Zone || one[len(one)-1].ZoneID != v[1].Zone {
			t.Errorf("prices of one zone: %+v", one)
		}
		c.refused(403, "Spot.NotMatched", "DescribeContainerGroupPrice", append(ask, "SpotPriceLimit", "0.1")...)
		c.refused(403, "Spot.NotMatched", "DescribeContainerGroupPrice", append(ask, "SpotPriceLimit", "0.15", "ZoneId", v[0].Zone)...)
		// What a group is charged for is what it is asked for.
		c.refused(403, "Spot.NotMatched", "CreateContainerGroup", c.small(append(ask, "SpotPriceLimit", "0.15")...)...)
		c.create(append(ask, "SpotPriceLimit", "0.15", "VSwitchId", v[1].ID)...)
	})
}

func TestE48AvailableResource(t *testing.T) {
	c := row(t)
	category := "DestinationResource.Category"
	value := "DestinationResource.Value"
	a := c.ok("DescribeAvailableResource", category, "InstanceType", value, "ecs.c6.large")
	zones := map[string]bool{}
	for _, r := range c.ok("DescribeRegions").Regions {
		for _, zone := range r.Zones {
			zones[zone] = r.RegionID == c.region
		}
	}
	for _, z := range a.AvailableZones.AvailableZone {
		r := z.AvailableResources.AvailableResource
		if z.RegionID != c.region || !zones[z.ZoneID] || len(r) != 1 || r[0].Type != "InstanceType" ||
			len(r[0].SupportedResources.SupportedResource) != 1 || r[0].SupportedResources.SupportedResource[0].Value != "ecs.c6.large" {
			t.Errorf("zone %+v", z)
		}
	}
	if len(a.AvailableZones.AvailableZone) == 0 {
		t.Errorf("no zone in %s", a.raw)
	}
	for _, args := range [][]string{
		{category, "Zone", value, "x"},
		{category, "InstanceTypeFamily", value, "ecs.c6", "SpotResource.SpotStrategy", "SpotAsPriceGo"},
	} {
		c.refused(400, "InvalidParameter", "DescribeAvailableResource", args...)
	}
	for _, args := range [][]string{{category, "InstanceTypeFamily"}, {category, "InstanceType"}, {category, "InstanceType", "DestinationResource.Cores", "2"}} {
		c.refused(400, "MissingParameter", "DescribeAvailableResource", args...)
	}
	for _, args := range [][]string{
		{category, "InstanceType", value, "ecs.nosuch.large"}, {category, "InstanceTypeFamily", value, "ecs.nosuch"},
		{category, "InstanceType", value, "ecs.c6.large", "ZoneId", "cn-hangzhou-none"},
	} {
		c.refused(404, "InvalidParameter.NotFound", "DescribeAvailableResource", args...)
	}
	part(t, "as groups find it", "stock", settings{}, func(c *cloud) {
		v := c.lab.VSwitches()
		for name, shortages := range map[string][]Shortage{
			"none":       nil,
			"a zone":     {{Zone: v[0].Zone}},
			"a type":     {{InstanceType: "ecs.c6.large"}},
			"both":       {{Zone: v[1].Zone, InstanceType: "ecs.g6.large"}},
			"spot":       {{SpotOnly: true}},
			"everything": {{}},
		} {
			c.lab.Shortages(shortages...)
			for _, place := range v[:2] {
				for _, instanceType := range []string{"ecs.c6.large", "ecs.g6.large"} {
					for _, strategy := range []string{"NoSpot", "SpotAsPriceGo"} {
						a := c.ok("DescribeAvailableResource", category, "InstanceType", value, instanceType, "ZoneId", place.Zone,
							"SpotResource.SpotStrategy", strategy)
						said := a.AvailableZones.AvailableZone[0].AvailableResources.AvailableResource[0].SupportedResources.SupportedResource[0].StatusCategory
						got := c.do("CreateContainerGroup", c.small("VSwitchId", place.ID, "InstanceType", instanceType, "SpotStrategy", strategy)...)
						if (said == "WithStock") != (got.status == 200) || (got.status != 200 && got.Code != "OperationDenied.NoStock") {
							t.Errorf("%s, %s in %s, %s: said %s, and a create was answered %d %s", name, instanceType, place.Zone, strategy, said, got.status, got.raw)
						}
					}
				}
			}
		}
		families := func(want string) {
			t.Helper()
			a := c.ok("DescribeAvailableResource", category, "InstanceTypeFamily", value, "ecs.c6", "ZoneId", v[0].Zone)
			if got := a.AvailableZones.AvailableZone[0].AvailableResources.AvailableResource[0].SupportedResources.SupportedResource[0]; got.Value != "ecs.c6" || got.StatusCategory != want {
				t.Errorf("family %+v, want %s", got, want)
			}
		}
		c.lab.Shortages(Shortage{InstanceType: "ecs.c6.large"})
		families("WithStock")
		c.lab.Shortages(Shortage{})
		families("WithoutStock")
		c.lab.Shortages()
		a := c.ok("DescribeAvailableResource", category, "InstanceType", "DestinationResource.Cores", "2", "DestinationResource.Memory", "4", "ZoneId", v[0].Zone)
		if list := a.AvailableZones.AvailableZone[0].AvailableResources.AvailableResource[0].SupportedResources.SupportedResource; len(list) == 0 {
			t.Errorf("no type of 2 vCPU and 4 GiB in %s", a.raw)
		}
		c.lab.SpotPrices(SpotPrice{PerHour: 0.5})
		bid := []string{category, "InstanceType", value, "ecs.c6.large", "SpotResource.SpotStrategy", "SpotWithPriceLimit", "SpotResource.SpotPriceLimit"}
		c.ok("DescribeAvailableResource", append(bid, "0.5")...)
		c.refused(403, "Spot.NotMatched", "DescribeAvailableResource", append(bid, "0.4")...)
	})
}
