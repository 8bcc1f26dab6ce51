package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// The clouds, by the names that plans and reports use.
const (
	eciCloud = "eci"
	aciCloud = "aci"
)

var clouds = []string{eciCloud, aciCloud}

// Plan is what a run does. It depends on its seed and nothing else.
type Plan struct {
	Seed uint64
	// First is the number of the first round. A round is the same whichever came
	// before it, so that a part of a run can be had alone.
	First  int
	Rounds []Round
}

// Round is a few steps, done one after another. What takes longer than its step,
// such as an outage, goes on during the next rounds.
type Round struct {
	Number int
	Steps  []Step
}

// Step is one thing that is done.
type Step struct {
	// After is what is waited for first, and Of the pod that it is about.
	After Point
	Of    string

	Do Action
	// Cloud is where, empty for steps that concern both or none.
	Cloud string
	// Name is the workload or pod that the step is about.
	Name string
	// Workload is what a Create makes.
	Workload *Workload
	// Call limits a fault to one kind of call, and Calls says how many of them it
	// concerns.
	Call  Call
	Calls int
	// For is how long the thing lasts, or a fault delays.
	For time.Duration
	// Count is a number of replicas.
	Count int
	// Mode chooses between variants of the action.
	Mode string
}

// Point is something that can be seen from the outside.
type Point string

// The points.
const (
	Now      Point = ""
	Accepted Point = "accepted" // the cloud has a group for the pod
	Started  Point = "started"  // a container of the pod runs
	Deleting Point = "deleting" // the cloud was asked to delete the pod's group
	Running  Point = "running"  // the API server says that the pod runs
)

// Action is a kind of step.
type Action string

// What a step can do.
const (
	// Workloads.
	Create   Action = "create"
	Delete   Action = "delete"
	Force    Action = "force-delete" // without grace, as after the loss of a node
	Recreate Action = "recreate"     // delete, and make the same name again at once
	Scale    Action = "scale"
	Evict    Action = "evict"
	Cleanup  Action = "cleanup" // everything that a round made

	// Calls that go wrong.
	Throttle Action = "throttle" // refused for too many calls
	Error    Action = "error"    // an error of the service
	CutFirst Action = "cut-before-effect"
	CutAfter Action = "cut-after-effect"
	Slow     Action = "slow" // the answer is late
	SlowCall Action = "slow-call"
	LateCall Action = "late-effect"  // the effect comes when the caller has given up
	Partial  Action = "partial-list" // the second page fails
	Garbled  Action = "garbled-list" // an answer that is not a list
	Forget   Action = "forget"       // lists lack every group
	Outage   Action = "outage"

	// Things that a cloud does by itself.
	Shortage Action = "shortage"
	Vanish   Action = "vanish"
	Restart  Action = "platform-restart"
	Rotate   Action = "rotate-credentials"

	// The API server, as the agents of a cloud's node see it.
	HoldWatches Action = "hold-watches"
	HoldExpired Action = "hold-watches-till-expired" // what happened meanwhile is never told
	APIDown     Action = "api-server-away"
	APISlow     Action = "api-server-slow"
	APIError    Action = "api-server-error"
	APICut      Action = "api-server-cut-after-effect"

	// Agents.
	Kill  Action = "kill-agent"
	Term  Action = "stop-agent"
	Pause Action = "pause-agent" // stopped by a signal and continued
)

// leads is the mode of steps about the agent that leads its node, follows of those
// about one that does not. Without a mode they are about all agents of the node.
const (
	leads   = "leader"
	follows = "standby"
)

// ofLists is the mode of an outage of lists alone, honestReads that of a Forget under
// which single reads are answered.
const (
	ofLists     = "lists"
	honestReads = "honest-reads"
)

// Call is a kind of call of a cloud's API.
type Call string

// The kinds of calls.
const (
	AnyCall    Call = ""
	CreateCall Call = "Create"
	DeleteCall Call = "Delete"
	ListCall   Call = "List"
	GetCall    Call = "Get"
)

// Workload is something that runs pods.
type Workload struct {
	Kind  Kind
	Name  string
	Cloud string
	// Replicas, or completions of a Job.
	Replicas int
	// Policy is the restart policy of the pods.
	Policy string
	// Does is what the container does.
	Does Behaviour
	// Secret gives the container a value that nothing may print.
	Secret bool
}

// Kind is the kind of a workload.
type Kind string

// The kinds of workloads.
const (
	BarePod     Kind = "pod"
	Deployment  Kind = "deployment"
	StatefulSet Kind = "statefulset"
	Job         Kind = "job"
)

// Behaviour is what the process of a container does each time it is started. The
// zero value runs until it is stopped.
type Behaviour struct {
	// Crashes is how often it ends with code 1, For after its start, before it
	// does what follows.
	Crashes int
	// Exits makes it end with Code, For after its start.
	Exits bool
	For   time.Duration
	Code  int
}

// PodName is the name of a workload's first pod where it can be known before.
func (w *Workload) PodName() string {
	switch w.Kind {
	case BarePod:
		return w.Name
	case StatefulSet:
		return w.Name + "-0"
	default:
		return ""
	}
}

