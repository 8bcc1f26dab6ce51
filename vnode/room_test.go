package vnode

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

func TestRoom(t *testing.T) {
	offers := burstable.Capabilities{Sizes: &burstable.Sizes{Offers: &burstable.Offers{
		Rows:    []burstable.Offer{{MilliCPU: 250, MemoryBytes: []int64{1 << 29, 1 << 30}}, {MilliCPU: 1000, MemoryBytes: []int64{2 << 30, 8 << 30}}},
		Default: burstable.Size{MilliCPU: 1000, MemoryBytes: 2 << 30},
	}}}
	limit := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("100"), corev1.ResourceMemory: resource.MustParse("1000Gi"), corev1.ResourcePods: resource.MustParse("50"),
	}
	meter := func(used, limit int64) *providers.Meter { return &providers.Meter{Used: used, Limit: limit} }
	ten := holding{pods: 10, milliCPU: 5000, memory: 20 << 30, soldCPU: 10000}
	type shown struct {
		CPU, Memory, Pods string
		Exhausted         bool
	}
	for name, c := range map[string]struct {
		do   func(*room)
		held holding
		want shown
	}{
		"nothing known": {func(*room) {}, ten, shown{"100", "1000Gi", "50", false}},
		"no quota":      {func(r *room) { r.read(providers.Usage{}, ten, time.Time{}) }, ten, shown{"100", "1000Gi", "50", false}},
		"far from the quota": {func(r *room) {
			r.read(providers.Usage{Groups: meter(10, 5000), MilliCPU: meter(10000, 9e6)}, ten, time.Time{})
		}, ten, shown{"100", "1000Gi", "50", false}},
		"quota of groups":         {func(r *room) { r.read(providers.Usage{Groups: meter(20, 30)}, ten, time.Time{}) }, ten, shown{"100", "1000Gi", "20", false}},
		"requests and sizes":      {func(r *room) { r.read(providers.Usage{MilliCPU: meter(10000, 14000)}, ten, time.Time{}) }, ten, shown{"9", "52Gi", "50", false}},
		"no group left":           {func(r *room) { r.read(providers.Usage{Groups: meter(30, 30)}, ten, time.Time{}) }, ten, shown{"100", "1000Gi", "10", true}},
		"less than any size left": {func(r *room) { r.read(providers.Usage{MilliCPU: meter(13800, 14000)}, ten, time.Time{}) }, ten, shown{"5200m", "23192823398", "50", true}},
		"the smallest size left":  {func(r *room) { r.read(providers.Usage{MilliCPU: meter(13750, 14000)}, ten, time.Time{}) }, ten, shown{"5250m", "22Gi", "50", false}},
		"quota lowered": {func(r *room) {
			r.read(providers.Usage{Groups: meter(30, 5), MilliCPU: meter(30000, 1000)}, ten, time.Time{})
		}, ten, shown{"5", "20Gi", "10", true}},
		"what was made since":      {func(r *room) { r.read(providers.Usage{Groups: meter(5, 10)}, holding{pods: 5}, time.Time{}) }, ten, shown{"100", "1000Gi", "10", true}},
		"what has ended since":     {func(r *room) { r.read(providers.Usage{Groups: meter(12, 12)}, holding{pods: 12}, time.Time{}) }, ten, shown{"100", "1000Gi", "12", true}},
		"refused, nothing told":    {func(r *room) { r.refused(ten, time.Time{}) }, ten, shown{"5", "1000Gi", "10", false}},
		"refused, then taken":      {func(r *room) { r.refused(ten, time.Time{}); r.grow(time.Time{}); r.grow(time.Time{}) }, ten, shown{"7", "1000Gi", "12", false}},
		"refused, then some ended": {func(r *room) { r.refused(holding{pods: 12, milliCPU: 6000}, time.Time{}) }, ten, shown{"6", "1000Gi", "12", false}},
		"refused, often taken": {func(r *room) {
			r.refused(ten, time.Time{})
			for range 8 {
				r.grow(time.Time{})
			}
		}, ten, shown{"100", "1000Gi", "50", false}},
		"refused, but told": {func(r *room) {
			r.read(providers.Usage{Groups: meter(10, 40)}, ten, time.Time{})
			r.refused(ten, time.Time{})
		}, ten, shown{"100", "1000Gi", "40", false}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(limit, offers)
			c.do(r)
			a := r.allocatable(c.held)
			got := shown{a.Cpu().String(), a.Memory().String(), a.Pods().String(), r.exhausted(c.held) != ""}
			want := c.want
			if q := resource.MustParse(want.Memory); q.Cmp(*a.Memory()) == 0 {
				got.Memory = want.Memory
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
