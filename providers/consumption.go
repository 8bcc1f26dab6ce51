package providers

import (
	"context"
	"time"
)

// ConsumptionReader is what a [Provider] may do beside: tell what the containers of
// groups use of their CPU and memory.
type ConsumptionReader interface {
	// ConsumptionTerms says how the cloud is to be asked.
	ConsumptionTerms() ConsumptionTerms

	// Consumption returns the newest measurements of groups of this virtual node, by
	// ID, at most ConsumptionTerms.Batch of them. What the answer lacks is unknown,
	// not zero. It may need a right that Create does not. It waits for no request
	// quota that other calls could use.
	Consumption(ctx context.Context, ids []string) (map[string][]ContainerConsumption, error)
}

// ConsumptionTerms say how a cloud is to be asked for measurements.
type ConsumptionTerms struct {
	// Batch is how many groups one call can ask for.
	Batch int
	// Every is how often the cloud has something new of a group: to ask more often
	// costs calls and tells nothing.
	Every time.Duration
	// PerSecond bounds the calls in the long run, so that they leave the account's
	// request quota to those that pods depend on.
	PerSecond float64
	// Fresh is the age up to which a measurement stands for the present.
	Fresh time.Duration
}

// ContainerConsumption is what one container was measured to use. What the cloud
// does not tell is nil.
type ContainerConsumption struct {
	// Name is the container's in the pod.
	Name string
	// At is when it was measured or, of averages, up to when.
	At time.Time
	// Since is from when on CPUNanoseconds were counted: zero for the start of the
	// container's present run.
	Since time.Time
	// CPUNanoseconds is the time that it has used of one CPU since then, in total. It
	// does not decrease as long as Since stays.
	CPUNanoseconds *uint64
	// CPUNanoCores is how many nanoseconds of CPU it used in a second, at last.
	CPUNanoCores *uint64
	// WorkingSetBytes is the memory that cannot be taken back, UsageBytes all of it,
	// RSSBytes the anonymous part, AvailableBytes what is left up to the limit.
	WorkingSetBytes, UsageBytes, RSSBytes, AvailableBytes *uint64
}
