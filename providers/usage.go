package providers

import "context"

// UsageReader is what a [Provider] may do beside: tell how much of the account's
// quota is used in the region, by whomever.
type UsageReader interface {
	// Usage makes one read. It may need a right that Create does not.
	Usage(ctx context.Context) (Usage, error)
}

// Usage is what an account uses of its quota in one region.
type Usage struct {
	// Groups counts container groups, MilliCPU thousandths of a vCPU. Nil where the
	// cloud has no such quota or does not tell.
	Groups, MilliCPU *Meter
}

// Meter is one quota and how much of it is used.
type Meter struct{ Used, Limit int64 }

// Free is what is left, never less than zero: a quota may be lowered below what is
// in use.
func (m Meter) Free() int64 { return max(0, m.Limit-m.Used) }
