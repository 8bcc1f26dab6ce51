package sim

import "time"

// Phase is where a group is in its life.
type Phase string

// The phases. Billing runs in Pending, Running, Restarting, Stopping and
// Terminating, if a machine was ever found.
const (
	Scheduling     Phase = "Scheduling"     // a machine is being looked for
	ScheduleFailed Phase = "ScheduleFailed" // no machine was found
	Pending        Phase = "Pending"        // images are pulled or init containers run
	Running        Phase = "Running"        // at least one container runs or waits for its restart
	Restarting     Phase = "Restarting"     // Restart or Replace stops the processes
	Stopping       Phase = "Stopping"       // Stop stops the processes
	Stopped        Phase = "Stopped"        // stopped by its owner; can be started again
	Terminating    Phase = "Terminating"    // Delete stops the processes
	Succeeded      Phase = "Succeeded"      // every container ended with 0
	Failed         Phase = "Failed"         // every container ended, one not with 0
	Expired        Phase = "Expired"        // reclaimed by the cloud
	Evicted        Phase = "Evicted"        // lost its machine and waits for another
	Deleted        Phase = "Deleted"        // gone
)

// Ended reports whether nothing of the group runs or will run by itself.
func (p Phase) Ended() bool {
	switch p {
	case ScheduleFailed, Stopped, Succeeded, Failed, Expired, Deleted:
		return true
	default:
		return false
	}
}

// State is one consistent picture of a group.
type State struct {
	Spec  Spec
	Phase Phase
	// Reason and Message say why the phase is what it is, where there is more
	// to say (ScheduleFailed, Expired).
	Reason, Message string

	Created   time.Time // accepted
	Scheduled time.Time // a machine was found, the first pull began; zero before
	Started   time.Time // the first container of this deployment ran; zero before
	Finished  time.Time // reached an ended phase; zero before
	Changed   time.Time // last change of anything in this State
	// Restarts counts completed and running Restart and Replace calls.
	Restarts int
	// Repairing says that the group lost its machine (Evict, Interrupt) and none
	// of its containers runs again yet.
	Repairing bool

	InitContainers []ContainerState
	Containers     []ContainerState
	Events         []Event // oldest first
}

// Container returns the state of the container or init container of that name.
func (s State) Container(name string) (ContainerState, bool) {
	for _, list := range [][]ContainerState{s.InitContainers, s.Containers} {
		for _, c := range list {
			if c.Name == name {
				return c, true
			}
		}
	}
	return ContainerState{}, false
}

// ContainerState is the state of one container.
type ContainerState struct {
	Name, Image  string
	Ready        bool
	RestartCount int
	Current      Status
	// Previous is the last status before Current that was not Waiting; nil if
	// the container never ran before.
	Previous *Status
}

// Run is what a container's process does.
type Run string

// The three states of a container.
const (
	Waiting    Run = "Waiting"
	Processing Run = "Running"
	Terminated Run = "Terminated"
)

// Status is a container's state at one time.
type Status struct {
	Run             Run
	Reason, Message string
	// ExitCode and Signal are set when Terminated.
	ExitCode, Signal int
	// StartedAt is set when running or terminated, FinishedAt when terminated.
	StartedAt, FinishedAt time.Time
}

// Event is one thing that happened, with repetitions counted.
type Event struct {
	Type string // Normal or Warning
	// Reason is one word (Pulled, BackOff); ACI calls it the event's name.
	Reason, Message string
	// Container is the container concerned; empty for the group.
	Container   string
	Count       int
	First, Last time.Time
}

// The types of events.
const (
	Normal  = "Normal"
	Warning = "Warning"
)
