package burstable

import (
	"regexp"
	"strconv"
)

// generalType is the name of a type of the compute, general, memory and
// high-frequency families, whose size follows from it: a large has 2 vCPUs, an
// N-xlarge 4 N, and for each vCPU come 2, 4 or 8 GiB (ECS, "Instance families").
var generalType = regexp.MustCompile(`^ecs\.(?:hf)?([cgr])[5-9][a-z]*\.(?:(large)|(\d*)xlarge)$`)

var gibPerCPU = map[string]int64{"c": 2, "g": 4, "r": 8}

// gpuTypes are types with GPUs whose size does not follow from their name (ECS,
// "GPU-accelerated compute-optimized instance families").
var gpuTypes = map[string]struct{ cpu, gib, gpus int64 }{
	"ecs.gn6i-c4g1.xlarge":    {4, 15, 1},
	"ecs.gn6i-c8g1.2xlarge":   {8, 31, 1},
	"ecs.gn6i-c16g1.4xlarge":  {16, 62, 1},
	"ecs.gn6i-c24g1.6xlarge":  {24, 93, 1},
	"ecs.gn6i-c24g1.12xlarge": {48, 186, 2},
	"ecs.gn6i-c24g1.24xlarge": {96, 372, 4},
	"ecs.gn6v-c8g1.2xlarge":   {8, 32, 1},
	"ecs.gn6v-c8g1.8xlarge":   {32, 128, 4},
	"ecs.gn6v-c8g1.16xlarge":  {64, 256, 8},
	"ecs.gn6v-c10g1.20xlarge": {82, 336, 8},
	"ecs.gn7i-c8g1.2xlarge":   {8, 30, 1},
	"ecs.gn7i-c16g1.4xlarge":  {16, 60, 1},
	"ecs.gn7i-c32g1.8xlarge":  {32, 188, 1},
	"ecs.gn7i-c32g1.16xlarge": {64, 376, 2},
	"ecs.gn7i-c32g1.32xlarge": {128, 752, 4},
}

// InstanceType is what an ECS instance type has. It is not ok for one that this
// version does not know: limits and prices need its size.
func InstanceType(name string) (spec ECISpec, ok bool) {
	if t, known := gpuTypes[name]; known {
		return ECISpec{InstanceType: name, Size: Size{MilliCPU: t.cpu * 1000, MemoryBytes: t.gib << 30}, GPUs: t.gpus}, true
	}
	m := generalType.FindStringSubmatch(name)
	if m == nil {
		return ECISpec{}, false
	}
	cpu := int64(2)
	if m[2] == "" {
		n := int64(1)
		if m[3] != "" {
			var err error
			if n, err = strconv.ParseInt(m[3], 10, 16); err != nil || n < 1 {
				return ECISpec{}, false
			}
		}
		cpu = 4 * n
	}
	return ECISpec{InstanceType: name, Size: Size{MilliCPU: cpu * 1000, MemoryBytes: cpu * gibPerCPU[m[1]] << 30}}, true
}
