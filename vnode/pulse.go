package vnode

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/autoburst/autoburst/providers"
)

const (
	// failingCalls is how many calls of one operation must fail in a row, and
	// failingFor for how long, before it counts as failing.
	failingCalls = 3
	failingFor   = 20 * time.Second
	// throttledFor is that of calls that the cloud only has no time for.
	throttledFor = time.Minute
	// silentAfter is after how long without a call nothing is known of one.
	silentAfter = 5 * time.Minute
)

// pulse follows how the calls of each operation end, since a cloud may answer some
// of them and fail at others.
type pulse struct {
	mu  sync.Mutex
	ops map[string]*beats
}

// beats are the failures of one operation in a row.
type beats struct {
	failures    int
	since, last time.Time
	first       error
}

func newPulse() *pulse { return &pulse{ops: map[string]*beats{}} }

// heard is told how a call has ended, and tells whether that operation works again
// after it had failed.
func (p *pulse) heard(operation string, err error, now time.Time) (mended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	class := providers.ClassOf(err)
	b := p.ops[operation]
	if !trouble(class) && class != providers.Throttled {
		delete(p.ops, operation)
		return b != nil && b.failing(now)
	}
	if b == nil {
		b = &beats{since: now, first: err}
		p.ops[operation] = b
	}
	b.failures++
	b.last = now
	return false
}

func (b *beats) failing(now time.Time) bool {
	least := failingFor
	if providers.ClassOf(b.first) == providers.Throttled {
		least = throttledFor
	}
	return b.failures >= failingCalls && now.Sub(b.since) >= least && now.Sub(b.last) < silentAfter
}

// failing says which operations fail, since when and why, and of which class the
// first of these errors is; empty when all is well. It says the same as long as the
// same operations fail.
func (p *pulse) failing(now time.Time) (class providers.ErrorClass, text string, operations []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for op, b := range p.ops {
		if b.failing(now) {
			operations = append(operations, op)
		}
	}
	slices.Sort(operations)
	parts := make([]string, len(operations))
	for i, op := range operations {
		b := p.ops[op]
		if class == "" {
			class = providers.ClassOf(b.first)
		}
		parts[i] = fmt.Sprintf("%s since %s: %s", op, clockTime(b.since), clipped(b.first))
	}
	return class, strings.Join(parts, "; "), operations
}

// clockTime is a time of this day as a message shows it.
func clockTime(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }
