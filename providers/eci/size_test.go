package eci

import (
	"testing"

	"github.com/autoburst/autoburst/policy/burstable"
)

func TestSpecFor(t *testing.T) {
	const gib = 1 << 30
	tests := map[string]struct {
		want burstable.Size
		spec Spec
		ok   bool
	}{
		"nothing asked":           {burstable.Size{}, Spec{2000, 4096}, true},
		"smallest":                {burstable.Size{MilliCPU: 1, MemoryBytes: 1}, Spec{250, 512}, true},
		"exact":                   {burstable.Size{MilliCPU: 4000, MemoryBytes: 16 * gib}, Spec{4000, 16384}, true},
		"a byte more":             {burstable.Size{MilliCPU: 4000, MemoryBytes: 16*gib + 1}, Spec{4000, 32768}, true},
		"odd":                     {burstable.Size{MilliCPU: 7000, MemoryBytes: 13 * gib}, Spec{8000, 16384}, true},
		"CPU alone":               {burstable.Size{MilliCPU: 1000}, Spec{1000, 2048}, true},
		"memory alone":            {burstable.Size{MemoryBytes: 8 * gib}, Spec{1000, 8192}, true},
		"more CPU for the memory": {burstable.Size{MilliCPU: 250, MemoryBytes: 64 * gib}, Spec{8000, 65536}, true},
		"largest":                 {burstable.Size{MilliCPU: 64000, MemoryBytes: 512 * gib}, Spec{64000, 524288}, true},
		"too much CPU":            {burstable.Size{MilliCPU: 64001}, Spec{}, false},
		"too much memory":         {burstable.Size{MemoryBytes: 512*gib + 1}, Spec{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			spec, ok := SpecFor(tt.want)
			if spec != tt.spec || ok != tt.ok {
				t.Errorf("SpecFor(%+v) = %+v, %v, want %+v, %v", tt.want, spec, ok, tt.spec, tt.ok)
			}
		})
	}
}
