// Package live is what can be seen of a playground at one moment: where the pods
// are, what waits, what happens and what it costs. Watches feed it, and the views
// in the terminal and in the browser show it.
package live

import (
	"time"
)

// State is one moment. The views need nothing else.
type State struct {
	// Time is the moment, Since is when the playground began.
	Time  time.Time `json:"time"`
	Since time.Time `json:"since"`
	// Local and Virtual nodes, by name.
	Local   []Node  `json:"local"`
	Virtual []Node  `json:"virtual"`
	Waiting Waiting `json:"waiting"`
	// Limits of all policies that have some, by policy and resource.
	Limits []Limit `json:"limits"`
	// Events are the newest ones, the oldest of them first; at most MaxEvents.
	Events []Event `json:"events"`
	// Stopped says that an operator has stopped all bursting.
	Stopped bool `json:"stopped"`
	// Trouble is why the figures may be old, empty while they are not.
	Trouble string `json:"trouble,omitempty"`
}

// MaxEvents bounds State.Events.
const MaxEvents = 50

// Node is a local or a virtual node.
type Node struct {
	Name string `json:"name"`
	// Provider is eci or aci, empty for a local node.
	Provider string `json:"provider,omitempty"`
	Ready    bool   `json:"ready"`
	Cordoned bool   `json:"cordoned,omitempty"`
	// NoCapacity says that the cloud refuses pods for want of room.
	NoCapacity bool `json:"noCapacity,omitempty"`
	// Pods that run, and that are bound and do not run yet or are ending.
	Running  int `json:"running"`
	Starting int `json:"starting"`
	// RequestedCPU is what the pods ask for of AllocatableCPU, in cores.
	RequestedCPU   float64 `json:"requestedCPU"`
	AllocatableCPU float64 `json:"allocatableCPU"`
	// Bill is the cloud's own, nil for a local node.
	Bill *Bill `json:"bill,omitempty"`
}

// Pods is how many are bound to the node and not finished.
func (n Node) Pods() int { return n.Running + n.Starting }

// Bill is what a cloud has charged so far and charges at present.
type Bill struct {
	Currency string `json:"currency"`
	// Groups are charged for now.
	Groups int `json:"groups"`
	// Spent is in the currency, PerHour what an hour like this moment costs.
	Spent   float64 `json:"spent"`
	PerHour float64 `json:"perHour"`
}

// Waiting are the pods without a node.
type Waiting struct {
	Pods int `json:"pods"`
	// OldestSeconds is how long the first of them has waited.
	OldestSeconds int `json:"oldestSeconds"`
}

// Limit is one limit of a policy.
type Limit struct {
	// Policy is KIND NAMESPACE/NAME, Target one of its targets, or empty.
	Policy string `json:"policy"`
	Target string `json:"target,omitempty"`
	// Resource is pods, cpu or memory.
	Resource string `json:"resource"`
	// Used and Max are for people, Share is how much of it is used.
	Used  string  `json:"used"`
	Max   string  `json:"max"`
	Share float64 `json:"share"`
}

// Event is something that happened, or several alike.
type Event struct {
	Time    time.Time `json:"time"`
	Warning bool      `json:"warning,omitempty"`
	// Place is the provider whose colour suits it, "local", or empty.
	Place string `json:"place,omitempty"`
	// Object is what it happened to: shop/web-x, or 12 pods of shop.
	Object  string `json:"object"`
	Message string `json:"message"`
}

// Places counts the pods by where they are.
type Places struct {
	Local   int `json:"local"`
	ECI     int `json:"eci"`
	ACI     int `json:"aci"`
	Waiting int `json:"waiting"`
}

// Places of the pods at this moment.
func (s State) Places() Places {
	p := Places{Waiting: s.Waiting.Pods}
	for _, n := range s.Local {
		p.Local += n.Pods()
	}
	for _, n := range s.Virtual {
		if n.Provider == "eci" {
			p.ECI += n.Pods()
		} else {
			p.ACI += n.Pods()
		}
	}
	return p
}

// Sample is a point of the plots.
type Sample struct {
	Time time.Time `json:"time"`
	Places
	// PerHour is what an hour like this moment costs, by currency.
	PerHour map[string]float64 `json:"perHour"`
}

// Sample is the state as a point of the plots.
func (s State) Sample() Sample {
	out := Sample{Time: s.Time, Places: s.Places(), PerHour: map[string]float64{}}
	for _, n := range s.Virtual {
		if n.Bill != nil && n.Bill.Currency != "" {
			out.PerHour[n.Bill.Currency] += n.Bill.PerHour
		}
	}
	return out
}

// Bills adds up the nodes' bills by currency.
func (s State) Bills() map[string]Bill {
	out := map[string]Bill{}
	for _, n := range s.Virtual {
		if n.Bill == nil || n.Bill.Currency == "" {
			continue
		}
		b := out[n.Bill.Currency]
		b.Currency = n.Bill.Currency
		b.Groups += n.Bill.Groups
		b.Spent += n.Bill.Spent
		b.PerHour += n.Bill.PerHour
		out[n.Bill.Currency] = b
	}
	return out
}
