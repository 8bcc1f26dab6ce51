package burstable

import corev1 "k8s.io/api/core/v1"

// Sizes say what sizes a cloud sells, as data, so that everybody who counts what
// a pod takes there rounds it as the cloud does. One of the two forms is set.
type Sizes struct {
	// Offers are fixed pairs of CPU and memory, of which the cheapest that holds
	// the pod is bought.
	Offers *Offers `json:"offers,omitempty"`
	// CPU, in thousandths of a vCPU, and Memory, in bytes, are sold each in steps.
	CPU    *Steps `json:"cpu,omitempty"`
	Memory *Steps `json:"memory,omitempty"`
}

// Offers are the fixed sizes of a cloud.
type Offers struct {
	// Rows are ordered by CPU, and the memory of each by size.
	Rows []Offer `json:"rows"`
	// Default is bought for a pod that asks for neither CPU nor memory.
	Default Size `json:"default"`
	// CPUWeight, of one vCPU, and MemoryWeight, of one GiB, are their prices in any
	// one unit.
	CPUWeight    float64 `json:"cpuWeight"`
	MemoryWeight float64 `json:"memoryWeight"`
}

// Offer is an amount of CPU and the amounts of memory that it is sold with.
type Offer struct {
	MilliCPU    int64   `json:"milliCPU"`
	MemoryBytes []int64 `json:"memoryBytes"`
}

// Steps are how a cloud sells one resource.
type Steps struct {
	// Step is what is sold whole.
	Step int64 `json:"step"`
	// Minimum is the least for a pod, Default for one of which no container asks
	// for any, Container for a container that asks for none beside others.
	Minimum   int64 `json:"minimum"`
	Default   int64 `json:"default"`
	Container int64 `json:"container"`
}

// Cheapest is the cheapest size that holds want. It is not ok when none does. A
// pod that asks for one of CPU and memory alone gets the cheapest with that much.
func (o *Offers) Cheapest(want Size) (size Size, ok bool) {
	if want.MilliCPU == 0 && want.MemoryBytes == 0 {
		return o.Default, true
	}
	best := 0.0
	for _, row := range o.Rows {
		if row.MilliCPU < want.MilliCPU {
			continue
		}
		for _, memory := range row.MemoryBytes {
			if memory < want.MemoryBytes {
				continue
			}
			cost := float64(row.MilliCPU)/1000*o.CPUWeight + float64(memory)/(1<<30)*o.MemoryWeight
			if !ok || cost < best {
				size, best, ok = Size{MilliCPU: row.MilliCPU, MemoryBytes: memory}, cost, true
			}
			break // the row's next sizes cost more
		}
	}
	return size, ok
}

// Up is the whole steps that hold an amount.
func (s *Steps) Up(amount int64) int64 {
	if amount <= 0 {
		return 0
	}
	return ((amount-1)/s.Step + 1) * s.Step
}

// total is what a pod gets whose containers ask for so much each; init containers
// use what the pod has.
func (s *Steps) total(containers, inits []int64) int64 {
	total, least, asked := int64(0), s.Minimum, false
	for _, n := range containers {
		asked = asked || n > 0
		if n = s.Up(n); n == 0 {
			n = s.Container
		}
		total += n
	}
	for _, n := range inits {
		least = max(least, s.Up(n))
	}
	if !asked {
		least = max(least, s.Default)
	}
	return max(total, least)
}

// SoldSize is what the cloud sells for a pod: SizeOf, rounded as the cloud rounds
// it where its sizes are known. A pod that is larger than anything sold counts as
// it is.
func SoldSize(spec *corev1.PodSpec, c *Capabilities) Size {
	size := SizeOf(spec)
	if c == nil || c.Sizes == nil {
		return size
	}
	if o := c.Sizes.Offers; o != nil {
		if sold, ok := o.Cheapest(size); ok {
			size.MilliCPU, size.MemoryBytes = sold.MilliCPU, sold.MemoryBytes
		}
		return size
	}
	of := func(list []corev1.Container, part func(Size) int64) []int64 {
		out := make([]int64, len(list))
		for i := range list {
			out[i] = part(ContainerSize(&list[i].Resources))
		}
		return out
	}
	if s := c.Sizes.CPU; s != nil {
		cpu := func(s Size) int64 { return s.MilliCPU }
		size.MilliCPU = s.total(of(spec.Containers, cpu), of(spec.InitContainers, cpu))
	}
	if s := c.Sizes.Memory; s != nil {
		memory := func(s Size) int64 { return s.MemoryBytes }
		size.MemoryBytes = s.total(of(spec.Containers, memory), of(spec.InitContainers, memory))
	}
	return size
}
