package eci

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
)

// size is a machine's size.
type size struct{ cpu, gib float64 }

// sizeTableJSON maps vCPUs, as text, to the memory sizes offered with them.
type sizeTableJSON map[string][]float64

// round returns the smallest offered size that holds the wanted one: the next
// number of vCPUs, and with it the next memory size. It is false if that many
// vCPUs are not offered with that much memory.
func (t sizeTableJSON) round(want size) (size, bool) {
	offered := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Compare(cpus(a), cpus(b)) })
	for _, c := range offered {
		if cpus(c) < want.cpu {
			continue
		}
		for _, gib := range t[c] {
			if gib >= want.gib {
				return size{cpus(c), gib}, true
			}
		}
		return size{}, false
	}
	return size{}, false
}

func cpus(text string) float64 {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic("size table has the vCPU number " + text)
	}
	return f
}

// instanceTypes are ECS types that may be asked for by name: the compute,
// general and memory families in their public sizes.
var instanceTypes = func() map[string]size {
	out := map[string]size{}
	ratios := map[string]float64{"ecs.c6.": 2, "ecs.g6.": 4, "ecs.r6.": 8, "ecs.c7.": 2, "ecs.g7.": 4, "ecs.r7.": 8}
	names := map[string]float64{"large": 2, "xlarge": 4, "2xlarge": 8, "4xlarge": 16}
	for family, gib := range ratios {
		for name, cpu := range names {
			out[family+name] = size{cpu, cpu * gib}
		}
	}
	for name, t := range gpuTypes {
		out[name] = t.size
	}
	return out
}()

// gpuTypes are some of the types with GPUs.
var gpuTypes = map[string]struct {
	size size
	gpus int
}{
	"ecs.gn6i-c4g1.xlarge":  {size{4, 15}, 1},
	"ecs.gn6i-c8g1.2xlarge": {size{8, 31}, 1},
	"ecs.gn6v-c8g1.8xlarge": {size{32, 128}, 4},
	"ecs.gn7i-c8g1.2xlarge": {size{8, 30}, 1},
}

// groupSize is the size that a request asks for and the size it gets.
//
// The group's own Cpu and Memory count; what is not given is the sum of the
// containers; if these say nothing either, the default of 2 vCPU and 4 GiB.
func groupSize(req *member, spot bool) (size, *apiError) {
	const action = "CreateContainerGroup"
	for _, name := range []string{"Cpu", "Memory"} {
		if req.has(name) && req.number(name) <= 0 {
			return size{}, publishedRefusal(action, "InvalidParameter.CPU.Memory")
		}
	}
	var sum, largest size
	for _, c := range req.list("Container") {
		if c.number("Cpu") < 0 || c.number("Memory") < 0 {
			return size{}, publishedRefusal(action, "InvalidParameter.CPU.Memory")
		}
		sum.cpu += c.number("Cpu")
		sum.gib += c.number("Memory")
	}
	for _, c := range req.list("InitContainer") {
		largest.cpu = max(largest.cpu, c.number("Cpu"))
		largest.gib = max(largest.gib, c.number("Memory"))
	}
	want := size{req.number("Cpu"), req.number("Memory")}
	if (want.cpu > 0 && tooSmall(want.cpu, sum.cpu, largest.cpu)) || (want.gib > 0 && tooSmall(want.gib, sum.gib, largest.gib)) {
		return size{}, publishedRefusal(action, "InvalidParameter.CPU.Memory")
	}
	if want.cpu == 0 {
		want.cpu = max(sum.cpu, largest.cpu)
	}
	if want.gib == 0 {
		want.gib = max(sum.gib, largest.gib)
	}
	facts := published().facts
	if want.cpu == 0 && want.gib == 0 {
		want = size{facts.Default.VCPU, facts.Default.GiB}
	}
	return offeredSize(want, spot)
}

// offeredSize is the smallest size on offer that holds the wanted one.
func offeredSize(want size, spot bool) (size, *apiError) {
	const action = "CreateContainerGroup"
	if spot && want.cpu < 2 {
		return size{}, publishedRefusal(action, "InvalidSpotCpuMemorySpec")
	}
	facts := published().facts
	table := facts.Sizes.Table
	if spot && want.cpu <= 16 {
		table = facts.SpotSizes.Table
	}
	got, ok := table.round(want)
	switch {
	case !ok && spot:
		return size{}, publishedRefusal(action, "InvalidSpotCpuMemorySpec")
	case !ok:
		return size{}, publishedRefusal(action, "InvalidParameter.CPU.Memory")
	}
	return got, nil
}

// tooSmall allows for the sum of decimal fractions.
func tooSmall(group, sum, largest float64) bool { return max(sum, largest) > group+1e-6 }
