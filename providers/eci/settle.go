package eci

import (
	"sync"
	"time"

	"github.com/autoburst/autoburst/providers"
)

// defaultSettleTime is the SettleTime of a [Config] that names none. How soon a new
// group is found by its tags is not published.
const defaultSettleTime = 10 * time.Second

// absences remembers since when pods whose ClientToken is spent have been found
// without a group.
type absences struct {
	mu    sync.Mutex
	since map[string]time.Time
	// turned are pods that were refused an address, and when: their token may be spent
	// by that.
	turned map[string]time.Time
}

// refused notes that a create for the pod was refused, so that the next has other members.
func (a *absences) refused(uid string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.turned == nil {
		a.turned = map[string]time.Time{}
	}
	for other, t := range a.turned { // nobody asks for these any more
		if now.Sub(t) > maxSince {
			delete(a.turned, other)
		}
	}
	a.turned[uid] = now
}

func (a *absences) wasRefused(uid string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, turned := a.turned[uid]
	return turned
}

// left is how long it takes until the absence of the pod's group counts.
func (a *absences) left(uid string, now time.Time, settle time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	begun, ok := a.since[uid]
	if !ok {
		if a.since == nil {
			a.since = map[string]time.Time{}
		}
		for other, t := range a.since { // nobody asks for these any more
			if now.Sub(t) > maxSince {
				delete(a.since, other)
			}
		}
		a.since[uid], begun = now, now
	}
	return max(0, begun.Add(settle).Sub(now))
}

// forget is called when the pod has a group.
func (a *absences) forget(uid string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.since, uid)
	delete(a.turned, uid)
}

// unsettled is the answer while the absence does not count.
func unsettled(mismatch *providers.Error, left time.Duration) error {
	e := *mismatch
	e.Class, e.RetryAfter = providers.Conflict, left
	e.Message = "ECI has seen this pod's token before and shows no group for it; the next offer is asked for when that has lasted"
	return &e
}
