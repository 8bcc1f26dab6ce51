package vnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"github.com/autoburst/autoburst/policy/v1alpha1"
	"github.com/autoburst/autoburst/providers"
)

// ElectionSettings say how the replicas of an agent elect the one that keeps the
// node and its groups.
//
// With the defaults another replica leads at most 17 s after the leader was killed:
// a replica looks at the Lease every 1.5 to 3.3 s, so it may learn of the last
// renewal 3.3 s late, waits 10 s from there, and looks again up to 3.3 s later.
// What is left of 20 s is for the first listing of the cloud. A leader that stops
// by itself gives the Lease up, which the next look finds.
type ElectionSettings struct {
	// Namespace and Name are the Lease's. Without a name nobody is elected: the
	// agent works as long as it runs.
	Namespace, Name string
	// Identity tells this replica from the others; the name of its pod. A container
	// that is started again in the leader's pod holds the Lease at once.
	Identity string
	// LeaseDuration is for how long others leave a leader alone that does not renew
	// the Lease; whole seconds, 10 by default.
	LeaseDuration time.Duration
	// RenewDeadline is how long after its last renewal a leader writes nothing any
	// more; 7 s by default. The time from there to LeaseDuration is for requests that
	// are under way, and for clocks that run at different speeds.
	RenewDeadline time.Duration
	// RetryPeriod is the time between two renewals, and the shortest between two
	// looks of the other replicas; 1.5 s by default.
	RetryPeriod time.Duration
}

func (s ElectionSettings) withDefaults() ElectionSettings {
	orDefault(&s.LeaseDuration, 10*time.Second)
	orDefault(&s.RenewDeadline, 7*time.Second)
	orDefault(&s.RetryPeriod, 1500*time.Millisecond)
	return s
}

func (s ElectionSettings) enabled() bool { return s.Name != "" }

func (s ElectionSettings) validate() error {
	if !s.enabled() {
		return nil
	}
	var errs []error
	if problems := validation.IsDNS1123Subdomain(s.Name); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("name of the Lease %q: %s", s.Name, problems[0]))
	}
	if problems := validation.IsDNS1123Label(s.Namespace); len(problems) > 0 {
		errs = append(errs, fmt.Errorf("namespace of the Lease %q: %s", s.Namespace, problems[0]))
	}
	if s.Identity == "" {
		errs = append(errs, errors.New("the identity in the election is empty"))
	}
	if s.LeaseDuration%time.Second != 0 {
		errs = append(errs, fmt.Errorf("lease duration is %s, must be whole seconds", s.LeaseDuration))
	}
	if s.LeaseDuration <= s.RenewDeadline {
		errs = append(errs, fmt.Errorf("lease duration is %s, must be longer than the renew deadline, %s", s.LeaseDuration, s.RenewDeadline))
	}
	if jittered := time.Duration(leaderelection.JitterFactor * float64(s.RetryPeriod)); s.RetryPeriod <= 0 || s.RenewDeadline <= jittered {
		errs = append(errs, fmt.Errorf("retry period is %s, must be above zero and, times %g, shorter than the renew deadline, %s",
			s.RetryPeriod, leaderelection.JitterFactor, s.RenewDeadline))
	}
	return errors.Join(errs...)
}

// errNotLeading is why the work of a leader that is one no more changes nothing.
var errNotLeading = errors.New("this agent does not lead its virtual node any more")

// hold is the Lease as one candidate gets, keeps and loses it. It judges by the
// time at which the candidate sent its last renewal, on the monotonic clock, so that
// a process that stood still finds its hold gone with its first look.
type hold struct {
	resourcelock.Interface
	clock    clock.PassiveClock
	settings ElectionSettings

	mu      sync.Mutex
	holder  string    // by the API server's last answer
	heard   time.Time // when that came
	renewed time.Time // when the renewal that succeeded last was sent
	lapsed  bool      // it was not renewed in time, once
}

func newHold(client kubernetes.Interface, node string, s ElectionSettings, clk clock.PassiveClock) *hold {
	lock := &resourcelock.LeaseLock{
		Client: client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: s.Identity},
	}
	if len(validation.IsValidLabelValue(node)) == 0 {
		lock.Labels = map[string]string{v1alpha1.AgentLabel: node}
	}
	lock.LeaseMeta.Namespace, lock.LeaseMeta.Name = s.Namespace, s.Name
	return &hold{Interface: lock, clock: clk, settings: s}
}

