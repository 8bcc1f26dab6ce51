package vnode

import (
	"container/list"

	"k8s.io/apimachinery/pkg/types"
)

// urgentFirst is the order of the work queue: pods that end go before pods that
// start, so that a burst of creates, each of which may wait for the cloud's rate
// limit, does not keep what is to be removed on the bill.
type urgentFirst struct {
	urgent func(types.UID) bool

	first, rest *list.List
	at          map[types.UID]*list.Element
}

func newUrgentFirst(urgent func(types.UID) bool) *urgentFirst {
	return &urgentFirst{urgent: urgent, first: list.New(), rest: list.New(), at: map[types.UID]*list.Element{}}
}

// Touch is called when an item that waits already is added once more.
func (q *urgentFirst) Touch(uid types.UID) {
	e, ok := q.at[uid]
	if !ok || !q.urgent(uid) {
		return
	}
	// Remove does nothing when the element is in the other list.
	before := q.rest.Len()
	q.rest.Remove(e)
	if q.rest.Len() < before {
		q.at[uid] = q.first.PushBack(uid)
	}
}

// Push adds an item.
func (q *urgentFirst) Push(uid types.UID) {
	to := q.rest
	if q.urgent(uid) {
		to = q.first
	}
	q.at[uid] = to.PushBack(uid)
}

// Len is how many items wait.
func (q *urgentFirst) Len() int { return q.first.Len() + q.rest.Len() }

// Pop takes the next item; it is called only when Len is above zero.
func (q *urgentFirst) Pop() types.UID {
	from := q.first
	if from.Len() == 0 {
		from = q.rest
	}
	uid, _ := from.Remove(from.Front()).(types.UID)
	delete(q.at, uid)
	return uid
}
