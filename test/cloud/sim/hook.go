package sim

import (
	"slices"
	"sync"
)

// Hook is called on the way of API calls that a cloud has admitted. Its
// functions may block, and the call waits for them; they must not call the
// server that calls them with a call that waits for this one.
type Hook struct {
	// Action limits the hook to one action of ECI or one operationId of ACI;
	// empty is any.
	Action string
	// Before is called when a call has arrived and nothing has happened yet,
	// After when the call had its effect, or was refused, and is not answered
	// yet. Either may be nil. Faults come later than Before and, where they
	// spoil the answer, later than After; a call that a fault ends before its
	// effect has no After.
	Before, After func(Passage)
}

// Passage is one call on its way.
type Passage struct {
	Action string
	// Target is the group's id (ECI) or name (ACI), empty where the call names
	// none: before the effect of ECI's create, and for lists.
	Target string
	// Code is OK or the cloud's error code, empty before the effect.
	Code string
}

// Hooks are the hooks of one cloud. The zero value is ready; safe for
// concurrent use.
type Hooks struct {
	mu   sync.Mutex
	list []*Hook
}

// Hook adds a hook until the returned function is called.
func (h *Hooks) Hook(hook Hook) (remove func()) {
	added := &hook
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, added)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = slices.DeleteFunc(h.list, func(o *Hook) bool { return o == added })
	}
}

// Before calls the hooks that a call concerns when it arrives.
func (h *Hooks) Before(p Passage) { h.call(p, func(hook *Hook) func(Passage) { return hook.Before }) }

// After calls the hooks that a call concerns before it is answered.
func (h *Hooks) After(p Passage) { h.call(p, func(hook *Hook) func(Passage) { return hook.After }) }

func (h *Hooks) call(p Passage, which func(*Hook) func(Passage)) {
	h.mu.Lock()
	list := slices.Clone(h.list)
	h.mu.Unlock()
	for _, hook := range list {
		if f := which(hook); f != nil && (hook.Action == "" || hook.Action == p.Action) {
			f(p)
		}
	}
}
