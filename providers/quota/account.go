package quota

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/providers"
)

// Code is the code of the errors about calls that were not made because they
// would have had to wait too long.
const Code = "WaitingForQuota"

// Account is the quotas of one cloud account, as far as this process may use
// them. It is safe for concurrent use.
type Account struct {
	plan  Plan
	clock clock.WithDelayedExecution
	log   *slog.Logger

	mu     sync.Mutex
	meters map[string]*line
}

// line is a meter and those who wait for it.
type line struct {
	*meter
	waiting []*waiter // by priority, then by arrival
	turn    int
	timer   clock.Timer
	// backlog is how many calls are wanted beside those that wait here.
	backlog int
	// taken is granted at the last look at the demand.
	taken int
}

type waiter struct {
	priority Priority
	since    time.Time
	ready    chan struct{} // closed when the permit is granted
}

// New makes an account of a plan. The settings replace documented rules, by
// operation.
func New(plan Plan, settings Settings, clk clock.WithDelayedExecution, log *slog.Logger) (*Account, error) {
	a := &Account{plan: plan, clock: clk, log: log, meters: map[string]*line{}}
	now := clk.Now()
	for _, q := range plan.Quotas {
		a.meters[q.Operation] = &line{meter: newMeter(settings.apply(q), now)}
	}
	var unknown []string
	for op := range settings.rules {
		if a.meters[op] == nil {
			unknown = append(unknown, op)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fmt.Errorf("quota of %s: there is no such operation; choose among %s", strings.Join(unknown, ", "), strings.Join(a.Operations(), ", "))
	}
	return a, nil
}

// Operations are the names of all operations, sorted.
func (a *Account) Operations() []string {
	names := make([]string, 0, len(a.meters))
	for name := range a.meters {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Create and Delete are the operations that make and remove a group.
func (a *Account) Create() string { return a.plan.Create }

// Delete is the operation that removes a group.
func (a *Account) Delete() string { return a.plan.Delete }

// Key tells the account apart from others. It is not to be shown.
func (a *Account) Key() string { return a.plan.Key }

// Take waits until one more call of an operation may be made. It returns the
// permit that ctx carries, if it is for this operation and was not used yet. The
// caller ends the permit with Done or Cancel.
//
// A call that would have to wait beyond what its priority or half of its
// context's time allows gets a Throttled error with [Code] at once; the rest of
// the context's time is for the call itself.
func (a *Account) Take(ctx context.Context, operation string, priority Priority) (*Permit, error) {
	if p := carried(ctx, a, operation); p != nil {
		return p, nil
	}
	patience := priority.patience()
	if deadline, ok := ctx.Deadline(); ok {
		// The context's time is that of the wall.
		if half := time.Until(deadline) / 2; patience == 0 || half < patience {
			patience = max(half, time.Nanosecond)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	l := a.meters[operation]
	if l == nil {
		a.mu.Unlock()
		return &Permit{}, nil
	}
	now := a.clock.Now()
	if len(l.waiting) == 0 && l.open(now) {
		l.grant()
		a.mu.Unlock()
		return &Permit{account: a, line: l, at: now}, nil
	}
	w := &waiter{priority: priority, since: now, ready: make(chan struct{})}
	at, _ := slices.BinarySearchFunc(l.waiting, priority, func(other *waiter, p Priority) int {
		if other.priority <= p {
			return -1
		}
		return 1
	})
	if wait := l.delay(now, at+1); patience > 0 && wait > patience {
		a.mu.Unlock()
		return nil, tooLong(operation, wait)
	}
	l.waiting = slices.Insert(l.waiting, at, w)
	a.pump(l, now)
	a.mu.Unlock()

	var late <-chan time.Time
	if patience > 0 {
		timer := a.clock.NewTimer(patience)
		defer timer.Stop()
		late = timer.C()
	}
	var err error
	select {
	case <-w.ready:
		return &Permit{account: a, line: l, at: a.clock.Now()}, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-late:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now = a.clock.Now()
	i := slices.Index(l.waiting, w)
	if i < 0 { // granted in the same moment
		if err == nil {
			return &Permit{account: a, line: l, at: now}, nil
		}
		l.cancel()
		a.pump(l, now)
		return nil, err
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	if err == nil {
		err = tooLong(operation, max(patience, l.delay(now, i+1)))
	}
	a.pump(l, now)
	return nil, err
}

func tooLong(operation string, wait time.Duration) error {
	return &providers.Error{
		Class: providers.Throttled, Operation: operation, Code: Code, RetryAfter: wait,
		Message: fmt.Sprintf("not asked for: the account's request quota of %s is used up for %s", operation, wait.Round(time.Second/10)),
	}
}

// oldestEvery is which permit goes to who has waited longest.
const oldestEvery = 8

// pump hands out permits while there are any, and sets the alarm for the next.
// The mutex is held.
func (a *Account) pump(l *line, now time.Time) {
	for len(l.waiting) > 0 && l.open(now) {
		at := 0
		if l.turn++; l.turn%oldestEvery == 0 {
			for i, w := range l.waiting {
				if w.since.Before(l.waiting[at].since) {
					at = i
				}
			}
		}
		w := l.waiting[at]
		l.waiting = slices.Delete(l.waiting, at, at+1)
		l.grant()
		close(w.ready)
	}
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	if len(l.waiting) == 0 {
		return
	}
	// Where calls under way are in the way, their ends pump again.
	wait := max(l.delay(now, 1), time.Microsecond)
	l.timer = a.clock.AfterFunc(wait, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pump(l, a.clock.Now())
	})
}

// Delay estimates how long the n-th of those who wait for an operation will
// wait, counted from 1.
func (a *Account) Delay(operation string, n int) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.meters[operation]
	if l == nil || !l.bounded() && !a.clock.Now().Before(l.closedUntil) {
		return 0
	}
	return l.delay(a.clock.Now(), n)
}

// State is one operation as it stands.
type State struct {
	Operation string
	// Documented and Believed are calls per second in the long run: what the
	// vendor or the operator says, and what the cloud has been found to grant.
	// Zero is no bound.
	Documented, Believed float64
	// Share is the part of it that this process may use.
	Share float64
	// Waiting is how many calls wait.
	Waiting int
	// Closed is for how long no call is made, since the cloud said so.
	Closed time.Duration
	// Throttled is how many answers were refusals for want of quota.
	Throttled int
}

// States are all operations, by name.
func (a *Account) States() []State {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.clock.Now()
	states := make([]State, 0, len(a.meters))
	for _, name := range a.Operations() {
		l := a.meters[name]
		before := l.belief
		l.refresh(now)
		if before < 1 && l.belief == 1 {
			a.note(slog.LevelInfo, "the cloud grants the documented request quota again", l)
		}
		states = append(states, State{
			Operation: name, Documented: l.documented.perSecond(), Believed: l.documented.perSecond() * l.belief,
			Share: l.share, Waiting: len(l.waiting) + l.backlog, Closed: max(0, l.closedUntil.Sub(now)), Throttled: l.throttled,
		})
	}
	return states
}

// Backlog tells how many calls of an operation are wanted but not waiting in
// Take, for the demand.
func (a *Account) Backlog(operation string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.meters[operation]; l != nil {
		l.backlog = n
	}
}

func (a *Account) note(level slog.Level, what string, l *line) {
	if a.log == nil {
		return
	}
	round := func(v float64) float64 { return math.Round(v*100) / 100 }
	documented := l.documented.perSecond()
	a.log.Log(context.Background(), level, what, "operation", l.name,
		"documentedPerSecond", round(documented), "believedPerSecond", round(documented*l.belief),
		"closed", max(0, l.closedUntil.Sub(a.clock.Now())).Round(time.Millisecond))
}
