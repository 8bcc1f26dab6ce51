package eci

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// The answers of DescribeContainerGroupPrice and DescribeAvailableResource, with
// the published nesting.

type priceView struct {
	Currency                                 string
	OriginalPrice, TradePrice, DiscountPrice float64
	DetailInfos                              struct{ DetailInfo []detailView }
}

type detailView struct {
	Resource                                 string
	OriginalPrice, TradePrice, DiscountPrice float64
	Rules                                    rulesView
}

type rulesView struct{ Rule []struct{} }

type spotPriceView struct {
	ZoneID                 string `json:"ZoneId"`
	InstanceType           string
	SpotPrice, OriginPrice float64
}

// describePrice is DescribeContainerGroupPrice: the ordinary price per second of
// what a group of that size is rounded to, and spot prices per hour of the machines
// that can host it.
func (s *Server) describePrice(c *call) (map[string]any, *apiError) {
	req := c.members
	if err := checkSpot(req, ""); err != nil {
		return nil, err
	}
	sz, types, err := pricedSize(c)
	if err != nil {
		return nil, err
	}
	region, _ := s.region(req.str("RegionId"))
	zones := region.Zones
	if zone := req.str("ZoneId"); zone != "" {
		if !slices.Contains(zones, zone) {
			return nil, invalidParameter("The zone %q does not exist in region %s.", clip(zone), region.ID)
		}
		zones = []string{zone}
	}
	spot := []spotPriceView{}
	if wantsSpot(req) {
		affordable := false
		for _, zone := range zones {
			for _, name := range types {
				l := lotOf(req, region.ID, zone, name, sz, true)
				affordable = affordable || s.market.affordable(l)
				spot = append(spot, spotPriceView{zone, name, round(s.market.spotPrice(l), 3), round(sz.pricePerSecond()*3600, 3)})
			}
		}
		if len(spot) > 0 && !affordable {
			return nil, publishedRefusal(c.action, "Spot.NotMatched", "The SpotPriceLimit is below the market price")
		}
	}
	none := rulesView{Rule: []struct{}{}}
	return map[string]any{"PriceInfo": map[string]any{
		"Price": newPriceView(req, sz), "SpotPrices": map[string]any{"SpotPrice": spot}, "Rules": none,
	}}, nil
}

// pricedSize is the size that a price is asked for, and the instance types of that
// size.
func pricedSize(c *call) (size, []string, *apiError) {
	req := c.members
	if name := req.str("InstanceType"); name != "" {
		sz, ok := instanceTypes[name]
		if !ok {
			return size{}, nil, publishedRefusal(c.action, "InvalidParam.CpuOrMemorySpec")
		}
		return sz, []string{name}, nil
	}
	for _, name := range []string{"Cpu", "Memory"} {
		if req.str(name) == "" {
			return size{}, nil, missingParameter(name)
		}
	}
	sz, err := offeredSize(size{req.number("Cpu"), req.number("Memory")}, wantsSpot(req))
	switch {
	case err != nil && wantsSpot(req):
		return size{}, nil, publishedRefusal(c.action, "InvalidSpotCpuMemorySpec")
	case err != nil:
		return size{}, nil, publishedRefusal(c.action, "InvalidParam.CpuOrMemorySpec")
	}
	var types []string
	for _, name := range slices.Sorted(maps.Keys(instanceTypes)) {
		if instanceTypes[name] == sz {
			types = append(types, name)
		}
	}
	return sz, types, nil
}

func newPriceView(req *member, sz size) priceView {
	prices := published().facts.Prices.CNY
	detail := func(resource string, price float64) detailView {
		return detailView{Resource: resource, OriginalPrice: price, TradePrice: price, Rules: rulesView{Rule: []struct{}{}}}
	}
	total := round(sz.pricePerSecond(), 9)
	v := priceView{Currency: "CNY", OriginalPrice: total, TradePrice: total}
	if req.str("InstanceType") != "" {
		v.DetailInfos.DetailInfo = []detailView{detail("instanceType", total)}
	} else {
		v.DetailInfos.DetailInfo = []detailView{
			detail("cpu", round(sz.cpu*prices.VCPU, 9)), detail("memory", round(sz.gib*prices.GiB, 9)),
		}
	}
	return v
}

