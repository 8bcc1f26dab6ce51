package aci

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

// Sizes are counted in whole steps of what the service sells: CPU in hundredths
// of a vCPU, memory in tenths of a GB (10^9 bytes).
const (
	milliCPUPerStep = 10
	bytesPerStep    = 100_000_000

	// A group has at least 1 vCPU and 1 GB, and at most 31 vCPU and 240 GB
	// (service limits of Azure Container Instances).
	minCPUSteps, minMemorySteps = 100, 10
	maxCPUSteps, maxMemorySteps = 3100, 2400

	// A group in which no container asks for anything gets what the service's
	// own tools ask for by default, 1 vCPU and 1.5 GB.
	defaultCPUSteps, defaultMemorySteps = 100, 15

	// A container that asks for nothing beside others that do gets 0.1 vCPU and
	// 0.1 GB of its own; without a limit it may use the whole group.
	leastCPUSteps, leastMemorySteps = 10, 1
)

// share is what one container gets of one resource, in steps.
type share struct{ request, limit int64 }

// want is what one container asks for of one resource, in steps; zero is
// nothing.
type want struct {
	steps   int64
	bounded bool // it has a limit
}

// sizes says the same to those who count what a pod takes here.
var sizes = burstable.Sizes{
	CPU: &burstable.Steps{
		Step: milliCPUPerStep, Minimum: minCPUSteps * milliCPUPerStep,
		Default: defaultCPUSteps * milliCPUPerStep, Container: leastCPUSteps * milliCPUPerStep,
	},
	Memory: &burstable.Steps{
		Step: bytesPerStep, Minimum: minMemorySteps * bytesPerStep,
		Default: defaultMemorySteps * bytesPerStep, Container: leastMemorySteps * bytesPerStep,
	},
}

// cpuShares and memoryShares divide the group among its containers. What a
// container may use is bought for it (see burstable.ContainerSize); rounding is
// always up.
func cpuShares(spec *providers.GroupSpec) []share {
	wants, initial := wantsOf(spec, corev1.ResourceCPU, func(s burstable.Size) int64 { return ceilDiv(s.MilliCPU, milliCPUPerStep) })
	return apportion(wants, max(initial, minCPUSteps), defaultCPUSteps, leastCPUSteps)
}

func memoryShares(spec *providers.GroupSpec) []share {
	wants, initial := wantsOf(spec, corev1.ResourceMemory, func(s burstable.Size) int64 { return ceilDiv(s.MemoryBytes, bytesPerStep) })
	return apportion(wants, max(initial, minMemorySteps), defaultMemorySteps, leastMemorySteps)
}

// wantsOf returns what the containers want, and what the largest init container
// wants: init containers have no resources of their own but use the group's.
func wantsOf(spec *providers.GroupSpec, name corev1.ResourceName, steps func(burstable.Size) int64) (wants []want, initial int64) {
	for i := range spec.Containers {
		resources := &spec.Containers[i].Resources
		limit, bounded := resources.Limits[name]
		wants = append(wants, want{steps: steps(burstable.ContainerSize(resources)), bounded: bounded && !limit.IsZero()})
	}
	for i := range spec.InitContainers {
		initial = max(initial, steps(burstable.ContainerSize(&spec.InitContainers[i].Resources)))
	}
	return wants, initial
}

// apportion gives every container a request so that the group reaches minimum,
// and a limit: its own, or the whole group.
func apportion(wants []want, minimum, fallback, least int64) []share {
	shares := make([]share, len(wants))
	asked, total := false, int64(0)
	for _, w := range wants {
		asked = asked || w.steps > 0
	}
	for i, w := range wants {
		shares[i].request = w.steps
		if w.steps == 0 {
			shares[i].request = least
		}
		total += shares[i].request
	}
	if !asked {
		minimum = max(minimum, fallback)
	}
	if lack := minimum - total; lack > 0 {
		// To the first container that may use it, else to the first.
		first := 0
		for i, w := range wants {
			if !w.bounded {
				first = i
				break
			}
		}
		shares[first].request += lack
		total = minimum
	}
	for i, w := range wants {
		shares[i].limit = total
		if w.bounded {
			shares[i].limit = shares[i].request
		}
	}
	return shares
}

func ceilDiv(n, step int64) int64 {
	if n <= 0 {
		return 0
	}
	return (n-1)/step + 1
}

func sum(shares []share) int64 {
	var total int64
	for _, s := range shares {
		total += s.request
	}
	return total
}
