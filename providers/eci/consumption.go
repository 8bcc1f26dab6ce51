package eci

import (
	"context"
	"encoding/json"
	"time"

	"github.com/autoburst/autoburst/providers"
	"github.com/autoburst/autoburst/providers/quota"
)

const actionMetrics = "DescribeMultiContainerGroupMetric"

var _ providers.ConsumptionReader = (*Provider)(nil)

// ConsumptionTerms are those of DescribeMultiContainerGroupMetric. 4 calls a second
// are half of the 500 a minute that an older page grants, and an eighth of the 2000
// of the present one; they tell of 80 groups.
func (p *Provider) ConsumptionTerms() providers.ConsumptionTerms {
	return providers.ConsumptionTerms{Batch: maxIDs, Every: 15 * time.Second, PerSecond: 4, Fresh: 2 * time.Minute}
}

// measurement is one record of DescribeMultiContainerGroupMetric, as far as it is
// used. The CPU time is a counter since the container's start.
type measurement struct {
	Timestamp  wireTime
	Containers []struct {
		Name   string
		CPU    struct{ UsageNanoCores, UsageCoreNanoSeconds *number }
		Memory struct{ WorkingSet, UsageBytes, RSS, AvailableBytes *number } // names match whatever their case
	}
}

// Consumption reads the newest record of up to 20 groups in one call
// (DescribeMultiContainerGroupMetric, with the RAM action
// eci:DescribeMultiContainerGroupMetric). A group that is not of this node should not
// be asked for: the answer does not tell whose it is.
func (p *Provider) Consumption(ctx context.Context, ids []string) (map[string][]providers.ContainerConsumption, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, incomplete(actionMetrics, "the IDs of groups are no text")
	}
	m := newMembers()
	m.set("ContainerGroupIds", string(text))
	m.set("MetricType", "summary")
	var answer struct {
		MonitorDatas []struct {
			ContainerGroupID string `json:"ContainerGroupId"`
			Records          []measurement
		}
	}
	if err := p.client.call(quota.With(ctx, quota.Measuring), actionMetrics, reads, m, &answer); err != nil {
		return nil, err
	}
	told := make(map[string][]providers.ContainerConsumption, len(answer.MonitorDatas))
	for _, g := range answer.MonitorDatas {
		newest := -1
		for i, r := range g.Records {
			if newest < 0 || r.Timestamp.After(g.Records[newest].Timestamp.Time) {
				newest = i
			}
		}
		if newest >= 0 {
			told[g.ContainerGroupID] = g.Records[newest].containers()
		}
	}
	return told, nil
}

func (r measurement) containers() []providers.ContainerConsumption {
	if r.Timestamp.IsZero() {
		return nil // of no use without its time
	}
	list := make([]providers.ContainerConsumption, 0, len(r.Containers))
	for i := range r.Containers {
		c := &r.Containers[i]
		list = append(list, providers.ContainerConsumption{
			Name: c.Name, At: r.Timestamp.Time,
			CPUNanoseconds: c.CPU.UsageCoreNanoSeconds.amount(), CPUNanoCores: c.CPU.UsageNanoCores.amount(),
			WorkingSetBytes: c.Memory.WorkingSet.amount(), UsageBytes: c.Memory.UsageBytes.amount(),
			RSSBytes: c.Memory.RSS.amount(), AvailableBytes: c.Memory.AvailableBytes.amount(),
		})
	}
	return list
}

// amount is the number where there is one that can be an amount.
func (n *number) amount() *uint64 {
	if n == nil || *n < 0 {
		return nil
	}
	v := uint64(*n)
	return &v
}
