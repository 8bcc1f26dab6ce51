package eci

import "github.com/autoburst/autoburst/policy/burstable"

// Spec is a size that ECI sells: thousandths of a vCPU, and memory.
type Spec struct {
	MilliCPU int64
	// MemoryMiB is in MiB.
	MemoryMiB int64
}

// specs are the published pairs of vCPU and memory in GiB, smallest CPU first
// (alibabacloud.com help 114662, "vCPU and memory", 2026-06-20). Some regions
// sell more.
var specs = []struct {
	milliCPU int64
	gib      []float64
}{
	{250, []float64{0.5, 1}},
	{500, []float64{1, 2}},
	{1000, []float64{2, 4, 8}},
	{2000, []float64{1, 2, 4, 8, 16}},
	{4000, []float64{2, 4, 8, 16, 32}},
	{8000, []float64{4, 8, 16, 32, 64}},
	{12000, []float64{12, 24, 48, 96}},
	{16000, []float64{16, 32, 64, 128}},
	{24000, []float64{24, 48, 96, 192}},
	{32000, []float64{32, 64, 128, 256}},
	{52000, []float64{96, 192, 384}},
	{64000, []float64{128, 256, 512}},
}

// defaultSpec is what ECI gives to a group that names no size (the same page).
var defaultSpec = Spec{MilliCPU: 2000, MemoryMiB: 4096}

const (
	maxMilliCPU    = 64000
	maxMemoryBytes = 512 << 30
)

// The published prices in millionths of a USD cent per hour, which weigh CPU
// against memory where more than one size would hold a pod: 0.02772 USD per
// vCPU-hour and 0.003456 USD per GiB-hour (ECI billing page, 2025-11-04).
const (
	weightMilliCPU = 2772 // of one vCPU
	weightGiB      = 345.6
)

// SpecFor returns the cheapest size that holds want; ok is false if ECI sells
// none. A pod that names neither CPU nor memory gets ECI's own default. A pod
// that names one of them gets the cheapest size with that much of it.
func SpecFor(want burstable.Size) (spec Spec, ok bool) {
	if want.MilliCPU == 0 && want.MemoryBytes == 0 {
		return defaultSpec, true
	}
	best := 0.0
	for _, s := range specs {
		if s.milliCPU < want.MilliCPU {
			continue
		}
		for _, gib := range s.gib {
			if int64(gib*(1<<30)) < want.MemoryBytes {
				continue
			}
			cost := float64(s.milliCPU)/1000*weightMilliCPU + gib*weightGiB
			if !ok || cost < best {
				spec, best, ok = Spec{MilliCPU: s.milliCPU, MemoryMiB: int64(gib * 1024)}, cost, true
			}
			break // the row's next sizes cost more
		}
	}
	return spec, ok
}
