package aci

import "github.com/autoburst/autoburst/test/cloud/sim"

// The prices of Linux groups in East US (Azure Retail Prices API, read
// 2026-10-09). How the service rounds fractions of vCPU and GB is not published;
// nothing is rounded here.
var (
	regularPrice = sim.Price{Currency: "USD", CPU: 0.0405 / 3600, MemoryGiB: 0.00445 / 3600}
	spotPrice    = sim.Price{Currency: "USD", CPU: 0.01215 / 3600, MemoryGiB: 0.001335 / 3600}
)

// price is nil for the skus whose prices this package does not know.
func (d groupDefinition) price() *sim.Price {
	switch {
	case d.spot():
		return &spotPrice
	case d.Properties.SKU == "" || d.Properties.SKU == "Standard":
		return &regularPrice
	default:
		return nil
	}
}
