package sim

import (
	"path"
	"strings"
	"time"
)

// container is one container's run-time state, guarded by its group's lock.
type container struct {
	spec     Container
	init     bool
	waiting  string // the reason of its first Waiting
	current  Status
	previous *Status
	ready    bool
	attempts int // starts so far

	crashDelay time.Duration
	backedOff  bool // the immediate restart is spent
	pullDelay  time.Duration
	stopAfter  time.Duration

	launched      bool // its turn to start has come
	stopping      bool // told to end
	dismissed     bool // a sidecar that has nobody to serve any more
	dead, unready bool // what the probes of a simulated container find

	process  process // nil when simulated or not running
	logs     *logBuffer
	prevLogs *logBuffer
	trace    trace // what it has used
}

func newContainers(specs []Container, init bool, waiting string) []*container {
	out := make([]*container, len(specs))
	for i, s := range specs {
		out[i] = &container{spec: s, init: init, waiting: waiting, current: Status{Run: Waiting, Reason: waiting}}
	}
	return out
}

// begin is the start of a process.
func (c *container) begin(now time.Time, maxLog int) {
	c.attempts++
	c.stopping = false
	c.turn(Status{Run: Processing, StartedAt: now})
	c.prevLogs, c.logs = c.logs, newLogBuffer(maxLog)
}

// end is the end of a process.
func (c *container) end(now time.Time, t Termination) {
	if t.Reason == "" {
		t.Reason = "Completed"
		if t.ExitCode != 0 {
			t.Reason = "Error"
		}
	}
	c.ready = false
	c.trace.end(now)
	c.logs.detachAll()
	c.current = Status{
		Run: Terminated, Reason: t.Reason, Message: t.Message, ExitCode: t.ExitCode, Signal: t.Signal,
		StartedAt: c.current.StartedAt, FinishedAt: now,
	}
}

// turn moves on to another status; a terminated one becomes the previous.
func (c *container) turn(to Status) {
	if c.current.Run == Terminated {
		p := c.current
		c.previous = &p
	}
	c.current = to
}

// reset prepares the container for a restart of the whole group.
func (c *container) reset() {
	c.turn(Status{Run: Waiting, Reason: c.waiting})
	c.ready, c.backedOff = false, false
	c.launched, c.dismissed = false, false
	c.crashDelay, c.pullDelay = 0, 0
}

func (c *container) state() ContainerState {
	s := ContainerState{
		Name: c.spec.Name, Image: c.spec.Image, Ready: c.ready,
		RestartCount: max(0, c.attempts-1), Current: c.current,
	}
	if c.previous != nil {
		p := *c.previous
		s.Previous = &p
	}
	return s
}

func containerStates(cs []*container) []ContainerState {
	out := make([]ContainerState, len(cs))
	for i, c := range cs {
		out[i] = c.state()
	}
	return out
}

// startLines is what a simulated process of the image prints when it starts.
func startLines(c Container) []string {
	repository, _, _ := strings.Cut(path.Base(c.Image), ":")
	repository, _, _ = strings.Cut(repository, "@")
	switch repository {
	case "nginx":
		return []string{
			"/docker-entrypoint.sh: Configuration complete; ready for start up",
			"[notice] 1#1: using the \"epoll\" event method",
			"[notice] 1#1: start worker processes",
		}
	case "aci-helloworld":
		return []string{"listening on port 80"}
	default:
		return []string{repository + ": starting", repository + ": ready"}
	}
}
