package vnode

import (
	"fmt"
	"maps"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/autoburst/autoburst/policy/burstable"
	"github.com/autoburst/autoburst/providers"
)

const (
	// usageInterval is the time between two readings of the account's quota,
	// usagePause the least, and usageRefused that after the cloud had refused to tell.
	usageInterval = time.Minute
	usagePause    = 10 * time.Second
	usageRefused  = 10 * time.Minute
	// usageStale is the age from which a reading that cannot be repeated tells nothing.
	usageStale = 10 * time.Minute
	// freeAgain is from how many pods of growth on a measured bound is given up.
	freeAgain = 64
)

// holding is what the pods of the node hold that have a group which has not ended.
type holding struct {
	// pods, milliCPU and memory are what the scheduler counts for them, by their
	// requests; soldCPU is what the cloud counts.
	pods, milliCPU, memory, soldCPU int64
}

// room is how much the scheduler may place on the node: what the operator allows,
// and no more than the account has left beside what it holds already.
//
// The cloud counts whole sizes and the scheduler counts requests. What is left is
// therefore added to the requests of what runs, not to its sizes: then the scheduler
// finds free just what the cloud has free.
type room struct {
	limit corev1.ResourceList
	// smallest is the least CPU that the cloud sells, usual the size that a pod gets
	// which asks for none. memoryPerCPU is the most memory, in bytes, that is sold with
	// one vCPU; zero where the two are sold apart.
	smallest     int64
	usual        burstable.Size
	memoryPerCPU int64

	// usage is the last reading, nil if there is none, of when, and ours what the
	// node's pods held then.
	usage *providers.Usage
	at    time.Time
	ours  holding

	// bound stands in for a reading: what was held when the quota was refused, and
	// how many pods more are tried.
	bound *bound
}

type bound struct {
	held  holding
	grown int64
	at    time.Time // when it last changed
}

func newRoom(limit corev1.ResourceList, c burstable.Capabilities) *room {
	r := &room{limit: limit, smallest: 1}
	s := c.Sizes
	if s == nil {
		return r
	}
	if o := s.Offers; o != nil && len(o.Rows) > 0 {
		r.smallest, r.usual = o.Rows[0].MilliCPU, o.Default
		for _, row := range o.Rows {
			for _, m := range row.MemoryBytes {
				r.memoryPerCPU = max(r.memoryPerCPU, m/row.MilliCPU*1000+m%row.MilliCPU*1000/row.MilliCPU)
			}
		}
	}
	if s.CPU != nil {
		r.smallest, r.usual.MilliCPU = max(1, s.CPU.Minimum), s.CPU.Default
	}
	if s.Memory != nil {
		r.usual.MemoryBytes = s.Memory.Default
	}
	return r
}

// read takes in a reading of the quota; ours is what was held before it was asked
// for.
func (r *room) read(u providers.Usage, ours holding, now time.Time) {
	r.usage, r.ours, r.at = &u, ours, now
	if r.knows() {
		r.bound = nil
	}
}

// knows tells whether the cloud tells of a quota.
func (r *room) knows() bool {
	return r.usage != nil && (r.usage.Groups != nil || r.usage.MilliCPU != nil)
}

// refused notes that the quota was refused while so much was held.
func (r *room) refused(held holding, now time.Time) {
	if !r.knows() {
		r.bound = &bound{held: held, at: now}
	}
}

// grow lets a few pods more be placed than were held when the quota was refused, as
// one was taken, or nothing refused for long.
func (r *room) grow(now time.Time) {
	b := r.bound
	if b == nil {
		return
	}
	b.at = now
	if b.grown = max(1, 2*b.grown); b.grown > freeAgain {
		r.bound = nil
	}
}

// free is what the account has left now: the reading, less what was made since.
// Negative is unknown.
func (r *room) free(held holding) (groups, milliCPU int64) {
	groups, milliCPU = -1, -1
	if r.usage == nil {
		return groups, milliCPU
	}
	if m := r.usage.Groups; m != nil {
		groups = max(0, m.Free()-max(0, held.pods-r.ours.pods))
	}
	if m := r.usage.MilliCPU; m != nil {
		milliCPU = max(0, m.Free()-max(0, held.soldCPU-r.ours.soldCPU))
	}
	return groups, milliCPU
}

// fits tells whether a pod of the size would meet the quota, as far as is known.
func (r *room) fits(size burstable.Size, held holding) bool {
	groups, cpu := r.free(held)
	return groups != 0 && (cpu < 0 || cpu >= max(r.smallest, size.MilliCPU))
}

// exhausted says which quota leaves no room for even the smallest pod; empty if none
// does.
func (r *room) exhausted(held holding) string {
	groups, cpu := r.free(held)
	var parts []string
	if groups == 0 {
		parts = append(parts, fmt.Sprintf("%d container groups", r.usage.Groups.Limit))
	}
	if cpu >= 0 && cpu < r.smallest {
		parts = append(parts, fmt.Sprintf("%s vCPU", resource.NewMilliQuantity(r.usage.MilliCPU.Limit, resource.DecimalSI)))
	}
	if len(parts) == 0 {
		return ""
	}
	return fmt.Sprintf("The account's quota of %s in this region is used up, by whatever uses it. Ask the cloud for more, or end something.", strings.Join(parts, " and "))
}

// allocatable is what the node shows, never less than what is held.
func (r *room) allocatable(held holding) corev1.ResourceList {
	out := maps.Clone(r.limit)
	lower := func(name corev1.ResourceName, most, least int64) {
		most = max(most, least)
		limit := out[name]
		switch {
		case name == corev1.ResourceCPU && limit.MilliValue() > most:
			out[name] = *resource.NewMilliQuantity(most, resource.DecimalSI)
		case name != corev1.ResourceCPU && limit.Value() > most:
			out[name] = *resource.NewQuantity(most, limit.Format)
		}
	}
	switch {
	case r.knows():
		if m := r.usage.Groups; m != nil {
			lower(corev1.ResourcePods, r.ours.pods+m.Free(), held.pods)
		}
		if m := r.usage.MilliCPU; m != nil {
			lower(corev1.ResourceCPU, r.ours.milliCPU+m.Free(), held.milliCPU)
			if cpu := r.limit[corev1.ResourceCPU]; r.memoryPerCPU > 0 && m.Free() < cpu.MilliValue() {
				lower(corev1.ResourceMemory, r.ours.memory+m.Free()*r.memoryPerCPU/1000, held.memory)
			}
		}
	case r.bound != nil:
		b := r.bound
		lower(corev1.ResourcePods, b.held.pods+b.grown, held.pods)
		lower(corev1.ResourceCPU, b.held.milliCPU+b.grown*max(r.usual.MilliCPU, 1000), held.milliCPU)
	}
	return out
}

// worthShowing tells whether a change of what the node shows could matter to the
// scheduler: not while both leave far more than it would place soon.
func worthShowing(shown, next corev1.ResourceList, held holding) bool {
	if shown == nil {
		return true
	}
	for _, part := range []struct {
		name corev1.ResourceName
		held int64
	}{{corev1.ResourcePods, held.pods}, {corev1.ResourceCPU, held.milliCPU}, {corev1.ResourceMemory, held.memory}} {
		a, b := shown[part.name], next[part.name]
		was, is := a.Value(), b.Value()
		if part.name == corev1.ResourceCPU {
			was, is = a.MilliValue(), b.MilliValue()
		}
		if was == is {
			continue
		}
		if change := max(was-is, is-was); change*10 >= min(was, is)-part.held {
			return true
		}
	}
	return false
}
