package quota

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/autoburst/autoburst/providers"
)

// Permit is the right to make one call. The zero Permit is one that nothing
// bounds.
type Permit struct {
	account *Account
	line    *line
	at      time.Time

	mu   sync.Mutex
	used bool // handed to a call
	over bool
}

// Done ends a permit whose call was sent, with its error. A throttled answer
// closes the operation for everybody, for as long as the cloud asks.
func (p *Permit) Done(err error) {
	if !p.end() {
		return
	}
	a, l := p.account, p.line
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	var e *providers.Error
	errors.As(err, &e)
	switch {
	case e != nil && e.Class == providers.Throttled:
		if l.refused(now, p.at, e.RetryAfter) {
			a.note(slog.LevelWarn, "the cloud throttles: less is asked of it; its request quota may be shared with others, or lower than documented", l)
		}
	case e != nil && e.Class == providers.Unavailable && e.RetryAfter > 0:
		l.answered(now)
		l.close(now, e.RetryAfter)
	default:
		l.answered(now)
	}
	a.pump(l, now)
}

// Cancel ends a permit whose call was not sent. After Done it does nothing.
func (p *Permit) Cancel() {
	if !p.end() {
		return
	}
	a, l := p.account, p.line
	a.mu.Lock()
	defer a.mu.Unlock()
	l.cancel()
	a.pump(l, a.clock.Now())
}

func (p *Permit) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.account == nil {
		return false
	}
	p.over = true
	return true
}

type permitKey struct{}

// Carry returns a context whose next call of the permit's operation uses it.
func Carry(ctx context.Context, p *Permit) context.Context {
	return context.WithValue(ctx, permitKey{}, p)
}

// carried is the unused permit of a context for an operation, or nil.
func carried(ctx context.Context, a *Account, operation string) *Permit {
	p, ok := ctx.Value(permitKey{}).(*Permit)
	if !ok || p.account != a || p.line.name != operation {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used || p.over {
		return nil
	}
	p.used = true
	return p
}

type priorityKey struct{}

// With returns a context whose reads have a priority.
func With(ctx context.Context, p Priority) context.Context {
	return context.WithValue(ctx, priorityKey{}, p)
}

// PriorityOf is the priority of a context's reads.
func PriorityOf(ctx context.Context) Priority {
	if p, ok := ctx.Value(priorityKey{}).(Priority); ok {
		return p
	}
	return Reading
}

// Postponed tells whether an error is about a call that was not made for want of
// quota, and how long to wait with it.
func Postponed(err error) (time.Duration, bool) {
	var e *providers.Error
	if errors.As(err, &e) && e.Class == providers.Throttled && e.Code == Code {
		return e.RetryAfter, true
	}
	return 0, false
}
