// Package quota keeps the calls of one cloud account within its request quotas.
//
// An [Account] holds one meter for each operation of the cloud's API. A call
// takes a [Permit] before it is sent and gives it back with its outcome. What
// the cloud grants is believed to be what its vendor documents, until it
// throttles: then the belief follows what was accepted, and recovers slowly.
//
// No call is early whatever the network does: a call counts from when it was
// permitted until its answer as one that may reach the cloud at any moment, and
// from its answer on as one that reached it then.
package quota

import "time"

// Quota is what a cloud documents for one operation.
type Quota struct {
	// Operation is the name by which the quota is set, shown and taken, such as
	// "CreateContainerGroup".
	Operation string
	Rules
}

// Rules are the bounds on one operation; all of them hold. The zero value does
// not bound.
type Rules struct {
	Bucket  Bucket
	Windows []Window
}

// Bucket is a token bucket: Burst calls at once, and PerSecond in the long run.
// The zero Bucket does not bound.
type Bucket struct {
	Burst     int
	PerSecond float64
}

// Window allows a number of calls in any period of a length.
type Window struct {
	Calls  int
	Length time.Duration
}

// perSecond is what the rules allow in the long run, zero for no bound.
func (r Rules) perSecond() float64 {
	rate := r.Bucket.PerSecond
	for _, w := range r.Windows {
		if v := float64(w.Calls) / w.Length.Seconds(); rate == 0 || v < rate {
			rate = v
		}
	}
	return rate
}

// longest is the length of the longest window.
func (r Rules) longest() time.Duration {
	var l time.Duration
	for _, w := range r.Windows {
		l = max(l, w.Length)
	}
	return l
}

// Plan is what a provider tells of its cloud.
type Plan struct {
	// Key tells accounts apart: what the quotas are counted by. It is never
	// shown as it is.
	Key string
	// Quotas are the documented ones.
	Quotas []Quota
	// Create and Delete are the operations that make and remove a group.
	Create, Delete string
}

// Priority is the order among calls of one operation. A call waits for those of
// a higher priority, except that one permit in eight goes to who has waited
// longest, so that nobody waits forever.
type Priority int

// The priorities, highest first, and how long a call of each waits at most where
// its context does not end sooner. Workers that do other things as well must not
// be kept by reads.
const (
	// Confirming reads prove that a group is gone, and find the group of a
	// create with an unknown outcome; deletions and creates too, which have
	// operations of their own. No bound.
	Confirming Priority = iota
	// Listing is the comparison of all pods with all groups, and the check of
	// the cloud's health. No bound.
	Listing
	// Reading is the status of one group; 500 ms.
	Reading
	// Logging is a log that somebody asked for; 5 s.
	Logging
	// Measuring tells what containers use. It does not wait: where there is none to
	// spare, measurements get older.
	Measuring
)

// patience is how long a call of the priority waits at most; zero is no bound.
func (p Priority) patience() time.Duration {
	switch p {
	case Reading:
		return 500 * time.Millisecond
	case Logging:
		return 5 * time.Second
	case Measuring:
		return time.Nanosecond
	default:
		return 0
	}
}
