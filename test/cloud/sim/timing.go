package sim

import "time"

// Timing says how long the phases of a group's life take. The zero value makes
// every phase instantaneous.
type Timing struct {
	// Schedule is the time from acceptance until a machine is found.
	Schedule time.Duration
	// Pull is the time to pull one image that the machine does not have yet.
	Pull time.Duration
	// SlowPull is the time to pull an image whose verdict is ImageSlow.
	SlowPull time.Duration
	// Start is the time from a present image to a running process.
	Start time.Duration
	// Init is how long a simulated init container runs before it exits with 0.
	Init time.Duration
	// Stop is the time from the end of the last process until a stopped group
	// is Stopped or a deleted group is gone.
	Stop time.Duration
	// Restart is the time from the end of the last process until the
	// containers of a restarted group are started again.
	Restart time.Duration
	// CrashBackOff delays the restart of a container that exited. The first
	// restart is immediate, as in the kubelet.
	CrashBackOff BackOff
	// PullBackOff delays the next pull of an image that failed to pull.
	PullBackOff BackOff
}

// BackOff is an exponential delay.
type BackOff struct {
	// Initial is the first delay; each further one is twice as long.
	Initial time.Duration
	// Max bounds the delay.
	Max time.Duration
	// Reset is the run time after which a container's delay starts over. Zero
	// never starts over.
	Reset time.Duration
}

// next returns the delay after one of length d.
func (b BackOff) next(d time.Duration) time.Duration {
	if d <= 0 {
		d = b.Initial
	} else {
		d *= 2
	}
	if b.Max > 0 && d > b.Max {
		d = b.Max
	}
	return d
}

// DefaultTiming is a plausible cloud: a machine after 1 s, an image of some
// 50 MB pulled in 8 s, and the back-off of the kubelet (10 s doubling to
// 5 min, forgotten after 10 min of running).
func DefaultTiming() Timing {
	backOff := BackOff{Initial: 10 * time.Second, Max: 5 * time.Minute, Reset: 10 * time.Minute}
	return Timing{
		Schedule:     1 * time.Second,
		Pull:         8 * time.Second,
		SlowPull:     50 * time.Second,
		Start:        1 * time.Second,
		Init:         1 * time.Second,
		Stop:         2 * time.Second,
		Restart:      1 * time.Second,
		CrashBackOff: backOff,
		PullBackOff:  backOff,
	}
}

// Scaled returns t with every duration multiplied by factor. A factor of 0.01
// makes a minute pass in 0.6 s.
func (t Timing) Scaled(factor float64) Timing {
	s := func(d time.Duration) time.Duration { return time.Duration(float64(d) * factor) }
	b := func(b BackOff) BackOff { return BackOff{s(b.Initial), s(b.Max), s(b.Reset)} }
	return Timing{
		Schedule: s(t.Schedule), Pull: s(t.Pull), SlowPull: s(t.SlowPull), Start: s(t.Start),
		Init: s(t.Init), Stop: s(t.Stop), Restart: s(t.Restart),
		CrashBackOff: b(t.CrashBackOff), PullBackOff: b(t.PullBackOff),
	}
}