// bounded keeps one request that is not answered from using up the time in which
// others could renew the Lease.
func (h *hold) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(h.settings.RenewDeadline/2, time.Second))
}

// Get reads the Lease.
func (h *hold) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	record, raw, err := h.Interface.Get(ctx)
	if err == nil {
		h.mu.Lock()
		h.holder, h.heard = record.HolderIdentity, h.clock.Now()
		h.mu.Unlock()
	}
	return record, raw, err
}

// Create makes the Lease.
func (h *hold) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return h.write(ctx, record, h.Interface.Create)
}

// Update takes the Lease, renews it or gives it up.
func (h *hold) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if record.HolderIdentity == "" {
		// The library gives the Lease up by what it knew before it looked. What a
		// leader that lost it must not do is to take it from the next one.
		h.mu.Lock()
		holder := h.holder
		h.mu.Unlock()
		if holder != h.Identity() {
			return fmt.Errorf("the Lease %s is not given up: %s holds it", h.Describe(), cmp.Or(holder, "nobody"))
		}
	}
	return h.write(ctx, record, h.Interface.Update)
}

func (h *hold) write(ctx context.Context, record resourcelock.LeaderElectionRecord,
	write func(context.Context, resourcelock.LeaderElectionRecord) error,
) error {
	ctx, cancel := h.bounded(ctx)
	defer cancel()
	sent := h.clock.Now()
	if err := write(ctx, record); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.renewed.IsZero() && sent.Sub(h.renewed) >= h.settings.RenewDeadline {
		h.lapsed = true
	}
	h.holder, h.heard, h.renewed = record.HolderIdentity, h.clock.Now(), sent
	return nil
}

// left is for how long the candidate leads if nothing is heard any more; zero or
// less when it does not. Once it was not in time it never leads again: what was not
// its own for a moment may have changed in another's hands.
func (h *hold) left() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lapsed || h.renewed.IsZero() {
		return 0
	}
	left := h.settings.RenewDeadline - h.clock.Since(h.renewed)
	h.lapsed = left <= 0
	return left
}

// state is who leads, and whether that was heard lately.
func (h *hold) state() (holder string, lately bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.holder, !h.heard.IsZero() && h.clock.Since(h.heard) < 2*h.settings.LeaseDuration
}

// stand makes the agent a candidate until ctx ends, again after each loss.
func (a *Agent) stand(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := a.candidacy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// candidacy waits for the Lease, works while it is held, and gives it up once the
// work is done.
func (a *Agent) candidacy(ctx context.Context) error {
	s := a.cfg.Election
	h := newHold(a.client, a.cfg.Node.Name, s, a.clock)
	terms := make(chan context.Context, 1)
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: h, Name: s.Name, ReleaseOnCancel: true,
		LeaseDuration: s.LeaseDuration, RenewDeadline: s.RenewDeadline, RetryPeriod: s.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { terms <- ctx },
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("election of the agent of virtual node %s: %w", a.cfg.Node.Name, err)
	}
	a.hold.Store(h)
	// The Lease is renewed until the last call has ended, whoever wants the agent to
	// stop.
	electing, resign := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer resign()
	wg.Go(func() { elector.Run(electing) })
	select {
	case <-ctx.Done():
	case lead := <-terms:
		a.log.Info("this agent leads", "node", a.cfg.Node.Name, "lease", h.Describe(), "identity", s.Identity)
		a.lead(ctx, lead, h)
	}
	return nil
}

// lead works until ctx ends or the hold is lost. Where it is lost, every call that
// is under way is given up; nothing is sent any more, see [hold.left].
func (a *Agent) lead(ctx, lead context.Context, h *hold) {
	lead, lose := context.WithCancel(lead)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer lose()
	wg.Go(func() {
		defer lose()
		h.lapse(lead, a.clock)
	})
	a.work(ctx, providers.WithPermit(lead, func() error {
		if lead.Err() != nil || h.left() <= 0 {
			return errNotLeading
		}
		return nil
	}))
	if lead.Err() != nil {
		a.log.Warn("this agent leads no more and stands by; its Lease was not renewed in time",
			"node", a.cfg.Node.Name, "lease", h.Describe(), "deadline", h.settings.RenewDeadline)
	}
}

// lapse returns when the Lease was not renewed in time, or ctx ends.
func (h *hold) lapse(ctx context.Context, clk clock.Clock) {
	for {
		left := h.left()
		if left <= 0 {
			return
		}
		timer := clk.NewTimer(left)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C():
		}
	}
}
