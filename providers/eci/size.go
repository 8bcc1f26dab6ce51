package eci

import "github.com/autoburst/autoburst/policy/burstable"

// Spec is a size that ECI sells: thousandths of a vCPU, and memory.
type Spec struct {
	MilliCPU int64
	// MemoryMiB is in MiB.
	MemoryMiB int64
}

// sizes are the published pairs of vCPU and memory, smallest CPU first
// (alibabacloud.com help 114662, "vCPU and memory", 2026-06-20). Some regions
// sell more. The default is what ECI gives to a group that names no size (the
// same page). The weights, of CPU against memory where more than one size would
// hold a pod, are the published prices in millionths of a USD cent per hour:
// 0.02772 USD per vCPU-hour and 0.003456 USD per GiB-hour (ECI billing page,
// 2025-11-04).
var sizes = burstable.Sizes{Offers: &burstable.Offers{
	Rows: []burstable.Offer{
		offerOf(250, 0.5, 1),
		offerOf(500, 1, 2),
		offerOf(1000, 2, 4, 8),
		offerOf(2000, 1, 2, 4, 8, 16),
		offerOf(4000, 2, 4, 8, 16, 32),
		offerOf(8000, 4, 8, 16, 32, 64),
		offerOf(12000, 12, 24, 48, 96),
		offerOf(16000, 16, 32, 64, 128),
		offerOf(24000, 24, 48, 96, 192),
		offerOf(32000, 32, 64, 128, 256),
		offerOf(52000, 96, 192, 384),
		offerOf(64000, 128, 256, 512),
	},
	Default:      burstable.Size{MilliCPU: 2000, MemoryBytes: 4 << 30},
	CPUWeight:    2772,
	MemoryWeight: 345.6,
}}

// spotOffers are those of the sizes that are sold as spot instances (the same page):
// from 2 vCPUs, and none with less memory than 1 GiB for each.
var spotOffers = burstable.Offers{
	Rows: []burstable.Offer{
		offerOf(2000, 2, 4, 8, 16),
		offerOf(4000, 4, 8, 16, 32),
		offerOf(8000, 8, 16, 32, 64),
		offerOf(12000, 12, 24, 48, 96),
		offerOf(16000, 16, 32, 64, 128),
		offerOf(24000, 24, 48, 96, 192),
		offerOf(32000, 32, 64, 128, 256),
		offerOf(52000, 96, 192, 384),
		offerOf(64000, 128, 256, 512),
	},
	Default:      sizes.Offers.Default,
	CPUWeight:    sizes.Offers.CPUWeight,
	MemoryWeight: sizes.Offers.MemoryWeight,
}

func offerOf(milliCPU int64, gib ...float64) burstable.Offer {
	o := burstable.Offer{MilliCPU: milliCPU}
	for _, g := range gib {
		o.MemoryBytes = append(o.MemoryBytes, int64(g*(1<<30)))
	}
	return o
}

const (
	maxMilliCPU    = 64000
	maxMemoryBytes = 512 << 30
)

// SpecFor returns the cheapest size that holds want; ok is false if ECI sells
// none. A pod that names neither CPU nor memory gets ECI's own default. A pod
// that names one of them gets the cheapest size with that much of it.
func SpecFor(want burstable.Size) (spec Spec, ok bool) {
	size, ok := sizes.Offers.Cheapest(want)
	return Spec{MilliCPU: size.MilliCPU, MemoryMiB: size.MemoryBytes >> 20}, ok
}