func round(v float64, digits int) float64 {
	p := math.Pow10(digits)
	return math.Round(v*p) / p
}

type availableZone struct {
	RegionID           string `json:"RegionId"`
	ZoneID             string `json:"ZoneId"`
	AvailableResources struct{ AvailableResource []availableResource }
}

type availableResource struct {
	Type               string
	SupportedResources struct{ SupportedResource []supportedResource }
}

type supportedResource struct{ Value, StatusCategory string }

// describeAvailable is DescribeAvailableResource, which knows the same stock as
// CreateContainerGroup.
func (s *Server) describeAvailable(c *call) (map[string]any, *apiError) {
	req := c.members
	if err := oneOf(req, "DestinationResource.Category", []string{"InstanceTypeFamily", "InstanceType"}); err != nil {
		return nil, err
	}
	if err := checkSpot(req, "SpotResource."); err != nil {
		return nil, err
	}
	groups, err := askedTypes(c)
	if err != nil {
		return nil, err
	}
	region, _ := s.region(req.str("RegionId"))
	zones := region.Zones
	if zone := req.str("ZoneId"); zone != "" {
		if !slices.Contains(zones, zone) {
			return nil, publishedRefusal(c.action, "InvalidParameter.NotFound", "The zone "+clip(zone)+" does not exist.")
		}
		zones = []string{zone}
	}
	list := []availableZone{}
	affordable := false
	for _, zone := range zones {
		resource := availableResource{Type: req.str("DestinationResource.Category")}
		for _, value := range slices.Sorted(maps.Keys(groups)) {
			status := "WithoutStock"
			for _, name := range groups[value] {
				l := lotOf(req.get("SpotResource"), region.ID, zone, name, instanceTypes[name], wantsSpot(req.get("SpotResource")))
				if !s.market.affordable(l) {
					continue
				}
				affordable = true
				if s.market.shortage(l) == nil {
					status = "WithStock"
				}
			}
			resource.SupportedResources.SupportedResource = append(resource.SupportedResources.SupportedResource, supportedResource{value, status})
		}
		z := availableZone{RegionID: region.ID, ZoneID: zone}
		z.AvailableResources.AvailableResource = []availableResource{resource}
		list = append(list, z)
	}
	if !affordable {
		return nil, publishedRefusal(c.action, "Spot.NotMatched", "The SpotPriceLimit is below the market price")
	}
	return map[string]any{"AvailableZones": map[string]any{"AvailableZone": list}}, nil
}

// askedTypes maps each value that is asked for, a family or an instance type, to
// its instance types.
func askedTypes(c *call) (map[string][]string, *apiError) {
	req := c.members
	destination := req.get("DestinationResource")
	value := destination.str("Value")
	family := destination.str("Category") == "InstanceTypeFamily"
	want := size{destination.number("Cores"), destination.number("Memory")}
	switch {
	case family && value == "":
		return nil, publishedRefusal(c.action, "MissingParameter", "DestinationResource.Value is mandatory for the category InstanceTypeFamily.")
	case family && wantsSpot(req.get("SpotResource")):
		return nil, publishedRefusal(c.action, "InvalidParameter", "Spot resources are asked for by the category InstanceType.")
	case !family && value == "" && (want.cpu == 0 || want.gib == 0):
		return nil, publishedRefusal(c.action, "MissingParameter", "DestinationResource.Value, or Cores and Memory, is mandatory for the category InstanceType.")
	}
	out := map[string][]string{}
	for name, sz := range instanceTypes {
		switch {
		case family:
			if strings.HasPrefix(name, value+".") {
				out[value] = append(out[value], name)
			}
		case value != "" && name == value, value == "" && sz == want:
			out[name] = []string{name}
		}
	}
	if len(out) == 0 {
		return nil, publishedRefusal(c.action, "InvalidParameter.NotFound", "There is no "+cmp.Or(clip(value), "instance type of that size")+".")
	}
	return out, nil
}
