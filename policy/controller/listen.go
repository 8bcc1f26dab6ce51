package controller

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
)

// bell wakes a loop. Rings while it is awake are remembered as one.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}

// await waits for a pause, and then until the bell rings or the longest time is
// over. It is not live when the context ends first.
func (b bell) await(ctx context.Context, c clock.Clock, pause, longest time.Duration) (rang, live bool) {
	select {
	case <-ctx.Done():
		return false, false
	case <-c.After(pause):
	}
	select {
	case <-ctx.Done():
		return false, false
	case <-b:
		return true, true
	case <-c.After(longest):
		return false, true
	}
}

// rulesListener rings when the rules changed, and hears nothing else.
type rulesListener struct{ bell bell }

func (rulesListener) PodPending(*corev1.Pod)         {}
func (rulesListener) PodSettled(*corev1.Pod, string) {}
func (rulesListener) RoomShrank(string)              {}
func (l rulesListener) RulesChanged()                { l.bell.ring() }