// keep is for how many rounds workloads stay.
const keep = 5

// NewPlan makes the rounds first to first+rounds-1 of a seed.
func NewPlan(seed uint64, first, rounds int) Plan {
	p := Plan{Seed: seed, First: first}
	for n := range rounds {
		p.Rounds = append(p.Rounds, newRound(seed, first+n))
	}
	return p
}

// The streams of random numbers of a round: what it makes must be known to later
// rounds without the rest of it.
const (
	streamWorkloads = iota
	streamSteps
)

func source(seed uint64, round, stream int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(round)<<1|uint64(stream))) //nolint:gosec // plans are to be repeatable
}

// newRound mixes what the round makes, a scene in which faults and kills hit just
// that, and steps that have nothing to do with each other.
func newRound(seed uint64, n int) Round {
	d := &dice{Rand: source(seed, n, streamSteps), seed: seed, round: n}
	r := Round{Number: n}
	if n >= keep {
		r.Steps = append(r.Steps, Step{Do: Cleanup, Count: n - keep})
	}
	made := workloads(seed, n)
	scene := scenes[d.IntN(len(scenes))]
	r.Steps = append(r.Steps, scene(d, made)...)
	for range d.IntN(3) {
		at := d.IntN(len(r.Steps) + 1)
		r.Steps = slices.Insert(r.Steps, at, anything(d))
	}
	return r
}

// workloads is what a round makes: a pod in one of the clouds, which the scene of
// the round is about, and up to two more workloads.
func workloads(seed uint64, n int) []Workload {
	if n < 0 {
		return nil
	}
	rng := source(seed, n, streamWorkloads)
	cloud := func() string { return clouds[rng.IntN(len(clouds))] }
	list := []Workload{barePod(rng, fmt.Sprintf("p%d", n), cloud())}
	for i := range rng.IntN(3) {
		name := fmt.Sprintf("w%d-%d", n, i)
		switch rng.IntN(6) {
		case 0, 1:
			list = append(list, Workload{Kind: Deployment, Name: name, Cloud: cloud(), Replicas: 1 + rng.IntN(3), Policy: "Always", Secret: rng.IntN(4) == 0})
		case 2:
			// Its pods have a hostname, which ACI cannot give.
			list = append(list, Workload{Kind: StatefulSet, Name: name, Cloud: eciCloud, Replicas: 1 + rng.IntN(2), Policy: "Always"})
		case 3, 4:
			list = append(list, job(rng, name, cloud()))
		default:
			list = append(list, barePod(rng, name, cloud()))
		}
	}
	return list
}

func brief(rng *rand.Rand) time.Duration {
	return time.Duration(1+rng.IntN(20)) * 50 * time.Millisecond
}

func barePod(rng *rand.Rand, name, cloud string) Workload {
	w := Workload{Kind: BarePod, Name: name, Cloud: cloud, Replicas: 1, Policy: "Always", Secret: rng.IntN(4) == 0}
	switch rng.IntN(8) {
	case 0:
		w.Policy, w.Does = "Never", Behaviour{Exits: true, For: brief(rng)}
	case 1:
		w.Policy, w.Does = "Never", Behaviour{Exits: true, For: brief(rng), Code: 3}
	case 2:
		w.Policy, w.Does = "OnFailure", Behaviour{Exits: true, For: brief(rng), Crashes: 1 + rng.IntN(2)}
	case 3:
		w.Does = Behaviour{Crashes: 1 + rng.IntN(2), For: brief(rng)}
	case 4:
		w.Policy = "Never" // runs until it is deleted, and is never to run again
	}
	return w
}

func job(rng *rand.Rand, name, cloud string) Workload {
	w := Workload{Kind: Job, Name: name, Cloud: cloud, Replicas: 1 + rng.IntN(3), Policy: "Never", Does: Behaviour{Exits: true, For: brief(rng)}}
	switch rng.IntN(4) {
	case 0:
		w.Does.Code, w.Replicas = 1+rng.IntN(3), 1
	case 1:
		w.Policy = "OnFailure"
	case 2:
		w.Policy, w.Does.Crashes = "OnFailure", 1+rng.IntN(2)
	}
	return w
}

// dice are a round's random numbers.
type dice struct {
	*rand.Rand
	seed  uint64
	round int
}

func (d *dice) cloud() string { return clouds[d.IntN(len(clouds))] }

// chance is true once in n times.
func (d *dice) chance(n int) bool { return d.IntN(n) == 0 }

func (d *dice) millis(low, high int) time.Duration {
	return time.Duration(low+d.IntN(high-low+1)) * time.Millisecond
}

// replica is which of a node's agents a step is about.
func (d *dice) replica() string { return pick(d, "", leads, leads, follows) }

func pick[T any](d *dice, list ...T) T { return list[d.IntN(len(list))] }

// earlier is a workload of this round or of one of those before, of any of the
// given kinds; false if there is none.
func (d *dice) earlier(kinds ...Kind) (Workload, bool) {
	var list []Workload
	for n := max(0, d.round-keep+1); n <= d.round; n++ {
		for _, w := range workloads(d.seed, n) {
			if slices.Contains(kinds, w.Kind) {
				list = append(list, w)
			}
		}
	}
	if len(list) == 0 {
		return Workload{}, false
	}
	return list[d.IntN(len(list))], true
}

