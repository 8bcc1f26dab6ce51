package sim

import (
	"container/heap"
	"time"
)

// Moment is a group at the time of an alarm. It is for the alarm's function
// only, which must not call the Group.
type Moment struct {
	group *Group
	now   time.Time
}

// Alarm has ring called when the group's life has come to a time: at once if that
// has passed. Alarms outlive restarts; none rings once the group has ended. ring is
// called with the group's lock held and must not call into the Fleet.
func (g *Group) Alarm(at time.Time, ring func(Moment)) {
	g.lock()
	defer g.unlock()
	if !g.phase.Ended() {
		g.alarm(at, ring)
	}
}

func (g *Group) alarm(at time.Time, ring func(Moment)) {
	g.sequence++
	heap.Push(&g.queue, task{at: at, sequence: g.sequence, alarm: true, do: func(now time.Time) {
		ring(Moment{g, now})
	}})
}

// Now is the time for which the alarm was set.
func (m Moment) Now() time.Time { return m.now }

// Event records an event of the service.
func (m Moment) Event(kind, reason, message string) { m.group.event(m.now, kind, reason, message, "") }

// Alarm sets another alarm.
func (m Moment) Alarm(at time.Time, ring func(Moment)) { m.group.alarm(at, ring) }

// End takes the group's machine away: its processes are killed, and it ends in the
// phase. A group that is being deleted is left alone.
func (m Moment) End(p Phase, reason, message string) {
	if m.group.phase != Terminating {
		m.group.terminateAs(m.now, p, reason, message)
	}
}
