package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/autoburst/autoburst/test/cloud/runc"
)

// RestartPolicy says which ended containers are started again.
type RestartPolicy string

// The restart policies. The empty policy is Always.
const (
	Always    RestartPolicy = "Always"
	OnFailure RestartPolicy = "OnFailure"
	Never     RestartPolicy = "Never"
)

// restarts reports whether a container that exited with code is started again.
func (p RestartPolicy) restarts(code int) bool {
	switch p {
	case Never:
		return false
	case OnFailure:
		return code != 0
	default:
		return true
	}
}

// Spec is what a cloud was asked to run. Start copies it.
type Spec struct {
	// Cloud names the emulated cloud in the billing record: eci, aci.
	Cloud string
	// ID is the cloud's own id of the group; Name is the caller's name for it.
	ID, Name string
	Region   string
	Tags     map[string]string
	// CPU (vCPU) and MemoryGiB are the size that is billed, after rounding.
	CPU, MemoryGiB float64
	Spot           bool
	// Price is what the size costs; nil leaves it out of the billing record.
	Price         *Price
	RestartPolicy RestartPolicy

	InitContainers []Container
	Containers     []Container

	// Images are on the machine from the start and are not pulled.
	Images []string
	// Definition is the cloud's own form of the Spec. The simulation hands it
	// back with the Spec and does not look at it; it must not be changed.
	Definition any

	// Machine is what containers that really run have in common. It must not be changed.
	Machine runc.Machine
	// Grace is how long a container that failed its liveness probe may take to end; zero
	// is 30 s.
	Grace time.Duration

	// ScheduleFailure, if set, ends scheduling in ScheduleFailed.
	ScheduleFailure *ScheduleFailure
}

// ScheduleFailure says why no machine is found for a group.
type ScheduleFailure struct{ Reason, Message string }

// Container is one container of a Spec.
type Container struct {
	Name, Image string
	// Command replaces the image's entry point, Args its arguments. With
	// Config.HostCommands only a container with a Command can be a real process.
	Command, Args []string
	Env           []EnvVar
	// ReadyAfter is the time from start to ready; zero is at once.
	ReadyAfter time.Duration
	// LaunchPriority orders the start of the group's containers, the highest first: the
	// next ones start when all before them are ready. ExitPriority orders their end,
	// the highest first.
	LaunchPriority, ExitPriority int
	// Sidecar marks a container that is ended by force when all others have ended for
	// good.
	Sidecar bool
	// IgnoreExitCode makes every end of the container a success.
	IgnoreExitCode bool
	// Liveness restarts a container that is not well, Readiness says when it is
	// ready, in place of ReadyAfter. Nil asks nothing. Init containers have none.
	Liveness, Readiness *Probe
	// PostStart is done when a container has started, and PreStop before SIGTERM, both
	// for containers that really run only. Of others, a `sleep N` in the command of
	// PreStop takes its time out of the grace period.
	PostStart, PreStop *Action
	// Setting is how a container really runs. It must not be changed.
	Setting runc.Setting
	// NonRoot keeps a container from running as root, if it really runs.
	NonRoot bool
	// MessageFromLogs takes the end of the log for the message of a container that
	// really ran and failed without one.
	MessageFromLogs bool
}

// EnvVar is one environment variable.
type EnvVar struct{ Name, Value string }

func (s Spec) clone() Spec {
	s.Tags = maps.Clone(s.Tags)
	s.InitContainers = cloneContainers(s.InitContainers)
	s.Containers = cloneContainers(s.Containers)
	s.Images = slices.Clone(s.Images)
	if s.ScheduleFailure != nil {
		f := *s.ScheduleFailure
		s.ScheduleFailure = &f
	}
	return s
}

func cloneContainers(in []Container) []Container {
	out := slices.Clone(in)
	for i := range out {
		out[i].Command = slices.Clone(out[i].Command)
		out[i].Args = slices.Clone(out[i].Args)
		out[i].Env = slices.Clone(out[i].Env)
		out[i].PostStart, out[i].PreStop = out[i].PostStart.clone(), out[i].PreStop.clone()
		out[i].Liveness, out[i].Readiness = out[i].Liveness.clone(), out[i].Readiness.clone()
	}
	return out
}

// onMachine are the images that a new machine has.
func (s Spec) onMachine() map[string]bool {
	on := map[string]bool{}
	for _, image := range s.Images {
		on[image] = true
	}
	return on
}

// validate reports what makes s impossible to run. A cloud checks its request
// by its own published rules before; these are the rules of the simulation.
func (s Spec) validate() error {
	if s.ID == "" {
		return fmt.Errorf("container group has no id")
	}
	if len(s.Containers) == 0 {
		return fmt.Errorf("container group %s has no container", s.ID)
	}
	seen := map[string]bool{}
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		if c.Name == "" {
			return fmt.Errorf("container group %s has a container without a name", s.ID)
		}
		if seen[c.Name] {
			return fmt.Errorf("container group %s has two containers named %s", s.ID, c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}