// anything is one step that has nothing to do with the others of its round.
func anything(d *dice) Step {
	switch d.IntN(13) {
	case 0:
		return Step{Do: Throttle, Cloud: d.cloud(), Call: pick(d, AnyCall, CreateCall, DeleteCall, GetCall), Calls: 1 + d.IntN(3), Mode: pick(d, "", "retry-after")}
	case 1:
		return Step{Do: Error, Cloud: d.cloud(), Call: pick(d, AnyCall, CreateCall, DeleteCall, ListCall, GetCall), Calls: 1 + d.IntN(4)}
	case 2:
		return Step{Do: pick(d, CutFirst, CutAfter), Cloud: d.cloud(), Call: pick(d, CreateCall, DeleteCall, ListCall, GetCall), Calls: 1 + d.IntN(2)}
	case 3:
		return Step{Do: pick(d, Slow, SlowCall), Cloud: d.cloud(), Call: pick(d, AnyCall, CreateCall, DeleteCall, ListCall, GetCall), Calls: 1 + d.IntN(3), For: d.millis(100, 900)}
	case 4:
		return Step{Do: pick(d, Partial, Garbled), Cloud: d.cloud(), Calls: 1 + d.IntN(3)}
	case 5:
		return Step{Do: pick(d, Kill, Term), Cloud: d.cloud(), For: d.millis(0, 700), Mode: d.replica()}
	case 6:
		return Step{Do: Pause, Cloud: d.cloud(), For: d.millis(200, 1500), Mode: d.replica()}
	case 7, 8:
		if w, ok := d.earlier(Deployment, StatefulSet); ok {
			return Step{Do: Scale, Cloud: w.Cloud, Name: w.Name, Count: d.IntN(5), Mode: string(w.Kind)}
		}
	case 9:
		if w, ok := d.earlier(BarePod, StatefulSet); ok {
			return Step{Do: pick(d, Evict, Delete, Force), Cloud: w.Cloud, Name: w.PodName()}
		}
	case 10:
		if d.chance(3) {
			return Step{Do: pick(d, HoldWatches, HoldExpired), Cloud: d.cloud(), For: d.millis(300, 2000), Mode: d.replica()}
		}
		return Step{Do: pick(d, APISlow, APIError, APICut), Cloud: d.cloud(), Mode: leads, Calls: 1 + d.IntN(4), For: d.millis(100, 700)}
	case 11:
		if w, ok := d.earlier(BarePod, StatefulSet); ok {
			return Step{Do: pick(d, Vanish, Restart), Cloud: w.Cloud, Name: w.PodName()}
		}
	}
	return Step{Do: Error, Cloud: d.cloud(), Call: GetCall, Calls: 1 + d.IntN(3)}
}

// String is a line for each round.
func (p Plan) String() string {
	var b strings.Builder
	for _, r := range p.Rounds {
		fmt.Fprintf(&b, "round %d: %s\n", r.Number, r)
	}
	return b.String()
}

// String is the steps in one line.
func (r Round) String() string {
	steps := make([]string, len(r.Steps))
	for i, s := range r.Steps {
		steps[i] = s.String()
	}
	return strings.Join(steps, "; ")
}

// String is the step in a few words.
func (s Step) String() string {
	var b strings.Builder
	if s.After != Now {
		fmt.Fprintf(&b, "[%s %s] ", s.Of, s.After)
	}
	b.WriteString(string(s.Do))
	switch {
	case s.Workload != nil:
		fmt.Fprintf(&b, " %s", s.Workload)
		return b.String()
	case s.Do == Cleanup:
		fmt.Fprintf(&b, " of round %d", s.Count)
		return b.String()
	}
	for _, word := range []string{s.Cloud, string(s.Call), s.Name, s.Mode} {
		if word != "" {
			b.WriteString(" " + word)
		}
	}
	if s.Calls > 0 {
		fmt.Fprintf(&b, " x%d", s.Calls)
	}
	if s.Do == Scale {
		fmt.Fprintf(&b, " to %d", s.Count)
	}
	if s.For > 0 {
		fmt.Fprintf(&b, " %s", s.For)
	}
	return b.String()
}

// String is the workload in a few words.
func (w *Workload) String() string {
	out := fmt.Sprintf("%s %s on %s", w.Kind, w.Name, w.Cloud)
	if w.Replicas > 1 {
		out += fmt.Sprintf(" x%d", w.Replicas)
	}
	return out + " " + w.Policy + ", " + w.Does.String()
}

// String is the behaviour in a few words.
func (b Behaviour) String() string {
	var parts []string
	if b.Crashes > 0 {
		parts = append(parts, fmt.Sprintf("crashes %d times after %s", b.Crashes, b.For))
	}
	if b.Exits {
		parts = append(parts, fmt.Sprintf("exits %d after %s", b.Code, b.For))
	} else {
		parts = append(parts, "runs on")
	}
	return strings.Join(parts, ", then ")
}
